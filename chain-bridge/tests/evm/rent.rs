//! Rent of the deployed suite: rolls, draws, claims and books in Rust and Solidity, over random rolls and holdings.

use std::collections::BTreeSet;

use alloy::{
    primitives::{U256, aliases::U48},
    sol_types::SolEvent,
};
use chain_bridge::{
    bindings::{AssetRegistry, AuditRent, DatanetRent, Settlement},
    client::rent::shown,
    rent::{Entry, PassedAudit, Payer},
};
use types::{
    amount::Amount,
    audit::{AuditVerdict, HeldFragment, Seat, Verdict, auditors},
    contribution::{Contribution, GateReport, commitment},
    encoding::Document,
    id::{AssetId, BlobId, Hash32},
    key::{Account, Signed},
    merkle::{Tree, keccak, sum_root},
    operator::NodeRoot,
    text::{text_root, text_top},
};

use super::{
    differential::random::Rng,
    harness::{Done, Evm, account, address, open},
    transcript::cases,
};

const NODES: u8 = 6;
pub(crate) const NET: AssetId = AssetId(1);
const DEPOSIT: Amount = Amount(10_000_000_000_000_000);
/// Bytes of each contribution.
const SIZES: [usize; 5] = [1, 64, 1_000, 4_096, 100_003];
/// Fragments of its object.
const FRAGMENTS: [u8; 5] = [5, 12, 30, 48, 48];

struct World {
    evm: Evm,
    epoch: u64,
    rng: Rng,
    /// What was paid: contribution, fragment, epoch.
    paid: BTreeSet<(u32, u8, u64)>,
}

pub(crate) fn object(contribution: u32) -> BlobId {
    BlobId(keccak(&[b"object", &contribution.to_be_bytes()]).0)
}

impl World {
    /// Six nodes on the roll, a Datanet of five contributions with 1,000 OPEN for rent.
    fn new() -> Self {
        let mut evm = Evm::new();
        for byte in 1..=NODES {
            evm.bond(&account(byte), open(100));
        }
        let mut world = Self { evm, epoch: 0, rng: Rng(8), paid: BTreeSet::new() };
        (1..=NODES).for_each(|byte| world.enlist(byte, u64::from(byte % 4)).map(drop).unwrap());
        let (owner, evm) = (account(7), &mut world.evm);
        let (registry, rent) = (evm.deployment.registry, evm.deployment.rent);
        evm.call(owner.address(), registry, &AssetRegistry::registerCall { kind: 3, uri: "card".into() }, Amount::ZERO).unwrap();
        for (number, size) in (0..).zip(SIZES) {
            contribute(evm, &owner, number, size);
        }
        let prepay = DatanetRent::prepayCall { datanet: NET.0 };
        evm.call(owner.address(), rent, &prepay, open(1_000)).unwrap();
        world
    }

    fn enlist(&mut self, byte: u8, subnet: u64) -> Result<Done, String> {
        let at = self.evm.deployment.audits;
        self.evm.call(account(byte).address(), at, &AuditRent::enlistCall { subnet: U48::from(subnet) }, DEPOSIT)
    }

    /// The next epoch, opened by an empty root, charged, and its beacon.
    fn next(&mut self) -> Hash32 {
        (self.epoch, self.evm.time, self.evm.block) = (self.epoch + 1, self.evm.time + 201, self.evm.block + 1);
        let (receipts, fees) = sum_root(vec![]).unwrap();
        let root = NodeRoot { node: account(1).address(), epoch: self.epoch, receipts, count: 0, fees };
        let signed = Signed::new(&account(1), &self.evm.deployment.domains(), root);
        let call = Settlement::submitNodeRootCall { body: signed.document.encode().into(), signature: signed.signature.0.to_vec().into() };
        let (anybody, audits, rent) = (account(9).address(), self.evm.deployment.audits, self.evm.deployment.rent);
        self.evm.call(anybody, self.evm.deployment.settlement, &call, Amount::ZERO).unwrap();
        self.evm.call(anybody, audits, &AuditRent::announceBeaconCall {}, Amount::ZERO).unwrap();
        self.evm.block += 17;
        self.evm.call(anybody, audits, &AuditRent::storeBeaconCall { epoch: self.epoch }, Amount::ZERO).unwrap();
        self.evm.call(anybody, rent, &DatanetRent::accrueCall { datanet: NET.0 }, Amount::ZERO).unwrap();
        Hash32(self.evm.view(audits, &AuditRent::beaconOfCall(self.epoch)).unwrap().0)
    }

