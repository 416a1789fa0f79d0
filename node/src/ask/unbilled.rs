//! A receipt with fee 0: the node's signed word that an attempt failed and is not charged.
//!
//! It stands for its request and attempt: a second receipt of the node for them, one that bills, would convict it (F3).

use inference::proto::{draft::Cause, message::Begin, payment::Terms, spending::Promise};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, Hash32},
    key::{Domains, Signed},
    receipt::{Reason, Receipt},
};

use crate::purse::Left;

/// What such a receipt must say of the attempt it ends.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    request: Hash32,
    attempt: u16,
    client: Address,
    node: Address,
    lane: Hash32,
    base: Amount,
    /// Manifest and quote, where this process has seen them.
    offer: Option<(Hash32, Hash32)>,
}

impl Expected {
    pub(super) fn new(begin: &Begin, terms: &Terms) -> Self {
        Self {
            request: terms.request,
            attempt: terms.attempt,
            client: begin.request.document.client,
            node: begin.quote.document.node,
            lane: begin.lane.document.id(),
            base: terms.base,
            offer: Some((begin.manifest.root(), begin.quote.document.hash())),
        }
    }

    /// Of an attempt that an earlier process was cut off from. Under which offer it was begun nobody remembers: whatever the receipt says of that, no
    /// other one of the attempt may follow it.
    pub(super) const fn left(left: &Left, promise: &Promise) -> Self {
        Self {
            request: left.request,
            attempt: left.attempt,
            client: left.payer,
            node: left.account,
            lane: promise.lane,
            base: promise.base,
            offer: None,
        }
    }

    /// Why the attempt failed, if the receipt stands; else what is wrong with it.
    pub(super) fn check(&self, domains: &Domains, receipt: &Signed<Receipt>) -> Result<Cause, String> {
        let got = &receipt.document;
        let cause = match got.reason {
            Reason::EngineFailure => Cause::EngineFailure,
            Reason::Empty => Cause::Empty,
            billed => return Err(format!("it sent a receipt that ends by {billed:?} in the middle of the answer")),
        };
        let (manifest, quote) = self.offer.unwrap_or((got.manifest, got.quote));
        let fields = [
            ("request", got.request.to_string(), self.request.to_string()),
            ("attempt", got.attempt.to_string(), self.attempt.to_string()),
            ("client", got.client.to_string(), self.client.to_string()),
            ("node", got.node.to_string(), self.node.to_string()),
            ("lane", got.lane.to_string(), self.lane.to_string()),
            ("cumulative amount", got.cumulative_after.to_string(), self.base.to_string()),
            ("manifest", got.manifest.to_string(), manifest.to_string()),
            ("quote", got.quote.to_string(), quote.to_string()),
            ("output tokens", got.tokens_out.to_string(), "0".to_owned()),
            ("fee", got.fee.to_string(), "0".to_owned()),
        ];
        if let Some((field, got, due)) = fields.into_iter().find(|(_, got, due)| got != due) {
            return Err(format!("the {field} of its receipt for a failed answer is {got}, due is {due}"));
        }
        receipt.verify(domains, self.node).map_err(|error| format!("its receipt for a failed answer does not stand: {error}"))?;
        Ok(cause)
    }
}

#[cfg(test)]
mod tests {
    use types::{
        encoding::Body,
        key::Account,
        manifest::Manifest,
        quote::{Class, PROTOCOL_FEE, Profile, Quote},
        request::{Request, SamplingRule},
        split::SplitTable,
        time::BlockRef,
        voucher::Lane,
    };

    use super::*;
    use crate::service::inference::unbilled::failed;

