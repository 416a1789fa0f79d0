//! Tensor entries, and whether what they name lies in the file.

use std::collections::BTreeMap;
use std::io::Read;

use super::cursor::Cursor;
use super::{DIMENSIONS_MAX, GgufError, TensorInfo, TensorType};

/// A tensor entry before its place in the file is checked.
pub(super) struct Declared {
    name: String,
    at: u64,
    shape: Vec<u64>,
    type_id: u32,
    offset: u64,
}

pub(super) fn parse_tensor<R: Read>(cursor: &mut Cursor<R>, index: u64) -> Result<Declared, GgufError> {
    let at = cursor.offset();
    let name = cursor.text(&format!("name of tensor {index}"))?;
    let dimensions_at = cursor.offset();
    let dimensions = cursor.u32("dimension count")?;
    if dimensions == 0 || dimensions > DIMENSIONS_MAX {
        return Err(GgufError::TooLarge {
            field: format!("dimension count of tensor {name}"),
            offset: dimensions_at,
            value: u64::from(dimensions),
            limit: u64::from(DIMENSIONS_MAX),
        });
    }
    let mut shape = Vec::new();
    for _ in 0..dimensions {
        shape.push(cursor.u64(&name)?);
    }
    shape.reverse();
    let type_id = cursor.u32(&name)?;
    let offset = cursor.u64(&name)?;
    Ok(Declared { name, at, shape, type_id, offset })
}

/// Checks that every tensor lies inside the file, and that together they do not claim more bytes than it has:
/// overlapping entries would let a small file stand for a large model.
pub(super) fn place_tensors(
    declared: Vec<Declared>,
    data: u64,
    alignment: u64,
    len: u64,
) -> Result<BTreeMap<String, TensorInfo>, GgufError> {
    let mut tensors = BTreeMap::new();
    let mut left = len.saturating_sub(data);
    for entry in declared {
        let at = entry.at;
        let name = entry.name.clone();
        let info = place_tensor(entry, data, alignment, len)?;
        if info.size_bytes > left {
            return Err(GgufError::Truncated { field: format!("data of tensor {name}"), offset: at, need: info.size_bytes, have: left });
        }
        left -= info.size_bytes;
        if tensors.insert(name.clone(), info).is_some() {
            return Err(GgufError::Invalid {
                field: "tensor name".to_owned(),
                offset: at,
                value: name,
                expected: "each tensor may occur once",
            });
        }
    }
    Ok(tensors)
}

fn place_tensor(entry: Declared, data: u64, alignment: u64, len: u64) -> Result<TensorInfo, GgufError> {
    let Declared { name, at, shape, type_id, offset } = entry;
    let kind = TensorType::from_id(type_id).ok_or_else(|| GgufError::UnsupportedType { tensor: name.clone(), type_id })?;
    let too_large = |value| GgufError::TooLarge { field: format!("size of tensor {name}"), offset: at, value, limit: len };
    let elements = shape.iter().try_fold(1u64, |product, &side| product.checked_mul(side)).ok_or_else(|| too_large(u64::MAX))?;
    let row = shape.last().copied().unwrap_or(0);
    if row == 0 || row % kind.block_elements() != 0 {
        return Err(GgufError::Invalid {
            field: format!("row length of tensor {name}"),
            offset: at,
            value: row.to_string(),
            expected: "a positive multiple of the type's block (32 for quantised types)",
        });
    }
    let size_bytes = (elements / kind.block_elements()).checked_mul(kind.block_bytes()).ok_or_else(|| too_large(u64::MAX))?;
    if offset % alignment != 0 {
        return Err(GgufError::Invalid {
            field: format!("offset of tensor {name}"),
            offset: at,
            value: offset.to_string(),
            expected: "a multiple of general.alignment",
        });
    }
    let start = data.checked_add(offset).ok_or_else(|| too_large(offset))?;
    let have = len.saturating_sub(start);
    if size_bytes > have {
        return Err(GgufError::Truncated { field: format!("data of tensor {name}"), offset: start, need: size_bytes, have });
    }
    Ok(TensorInfo { shape, kind, offset: start, size_bytes, elements })
}
