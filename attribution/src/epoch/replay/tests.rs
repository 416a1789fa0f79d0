use std::{cmp::Reverse, collections::BTreeSet, sync::LazyLock};

use proptest::prelude::*;
use serde_json::Value;
use types::{
    encoding::Document as _,
    key::{Account, Signed},
    payout::Witness,
    receipt::Reason,
};

use super::*;
use crate::epoch::{UnpaidWhy, build_payout, node_root};
use crate::sample::{Sample, account, sample};
use crate::shares::{self, RolePayees};

static SAMPLE: LazyLock<Sample> = LazyLock::new(sample);

/// What became of a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Paid,
    Out,
    NotCollected,
    BelowProtocolFee,
    Failed,
}

/// One receipt to make: epoch, node, lane, fee above the protocol's constant, fate.
type Plan = (u64, u8, u8, u32, Fate);

/// Epochs with their receipts, the tree shown for each, and what the chain says.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct World {
    accounts: Accounts,
    epochs: BTreeMap<u64, EpochFacts>,
    receipts: BTreeMap<u64, BTreeMap<Address, Vec<ReceiptItem>>>,
    lines: BTreeMap<u64, Vec<Line>>,
    owners: BTreeMap<u64, Address>,
    payouts: BTreeMap<Address, Address>,
    out: BTreeSet<Hash32>,
    false_spans: BTreeSet<(Hash32, u16)>,
    collected: BTreeMap<Hash32, Amount>,
    /// From this block on one account owns every asset.
    #[serde(skip)]
    sold_from: Option<u64>,
}

impl Facts for World {
    fn epoch(&self, epoch: u64) -> Option<EpochFacts> {
        self.epochs.get(&epoch).cloned()
    }

    fn is_out(&self, _: u64, _: Address, receipt: Hash32) -> bool {
        self.out.contains(&receipt)
    }

    fn is_span_out(&self, _: u64, receipt: Hash32, span: u16) -> bool {
        self.false_spans.contains(&(receipt, span))
    }

    fn is_collected(&self, _: u64, lane: Hash32, cumulative_after: Amount) -> bool {
        self.collected.get(&lane).is_some_and(|collected| *collected >= cumulative_after)
    }

    fn owner_at(&self, asset: AssetId, block: u64) -> Option<Address> {
        if self.sold_from.is_some_and(|from| block >= from) {
            return Some(address(0x99));
        }
        self.owners.get(&asset.0).copied()
    }

    fn payout_at(&self, node: Address, _: u64) -> Option<Address> {
        self.payouts.get(&node).copied()
    }
}

const fn address(byte: u8) -> Address {
    Address([byte; 20])
}

const fn lane(number: u8) -> Hash32 {
    Hash32([0x40 + number; 32])
}

/// What every lane collected beyond its receipts.
const SURPLUS: u128 = 500;
/// What was given back on each of them before.
const GIVEN_BACK: Amount = Amount(60);
/// The epoch of all refunds, the last one.
const REFUNDS_IN: u64 = 4;

fn item(node: &Account, number: usize, plan: &Plan, collected: &mut BTreeMap<Hash32, Amount>) -> ReceiptItem {
    let (_, _, lane_number, fee, fate) = *plan;
    let bundle = &SAMPLE.bundle;
    let quote = bundle.quote.document;
    let mut receipt = bundle.receipt.document.clone();
    receipt.node = node.address();
    receipt.request = Hash32([u8::try_from(number).unwrap(); 32]);
    receipt.lane = lane(lane_number);
    receipt.fee = Amount(u128::from(fee) + quote.protocol_fee.0);
    match fate {
        Fate::BelowProtocolFee => receipt.fee = Amount(quote.protocol_fee.0 - 1),
        Fate::Failed => (receipt.fee, receipt.reason) = (Amount::ZERO, Reason::EngineFailure),
        _ => {}
    }
    let sum = collected.entry(receipt.lane).or_default();
    if fate == Fate::NotCollected {
        receipt.cumulative_after = Amount(u128::from(u64::MAX));
    } else {
        *sum = sum.plus(receipt.fee).unwrap();
        receipt.cumulative_after = *sum;
    }
    if fate == Fate::Failed {
        // It breaks no rule by naming more of the lane's money than was spoken for, and bounds no refund by it.
        receipt.cumulative_after = receipt.cumulative_after.plus(Amount(SURPLUS)).unwrap();
    }
    let item = ReceiptItem::new(Signed::new(node, &bundle.domains, receipt), &quote, &bundle.manifest);
    // What bills nothing is shown with as little as the chain asks for.
    if fate == Fate::Failed { ReceiptItem { quote: None, manifest: None, ..item } } else { item }
}

