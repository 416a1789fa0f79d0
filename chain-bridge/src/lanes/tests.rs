use proptest::prelude::*;
use types::key::Account;

use super::{client::ClientLane, *};

fn domains() -> Domains {
    Domains { chain_id: 1, escrow: Address([3; 20]), registry: Address([4; 20]), settlement: Address([5; 20]), stake: Address([6; 20]) }
}

fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

const NODE: Address = Address([7; 20]);

fn terms(request: u8) -> Terms {
    Terms {
        request: Hash32([request; 32]),
        attempt: 0,
        quote: Hash32([2; 32]),
        rate_in: Amount(1_000),
        rate_out: Amount(3_000),
        protocol_fee: Amount(5),
        first_token: 0,
        tokens_in: 10,
    }
}

struct Pair {
    payer: Account,
    client: ClientLane,
    books: Books,
    id: Hash32,
}

fn pair(cap: u128) -> Pair {
    let payer = account(1);
    let lane = Lane { payer: payer.address(), node: NODE, cap: Amount(cap), expiry: 1_000, nonce: 1 };
    let mut books = Books::new(NODE);
    books.open(&domains(), &Signed::new(&payer, &domains(), lane), 10, Amount::ZERO).unwrap();
    Pair { client: ClientLane::new(lane), books, id: lane.id(), payer }
}

impl Pair {
    fn voucher(&self, terms: &Terms, tokens: &[u32]) -> Signed<Voucher> {
        let voucher = self.client.next_voucher(terms, tokens, Amount(u128::MAX)).unwrap();
        Signed::new(&self.payer, &domains(), voucher)
    }

    fn offer(&mut self, voucher: &Signed<Voucher>, terms: &Terms, delivered: &[u32]) -> Result<(), VoucherError> {
        self.books.accept(self.id, voucher, &Facts { domains: &domains(), terms, delivered, block: 20, free: Amount(1_000_000) })
    }

    #[track_caller]
    fn refused(&mut self, change: impl Fn(&mut Voucher)) -> VoucherError {
        let before = self.books.clone();
        let mut document = self.voucher(&terms(1), &[8, 9]).document;
        change(&mut document);
        let error = self.offer(&Signed::new(&self.payer, &domains(), document), &terms(1), &[8, 9]).unwrap_err();
        assert_eq!(self.books, before, "a refused voucher must change nothing");
        error
    }
}

#[test]
fn vouchers_of_an_answer_rise_to_its_fee_and_the_next_answer_builds_on_it() {
    let mut pair = pair(1_000);
    for tokens in [&[8_u32][..], &[8, 9]] {
        let voucher = pair.voucher(&terms(1), tokens);
        pair.client.signed(&voucher.document);
        assert_eq!(pair.offer(&voucher, &terms(1), &[8, 9]), Ok(()));
    }
    assert_eq!(pair.books.collectable(Amount(1)), [], "an answer in progress is not collected");
    assert_eq!(pair.books.settle(pair.id), Some(Amount(10 + 6 + 5)));
    pair.client.settle();
    let next = pair.voucher(&terms(2), &[4]);
    assert_eq!(next.document.base, Amount(21));
    assert_eq!(pair.offer(&next, &terms(2), &[4]), Ok(()));
    pair.books.settle(pair.id);
    assert_eq!(pair.books.collectable(Amount(1)).len(), 1);
    pair.books.collected(pair.id, Amount(39));
    assert_eq!(pair.books.collectable(Amount(1)), []);
    assert_eq!(pair.books.exposure(), Amount::ZERO);
}

#[test]
fn a_voucher_above_the_lane_is_refused() {
    let mut small = pair(20);
    let big = pair(1_000).voucher(&terms(1), &[8, 9]);
    let document = Voucher { lane: small.id, ..big.document };
    let signed = Signed::new(&small.payer, &domains(), document);
    assert_eq!(small.offer(&signed, &terms(1), &[8, 9]), Err(VoucherError::AboveCap { cap: Amount(20), cumulative: Amount(21) }));
    assert_eq!(
        small.client.next_voucher(&terms(1), &[8, 9], Amount(u128::MAX)),
        Err(VoucherError::AboveCap { cap: Amount(20), cumulative: Amount(21) })
    );
}

