use types::id::Address;

use super::*;

const FEES: Fees = Fees { most: 100, tip: 10 };
const COMMAND: Hash32 = Hash32([9; 32]);

fn call(byte: u8) -> Call {
    Call { to: Some(Address([byte; 20])), data: vec![byte], value: Amount(7) }
}

fn intent(byte: u8) -> Intent {
    Intent { what: "deposit".into(), origin: None, call: call(byte), gas: 21_000, fees: FEES, since: 50 }
}

/// What a command wants that tells somebody how it ended.
fn asked(byte: u8) -> Intent {
    Intent { origin: Some(COMMAND), ..intent(byte) }
}

fn hash(byte: u8) -> Hash32 {
    Hash32([byte; 32])
}

fn block(number: u64) -> BlockRef {
    BlockRef { number, hash: Hash32([1; 32]) }
}

/// An outbox with `a` under nonce 5, one copy of it handed over.
fn with_one(config: Config, intent: Intent) -> Outbox {
    let mut outbox = Outbox::new(config);
    outbox.enqueue("a", intent, 5, 0).unwrap();
    assert!(outbox.sending("a", hash(1), 0));
    outbox
}

#[test]
fn one_key_never_gets_a_second_nonce_while_its_first_can_be_included() {
    let mut outbox = Outbox::new(Config::default());
    assert_eq!(outbox.enqueue("a", intent(1), 5, 0), Ok(Place::New));
    assert_eq!(outbox.enqueue("a", intent(1), 9, 3), Ok(Place::Waiting));
    assert_eq!(outbox.enqueue("a", intent(2), 9, 3), Err(OutboxError::KeyReused("a".into())));
    assert_eq!(outbox.enqueue("b", intent(2), 5, 0), Ok(Place::New));
    assert_eq!((outbox.entry("a").unwrap().nonce, outbox.entry("b").unwrap().nonce), (5, 6));
}

#[test]
fn a_restart_sends_the_same_nonce_again() {
    let mut outbox = Outbox::new(Config::default());
    outbox.enqueue("a", intent(1), 5, 0).unwrap();
    let mut restarted: Outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap();
    assert_eq!(restarted, outbox);
    assert_eq!(restarted.due("a", 1, 5), Some(Action::Send));
    assert_eq!(restarted.entry("a").unwrap().nonce, 5);
}

#[test]
fn a_file_of_the_version_before_is_read() {
    let text = r#"{"config":{"bump_after":3,"confirmations":12},"next_nonce":6,"waiting":{"a":{"call":{"to":null,"data":"","value":"7"},"gas":1,
        "nonce":5,"fees":{"most":1,"tip":1},"sent":[],"sent_at":0,"bumps":0,"included":null,"passed_at":null}},"done":{},"order":[]}"#;
    let outbox: Outbox = serde_json::from_str(text).unwrap();
    assert_eq!((outbox.entry("a").unwrap().nonce, outbox.untold()), (5, vec![]));
}

#[test]
fn a_waiting_transaction_is_sent_again_with_a_higher_fee_and_the_same_nonce() {
    let mut outbox = with_one(Config::default(), intent(1));
    assert_eq!(outbox.due("a", 2, 5), None);
    assert_eq!(outbox.due("a", 3, 5), Some(Action::Send));
    let entry = outbox.entry("a").unwrap();
    assert_eq!((entry.nonce, entry.fees), (5, Fees { most: 126, tip: 13 }));
    for head in 4..1_000 {
        outbox.due("a", head, 5);
    }
    assert_eq!(outbox.entry("a").unwrap().bumps, BUMPS_MAX);
}

