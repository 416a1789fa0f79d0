//! Whether an answer may begin, and what it may cost: everything the client signed is checked, and as much of its deposit set aside as it can need.

use chain_bridge::lanes;
use inference::proto::{
    message::{Begin, RefusalCode},
    payment::{Terms, match_quote},
};
use types::{
    amount::Amount,
    id::Address,
    key::Signed,
    options::{Options, OptionsError},
    quote::{Profile, Quote},
    text,
    voucher::Lane,
};

use super::{Answering, Broken, Escrow, Offer, internal, refuse, signer};
use crate::{books::Held, evidence};

impl<E: Escrow> Answering<E> {
    /// Two receipts of one request must cover different tokens (F3), whatever a client signs: what was billed here is not billed again.
    pub(super) fn admit_continuation(&self, begin: &Begin) -> Result<(), Broken> {
        let request = begin.request.document.id();
        let billed = self.books.billed_to(request).map_err(internal)?;
        if billed > 0 && begin.continued.len() < usize::try_from(billed).map_err(internal)? {
            return Err(refuse(
                RefusalCode::Duplicate,
                format!("request {request} was billed here up to token {billed}: continue from there, or sign a new request"),
            ));
        }
        Ok(())
    }

    /// Whether this node computes under `profile`.
    pub(super) fn admit_profile(&self, profile: Profile) -> Result<(), Broken> {
        let own = self.profile();
        if profile == own {
            return Ok(());
        }
        Err(refuse(
            RefusalCode::NotServed,
            format!("this node answers in the profile {own}, not in {profile}: ask for {own}, or another node"),
        ))
    }

    /// What is asked of sampling, if it is what the client signed and this node can do it.
    fn admit_options(&self, begin: &Begin) -> Result<Options, Broken> {
        let options = begin.request.document.asked(&begin.options.0).map_err(|e| refuse(RefusalCode::Invalid, e.to_string()))?;
        let vocabulary = self.engine.info().config.vocabulary;
        options.check(vocabulary).map_err(|error| match error {
            OptionsError::Engine { .. } => refuse(RefusalCode::NotServed, error.to_string()),
            _ => refuse(RefusalCode::Invalid, error.to_string()),
        })?;
        Ok(options)
    }

    /// Checks everything the client signed; what it asks of sampling. What this node made on the same stream, or verified for an earlier answer, is not
    /// verified again.
    pub(super) fn admit(
        &self,
        begin: &Begin,
        offer: &Offer,
        quoted: Option<&Signed<Quote>>,
        known: Option<&Signed<Lane>>,
    ) -> Result<Options, Broken> {
        let (request, quote) = (&begin.request.document, &begin.quote.document);
        let invalid = |why: String| refuse(RefusalCode::Invalid, why);
        let me = self.account.address();
        let head = self.head();
        // Whether a session key is live is asked of the escrow before anything is served.
        let by_session = begin.session.is_some_and(|session| begin.request.verify(&self.domains, session).is_ok());
        if !by_session {
            begin.request.verify(&self.domains, request.client).map_err(|e| invalid(e.to_string()))?;
        }
        if quoted != Some(&begin.quote) {
            begin.quote.verify(&self.domains, me).map_err(|e| refuse(RefusalCode::Quote, e.to_string()))?;
        }
        if quote.node != me || quote.expiry < head.number {
            return Err(refuse(
                RefusalCode::Quote,
                format!("the quote of block {} has expired or is another node's: ask for a new one", quote.block.number),
            ));
        }
        match_quote(quote, request).map_err(|e| refuse(RefusalCode::Quote, e.to_string()))?;
        // A quote may be of before this node's last start.
        self.admit_profile(request.profile)?;
        if begin.manifest != offer.manifest {
            return Err(invalid("the manifest sent is not the one the request names".into()));
        }
        lanes::admit(&begin.lane, known, &self.domains, request.client, signer(begin), me, head.number)
            .map_err(|e| refuse(RefusalCode::Voucher, e.to_string()))?;
        let prompt_bytes = evidence::prompt_bytes(&begin.turns).map_err(invalid)?;
        if text::prompt_root(&prompt_bytes, begin.prompt_salt) != request.prompt_root {
            return Err(invalid("the prompt sent is not the one the request commits to".into()));
        }
        self.admit_options(begin)
    }

    /// What this answer may cost: the spending limit, what the lane's cap leaves, what the client has deposited and no other answer here
    /// has set aside. As much of the deposit as `tokens_max` tokens can need is set aside for this one.
    pub(super) async fn budget(&self, begin: &Begin, terms: &Terms, tokens_max: u32, held: &Held<'_>) -> Result<Amount, Broken> {
        let no = |why: String| refuse(RefusalCode::Voucher, why);
        let lane_left = begin.lane.document.cap.minus(terms.base).map_err(|e| no(format!("the lane's cap is used up: {e}")))?;
        let payer = begin.lane.document.payer;
        let (least, most) = (terms.due(1).map_err(|e| no(e.to_string()))?, terms.due(tokens_max).map_err(|e| no(e.to_string()))?);
        let limit = begin.request.document.spending_limit.min(lane_left);
        if limit < least {
            return Err(no(format!(
                "the answer costs {} with its first token, the spending limit and the lane leave {}: raise the limit",
                least.in_open(),
                limit.in_open()
            )));
        }
        let session = match begin.session {
            Some(signer) => Some((signer, self.session_left(payer, signer).await?)),
            None => None,
        };
        let owed = self.books.uncollected(payer, None).map_err(internal)?;
        let enough = held.reserved(payer).plus(owed).and_then(|others| others.plus(limit.min(most))).map_err(|e| no(e.to_string()))?;
        let deposit = self.escrow.free_balance(payer, enough).await;
        let deposit =
            deposit.map_err(|e| refuse(RefusalCode::Busy, format!("the chain cannot be asked for the client's deposit: {e:#}")))?;
        let free = deposit.minus(owed).unwrap_or_default();
        let granted = held.reserve(payer, session, free, limit.min(most));
        if let Some((signer, left)) = session.filter(|(_, left)| granted < least && *left < free) {
            return Err(no(format!(
                "the session key {signer} is good for {} beside its other answers here, this one costs {} with its first token: raise its cap with `tributary wallet session add`",
                left.in_open(),
                least.in_open()
            )));
        }
        if granted < least {
            return Err(no(format!(
                "{payer} has {} of free deposit beside its other answers here, this one costs {} with its first token: deposit OPEN first",
                free.in_open(),
                least.in_open()
            )));
        }
        Ok(granted)
    }

    /// What may still be collected by a session key's signature, less what this node holds receipts for.
    async fn session_left(&self, payer: Address, signer: Address) -> Result<Amount, Broken> {
        let right = self.escrow.session(payer, signer).await;
        let right = right.map_err(|e| refuse(RefusalCode::Busy, format!("the client's session key cannot be counted on now: {e:#}")))?;
        let left = lanes::admit_session(right, payer, signer, self.head().number);
        let left = left.map_err(|e| refuse(RefusalCode::Voucher, e.to_string()))?;
        Ok(left.minus(self.books.uncollected(payer, Some(signer)).map_err(internal)?).unwrap_or_default())
    }
}
