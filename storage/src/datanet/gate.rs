//! The gate: what may not enter, row by row, with the fix.
//!
//! The report is data. Its JSON has one form (fields in the order of the structs, no spaces), so its keccak digest is what reviewers sign. What the
//! rules find becomes a refusal or a note by the Datanet's [`GatePolicy`]; a report never repeats personal data, which it masks and redacts.
//!
//! Cost a byte of text: its leaves' keccak (5 bytes hashed for each; nothing for a [`Shard`], whose root is known), one pass for personal data, words and shingles for near copies. Rows are
//! sketched [`BLOCK_ROWS`] at a time, so the bands of a million short rows, not of all at once, are sorted together.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use types::{
    id::{Address, BlobId, Hash32},
    key::Signed,
    merkle,
};

use super::{
    Action, Card, Contribution, DOCUMENTS_MAX, Datanet, Document, DocumentError, First, GatePolicy, Licence, Place, Usage,
    contribution_text,
    dedup::{Batch, Index, Match},
    known::Known,
    licence,
    review::ReviewAct,
    scan,
    shard::{self, Shard},
};
use crate::erasure::OBJECT_BYTES_MAX;

/// Most refusals a report lists; the rest are counted. A contributor mends a thousand rows and tries again.
pub const REFUSALS_MAX: usize = 1000;
/// Most notes a report lists; the rest are counted.
pub const NOTES_MAX: usize = 500;

/// Rows that are sketched together.
pub(super) const BLOCK_ROWS: usize = 1 << 15;
/// Most findings that the detail of one row shows; the rest are counted.
const SHOWN_MAX: usize = 4;
/// How the detail of a finding in an id begins.
const IN_ID: &str = "in the id: ";
/// How the detail of a finding in a title begins.
const IN_TITLE: &str = "in the title: ";
/// Bytes of redacted text on either side of the first finding in a preview.
const PREVIEW_BYTES: usize = 40;

/// What a row broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// The contribution holds no document.
    Empty,
    /// More documents or bytes than one contribution may hold.
    TooLarge,
    /// The licence asks for what the Datanet's does not.
    Licence,
    /// More rows or bytes of one contributor than the Datanet takes.
    ContributorLimit,
    /// An accepted contribution of earlier priority holds the same text.
    Duplicate,
    /// An earlier row of the same contribution holds the same text.
    Repeated,
    /// An accepted document of earlier priority, or an earlier row, holds nearly the same text.
    NearCopy,
    /// The text holds what looks like personal data.
    PersonalData,
    /// The contribution was drawn for two reviewers, or one that waits and has this row.
    Sampled,
    /// Reviewers rejected a contribution that had this row.
    Rejected,
}

/// A column of a row that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Its id.
    Id,
    /// Its title.
    Title,
    /// Its text.
    Text,
}

impl Part {
    const ALL: [Self; 3] = [Self::Id, Self::Title, Self::Text];

    /// What a row holds there.
    fn of(self, document: &Document) -> Option<&str> {
        match self {
            Self::Id => document.id(),
            Self::Title => document.title(),
            Self::Text => Some(document.text()),
        }
    }

    fn scan(self, text: &str) -> Vec<scan::Finding> {
        if self == Self::Id { scan::scan_id(text) } else { scan::scan(text) }
    }

    /// How the detail of a finding there begins.
    const fn prefix(self) -> &'static str {
        match self {
            Self::Id => IN_ID,
            Self::Title => IN_TITLE,
            Self::Text => "",
        }
    }
}

impl Refusal {
    /// The column that a finding of personal data stands in.
    pub fn part(&self) -> Part {
        let is_there = |part: &Part| self.detail.starts_with(part.prefix());
        Part::ALL.into_iter().find(is_there).unwrap_or(Part::Text)
    }
}

impl Rule {
    /// Its name in reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLarge => "too-large",
            Self::Licence => "licence",
            Self::ContributorLimit => "contributor-limit",
            Self::Duplicate => "duplicate",
            Self::Repeated => "repeated",
            Self::NearCopy => "near-copy",
            Self::PersonalData => "personal-data",
            Self::Sampled => "sampled",
            Self::Rejected => "rejected",
        }
    }
}

/// One reason not to accept, or to know of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refusal {
    /// The document, counted from 1; 0 for the contribution as a whole.
    pub row: u32,
    /// The rule.
    pub rule: Rule,
    /// What follows by the Datanet's policy.
    pub action: Action,
    /// What was found.
    pub detail: String,
    /// What mends it.
    pub fix: String,
    /// The place as it would read after redaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<String>,
    /// Whose earlier text it repeats, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub earlier: Option<Earlier>,
}

