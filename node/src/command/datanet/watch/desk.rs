//! One contributor's own text, and what it says of answers: `attribution::watch` finds what is missing, `audit prove` proves it by the whole index.

use std::{collections::BTreeMap, sync::Arc};

use anyhow::Context as _;
use attribution::{
    bundle::Bundle,
    index::Index,
    parameters::Parameters,
    span::AttributeError,
    watch::{Mine, Missed, Watched, Wrong, watch},
};
use chain_bridge::registry::{State, state::Accepted};
use serde::Serialize;
use types::{
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, Hash32},
};

use super::super::network::Network;
use crate::{
    chain::Chained,
    command::{
        Context,
        audit::prove::{self, judge},
        index::fetched,
        talk::joining,
    },
    config::Config,
    datanet::{Shards, copies::Copies, local},
    output::table,
    service::index::store::Indexes,
    words,
};

/// Versions of the Datanet whose text is kept in memory.
const VERSIONS_MAX: usize = 4;

/// Something wrong with an answer.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Fault {
    /// Its name in Protocol P7; nothing where the receipt's own evidence hides what it is.
    fault: Option<&'static str>,
    what: &'static str,
    /// The span or mask concerned; nothing where there is none.
    number: Option<u16>,
    /// The contribution whose text it is, by number; nothing for what the contributor never wrote.
    contribution: Option<u64>,
    /// What the answer says there.
    answer: String,
}

impl Fault {
    fn of(missed: &Missed, bundle: &Bundle, own: &[Accepted]) -> Self {
        let (what, number) = match missed.wrong {
            Wrong::Omitted => ("left out", None),
            Wrong::Shortened(number) => ("cut short", Some(number)),
            Wrong::Hidden(number) => ("under a false mask", Some(number)),
            Wrong::Unmasked => ("beside words of the question", None),
            Wrong::Reassigned(number) => ("paid to another", Some(number)),
            Wrong::Later(number) => ("paid to a later holder", Some(number)),
            Wrong::Invented(number) => ("never written", Some(number)),
            Wrong::Unshown(number) => ("paid to another, unshown", Some(number)),
        };
        let place = missed.holder.map(|holder| (holder.block, holder.ordinal));
        let held = own.iter().find(|accepted| Some((accepted.priority.block, accepted.priority.ordinal)) == place);
        let start = usize::try_from(missed.start).unwrap_or(usize::MAX).min(bundle.answer.len());
        let end = start.saturating_add(usize::try_from(missed.length).unwrap_or(usize::MAX)).min(bundle.answer.len());
        let answer = String::from_utf8_lossy(&bundle.answer.as_bytes()[start..end]).into_owned();
        Self { fault: missed.wrong.fault(), what, number, contribution: held.map(|accepted| accepted.number), answer }
    }
}

/// An answer with something wrong, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) receipt: Hash32,
    node: Address,
    missed: Vec<Fault>,
    /// Why masks, or of too long an answer anything, were not looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    unread: Option<String>,
    /// What the whole index shows, and its proof; nothing if that could not be had.
    proof: Option<prove::Printed>,
    /// Why nothing was proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(skip)]
    pub(super) bundle: Box<Bundle>,
}

impl Row {
    /// Whether the answer was searched, and what was found proved as far as it could be.
    pub(super) const fn is_done(&self) -> bool {
        self.problem.is_none()
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let row = |fault: &Fault| {
            vec![
                fault.fault.unwrap_or("-").to_owned(),
                fault.what.to_owned(),
                fault.number.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                fault.contribution.map_or_else(|| "-".to_owned(), |number| number.to_string()),
                format!("{:?}", words::line(&fault.answer.replace(['\n', '\t'], " "))),
            ]
        };
        let rows: Vec<_> = self.missed.iter().map(row).collect();
        let mut text = format!("receipt {} of node {}", self.receipt, self.node);
        if !rows.is_empty() {
            text.push_str(&format!("\n{}", table(&["fault", "what", "number", "contribution", "answer"], &rows)));
        }
        if let Some(unread) = &self.unread {
            text.push_str(&format!("\nnot all of it was looked at: {}", words::line(unread)));
        }
        if let Some(proof) = &self.proof {
            text.push_str(&format!("\nby the whole index: {}", prove::describe(proof)));
        }
        if let Some(problem) = &self.problem {
            text.push_str(&format!("\nnot proved: {}", words::line(problem)));
        }
        text
    }
}

/// A contributor's text in one version of its Datanet.
#[derive(Debug)]
struct Own {
    accepted: Vec<Accepted>,
    index: Index,
}