#[test]
fn fees_rise_to_what_is_asked_but_never_above_what_somebody_agreed_to() {
    let refuse = |outbox: &mut Outbox, least: u128| {
        outbox.sending("a", hash(2), 1);
        outbox.answered("a", hash(2), true, Answer::Underpriced(Fees { most: least, tip: 1 }))
    };
    let mut outbox = with_one(Config::default(), asked(1));
    assert_eq!(refuse(&mut outbox, 400), Next::Send);
    assert_eq!(outbox.entry("a").unwrap().fees, Fees { most: 400, tip: 13 });
    // As far as it may, though that is not enough; then the first copy is waited for.
    assert_eq!(refuse(&mut outbox, 10_000), Next::Send);
    assert_eq!(outbox.entry("a").unwrap().fees.most, FEES.highest().most);
    assert_eq!(refuse(&mut outbox, 10_000), Next::Wait);
    // Where nobody set a bound, the chain's price is offered.
    let mut outbox = with_one(Config::default(), intent(1));
    for least in (1..=12).map(|doubled| 1_000 << doubled) {
        assert_eq!(refuse(&mut outbox, least), Next::Send);
        assert!(outbox.entry("a").unwrap().fees.most >= least);
    }
    assert_eq!(refuse(&mut outbox, 1), Next::Wait, "not for ever without a reason");
    assert_eq!(outbox.entry("a").unwrap().nonce, 5);
}

#[test]
fn what_the_chain_refuses_ends_only_if_no_copy_can_come() {
    let mut outbox = with_one(Config::default(), asked(1));
    // The first copy is taken, a raised one is not.
    assert!(outbox.sending("a", hash(2), 3));
    assert_eq!(outbox.answered("a", hash(2), true, Answer::Refused), Next::Wait);
    assert_eq!(outbox.entry("a").unwrap().sent, [hash(1)]);
    // A copy that an earlier process noted may have left: a refusal of the same does not take that back.
    assert!(!outbox.sending("a", hash(1), 3));
    for answer in [Answer::Refused, Answer::NonceUsed, Answer::Unknown] {
        assert_eq!(outbox.answered("a", hash(1), false, answer), Next::Wait);
    }
    let mut outbox = Outbox::new(Config::default());
    outbox.enqueue("a", asked(1), 5, 0).unwrap();
    assert!(outbox.sending("a", hash(1), 0));
    assert_eq!(outbox.answered("a", hash(1), true, Answer::Refused), Next::Failed);
    assert_eq!((outbox.entry("a"), outbox.untold()[0].ended), (None, Some(false)));
}

#[test]
fn a_nonce_that_another_process_took_before_ours_left_is_given_up_at_once() {
    let mut outbox = Outbox::new(Config::default());
    outbox.enqueue("a", intent(1), 5, 0).unwrap();
    assert!(outbox.sending("a", hash(1), 0));
    assert_eq!(outbox.answered("a", hash(1), true, Answer::NonceUsed), Next::Renew);
    outbox.renew("a", 6, 0);
    assert_eq!((outbox.entry("a").unwrap().nonce, outbox.entry("a").unwrap().sent.len()), (6, 0));
    // The same where the process was killed before it noted a copy.
    assert_eq!(outbox.due("a", 1, 7), Some(Action::Renew));
}

#[test]
fn a_nonce_that_was_passed_for_a_moment_only_starts_its_wait_again() {
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 4 }, intent(1));
    assert_eq!(outbox.due("a", 1, 6), None);
    // The stranger's block was taken back, so ours may be included after all.
    assert_eq!(outbox.due("a", 2, 5), None);
    assert_eq!(outbox.due("a", 4, 6), None, "the wait begins anew");
    assert_eq!(outbox.due("a", 7, 6), None);
    assert_eq!(outbox.due("a", 3, 6), None, "a head that fell is another block of a stranger's");
    assert_eq!(outbox.due("a", 6, 6), None);
    assert_eq!(outbox.entry("a").unwrap().nonce, 5);
    assert_eq!(outbox.due("a", 7, 6), Some(Action::Renew));
}

#[test]
fn money_of_waiting_transactions_is_promised_until_they_are_included() {
    let mut outbox = with_one(Config::default(), intent(1));
    outbox.enqueue("b", intent(2), 5, 0).unwrap();
    assert_eq!(outbox.promised(), Amount(14));
    outbox.seen("a", Some((hash(1), block(3))));
    assert_eq!(outbox.promised(), Amount(7));
}

