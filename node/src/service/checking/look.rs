//! Looking at one receipt: its transcript from its node, everything in it recomputed with this node's own index, what is false of it proved.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use attribution::{
    bundle::Bundle,
    check::round::Drawn,
    check::{Outcome, Reexecution, Verdict, judge, trace},
    index::{DatanetIndex, Index, ReadError},
    message::{self, Ask, ReceiptItem, Reply},
};
use chain_bridge::registry::State;
use types::{
    encoding::Document as _,
    id::{Address, AssetVersion, Hash32},
    key::Domains,
    manifest::Manifest,
    quote::Class,
    receipt::Finding,
    text::canonical_lossy,
};

use super::Checking;
use crate::{
    evidence::{
        attribution as provable,
        search::{Found, bill_faults, lane_fault},
    },
    service::{
        inference::TOKENS_MAX,
        settlement::{
            ask_bytes,
            sealed::{FetchError, fetch_sealed},
        },
    },
};

/// Proofs of one receipt that are sent: the first takes stake, the others void what nobody is to be paid for.
const PROVED_MAX: usize = 16;

/// What came of a look.
#[derive(Debug)]
pub(super) struct Looked {
    pub(super) outcome: Outcome,
    pub(super) note: Option<String>,
    /// Faults that the chain took proofs of.
    pub(super) proved: Vec<String>,
}

impl Looked {
    fn unable(why: String) -> Self {
        Self { outcome: Outcome::Unable, note: Some(why), proved: Vec::new() }
    }
}

/// Why a receipt was not looked at now.
#[derive(Debug)]
pub(super) enum Missing {
    /// Its node was not reached, or does not answer.
    Silent(anyhow::Error),
    /// It answers, and shows no transcript of the receipt.
    Refused(anyhow::Error),
    /// This node's own books or machine failed: nothing is said of the other one.
    Own(anyhow::Error),
}

impl Missing {
    /// What is said of the receipt if it stays so.
    pub(super) fn looked(&self) -> Looked {
        match self {
            Self::Own(why) => Looked::unable(format!("{why:#}")),
            Self::Silent(why) | Self::Refused(why) => {
                Looked { outcome: Outcome::Withheld, note: Some(format!("{why:#}")), proved: Vec::new() }
            }
        }
    }
}

/// What there is of a receipt to look at.
#[derive(Debug)]
pub(super) enum Shown {
    /// Its transcript.
    Bundle(Box<Bundle>),
    /// Nothing that this node may see, and why.
    Nothing(String),
}

/// The receipts of the node that was looked at last: a round's checks come node by node, and reading a root's receipts takes longer than a check.
pub(super) type Items = Option<(Address, Vec<ReceiptItem>)>;

impl Checking {
    /// What a receipt's node shows of it.
    ///
    /// # Errors
    /// [`Missing`]: what kept its transcript from coming, which may come later.
    pub(super) async fn shown(&self, state: &Arc<State>, epoch: u64, drawn: &Drawn, items: &mut Items) -> Result<Shown, Missing> {
        let item = self.item(state, epoch, drawn, items).await.map_err(Missing::Own)?;
        let bundle = match item.receipt.document.class {
            Class::Open => self.published(state, epoch, drawn, &item).await?,
            Class::Checked => self.sealed(state, epoch, drawn, &item).await?,
            Class::Sealed => return Ok(Shown::Nothing("its class is sealed: nobody but the client sees it".to_owned())),
        };
        Ok(Shown::Bundle(Box::new(bundle)))
    }

    /// The receipt that was drawn, as its node has put it under its root.
    async fn item(&self, state: &Arc<State>, epoch: u64, drawn: &Drawn, items: &mut Items) -> anyhow::Result<ReceiptItem> {
        if items.as_ref().is_none_or(|(node, _)| *node != drawn.node) {
            let root = state.epoch(epoch).and_then(|epoch| epoch.roots.get(&drawn.node).copied()).context("its root is gone")?;
            *items = Some((drawn.node, self.settling.receipts_of(state, drawn.node, epoch, &root).await?));
        }
        let (_, items) = items.as_ref().context("just put there")?;
        let item = items.get(usize::try_from(drawn.index)?).filter(|item| item.receipt.document.hash() == drawn.receipt);
        // A root that took another's place: what is said of one receipt is not to be said of another.
        item.cloned().context("another receipt stands in its place under its node's root now")
    }

