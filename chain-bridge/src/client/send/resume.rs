//! What an earlier process left: finished under its nonces, and told to whoever asks for the same again instead of sent a second time.

use tokio::time::Instant;
use types::id::Hash32;

use super::{INCLUSION_TIMEOUT, Sender, Sent};
use crate::{
    chain::{Call, error::ChainError},
    client::quote::Quote,
    outbox::Untold,
};

impl Sender {
    /// Finishes what an earlier process left on its way: sends again under the same nonces and waits, [`INCLUSION_TIMEOUT`] for all together. Returns
    /// the finished keys.
    ///
    /// # Errors
    /// [`ChainError`] of the first that fails; the others were tried all the same.
    pub async fn resume(&self) -> Result<Vec<String>, ChainError> {
        let left: Vec<(String, String, Call)> = {
            let kept = self.kept.lock().await;
            let under_way = kept.outbox.waiting().filter(|(_, entry)| entry.included.is_none());
            under_way
                .map(|(key, entry)| {
                    let what = if entry.what.is_empty() { key } else { &entry.what };
                    (key.to_owned(), what.to_owned(), entry.call.clone())
                })
                .collect()
        };
        let deadline = Instant::now() + INCLUSION_TIMEOUT;
        let (mut handed, mut done, mut failed) = (Vec::new(), Vec::new(), None);
        for (key, what, call) in left {
            match self.hand_on(&what, &key, &call).await {
                Ok(hash) => handed.push((key, what, hash)),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        for (key, what, hash) in handed {
            match self.await_until(&what, &key, hash, deadline).await {
                Ok(_) => done.push(key),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(done), Err)
    }

    /// Hands over once more what is written down; nothing new is.
    async fn hand_on(&self, what: &str, key: &str, call: &Call) -> Result<Hash32, ChainError> {
        let mut kept = self.kept.lock().await;
        self.sweep(&mut kept).await?;
        self.hand_over_known(what, key, call, &mut kept).await
    }

    /// Transactions of whose end nobody was told, but those of this process.
    pub async fn untold(&self) -> Vec<Untold> {
        let all = self.kept.lock().await.outbox.untold();
        let told = self.told();
        all.into_iter().filter(|untold| !told.contains(&untold.key)).collect()
    }

    /// What an earlier run of this very command sent as one of `whats`, without telling how it ended: waited for, and told now. Nothing if there is
    /// none, if its contract refused it, or if it is to be sent again.
    ///
    /// # Errors
    /// [`ChainError`].
    pub async fn take_up(&self, whats: &[&str]) -> Result<Option<Sent>, ChainError> {
        let origin = self.origin();
        self.take_up_if(|untold| Some(untold.origin) == origin && whats.contains(&untold.what.as_str())).await
    }

    /// The same of this very call, whoever wanted it.
    pub(super) async fn take_up_call(&self, call: &Call) -> Result<Option<Sent>, ChainError> {
        self.take_up_if(|untold| untold.call == *call).await
    }

    /// Tells of a call that happens once under its key, if an earlier run sent it and did not.
    pub(super) async fn take_up_key(&self, key: &str) -> Result<(), ChainError> {
        self.take_up_if(|untold| untold.key == key).await.map(|_| ())
    }

    async fn take_up_if(&self, is_it: impl Fn(&Untold) -> bool) -> Result<Option<Sent>, ChainError> {
        let Some(approval) = self.approval.get().filter(|approval| !approval.is_rehearsal()) else { return Ok(None) };
        for earlier in self.untold().await.into_iter().filter(is_it) {
            let ended = self.end_of(&earlier).await;
            if let Err(error) = &ended
                && !matches!(error, ChainError::Reverted { .. })
                && !(earlier.ended.is_none() && self.is_given_up(&earlier).await)
            {
                // It may still come: what is asked for is not sent beside it.
                return ended.map(Some);
            }
            let quote = self.quote_of(&earlier, ended.as_ref().ok()).await?;
            approval.resumed(&earlier, &quote, ended.as_ref());
            self.tell(&earlier.key);
            if let Ok(sent) = ended
                && !approval.is_again()
            {
                return Ok(Some(sent));
            }
        }
        Ok(None)
    }

    /// Waits for the end of an earlier transaction.
    async fn end_of(&self, earlier: &Untold) -> Result<Sent, ChainError> {
        if earlier.ended == Some(false) {
            let reason = earlier.transaction.map_or_else(
                || "no copy of it was taken, and none can be".to_owned(),
                |hash| format!("transaction {hash} was included and failed"),
            );
            return Err(ChainError::Reverted { what: earlier.what.clone(), reason, error: None });
        }
        let hash = self.hand_on(&earlier.what, &earlier.key, &earlier.call).await?;
        self.await_inclusion(&earlier.what, &earlier.key, hash).await
    }

    /// Whether the chain refused an earlier transaction for good.
    async fn is_given_up(&self, earlier: &Untold) -> bool {
        matches!(self.kept.lock().await.outbox.place(&earlier.key, &earlier.call), Ok(None))
    }

    /// What an earlier transaction cost, or may cost.
    async fn quote_of(&self, earlier: &Untold, sent: Option<&Sent>) -> Result<Quote, ChainError> {
        Ok(Quote {
            what: earlier.what.clone(),
            account: self.address(),
            call: earlier.call.clone(),
            estimate: sent.map_or(0, |sent| sent.gas_used),
            gas: earlier.gas,
            price: sent.map_or(earlier.fees.most, |sent| sent.gas_price),
            fees: earlier.fees,
            l1_fee: sent.and_then(|sent| sent.l1_fee).unwrap_or_default(),
            operator_fee: types::amount::Amount::ZERO,
            balance: self.rpc.balance(self.address()).await?,
            is_simulated: true,
        })
    }

    /// Notes that somebody was told how this process's transactions ended, and those of earlier runs of the same command. Call it when the result is
    /// printed, not before: who is killed in between is told once more. Returns those of earlier runs that this one had no use for: tell them too.
    ///
    /// # Errors
    /// [`ChainError::OutboxFile`].
    pub async fn reported(&self) -> Result<Vec<Untold>, ChainError> {
        let origin = self.origin();
        let mut kept = self.kept.lock().await;
        let told = self.told();
        let is_told = |untold: &Untold| told.contains(&untold.key) || (Some(untold.origin) == origin && untold.ended.is_some());
        let ended: Vec<Untold> = kept.outbox.untold().into_iter().filter(is_told).collect();
        if ended.is_empty() {
            return Ok(ended);
        }
        ended.iter().for_each(|untold| kept.outbox.reported(&untold.key));
        kept.save()?;
        Ok(ended.into_iter().filter(|untold| !told.contains(&untold.key)).collect())
    }

    /// Fingerprint of the command that this process carries out, if it is one.
    pub(super) fn origin(&self) -> Option<Hash32> {
        self.approval.get().map(|approval| approval.origin())
    }
}
