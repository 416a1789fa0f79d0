//! The witnesses that this node has cosign its own head, so that whoever reads it sees at once that others have seen the same log.
//!
//! A head is made when somebody asks for it, and only where receipts were signed since; then each witness is asked, all at once, for `ASK_WAIT` at most. One
//! that does not answer is not asked again for `PAUSE`, and the head is served without it. At most [`WITNESSES_MAX`] questions a head, however many ask for it.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use attribution::log::{
    checkpoint::Checkpoint,
    note::{Key, Role},
};
use futures::future::join_all;
use reqwest::{Client, redirect::Policy};
use tokio::{sync::Mutex, task::spawn_blocking, time::timeout};
use types::id::NodeId;

use super::ReceiptLog;
use crate::witnessing::{self, Witness};

/// Most witnesses of one log.
pub const WITNESSES_MAX: usize = 16;
/// Longest wait for the witnesses' answers, which whoever asked for the head waits for too.
const ASK_WAIT: Duration = Duration::from_secs(3);
/// How long one is left alone that did not cosign.
const PAUSE: Duration = Duration::from_secs(30);

/// A log's witnesses.
#[derive(Debug)]
pub struct Witnesses {
    of: Vec<Witness>,
    client: Client,
    /// Held while they are asked; since when one is left alone.
    paused: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Witnesses {
    /// These; none are asked of a log without.
    ///
    /// # Errors
    /// That there is no HTTP client.
    pub fn new(of: Vec<Witness>) -> anyhow::Result<Self> {
        let client = Client::builder().timeout(ASK_WAIT).redirect(Policy::none()).build().context("no HTTP client")?;
        Ok(Self { of, client, paused: Mutex::default() })
    }

    /// The newest head with what the witnesses have said of it: those who have said nothing are asked.
    pub async fn cosigned(&self, log: &Arc<ReceiptLog>, signed: Checkpoint) -> Checkpoint {
        if signed.head.size == 0 || self.missing(&signed).next().is_none() {
            return signed;
        }
        let mut paused = self.paused.lock().await;
        // Whoever had the turn before has asked of this head too.
        let signed = log.signed();
        paused.retain(|_, since| since.elapsed() < PAUSE);
        let of = &signed;
        let asked = self.missing(of).filter(|witness| !paused.contains_key(&witness.node)).map(|witness| async move {
            let said = timeout(ASK_WAIT, self.ask(log, of, witness)).await;
            (witness, said.unwrap_or_else(|_| Err(anyhow::anyhow!("it took too long"))))
        });
        for (witness, said) in join_all(asked).await {
            if let Err(error) = said {
                tracing::warn!(%witness, error = format!("{error:#}"), "a witness did not cosign the log's head");
                paused.insert(witness.node, Instant::now());
            }
        }
        log.signed()
    }

    fn missing(&self, signed: &Checkpoint) -> impl Iterator<Item = &Witness> {
        self.of.iter().filter(|witness| signed.note.signed_at(&Key::new(Role::Witness, witness.node)).is_err())
    }

    async fn ask(&self, log: &Arc<ReceiptLog>, signed: &Checkpoint, witness: &Witness) -> anyhow::Result<()> {
        let (head, own) = (signed.head, Arc::clone(log));
        let lines = witnessing::cosign(&self.client, &witness.url, signed, async move |old| {
            Ok(spawn_blocking(move || own.consistency(old, head)).await??)
        });
        let (lines, log, node) = (lines.await?, Arc::clone(log), witness.node);
        spawn_blocking(move || log.keep_cosignature(head, &lines, node)).await??;
        Ok(())
    }
}