/// What honest nodes and an honest poster make of the plans, by the lower functions alone.
fn world(plans: &[Plan]) -> World {
    let nodes = [account(7), account(9)];
    let accounts = Accounts { domains: SAMPLE.bundle.domains, protocol: address(0x51), stakers: address(0x52), insurance: address(0x53) };
    let mut world = World {
        accounts,
        epochs: BTreeMap::new(),
        receipts: BTreeMap::new(),
        lines: BTreeMap::new(),
        owners: BTreeMap::from([(1, address(0x61)), (2, address(0x62))]),
        payouts: BTreeMap::from([(nodes[0].address(), address(0x71)), (nodes[1].address(), address(0x72))]),
        out: BTreeSet::new(),
        false_spans: BTreeSet::new(),
        collected: BTreeMap::new(),
        sold_from: None,
    };
    let (mut previous, mut root) = (BTreeMap::new(), Hash32::ZERO);
    let mut earned: BTreeMap<Hash32, (Amount, Reverse<Witness>)> = BTreeMap::new();
    let epochs: BTreeSet<u64> = plans.iter().map(|plan| plan.0).chain([REFUNDS_IN]).collect();
    for epoch in epochs {
        let mut items: BTreeMap<Address, Vec<ReceiptItem>> = BTreeMap::from([(nodes[0].address(), Vec::new())]);
        let mut shares = Vec::new();
        for (number, plan) in plans.iter().enumerate().filter(|(_, plan)| plan.0 == epoch) {
            let node = &nodes[usize::from(plan.1)];
            let made = item(node, number, plan, &mut world.collected);
            let receipt = &made.receipt.document;
            let of_node = items.entry(node.address()).or_default();
            if plan.4 == Fate::Out {
                world.out.insert(receipt.hash());
            } else if !matches!(plan.4, Fate::NotCollected | Fate::Failed) && receipt.cumulative_after != Amount::ZERO {
                let index = u64::try_from(of_node.len()).unwrap();
                let reach = (receipt.cumulative_after, Reverse(Witness { epoch, node: node.address(), index }));
                let most = earned.entry(receipt.lane).or_insert(reach);
                *most = reach.max(*most);
            }
            if plan.4 == Fate::Paid {
                let roles = RolePayees {
                    protocol: accounts.protocol,
                    node: Some(world.payouts[&node.address()]),
                    agent: None,
                    base: Some(world.owners[&1]),
                    adapter: Some(world.owners[&2]),
                    stakers: accounts.stakers,
                    insurance: accounts.insurance,
                };
                let place = u64::try_from(of_node.len()).unwrap();
                let (quote, manifest) = (&SAMPLE.bundle.quote.document, &SAMPLE.bundle.manifest);
                shares.extend(shares::payees(receipt, place, quote.protocol_fee, manifest, &roles, |_| false).unwrap());
            }
            of_node.push(made);
        }
        let mut due = Vec::new();
        if epoch == REFUNDS_IN {
            for (lane, sum) in &mut world.collected {
                *sum = Amount(sum.0 + SURPLUS);
                due.push(RefundFacts {
                    lane: *lane,
                    payer: address(0x81),
                    node: nodes[0].address(),
                    collected: *sum,
                    given_back: GIVEN_BACK,
                });
            }
        }
        let refund = |due: &RefundFacts| {
            let (spoken, Reverse(witness)) = earned.get(&due.lane).copied().unwrap_or_default();
            let amount = due.collected.minus(spoken).unwrap().minus(due.given_back).unwrap();
            Refund { node: due.node, lane: due.lane, client: due.payer, amount, witness }
        };
        let payout = build_payout(&previous, shares, &due.iter().map(refund).collect::<Vec<_>>()).unwrap();
        let root_of = |(node, items): (&Address, &Vec<ReceiptItem>)| {
            let receipts: Vec<_> = items.iter().map(|item| item.receipt.clone()).collect();
            let root = node_root(*node, epoch, &receipts).unwrap();
            (*node, RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: u64::MAX })
        };
        let posted = Posted { root: payout.root(), total: payout.total(), previous: root };
        world.epochs.insert(epoch, EpochFacts { roots: items.iter().map(root_of).collect(), posted: Some(posted), refunds: due });
        world.lines.insert(epoch, lines(&payout).collect());
        world.receipts.insert(epoch, items);
        (previous, root) = (payout.cumulative(), payout.root());
    }
    world
}

