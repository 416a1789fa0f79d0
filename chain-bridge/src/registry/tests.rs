use std::collections::BTreeSet;

use proptest::prelude::*;
use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    manifest::{AssetKind, treasury},
    split::SplitTable,
    voucher::Lane,
};

use super::{manifest::ManifestError, *};
use crate::case::Asked;

fn block(number: u64, branch: u8) -> BlockRef {
    let mut hash = [branch; 32];
    hash[..8].copy_from_slice(&number.to_be_bytes());
    BlockRef { number, hash: Hash32(hash) }
}

fn at(number: u64, log: u32, event: Event) -> Logged {
    Logged { block: block(number, 0), log, transaction: Hash32::ZERO, time: 0, event }
}

const OWNER: Address = Address([1; 20]);

fn version(asset: u64) -> AssetVersion {
    AssetVersion { asset: AssetId(asset), version: 1 }
}

fn registered(number: u64, asset: u64, kind: AssetKind) -> Vec<Logged> {
    let asset = AssetId(asset);
    vec![
        at(number, 0, Event::Transferred { asset, to: OWNER }),
        at(number, 1, Event::Registered { asset, kind, owner: OWNER, uri: "card".into() }),
    ]
}

fn published(number: u64, asset: u64, parents: Vec<AssetVersion>, datanets: Vec<AssetVersion>) -> Logged {
    let split = SplitTable { node: 4_000, base: 1_000, adapter: 1_000, data: 4_000, ..SplitTable::default() };
    let event = Event::Published {
        version: version(asset),
        content: BlobId([2; 32]),
        parents,
        split,
        datanets,
        licence: Hash32::ZERO,
        parent_share_min: 0,
    };
    at(number, 9, event)
}

fn accepted(number: u64, place: u64, commitment_block: u64, ordinal: u32) -> Logged {
    let event = Event::Accepted {
        datanet: AssetId(2),
        number: place,
        contributor: Address([place as u8; 20]),
        text_root: Hash32([place as u8; 32]),
        text_bytes: 100,
        documents: 1,
        block: commitment_block,
        ordinal,
        licence: Hash32::ZERO,
        object: BlobId([5; 32]),
        report: Hash32::ZERO,
    };
    at(number, 0, event)
}

/// A base, a Datanet of two contributions and one more after its publication, an adapter on both.
fn world() -> State {
    let mut events = registered(1, 1, AssetKind::Base);
    events.extend(registered(2, 2, AssetKind::Datanet));
    events.extend(registered(3, 3, AssetKind::Adapter));
    events.push(published(4, 1, vec![], vec![]));
    events.push(accepted(5, 0, 3, 1));
    events.push(accepted(6, 1, 3, 0));
    events.push(published(7, 2, vec![], vec![]));
    events.push(accepted(8, 2, 1, 0));
    events.push(published(9, 3, vec![version(1)], vec![version(2)]));
    events.push(at(
        10,
        0,
        Event::IndexPosted { version: version(3), root: Hash32([8; 32]), parameters: 1, indexer: OWNER, window_ends: 0 },
    ));
    replay(State::default(), &events).unwrap()
}

#[test]
fn contributions_stand_in_priority_order_and_a_version_holds_those_before_it() {
    let state = world();
    let places = |list: Vec<&state::Accepted>| list.into_iter().map(|c| c.number).collect::<Vec<_>>();
    assert_eq!(places(state.contributions(AssetId(2)).collect()), [2, 1, 0]);
    assert_eq!(places(state.contributions_of(version(2)).collect()), [1, 0]);
}

fn erased(number: u64, log: u32, place: u64) -> Logged {
    let event = Event::Erased { datanet: AssetId(2), number: place, by: OWNER, object: BlobId([5; 32]), reason: Hash32([6; 32]) };
    at(number, log, event)
}

