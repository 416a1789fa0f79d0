//! The part of Thrift's compact protocol that stands in front of a Parquet page and in the schema of a footer: integers by field, everything else
//! skipped. No allocation follows a length that was read; depth and bytes are bounded by the caller's slice.

use std::collections::BTreeMap;

/// Deepest structure that is looked into.
const DEPTH_MAX: u8 = 16;
/// Most fields of one structure.
const FIELDS_MAX: usize = 64;

/// What a field holds, as far as anybody asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Int(i64),
    Bool(bool),
    Struct(Fields),
    Other,
}

/// A structure by field number.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Fields(BTreeMap<i16, Value>);

impl Fields {
    /// An integer field.
    pub(super) fn int(&self, field: i16) -> Option<i64> {
        if let Some(Value::Int(value)) = self.0.get(&field) { Some(*value) } else { None }
    }

    /// An integer field that counts something.
    pub(super) fn count(&self, field: i16) -> Option<u32> {
        self.int(field).and_then(|value| u32::try_from(value).ok())
    }

    /// A truth.
    pub(super) fn bool(&self, field: i16) -> Option<bool> {
        if let Some(Value::Bool(value)) = self.0.get(&field) { Some(*value) } else { None }
    }

    /// A structure inside.
    pub(super) fn inner(&self, field: i16) -> Option<&Self> {
        if let Some(Value::Struct(inner)) = self.0.get(&field) { Some(inner) } else { None }
    }
}

/// Reads from the front of a slice; nothing comes of bytes that are not the protocol.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Bytes read so far.
    pub(super) const fn at(&self) -> usize {
        self.at
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn pass(&mut self, bytes: usize) -> Option<()> {
        self.at = self.at.checked_add(bytes).filter(|at| *at <= self.bytes.len())?;
        Some(())
    }

    fn unsigned(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            let low = u64::from(byte & 0x7f);
            value |= low.checked_shl(shift).filter(|shifted| shifted >> shift == low)?;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn signed(&mut self) -> Option<i64> {
        let raw = self.unsigned()?;
        Some((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// Number and type of the next field; type 0 at the end of the structure.
    pub(super) fn field(&mut self, last: i16) -> Option<(i16, u8)> {
        let byte = self.byte()?;
        let (delta, kind) = (byte >> 4, byte & 15);
        if kind == 0 {
            return Some((0, 0));
        }
        let number = if delta == 0 { i16::try_from(self.signed()?).ok()? } else { last.checked_add(delta.into())? };
        Some((number, kind))
    }

    /// Type and length of a list.
    pub(super) fn list(&mut self) -> Option<(u8, usize)> {
        let byte = self.byte()?;
        let (count, kind) = (byte >> 4, byte & 15);
        let count = if count == 15 { usize::try_from(self.unsigned()?).ok()? } else { count.into() };
        // An element takes a byte at least.
        (count <= self.bytes.len() - self.at).then_some((kind, count))
    }

    /// A whole structure.
    pub(super) fn fields(&mut self) -> Option<Fields> {
        self.structure(DEPTH_MAX)
    }

    fn structure(&mut self, depth: u8) -> Option<Fields> {
        let mut fields = BTreeMap::new();
        let mut last = 0;
        loop {
            let (number, kind) = self.field(last)?;
            if kind == 0 {
                return Some(Fields(fields));
            }
            last = number;
            let value = self.value(kind, depth)?;
            if fields.len() == FIELDS_MAX || fields.insert(number, value).is_some() {
                return None;
            }
        }
    }

    fn value(&mut self, kind: u8, depth: u8) -> Option<Value> {
        Some(match kind {
            1 | 2 => Value::Bool(kind == 1),
            4..=6 => Value::Int(self.signed()?),
            12 => Value::Struct(self.structure(depth.checked_sub(1)?)?),
            _ => {
                self.skip(kind, depth)?;
                Value::Other
            }
        })
    }

    /// Passes over a value as it stands in a field.
    pub(super) fn skip(&mut self, kind: u8, depth: u8) -> Option<()> {
        match kind {
            1 | 2 => Some(()),
            3 => self.pass(1),
            4..=6 => self.unsigned().map(drop),
            7 => self.pass(8),
            8 => {
                let length = usize::try_from(self.unsigned()?).ok()?;
                self.pass(length)
            }
            9 | 10 => {
                let (kind, count) = self.list()?;
                (0..count).try_for_each(|_| self.element(kind, depth.checked_sub(1)?))
            }
            11 => {
                let count = usize::try_from(self.unsigned()?).ok()?;
                if count == 0 {
                    return Some(());
                }
                let kinds = self.byte()?;
                if count > self.bytes.len() - self.at {
                    return None;
                }
                (0..count).try_for_each(|_| {
                    self.element(kinds >> 4, depth.checked_sub(1)?)?;
                    self.element(kinds & 15, depth.checked_sub(1)?)
                })
            }
            12 => {
                let mut last = 0;
                loop {
                    let (number, kind) = self.field(last)?;
                    if kind == 0 {
                        return Some(());
                    }
                    last = number;
                    self.skip(kind, depth.checked_sub(1)?)?;
                }
            }
            13 => self.pass(16),
            _ => None,
        }
    }

    /// As [`Reader::skip`], inside of a list: a truth takes a byte there.
    fn element(&mut self, kind: u8, depth: u8) -> Option<()> {
        if matches!(kind, 1 | 2) { self.pass(1) } else { self.skip(kind, depth) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_by_number_and_the_rest_is_skipped() {
        // 1: i32 -3, 2: binary "ab", 3: list of two i32, 5: struct {1: true}, 21: i64 300
        let bytes = [0x15, 5, 0x18, 2, b'a', b'b', 0x19, 0x25, 2, 4, 0x2c, 0x11, 0, 0x06, 42, 0xd8, 4, 0];
        let mut reader = Reader::new(&bytes);
        let fields = reader.fields().unwrap();
        assert_eq!((fields.int(1), fields.int(21), fields.int(2)), (Some(-3), Some(300), None));
        assert_eq!(fields.inner(5).and_then(|inner| inner.bool(1)), Some(true));
        assert_eq!((fields.count(1), reader.at()), (None, bytes.len()));
    }

    #[test]
    fn depth_counts_and_lengths_are_bounded() {
        assert_eq!(Reader::new(&[0x1c; 100]).fields(), None, "a structure in a structure in a structure");
        assert_eq!(Reader::new(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 15]).fields(), None, "a list longer than what follows");
        assert_eq!(Reader::new(&[0x18, 0xff, 0xff, 0xff, 0xff, 15, 0]).fields(), None, "a text longer than what follows");
        assert_eq!(
            Reader::new(&[0x15, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 0]).fields(),
            None,
            "more than 64 bits"
        );
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Reader::new(&bytes).fields();
        }
    }
}