/// Rebuilds everything; the first thing at odds in words.
fn replay(world: &World) -> Result<Vec<Rebuilt>, String> {
    let mut replay = Replay::new(world, world.accounts);
    let mut all = Vec::new();
    for (epoch, receipts) in &world.receipts {
        let rebuilt = replay.next(*epoch, receipts).map_err(|error| error.to_string())?;
        if let Some(difference) = first_difference(&rebuilt.payout, &world.lines[epoch]) {
            return Err(format!("epoch {epoch}: {difference}"));
        }
        all.push(rebuilt);
    }
    Ok(all)
}

const FATES: [Fate; 5] = [Fate::Paid, Fate::Out, Fate::NotCollected, Fate::BelowProtocolFee, Fate::Failed];

fn plans() -> Vec<Plan> {
    vec![
        (1, 0, 0, 9_000_007, Fate::Paid),
        (1, 1, 1, 77, Fate::Paid),
        (1, 0, 0, 5, Fate::Out),
        (2, 1, 1, 4_321, Fate::NotCollected),
        (2, 1, 0, 123_456_789, Fate::Paid),
        (4, 0, 1, 0, Fate::Failed),
        (4, 0, 0, 9, Fate::BelowProtocolFee),
    ]
}

/// Pointers to everything that is no list and no object.
fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
    match value {
        Value::Array(list) => list.iter().enumerate().for_each(|(place, value)| leaves(value, &format!("{at}/{place}"), found)),
        Value::Object(map) => map.iter().for_each(|(name, value)| leaves(value, &format!("{at}/{name}"), found)),
        _ => found.push(at.to_owned()),
    }
}

fn other(value: &Value) -> Value {
    match value {
        Value::Null => Value::from(Hash32([1; 32]).to_string()),
        Value::Bool(is_so) => Value::from(!is_so),
        Value::Number(number) => Value::from(number.as_u64().unwrap().wrapping_add(1)),
        Value::String(text) => match text.parse::<u128>() {
            Ok(number) => Value::from(number.wrapping_add(1).to_string()),
            Err(_) => Value::from(format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { '1' } else { '0' })),
        },
        nested => nested.clone(),
    }
}

/// The world with one value changed; nothing if that is no world at all.
fn changed(world: &Value, pointer: &str) -> Option<World> {
    let mut world = world.clone();
    let place = world.pointer_mut(pointer).unwrap();
    *place = other(place);
    serde_json::from_value(world).ok()
}

/// Everything an export holds, and the facts that all are used in [`plans`].
fn exported(world: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for part in ["receipts", "epochs", "lines"] {
        leaves(&world[part], &format!("/{part}"), &mut found);
    }
    // A root's block says as of when owners count, and here nobody sells anything.
    found.retain(|pointer| !(pointer.starts_with("/epochs/") && pointer.ends_with("/block")));
    found
}