#[test]
fn a_version_published_after_a_request_leaves_a_tombstone_and_one_before_it_is_hit() {
    let mut state = world();
    assert!(state.erased_under(version(3)).is_empty());
    state.apply(&erased(20, 4, 1)).unwrap();
    let numbers = |list: Vec<&Erasure>| list.into_iter().map(|erasure| (erasure.number, erasure.block())).collect::<Vec<_>>();
    let places = |list: Vec<&state::Accepted>| list.into_iter().map(|c| c.number).collect::<Vec<_>>();
    assert_eq!(places(state.contributions_of(version(2)).collect()), [1, 0], "its content stays what was published");
    assert_eq!(places(state.live_contributions(AssetId(2)).collect()), [2, 0]);
    assert_eq!(state.tombstones_of(version(2)).count(), 0);
    for hit in [version(2), version(3)] {
        assert_eq!(numbers(state.erased_in_index(hit)), [(1, 20)], "{hit}");
    }
    assert!(state.erased_in_index(version(1)).is_empty());
    assert_eq!(state.erasure(AssetId(2), 1).unwrap().to_string(), "contribution 1 of Datanet 2 was erased on request at block 20");

    // The Datanet's next version, and the adapter's: the same weights, declared on it.
    let next = |asset| AssetVersion { asset: AssetId(asset), version: 2 };
    let publish = |mut logged: Logged, number: u64, log: u32| {
        let Event::Published { version, .. } = &mut logged.event else { panic!("a publication") };
        version.version = 2;
        (logged.block, logged.log) = (block(number, 0), log);
        logged
    };
    state.apply(&publish(published(20, 2, vec![], vec![]), 20, 5)).unwrap();
    state.apply(&publish(published(21, 3, vec![version(1)], vec![next(2)]), 21, 0)).unwrap();
    assert_eq!(places(state.contributions_of(next(2)).collect()), [2, 0]);
    assert_eq!(places(state.tombstones_of(next(2)).collect()), [1]);
    assert!(state.erased_in_index(next(2)).is_empty() && state.erased_in_index(next(3)).is_empty());
    assert_eq!(numbers(state.erased_under(next(3))), [(1, 20)], "the weights are those that were trained on it");
    assert!(state.erased_under(version(1)).is_empty());
}

#[test]
fn an_object_falls_with_the_last_contribution_that_names_it_and_comes_back_with_another() {
    let mut state = world();
    let (object, text) = (BlobId([5; 32]), |place: u8| Hash32([place; 32]));
    for (number, place) in [(20, 0), (21, 1)] {
        state.apply(&erased(number, 0, place)).unwrap();
        assert_eq!(state.erased_object(object), None, "contribution 2 names it too");
        assert_eq!(state.erased_text(text(place as u8)).map(Erasure::block), Some(number));
    }
    state.apply(&erased(22, 0, 2)).unwrap();
    assert_eq!(state.erased_object(object).map(Erasure::block), Some(22));
    assert_eq!(state.erased_objects().map(|(object, _)| object).collect::<Vec<_>>(), [object]);
    assert_eq!(state.erased_texts().count(), 3);
    state.apply(&accepted(23, 9, 22, 0)).unwrap();
    assert_eq!((state.erased_object(object), state.erased_objects().count()), (None, 0));
    assert_eq!(state.erased_texts().count(), 3);
    let unknown = state.apply(&erased(24, 7, 8)).unwrap_err();
    assert_eq!(unknown, ViewError::Unknown { block: 24, log: 7, what: "contribution 8 of Datanet 2".into() });
}

#[test]
fn an_object_is_that_of_the_contribution_that_was_accepted_first_as_long_as_any_names_it() {
    let mut state = world();
    let object = BlobId([5; 32]);
    let found = |state: &State| {
        let is_live = state.live_contributions(AssetId(2)).any(|accepted| accepted.object == object);
        let found = state.contribution_of(object);
        assert_eq!(found.is_some(), is_live);
        found.map(|(accepted, block)| (accepted.number, block))
    };
    let placed = |place, number| Some((place, block(number, 0).hash));
    assert_eq!(found(&state), placed(0, 5), "not the first in priority");
    for (number, place, next) in [(20, 0, placed(0, 5)), (21, 2, placed(0, 5)), (22, 1, None)] {
        state.apply(&erased(number, 0, place)).unwrap();
        assert_eq!(found(&state), next, "contribution {place} was erased");
    }
    state.apply(&accepted(23, 9, 22, 0)).unwrap();
    assert_eq!((found(&state), state.contribution_of(BlobId([6; 32]))), (placed(9, 23), None), "it is placed anew");
}