/// The earlier text that a row repeats, exactly or nearly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Earlier {
    /// Who brought it first.
    pub owner: Address,
    /// Text root of the contribution that holds it; nothing if it stands in the same one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contribution: Option<Hash32>,
    /// Its row there, counted from 1.
    pub row: u32,
    /// Shingles that both have, in a thousand of those that either has.
    pub per_mille: u32,
}

/// What the gate found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Whether the contribution may enter as it is: nothing was found that the policy blocks, quarantines or redacts.
    pub accepted: bool,
    /// Who brings it.
    pub contributor: Address,
    /// Root of its text.
    pub text_root: Hash32,
    /// Its text, in bytes.
    pub text_bytes: u64,
    /// Its documents.
    pub documents: u32,
    /// Why not, at most [`REFUSALS_MAX`] of them, in row order.
    pub refusals: Vec<Refusal>,
    /// Refusals beyond those listed.
    pub unlisted: u32,
    /// What reviewers should know and the policy lets in, at most [`NOTES_MAX`], in row order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<Refusal>,
    /// Notes beyond those listed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub notes_unlisted: u32,
    /// What reviewers signed who let it in although something spoke against it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub approvals: Vec<Signed<ReviewAct>>,
}

impl Report {
    /// The report's one JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and integers always serialise")
    }

    /// keccak of the JSON form: what a gate report's signature covers.
    pub fn digest(&self) -> Hash32 {
        merkle::keccak(&[self.to_json().as_bytes()])
    }
}

const fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// Findings in row order, as many as are listed; the rest counted.
#[derive(Debug)]
struct Listed {
    most: usize,
    listed: Vec<Refusal>,
    unlisted: u32,
}

impl Listed {
    const fn new(most: usize) -> Self {
        Self { most, listed: Vec::new(), unlisted: 0 }
    }

    /// What is beyond the bound need not be made.
    fn add(&mut self, refusal: impl FnOnce() -> Refusal) {
        if self.listed.len() < self.most {
            self.listed.push(refusal());
        } else {
            self.unlisted = self.unlisted.saturating_add(1);
        }
    }

    /// What is held back for reviewers is listed whole, or they would let in what they were not shown. Where there is more of it, the contribution is refused by a finding that says so.
    fn within(mut self) -> Self {
        if self.unlisted == 0 || self.listed.iter().any(|refusal| refusal.action != Action::Quarantine) {
            return self;
        }
        let total = saturated(self.listed.len()).saturating_add(self.unlisted);
        for held in self.listed.iter_mut().filter(|held| held.rule == Rule::PersonalData) {
            held.fix = "remove it, or split the file".into();
        }
        let detail = format!(
            "{total} findings are to be looked at by reviewers, who are shown at most {} of one contribution: none can wait",
            self.most
        );
        let fix = format!("split the file into contributions of at most {} such findings each, or leave rows with findings out", self.most);
        if self.listed.len() >= self.most {
            self.listed.pop();
            self.unlisted = self.unlisted.saturating_add(1);
        }
        self.listed.insert(0, blocked(0, Rule::TooLarge, detail, &fix));
        self
    }
}

/// A contribution's rows as those of the next are compared with before the chain has either: their digests and sketches.
#[derive(Debug)]
pub struct Sketch {
    rows: BTreeMap<BlobId, u32>,
    near: Index,
}

impl Sketch {
    /// Whether a document of `batch` is a near copy of a row.
    fn is_near(&self, batch: &Batch) -> bool {
        self.near.earliest(batch, |_| u32::MAX).iter().any(Option::is_some)
    }
}

/// What the gate looks at: rows, and what their text gives.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown<'c> {
    contributor: Address,
    licence: &'c Licence,
    documents: &'c [Document],
    text_root: Hash32,
    text_bytes: u64,
}

impl<'c> Shown<'c> {
    /// Rows whose text nobody has hashed yet.
    pub(super) fn of(contribution: &'c Contribution) -> Self {
        let Contribution { contributor, licence, documents } = contribution;
        let text = contribution_text(documents);
        let (text_root, text_bytes) = (types::text::text_root(text.as_bytes()), bytes_of(text.len()));
        Self { contributor: *contributor, licence, documents, text_root, text_bytes }
    }

    /// An opened shard, whose root is taken as it was derived.
    pub(super) fn opened(contributor: Address, licence: &'c Licence, shard: &'c Shard) -> Self {
        Self { contributor, licence, documents: shard.documents(), text_root: shard.text_root(), text_bytes: shard.text_bytes() }
    }
}