/// Where answers are looked at.
#[derive(Debug)]
pub(super) struct Desk<'c> {
    context: &'c Context,
    config: Config,
    chain: &'c Chained,
    shards: Shards,
    datanet: AssetId,
    contributor: Address,
    is_sent: bool,
    own: BTreeMap<AssetVersion, Arc<Own>>,
    /// The whole index that was needed last.
    whole: Option<Arc<Index>>,
}

impl<'c> Desk<'c> {
    /// A desk for what `contributor` has in `datanet`; proofs are sent if `is_sent`.
    pub(super) fn new(
        context: &'c Context,
        chain: &'c Chained,
        network: &Network,
        (datanet, contributor): (AssetId, Address),
        bootstrap: Vec<String>,
        is_sent: bool,
    ) -> anyhow::Result<Self> {
        let config = joining(context, bootstrap)?;
        let copies = Copies::of_command(&config.keeping);
        let shards = Shards::new(context.data.clone(), network.overlay.clone(), Arc::clone(&network.bulk), copies);
        Ok(Self { context, config, chain, shards, datanet, contributor, is_sent, own: BTreeMap::new(), whole: None })
    }

    /// The Datanet.
    pub(super) const fn datanet(&self) -> AssetId {
        self.datanet
    }

    /// Whether an answer declares the Datanet.
    pub(super) fn concerns(&self, bundle: &Bundle) -> bool {
        self.version(bundle).is_some()
    }

    fn version(&self, bundle: &Bundle) -> Option<AssetVersion> {
        bundle.manifest.datanets.iter().map(|declared| declared.version).find(|version| version.asset == self.datanet)
    }

    /// Searches an answer, and proves what is wrong with it; nothing if nothing is for the contributor.
    pub(super) async fn look(&mut self, state: &Arc<State>, bundle: Bundle) -> Option<Row> {
        let (missed, unread, proof) = match self.missed(state, &bundle).await {
            Ok((missed, None)) if missed.is_empty() => return None,
            Ok((missed, unread)) => (missed, unread, self.proven(state, &bundle).await),
            Err(error) => (Vec::new(), None, Err(error)),
        };
        let (proof, problem) = match proof {
            Ok(proof) => (Some(proof), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        // Nobody who reads the transcript can look further: there is no use in another try, and none in silence.
        let unread = unread.map(|why| why.to_string());
        let (receipt, node) = (bundle.receipt.document.hash(), bundle.receipt.document.node);
        Some(Row { receipt, node, missed, unread, proof, problem, bundle: Box::new(bundle) })
    }

    async fn missed(&mut self, state: &Arc<State>, bundle: &Bundle) -> anyhow::Result<(Vec<Fault>, Option<AttributeError>)> {
        let id = bundle.receipt.document.parameters;
        let parameters = Parameters::builtin(id).with_context(|| format!("attribution parameters {id} are not in this build"))?;
        let own = self.own(state, self.version(bundle).context("it does not declare the Datanet")?).await?;
        let Watched { missed, unread } = watch(bundle, Mine { account: self.contributor, index: &own.index }, parameters);
        Ok((missed.iter().map(|missed| Fault::of(missed, bundle, &own.accepted)).collect(), unread))
    }

    /// What the contributor has in a version; what is not here is fetched.
    async fn own(&mut self, state: &Arc<State>, version: AssetVersion) -> anyhow::Result<Arc<Own>> {
        if let Some(own) = self.own.get(&version) {
            return Ok(Arc::clone(own));
        }
        let is_own =
            |accepted: &&Accepted| accepted.contributor == self.contributor && state.erasure(accepted.datanet, accepted.number).is_none();
        let accepted: Vec<Accepted> = state.contributions_of(version).filter(is_own).cloned().collect();
        let mut texts = Vec::with_capacity(accepted.len());
        for accepted in &accepted {
            texts.push(match local(&self.context.data, accepted) {
                Ok(Some(found)) => found,
                _ => self.shards.contribution(state, accepted).await?.0,
            });
        }
        let built = tokio::task::spawn_blocking(move || Indexes::over(version, texts, &[])).await??;
        let own = Arc::new(Own { accepted, index: Index::new(vec![Arc::new(built)])? });
        if self.own.len() >= VERSIONS_MAX {
            self.own.pop_first();
        }
        self.own.insert(version, Arc::clone(&own));
        Ok(own)
    }

    /// What the whole index shows of an answer, and the proof of it.
    async fn proven(&mut self, state: &Arc<State>, bundle: &Bundle) -> anyhow::Result<prove::Printed> {
        let root = bundle.receipt.document.index;
        let index = match self.whole.take().filter(|index| index.root() == root) {
            Some(index) => index,
            None => Arc::new(fetched(self.context, &self.config, state, &bundle.manifest).await?),
        };
        self.whole = Some(Arc::clone(&index));
        judge(self.context, self.chain, state, (bundle, index.as_ref(), None), !self.is_sent).await
    }
}