#[test]
fn an_object_that_another_block_accepted_after_a_reorganisation_has_that_block() {
    let mut view = View { finalized: world().into(), latest: world().into(), ..View::new() };
    let object = BlobId([9; 32]);
    let in_block = |branch: u8| {
        let mut logged = accepted(20, 3, 19, 0);
        logged.block = block(20, branch);
        if let Event::Accepted { object: named, .. } = &mut logged.event {
            *named = object;
        }
        logged
    };
    view.apply(block(20, 1), vec![in_block(1)]).unwrap();
    assert_eq!(view.latest().contribution_of(object).map(|(_, hash)| hash), Some(block(20, 1).hash));
    view.rollback(19).unwrap();
    assert_eq!(view.latest().contribution_of(object), None);
    view.apply(block(20, 2), vec![in_block(2)]).unwrap();
    assert_eq!(view.latest().contribution_of(object).map(|(_, hash)| hash), Some(block(20, 2).hash));
}

#[test]
fn a_request_that_a_reorganisation_takes_out_was_none() {
    let mut view = View { finalized: world().into(), latest: world().into(), ..View::new() };
    view.apply(block(20, 1), vec![erased(20, 0, 1)]).unwrap();
    assert!(view.latest().erasure(AssetId(2), 1).is_some() && view.finalized().erasure(AssetId(2), 1).is_none());
    view.rollback(19).unwrap();
    assert_eq!(*view.latest(), world());
    view.apply(block(20, 2), vec![erased(20, 0, 1)]).unwrap();
    view.finalize(20).unwrap();
    assert!(view.finalized().erased_text(Hash32([1; 32])).is_some());
}

#[test]
fn a_manifest_follows_from_the_events() {
    let manifest = world().manifest(version(3)).unwrap();
    let kinds: Vec<_> = manifest.assets.iter().map(|asset| asset.kind).collect();
    assert_eq!(kinds, [AssetKind::Base, AssetKind::Adapter]);
    assert_eq!((manifest.datanets[0].weight, manifest.datanets[0].treasury), (200, treasury(AssetId(2))));
    assert_eq!((manifest.index, manifest.parameters), (Hash32([8; 32]), 1));
}

#[test]
fn versions_without_index_or_frozen_or_of_a_datanet_have_no_manifest() {
    let mut state = world();
    assert_eq!(state.manifest(version(1)), Err(ManifestError::NoIndex(version(1))));
    assert_eq!(state.manifest(version(2)), Err(ManifestError::Datanet(version(2))));
    assert_eq!(state.manifest(version(9)), Err(ManifestError::Unknown(version(9))));
    state.apply(&at(11, 0, Event::Frozen { version: version(1) })).unwrap();
    assert_eq!(state.manifest(version(3)), Err(ManifestError::Frozen { version: version(1), block: 11 }));
    assert!(state.is_billable(version(1), 11) && !state.is_billable(version(1), 12));
}

#[test]
fn the_payee_is_the_owner_at_the_named_block() {
    let mut state = world();
    state.apply(&at(20, 0, Event::Transferred { asset: AssetId(1), to: Address([7; 20]) })).unwrap();
    assert_eq!(state.payee_at(AssetId(1), 19), Some(OWNER));
    assert_eq!(state.payee_at(AssetId(1), 20), Some(Address([7; 20])));
    assert_eq!(state.payee_at(AssetId(1), 0), None);
}

#[test]
fn an_event_about_something_unknown_is_refused_and_changes_nothing() {
    let mut view = View::new();
    let error = view.apply(block(4, 0), vec![published(4, 1, vec![], vec![])]).unwrap_err();
    assert_eq!(error, ViewError::Unknown { block: 4, log: 9, what: "asset 1".into() });
    assert_eq!(*view.latest(), State::default());
}

#[test]
fn collecting_takes_thawing_money_too() {
    let events = [
        Event::Deposited { payer: OWNER, amount: Amount(100) },
        Event::WithdrawRequested { payer: OWNER, amount: Amount(80), thawed_at: 9 },
        Event::Collected { lane: Hash32([1; 32]), payer: OWNER, node: OWNER, amount: Amount(70), cumulative: Amount(70) },
    ];
    let events: Vec<_> = events.into_iter().enumerate().map(|(i, event)| at(1, i as u32, event)).collect();
    let state = replay(State::default(), &events).unwrap();
    assert_eq!((state.escrow(OWNER).balance, state.escrow(OWNER).thawing, state.free(OWNER)), (Amount(30), Amount(30), Amount(0)));
    assert_eq!((state.lane_collected(Hash32([1; 32])), state.collected()), (Amount(70), Amount(70)));
}