    /// Looks at what was shown of a receipt.
    ///
    /// # Errors
    /// That this node could not look.
    pub(super) async fn look(&self, state: &Arc<State>, epoch: u64, shown: Shown) -> anyhow::Result<Looked> {
        let bundle = match shown {
            Shown::Bundle(bundle) => *bundle,
            Shown::Nothing(why) => return Ok(Looked::unable(why)),
        };
        let Some(index) = self.index(&bundle.manifest).await else {
            return Ok(Looked::unable("this node does not have the index that the answer was attributed by".to_owned()));
        };
        let again = self.again(&bundle).await?;
        let (verdict, digest, faults) = self.judged(state, bundle, Arc::clone(&index), again).await?;
        // What was not found there may stand there, and a digest of it is another than everybody else's.
        if let Err(written) = index.check_unwritten() {
            self.set_aside(&written).await;
            return Ok(Looked::unable(written.to_string()));
        }
        let mut proved = Vec::new();
        for fault in faults.into_iter().take(PROVED_MAX) {
            let Found { fault, why, accused, proof } = fault;
            match self.settling.chain.send_proof(accused, &proof).await {
                Ok((_, sent)) => {
                    tracing::warn!(epoch, node = %accused, fault, why, transaction = %sent.transaction, "a fault was proven");
                    proved.push(format!("{fault}: {why}"));
                }
                // Somebody was faster, or it shows what costs nothing any more.
                Err(error) => tracing::info!(epoch, node = %accused, fault, why, %error, "a fault was found and not proven"),
            }
        }
        let note = (verdict.finding != Finding::Agrees && proved.is_empty())
            .then(|| "no proof of it was taken from this node: somebody was faster, or there is none".to_owned());
        Ok(Looked { outcome: Outcome::judged(verdict, digest), note, proved })
    }

    /// The bundle of an open answer, from its node.
    async fn published(&self, state: &State, epoch: u64, drawn: &Drawn, item: &ReceiptItem) -> Result<Bundle, Missing> {
        let (client, connection) = self.settling.connect(state, drawn.node).await.map_err(Missing::Silent)?;
        let answer = ask_bytes(&connection, Ask::Transcripts { epoch, from: drawn.index }).await;
        client.close(p2p::stream::code::SHUTDOWN).await;
        read(&answer.map_err(Missing::Silent)?, item, &self.settling.deployment.domains()).map_err(Missing::Refused)
    }

    /// The bundle of a checked answer, from its node, which reckons by itself that this one was drawn.
    async fn sealed(&self, state: &State, epoch: u64, drawn: &Drawn, item: &ReceiptItem) -> Result<Bundle, Missing> {
        let (account, domains) = (&self.settling.account, self.settling.deployment.domains());
        let (client, connection) = self.settling.connect(state, drawn.node).await.map_err(Missing::Silent)?;
        let fetched = fetch_sealed(&connection, account, &domains, epoch, &item.receipt).await;
        client.close(p2p::stream::code::SHUTDOWN).await;
        fetched.map_err(|error| match error {
            FetchError::Unanswered(_) => Missing::Silent(error.into()),
            FetchError::Withheld(_) | FetchError::Opens(_) => Missing::Refused(error.into()),
        })
    }

    /// The index over a manifest's Datanets: as this node answers under it, or put together from what it answers under.
    async fn index(&self, manifest: &Manifest) -> Option<Arc<Index>> {
        let offers = self.offers.read().await;
        if let Some(offer) = offers.get(&manifest.root()) {
            return Some(Arc::clone(&offer.index));
        }
        let held = |version: AssetVersion| -> Option<Arc<DatanetIndex>> {
            let known = offers.values().flat_map(|offer| offer.manifest.datanets.iter().zip(offer.index.datanets()));
            let mut of_version = known.filter(|(datanet, _)| datanet.version == version);
            of_version.next().map(|(_, index)| Arc::clone(index))
        };
        let parts = manifest.datanets.iter().map(|datanet| held(datanet.version)).collect::<Option<Vec<_>>>()?;
        Index::new(parts).ok().filter(|index| index.root() == manifest.index).map(Arc::new)
    }

