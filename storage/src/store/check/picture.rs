//! A segment in one line.

use super::{Judged, SegmentReport, walk::Walked};
use crate::store::segment::HEADER_BYTES;

/// Characters of a picture.
const WIDTH: u64 = 48;

/// What a byte is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Live,
    Dead,
    Torn,
    Corrupt,
}

const KINDS: [(Kind, char); 4] = [(Kind::Live, '#'), (Kind::Dead, '.'), (Kind::Torn, '~'), (Kind::Corrupt, 'x')];

/// The picture of a segment that is not there.
pub(super) fn absent() -> String {
    "x".repeat(usize::try_from(WIDTH).expect("a short line"))
}

/// Counts a segment's bytes and draws them.
pub(super) fn report(segment: u32, walked: &Walked, mark: Option<u64>, judged: &Judged) -> SegmentReport {
    let mut parts: Vec<(u64, u64, Kind)> = Vec::new();
    if !walked.is_started && walked.len > 0 {
        // Without a mark nothing was promised of it, and opening begins it anew.
        let kind = if mark.is_some_and(|mark| mark > 0) { Kind::Corrupt } else { Kind::Torn };
        parts.push((0, HEADER_BYTES.min(walked.len), kind));
    }
    for found in &walked.records {
        let place = (segment, found.at);
        let kind = match (found.is_whole, judged.live.contains(&place)) {
            (false, _) if is_past(mark, found.at) => Kind::Torn,
            (false, _) => Kind::Corrupt,
            (true, true) => Kind::Live,
            (true, false) => Kind::Dead,
        };
        parts.push((found.at, found.at + found.header.record_len(), kind));
    }
    for (from, to) in &walked.gaps {
        // A write that was broken off ends the file; its first bytes may stand after the mark only.
        let split = mark.map_or(*from, |mark| mark.clamp(*from, *to));
        let below = if mark.is_none() && *to < walked.len { *to } else { split };
        parts.extend([(*from, below, Kind::Corrupt), (below, *to, Kind::Torn)].into_iter().filter(|(from, to, _)| from < to));
    }
    let lost = mark.unwrap_or(0).saturating_sub(walked.len);
    if lost > 0 {
        parts.push((walked.len, walked.len + lost, Kind::Corrupt));
    }
    let sum = |kind: Kind| parts.iter().filter(|part| part.2 == kind).map(|(from, to, _)| to - from).sum();
    SegmentReport {
        segment,
        bytes: Some(walked.len),
        mark,
        live_bytes: sum(Kind::Live),
        dead_bytes: sum(Kind::Dead),
        corrupt_bytes: sum(Kind::Corrupt),
        torn_bytes: sum(Kind::Torn),
        picture: draw(&parts, walked.len + lost),
    }
}

fn is_past(mark: Option<u64>, at: u64) -> bool {
    mark.is_some_and(|mark| at >= mark)
}

/// Each character is what most of its bytes are; a single corrupt one shows.
fn draw(parts: &[(u64, u64, Kind)], len: u64) -> String {
    let width = WIDTH.min(len.max(1));
    let cell = |number: u64| {
        let (from, to) = (number * len / width, (number + 1) * len / width);
        let share = |kind: Kind| -> u64 {
            let overlaps = parts.iter().filter(|part| part.2 == kind).map(|part| part.1.min(to).saturating_sub(part.0.max(from)));
            overlaps.sum()
        };
        if share(Kind::Corrupt) > 0 {
            return 'x';
        }
        let most = KINDS.iter().rev().max_by_key(|(kind, _)| share(*kind));
        most.map_or('.', |(kind, sign)| if share(*kind) == 0 { '.' } else { *sign })
    };
    (0..width).map(cell).collect()
}