#[test]
fn what_a_lane_had_collected_is_known_until_it_collects_after_a_later_window() {
    let lane = Hash32([1; 32]);
    let opened = |epoch, payout_from| Event::EpochOpened { epoch, opened_at: 0, accepts_until: 0, payout_from };
    let collected = |time, cumulative| {
        let event = Event::Collected { lane, payer: OWNER, node: OWNER, amount: Amount(1), cumulative: Amount(cumulative) };
        Logged { time, ..at(1, 2, event) }
    };
    let by = |collects: &[(u64, u128)], epoch| {
        let epochs = [at(1, 0, opened(1, 100)), at(1, 1, opened(2, 200))];
        let events: Vec<_> = epochs.into_iter().chain(collects.iter().map(|(time, sum)| collected(*time, *sum))).collect();
        replay(State::default(), &events).unwrap().collected_by(lane, epoch)
    };
    assert_eq!(by(&[], 1), Some(Amount(0)));
    assert_eq!(by(&[(99, 5)], 1), Some(Amount(5)));
    assert_eq!(by(&[(99, 5), (100, 7), (199, 9)], 1), Some(Amount(5)));
    assert_eq!((by(&[(99, 5), (200, 9)], 1), by(&[(99, 5), (200, 9)], 2)), (None, Some(Amount(5))));
    assert_eq!(by(&[(99, 5), (150, 5 + (1 << 80) - 1)], 1), None, "more since than the escrow's books hold");
    assert_eq!(by(&[(99, 5)], 3), None, "no such epoch");
}

#[test]
fn a_withdrawal_ends_what_was_thawing() {
    let events = [
        Event::Deposited { payer: OWNER, amount: Amount(100) },
        Event::WithdrawRequested { payer: OWNER, amount: Amount(80), thawed_at: 9 },
        Event::Withdrawn { payer: OWNER, amount: Amount(80) },
    ];
    let events: Vec<_> = events.into_iter().enumerate().map(|(i, event)| at(1, i as u32, event)).collect();
    let state = replay(State::default(), &events).unwrap();
    assert_eq!(state.escrow(OWNER), state::Escrow { balance: Amount(20), ..state::Escrow::default() });
    assert_eq!(state.free(OWNER), Amount(20));
}

#[test]
fn a_version_is_billable_from_its_block_on_and_a_name_means_the_newest_that_is_not_frozen_or_what_took_its_place() {
    let mut state = world();
    let of = |number| AssetVersion { version: number, ..version(1) };
    let publish = |number| {
        let Event::Published { content, parents, split, datanets, licence, parent_share_min, .. } = published(11, 1, vec![], vec![]).event
        else {
            panic!("a publication")
        };
        Event::Published { version: of(number), content, parents, split, datanets, licence, parent_share_min }
    };
    assert!(!state.is_billable(of(1), 3) && state.is_billable(of(1), 4));
    assert_eq!(state.newest(AssetId(1)), Some(of(1)));
    let steps = [
        // What happens, the newest active version, and the one that the name means.
        (publish(2), Some(2), Some(2)),
        (Event::Frozen { version: of(2) }, Some(1), Some(1)),
        (publish(3), Some(3), Some(3)),
        (publish(4), Some(4), Some(4)),
        (Event::Frozen { version: of(4) }, Some(3), Some(3)),
        // The owner goes back to the first, though the third is active and newer.
        (Event::Redirected { asset: AssetId(1), from: 4, to: 1 }, Some(3), Some(1)),
        (Event::Frozen { version: of(1) }, Some(3), Some(3)),
        (Event::Frozen { version: of(3) }, None, None),
    ];
    for (block, (event, newest, meant)) in (11..).zip(steps) {
        state.apply(&at(block, 0, event)).unwrap();
        assert_eq!((state.newest(AssetId(1)), state.meant(AssetId(1))), (newest.map(of), meant.map(of)), "block {block}");
    }
    assert_eq!(state.asset(AssetId(1)).unwrap().versions, 4);
}

#[test]
fn a_contribution_of_the_publishing_transaction_comes_too_late() {
    let mut state = world();
    let place = state.version(version(2)).unwrap().published;
    let mut late = accepted(7, 3, 2, 0);
    late.log = place.1;
    state.apply(&late).unwrap();
    assert!(state.contributions_of(version(2)).all(|contribution| contribution.accepted < place));
    assert_eq!((state.contributions(AssetId(2)).count(), state.contributions_of(version(2)).count()), (4, 2));
}

