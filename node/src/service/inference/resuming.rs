//! A client that takes up an answer whose connection broke: who it is, whether there is such an answer, and where its stream goes.
//!
//! Costs a look-up and a verification. Whoever did not sign the attempt's lane learns as much as of an attempt that never was.

use std::time::Duration;

use inference::proto::{message::RefusalCode, resume::Resume};
use p2p::stream::{Loss, StreamError};
use tokio::{
    sync::{mpsc::error::TrySendError, oneshot},
    time::timeout,
};
use types::key::Signed;

use super::{Answering, Broken, Escrow, internal, refuse, seats::Knock, voice::Line};

/// How long a task that answers may take to look up from what it does; a frame that its client does not read is the longest.
const KNOCK_WAIT: Duration = Duration::from_secs(20);

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
        let Some(knocks) = self.seats.find(id) else {
            return Err(if self.seats.is_expired(id) {
                let why =
                    format!("attempt {attempt} at request {request} was kept for its client, and the time ran out: ask what became of it");
                refuse(RefusalCode::Expired, why)
            } else {
                ended()
            });
        };
        let (reply, verdict) = oneshot::channel();
        knocks.try_send(Knock::Resume { index, reply }).map_err(|error| match error {
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
}