#[test]
fn a_replayed_voucher_is_refused() {
    let mut pair = pair(1_000);
    let voucher = pair.voucher(&terms(1), &[8]);
    pair.offer(&voucher, &terms(1), &[8, 9]).unwrap();
    assert_eq!(pair.offer(&voucher, &terms(1), &[8, 9]), Err(VoucherError::Replayed { last: 1, got: 1 }));
    pair.books.settle(pair.id);
    assert!(matches!(pair.offer(&voucher, &terms(1), &[8, 9]), Err(VoucherError::WrongBase { .. })));
}

#[test]
fn a_lane_to_another_node_is_refused() {
    let payer = account(1);
    let lane = Lane { payer: payer.address(), node: Address([9; 20]), cap: Amount(9), expiry: 1_000, nonce: 1 };
    let refused = Books::new(NODE).open(&domains(), &Signed::new(&payer, &domains(), lane), 10, Amount::ZERO).unwrap_err();
    assert_eq!(refused, VoucherError::OtherNode { expected: NODE, got: Address([9; 20]) });
}

#[test]
fn an_expired_lane_is_refused() {
    let payer = account(1);
    let lane = Lane { payer: payer.address(), node: NODE, cap: Amount(9), expiry: 100, nonce: 1 };
    let refused = Books::new(NODE).open(&domains(), &Signed::new(&payer, &domains(), lane), 90, Amount::ZERO).unwrap_err();
    assert_eq!(refused, VoucherError::Expired { expiry: 100, block: 90 });
}

#[test]
fn a_lane_its_payer_did_not_sign_is_refused() {
    let lane = Lane { payer: account(1).address(), node: NODE, cap: Amount(9), expiry: 1_000, nonce: 1 };
    let refused = Books::new(NODE).open(&domains(), &Signed::new(&account(2), &domains(), lane), 10, Amount::ZERO).map(|_| ());
    assert!(matches!(refused, Err(VoucherError::Signature(SignatureError::Foreign { .. }))));
}

#[test]
fn each_changed_field_of_a_voucher_is_refused_by_its_name() {
    let mut pair = pair(1_000);
    assert!(matches!(pair.refused(|v| v.lane = Hash32([9; 32])), VoucherError::OtherLane { .. }));
    assert!(matches!(pair.refused(|v| v.request = Hash32([9; 32])), VoucherError::OtherAnswer { field: "request", .. }));
    assert!(matches!(pair.refused(|v| v.attempt = 1), VoucherError::OtherAnswer { field: "attempt", .. }));
    assert!(matches!(pair.refused(|v| v.quote = Hash32([9; 32])), VoucherError::OtherAnswer { field: "quote", .. }));
    assert!(matches!(pair.refused(|v| v.first_token = 1), VoucherError::OtherAnswer { field: "first token", .. }));
    assert!(matches!(pair.refused(|v| v.tokens_in = 9), VoucherError::OtherAnswer { field: "number of input tokens", .. }));
    assert!(matches!(pair.refused(|v| v.token_ids = Hash32([9; 32])), VoucherError::OtherAnswer { field: "token-id hash", .. }));
    assert!(matches!(pair.refused(|v| v.tokens_out = 3), VoucherError::BeyondDelivery { delivered: 2, got: 3 }));
    assert!(matches!(pair.refused(|v| v.base = Amount(1)), VoucherError::WrongBase { .. }));
    assert!(matches!(pair.refused(|v| v.cumulative = Amount(20)), VoucherError::NotDue { expected: Amount(21), got: Amount(20) }));
    assert!(matches!(pair.refused(|v| v.cumulative = Amount(22)), VoucherError::NotDue { .. }));
}