#[test]
fn a_reviewer_is_named_by_the_owner_of_the_day_and_may_be_taken_back() {
    let (reviewer, buyer) = (Address([8; 20]), Address([9; 20]));
    let mut state = world();
    let set = |is_allowed| Event::ReviewerSet { datanet: AssetId(2), owner: OWNER, reviewer, is_allowed };
    assert!(!state.is_reviewer(AssetId(2), reviewer));
    state.apply(&at(20, 0, set(true))).unwrap();
    assert!(state.is_reviewer(AssetId(2), reviewer) && state.is_reviewer(AssetId(2), OWNER));
    assert_eq!(state.reviewers(AssetId(2)).collect::<Vec<_>>(), [reviewer]);
    state.apply(&at(21, 0, Event::Transferred { asset: AssetId(2), to: buyer })).unwrap();
    assert!(!state.is_reviewer(AssetId(2), reviewer) && !state.is_reviewer(AssetId(2), OWNER) && state.is_reviewer(AssetId(2), buyer));
    assert_eq!(state.reviewers(AssetId(2)).next(), None, "whom another owner named counts no more");
    state.apply(&at(22, 0, Event::Transferred { asset: AssetId(2), to: OWNER })).unwrap();
    state.apply(&at(23, 0, set(false))).unwrap();
    assert!(!state.is_reviewer(AssetId(2), reviewer));
}

#[test]
fn roots_payouts_and_claims_of_an_epoch_are_kept() {
    let payout = |epoch, final_at| Event::PayoutPosted {
        epoch,
        root: Hash32([epoch as u8; 32]),
        total: Amount(u128::from(epoch)),
        previous: Hash32::ZERO,
        poster: OWNER,
        final_at,
        bond: Amount::ZERO,
    };
    let opened = |epoch| Event::EpochOpened { epoch, opened_at: 100, accepts_until: 105, payout_from: 115 };
    let submitted = |epoch| Event::NodeRootSubmitted { epoch, node: OWNER, receipts: Hash32([3; 32]), count: 2, fees: Amount(7), block: 1 };
    let events = [opened(1), submitted(1), payout(1, 130), opened(2), payout(2, 230)];
    let events: Vec<_> = events.into_iter().enumerate().map(|(i, event)| at(1, i as u32, event)).collect();
    let mut state = replay(State::default(), &events).unwrap();
    let root = state::SubmittedRoot { receipts: Hash32([3; 32]), count: 2, fees: Amount(7), block: 1 };
    assert_eq!(state.epoch(1).unwrap().roots.get(&OWNER), Some(&root));
    let final_at = |timestamp| state.final_payout(timestamp).map(|(epoch, _)| epoch);
    assert_eq!([129, 130, 229, 230].map(final_at), [None, Some(1), Some(1), Some(2)]);
    assert_eq!(state.claimed(OWNER), Amount::ZERO);
    state.apply(&at(2, 0, Event::Claimed { account: OWNER, epoch: 1, amount: Amount(5), cumulative: Amount(5) })).unwrap();
    assert_eq!(state.claimed(OWNER), Amount(5));
    let foreign = state.apply(&at(3, 0, submitted(9))).unwrap_err();
    assert_eq!(foreign, ViewError::Unknown { block: 3, log: 0, what: "epoch 9".into() });
}

#[test]
fn a_block_is_applied_once_and_never_before_an_earlier_one() {
    let deposit = |number| {
        vec![Logged {
            block: block(number, 0),
            log: 0,
            transaction: Hash32::ZERO,
            time: 0,
            event: Event::Deposited { payer: OWNER, amount: Amount(1) },
        }]
    };
    let mut view = View::new();
    assert_eq!(view.apply(block(5, 0), deposit(5)), Ok(true));
    assert_eq!(view.apply(block(5, 0), deposit(5)), Ok(false));
    assert_eq!(view.apply(block(5, 1), deposit(5)), Err(ViewError::Order { after: 5, got: 5 }));
    assert_eq!(view.apply(block(4, 0), deposit(4)), Err(ViewError::Order { after: 5, got: 4 }));
    assert_eq!(view.apply_final(&deposit(6)), Err(ViewError::Order { after: 5, got: 6 }));
    assert_eq!(view.latest().free(OWNER), Amount(1));
}

