//! What a gate answers to reviewers and members.

use storage::{
    datanet::review::{Act, Case, FRESH_BLOCKS, ReviewAct},
    proto::gate::{CaseRow, LOG_PAGE_BYTES, ReaderRow},
    seal::{
        book::Book,
        log::{Event, Purpose, Signed as Entry},
    },
};
use types::{id::Address, key::recover};

use super::{decided::Decided, *};

/// Blocks by which a member's view of the chain may be ahead of the gate's.
const AHEAD_BLOCKS: u64 = 30;

impl Gate {
    /// A report that this gate has signed for, or refused by.
    pub(super) async fn report(&self, digest: Hash32) -> Result<Reply, Turned> {
        let path = self.data.report(digest);
        let bytes = if path.exists() {
            read_bounded(&path, REPORT_BYTES_MAX).with_context(|| format!("{}", path.display()))?
        } else if let Some(bytes) = self.verdicts.read(digest).await? {
            bytes
        } else {
            self.refusals.read(digest).await?.ok_or_else(|| away(format!("no report {digest} is kept here")))?
        };
        Ok(Reply::Report { report: String::from_utf8(bytes).context("a report is text")? })
    }

    /// Which refused contributions of who signed this the gate has reports of.
    pub(super) async fn mine(&self, act: &Signed<ReviewAct>) -> Result<Reply, Turned> {
        let by = self.asked_by(act)?;
        if act.document.act != Act::List {
            return Err(away("reports are asked for by a signed list"));
        }
        Ok(Reply::Mine { reports: self.refusals.of(act.document.datanet, by).await })
    }

    /// Who signed what this gate is asked now.
    fn asked_by(&self, act: &Signed<ReviewAct>) -> Result<Address, Turned> {
        let (tip, what) = (self.snapshots.borrow().tip.number, &act.document);
        let by = recover(&self.domains, what, &act.signature).map_err(|error| away(error.to_string()))?;
        if what.gate != self.author.id() {
            return Err(away(format!("this is node {}, the request is for {}", self.author.id(), what.gate)));
        }
        if tip.abs_diff(what.block) > FRESH_BLOCKS {
            return Err(away(format!("the request names block {}, the chain is at {tip}: ask anew", what.block)));
        }
        Ok(by)
    }

    /// Lists, shows or decides what waits, for a reviewer who signed that.
    pub(super) async fn decide(
        &self,
        remote: NodeId,
        sender: &mut FrameSender,
        act: &Signed<ReviewAct>,
        reason: &str,
    ) -> Result<Reply, Turned> {
        let (snapshot, what) = (self.snapshots.borrow().clone(), &act.document);
        let state = Arc::clone(&snapshot.latest);
        let by = self.asked_by(act)?;
        if !state.is_reviewer(what.datanet, by) {
            return Err(away(format!(
                "{by} does not review Datanet {}: its owner names reviewers with `tributary datanet reviewer add`",
                what.datanet
            )));
        }
        self.prune(&state).await?;
        let unknown = || away(format!("nothing waits in Datanet {} under {}", what.datanet, what.commitment));
        match what.act {
            Act::List => {
                let (cases, decided) = self.queue.list(what.datanet).await;
                let mut rows: Vec<CaseRow> = cases.iter().map(|case| self.row(case)).collect();
                rows.extend(decided.into_iter().map(|decided| self.decided_row(decided)));
                rows.sort_by_key(|row| (row.since, row.commitment));
                Ok(Reply::Queue { cases: rows })
            }
            Act::Show => {
                let case = match self.queue.get(what.datanet, what.commitment).await.ok_or_else(unknown)? {
                    Became::Case(case) => case,
                    Became::Rejected(decided) => return Err(away(format!("{}; its rows are deleted", decided.words()))),
                };
                let bytes = self.plain(remote, &state, &case).await?;
                let shown = Reply::Shown { report: case.report.to_json(), shard_bytes: bytes.len() as u64 };
                sender.send(&shown.encode()).await?;
                for piece in bytes.chunks(PIECE_BYTES) {
                    sender.send(piece).await?;
                }
                Ok(self.decided(&case))
            }
            Act::Approve | Act::Reject => {
                match self.queue.get(what.datanet, what.commitment).await.ok_or_else(unknown)? {
                    Became::Case(_) => {}
                    // The same decision of the same reviewer again changes nothing.
                    Became::Rejected(decided) if what.act == Act::Reject && decided.rejection.by == by => {
                        return Ok(Reply::Decided { state: "rejected".to_owned(), approved_by: self.approved_by(&decided.approvals) });
                    }
                    Became::Rejected(decided) => return Err(away(format!("it was rejected already: {}", decided.words()))),
                }
                let decide = |case: &mut Case| case.decide(&self.domains, act, reason, |account| state.is_reviewer(what.datanet, account));
                let case = self.queue.change(what.datanet, what.commitment, decide).await?.map_err(|error| away(error.to_string()))?;
                tracing::info!(datanet = %case.datanet, commitment = %case.commitment, %by, state = case.state(), "a reviewer decided");
                Ok(self.decided(&case))
            }
        }
    }

    fn decided(&self, case: &Case) -> Reply {
        Reply::Decided { state: case.state().to_owned(), approved_by: case.approved_by(&self.domains) }
    }