    fn roll(&mut self, epoch: u64) -> Vec<Seat> {
        let at = self.evm.deployment.audits;
        let size: u64 = self.evm.view(at, &AuditRent::sizeAtCall { epoch }).unwrap().to();
        let seat = |place| self.evm.view(at, &AuditRent::seatAtCall { epoch, place: U256::from(place) }).unwrap();
        (0..size).map(seat).map(|seat| Seat { node: types::id::Address(seat.node.into_array()), subnet: seat.subnet.to() }).collect()
    }

    /// What a node holds: some fragments of some contributions, in the order of the tree.
    fn holdings(&mut self, period: u32) -> Vec<Entry> {
        let mut held = BTreeSet::new();
        let more = if self.rng.is(4) { 0 } else { self.rng.below(90) };
        for _ in 0..=more {
            let contribution = self.rng.below(5) as u32;
            held.insert((object(contribution), self.rng.below(u64::from(FRAGMENTS[contribution as usize])) as u8, contribution));
        }
        held.into_iter()
            .map(|(object, fragment, contribution)| Entry {
                held: HeldFragment {
                    object,
                    fragment,
                    fragments: FRAGMENTS[contribution as usize],
                    bytes: self.rng.u32(),
                    root: Hash32(self.rng.bytes()),
                },
                payer: (!self.rng.is(6)).then_some(Payer { datanet: NET, contribution, period }),
            })
            .collect()
    }

    fn passed(&mut self, epoch: u64, seats: &[Seat], place: usize, drawn: &[types::id::Address], entries: Vec<Entry>) -> PassedAudit {
        let leaves: Vec<_> = entries.iter().map(|entry| entry.held.leaf()).collect();
        let seen = |auditor| AuditVerdict {
            auditor,
            node: seats[place].node,
            epoch,
            holdings: Tree::over(leaves.iter().map(Vec::as_slice)).root(),
            nonce: Hash32([3; 32]),
            verdict: Verdict::Passed,
            right: 20,
            digest: Hash32([4; 32]),
            round_trip_us: 5,
            elapsed_us: 6,
        };
        let domains = self.evm.deployment.domains();
        let key = |of| (1..=NODES).map(account).find(|account: &Account| account.address() == of).unwrap();
        let skip = self.rng.below(drawn.len() as u64) as usize;
        let mut two = drawn.iter().enumerate().filter(|(number, _)| drawn.len() == 2 || *number != skip).map(|(_, auditor)| *auditor);
        let verdicts = [two.next().unwrap(), two.next().unwrap()].map(|auditor| Signed::new(&key(auditor), &domains, seen(auditor)));
        PassedAudit { verdicts, place: place as u32, entries }
    }

    fn claim(&mut self, audit: &PassedAudit) -> Result<u128, String> {
        let audits = audit.parts().unwrap().into_iter().map(|part| shown(audit, part)).collect();
        let at = self.evm.deployment.audits;
        let done = self.evm.call(account(9).address(), at, &AuditRent::claimCall { audits }, Amount::ZERO)?;
        let events =
            done.logs.iter().filter(|log| log.address == address(at)).filter_map(|log| AuditRent::RentClaimed::decode_log(log).ok());
        Ok(events.map(|event| event.amount.to::<u128>()).sum())
    }
}

/// Contributed and reviewed by the Datanet's owner.
pub(crate) fn contribute(evm: &mut Evm, owner: &Account, number: u32, size: usize) {
    let text = vec![b'a' + number as u8; size];
    let (salt, text_root) = (Hash32([1; 32]), text_root(&text));
    let made = commitment(salt, text_root, owner.address());
    let domains = evm.deployment.domains();
    let given = Contribution {
        datanet: NET,
        contributor: owner.address(),
        text_root,
        text_bytes: size as u64,
        documents: 1,
        salt,
        licence: Hash32([3; 32]),
        object: object(number),
    };
    let report =
        GateReport { datanet: NET, text_root, commitment: made, report: Hash32([6; 32]), object: object(number), is_accepted: true };
    let (given, report) = (Signed::new(owner, &domains, given), Signed::new(owner, &domains, report));
    let registry = evm.deployment.registry;
    evm.call(owner.address(), registry, &AssetRegistry::commitCall { commitment: made.0.into() }, Amount::ZERO).unwrap();
    let call = AssetRegistry::acceptCall {
        body: given.document.encode().into(),
        signature: given.signature.0.to_vec().into(),
        report: report.document.encode().into(),
        reportSignature: report.signature.0.to_vec().into(),
        textTop: text_top(&text).0.into(),
    };
    evm.call(owner.address(), registry, &call, Amount::ZERO).unwrap();
}