pub(super) fn report<K: Known>(datanet: &Datanet<K>, place: Place, shown: Shown<'_>) -> Result<Report, K::Error> {
    beside(datanet, place, shown, None).map(|(report, ..)| report)
}

/// The report, the rows' own sketch, and whether any of them is a copy, exact or near, of one of `other`.
pub(super) fn beside<K: Known>(
    datanet: &Datanet<K>,
    place: Place,
    shown: Shown<'_>,
    other: Option<&Sketch>,
) -> Result<(Report, Sketch, bool), K::Error> {
    let (mut refusals, mut notes) = (Listed::new(REFUSALS_MAX), Listed::new(NOTES_MAX));
    whole(datanet, shown).into_iter().for_each(|refusal| refusals.add(|| refusal));
    let policy = datanet.card().policy();
    let (mut rows, mut row) = (BTreeMap::new(), 0);
    let (mut own, mut is_copy) = (Index::new(), false);
    for block in shown.documents.chunks(BLOCK_ROWS) {
        let batch = Batch::new(&datanet.permutations, place.of_document(row), block.iter().map(Document::text));
        is_copy = is_copy || other.is_some_and(|other| other.is_near(&batch));
        let near = near_copies(datanet, place, &mut own, row, &batch)?;
        let digests: Vec<BlobId> = block.iter().map(Document::digest).collect();
        is_copy = is_copy || other.is_some_and(|other| digests.iter().any(|digest| other.rows.contains_key(digest)));
        let firsts = datanet.known.firsts(&digests)?;
        for ((document, near), (digest, first)) in block.iter().zip(near).zip(digests.into_iter().zip(firsts)) {
            row += 1;
            let first = first.map(|priority| datanet.first_at(priority));
            if let Some(refusal) = copy(shown.contributor, place, &mut rows, row, digest, first) {
                refusals.add(|| refusal);
            } else if let Some(found) = near {
                let list = if policy.near_copies == Action::Note { &mut notes } else { &mut refusals };
                list.add(|| near_copy(datanet, shown.contributor, place, policy, row, &found));
            }
            for (part, text) in Part::ALL.into_iter().filter_map(|part| Some((part, part.of(document)?))) {
                let found = part.scan(text);
                if !found.is_empty() {
                    let list = if policy.personal_data == Action::Note { &mut notes } else { &mut refusals };
                    list.add(|| personal(datanet.card(), row, part, text, &found));
                }
            }
        }
    }
    let refusals = refusals.within();
    let report = Report {
        accepted: refusals.listed.is_empty(),
        contributor: shown.contributor,
        text_root: shown.text_root,
        text_bytes: shown.text_bytes,
        documents: saturated(shown.documents.len()),
        refusals: refusals.listed,
        unlisted: refusals.unlisted,
        notes: notes.listed,
        notes_unlisted: notes.unlisted,
        approvals: Vec::new(),
    };
    Ok((report, Sketch { rows, near: own }, is_copy))
}

