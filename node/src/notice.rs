//! Failure notices: why an answer ended unbilled or billed in part, what was charged, and on whose word.
//!
//! One file per question in the data folder's `failures`, beside `receipts`; the newest `NOTICES_MAX` are kept. What a node signed (a receipt with fee
//! 0) is in its notice.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use inference::proto::draft::{Cause, Draft, End};
use serde::{Deserialize, Serialize};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
    key::Signed,
    receipt::Receipt,
};

use crate::{
    data::{read_bounded, write_atomic},
    output::money,
    purse::Left,
    words,
};

/// Notices kept; they have about a kilobyte each.
const NOTICES_MAX: usize = 1_000;
/// Largest notice read.
const FILE_MAX: u64 = 1 << 20;

/// Why an answer, or part of it, was not billed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notice {
    /// Request id.
    pub request: Hash32,
    /// Seconds since 1970.
    pub at_s: u64,
    /// Whether the question was answered in the end.
    pub is_answered: bool,
    /// Output tokens received in all.
    pub tokens: usize,
    /// What receipts charge for it; 0 if there is none.
    pub charged_wei: Amount,
    /// Promised to nodes whose receipt never came: up to this much more may be collected.
    pub promised_wei: Amount,
    /// Attempts without a receipt that bills, oldest first.
    pub failed: Vec<Failed>,
    /// The receipts with fee 0 that nodes signed for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signed: Vec<Signed<Receipt>>,
}

/// One attempt that brought no receipt that bills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Failed {
    /// The node's account.
    pub node: Address,
    /// Its number in the request.
    pub attempt: usize,
    /// Why, as a code.
    pub cause: Cause,
    /// The code in words.
    pub words: String,
    /// With particulars.
    pub why: String,
    /// Output tokens that came in it.
    pub tokens: usize,
    /// What may be charged for it at most: 0, or what was promised.
    pub charged_at_most_wei: Amount,
    /// Whether the node signed that it charges nothing; else only this client saw it.
    pub is_signed: bool,
    /// What was tried next: the account of the node, nothing if there was none.
    pub next: Option<Address>,
}

impl Notice {
    /// What is to be said of a request that has ended; nothing if every attempt was billed.
    pub fn of(draft: &Draft, is_answered: bool, signed: Vec<Signed<Receipt>>) -> Option<Self> {
        let tries = draft.tries();
        let failed = tries.iter().enumerate().filter_map(|(attempt, one)| {
            let Some(End::Failed { cause, why, is_signed }) = &one.end else { return None };
            let next = tries.get(attempt + 1);
            let first = usize::try_from(one.first_token).unwrap_or(usize::MAX);
            let end = next.map_or_else(|| draft.tokens().len(), |next| usize::try_from(next.first_token).unwrap_or(usize::MAX));
            Some(Failed {
                node: one.node,
                attempt,
                cause: *cause,
                words: cause.words().to_owned(),
                why: why.clone(),
                tokens: end.saturating_sub(first),
                charged_at_most_wei: one.cost(),
                is_signed: *is_signed,
                next: next.map(|next| next.node),
            })
        });
        let failed: Vec<Failed> = failed.collect();
        if failed.is_empty() {
            return None;
        }
        let sum = |amounts: &mut dyn Iterator<Item = Amount>| Amount(amounts.fold(0_u128, |sum, amount| sum.saturating_add(amount.0)));
        let fees = tries.iter().filter_map(|one| match one.end {
            Some(End::Receipt { fee }) => Some(fee),
            _ => None,
        });
        Some(Self {
            request: draft.request().document.id(),
            at_s: now_s(),
            is_answered,
            tokens: draft.tokens().len(),
            charged_wei: sum(&mut fees.into_iter()),
            promised_wei: sum(&mut failed.iter().map(|one| one.charged_at_most_wei)),
            failed,
            signed,
        })
    }

    /// Of an attempt that an earlier process was cut off from, and whose node has signed since that it charges nothing.
    pub fn recalled(left: &Left, receipt: Signed<Receipt>) -> Self {
        let cause = Cause::Interrupted;
        let failed = Failed {
            node: left.account,
            attempt: usize::from(left.attempt),
            cause,
            words: cause.words().to_owned(),
            why: format!("asked later, the node gave receipt {} with fee 0", receipt.document.hash()),
            tokens: 0,
            charged_at_most_wei: Amount::ZERO,
            is_signed: true,
            next: None,
        };
        Self {
            request: left.request,
            at_s: now_s(),
            is_answered: false,
            tokens: 0,
            charged_wei: Amount::ZERO,
            promised_wei: Amount::ZERO,
            failed: vec![failed],
            signed: vec![receipt],
        }
    }

    /// For people.
    pub fn describe(&self) -> String {
        let mut lines = vec![format!(
            "request {}: {}, {} tokens, {} charged{}",
            self.request,
            if self.is_answered { "answered in the end" } else { "not answered" },
            self.tokens,
            money(self.charged_wei),
            if self.promised_wei > Amount::ZERO {
                format!(", up to {} more promised to nodes that gave no receipt", money(self.promised_wei))
            } else {
                String::new()
            }
        )];
        for one in &self.failed {
            let charge = match (one.is_signed, one.charged_at_most_wei) {
                (true, _) => "nothing is charged, the node signed that".to_owned(),
                (false, Amount::ZERO) => "nothing was promised, so nothing can be charged".to_owned(),
                (false, most) => format!("up to {} was promised and may be charged", money(most)),
            };
            let next = one.next.map_or_else(|| "nothing was tried after it".to_owned(), |node| format!("{node} was asked next"));
            let word = if one.is_signed { "" } else { ", as this client saw it" };
            let (what, why) = (words::line(&one.words), words::line(&one.why));
            lines.push(format!("  {}: {what} ({why}){word}; {} tokens came; {charge}; {next}", one.node, one.tokens));
        }
        lines.join("\n")
    }