#[test]
fn audits_are_drawn_and_rent_is_paid_as_rust_says() {
    let mut world = World::new();
    let (rent, audits) = (world.evm.deployment.rent, world.evm.deployment.audits);
    world.next();
    let (mut sum, mut claims, mut refused) = (0_u128, 0, 0);
    for _ in 0..cases(40) {
        let (epoch, beacon) = (world.epoch + 1, world.next());
        if world.rng.is(3) {
            let byte = 1 + world.rng.below(u64::from(NODES)) as u8;
            world.evm.call(account(byte).address(), audits, &AuditRent::resignCall {}, Amount::ZERO).unwrap();
            let subnet = world.rng.below(4);
            world.enlist(byte, subnet).unwrap();
        }
        world.next();
        let period = world.evm.view(rent, &DatanetRent::periodCountCall { datanet: NET.0 }).unwrap().to::<u32>() - 1;
        let charge = world.evm.view(rent, &DatanetRent::periodOfCall { datanet: NET.0, period: U256::from(period) }).unwrap();
        assert_eq!((u64::from(charge.from), u64::from(charge.until), charge.contributions), (epoch, epoch + 1, 5));
        let seats = world.roll(epoch);
        for place in 0..seats.len() {
            let drawn = auditors(beacon, place, &seats);
            let call = AuditRent::auditorsOfCall { epoch, node: address(seats[place].node), place: U256::from(place) };
            let mut expected: Vec<_> = drawn.iter().copied().map(address).collect();
            expected.resize(3, alloy::primitives::Address::ZERO);
            assert_eq!(world.evm.view(audits, &call).unwrap().to_vec(), expected);
            if drawn.len() < 2 {
                continue;
            }
            let entries = world.holdings(period);
            let share = |contribution: u32| {
                let parts = u128::from(charge.textBytes) * u128::from(FRAGMENTS[contribution as usize]);
                charge.charged.to::<u128>() * SIZES[contribution as usize] as u128 / parts
            };
            let due: Vec<_> =
                entries.iter().filter_map(|entry| entry.payer.map(|payer| (payer.contribution, entry.held.fragment, epoch))).collect();
            let new: Vec<_> = due.iter().filter(|one| !world.paid.contains(one)).copied().collect();
            let expected: u128 = new.iter().map(|(contribution, ..)| share(*contribution)).sum();
            let before = world.evm.balance(seats[place].node);
            let audit = world.passed(epoch, &seats, place, &drawn, entries);
            match world.claim(&audit) {
                Ok(paid) => {
                    assert_eq!((paid, world.evm.balance(seats[place].node).0), (expected, before.0 + expected));
                    world.paid.extend(new);
                    (sum, claims) = (sum + paid, claims + 1);
                }
                Err(why) => {
                    assert!(why.starts_with("nothing due") && expected == 0, "{why}");
                    refused += 1;
                }
            }
        }
        let found = world.evm.view(rent, &DatanetRent::accountOfCall { datanet: NET.0 }).unwrap();
        let books = world.evm.state.rent(NET);
        assert_eq!((books.prepaid.0, books.accrued.0), (found.prepaid, found.accrued));
        assert_eq!(found.prepaid + found.accrued + sum, open(1_000).0, "no wei is lost or made");
        assert_eq!(world.evm.balance(rent).0, found.prepaid + found.accrued);
    }
    assert!(claims > 100 && refused > 0 && sum > 0, "{claims} paid, {refused} refused");
    assert_eq!(world.evm.balance(audits).0, u128::from(NODES) * DEPOSIT.0);
}

#[test]
fn what_nobody_earned_is_the_datanets_again_in_the_books_too() {
    let mut world = World::new();
    let rent = world.evm.deployment.rent;
    for _ in 0..94 {
        world.next();
    }
    let before = world.evm.state.rent(NET);
    let call = DatanetRent::giveBackCall { datanet: NET.0, period: U256::ZERO };
    world.evm.call(account(9).address(), rent, &call, Amount::ZERO).unwrap();
    let (after, charge) =
        (world.evm.state.rent(NET), world.evm.view(rent, &DatanetRent::periodOfCall { datanet: NET.0, period: U256::ZERO }).unwrap());
    let charged = charge.charged.to::<u128>();
    assert!(charged > 0 && charge.paid == charge.charged);
    assert_eq!((after.prepaid.0, after.accrued.0), (before.prepaid.0 + charged, before.accrued.0 - charged));
    let error = world.evm.call(account(9).address(), rent, &call, Amount::ZERO).unwrap_err();
    assert!(error.starts_with("nothing unpaid"), "{error}");
}