    /// Nothing is answered from a segment that was written to before it is read whole again.
    async fn set_aside(&self, written: &ReadError) {
        if let (ReadError::Written { segment, .. }, Some(offer)) = (written, self.offers.read().await.values().next()) {
            offer.indexes.suspect(*segment);
        }
    }

    /// The answer as its tokens spell it, where this node has the model. Whether the model gives these tokens is not asked here: `audit check` executes it again.
    async fn again(&self, bundle: &Bundle) -> anyhow::Result<Reexecution> {
        let is_served = self.offers.read().await.contains_key(&bundle.manifest.root());
        let options = bundle.request.document.asked(&bundle.options.0).ok();
        let spelled = self.engine.clone().zip(options).filter(|_| is_served && is_spellable(bundle));
        let answer = match spelled {
            None => bundle.answer.clone(),
            Some((engine, options)) => {
                let (continued, tokens) = (bundle.continued.clone(), bundle.token_ids.clone());
                let spell = move || canonical_lossy(&engine.text(&options.stop, &continued, &tokens));
                tokio::task::spawn_blocking(spell).await?
            }
        };
        Ok(Reexecution { wrong_token: None, far_from: None, answer, tokens_in: None })
    }

    /// What is found, the digest of having looked, and what can be proved.
    async fn judged(
        &self,
        state: &Arc<State>,
        bundle: Bundle,
        index: Arc<Index>,
        again: Reexecution,
    ) -> anyhow::Result<(Verdict, Hash32, Vec<Found>)> {
        let (state, deployment, me) = (Arc::clone(state), self.settling.deployment.clone(), self.settling.account.address());
        let judging = move || {
            let verdict = judge(&bundle, &index, &again);
            let digest = trace(me, &bundle, &index, &again, verdict);
            let node = bundle.receipt.document.node;
            let mut faults = Vec::new();
            if verdict.finding != Finding::Agrees {
                // What cannot be searched is reported all the same.
                let found = provable::find(&bundle, &index, Vec::new()).map_or_else(|_| Vec::new(), |searched| searched.found);
                let of =
                    |found: provable::Found| Found { fault: found.fault.fault, why: found.fault.why, accused: node, proof: found.proof };
                faults.extend(found.into_iter().map(of));
                let item = ReceiptItem::new(bundle.receipt.clone(), &bundle.quote.document, &bundle.manifest);
                // A receipt that is void by one broken rule is void.
                faults.extend(bill_faults(&state, &deployment, &item).into_iter().take(1));
                faults.extend(lane_fault(&state, &deployment, &bundle.receipt, &bundle.lane.document));
            }
            (verdict, digest, faults)
        };
        Ok(tokio::task::spawn_blocking(judging).await?)
    }
}

/// The bundle in the answer of a receipt's node.
fn read(answer: &[u8], item: &ReceiptItem, domains: &Domains) -> anyhow::Result<Bundle> {
    let transcript = match message::decode(answer)? {
        Reply::Transcripts(page) => page.into_iter().next().context("it shows no transcript of it")?,
        Reply::Refused(why) => bail!("it refuses: {why}"),
        _ => bail!("it answered something else than transcripts"),
    };
    Ok(transcript.read(&item.receipt, domains)?)
}

/// Whether a bundle lists no more tokens than an answer has. Its lists are its node's: a token takes two bytes there and spells some hundred.
fn is_spellable(bundle: &Bundle) -> bool {
    let most = usize::try_from(TOKENS_MAX).unwrap_or(usize::MAX);
    bundle.continued.len().saturating_add(bundle.token_ids.len()) <= most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_here_is_said_of_no_other_node() {
        let why = || anyhow::anyhow!("the disk is full");
        assert_eq!(Missing::Own(why()).looked().outcome, Outcome::Unable);
        for missing in [Missing::Silent(why()), Missing::Refused(why())] {
            let looked = missing.looked();
            assert_eq!((looked.outcome, looked.note.as_deref()), (Outcome::Withheld, Some("the disk is full")));
        }
    }
}
