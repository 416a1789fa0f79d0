//! One question on its way: with which means, at which nodes, under which idempotency key.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use chain_bridge::lanes;
use inference::{
    proto::{draft::Draft, message::Turn, once::Known, spending::Caps},
    sampler::Stops,
};
use p2p::{
    client::{Client, Limits},
    identity::NodeSeed,
};
use tokio::{sync::mpsc, time::timeout};
use types::{amount::Amount, manifest::Manifest, merkle::keccak, quote::Class, text::canonical_document};

use super::{
    Inner, Prepared, locked,
    noting::Noting,
    passing::Passing,
    telling::{Given, NoNode, NotTold, again, empty, failed, finished},
};
use crate::{
    api::{
        Refusal,
        source::{Ask, Choosing, Event, Finished, Message, Role},
    },
    ask::{Asker, Listener as _, Question},
    command::ask::{LANE_BLOCKS, MAX_FEE, NoneFits, Wanted, candidates, known, reckon, repeat::Once},
    config::{Computed, Spending},
    purse::{LaneTerms, Purse},
    service::settlement::loopback_any,
};

/// Between two looks at attempts without a receipt.
const RECALL: Duration = Duration::from_secs(60);

/// Who signs, and what that allows now.
pub(super) struct Means {
    caps: Caps,
    expiry: u64,
    now: u64,
}

impl Inner {
    async fn means(&self) -> anyhow::Result<Means> {
        let now = self.snapshots.borrow().tip.number;
        let Spending { per_request, per_day, per_key } = self.spending;
        let (caps, expiry) = (Caps { per_request, per_day, per_key }, now.saturating_add(LANE_BLOCKS));
        let signer = self.signer.address();
        if signer == self.payer {
            return Ok(Means { caps, expiry, now });
        }
        let right = self.chain.client.session_of(self.payer, signer).await?;
        let left = lanes::admit_session(right, self.payer, signer, now).context("the gateway's session")?;
        ensure!(left > Amount::ZERO, "the gateway's session is used up: raise its cap with `tributary wallet session add`");
        let right = right.context("a session that is admitted is known")?;
        let per_key = caps.per_key.map_or(right.cap, |cap| cap.min(right.cap));
        Ok(Means { caps: Caps { per_key: Some(per_key), ..caps }, expiry: expiry.min(right.expiry), now })
    }

    fn max_fee(&self) -> Amount {
        self.serve.max_fee.unwrap_or_else(|| self.spending.per_request.map_or(MAX_FEE, |cap| cap.min(MAX_FEE)))
    }

    /// A client that asks with these means, through a socket that reaches `peer`.
    fn asker(&self, means: &Means, peer: SocketAddr) -> anyhow::Result<Asker> {
        let own = loopback_any(peer);
        let mut sockets = locked(&self.sockets);
        let quic = match sockets.get(&own) {
            Some(client) => client.clone(),
            None => {
                let client = Client::bind(own, &NodeSeed::generate(), Limits::default())?;
                sockets.insert(own, client.clone());
                client
            }
        };
        Ok(Asker {
            payer: self.payer,
            signer: self.signer.clone(),
            caps: means.caps,
            domains: self.domains,
            purse: Purse::open(self.context.data.path())?,
            receipts: self.context.data.receipts(),
            failures: self.context.data.failures(),
            quic,
            lanes: LaneTerms { cap: Amount(self.max_fee().0.saturating_mul(50)), expiry: means.expiry, now: means.now },
        })
    }

    /// Asks until there is an answer; its tokens go to `to` as they come.
    pub(super) async fn answer(&self, prepared: &Prepared, to: &mpsc::Sender<Event>) -> Result<Finished, Refusal> {
        let (once, known) = self.once(&prepared.ask).map_err(|error| failed(&error))?;
        let is_told = prepared.ask.choosing.told.is_some();
        let begun = match known {
            // A beginning without its logarithms would not be what was asked for.
            Known::Answered(_) if is_told => return Err(failed(&NotTold.into())),
            Known::Begun(record) if is_told && !record.draft.tokens().is_empty() => return Err(failed(&NotTold.into())),
            Known::Answered(text) => return again(&text, to).await.map_err(|error| failed(&error)),
            Known::Begun(record) => Some(*record),
            Known::New => None,
        };
        let (manifest, draft) = match begun {
            Some(record) => (record.manifest, Some(record.draft)),
            None => (prepared.manifest.clone(), None),
        };
        self.ask(prepared, manifest, draft, once.as_ref(), to).await.map_err(|error| failed(&error))
    }

