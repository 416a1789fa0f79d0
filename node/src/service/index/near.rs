//! Which documents of a version are near copies, found once and kept in a file (P3, P5).
//!
//! The search looks at all text of a Datanet, which stands in its segments: no shard is read for it. It takes 8 bytes a word and 300 a document of
//! memory while it lasts, beside what a build may take. The file: magic, the digest of what it is of, 32 bytes for each near copy (its priority, then
//! its cluster's, 16 each), BLAKE3 of all that. Numbers are little-endian.

use attribution::index::{Clusters, Segment};
use storage::datanet::dedup::{Batch, Index, Permutations};
use types::contribution::Priority;

/// First bytes of a file.
const MAGIC: &[u8; 8] = b"TRIBROW\x01";
const NAME_BYTES: usize = 32;
const PAIR_BYTES: usize = 32;
const SUM_BYTES: usize = 32;

/// The near copies among the documents of these segments, by the rule of the gate.
///
/// # Errors
/// That there is too much text to search in memory, or that a segment holds what is no text.
pub(super) fn found(segments: &[Segment]) -> anyhow::Result<Clusters> {
    let (permutations, mut index) = (Permutations::new(), Index::new());
    for segment in segments {
        let mut rows = segment.documents().iter().filter(|row| row.length > 0).peekable();
        while let Some(first) = rows.next() {
            let place = (first.priority.block, first.priority.ordinal);
            let mut texts = vec![text_of(segment, first.start, first.end())?];
            while let Some(row) = rows.next_if(|row| (row.priority.block, row.priority.ordinal) == place) {
                texts.push(text_of(segment, row.start, row.end())?);
            }
            index.insert(&Batch::new(&permutations, first.priority, texts))?;
        }
    }
    Ok(Clusters::new(index.clusters().iter().map(|member| (member.document, member.cluster)))?)
}

fn text_of(segment: &Segment, start: u64, end: u64) -> anyhow::Result<&str> {
    let range = usize::try_from(start)?..usize::try_from(end)?;
    let bytes = segment.text().get(range).ok_or_else(|| anyhow::anyhow!("a row of segment {} lies beyond its text", segment.id()))?;
    Ok(std::str::from_utf8(bytes)?)
}

/// The file's bytes; `name` is of what it is.
pub(super) fn encode(name: &str, clusters: &Clusters) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend(blake3::hash(name.as_bytes()).as_bytes());
    for priority in clusters.joined().flat_map(|(document, head)| [document, head]) {
        bytes.extend(priority.block.to_le_bytes());
        bytes.extend(priority.ordinal.to_le_bytes());
        bytes.extend(priority.document.to_le_bytes());
    }
    let sum = blake3::hash(&bytes);
    bytes.extend(sum.as_bytes());
    bytes
}

/// Most bytes that the file of a version with so many documents has.
pub(super) const fn bytes_max(documents: u64) -> u64 {
    (MAGIC.len() + NAME_BYTES + SUM_BYTES) as u64 + documents.saturating_mul(PAIR_BYTES as u64)
}

/// What a file says, if it is whole and of `name`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode(name: &str, bytes: &[u8]) -> anyhow::Result<Clusters> {
    let said = bytes.len().checked_sub(SUM_BYTES).and_then(|end| bytes.split_at_checked(end));
    let (said, sum) = said.ok_or_else(|| anyhow::anyhow!("the file of near copies is cut off"))?;
    anyhow::ensure!(said.starts_with(MAGIC), "no file of near copies");
    anyhow::ensure!(blake3::hash(said).as_bytes() == sum, "the file of near copies is damaged");
    let (of, pairs) =
        said[MAGIC.len()..].split_at_checked(NAME_BYTES).ok_or_else(|| anyhow::anyhow!("the file of near copies is cut off"))?;
    anyhow::ensure!(blake3::hash(name.as_bytes()).as_bytes() == of, "the near copies are those of other segments");
    let (pairs, rest) = pairs.as_chunks::<PAIR_BYTES>();
    anyhow::ensure!(rest.is_empty(), "the file of near copies ends within one");
    let pair = |pair: &[u8; PAIR_BYTES]| {
        let [document, head] = [0, 1].map(|half| {
            let (words, _) = pair[16 * half..16 * half + 16].as_chunks::<4>();
            let [low, high, ordinal, document] = [0, 1, 2, 3].map(|at: usize| u32::from_le_bytes(words[at]));
            Priority { block: u64::from(high) << 32 | u64::from(low), ordinal, document }
        });
        (document, head)
    };
    Ok(Clusters::new(pairs.iter().map(pair))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_copies_are_read_as_they_were_written_and_any_changed_byte_is_refused() {
        let at = |block, document| Priority { block, ordinal: 3, document };
        let clusters = Clusters::new([(at(1 << 40, 7), at(9, 1)), (at(12, 0), at(9, 1))]).unwrap();
        let bytes = encode("R1.rows", &clusters);
        assert_eq!(u64::try_from(bytes.len()).unwrap(), bytes_max(2));
        assert_eq!(decode("R1.rows", &bytes).unwrap(), clusters);
        assert!(decode("R2.rows", &bytes).unwrap_err().to_string().contains("other segments"));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert!(decode("R1.rows", &changed).is_err(), "{at}");
            assert!(decode("R1.rows", &bytes[..at]).is_err(), "{at}");
        }
        assert_eq!(decode("", &encode("", &Clusters::default())).unwrap(), Clusters::default());
    }
}