    /// Keeps it in `folder`; returns where.
    pub fn keep(&self, folder: &Path) -> anyhow::Result<PathBuf> {
        // Two attempts of one request may be told of in one second: the word on each is kept.
        let attempts = self.failed.iter().map(|one| format!("-{}", one.attempt)).collect::<String>();
        let path = folder.join(format!("{:012}-{}{attempts}.json", self.at_s, hex::encode(&self.request.0[..8])));
        write_atomic(&path, &serde_json::to_vec_pretty(self)?, 0o600).with_context(|| path.display().to_string())?;
        prune(folder, NOTICES_MAX)?;
        Ok(path)
    }
}

fn prune(folder: &Path, most: usize) -> anyhow::Result<()> {
    let files = files(folder)?;
    for old in files.iter().take(files.len().saturating_sub(most)) {
        // Another process may have dropped it already.
        drop(fs::remove_file(old));
    }
    Ok(())
}

/// The newest notices in `folder`, at most `most`, newest first.
pub fn newest(folder: &Path, most: usize) -> anyhow::Result<Vec<Notice>> {
    let read = |path: &PathBuf| {
        let bytes = read_bounded(path, FILE_MAX).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged failure notice", path.display()))
    };
    files(folder)?.iter().rev().take(most).map(read).collect()
}

/// Notices by name, which begins with their time: oldest first.
fn files(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !folder.try_exists().with_context(|| folder.display().to_string())? {
        return Ok(Vec::new());
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Seconds since 1970 by the system's clock.
pub fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use types::{
        key::{Account, Domains},
        quote::{Class, Profile},
        request::{Request, SamplingRule},
    };

    use super::*;

    fn draft(nonce: u64) -> Draft {
        let account = Account::from_bytes(&[5; 32]).unwrap();
        let domains = Domains {
            chain_id: 1,
            escrow: Address([1; 20]),
            registry: Address([2; 20]),
            settlement: Address([3; 20]),
            stake: Address([4; 20]),
        };
        let request = Request {
            client: account.address(),
            nonce,
            manifest: Hash32([2; 32]),
            rate_in_max: Amount(1),
            rate_out_max: Amount(1),
            profile: Profile::Exact,
            class: Class::Open,
            sampling: SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: Hash32([4; 32]),
            tokens_max: 5,
            spending_limit: Amount(900),
        };
        Draft::new(Signed::new(&account, &domains, request), Hash32([9; 32]))
    }

    #[test]
    fn a_notice_says_why_what_it_costs_on_whose_word_and_what_came_next() {
        let mut draft = draft(1);
        let node = |byte| Address([byte; 20]);
        draft.begin(node(1)).unwrap();
        draft.token(7, b"a");
        draft.token(8, b"b");
        draft.promise(Amount(30));
        draft.fail(Cause::Silent, "it sent nothing for 60 s", false);
        draft.begin(node(2)).unwrap();
        draft.promise(Amount(40));
        draft.fail(Cause::EngineFailure, "its receipt says so", true);
        draft.begin(node(3)).unwrap();
        draft.token(9, b"c");
        draft.receipt(Amount(11));
        let notice = Notice::of(&draft, true, vec![]).unwrap();
        assert_eq!((notice.charged_wei, notice.promised_wei, notice.tokens), (Amount(11), Amount(30), 3));
        let rows: Vec<_> = notice.failed.iter().map(|one| (one.tokens, one.charged_at_most_wei, one.is_signed, one.next)).collect();
        assert_eq!(rows, [(2, Amount(30), false, Some(node(2))), (0, Amount::ZERO, true, Some(node(3)))]);
        let text = notice.describe();
        for words in [
            "nothing came in time",
            "up to 0.00000000000000003 OPEN was promised",
            "as this client saw it",
            "the node signed that",
            "was asked next",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        let json = serde_json::to_value(&notice).unwrap();
        assert_eq!((&json["failed"][0]["cause"], &json["charged_wei"]), (&"silent".into(), &"11".into()));
    }

    #[test]
    fn what_was_billed_at_once_needs_no_notice() {
        let mut draft = draft(1);
        draft.begin(Address([1; 20])).unwrap();
        draft.receipt(Amount(3));
        assert_eq!(Notice::of(&draft, true, vec![]), None);
    }

    #[test]
    fn the_newest_are_kept_and_listed_first() {
        let folder = tempfile::tempdir().unwrap();
        assert!(newest(&folder.path().join("none"), 5).unwrap().is_empty());
        for number in 0..9 {
            let mut draft = draft(number);
            draft.begin(Address([1; 20])).unwrap();
            draft.fail(Cause::Refused, "no", false);
            let notice = Notice { at_s: 1_000 + number, ..Notice::of(&draft, false, vec![]).unwrap() };
            notice.keep(folder.path()).unwrap();
        }
        prune(folder.path(), 4).unwrap();
        let times = |most| newest(folder.path(), most).unwrap().iter().map(|notice| notice.at_s).collect::<Vec<_>>();
        assert_eq!((times(usize::MAX), times(1)), (vec![1_008, 1_007, 1_006, 1_005], vec![1_008]));
    }
}