#[test]
fn an_honest_export_gives_every_posted_tree() {
    let rebuilt = replay(&world(&plans())).unwrap();
    assert_eq!(rebuilt.iter().map(|epoch| epoch.receipts).collect::<Vec<_>>(), [3, 2, 2]);
    let unpaid: Vec<String> = rebuilt.iter().flat_map(|epoch| &epoch.unpaid).map(|unpaid| unpaid.why.to_string()).collect();
    assert_eq!(unpaid.len(), 3, "{unpaid:?}: void, not collected, below the constant; what failed and bills nothing has simply no parts");
    let refunds: Vec<u128> = rebuilt[2].refunds.iter().map(|refund| refund.amount.0).collect();
    let left = SURPLUS - GIVEN_BACK.0;
    assert_eq!(
        refunds,
        [left, left],
        "what was collected above the highest receipt that is not void goes back, but for what was given back"
    );
}

#[test]
fn every_single_changed_value_of_an_export_is_found() {
    let honest = serde_json::to_value(world(&plans())).unwrap();
    assert!(replay(&serde_json::from_value(honest.clone()).unwrap()).is_ok());
    let mut pointers = exported(&honest);
    leaves(&honest["accounts"], "/accounts", &mut pointers);
    leaves(&honest["owners"], "/owners", &mut pointers);
    leaves(&honest["payouts"], "/payouts", &mut pointers);
    // Vouchers and bindings are signed for these; no document of an epoch is.
    pointers.retain(|pointer| {
        !["/accounts/domains/escrow", "/accounts/domains/registry", "/accounts/domains/stake"].contains(&pointer.as_str())
    });
    // The sample's data pot is divided, so the insurance pool is paid nothing.
    pointers.retain(|pointer| pointer != "/accounts/insurance");
    assert!(pointers.len() > 500, "{}", pointers.len());
    for pointer in pointers {
        let Some(world) = changed(&honest, &pointer) else { continue };
        assert!(replay(&world).is_err(), "{pointer} was changed, and nobody noticed");
    }
}

#[test]
fn nobody_is_paid_by_what_an_owner_does_after_the_root_was_submitted() {
    let paid_in = |submitted: u64| {
        let mut world = world(&plans());
        world.sold_from = Some(10);
        world.receipts.values_mut().flat_map(BTreeMap::values_mut).flatten().for_each(|item| item.receipt.document.block.number = 20);
        world.epochs.values_mut().flat_map(|epoch| epoch.roots.values_mut()).for_each(|root| root.block = submitted);
        let (epoch, items) = world.receipts.first_key_value().unwrap();
        let mut standing = BTreeMap::new();
        let division = divide(&world, &world.accounts, *epoch, items, &[], &mut standing, &one_by_one);
        (division.parts.contains_key(&address(0x61)), division.parts.contains_key(&address(0x99)))
    };
    assert_eq!(paid_in(9), (true, false), "the receipt names a block after the sale, its root stands before it");
    assert_eq!(paid_in(10), (false, true));
}

#[test]
fn what_a_false_span_would_have_paid_goes_to_the_insurance_pool() {
    let division_with = |false_spans: BTreeSet<(Hash32, u16)>| {
        let world = World { false_spans, ..world(&plans()) };
        let (epoch, items) = world.receipts.first_key_value().unwrap();
        divide(&world, &world.accounts, *epoch, items, &[], &mut BTreeMap::new(), &one_by_one).parts
    };
    let honest = world(&plans());
    let receipt = &honest.receipts.first_key_value().unwrap().1[&account(7).address()][0].receipt.document;
    let (before, after) = (division_with(BTreeSet::new()), division_with(BTreeSet::from([(receipt.hash(), 0)])));
    let named = receipt.spans[0].payee;
    let code = types::split::Part::Span(0).code();
    let moved = before[&named].iter().find(|part| part.receipt == 0 && part.part == code).unwrap();
    assert!(moved.amount > Amount::ZERO && !before.contains_key(&honest.accounts.insurance));
    assert_eq!(after[&honest.accounts.insurance], vec![*moved], "the same part, another payee");
    assert!(after.get(&named).is_none_or(|parts| !parts.contains(moved)));
}

