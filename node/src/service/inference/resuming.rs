//! A client that takes up an answer whose connection broke: who it is, whether there is such an answer, and where its stream goes.
//!
//! Costs a look-up and a verification. Whoever did not sign the attempt's lane learns as much as of an attempt that never was.

use std::time::Duration;

use chain_bridge::lanes;
use inference::proto::{
    message::{Begin, RefusalCode},
    resume::Resume,
};
use p2p::stream::{Loss, StreamError};
use tokio::{
    sync::{mpsc::error::TrySendError, oneshot},
    time::timeout,
};
use types::key::Signed;

use super::{Answering, Broken, Escrow, internal, refuse, seats::Knock, signer, voice::Line};

/// How long a task that answers may take to look up from what it does; a frame that its client does not read is the longest.
const KNOCK_WAIT: Duration = Duration::from_secs(20);

/// How long the chain may take to say what it knows of a session key.
const SESSION_WAIT: Duration = Duration::from_secs(3);

impl Broken {
    /// Whether the client may know nothing of it: its connection fell silent or failed. A reset and a close are a farewell.
    pub(super) const fn is_lost(&self) -> bool {
        matches!(self, Self::Stream(StreamError::Lost(Loss::Silent | Loss::Transport(_))))
    }
}

impl<E: Escrow> Answering<E> {
    /// Where the stream of `asked` is to go.
    pub(super) async fn resume(&self, asked: &Signed<Resume>) -> Result<oneshot::Sender<Line>, Broken> {
        let Resume { node, request, attempt, index } = asked.document;
        let me = self.account.address();
        if node != me {
            return Err(refuse(RefusalCode::Invalid, format!("{node} is asked, this is {me}")));
        }
        let unknown = || refuse(RefusalCode::Unknown, format!("no attempt {attempt} at request {request} was begun here by who asks"));
        let begun = self.books.begun(request, attempt).map_err(internal)?.ok_or_else(unknown)?;
        asked.verify(&self.domains, begun.signer).map_err(|_| unknown())?;
        let id = (request, attempt);
        let ended = || refuse(RefusalCode::Ended, format!("attempt {attempt} at request {request} has ended: ask what became of it"));
        // Its task may still be at the receipt.
        if self.seats.is_expired(id) {
            let why =
                format!("attempt {attempt} at request {request} was kept for its client, and the time ran out: ask what became of it");
            return Err(refuse(RefusalCode::Expired, why));
        }
        let knocks = self.seats.find(id).ok_or_else(ended)?;
        let (reply, verdict) = oneshot::channel();
        knocks.try_send(Knock { index, reply }).map_err(|error| match error {
            TrySendError::Full(_) => refuse(RefusalCode::Busy, "another stream takes this answer up at this moment: ask again in a second"),
            TrySendError::Closed(_) => ended(),
        })?;
        match timeout(KNOCK_WAIT, verdict).await {
            Ok(Ok(Ok(to))) => Ok(to),
            Ok(Ok(Err(refusal))) => Err(refusal.into()),
            Ok(Err(_)) => Err(ended()),
            Err(_) => {
                Err(refuse(RefusalCode::Busy, "the answer has not ended here yet and looks up from nothing: ask again in some seconds"))
            }
        }
    }

    /// Whether an answer that its client has taken up may go on: it is still served, and what pays it can still be collected for certain. Of a session key of
    /// which the chain says nothing in time it is taken that nothing has changed.
    pub(super) async fn admit_again(&self, begin: &Begin) -> Result<(), Broken> {
        let ends = |why: String| refuse(RefusalCode::Ended, format!("{why}; the answer ends with what is paid: ask what became of it"));
        let (payer, head) = (begin.request.document.client, self.head().number);
        match self.offer(begin.request.document.manifest).await {
            Err(Broken::Refused(refusal)) => return Err(ends(refusal.message)),
            offered => offered.map(drop)?,
        }
        lanes::admit(&begin.lane, Some(&begin.lane), &self.domains, payer, signer(begin), self.account.address(), head)
            .map_err(|error| ends(error.to_string()))?;
        let Some(session) = begin.session else { return Ok(()) };
        match timeout(SESSION_WAIT, self.escrow.session(payer, session)).await {
            Ok(Ok(right)) => lanes::admit_session(right, payer, session, head).map(drop).map_err(|error| ends(error.to_string())),
            Ok(Err(_)) | Err(_) => Ok(()),
        }
    }
}