#[test]
fn the_oldest_finished_keys_are_forgotten() {
    let mut outbox = Outbox::new(Config::default());
    for nonce in 0..=DONE_MAX as u64 {
        let key = nonce.to_string();
        outbox.enqueue(&key, intent(1), nonce, 0).unwrap();
        outbox.sending(&key, hash(1), 0);
        outbox.seen(&key, Some((hash(1), block(1))));
        outbox.finish(&key, true);
    }
    assert_eq!(outbox.place("0", &call(1)), Ok(None));
    assert_eq!(outbox.place("1", &call(1)), Ok(Some(Place::Done(hash(1)))));
}

#[test]
fn a_nonce_taken_by_a_stranger_for_good_frees_the_key_and_its_copies_are_looked_for_on() {
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 4 }, asked(1));
    assert_eq!(outbox.due("a", 1, 6), None, "an inclusion may yet be reported");
    assert_eq!(outbox.due("a", 4, 6), None, "three blocks are no depth");
    assert_eq!(outbox.due("a", 5, 6), Some(Action::Renew));
    outbox.renew("a", 6, 5);
    let entry = outbox.entry("a").unwrap();
    assert_eq!((entry.nonce, entry.sent.len(), entry.copies().collect::<Vec<_>>()), (6, 0, vec![hash(1)]));
    // Refused under its new nonce: it ends, and is not forgotten.
    assert!(outbox.sending("a", hash(2), 5));
    assert_eq!(outbox.answered("a", hash(2), true, Answer::Refused), Next::Failed);
    let untold = outbox.untold();
    assert_eq!((untold[0].key.as_str(), untold[0].ended, untold[0].transaction), ("a", Some(false), None));
    assert_eq!(outbox.place("a", &call(1)), Ok(None), "it may be asked for anew");
    assert_eq!(outbox.enqueue("a", asked(1), 6, 6), Ok(Place::New));
    assert_eq!(outbox.untold().len(), 1, "one try stands for both");
}

#[test]
fn an_inclusion_is_done_only_at_depth_and_a_reorganisation_takes_it_back() {
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 4 }, intent(1));
    outbox.seen("a", Some((hash(1), block(10))));
    assert_eq!(outbox.due("a", 13, 6), None);
    outbox.seen("a", None);
    assert_eq!(outbox.due("a", 13, 5), Some(Action::Send));
    outbox.seen("a", Some((hash(1), block(12))));
    assert_eq!(outbox.due("a", 16, 6), Some(Action::Done(hash(1))));
    assert_eq!(outbox.enqueue("a", intent(1), 6, 17), Ok(Place::Done(hash(1))));
}

#[test]
fn what_a_reorganisation_took_out_is_looked_for_until_it_is_sent_under_a_nonce_that_is_free() {
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 4 }, intent(1));
    assert!(outbox.to_look_for(2, 5).is_empty(), "on its way");
    outbox.seen("a", Some((hash(1), block(2))));
    assert!(outbox.to_look_for(5, 6).is_empty() && outbox.to_look_for(6, 6) == ["a"]);
    assert_eq!(outbox.to_look_for(3, 5), ["a"], "the chain's count says that it is gone");
    // Gone, and its nonce was taken by another transaction of the account.
    outbox.seen("a", None);
    assert_eq!(outbox.due("a", 6, 6), None);
    assert_eq!(outbox.to_look_for(6, 6), ["a"], "whoever waited for it has left");
    assert_eq!(outbox.due("a", 10, 6), Some(Action::Renew));
    outbox.renew("a", 6, 10);
    assert_eq!(outbox.entry("a").unwrap().nonce, 6);
}

#[test]
fn a_nonce_that_a_reorganisation_freed_is_filled_by_the_transaction_that_had_it() {
    let mut outbox = Outbox::new(Config::default());
    for (key, nonce, byte) in [("a", 5, 1), ("b", 6, 2)] {
        outbox.enqueue(key, intent(byte), nonce, 0).unwrap();
        outbox.sending(key, hash(byte), 0);
        outbox.seen(key, Some((hash(byte), block(1))));
    }
    // Both are gone again, and nobody has looked: a third one takes the nonce of neither, and both are looked for now.
    outbox.enqueue("c", intent(3), 5, 2).unwrap();
    assert_eq!(outbox.entry("c").unwrap().nonce, 7);
    assert_eq!(outbox.to_look_for(2, 5), ["a", "b"]);
    for (key, nonce) in [("a", 5), ("b", 6)] {
        outbox.seen(key, None);
        assert_eq!(outbox.due(key, 3, 5), Some(Action::Send));
        assert_eq!(outbox.entry(key).unwrap().nonce, nonce, "no gap is left");
    }
}