#[test]
fn what_is_at_odds_is_named_with_its_place() {
    let honest = world(&plans());
    let node = account(7).address();
    let check = |says: &[&str], change: &dyn Fn(&mut World)| {
        let mut world = honest.clone();
        change(&mut world);
        let error = replay(&world).expect_err(says[0]);
        assert!(says.iter().all(|says| error.contains(says)), "{says:?}: {error}");
    };
    let of = |node: Address| format!("node {node}");
    check(&["epoch 1", &of(node), "receipt 1", "Receipt"], &|w| {
        w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap()[1].receipt.document.fee.0 += 1
    });
    check(&["epoch 1", &of(node), "receipt 0", "quote"], &|w| {
        w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap()[0].quote.as_mut().unwrap().0[0] ^= 1
    });
    check(&["epoch 1", &of(node), "receipt 0", "manifest"], &|w| {
        w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap()[0].manifest.as_mut().unwrap().0[0] ^= 1
    });
    check(&["epoch 1", &of(node), "receipt 0", "quote", "is not shown"], &|w| {
        w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap()[0].quote = None
    });
    check(&["epoch 1", &of(node), "receipt 1", "manifest", "is not shown"], &|w| {
        w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap()[1].manifest = None
    });
    check(&["epoch 1", &of(node), "root", "fees"], &|w| w.epochs.get_mut(&1).unwrap().roots.get_mut(&node).unwrap().fees.0 += 1);
    check(&["epoch 1", &of(node), "1 receipts", "covers 2"], &|w| drop(w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap().pop()));
    check(&["epoch 1", &of(node), "root"], &|w| w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap().swap(0, 1));
    check(&["epoch 1", &of(node), "missing"], &|w| drop(w.receipts.get_mut(&1).unwrap().remove(&node)));
    check(&["epoch 4", "submitted no root"], &|w| drop(w.receipts.get_mut(&4).unwrap().insert(address(5), vec![])));
    check(&["epoch 2", "never opened"], &|w| drop(w.epochs.remove(&2)));
    check(&["epoch 2", "no payout"], &|w| w.epochs.get_mut(&2).unwrap().posted = None);
    check(&["epoch 4", "builds on root"], &|w| drop((w.epochs.remove(&2), w.receipts.remove(&2))));
    check(&["epoch 2", "account 0x6161", "part 3", &account(9).address().to_string(), "receipt 1"], &|w| {
        let line = w.lines.get_mut(&2).unwrap().iter_mut().find(|line| line.leaf.account == address(0x61)).unwrap();
        line.parts[0].amount.0 += 1;
    });
    check(&["epoch 2", "account 0x6161", "shown are"], &|w| {
        let line = w.lines.get_mut(&2).unwrap().iter_mut().find(|line| line.leaf.account == address(0x61)).unwrap();
        line.leaf.previous.0 += 1;
    });
    check(&["epoch 1", "is not shown"], &|w| drop(w.lines.get_mut(&1).unwrap().remove(0)));
    check(&["epoch 1", "posted was"], &|w| w.out.clear());
    // As many receipts of the same node, of another epoch.
    check(&["epoch 1", &of(node), "root"], &|w| {
        let others = w.receipts[&4][&node].clone();
        drop(w.receipts.get_mut(&1).unwrap().insert(node, others));
    });
    // The node itself signs another receipt than it committed to.
    check(&["epoch 1", &of(node), "root"], &|w| {
        let item = &mut w.receipts.get_mut(&1).unwrap().get_mut(&node).unwrap()[0];
        let mut document = item.receipt.document.clone();
        document.fee.0 += 1;
        item.receipt = Signed::new(&account(7), &w.accounts.domains, document);
    });
}