    fn domains() -> Domains {
        Domains { chain_id: 1, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    fn account(byte: u8) -> Account {
        Account::from_bytes(&[byte; 32]).unwrap()
    }

    /// An attempt of client 2 at node 7, as both sides know it.
    fn attempt() -> (Begin, Terms) {
        let (client, node) = (account(2), account(7));
        let manifest = Manifest { assets: vec![], split: SplitTable::default(), index: Hash32([8; 32]), parameters: 1, datanets: vec![] };
        let (profile, class) = (Profile::Exact, Class::Open);
        let quote = Quote {
            node: node.address(),
            manifest: manifest.root(),
            profile,
            class,
            rate_in: Amount(1),
            rate_out: Amount(2),
            protocol_fee: PROTOCOL_FEE,
            tokens_max: 10,
            block: BlockRef::default(),
            expiry: 9,
        };
        let request = Request {
            client: client.address(),
            nonce: 1,
            manifest: manifest.root(),
            rate_in_max: Amount(1),
            rate_out_max: Amount(2),
            profile,
            class,
            sampling: SamplingRule::default(),
            options: Hash32::ZERO,
            prompt_root: Hash32([4; 32]),
            tokens_max: 10,
            spending_limit: Amount(1),
        };
        let lane = Lane { payer: client.address(), node: node.address(), cap: Amount(1_000), expiry: 99, nonce: 3 };
        let terms = Terms {
            lane: lane.id(),
            request: request.id(),
            attempt: 2,
            quote: quote.hash(),
            continued: vec![5, 6],
            tokens_in: 9,
            base: Amount(500),
            rate_in: Amount(1),
            rate_out: Amount(2),
            protocol_fee: PROTOCOL_FEE,
        };
        let begin = Begin {
            request: Signed::new(&client, &domains(), request),
            options: Body::default(),
            attempt: 2,
            quote: Signed::new(&node, &domains(), quote),
            lane: Signed::new(&client, &domains(), lane),
            session: None,
            manifest,
            turns: vec![],
            prompt_salt: Hash32::ZERO,
            continued: vec![5, 6],
        };
        (begin, terms)
    }

    fn check(signer: u8, reason: Reason, change: impl FnOnce(&mut Receipt)) -> Result<Cause, String> {
        let (begin, terms) = attempt();
        let mut receipt = failed(&begin, &terms, reason, Hash32([1; 32])).unwrap();
        change(&mut receipt);
        Expected::new(&begin, &terms).check(&domains(), &Signed::new(&account(signer), &domains(), receipt))
    }

    #[test]
    fn what_a_node_signs_of_a_failed_answer_is_its_word_that_nothing_is_charged() {
        assert_eq!(check(7, Reason::EngineFailure, |_| {}), Ok(Cause::EngineFailure));
        assert_eq!(check(7, Reason::Empty, |_| {}), Ok(Cause::Empty));
    }

    #[test]
    fn one_that_bills_is_of_another_answer_or_signed_by_another_does_not_count() {
        type Change = fn(&mut Receipt);
        let changes: [(&str, Change); 11] = [
            ("Stop", |receipt| receipt.reason = Reason::Stop),
            ("the request of", |receipt| receipt.request.0[0] ^= 1),
            ("the attempt of", |receipt| receipt.attempt = 1),
            ("the client of", |receipt| receipt.client.0[0] ^= 1),
            ("the node of", |receipt| receipt.node.0[0] ^= 1),
            ("the lane of", |receipt| receipt.lane.0[0] ^= 1),
            ("the cumulative amount of", |receipt| receipt.cumulative_after.0 += 1),
            ("the manifest of", |receipt| receipt.manifest.0[0] ^= 1),
            ("the quote of", |receipt| receipt.quote.0[0] ^= 1),
            ("the output tokens of", |receipt| receipt.tokens_out = 1),
            ("the fee of", |receipt| receipt.fee.0 += 1),
        ];
        for (words, change) in changes {
            let error = check(7, Reason::EngineFailure, change).unwrap_err();
            assert!(error.contains(words), "{words}: {error}");
        }
        assert!(check(8, Reason::EngineFailure, |_| {}).unwrap_err().contains("does not stand"));
    }
}