    fn row(&self, case: &Case) -> CaseRow {
        let (report, (findings, first)) = (&case.report, decided::findings(case));
        CaseRow {
            commitment: case.commitment,
            contributor: report.contributor,
            documents: report.documents,
            text_bytes: report.text_bytes,
            findings,
            first,
            report: report.digest(),
            since: case.since,
            state: case.state().to_owned(),
            approved_by: case.approved_by(&self.domains),
        }
    }

    fn decided_row(&self, decided: Decided) -> CaseRow {
        CaseRow {
            commitment: decided.commitment,
            contributor: decided.contributor,
            documents: decided.documents,
            text_bytes: decided.text_bytes,
            findings: decided.findings,
            approved_by: self.approved_by(&decided.approvals),
            first: decided.first,
            report: decided.report,
            since: decided.since,
            state: "rejected".to_owned(),
        }
    }

    fn approved_by(&self, approvals: &[Signed<ReviewAct>]) -> Vec<Address> {
        approvals.iter().filter_map(|signed| recover(&self.domains, &signed.document, &signed.signature).ok()).collect()
    }

    /// A waiting shard in the clear. Of a private Datanet only for nodes with a grant to review.
    async fn plain(&self, remote: NodeId, state: &State, case: &Case) -> Result<Vec<u8>, Turned> {
        let bytes = self.queue.shard(case).await?;
        if !seals::is_sealed(&bytes) {
            return Ok(bytes);
        }
        let block = self.snapshots.borrow().tip.number;
        let book = self.books.read(&self.data, case.datanet)?.context("a private Datanet without a log")?;
        let may = remote == self.author.id() || book.log().grant(remote, block).is_some_and(|grant| grant.purposes.holds(Purpose::Review));
        if !may {
            return Err(away(format!(
                "Datanet {} is private and node {remote} has no grant to review: its owner gives one with `tributary datanet grant {} {remote} --purpose review --until BLOCK`",
                case.datanet, case.datanet
            )));
        }
        let contributor = case.report.contributor;
        let (block, ordinal) = state.commitment(case.commitment, contributor).context("its commitment is on the chain no longer")?;
        let shard = seals::open(&self.data, case.datanet, Place { block, ordinal }, case.report.text_root, &bytes)?;
        Ok(storage::datanet::shard::encode(shard.documents()).context("a shard")?)
    }

    /// Whom the owner listed, and who may read.
    pub(super) fn members(&self, datanet: AssetId) -> Result<Reply, Turned> {
        let contributors: Vec<Address> = members::contributors(&self.data, datanet)?.into_iter().collect();
        let reader = |(member, grant): (NodeId, storage::seal::log::Grant)| ReaderRow {
            member,
            purposes: grant.purposes.words(),
            expiry: grant.expiry,
        };
        let readers = self.books.read(&self.data, datanet)?.map_or_else(Vec::new, |book| book.log().grants().map(reader).collect());
        Ok(Reply::Members { contributors, readers })
    }

    fn member_book(&self, remote: NodeId, datanet: AssetId) -> Result<Arc<Book>, Turned> {
        let book = self.books.read(&self.data, datanet)?.ok_or_else(|| away(format!("this node keeps no log of Datanet {datanet}")))?;
        if book.has_member(remote) {
            return Ok(book);
        }
        Err(away(format!(
            "node {remote} is no member of Datanet {datanet}: its owner lets it read with `tributary datanet grant {datanet} {remote} --purpose read --until BLOCK`"
        )))
    }

    /// A page of the log, for members.
    pub(super) fn log(&self, remote: NodeId, datanet: AssetId, from: u64) -> Result<Reply, Turned> {
        let book = self.member_book(remote, datanet)?;
        let head = book.log().head();
        let (mut entries, mut bytes) = (Vec::new(), 0);
        for entry in book.entries().iter().skip(usize::try_from(from).unwrap_or(usize::MAX)) {
            if bytes >= LOG_PAGE_BYTES {
                break;
            }
            let entry = entry.encode();
            bytes += entry.len();
            entries.push(entry);
        }
        let signature = self.author.sign_head(&head).to_vec();
        Ok(Reply::Log { owner: book.log().owner(), entries, length: head.length, hash: head.hash, signature })
    }

    /// Enters what a member says it reads.
    pub(super) fn enter(&self, remote: NodeId, datanet: AssetId, bytes: &[u8]) -> Result<Reply, Turned> {
        let entry = Entry::decode(bytes).map_err(|error| away(error.to_string()))?;
        let tip = self.snapshots.borrow().tip.number;
        if !matches!(entry.entry.event, Event::Read { .. }) || entry.entry.author != remote {
            return Err(away("only reads are entered over the network, each by its own reader"));
        }
        // A block far ahead would keep every later entry out.
        if entry.entry.block > tip.saturating_add(AHEAD_BLOCKS) || entry.entry.block.saturating_add(FRESH_BLOCKS) < tip {
            return Err(away(format!("the entry names block {}, the chain is at {tip}: read anew", entry.entry.block)));
        }
        drop(self.member_book(remote, datanet)?);
        let number = entry.entry.number;
        let entered = seals::change(&self.data, self.author.id(), datanet, |book| Ok(book.append(entry)?));
        entered.map_err(|error| away(format!("{error:#}")))?;
        Ok(Reply::Entered { number })
    }
}