#[test]
fn a_receipt_that_names_bytes_which_are_no_quote_or_no_manifest_has_no_parts_and_bounds_its_lanes_refund() {
    let paid = world(&plans());
    let node = account(9).address();
    let of = |change: &dyn Fn(&mut ReceiptItem)| {
        let mut items = paid.receipts[&2].clone();
        change(&mut items.get_mut(&node).unwrap()[1]);
        let mut standing = BTreeMap::new();
        let due = RefundFacts { collected: paid.collected[&lane(0)], ..paid.epochs[&4].refunds[0] };
        let division = divide(&paid, &paid.accounts, 2, &items, &[due], &mut standing, &one_by_one);
        let item = &items[&node][1];
        let is_shown = check_item(&paid.accounts.domains, node, item).is_ok();
        (is_shown, division.unpaid.iter().find(|unpaid| unpaid.receipt == 1).map(|unpaid| unpaid.why.clone()), division.refunds[0])
    };
    let resigned = |item: &mut ReceiptItem, change: &dyn Fn(&mut types::receipt::Receipt)| {
        let mut document = item.receipt.document.clone();
        change(&mut document);
        item.receipt = Signed::new(&account(9), &paid.accounts.domains, document);
    };
    let (_, why, refund) = of(&|_| {});
    assert_eq!((why, refund.witness), (None, Witness { epoch: 2, node, index: 1 }));
    let junk = Body(b"no document".to_vec());
    let (is_shown, why, same) = of(&|item| {
        resigned(item, &|receipt| receipt.quote = junk.hash());
        item.quote = Some(junk.clone());
    });
    assert_eq!((is_shown, why, same), (true, Some(UnpaidWhy::NoQuote), refund));
    let (is_shown, why, same) = of(&|item| {
        resigned(item, &|receipt| receipt.manifest = junk.hash());
        item.manifest = Some(junk.clone());
    });
    assert_eq!((is_shown, why, same), (true, Some(UnpaidWhy::NoManifest), refund));
    // More than a proof about the payout could carry counts as not shown.
    for (length, expected) in [(NAMED_BYTES_MAX, true), (NAMED_BYTES_MAX + 1, false)] {
        let long = Body(vec![7; length]);
        let (is_shown, ..) = of(&|item| {
            resigned(item, &|receipt| receipt.manifest = long.hash());
            item.manifest = Some(long.clone());
        });
        assert_eq!(is_shown, expected, "{length}");
    }
}

#[test]
fn a_refund_of_nothing_has_its_part_with_the_witness_that_leaves_nothing() {
    let world = world(&plans());
    let (epoch, items) = world.receipts.first_key_value().unwrap();
    let spoken = items[&account(7).address()][0].receipt.document.cumulative_after;
    let due = |collected| RefundFacts { collected, given_back: Amount::ZERO, ..world.epochs[&REFUNDS_IN].refunds[0] };
    let refund_of = |due: RefundFacts| {
        let division = divide(&world, &world.accounts, *epoch, items, &[due], &mut BTreeMap::new(), &one_by_one);
        let part = *division.parts[&due.payer].iter().find(|part| part.lane() == Some(due.lane)).unwrap();
        assert_eq!(part, division.refunds[0].part());
        (part.amount, part.refund.unwrap().witness)
    };
    let witness = Witness { epoch: *epoch, node: account(7).address(), index: 0 };
    assert_eq!(refund_of(due(spoken)), (Amount::ZERO, witness));
    assert_eq!(refund_of(due(Amount(spoken.0 + 1))), (Amount(1), witness));
    assert_eq!(
        refund_of(RefundFacts { given_back: Amount(5), ..due(spoken) }),
        (Amount::ZERO, witness),
        "given back twice is not taken back"
    );
    let elsewhere = RefundFacts { lane: lane(9), ..due(Amount(70)) };
    assert_eq!(refund_of(elsewhere), (Amount(70), Witness::NONE), "no receipt names the lane");
}

