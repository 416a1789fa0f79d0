//! Salvage: a new store with every item that verifies and every record that can be read; what could not be saved is listed.
//!
//! A blob verifies by its name. A fragment verifies against its object's manifest, which is a blob; one whose manifest is gone cannot be told from any
//! other bytes, and is not saved. Records have no name that binds their bytes: if the index's pages do not verify, those that can be read are
//! saved as they stand, and the report says so.

use std::path::Path;

use serde::Serialize;
use types::id::BlobId;

use super::{Damaged, Examination, IndexReport, State, TableReport, as_text};
use crate::{
    erasure::ObjectManifest,
    store::{
        Config, Item, RecordError, Records, Store, StoreError,
        disk::DiskFile,
        index::{Index, Location, guarded},
        segment::{self, payload},
    },
};

/// Records written to the new store at once.
const BATCH: usize = 256;

/// Something that could not be saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// The item.
    #[serde(serialize_with = "as_text")]
    pub item: Item,
    /// Why.
    pub why: String,
}

/// What a salvage saved.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Salvaged {
    /// Items in the new store.
    pub items: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records in the new store.
    pub records: u64,
    /// Items that could not be saved.
    pub lost: Vec<Lost>,
    /// Tables of which records could not be saved, and why.
    pub tables_lost: Vec<TableReport>,
    /// The records come from an index whose pages do not verify: compare them with what peers and the chain say.
    pub is_unverified: bool,
}

/// Tables of an index, counted as far as they can be read.
pub(super) fn tables(index: &Index) -> Vec<TableReport> {
    let records = Records::new(index.base());
    match guarded(|| records.tables()) {
        Ok(names) => names.into_iter().map(|table| each(&records, table, |_| Ok(()))).collect(),
        Err(error) => vec![TableReport { table: "all".to_owned(), records: 0, bytes: 0, error: Some(error) }],
    }
}

/// Reads a table in batches, and gives each to `take`.
fn each(records: &Records, table: String, mut take: impl FnMut(&[crate::store::KeyValue]) -> Result<(), RecordError>) -> TableReport {
    let mut report = TableReport { table, records: 0, bytes: 0, error: None };
    let mut from = Vec::new();
    loop {
        let batch = match guarded(|| records.scan(&report.table, &from, BATCH)) {
            Ok(batch) => batch,
            Err(error) => {
                report.error = Some(error);
                break;
            }
        };
        let Some((last, _)) = batch.last() else { break };
        from = [last.as_slice(), &[0]].concat();
        if let Err(error) = take(&batch) {
            report.error = Some(error.to_string());
            break;
        }
        report.records += crate::store::as_u64(batch.len());
        report.bytes += batch.iter().map(|(key, value)| crate::store::as_u64(key.len() + value.len())).sum::<u64>();
    }
    report
}

impl Examination {
    /// Writes a new store into `out`, which is absent or empty.
    ///
    /// # Errors
    /// [`StoreError::Folder`] if something is there, or what the disk of the new store says.
    pub fn salvage(&self, out: &Path) -> Result<Salvaged, StoreError> {
        if std::fs::read_dir(out).is_ok_and(|mut entries| entries.next().is_some()) {
            let error = std::io::Error::new(std::io::ErrorKind::AlreadyExists, "it is not empty");
            return Err(StoreError::Folder { folder: out.to_owned(), error });
        }
        // The room is the disk's: a store that was full by configuration is saved whole.
        self.salvage_to(&Store::open(out, Config { capacity_bytes: u64::MAX, disk_reserve_bytes: 0, ..Config::default() })?)
    }

    pub(in crate::store) fn salvage_to(&self, store: &Store) -> Result<Salvaged, StoreError> {
        let mut salvaged = Salvaged { is_unverified: self.report.index != IndexReport::Whole, ..Salvaged::default() };
        // Blobs come first, and manifests are blobs.
        for (item, locations) in &self.sources {
            match self.save(store, *item, locations)? {
                Ok(bytes) => {
                    salvaged.items += 1;
                    salvaged.bytes += bytes;
                }
                Err(why) => salvaged.lost.push(Lost { item: *item, why }),
            }
        }
        let hopeless = |damaged: &&Damaged| !self.sources.contains_key(&damaged.item);
        salvaged.lost.extend(self.report.damaged.iter().filter(hopeless).map(|damaged| Lost { item: damaged.item, why: words(damaged) }));
        if let Some(index) = &self.index {
            self.save_records(&Records::new(index.base()), &store.records(), &mut salvaged);
        } else if let IndexReport::Unreadable(why) = &self.report.index {
            salvaged.tables_lost.push(TableReport { table: "all".to_owned(), records: 0, bytes: 0, error: Some(why.clone()) });
        }
        Ok(salvaged)
    }

    /// Saves the newest record of an item that verifies; otherwise says why none does.
    fn save(&self, store: &Store, item: Item, locations: &[Location]) -> Result<Result<u64, String>, StoreError> {
        let mut why = "no record of it verifies".to_owned();
        for location in locations {
            let Ok(file) = self.disk.open(&segment::name(location.segment)) else { continue };
            let Some(bytes) = read(&*file, *location) else { continue };
            let len = crate::store::as_u64(bytes.len());
            match item {
                Item::Blob(id) if BlobId::of(&bytes) == id => {
                    store.put(&bytes)?;
                    return Ok(Ok(len));
                }
                Item::Blob(_) => {}
                Item::Fragment { object, index } => {
                    match manifest(store, object)?.map(|manifest| (manifest.verify(index, bytes), manifest)) {
                        Some((Ok(fragment), manifest)) => {
                            store.put_fragment(&manifest, &fragment)?;
                            return Ok(Ok(len));
                        }
                        Some((Err(error), _)) => why = error.to_string(),
                        None => why = "its manifest could not be saved, and nothing else can tell whether these are its bytes".to_owned(),
                    }
                }
            }
        }
        Ok(Err(why))
    }

    #[expect(clippy::unused_self, reason = "reads as a step of the salvage")]
    fn save_records(&self, from: &Records, to: &Records, salvaged: &mut Salvaged) {
        let names = match guarded(|| from.tables()) {
            Ok(names) => names,
            Err(error) => {
                salvaged.tables_lost.push(TableReport { table: "all".to_owned(), records: 0, bytes: 0, error: Some(error) });
                return;
            }
        };
        for name in names {
            let table = name.clone();
            let report = each(from, name, |batch| {
                let batch: Vec<(&str, &[u8], &[u8])> =
                    batch.iter().map(|(key, value)| (table.as_str(), key.as_slice(), value.as_slice())).collect();
                to.put_all(&batch)
            });
            salvaged.records += report.records;
            if report.error.is_some() {
                salvaged.tables_lost.push(report);
            }
        }
    }
}

fn read(file: &dyn DiskFile, location: Location) -> Option<Vec<u8>> {
    payload(file, location).ok().filter(|bytes| BlobId::of(bytes) == location.hash)
}

/// A manifest that was saved; a blob of that name that is none names no fragments.
fn manifest(store: &Store, object: BlobId) -> Result<Option<ObjectManifest>, StoreError> {
    match store.manifest(object) {
        Err(StoreError::Manifest(_)) => Ok(None),
        result => result,
    }
}

fn words(damaged: &Damaged) -> String {
    match damaged.state {
        State::Missing => format!("its bytes are gone: segment {} does not reach byte {}", damaged.segment, damaged.at),
        _ => format!("its bytes in segment {} at byte {} are no longer what was stored", damaged.segment, damaged.at),
    }
}