#[test]
fn a_treasury_weighs_no_more_than_the_cap() {
    let mut state = world();
    let Event::Accepted { datanet, number: _, contributor, text_root, documents, block, ordinal, licence, object, report, .. } =
        accepted(6, 7, 1, 9).event
    else {
        panic!("an acceptance")
    };
    let text_bytes = manifest::TREASURY_WEIGHT_CAP;
    let large =
        Event::Accepted { datanet, number: 7, contributor, text_root, text_bytes, documents, block, ordinal, licence, object, report };
    state.apply(&at(6, 5, large)).unwrap();
    assert_eq!(state.manifest(version(3)).unwrap().datanets[0].weight, manifest::TREASURY_WEIGHT_CAP);
}

/// Kinds of blocks in [`step`].
const STEPS: u8 = 33;

/// The events of one block: each kind of block with what its events need before them; all events there are stand in one of them.
fn step(number: u64, branch: u8, what: u8) -> Vec<Logged> {
    let (account, id, amount) = (Address([what; 20]), Hash32([what; 32]), Amount(u128::from(branch) + 1));
    let (asset, epoch) = (AssetId(u64::from(what)), u64::from(branch));
    let opened = Event::EpochOpened { epoch, opened_at: number, accepts_until: number, payout_from: number };
    let posted = Event::PayoutPosted { epoch, root: id, total: amount, previous: id, poster: account, final_at: number, bond: amount };
    let slashed = Event::Slashed {
        fault: id,
        account,
        amount,
        victim: account,
        victim_amount: amount,
        lane: id,
        reporter: account,
        release_at: number,
        number: 1,
    };
    let claimed = Event::CreditClaimed { lane: id, request: id, node: account, payer: account, amount, settle_from: number };
    let asked = Event::ReceiptsChallenged { id, epoch, node: account, first: 1, count: 2, deadline: number };
    let version = AssetVersion { asset, version: 1 + u32::from(branch) };
    let registered = Event::Registered { asset, kind: AssetKind::Adapter, owner: account, uri: "card".into() };
    let published = Event::Published {
        version,
        content: BlobId(id.0),
        parents: vec![],
        split: SplitTable::default(),
        datanets: vec![],
        licence: id,
        parent_share_min: u16::from(branch),
    };
    let events = match what % STEPS {
        0 => vec![],
        1 => vec![Event::Deposited { payer: account, amount }],
        2 => vec![Event::NodeRegistered {
            account,
            node: NodeId([branch; 32]),
            incarnation: number,
            payout: account,
            stake: Amount(number.into()),
        }],
        3 => vec![Event::Committed { commitment: id, contributor: account, block: number, ordinal: u32::from(branch) }],
        4 => vec![
            Event::LaneOpened { lane: Lane { payer: account, node: account, cap: amount, expiry: number, nonce: epoch } },
            Event::Collected { lane: id, payer: account, node: account, amount, cumulative: Amount(number.into()) },
        ],
        5 => vec![slashed],
        6 => vec![
            slashed,
            Event::SlashReleased { fault: id, to_victim: amount, covered: amount, to_reporter: amount, burned: amount, insured: amount },
        ],
        7 => vec![opened, posted],
        8 => vec![opened, posted, Event::PayoutOverturned { epoch, root: id, poster: account, reporter: account, fault: id }],
        9 => vec![opened, posted, Event::BondReturned { epoch, poster: account, bond: amount }],
        10 => vec![Event::ReceiptVoided { receipt: id, verifier: account }],
        11 => vec![claimed, Event::CreditSettled { lane: id, request: id, paid: amount, left: Amount(number.into()) }],
        12 => vec![claimed, Event::CreditPaid { lane: id, request: id, amount }],
        13 => vec![asked, Event::Unanswered { id, accused: account, challenger: account }],
        14 => vec![asked, Event::ReceiptShown { id, index: 1 + u64::from(branch % 2) }, Event::ChallengeAnswered { id }],
        15 => vec![Event::RefundRequested { lane: id, payer: account, node: account, epoch, given_back: amount }],
        16 => vec![
            Event::Credited { by: event::Custody::Settlement, payee: account, amount },
            Event::OwedWithdrawn { by: event::Custody::Settlement, payee: account, amount },
        ],
        17 => vec![
            Event::RentPrepaid { datanet: asset, amount },
            Event::RentAccrued { datanet: asset, amount: Amount(1) },
            Event::RentPriceSet { price: amount, from: number },
        ],
        18 => vec![
            Event::RolesChanged { account, roles: branch % 8 },
            Event::StakeChanged { account, active: amount, unbonding: amount, unbonded_at: number },
            Event::Debited { account, payer: account, amount },
            Event::Pledged { account, pledged: amount },
        ],
        19 => vec![registered, Event::Transferred { asset, to: account }, published],
        20 => vec![registered, published, Event::Frozen { version }, Event::Redirected { asset, from: version.version, to: 7 }],
        21 => vec![
            registered,
            Event::ReviewerSet { datanet: asset, owner: account, reviewer: account, is_allowed: branch.is_multiple_of(2) },
            Event::Accepted {
                datanet: asset,
                number,
                contributor: account,
                text_root: id,
                text_bytes: number,
                documents: 1,
                block: number,
                ordinal: u32::from(branch),
                licence: id,
                object: BlobId(id.0),
                report: id,
            },
        ],
        22 => vec![
            registered,
            published,
            Event::ParametersApproved { parameters: 1, hash: id },
            Event::DataRowMinSet { bps: u16::from(branch) },
            Event::IndexPosted { version, root: id, parameters: 1, indexer: account, window_ends: number },
            Event::IndexRefuted {
                version,
                root: id,
                indexer: account,
                mode: branch,
                is_marked: branch.is_multiple_of(2),
                reporter: account,
            },
        ],
        23 => vec![
            Event::Deposited { payer: account, amount },
            Event::WithdrawRequested { payer: account, amount, thawed_at: number },
            Event::Withdrawn { payer: account, amount: Amount(1) },
        ],
        24 => vec![
            opened,
            Event::NodeRootSubmitted { epoch, node: account, receipts: id, count: number, fees: amount, block: number },
            posted,
            Event::Claimed { account, epoch, amount, cumulative: Amount(number.into()) },
        ],
        25 => vec![
            Event::FaultProven { fault: event::Fault::Equivocation, receipt: id, node: account, reporter: account },
            Event::BondTaken { epoch, poster: account, reporter: account, to_reporter: amount, burned: amount },
        ],
        26 => vec![Event::RequestChallenged { id, receipt: id, node: account, request: vec![branch; 3], deadline: number }],
        27 => vec![
            Event::PayoutChallenged {
                id,
                epoch,
                account: branch.is_multiple_of(2).then_some(account),
                index: 1,
                challenger: account,
                deadline: number,
            },
            Event::RewardsReceived { amount },
            Event::RewardsClaimed { account, amount },
            Event::Insured { amount },
            Event::Covered { paid: Amount(1) },
        ],
        28 => vec![
            Event::RentPrepaid { datanet: asset, amount },
            Event::RentAccrued { datanet: asset, amount: Amount(1) },
            Event::RentWithdrawRequested { datanet: asset, amount, leaves_at: number },
            Event::RentPaid { datanet: asset, amount: Amount(1) },
            Event::RentAccrued { datanet: asset, amount: Amount(2) },
            Event::RentGivenBack { datanet: asset, amount: Amount(2) },
            Event::RentWithdrawn { datanet: asset, amount },
        ],
        29 => {
            let accepted = |number| Event::Accepted {
                datanet: asset,
                number,
                contributor: account,
                text_root: id,
                text_bytes: number,
                documents: 1,
                block: number,
                ordinal: u32::from(branch),
                licence: id,
                object: BlobId(id.0),
                report: id,
            };
            let erased = Event::Erased { datanet: asset, number, by: account, object: BlobId(id.0), reason: id };
            let mut events = vec![registered, accepted(number), erased];
            events.extend(branch.is_multiple_of(3).then(|| accepted(number + 1)));
            events
        }
        30 => {
            let asked = |part| Asked { node: account, datanet: asset, contribution: u32::from(branch), root: id, bytes: 9_000, part };
            let opened = |part| Event::CaseOpened {
                id: asked(part).id(),
                opener: account,
                asked: asked(part),
                object: BlobId(id.0),
                fragment: 1,
                fragments: 5,
                signed_at: number,
                deadline: number,
            };
            vec![
                opened(0),
                Event::CaseAnswered { id: asked(0).id(), by: account },
                opened(1),
                Event::CaseClosed { id: asked(1).id(), node: account, is_convicted: branch.is_multiple_of(2) },
                opened(2),
            ]
        }
        31 => vec![
            opened,
            Event::BeaconAnnounced { epoch, origin: number },
            Event::BeaconStored { epoch, beacon: id },
            Event::ChecksCommitted { epoch, checker: account, root: id, count: number },
            Event::ChecksRevealed { epoch, checker: account, root: id },
        ],
        _ => vec![
            Event::SignerSet { payer: account, signer: account, cap: amount, expiry: number },
            Event::SignerRevoked { payer: account, signer: account, revoked_at: number },
            Event::RewardsReceived { amount },
            Event::Insured { amount },
        ],
    };
    let place = block(number, branch);
    (0..).zip(events).map(|(log, event)| Logged { block: place, log, transaction: Hash32::ZERO, time: number, event }).collect()
}