#[test]
fn an_epoch_is_not_rebuilt_twice() {
    let world = world(&plans());
    let mut replay = Replay::new(&world, world.accounts);
    replay.next(1, &world.receipts[&1]).unwrap();
    assert_eq!(replay.next(1, &world.receipts[&1]).unwrap_err(), ReplayError::Order { got: 1, last: 1 });
}

#[test]
fn a_role_that_nobody_holds_has_no_part_and_keeps_nobody_from_theirs() {
    let mut world = world(&plans());
    world.owners.remove(&2);
    world.payouts.remove(&account(9).address());
    let (posted, lines_before) = (world.epochs.clone(), world.lines.clone());
    let mut replay = Replay::new(&world, world.accounts);
    let ReplayError::Posted { got_total, expected_total, .. } = replay.next(1, &world.receipts[&1]).unwrap_err() else {
        panic!("the posted tree pays the adapter's owner")
    };
    let unheld = |line: &&Line| [address(0x62), address(0x72)].contains(&line.leaf.account);
    let left_out: u128 = lines_before[&1].iter().filter(unheld).map(|line| line.leaf.cumulative.0).sum();
    assert!(left_out > 0 && posted[&1].posted.unwrap().total == expected_total);
    assert_eq!(got_total.0 + left_out, expected_total.0, "the parts of the roles that are held stay as they were");
}

#[test]
fn a_node_found_to_withhold_a_receipt_has_no_parts_and_need_not_be_shown() {
    let all = world(&plans());
    let gone = account(9).address();
    let without: Vec<Plan> = plans().into_iter().filter(|plan| !(plan.0 == 1 && plan.1 == 1)).collect();
    let expected = world(&without);
    let mut withheld = all.clone();
    // Its root stands, its receipts are shown to nobody, and the tree was posted without them.
    withheld.epochs.get_mut(&1).unwrap().posted = expected.epochs[&1].posted;
    withheld.receipts.get_mut(&1).unwrap().remove(&gone);
    let mut replay = Replay::new(&withheld, withheld.accounts);
    assert_eq!(replay.next(1, &withheld.receipts[&1]).unwrap_err(), ReplayError::Missing { epoch: 1, node: gone });
    withheld.out.insert(Hash32::ZERO);
    let mut replay = Replay::new(&withheld, withheld.accounts);
    assert_eq!(replay.next(1, &withheld.receipts[&1]).unwrap().posted, expected.epochs[&1].posted.unwrap());
}

#[test]
fn whoever_works_rebuilds_the_same_tree() {
    let world = world(&plans());
    let backwards = |count: usize, work: &(dyn Fn(usize) + Sync)| (0..count).rev().for_each(work);
    let mut replay = Replay::new(&world, world.accounts);
    for (epoch, receipts) in &world.receipts {
        let rebuilt = replay.next_by(&backwards, *epoch, receipts, Signatures::Verified).unwrap();
        assert_eq!(first_difference(&rebuilt.payout, &world.lines[epoch]), None);
    }
}

fn plan() -> impl Strategy<Value = Plan> {
    (prop_oneof![Just(1_u64), Just(2), Just(4)], 0..2_u8, 0..3_u8, any::<u32>(), 0..9_usize)
        .prop_map(|(epoch, node, lane, fee, fate)| (epoch, node, lane, fee, FATES.get(fate).copied().unwrap_or(Fate::Paid)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn honest_epochs_pass_and_any_changed_value_fails(plans in proptest::collection::vec(plan(), 1..9), seed: u64) {
        let honest = world(&plans);
        prop_assert!(replay(&honest).is_ok(), "{:?}", replay(&honest).err());
        let honest = serde_json::to_value(&honest).unwrap();
        let pointers = exported(&honest);
        for step in 0..24_u64 {
            let place = usize::try_from(seed.wrapping_mul(step * 2 + 1).wrapping_shr(20)).unwrap() % pointers.len();
            if let Some(world) = changed(&honest, &pointers[place]) {
                prop_assert!(replay(&world).is_err(), "{} was changed, and nobody noticed", pointers[place]);
            }
        }
    }
}