#[test]
fn with_nothing_waiting_the_nonce_is_the_chain_s_even_if_it_fell_behind() {
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 1 }, intent(1));
    outbox.seen("a", Some((hash(1), block(1))));
    assert_eq!(outbox.due("a", 2, 6), Some(Action::Done(hash(1))));
    // The block was taken back after all: nonce 6 would wait for a 5 that nobody sends.
    outbox.enqueue("b", intent(2), 5, 3).unwrap();
    assert_eq!(outbox.entry("b").unwrap().nonce, 5);
}

#[test]
fn a_refused_key_gives_its_nonce_back_and_a_reverted_one_may_try_again() {
    let mut outbox = with_one(Config::default(), intent(1));
    outbox.enqueue("b", intent(2), 5, 0).unwrap();
    outbox.sending("b", hash(2), 0);
    assert_eq!(outbox.answered("b", hash(2), true, Answer::Refused), Next::Failed);
    outbox.enqueue("c", intent(3), 5, 0).unwrap();
    assert_eq!(outbox.entry("c").unwrap().nonce, 6, "a gap would hold up everything after it");
    outbox.seen("a", Some((hash(1), block(3))));
    outbox.finish("a", false);
    assert_eq!(outbox.enqueue("a", intent(1), 6, 4), Ok(Place::New));
}

#[test]
fn waiting_transactions_are_bounded() {
    let mut outbox = Outbox::new(Config::default());
    for i in 0..WAITING_MAX {
        outbox.enqueue(&i.to_string(), intent(1), 0, 0).unwrap();
    }
    assert_eq!(outbox.enqueue("more", intent(1), 0, 0), Err(OutboxError::Full));
}

#[test]
fn a_transaction_stays_untold_through_restart_and_depth_until_somebody_was_told() {
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 4 }, asked(1));
    let untold = |outbox: &Outbox| outbox.untold().into_iter().map(|one| (one.key, one.transaction, one.ended)).collect::<Vec<_>>();
    assert_eq!(untold(&outbox), [("a".to_owned(), Some(hash(1)), None)]);
    outbox.seen("a", Some((hash(1), block(2))));
    assert_eq!(outbox.due("a", 6, 6), Some(Action::Done(hash(1))));
    let restarted: Outbox = serde_json::from_str(&serde_json::to_string(&outbox).unwrap()).unwrap();
    assert_eq!(untold(&restarted), [("a".to_owned(), Some(hash(1)), Some(true))]);
    assert_eq!((restarted.untold()[0].origin, restarted.untold()[0].since, &restarted.untold()[0].call), (COMMAND, 50, &call(1)));
    outbox.reported("a");
    assert_eq!((untold(&outbox), outbox.place("a", &call(1))), (vec![], Ok(Some(Place::Done(hash(1))))));
    // Told before it was deep: nothing is told twice.
    let mut outbox = with_one(Config { bump_after: 3, confirmations: 4 }, asked(1));
    outbox.seen("a", Some((hash(1), block(2))));
    outbox.reported("a");
    outbox.due("a", 6, 6);
    assert_eq!(untold(&outbox), []);
}

#[test]
fn of_what_nobody_was_told_the_oldest_is_forgotten_first() {
    let mut outbox = Outbox::new(Config::default());
    for number in 0..=ENDED_MAX as u64 {
        let key = number.to_string();
        outbox.enqueue(&key, Intent { since: number, ..asked(1) }, number, 0).unwrap();
        outbox.sending(&key, hash(1), 0);
        outbox.seen(&key, Some((hash(1), block(1))));
        outbox.finish(&key, true);
    }
    assert_eq!((outbox.untold().len(), outbox.untold()[0].key.as_str()), (ENDED_MAX, "1"));
}
