//! Reading with a position and a budget: nothing is allocated that the file cannot fill.

use std::io::Read;

use super::{ARRAY_ITEMS_MAX, GgufError, STRING_BYTES_MAX, Value};

/// A reader that knows where it is and how much is left.
pub(super) struct Cursor<R> {
    reader: R,
    offset: u64,
    len: u64,
}

impl<R: Read> Cursor<R> {
    pub(super) fn new(reader: R, len: u64) -> Self {
        Self { reader, offset: 0, len }
    }

    /// Bytes consumed so far.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    fn left(&self) -> u64 {
        self.len - self.offset
    }

    /// Fails unless `need` more bytes exist.
    fn need(&self, field: &str, need: u64) -> Result<(), GgufError> {
        if need > self.left() {
            return Err(self.truncated(field, need));
        }
        Ok(())
    }

    fn truncated(&self, field: &str, need: u64) -> GgufError {
        GgufError::Truncated { field: field.to_owned(), offset: self.offset, need, have: self.left() }
    }

    fn fill(&mut self, field: &str, out: &mut [u8]) -> Result<(), GgufError> {
        let need = out.len() as u64;
        self.need(field, need)?;
        self.reader.read_exact(out).map_err(|source| GgufError::Io { path: std::path::PathBuf::new(), source })?;
        self.offset += need;
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self, field: &str) -> Result<[u8; N], GgufError> {
        let mut out = [0u8; N];
        self.fill(field, &mut out)?;
        Ok(out)
    }

    pub(super) fn u32(&mut self, field: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes(field)?))
    }

    pub(super) fn u64(&mut self, field: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes(field)?))
    }

    /// A number of items of at least `item_bytes` each: below `limit`, and possible in what is left.
    pub(super) fn count(&mut self, field: &str, item_bytes: u64, limit: u64) -> Result<u64, GgufError> {
        let offset = self.offset;
        let value = self.u64(field)?;
        if value > limit {
            return Err(GgufError::TooLarge { field: field.to_owned(), offset, value, limit });
        }
        self.need(field, value.saturating_mul(item_bytes))?;
        Ok(value)
    }

    pub(super) fn text(&mut self, field: &str) -> Result<String, GgufError> {
        let len = self.count(field, 1, STRING_BYTES_MAX)?;
        let offset = self.offset;
        let len = usize::try_from(len).map_err(|_| self.truncated(field, len))?;
        let mut bytes = vec![0u8; len];
        self.fill(field, &mut bytes)?;
        String::from_utf8(bytes).map_err(|error| GgufError::Invalid {
            field: field.to_owned(),
            offset: offset + error.utf8_error().valid_up_to() as u64,
            value: "not UTF-8".to_owned(),
            expected: "strings must be UTF-8",
        })
    }

    /// A metadata value: its type number, then its bytes.
    pub(super) fn value(&mut self, key: &str) -> Result<Value, GgufError> {
        let offset = self.offset;
        match self.u32(key)? {
            8 => Ok(Value::Text(self.text(key)?)),
            9 => self.array(key),
            4 => Ok(Value::Unsigned(u64::from(self.u32(key)?))),
            10 => Ok(Value::Unsigned(self.u64(key)?)),
            0 => Ok(Value::Unsigned(u64::from(self.bytes::<1>(key)?[0]))),
            2 => Ok(Value::Unsigned(u64::from(u16::from_le_bytes(self.bytes(key)?)))),
            1 => Ok(Value::Signed(i64::from(i8::from_le_bytes(self.bytes(key)?)))),
            3 => Ok(Value::Signed(i64::from(i16::from_le_bytes(self.bytes(key)?)))),
            5 => Ok(Value::Signed(i64::from(i32::from_le_bytes(self.bytes(key)?)))),
            11 => Ok(Value::Signed(i64::from_le_bytes(self.bytes(key)?))),
            6 => Ok(Value::Float(f64::from(f32::from_le_bytes(self.bytes(key)?)))),
            12 => Ok(Value::Float(f64::from_le_bytes(self.bytes(key)?))),
            7 => Ok(Value::Bool(self.bytes::<1>(key)?[0] != 0)),
            other => Err(unknown_type(key, offset, other)),
        }
    }

    fn array(&mut self, key: &str) -> Result<Value, GgufError> {
        let offset = self.offset;
        let item = self.u32(key)?;
        let item_bytes = match item {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            8 | 10..=12 => 8,
            other => return Err(unknown_type(key, offset, other)),
        };
        let count = self.count(key, item_bytes, ARRAY_ITEMS_MAX)?;
        match item {
            8 => self.items(count, |c| c.text(key)).map(Value::Texts),
            6 => self.items(count, |c| Ok(f32::from_le_bytes(c.bytes(key)?))).map(Value::Floats),
            7 => self.items(count, |c| Ok(c.bytes::<1>(key)?[0] != 0)).map(Value::Bools),
            12 => Err(unknown_type(key, offset, item)),
            _ => self.items(count, |c| c.integer(key, item)).map(Value::Integers),
        }
    }

    fn items<T>(&mut self, count: u64, mut read: impl FnMut(&mut Self) -> Result<T, GgufError>) -> Result<Vec<T>, GgufError> {
        let mut out = Vec::new();
        for _ in 0..count {
            out.push(read(self)?);
        }
        Ok(out)
    }

    fn integer(&mut self, key: &str, item: u32) -> Result<i64, GgufError> {
        let offset = self.offset;
        Ok(match item {
            0 => i64::from(self.bytes::<1>(key)?[0]),
            1 => i64::from(i8::from_le_bytes(self.bytes(key)?)),
            2 => i64::from(u16::from_le_bytes(self.bytes(key)?)),
            3 => i64::from(i16::from_le_bytes(self.bytes(key)?)),
            4 => i64::from(self.u32(key)?),
            5 => i64::from(i32::from_le_bytes(self.bytes(key)?)),
            10 => {
                let value = self.u64(key)?;
                i64::try_from(value).map_err(|_| GgufError::TooLarge {
                    field: key.to_owned(),
                    offset,
                    value,
                    limit: i64::MAX.unsigned_abs(),
                })?
            }
            11 => i64::from_le_bytes(self.bytes(key)?),
            other => return Err(unknown_type(key, offset, other)),
        })
    }
}

fn unknown_type(key: &str, offset: u64, type_id: u32) -> GgufError {
    GgufError::Invalid {
        field: format!("type of metadata value {key}"),
        offset,
        value: type_id.to_string(),
        expected: "a scalar, a string, or an array of strings, integers, f32 or booleans",
    }
}
