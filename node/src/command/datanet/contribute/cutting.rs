//! From files to shards on this disk: while one shard is looked at by the gate's own rules, the one before is written and the one behind is read.
//!
//! Memory is that of three shards, of which the one looked at is the largest (its sketch, and that of the one before: some 100 MB). The rules compare the rows of one
//! shard with each other and with those of the shard before: what copies one of those is marked, and shown to the gate when that one is accepted
//! ([`super::pipeline`]). Time is that of the rules, 25 MB/s of processor.

use std::{
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use anyhow::Context as _;
use storage::datanet::{Card, Licence, Sketch};
use types::id::{Address, AssetId};

use super::{
    Context,
    cut::{Cutter, Piece, Spot},
    findings::Finding,
    inputs::Inputs,
    journal::{Journal, Looked},
    rows::{Dropped, NAMED_MAX, Rows, check_here},
};
use crate::{command::datanet::brought::Record, output::counted};

/// What rows are looked at by, before anybody else sees them.
pub(super) struct Rules<'a> {
    pub(super) datanet: AssetId,
    pub(super) card: &'a Card,
    pub(super) me: Address,
    pub(super) licence: &'a Licence,
    pub(super) drop_refused: bool,
    pub(super) redact: bool,
}

/// Rows that the rules let by.
struct Checked {
    /// Those that are left, with as many of the others as a journal names.
    rows: Rows,
    /// All that were left out.
    dropped: Vec<Dropped>,
    /// All that were changed.
    redacted: Vec<Finding>,
    /// The last row that was read for it.
    end: Spot,
    looked: Looked,
}

/// Cuts and checks what is left of the files, the first shard of which is read.
pub(super) fn cut_all(
    context: &Context,
    journal: &mut Journal,
    inputs: &Arc<Inputs>,
    mut cutter: Cutter,
    mut first: Option<Piece>,
    is_per_file: bool,
    rules: &Rules<'_>,
) -> anyhow::Result<()> {
    if journal.is_complete {
        return Ok(());
    }
    let is_begun = journal.is_begun();
    if let Some(last) = journal.cuts.last() {
        context.output.note(&format!("an earlier run has cut {}: going on from there", counted(journal.cuts.len(), "shard")));
        cutter = Cutter::behind(Arc::clone(inputs), is_per_file, last.end)?;
        first = cutter.piece()?;
    }
    let names = Arc::new(inputs.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
    let total = inputs.bytes();
    let mut progress = context.output.progress("bytes read and checked", total);
    thread::scope(|scope| -> anyhow::Result<()> {
        let ((read, pieces), (looked, shards)) = (sync_channel(1), sync_channel(1));
        scope.spawn(|| looking(pieces, looked, rules, &names, is_begun));
        let mut is_looking = hand_over(&read, first);
        while is_looking {
            let next = cutter.piece();
            let Checked { rows, dropped, redacted, end, looked } = shards.recv().context("the thread that looks at rows has ended")??;
            is_looking = hand_over(&read, next?);
            journal.cut(&Piece { documents: rows.documents, spots: rows.spots, end }, rows.dropped, rows.redacted, looked)?;
            if let Some(cut) = journal.cuts.last().filter(|_| !(context.is_dry() || dropped.is_empty() && redacted.is_empty())) {
                Record::cut((rules.datanet, rules.me, cut.text_root), &names, dropped, redacted).keep(&context.data)?;
            }
            progress.set(inputs.taken.load(Ordering::Relaxed).min(total));
        }
        Ok(())
    })?;
    progress.finish();
    journal.complete()
}

/// Checks files as [`cut_all`] does and keeps nothing of them: what would be refused is refused in the same words.
pub(super) fn check_all(inputs: &Arc<Inputs>, rules: &Rules<'_>) -> anyhow::Result<()> {
    let names = Arc::new(inputs.files.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>());
    let (mut cutter, mut before) = (Cutter::new(Arc::clone(inputs), true), None);
    while let Some(piece) = cutter.piece()? {
        before = Some(look(piece, rules, &names, before.as_ref())?.1);
    }
    Ok(())
}

/// Whether there is another piece, which is on its way then.
fn hand_over(read: &SyncSender<Piece>, piece: Option<Piece>) -> bool {
    // A thread that has ended is missed where its word is awaited.
    piece.map(|piece| read.send(piece)).is_some()
}

fn looking(
    pieces: Receiver<Piece>,
    looked: SyncSender<anyhow::Result<Checked>>,
    rules: &Rules<'_>,
    names: &Arc<Vec<String>>,
    is_begun: bool,
) {
    // Behind what an earlier run has cut, nothing is known of the shard before.
    let (mut before, mut is_unknown) = (None, is_begun);
    for piece in pieces {
        let shard = look(piece, rules, names, before.as_ref()).map(|(mut shard, sketch)| {
            before = Some(sketch);
            shard.looked.is_close |= std::mem::take(&mut is_unknown);
            shard
        });
        if looked.send(shard).is_err() {
            return;
        }
    }
}

fn look(piece: Piece, rules: &Rules<'_>, names: &Arc<Vec<String>>, before: Option<&Sketch>) -> anyhow::Result<(Checked, Sketch)> {
    let Piece { documents, spots, end } = piece;
    let names = Arc::clone(names);
    let mut rows = Rows { documents, spots, names, dropped: Vec::new(), redacted: Vec::new() };
    if rules.redact {
        rows.redact()?;
    }
    let (sketch, looked) = check_here(&mut rows, rules, before)?;
    let (dropped, redacted) = (rows.dropped.clone(), rows.redacted.clone());
    rows.dropped.truncate(NAMED_MAX);
    rows.redacted.truncate(NAMED_MAX);
    Ok((Checked { rows, dropped, redacted, end, looked }, sketch))
}
