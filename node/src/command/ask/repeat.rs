//! Asking under an idempotency key: what decides the answer, and what is kept of it.

use std::sync::{Mutex, PoisonError};

use inference::proto::{
    draft::Draft,
    once::{Content, Known, Record, look},
};
use types::{id::Address, key::Domains, manifest::Manifest, merkle::keccak, options::Options};

use super::{Args, Context, choosing};
use crate::{
    config::Computed,
    notice::now_s,
    purse::{Purse, Slot},
};

/// Longest text that is kept as it is, so that a difference can be shown; of a longer one its hash.
const SHOWN_MAX: usize = 160;

/// A key held by this process, with what is known under it.
pub(in crate::command) struct Once {
    slot: Slot,
    content: Content,
    since_s: u64,
    last: Mutex<Option<Record>>,
}

impl Once {
    /// Takes the key and says what is to be done under it.
    pub(in crate::command) fn open(
        context: &Context,
        domains: &Domains,
        key: &str,
        content: Content,
    ) -> anyhow::Result<(Option<Self>, Known)> {
        let now = now_s();
        let (slot, record) = Purse::open(context.data.path())?.hold_key(domains, key, now)?;
        let known = look(record.clone(), &content, now)?;
        let last = if known == Known::New { None } else { record };
        let since_s = last.as_ref().map_or(now, |record| record.since_s);
        Ok((Some(Self { slot, content, since_s, last: Mutex::new(last) }), known))
    }

    /// Keeps how far the request is.
    pub(in crate::command) fn keep(&self, manifest: &Manifest, draft: &Draft) -> anyhow::Result<()> {
        self.write(Record {
            content: self.content.clone(),
            since_s: self.since_s,
            manifest: manifest.clone(),
            draft: draft.clone(),
            answer: None,
        })
    }

    /// Keeps the answer as it is printed.
    pub(in crate::command) fn answered(&self, answer: &str) -> anyhow::Result<()> {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match last {
            Some(record) => self.write(Record { answer: Some(answer.to_owned()), ..record }),
            None => Ok(()),
        }
    }

    fn write(&self, record: Record) -> anyhow::Result<()> {
        self.slot.keep(&record)?;
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(record);
        Ok(())
    }
}

/// What decides an answer: the same content is the same question.
pub(super) fn content(args: &Args, options: &Options, account: Address) -> Content {
    let short = |text: &str| match text.len() {
        0..=SHOWN_MAX => text.to_owned(),
        long => format!("{long} bytes with hash {}", keccak(&[text.as_bytes()])),
    };
    let said = [
        ("account", Some(account.to_string())),
        ("question", Some(short(&args.question))),
        ("--with", Some(args.with.clone())),
        ("--system", args.system.as_deref().map(short)),
        ("--tokens", Some(args.tokens.to_string())),
        ("--max-fee", args.max_fee.map(|fee| fee.to_string())),
        ("--rate-in", Some(args.rate_in.to_string())),
        ("--rate-out", Some(args.rate_out.to_string())),
        // Left out where it is what was asked for before there was another one.
        ("--profile", (args.profile != Computed::Exact).then(|| args.profile.profile().to_string())),
        ("--open", Some(args.open.to_string())),
        ("--session", args.session.clone()),
    ];
    said.into_iter().chain(choosing::said(options)).filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}
