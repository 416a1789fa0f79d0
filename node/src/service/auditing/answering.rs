//! What auditors ask of this node, and what openers and audited nodes tell it as a witness.
//!
//! The walk is answered once per epoch, to the opener that the draw names; its bytes go to the two witnesses at the same time.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail, ensure};
use p2p::stream::FrameStream;
use storage::proto::audit::{
    Answer, Seed,
    message::{ANSWER_PURPOSE, ASK_BYTES_MAX, Ask, Listed, PAGE, PAGE_BYTES, Reply, SignedAnswer, answer_body},
};
use tokio::time::Instant;
use types::id::{Address, BlobId, Hash32, NodeId};

use super::{Auditing, Mail, auditor::ask, holdings, promises::committed};
use crate::{
    datanet::exchange::{recv_message, send_message},
    service::repair::manifest_of,
};

/// How long an auditor waits for this node to have the beacon's block too: it may be some seconds ahead. Less than it waits for a page.
const BEACON_WAIT: Duration = Duration::from_secs(8);
/// Time between two looks for it.
const LOOK: Duration = Duration::from_millis(100);
/// Longest wait for a witness to take an answer.
const WITNESS_LIMIT: Duration = Duration::from_secs(30);

impl Auditing {
    /// Answers one stream's question.
    ///
    /// # Errors
    /// Those of the stream.
    pub async fn serve(self: &Arc<Self>, remote: NodeId, stream: FrameStream) -> anyhow::Result<()> {
        let (mut sender, mut receiver) = stream.split();
        let bytes = recv_message(&mut receiver, ASK_BYTES_MAX, None).await?;
        let arrived = Instant::now();
        let reply = match Ask::decode(&bytes) {
            Ok(ask) => self.reply(remote, ask, arrived).await.unwrap_or_else(|error| Reply::Refused(format!("{error:#}"))),
            Err(error) => Reply::Refused(error.to_string()),
        };
        send_message(&mut sender, &reply.encode()).await?;
        Ok(())
    }

    async fn reply(self: &Arc<Self>, remote: NodeId, ask: Ask, arrived: Instant) -> anyhow::Result<Reply> {
        if ask == Ask::Ping {
            return Ok(Reply::Here);
        }
        let by = self.keeping.account_of(remote).context("only operators audit")?;
        match ask {
            Ask::Ping => Ok(Reply::Here),
            Ask::Holdings { epoch, from } => self.page(epoch, from).await,
            Ask::Commitment { epoch } => self.commitment(epoch).await,
            Ask::Challenge { epoch, nonce } => self.challenged(by, epoch, nonce).await.map(Box::new).map(Reply::Answer),
            Ask::Opened { epoch, node, nonce } => {
                let opener = self.books().auditors(epoch, node).first().copied();
                // Before the beacon is known here the draw is not; the auditor looks again at who it was.
                ensure!(opener.is_none_or(|opener| opener == by), "{by} does not open the audit of {node}");
                self.post(epoch, node, arrived, Mail::Opened(nonce))
            }
            Ask::Verdict { epoch, node } => {
                let seen = self.books().verdicts(epoch, node)?.into_iter().find(|seen| seen.document.auditor == self.keeping.me());
                seen.map(|seen| Reply::Verdict(Box::new(seen))).with_context(|| format!("nothing was seen of {node} in epoch {epoch} yet"))
            }
            Ask::Answered { epoch, nonce, answer } => {
                check_answer(remote, epoch, nonce, &answer)?;
                self.post(epoch, by, arrived, Mail::Answered(nonce, answer))
            }
        }
    }

    fn post(&self, epoch: u64, node: Address, arrived: Instant, mail: Mail) -> anyhow::Result<Reply> {
        let current = super::OWN | self.keeping.epoch();
        ensure!(epoch.abs_diff(current) <= 1 || self.books().has(epoch), "epoch {epoch} is not now");
        ensure!(self.books().post(epoch, node, (arrived, mail)), "that is not awaited");
        Ok(Reply::Here)
    }

    /// The beacon of an epoch and this node's auditors, once it has the beacon's block.
    async fn drawn(&self, epoch: u64) -> anyhow::Result<(Hash32, Vec<Address>)> {
        let started = Instant::now();
        loop {
            let known = {
                let books = self.books();
                books.beacon(epoch).map(|beacon| (beacon, books.auditors(epoch, self.keeping.me())))
            };
            match known {
                Some(known) => return Ok(known),
                None if started.elapsed() < BEACON_WAIT => tokio::time::sleep(LOOK).await,
                None => bail!("the beacon of epoch {epoch} is not known here yet"),
            }
        }
    }