    async fn ask(
        &self,
        prepared: &Prepared,
        manifest: Manifest,
        begun: Option<Draft>,
        once: Option<&Once>,
        to: &mpsc::Sender<Event>,
    ) -> anyhow::Result<Finished> {
        let means = self.means().await?;
        let (state, tokens_max, profile) = (&prepared.state, prepared.ask.tokens_max, self.serve.profile.profile());
        let wanted = Wanted { profile, tokens: tokens_max, client: self.payer };
        let preference = self.serve.routing.preference((self.serve.rate_in, self.serve.rate_out));
        let mut found = known(&self.overlay, state, &manifest, wanted, &preference, &self.experience).await?;
        if found.is_empty() {
            let waited = candidates(&self.overlay, state, &manifest, wanted, &preference, &self.experience).await;
            found = waited.map_err(|error| if error.is::<NoneFits>() { error } else { NoNode.into() })?;
        }
        let asker = self.asker(&means, found.first().context(NoNode)?.addr)?;
        let nonce = match &begun {
            Some(draft) => draft.request().document.nonce,
            None => asker.purse.next_nonce()?,
        };
        let question = Question {
            nonce,
            turns: prepared.turns.clone(),
            manifest,
            profile,
            class: if self.serve.open { Class::Open } else { Class::Checked },
            options: prepared.ask.choosing.options.clone(),
            tokens_max,
            spending_limit: self.max_fee(),
            rates_max: (self.serve.rate_in, self.serve.rate_out),
            is_padded: self.serve.padded,
        };
        let (draft, recalled) = match begun {
            Some(draft) => {
                let recalled = asker.recall(Some(draft.request().document.id())).await?;
                (draft, recalled)
            }
            None => (asker.sign(&question)?, Vec::new()),
        };
        let mut passing = Passing::new(to, Stops::new(&question.options.stop).push(draft.bytes()).bytes);
        passing.ready().await;
        let mut keep = |draft: &Draft| once.map_or(Ok(()), |once| once.keep(&question.manifest, draft));
        let mut noting = Noting::new(&self.experience, &mut passing);
        let answered = asker.go_on(&question, draft, &recalled, &found, &mut keep, &mut noting).await;
        noting.ended(answered.is_ok());
        passing.ready().await;
        let (finished, text) = match answered {
            Ok(answered) => (finished(&answered)?, answered.text),
            Err(error) => (error.downcast_ref().and_then(empty).ok_or(error)?, String::new()),
        };
        if let Some(once) = once {
            let Finished { reason, usage, settled } = finished.clone();
            once.answered(&serde_json::to_string(&Given { text, reason, usage, settled })?)?;
        }
        Ok(finished)
    }

    /// Takes the question's idempotency key, if it has one.
    fn once(&self, ask: &Ask) -> anyhow::Result<(Option<Once>, Known)> {
        let Some(key) = &ask.once else { return Ok((None, Known::New)) };
        let mut said = Vec::new();
        for Message { role, content } in &ask.messages {
            said.push(code(*role));
            said.extend_from_slice(&u64::try_from(content.len())?.to_be_bytes());
            said.extend_from_slice(content.as_bytes());
        }
        let Choosing { options, told, seed } = &ask.choosing;
        let content = [
            ("account", self.payer.to_string()),
            ("model", ask.model.clone()),
            ("messages", keccak(&[&said]).to_string()),
            ("tokens", ask.tokens_max.to_string()),
            ("options", keccak(&[&options.encode(), format!("{told:?} {seed:?}").as_bytes()]).to_string()),
        ];
        let mut content: BTreeMap<String, String> = content.map(|(name, value)| (name.to_owned(), value)).into();
        // Left out where it is what was asked for before there was another one.
        if self.serve.profile != Computed::Exact {
            content.insert("profile".to_owned(), self.serve.profile.profile().to_string());
        }
        Once::open(&self.context, &self.domains, key, content)
    }

    /// Asks what became of attempts that were left, until the gateway stops.
    pub(super) async fn keep_books(self: Arc<Self>) {
        loop {
            let looked = tokio::select! {
                () = self.stop.cancelled() => return,
                looked = self.look() => looked,
            };
            if let Err(error) = looked {
                tracing::info!(error = format!("{error:#}"), "attempts that were left could not be asked about");
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = timeout(RECALL, self.left.notified()) => {}
            }
        }
    }

    async fn look(&self) -> anyhow::Result<()> {
        let purse = Purse::open(self.context.data.path())?;
        reckon(&purse, &self.chain, &self.domains).await?;
        let Some((left, _)) = purse.lefts(&self.domains)?.into_iter().next() else { return Ok(()) };
        for recalled in self.asker(&self.means().await?, left.addr)?.recall(None).await? {
            tracing::info!(word = %recalled.describe(), "an attempt that was left");
        }
        Ok(())
    }
}

const fn code(role: Role) -> u8 {
    match role {
        Role::System => 1,
        Role::User => 2,
        Role::Assistant => 3,
    }
}

pub(super) fn turn(number: usize, message: &Message) -> Result<Turn, Refusal> {
    let content = canonical_document(message.content.as_bytes()).map_err(|error| {
        let place = format!("messages[{number}].content");
        Refusal::field(place.clone(), "invalid_value", format!("{place}: {error}"))
    })?;
    Ok(Turn { role: code(message.role), content })
}