#[test]
fn a_stretch_is_closed_by_its_last_receipt_and_what_nobody_asked_for_closes_nothing() {
    let (id, other, node) = (Hash32([1; 32]), Hash32([2; 32]), Address([3; 20]));
    let mut state = State::default();
    let apply = |event: Event, state: &mut State| {
        state.apply(&Logged { block: block(1, 1), log: 0, transaction: Hash32::ZERO, time: 5, event }).unwrap();
    };
    apply(Event::ReceiptsChallenged { id, epoch: 1, node, first: 64, count: 3, deadline: 9 }, &mut state);
    for index in 64..67 {
        apply(Event::ReceiptShown { id: other, index }, &mut state);
        let challenge = state.challenge(id).unwrap();
        assert_eq!((challenge.shown, challenge.is_closed), (index - 64, false));
        apply(Event::ReceiptShown { id, index }, &mut state);
    }
    let challenge = state.challenge(id).unwrap();
    assert_eq!((challenge.shown, challenge.is_closed, state.withheld_at(1, node)), (3, true, None));
    assert_eq!((state.challenges().count(), state.open_challenges().count()), (1, 0));
}

#[test]
fn every_event_stands_in_a_block_of_the_random_chains() {
    let text = include_str!("event.rs");
    let (_, rest) = text.split_once("pub enum Event {").unwrap();
    let (variants, _) = rest.split_once("\n}").unwrap();
    let declared =
        variants.lines().filter_map(|line| line.trim().split_once(" {")).filter(|(name, _)| name.starts_with(char::is_uppercase));
    let declared: BTreeSet<String> = declared.map(|(name, _)| name.to_owned()).collect();
    let name = |logged: Logged| format!("{:?}", logged.event).split_once(" {").unwrap().0.to_owned();
    let seen: BTreeSet<String> = (0..STEPS).flat_map(|what| step(1, what, what)).map(name).collect();
    assert!(declared.len() > 50, "{declared:?}");
    assert_eq!(seen, declared);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Random blocks, reorganisations and finalizations: the view equals a replay of the blocks that stayed.
    #[test]
    fn after_any_reorganisation_the_books_equal_a_fresh_replay(steps in proptest::collection::vec((0..10_u8, any::<u8>(), any::<u8>(), 1..6_u64), 1..80)) {
        let mut view = View::new();
        let mut chain: Vec<(u64, Vec<Logged>)> = Vec::new();
        let mut finalized = 0_u64;
        for (what, which, branch, depth) in steps {
            let tip = chain.last().map_or(0, |(number, _)| *number);
            match what {
                0..=5 => {
                    let events = step(tip + 1, branch, which);
                    view.apply(block(tip + 1, branch), events.clone()).unwrap();
                    chain.push((tip + 1, events));
                }
                6 | 7 => {
                    let to = tip.saturating_sub(depth).max(finalized);
                    view.rollback(to).unwrap();
                    chain.retain(|(number, _)| *number <= to);
                }
                _ => {
                    finalized = finalized.max(tip.saturating_sub(depth));
                    view.finalize(finalized).unwrap();
                }
            }
            let replay_to = |last: u64| {
                let events: Vec<_> = chain.iter().filter(|(number, _)| *number <= last).flat_map(|(_, events)| events.clone()).collect();
                replay(State::default(), &events).unwrap()
            };
            prop_assert_eq!(&*view.latest(), &replay_to(u64::MAX));
            prop_assert_eq!(&*view.finalized(), &replay_to(finalized));
        }
    }
}