/// The documents with what looks like personal data replaced, in the same order: what a contributor brings where the policy redacts. An id that holds any becomes
/// `row-` and what `name` says of the document at that place, its number in the file or so: a hash of an e-mail address is found out by guessing it. No two documents have the same id for it.
///
/// # Errors
/// The place of a document, from 0, and what is wrong with it: placeholders may make it longer than a document may be.
pub fn redacted(documents: &[Document], name: impl Fn(usize) -> String) -> Result<Vec<Document>, (usize, DocumentError)> {
    let is_kept = |id: &&str| scan::scan_id(id).is_empty();
    let mut taken: BTreeSet<String> = documents.iter().filter_map(Document::id).filter(is_kept).map(str::to_owned).collect();
    let mut redact_id = |at: usize, id: &str| {
        if scan::scan_id(id).is_empty() {
            return id.to_owned();
        }
        let first = format!("row-{}", name(at));
        // Whoever named rows so before keeps the name; few do, and each is passed once.
        let next = (2_u64..).map(|number| format!("{first}-{number}"));
        let free =
            std::iter::once(first.clone()).chain(next).find(|id| !taken.contains(id)).expect("there are more numbers than documents");
        taken.insert(free.clone());
        free
    };
    let redact = |text: &str| scan::redact(text, &scan::scan(text));
    let document = |(at, document): (usize, &Document)| {
        let id = document.id().map(|id| redact_id(at, id));
        let (title, text) = (document.title().map(redact), redact(document.text()));
        Document::new(id, title, text.as_bytes()).map_err(|error| (at, error))
    };
    documents.iter().enumerate().map(document).collect()
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn bytes_of(len: usize) -> u64 {
    u64::try_from(len).expect("a length in memory fits 64 bits")
}

fn blocked(row: u32, rule: Rule, detail: String, fix: &str) -> Refusal {
    Refusal { row, rule, action: Action::Block, detail, fix: fix.into(), preview: None, earlier: None }
}

/// What speaks against the contribution as a whole.
fn whole<K>(datanet: &Datanet<K>, shown: Shown<'_>) -> Vec<Refusal> {
    let refusal = |rule, detail, fix: &str| blocked(0, rule, detail, fix);
    let count = shown.documents.len();
    let shard_bytes = shard::encoded_len(shown.documents);
    let (ours, theirs) = (datanet.card().licence(), shown.licence);
    let mut found = Vec::new();
    if count == 0 {
        found.push(refusal(Rule::Empty, "the contribution holds no document".into(), "add at least one"));
    }
    if count > DOCUMENTS_MAX || shard_bytes > OBJECT_BYTES_MAX {
        let detail = format!(
            "{count} documents, a shard of {shard_bytes} bytes, at most {DOCUMENTS_MAX} documents and {OBJECT_BYTES_MAX} bytes are allowed"
        );
        found.push(refusal(Rule::TooLarge, detail, "split it into several contributions"));
    }
    if let Some(reason) = licence::conflict(theirs, ours) {
        let detail = format!("the contribution is under {theirs}, the Datanet takes {ours}: {reason}");
        found.push(refusal(Rule::Licence, detail, "contribute under a licence that fits the Datanet's, or to a Datanet that yours fits"));
    }
    let brings = Usage { rows: bytes_of(count), bytes: shown.text_bytes };
    let has = datanet.usage(shown.contributor);
    found.extend(beyond_limits(datanet.card().policy(), shown.contributor, has, Usage::default(), brings));
    found
}

/// What is beyond the limits of one contributor, who `has` so much accepted and holds verdicts of the gate for so much more, `reserved`.
pub(super) fn beyond_limits(policy: &GatePolicy, contributor: Address, has: Usage, reserved: Usage, brings: Usage) -> Vec<Refusal> {
    let limits = [
        ("rows", has.rows, reserved.rows, brings.rows, policy.contributor_rows_max),
        ("bytes of text", has.bytes, reserved.bytes, brings.bytes, policy.contributor_bytes_max),
    ];
    let mut found = Vec::new();
    for (what, has, reserved, brings, most) in limits {
        let taken = has.saturating_add(reserved);
        if let Some(most) = most.filter(|most| taken.saturating_add(brings) > *most) {
            let (held, first) = if reserved == 0 {
                (String::new(), "")
            } else {
                let held = format!(", the gate's verdicts on contributions that are not accepted yet hold {reserved}");
                (held, "; finish those contributions, or let their commitments expire, before you bring others")
            };
            let detail =
                format!("{contributor} has {has} {what} here{held} and brings {brings}, the Datanet takes {most} of one contributor");
            let fix = format!("bring at most {} {what}{first}", most.saturating_sub(taken));
            found.push(blocked(0, Rule::ContributorLimit, detail, &fix));
        }
    }
    found
}

/// Whether the document stands in an earlier contribution or an earlier row.
fn copy(
    contributor: Address,
    place: Place,
    rows: &mut BTreeMap<BlobId, u32>,
    row: u32,
    digest: BlobId,
    first: Option<First>,
) -> Option<Refusal> {
    let of = |owner, contribution, row| Some(Earlier { owner, contribution, row, per_mille: 1000 });
    let earlier = *rows.entry(digest).or_insert(row);
    if earlier != row {
        let detail = format!("the same text as row {earlier} of this contribution");
        return Some(Refusal { earlier: of(contributor, None, earlier), ..blocked(row, Rule::Repeated, detail, "leave this row out") });
    }
    let First { owner, contribution, priority } = first.filter(|first| first.priority < place.of_document(row - 1))?;
    let detail = format!(
        "the same text as document {} of contribution {contribution}, first brought by {owner} in block {}",
        priority.document + 1,
        priority.block
    );
    let earlier = of(owner, Some(contribution), priority.document + 1);
    Some(Refusal { earlier, ..blocked(row, Rule::Duplicate, detail, "leave this row out: its first owner is paid for it") })
}

/// The earliest near copy of each row of `batch`, the first of which follows `before` others: among accepted documents, else among `own` rows.
fn near_copies<K: Known>(
    datanet: &Datanet<K>,
    place: Place,
    own: &mut Index,
    before: u32,
    batch: &Batch,
) -> Result<Vec<Option<Match>>, K::Error> {
    let mut found = datanet.known.earliest(batch, place.of_document(0))?;
    // More rows than an index holds are more than a contribution may, which `whole` refuses.
    if own.insert(batch).is_ok() {
        let among_own = own.earliest(batch, |number| before + number);
        found.iter_mut().zip(among_own).for_each(|(found, own)| *found = found.or(own));
    }
    Ok(found)
}

fn near_copy<K>(datanet: &Datanet<K>, contributor: Address, place: Place, policy: &GatePolicy, row: u32, found: &Match) -> Refusal {
    let Match { priority, overlap } = *found;
    let share = format!("{}.{} %", overlap.per_mille() / 10, overlap.per_mille() % 10);
    let of = format!("{share} of the shingles ({} of {}) are those of", overlap.shared, overlap.union);
    let their_place = Place { block: priority.block, ordinal: priority.ordinal };
    let theirs = datanet.accepted.get(&their_place).filter(|_| their_place != place);
    let detail = match theirs {
        Some(accepted) => format!(
            "{of} document {} of contribution {}, first brought by {} in block {}",
            priority.document + 1,
            accepted.text_root,
            accepted.contributor,
            priority.block
        ),
        None => format!("{of} row {} of this contribution", priority.document + 1),
    };
    let action = if policy.near_copies == Action::Redact { Action::Quarantine } else { policy.near_copies };
    let fix = "leave this row out: it joins the earlier document's cluster and earns nothing".into();
    let earlier = Some(Earlier {
        owner: theirs.map_or(contributor, |accepted| accepted.contributor),
        contribution: theirs.map(|accepted| accepted.text_root),
        row: priority.document + 1,
        per_mille: overlap.per_mille(),
    });
    Refusal { row, rule: Rule::NearCopy, action, detail, fix, preview: None, earlier }
}

/// A report is shown to whoever asks for it: one of a private Datanet holds nothing of its text.
fn personal(card: &Card, row: u32, part: Part, text: &str, found: &[scan::Finding]) -> Refusal {
    let policy = card.policy();
    let shown = found.iter().take(SHOWN_MAX).map(|finding| {
        let scan::Finding { kind, span } = finding;
        let masked = if card.is_private() { String::new() } else { format!(" {}", finding.masked(text)) };
        format!("{}{masked} at bytes {} to {}", kind.label(), span.start, span.end)
    });
    let mut detail = part.prefix().to_owned() + &shown.collect::<Vec<_>>().join("; ");
    if found.len() > SHOWN_MAX {
        detail += &format!("; and {} more", found.len() - SHOWN_MAX);
    }
    let fix = match policy.personal_data {
        Action::Note => "remove it if it is a person's",
        Action::Redact => "contribute the redacted rows",
        Action::Quarantine => "remove it, or wait for two reviewers",
        Action::Block => "remove it, or leave this row out",
    };
    // An id is replaced whole: what is left of `carol@example.com` without the address may name Carol still.
    let preview = (!card.is_private()).then(|| if part == Part::Id { format!("row-{row}") } else { preview(text, found) });
    Refusal { row, rule: Rule::PersonalData, action: policy.personal_data, detail, fix: fix.into(), preview, earlier: None }
}

/// The redacted text around the first finding. What stands within the same stretch is redacted as well.
fn preview(text: &str, found: &[scan::Finding]) -> String {
    let Some(first) = found.first() else { return String::new() };
    let start = text.floor_char_boundary(first.span.start.saturating_sub(PREVIEW_BYTES));
    let end = text.ceil_char_boundary((first.span.end + PREVIEW_BYTES).min(text.len()));
    // A finding that the stretch's end cuts belongs to it as a whole.
    let inside: Vec<_> = found.iter().take_while(|finding| finding.span.start < end).cloned().collect();
    let end = inside.last().map_or(end, |last| end.max(last.span.end));
    let moved: Vec<_> =
        inside.into_iter().map(|scan::Finding { kind, span }| scan::Finding { kind, span: span.start - start..span.end - start }).collect();
    let ellipsis = |is_cut: bool| if is_cut { "\u{2026}" } else { "" };
    format!("{}{}{}", ellipsis(start > 0), scan::redact(&text[start..end], &moved), ellipsis(end < text.len()))
}