#[test]
fn debts_on_other_lanes_count_against_the_free_escrow() {
    let mut pair = pair(1_000);
    let voucher = pair.voucher(&terms(1), &[8, 9]);
    let (here, agreed) = (domains(), terms(1));
    let facts = |free| Facts { domains: &here, terms: &agreed, delivered: &[8, 9], block: 20, free: Amount(free) };
    let short = pair.books.accept(pair.id, &voucher, &facts(20));
    assert_eq!(short, Err(VoucherError::InsufficientEscrow { free: Amount(20), need: Amount(21) }));
    pair.books.accept(pair.id, &voucher, &facts(21)).unwrap();
    let other = Lane { nonce: 2, ..pair.client.lane };
    pair.books.open(&domains(), &Signed::new(&pair.payer, &domains(), other), 10, Amount::ZERO).unwrap();
    assert_eq!(pair.books.owed_elsewhere(pair.payer.address(), other.id()), Amount(21));
    let second = ClientLane::new(other).next_voucher(&terms(2), &[8], Amount(u128::MAX)).unwrap();
    let second = Signed::new(&pair.payer, &domains(), second);
    let agreed = terms(2);
    let facts = Facts { domains: &here, terms: &agreed, delivered: &[8], block: 20, free: Amount(30) };
    assert_eq!(pair.books.accept(other.id(), &second, &facts), Err(VoucherError::InsufficientEscrow { free: Amount(9), need: Amount(18) }));
}

#[test]
fn one_payer_cannot_fill_the_books() {
    let mut pair = pair(1_000);
    for nonce in 2..=LANES_PER_PAYER_MAX as u64 {
        let lane = Signed::new(&pair.payer, &domains(), Lane { nonce, ..pair.client.lane });
        pair.books.open(&domains(), &lane, 10, Amount::ZERO).unwrap();
    }
    let lane = Signed::new(&pair.payer, &domains(), Lane { nonce: 999, ..pair.client.lane });
    assert_eq!(pair.books.open(&domains(), &lane, 10, Amount::ZERO).unwrap_err(), VoucherError::TooManyLanes);
}

#[test]
fn books_survive_a_restart() {
    let mut pair = pair(1_000);
    let voucher = pair.voucher(&terms(1), &[8]);
    pair.offer(&voucher, &terms(1), &[8]).unwrap();
    let text = serde_json::to_string(&pair.books).unwrap();
    assert_eq!(serde_json::from_str::<Books>(&text).unwrap(), pair.books);
}

proptest! {
    #[test]
    fn what_the_client_can_afford_is_exact(cap in 0..100_000_u128, left in 0..100_000_u128, rate in 1..9_000_u128) {
        let terms = Terms { rate_out: Amount(rate), ..terms(1) };
        let lane = Lane { payer: Address([1; 20]), node: NODE, cap: Amount(cap), expiry: 1, nonce: 1 };
        let client = ClientLane::new(lane);
        let tokens = client.tokens_affordable(&terms, Amount(left));
        let budget = Amount(cap.min(left));
        prop_assert!(tokens == 0 || terms.due(tokens).unwrap() <= budget);
        prop_assert!(terms.due(tokens + 1).unwrap() > budget);
    }

    #[test]
    fn honest_vouchers_are_always_accepted_and_sum_to_the_fees(answers in proptest::collection::vec((1..200_usize, 1..90_usize), 1..6)) {
        let mut pair = pair(u128::MAX);
        let mut fees = Amount::ZERO;
        for (number, (count, step)) in answers.into_iter().enumerate() {
            let terms = terms(number as u8);
            let tokens: Vec<u32> = (0..count as u32).collect();
            let mut at = 1;
            loop {
                let voucher = pair.voucher(&terms, &tokens[..at]);
                pair.client.signed(&voucher.document);
                prop_assert_eq!(pair.offer(&voucher, &terms, &tokens), Ok(()));
                if at == count { break }
                at = (at + step).min(count);
            }
            fees = fees.plus(terms.due(count as u32).unwrap()).unwrap();
            pair.client.settle();
            prop_assert_eq!(pair.books.settle(pair.id), Some(fees));
        }
        prop_assert_eq!(pair.books.exposure(), fees);
    }
}
