use proptest::prelude::*;
use types::{
    amount::Amount,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32, NodeId},
    manifest::{AssetKind, treasury},
    split::SplitTable,
};

use super::{manifest::ManifestError, *};

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

/// The events of one block: of twenty kinds of blocks, each with what its events need before them.
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
        reporter: account,
        release_at: number,
        number: 1,
    };
    let claimed = Event::CreditClaimed { lane: id, request: id, node: account, payer: account, amount, base: amount, settle_from: number };
    let asked = Event::ReceiptChallenged { id, epoch, node: account, index: 1, deadline: number };
    let events = match what % 20 {
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
        4 => vec![Event::Collected { lane: id, payer: account, node: account, amount, cumulative: Amount(number.into()) }],
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
        12 => vec![claimed, Event::CreditAnswered { lane: id, request: id, answering: id }],
        13 => vec![asked, Event::Unanswered { id, accused: account, challenger: account }],
        14 => vec![asked, Event::ChallengeAnswered { id }],
        15 => vec![Event::RefundRequested { lane: id, payer: account, node: account, epoch }],
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// Random blocks, reorganisations and finalizations: the view equals a replay of the blocks that stayed.
    #[test]
    fn after_any_reorganisation_the_books_equal_a_fresh_replay(steps in proptest::collection::vec((0..10_u8, any::<u8>(), 1..6_u64), 1..80)) {
        let mut view = View::new();
        let mut chain: Vec<(u64, Vec<Logged>)> = Vec::new();
        let mut finalized = 0_u64;
        for (what, which, depth) in steps {
            let tip = chain.last().map_or(0, |(number, _)| *number);
            match what {
                0..=5 => {
                    let events = step(tip + 1, which, which);
                    view.apply(block(tip + 1, which), events.clone()).unwrap();
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
