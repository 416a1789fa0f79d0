//! What proves that an index root is wrong (P7, X1 to X5): leaves and the ways to their roots, as plain data.
//!
//! Where a leaf's number follows from the rest, the contract does not read it: an opening with another number proves nothing. A claim about segments of a
//! billion bytes is some 6 kB; one about a contribution that is left out, 3 kB for each segment of its Datanet.

use super::{Head, Passage, Shown, Source};

/// What is wrong with an index, with what shows it.
#[expect(clippy::large_enum_variant, reason = "an index is refuted by one")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexClaim {
    /// Something in a segment, or with it.
    Segment {
        /// The segment under the index root.
        source: Source,
        /// What.
        flaw: SegmentFlaw,
    },
    /// A Datanet's leaf is of another Datanet or version than the one declared in its place, or none is declared there.
    OtherDatanet(Shown),
    /// The index is of another number of Datanets: the head of its root.
    DatanetCount(Head),
    /// A Datanet has a length and no segments.
    Hollow {
        /// Its leaf, under the index root.
        datanet: Shown,
        /// Head of its segments root.
        segments: Head,
    },
    /// A leaf has another size than leaves of its kind.
    Form {
        /// The Datanet's leaf that leads to it; nothing where it is a Datanet's itself.
        datanet: Option<Shown>,
        /// The segment's leaf that leads to it; nothing where it is a segment's or a Datanet's itself.
        segment: Option<Shown>,
        /// The leaf.
        leaf: Shown,
    },
}

/// What is wrong with a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SegmentFlaw {
    /// X1: two neighbours of the array are not in order.
    Order {
        /// The array leaf that shows both.
        array: Shown,
        /// The first one's place in it.
        place: u8,
        /// The text at each.
        texts: [Shown; 2],
    },
    /// X2: an array leaf has not the entries it must, or the next one begins with another than it ends with.
    ArrayLeaves {
        /// The leaf.
        array: Shown,
        /// The next; nothing where the first convicts alone.
        next: Option<Shown>,
    },
    /// X2: a text leaf ends where none may, or the next shows other bytes.
    TextLeaves {
        /// The leaf.
        text: Shown,
        /// The next; nothing where the first convicts alone.
        next: Option<Shown>,
    },
    /// X2: a text leaf is not that of the contribution which stands there.
    Text {
        /// The contribution's first row.
        row: Shown,
        /// The contribution's own leaf, under its registered root.
        own: Shown,
        /// The segment's leaf in its place.
        text: Shown,
    },
    /// X3: an entry lies beyond the segment, or no word begins there.
    Entry {
        /// The array leaf.
        array: Shown,
        /// The entry's place in it.
        place: u8,
        /// The text there; nothing beyond the segment.
        passage: Option<Passage>,
    },
    /// X4: a word begins where the array has no entry.
    Missing {
        /// Where, in the segment.
        place: u64,
        /// The text there.
        passage: Passage,
        /// What stands in the array where it belongs; nothing of an array without entries.
        between: Option<Between>,
    },
    /// X5: a row is not that of the contribution whose priority it has.
    Row {
        /// The row.
        row: Shown,
        /// Number of the contribution in the order of acceptance.
        number: u64,
    },
    /// X5: two rows do not follow each other, or the first or the last is none.
    Rows {
        /// The row.
        row: Shown,
        /// The next; nothing of the last, and of a first that begins elsewhere.
        next: Option<Shown>,
    },
    /// X5: a row does not end where its document does.
    Length {
        /// The row.
        row: Shown,
        /// A place in its document: one that holds a zero byte, or its end, which holds none.
        place: u64,
        /// The text there.
        text: Shown,
    },
    /// X5: a contribution was left out.
    LeftOut {
        /// A row of a contribution that was accepted later.
        row: Shown,
        /// Number of that contribution.
        number: u64,
        /// Number of the one that is left out.
        missing: u64,
        /// Every segment of the Datanet, from the first.
        passed: Vec<Passed>,
    },
    /// X5: a row is of no contribution.
    Invented(Shown),
    /// The trees have not the sizes that the segment's leaf says, or there is text and no row.
    Counts {
        /// Head of the text root.
        text: Head,
        /// Head of the array root.
        array: Head,
        /// Head of the documents root.
        documents: Head,
    },
    /// The segment and the next, or the Datanet's length, do not follow each other.
    Segments {
        /// Head of the segments root; nothing where the first begins elsewhere than at 0.
        segments: Option<Head>,
        /// The next segment; nothing of the last.
        next: Option<Shown>,
    },
    /// X5: text goes on behind the last document of a contribution.
    Behind {
        /// Its row.
        row: Shown,
        /// The next row; nothing of the last.
        next: Option<Shown>,
        /// The text at its end.
        text: Shown,
    },
}

/// Two neighbours of an array, between which a place belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Between {
    /// How many entries come before the place.
    pub rank: u64,
    /// The array leaf that shows both neighbours.
    pub array: Shown,
    /// The text at the one before; nothing at the beginning.
    pub before: Option<Shown>,
    /// The text at the one after; nothing at the end.
    pub after: Option<Shown>,
}

/// A segment that does not hold a contribution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passed {
    /// Its leaf, under the Datanet's segments root.
    pub segment: Shown,
    /// Its rows on both sides of where the contribution would stand.
    pub rows: Gap,
}

/// Neighbouring rows of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// There are none: the head of the documents root.
    Empty(Head),
    /// The last one comes before.
    Last(Shown),
    /// The first one comes after.
    First(Shown),
    /// One comes before, the next after.
    Within(Shown, Shown),
}

impl IndexClaim {
    /// The mode's number in P7.
    pub const fn mode(&self) -> u8 {
        match self {
            Self::Segment { flaw, .. } => flaw.mode(),
            Self::OtherDatanet(_) | Self::DatanetCount(_) => 13,
            Self::Hollow { .. } => 15,
            Self::Form { .. } => 16,
        }
    }

    /// Its name in P7.
    pub const fn fault(&self) -> &'static str {
        match self.mode() {
            0 => "X1",
            1..=3 => "X2",
            4 => "X3",
            5 => "X4",
            _ => "X5",
        }
    }

    /// What is wrong, in words.
    pub const fn what(&self) -> &'static str {
        match self.mode() {
            0 => "two entries of the array are not in order",
            1 => "array leaves disagree",
            2 => "text leaves disagree",
            3 => "a text is not that of its contribution",
            4 => "an entry stands where no word begins",
            5 => "a word has no entry",
            6 => "a row is not its contribution's",
            7 => "rows do not follow each other",
            8 => "a row does not end with its document",
            9 => "a contribution is left out",
            10 => "a row is of no contribution",
            11 => "trees have other sizes than the segment says",
            12 => "segments do not follow each other",
            13 => "other Datanets than the version declares",
            14 => "text goes on behind the last row of a contribution",
            15 => "a Datanet has a length and no segments",
            _ => "a leaf has another size than its kind",
        }
    }
}

impl SegmentFlaw {
    const fn mode(&self) -> u8 {
        match self {
            Self::Order { .. } => 0,
            Self::ArrayLeaves { .. } => 1,
            Self::TextLeaves { .. } => 2,
            Self::Text { .. } => 3,
            Self::Entry { .. } => 4,
            Self::Missing { .. } => 5,
            Self::Row { .. } => 6,
            Self::Rows { .. } => 7,
            Self::Length { .. } => 8,
            Self::LeftOut { .. } => 9,
            Self::Invented(_) => 10,
            Self::Counts { .. } => 11,
            Self::Segments { .. } => 12,
            Self::Behind { .. } => 14,
        }
    }
}