    /// What this node has committed to. If it has not yet, since it was away when others did, it is bound now: better late than silent.
    async fn commitment(&self, epoch: u64) -> anyhow::Result<Reply> {
        let current = super::OWN | self.keeping.epoch();
        ensure!(epoch == current || self.own_of(epoch).is_some(), "epoch {epoch} is not now");
        let bytes = self.bind(epoch).await?.context("this node does not store")?;
        Ok(Reply::Commitment(Box::new(committed(&bytes)?)))
    }

    /// A page of what this node committed to. Not before it has the beacon itself: who is given the list may challenge, and the clock runs then.
    async fn page(&self, epoch: u64, from: BlobId) -> anyhow::Result<Reply> {
        self.drawn(epoch).await?;
        let own = self.own_of(epoch).with_context(|| format!("this node committed to nothing in epoch {epoch}"))?;
        let entries = own.holdings.entries();
        let first = entries.partition_point(|holding| holding.object < from);
        let (mut page, mut bytes) = (Vec::new(), 0);
        let mut left = entries[first..].iter().peekable();
        while page.len() < PAGE && bytes < PAGE_BYTES {
            let Some(holding) = left.next() else { break };
            let record = self.keeping.record(holding.object)?.context("the record of a fragment is gone")?.encode();
            // One that has rotted since it was listed is another holder's to show, or the list of everything else is not shown either.
            let manifest = manifest_of(&self.keeping, holding.object).await?.encode();
            bytes += record.len() + manifest.len();
            page.push(Listed { record, manifest });
        }
        Ok(Reply::Holdings { page, is_more: left.peek().is_some() })
    }

    /// Walks once from the opener's nonce.
    async fn challenged(self: &Arc<Self>, by: Address, epoch: u64, nonce: Hash32) -> anyhow::Result<SignedAnswer> {
        let me = self.keeping.me();
        let own = self.own_of(epoch).with_context(|| format!("this node committed to nothing in epoch {epoch}"))?;
        let (beacon, auditors) = self.drawn(epoch).await?;
        ensure!(auditors.first() == Some(&by), "{by} does not open this node's audit of epoch {epoch}");
        ensure!(self.books().challenge(epoch, nonce)?, "this node was challenged in epoch {epoch} already");
        let seed = Seed { beacon, node: me, epoch, holdings: own.holdings.root(), nonce };
        let (store, walking) = (self.keeping.store.clone(), Arc::clone(&own));
        let walked = tokio::task::spawn_blocking(move || {
            let mut missing = None;
            let answer = Answer::walk(&seed, &walking.holdings, |holding, place| {
                let shown = holdings::open(&store, holding, place);
                if shown.is_none() {
                    missing = Some((holding.object, holding.fragment));
                }
                shown
            });
            (answer, missing)
        });
        let (answer, missing) = walked.await?;
        if let Some((object, _)) = missing
            && self.keeping.is_void(object)?
        {
            bail!("object {object}, to which this node committed, was proved void since");
        }
        if let Some((object, fragment)) = missing {
            // Not this node's fault, and no answer to be convicted by: its auditors know of the request too.
            if let Some(erased) = self.keeping.erased(object)? {
                bail!("{erased}");
            }
            tracing::error!(%object, fragment, epoch, "an auditor asked for bytes that are damaged here");
            holdings::damage(&self.keeping, object, fragment)?;
        }
        let bytes = answer.encode();
        let signature = self.keeping.seed.sign_chatter(ANSWER_PURPOSE, &answer_body(epoch, nonce, &bytes));
        let answer = SignedAnswer { bytes, signature };
        self.tell_witnesses(epoch, nonce, &answer, &auditors[1..]).await?;
        Ok(answer)
    }

    /// Sends the answer to the witnesses, while the opener is given it.
    async fn tell_witnesses(self: &Arc<Self>, epoch: u64, nonce: Hash32, answer: &SignedAnswer, to: &[Address]) -> anyhow::Result<()> {
        let storers = self.keeping.storers().await?;
        for storer in to.iter().filter_map(|witness| storers.get(witness).copied()) {
            let (auditing, answered) = (Arc::clone(self), Ask::Answered { epoch, nonce, answer: Box::new(answer.clone()) });
            tokio::spawn(async move {
                match ask(&auditing.keeping.bulk, storer.node, storer.addr, &answered, WITNESS_LIMIT).await {
                    Ok(Reply::Here) => {}
                    Ok(reply) => tracing::debug!(witness = %storer.node, ?reply, "a witness did not take an answer"),
                    Err(error) => tracing::debug!(witness = %storer.node, error = format!("{error:#}"), "a witness did not take an answer"),
                }
            });
        }
        Ok(())
    }
}

/// Whether an answer is its node's own word.
pub(super) fn check_answer(node: NodeId, epoch: u64, nonce: Hash32, answer: &SignedAnswer) -> anyhow::Result<()> {
    Ok(p2p::identity::verify_chatter(node, ANSWER_PURPOSE, &answer_body(epoch, nonce, &answer.bytes), &answer.signature)?)
}
