//! Records: small values by table and key, durable when a call returns. Request ids, receipts, last vouchers, high-water marks.

use std::sync::Arc;

use redb::{ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, Table, TableDefinition, TableError, TableHandle};

use super::{
    base::Base,
    index::{IndexError, failed},
};

/// Longest table name. Tables are named by code, never by a peer, so their number is the code's.
pub const TABLE_LEN_MAX: usize = 32;
/// Longest key.
pub const KEY_BYTES_MAX: usize = 512;
/// Longest value: an answer's bundle fits several times over.
pub const VALUE_BYTES_MAX: usize = 8 << 20;
/// A scan ends once it holds this many bytes, whatever its limit.
pub const SCAN_BYTES_MAX: usize = 16 << 20;

/// Why a record was not kept or not found out.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Not a table's name.
    #[error("{got:?} is no table: use 1 to {TABLE_LEN_MAX} lower-case letters, digits and hyphens")]
    Table {
        /// What was given.
        got: String,
    },
    /// Key or value too long.
    #[error("the {part} of a record in {table} has {got} bytes, at most {max} are kept")]
    TooLong {
        /// The table.
        table: String,
        /// `key` or `value`.
        part: &'static str,
        /// Its bytes.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The database refused.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// Handle to a store's records. Writers take turns; readers see the last finished write.
#[derive(Debug, Clone)]
pub struct Records(Arc<Base>);

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

type Bytes = &'static [u8];

/// What stands before a table's name in the database, where the index's own tables have no prefix.
const PREFIX: &str = "record/";

/// A table's name in the database.
fn full_name(table: &str) -> Result<String, RecordError> {
    let is_name =
        (1..=TABLE_LEN_MAX).contains(&table.len()) && table.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if is_name { Ok(format!("{PREFIX}{table}")) } else { Err(RecordError::Table { got: table.chars().take(80).collect() }) }
}

fn check(table: &str, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
    let too_long = |part, got, max| RecordError::TooLong { table: table.to_owned(), part, got, max };
    match (key.len(), value.len()) {
        (got, _) if got > KEY_BYTES_MAX => Err(too_long("key", got, KEY_BYTES_MAX)),
        (_, got) if got > VALUE_BYTES_MAX => Err(too_long("value", got, VALUE_BYTES_MAX)),
        _ => Ok(()),
    }
}

impl Records {
    pub(super) const fn new(base: Arc<Base>) -> Self {
        Self(base)
    }

    /// Keeps `value` under `key`, in place of what was there.
    ///
    /// # Errors
    /// [`RecordError`]; then the old value stands.
    pub fn put(&self, table: &str, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        self.put_all(&[(table, key, value)])
    }

    /// Keeps all of `records` (table, key, value) or none.
    ///
    /// # Errors
    /// [`RecordError`]; then every old value stands.
    pub fn put_all(&self, records: &[(&str, &[u8], &[u8])]) -> Result<(), RecordError> {
        self.change_all(records, &[])
    }

    /// Keeps all of `records` (table, key, value) and forgets all of `gone` (table, key), which need not be there, or changes nothing.
    ///
    /// # Errors
    /// [`RecordError`]; then every old value stands.
    pub fn change_all(&self, records: &[(&str, &[u8], &[u8])], gone: &[(&str, &[u8])]) -> Result<(), RecordError> {
        let (mut named, mut without) = (Vec::with_capacity(records.len()), Vec::with_capacity(gone.len()));
        for &(table, key, value) in records {
            check(table, key, value)?;
            named.push((full_name(table)?, key, value));
        }
        for &(table, key) in gone {
            check(table, key, &[])?;
            without.push((full_name(table)?, key));
        }
        let change = self.0.write()?;
        for (name, key, value) in &named {
            let mut table = change.open_table(definition(name)).map_err(failed)?;
            table.insert(*key, *value).map_err(failed)?;
        }
        for (name, key) in &without {
            change.open_table(definition(name)).map_err(failed)?.remove(*key).map_err(failed)?;
        }
        Ok(change.commit().map_err(failed)?)
    }

    /// Keeps `value` under `key` if nothing is there yet; says whether it did. What two callers race for, one gets.
    ///
    /// # Errors
    /// [`RecordError`]; then nothing was kept.
    pub fn insert_new(&self, table: &str, key: &[u8], value: &[u8]) -> Result<bool, RecordError> {
        self.update(table, key, |old| old.is_none().then(|| value.to_vec()))
    }

    /// Replaces the value under `key` by what `next` makes of the old one, in one step; nothing from `next` leaves it. Says whether it changed.
    ///
    /// # Errors
    /// [`RecordError`]; then the old value stands.
    pub fn update(&self, table: &str, key: &[u8], next: impl FnOnce(Option<&[u8]>) -> Option<Vec<u8>>) -> Result<bool, RecordError> {
        check(table, key, &[])?;
        let name = full_name(table)?;
        let change = self.0.write()?;
        {
            let mut open: Table<'_, Bytes, Bytes> = change.open_table(definition(&name)).map_err(failed)?;
            let value = {
                let old = open.get(key).map_err(failed)?;
                next(old.as_ref().map(redb::AccessGuard::value))
            };
            let Some(value) = value else { return Ok(false) };
            check(table, key, &value)?;
            open.insert(key, value.as_slice()).map_err(failed)?;
        }
        change.commit().map_err(failed)?;
        Ok(true)
    }

    /// Forgets the record under `key`; says whether there was one.
    ///
    /// # Errors
    /// [`RecordError`]; then it stands.
    pub fn remove(&self, table: &str, key: &[u8]) -> Result<bool, RecordError> {
        check(table, key, &[])?;
        let name = full_name(table)?;
        let change = self.0.write()?;
        let was_there = change.open_table(definition(&name)).map_err(failed)?.remove(key).map_err(failed)?.is_some();
        change.commit().map_err(failed)?;
        Ok(was_there)
    }

    /// The value under `key`.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>, RecordError> {
        let name = full_name(table)?;
        Ok(self.0.read(|transaction| {
            let Some(open) = open(transaction, &name)? else { return Ok(None) };
            let value = open.get(key).map_err(failed)?;
            Ok(value.map(|value| value.value().to_vec()))
        })?)
    }

    /// Up to `limit` records whose key is `from` or after it, in key order; fewer if they exceed [`SCAN_BYTES_MAX`], at least one if there is one.
    /// To go on, scan from the last key with a zero byte appended.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn scan(&self, table: &str, from: &[u8], limit: usize) -> Result<Vec<KeyValue>, RecordError> {
        let name = full_name(table)?;
        Ok(self.0.read(|transaction| {
            let Some(open) = open(transaction, &name)? else { return Ok(Vec::new()) };
            let (mut found, mut bytes) = (Vec::new(), 0);
            for entry in open.range::<&[u8]>(from..).map_err(failed)?.take(limit) {
                let (key, value) = entry.map_err(failed)?;
                bytes += key.value().len() + value.value().len();
                if bytes > SCAN_BYTES_MAX && !found.is_empty() {
                    break;
                }
                found.push((key.value().to_vec(), value.value().to_vec()));
            }
            Ok(found)
        })?)
    }

    /// Records in a table.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn count(&self, table: &str) -> Result<u64, RecordError> {
        let name = full_name(table)?;
        Ok(self.0.read(|transaction| match open(transaction, &name)? {
            Some(open) => open.len().map_err(failed),
            None => Ok(0),
        })?)
    }

    /// Names of the tables that anything was ever put in, in order.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn tables(&self) -> Result<Vec<String>, RecordError> {
        Ok(self.0.read(|transaction| {
            let tables = transaction.list_tables().map_err(failed)?;
            Ok(tables.filter_map(|table| table.name().strip_prefix(PREFIX).map(ToOwned::to_owned)).collect())
        })?)
    }
}

/// The table, if anything was ever put in it.
fn open(transaction: &ReadTransaction, name: &str) -> Result<Option<ReadOnlyTable<Bytes, Bytes>>, IndexError> {
    match transaction.open_table(definition(name)) {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

const fn definition(name: &str) -> TableDefinition<'_, Bytes, Bytes> {
    TableDefinition::new(name)
}
