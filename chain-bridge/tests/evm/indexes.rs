//! X1 to X5 from index to slash: every way to lie about an index is found, the compiled verifier takes each claim as the Rust rule does, and of a right index
//! neither takes any.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use alloy::{primitives::U256, sol_types::SolCall as _};
use attribution::{
    index::{DatanetIndex, Entry, Index, Segment, Source, Tombstone},
    proof::index::{Contribution as Known, Laid, Leaves, Posted, SegmentLeaves, Texts, convicts, find_index},
};
use chain_bridge::{
    bindings::{AssetRegistry, Erasures, IndexVerifier, StakeManager},
    chain::Call,
    fraud::{calldata::Proof, indexes::evidence},
    registry::{manifest::ManifestError, money::ROLE_INDEXER},
};
use types::{
    amount::Amount,
    contribution::{Contribution, GateReport, commitment},
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, BlobId, Hash32},
    key::Signed,
    merkle::keccak,
    proof::{IndexClaim, SegmentFlaw, Shown},
    split::SplitTable,
    text::{leaves, text_root, text_top},
};

use super::{
    differential::random::Rng,
    harness::{Evm, account, open},
    transcript::cases,
};

const NETS: [u64; 2] = [2, 3];
const ADAPTER: u64 = 4;
/// The indexers' accounts.
const INDEXERS: [u8; 2] = [1, 2];
/// Of the first Datanet's contributions, the one that is erased before its version is published.
const ERASED: u64 = 2;
const SALT: Hash32 = Hash32([1; 32]);
/// More claims than any lie here gives.
const MOST: usize = 400;

/// A chain on which two Datanets and their contributions stand, and the index of them.
struct World {
    evm: Evm,
    index: Index,
    /// Block of the Datanets' publication.
    published: u64,
}

fn texts() -> [Vec<String>; 2] {
    let prose: String = (0..46).map(|word| format!("w{:x}rd{} ", word * 7 % 26, word % 3)).collect();
    let first = "the quick brown fox jumps over the lazy dog\0and a second document about the same dog\0and gone\0".to_owned();
    let second = format!("we saw café 学习 {prose}naïve судорога हिन्दी\0the quick brown fox jumps over the lazy dog\0");
    let more =
        ["erased and gone\0".to_owned(), "once more the quick brown fox\0".to_owned(), "the end of the quick brown fox\0".to_owned()];
    [[vec![first, second], more.to_vec()].concat(), vec!["another Datanet says hello to the quick brown fox\0".to_owned()]]
}

fn version(asset: u64, version: u32) -> AssetVersion {
    AssetVersion { asset: AssetId(asset), version }
}

fn refs(versions: &[AssetVersion]) -> Vec<AssetRegistry::Ref> {
    versions.iter().map(|version| AssetRegistry::Ref { asset: version.asset.0, version: version.version }).collect()
}

const SPLIT: SplitTable = SplitTable { node: 4_500, agent: 0, base: 1_500, adapter: 0, data: 3_000, stakers: 1_000 };

impl World {
    fn new() -> Self {
        let mut evm = Evm::new();
        let (owner, registry) = (account(3), evm.deployment.registry);
        for indexer in INDEXERS.map(account) {
            evm.bond(&indexer, open(1_000));
            let join = StakeManager::joinCall { roles: ROLE_INDEXER };
            evm.call(indexer.address(), evm.deployment.stake, &join, Amount::ZERO).unwrap();
        }
        let approve = AssetRegistry::approveParametersCall { paramId: 1, paramHash: [4; 32].into() };
        evm.call(account(60).address(), registry, &approve, Amount::ZERO).unwrap();
        for kind in [1, 3, 3, 2] {
            evm.call(owner.address(), registry, &AssetRegistry::registerCall { kind, uri: "card".into() }, Amount::ZERO).unwrap();
        }
        for (asset, texts) in NETS.into_iter().zip(texts()) {
            let made: Vec<_> = texts.iter().map(|text| commitment(SALT, text_root(text.as_bytes()), owner.address())).collect();
            for (number, commitment) in made.iter().enumerate() {
                // The first two in one block.
                evm.block += u64::from(number != 1);
                evm.call(owner.address(), registry, &AssetRegistry::commitCall { commitment: commitment.0.into() }, Amount::ZERO).unwrap();
            }
            // Not in the order of their commitments.
            let mut order: Vec<usize> = (0..texts.len()).collect();
            order[..texts.len().min(2)].reverse();
            for number in order {
                accept(&mut evm, asset, &texts[number], made[number], number);
            }
        }
        evm.block += 1;
        let erase = Erasures::eraseCall { datanet: NETS[0], contribution: U256::from(ERASED), reasonHash: [7; 32].into() };
        evm.call(owner.address(), evm.deployment.erasures, &erase, Amount::ZERO).unwrap();
        evm.block += 1;
        let published = evm.block;
        for asset in [1, NETS[0], NETS[1]] {
            publish(&mut evm, asset, if asset == 1 { SPLIT } else { SplitTable::default() }, &[], &[]);
        }
        let mut world = Self { evm, index: Index::new(vec![]).unwrap(), published };
        world.index = world.build(|_| true);
        world
    }

    /// The index over the contributions that `is_there` of the first Datanet's, by their number in the order of acceptance.
    fn build(&self, is_there: impl Fn(u64) -> bool) -> Index {
        let datanet = |(asset, texts): (u64, Vec<String>)| {
            let mut segments = [Vec::new(), Vec::new()];
            for accepted in self.evm.state.contributions(AssetId(asset)).filter(|accepted| asset != NETS[0] || is_there(accepted.number)) {
                let text = texts.iter().find(|text| text_root(text.as_bytes()) == accepted.text_root).unwrap().as_bytes();
                let (block, ordinal, text_root) = (accepted.priority.block, accepted.priority.ordinal, accepted.text_root);
                let entry = if asset == NETS[0] && accepted.number == ERASED {
                    Entry::Erased(Tombstone { block, ordinal, text_root })
                } else {
                    Entry::Text(Source { contributor: accepted.contributor, block, ordinal, text_root, text })
                };
                segments[usize::from(accepted.number > ERASED)].push(entry);
            }
            let segments = segments.iter().filter(|entries| !entries.is_empty()).map(|entries| Segment::build_entries(entries, 0).unwrap());
            Arc::new(DatanetIndex::new(version(asset, 1), segments.collect()).unwrap())
        };
        Index::new(NETS.into_iter().zip(texts()).map(datanet).collect()).unwrap()
    }

    /// Has a root posted for a next version of the adapter; the version, and what the chain knows.
    fn post(&mut self, root: Hash32) -> (AssetVersion, Posted) {
        self.post_by(INDEXERS[0], root)
    }

    fn post_by(&mut self, indexer: u8, root: Hash32) -> (AssetVersion, Posted) {
        let declared = NETS.map(|asset| version(asset, 1));
        self.evm.block += 1;
        let split = SplitTable { adapter: 500, node: SPLIT.node - 500, ..SPLIT };
        let number = publish(&mut self.evm, ADAPTER, split, &[version(1, 1)], &declared);
        let call = AssetRegistry::postIndexRootCall { asset: ADAPTER, version: number, root: root.0.into(), paramId: 1 };
        self.evm.call(account(indexer).address(), self.evm.deployment.registry, &call, Amount::ZERO).unwrap();
        (version(ADAPTER, number), self.posted(root))
    }

    fn posted(&self, root: Hash32) -> Posted {
        let state = &self.evm.state;
        let known = |asset: u64| {
            let mut accepted: Vec<_> = state.contributions(AssetId(asset)).collect();
            accepted.sort_by_key(|accepted| accepted.number);
            let known = accepted.into_iter().map(|accepted| Known {
                contributor: accepted.contributor,
                text_root: accepted.text_root,
                block: accepted.priority.block,
                ordinal: accepted.priority.ordinal,
                erased: state.erasure(AssetId(asset), accepted.number).map(|erasure| erasure.place.0),
            });
            (AssetId(asset), known.collect())
        };
        Posted {
            root,
            declared: NETS.map(|asset| version(asset, 1)).to_vec(),
            published: NETS.into_iter().map(|asset| (version(asset, 1), self.published)).collect(),
            contributions: NETS.into_iter().map(known).collect(),
        }
    }

    fn find(&self, laid: &Laid, posted: &Posted) -> Vec<IndexClaim> {
        find_index(laid, posted, &Texts::of(&self.index), MOST)
    }

    /// What the contract says of a claim about a version's root.
    fn ask(&mut self, of: AssetVersion, claim: &IndexClaim) -> Result<u64, String> {
        let call = IndexVerifier::requireFaultCall {
            asset: of.asset.0,
            version: of.version,
            mode: claim.mode(),
            evidence: evidence(claim).into(),
        };
        let (to, from) = (self.evm.deployment.indexes, account(9).address());
        self.evm.look(from, Call { to: Some(to), data: call.abi_encode(), value: Amount::ZERO }).map(|done| done.gas)
    }

    /// Has all contributions entered.
    fn enter(&mut self) {
        for datanet in NETS {
            let call = IndexVerifier::enterCall { datanet, most: U256::from(9) };
            self.evm.call(account(9).address(), self.evm.deployment.indexes, &call, Amount::ZERO).unwrap();
        }
    }
}

fn accept(evm: &mut Evm, asset: u64, text: &str, made: Hash32, number: usize) {
    let (owner, domains) = (account(3), evm.deployment.domains());
    let (text_root, object) = (text_root(text.as_bytes()), BlobId(keccak(&[&asset.to_be_bytes(), &[number as u8]]).0));
    let given = Contribution {
        datanet: AssetId(asset),
        contributor: owner.address(),
        text_root,
        text_bytes: text.len() as u64,
        documents: 1,
        salt: SALT,
        licence: Hash32([3; 32]),
        object,
    };
    let report = GateReport { datanet: AssetId(asset), text_root, commitment: made, report: Hash32([6; 32]), object, is_accepted: true };
    let (given, report) = (Signed::new(&owner, &domains, given), Signed::new(&owner, &domains, report));
    let call = AssetRegistry::acceptCall {
        body: given.document.encode().into(),
        signature: given.signature.0.to_vec().into(),
        report: report.document.encode().into(),
        reportSignature: report.signature.0.to_vec().into(),
        textTop: text_top(text.as_bytes()).0.into(),
    };
    evm.call(owner.address(), evm.deployment.registry, &call, Amount::ZERO).unwrap();
}

fn publish(evm: &mut Evm, asset: u64, split: SplitTable, parents: &[AssetVersion], datanets: &[AssetVersion]) -> u32 {
    let call = AssetRegistry::publishCall {
        asset,
        contentHash: [asset as u8; 32].into(),
        parents: refs(parents),
        split: split.rows(),
        datanets: refs(datanets),
        licenceHash: [8; 32].into(),
        minParentShare: 0,
    };
    evm.call(account(3).address(), evm.deployment.registry, &call, Amount::ZERO).unwrap();
    evm.state.asset(AssetId(asset)).unwrap().versions
}

fn entries(of: &SegmentLeaves) -> Vec<u64> {
    let of_leaf = |leaf: &Vec<u8>| leaf.chunks(5).map(|entry| entry.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte))).collect();
    let leaves: Vec<Vec<u64>> = of.array.iter().map(of_leaf).collect();
    leaves.iter().enumerate().flat_map(|(number, leaf)| leaf[usize::from(number > 0)..].to_vec()).collect()
}

fn arrange(of: &mut SegmentLeaves, entries: &[u64]) {
    let leaf = |number: usize| {
        entries[15 * number..entries.len().min(15 * number + 16)].iter().flat_map(|entry| entry.to_be_bytes()[3..].to_vec())
    };
    of.array = (0..entries.len().div_ceil(15)).map(|number| leaf(number).collect()).collect();
    of.entries = entries.len() as u64;
}

/// What an indexer may post instead, with the mode that says so first of all.
type Lie = (&'static str, u8, fn(&mut Leaves));

fn first(of: &mut Leaves) -> &mut SegmentLeaves {
    &mut of.0[0].segments[0]
}

fn rearranged(of: &mut Leaves, change: impl FnOnce(&mut Vec<u64>)) {
    let mut all = entries(first(of));
    change(&mut all);
    arrange(first(of), &all);
}

const LIES: [Lie; 33] = [
    ("two entries change places", 0, |of| rearranged(of, |entries| entries.swap(0, 3))),
    ("entries of two array leaves change places", 0, |of| rearranged(of, |entries| entries.swap(15, 16))),
    ("an entry stands twice", 0, |of| rearranged(of, |entries| entries[8] = entries[7])),
    ("array leaves share another entry", 1, |of| first(of).array[1][4] ^= 1),
    ("an array leaf is cut", 1, |of| first(of).array[1].truncate(70)),
    ("an array leaf is empty", 1, |of| first(of).array[0].clear()),
    ("text leaves share other bytes", 2, |of| first(of).texts[4][7] ^= 1),
    ("a text leaf is empty", 2, |of| first(of).texts[3].clear()),
    ("the last text leaf goes on", 2, |of| first(of).texts.last_mut().unwrap().push(0)),
    ("a text leaf ends without a zero byte", 2, |of| first(of).texts[3].truncate(40)),
    ("another text in a contribution's place", 3, |of| {
        let start = 128;
        let mut text: Vec<u8> = texts()[0][1].clone().into_bytes();
        text[..6].copy_from_slice(b"we sad");
        for (number, leaf) in leaves(&text).enumerate() {
            first(of).texts[start / 64 + number] = leaf.to_vec();
        }
    }),
    ("an entry inside a word", 4, |of| rearranged(of, |entries| entries[5] += 1)),
    ("an entry beyond the text", 4, |of| rearranged(of, |entries| entries[5] = 1 << 20)),
    ("an entry at the end of a contribution", 4, |of| rearranged(of, |entries| entries[5] = 100)),
    ("the first word has no entry", 5, |of| {
        rearranged(of, |entries| {
            entries.remove(0);
        })
    }),
    ("a word between has no entry", 5, |of| {
        rearranged(of, |entries| {
            entries.remove(20);
        })
    }),
    ("the last word has no entry", 5, |of| rearranged(of, |entries| entries.truncate(entries.len() - 1))),
    ("no word has an entry", 5, |of| rearranged(of, Vec::clear)),
    ("another payee", 6, |of| first(of).rows[1][50] ^= 1),
    ("another root of a contribution", 6, |of| (3..5).for_each(|row| first(of).rows[row][9] ^= 1)),
    ("a tombstone of what was not erased", 6, |of| (41..61).for_each(|byte| of.0[1].segments[0].rows[0][byte] = 0)),
    ("a row begins elsewhere", 7, |of| first(of).rows[1][36] ^= 1),
    ("a row's document has another number", 7, |of| first(of).rows[4][76] ^= 1),
    ("a document is longer than its text", 8, |of| first(of).rows[0][40] += 9),
    ("a document is shorter than its text", 8, |of| first(of).rows[0][40] -= 9),
    ("a row of nobody's contribution", 10, |of| of.0[1].segments[0].rows[0][68] ^= 0x40),
    ("a segment says more entries", 11, |of| first(of).entries += 15),
    ("a segment has text and no rows", 11, |of| of.0[0].segments[1].rows.clear()),
    ("a segment begins elsewhere", 12, |of| of.0[0].segments[1].start += 1),
    ("another version of a Datanet", 13, |of| of.0[1].version.version += 1),
    ("a document in the last stride has no row", 14, |of| drop(first(of).rows.remove(2))),
    ("a Datanet has a length and no segments", 15, |of| of.0[1].segments.clear()),
    ("a row is too short to be read", 16, |of| first(of).rows[1].truncate(84)),
];

#[test]
fn every_lie_about_an_index_is_found_and_taken_and_none_of_it_is_held_against_the_right_one() {
    let mut world = World::new();
    world.enter();
    let honest = Laid::new(Leaves::of(&world.index));
    assert_eq!(honest.root(), world.index.root());
    let (right, of_right) = world.post(honest.root());
    assert_eq!(world.find(&honest, &of_right), [], "a right index was accused");
    let mut taken = BTreeMap::<u8, (u32, u64)>::new();
    for (name, mode, tell) in LIES {
        let mut leaves = Leaves::of(&world.index);
        tell(&mut leaves);
        let laid = Laid::new(leaves);
        let (of, posted) = world.post(laid.root());
        let found = world.find(&laid, &posted);
        let modes: BTreeSet<u8> = found.iter().map(IndexClaim::mode).collect();
        assert!(modes.contains(&mode), "{name}: {modes:?}");
        for claim in &found {
            let gas = world.ask(of, claim).unwrap_or_else(|refused| panic!("{name}, mode {}: {refused}", claim.mode()));
            let (count, dearest) = taken.entry(claim.mode()).or_default();
            (*count, *dearest) = (*count + 1, gas.max(*dearest));
            assert_ne!(convicts(claim, &of_right), Ok(true), "{name}");
            world.ask(right, claim).unwrap_err();
        }
    }
    // One that was left out is found by who came later, wherever the gap is.
    for missing in 0..4 {
        let laid = Laid::new(Leaves::of(&world.build(|number| number != missing)));
        let (of, posted) = world.post(laid.root());
        let found = world.find(&laid, &posted);
        assert!(!found.is_empty() && found.iter().all(|claim| claim.mode() == 9), "{missing}: {found:?}");
        let gas = world.ask(of, &found[0]).unwrap();
        taken.insert(9, (1, gas));
    }
    println!("modes with claims and the dearest gas {taken:?}");
    assert_eq!(taken.into_keys().collect::<Vec<_>>(), (0..17).collect::<Vec<_>>());
}

/// Everything that is shown.
fn shown(claim: &mut IndexClaim) -> Vec<&mut Shown> {
    match claim {
        IndexClaim::OtherDatanet(shown) | IndexClaim::Hollow { datanet: shown, .. } => vec![shown],
        IndexClaim::DatanetCount(_) => vec![],
        IndexClaim::Form { datanet, segment, leaf } => datanet.iter_mut().chain(segment).chain([leaf]).collect(),
        IndexClaim::Segment { source, flaw } => {
            let mut all = vec![&mut source.datanet, &mut source.segment];
            match flaw {
                SegmentFlaw::Order { array, texts: [one, other], .. } => all.extend([array, one, other]),
                SegmentFlaw::ArrayLeaves { array: one, next }
                | SegmentFlaw::TextLeaves { text: one, next }
                | SegmentFlaw::Rows { row: one, next } => {
                    all.push(one);
                    all.extend(next);
                }
                SegmentFlaw::Text { row, own, text } => all.extend([row, own, text]),
                SegmentFlaw::Entry { array, passage, .. } => {
                    all.push(array);
                    all.extend(passage.iter_mut().flat_map(|of| std::iter::once(&mut of.text).chain(&mut of.before)));
                }
                SegmentFlaw::Missing { passage, between, .. } => {
                    all.extend(std::iter::once(&mut passage.text).chain(&mut passage.before));
                    all.extend(between.iter_mut().flat_map(|of| std::iter::once(&mut of.array).chain(&mut of.before).chain(&mut of.after)));
                }
                SegmentFlaw::Row { row, .. } | SegmentFlaw::Invented(row) | SegmentFlaw::LeftOut { row, .. } => all.push(row),
                SegmentFlaw::Length { row, text, .. } => all.extend([row, text]),
                SegmentFlaw::Counts { .. } => {}
                SegmentFlaw::Segments { next, .. } => all.extend(next),
                SegmentFlaw::Behind { row, next, text } => {
                    all.extend([row, text]);
                    all.extend(next);
                }
            }
            all
        }
    }
}

/// A claim with something changed that is not hashed, or something that is.
fn changed(rng: &mut Rng, claim: &IndexClaim) -> IndexClaim {
    let mut claim = claim.clone();
    let step = |rng: &mut Rng, number: u64| if rng.is(2) { number + 1 } else { number.saturating_sub(1) };
    if rng.is(2) {
        let mut all = shown(&mut claim);
        let count = all.len().max(1) as u64;
        if let Some(one) = all.get_mut(rng.below(count) as usize).filter(|one| !one.leaf.is_empty()) {
            let at = rng.below(one.leaf.len() as u64) as usize;
            one.leaf[at] ^= 1 << rng.below(8);
        }
        return claim;
    }
    if let IndexClaim::Segment { flaw, .. } = &mut claim {
        match flaw {
            SegmentFlaw::Order { place, .. } | SegmentFlaw::Entry { place, .. } => *place = step(rng, (*place).into()) as u8,
            SegmentFlaw::Missing { place, between, .. } => {
                if rng.is(2) {
                    *place = step(rng, *place);
                } else if let Some(between) = between {
                    between.rank = step(rng, between.rank);
                }
            }
            SegmentFlaw::Row { number, .. } => *number = step(rng, *number),
            SegmentFlaw::Length { place, .. } => *place = step(rng, *place),
            SegmentFlaw::LeftOut { number, missing, .. } => {
                let which = if rng.is(2) { number } else { missing };
                *which = step(rng, *which);
            }
            SegmentFlaw::ArrayLeaves { next, .. } | SegmentFlaw::TextLeaves { next, .. } | SegmentFlaw::Rows { next, .. } => *next = None,
            _ => {}
        }
    }
    claim
}

#[test]
fn the_rule_in_rust_is_the_contracts_for_claims_that_are_right_and_for_such_as_are_changed() {
    let mut world = World::new();
    world.enter();
    let mut rng = Rng(23);
    let (mut agreed, mut convicting) = (0, 0);
    for (name, _, tell) in LIES {
        let mut leaves = Leaves::of(&world.index);
        tell(&mut leaves);
        let laid = Laid::new(leaves);
        let (of, posted) = world.post(laid.root());
        let found = world.find(&laid, &posted);
        for _ in 0..cases(12) {
            let which = rng.below(found.len() as u64) as usize;
            let claim = changed(&mut rng, &found[which]);
            let (ours, theirs) = (convicts(&claim, &posted), world.ask(of, &claim));
            assert_eq!(ours == Ok(true), theirs.is_ok(), "{name}, {claim:?}: {ours:?}, the contract: {theirs:?}");
            agreed += 1;
            convicting += u32::from(theirs.is_ok());
        }
    }
    assert!(agreed > 300 && convicting > 20, "{agreed} {convicting}");
}

#[test]
fn who_posts_a_wrong_root_is_slashed_once_and_the_version_has_no_manifest_any_more() {
    let mut world = World::new();
    let mut leaves = Leaves::of(&world.index);
    rearranged(&mut leaves, |entries| {
        entries.remove(20);
    });
    let laid = Laid::new(leaves);
    let (of, posted) = world.post(laid.root());
    assert_eq!(world.evm.state.manifest(of).unwrap().index, laid.root());
    let proof = Proof::index(of, &world.find(&laid, &posted)[0]);
    let reporter = account(4).address();
    world.evm.try_proof(reporter, &proof).unwrap();
    let to = proof.verifier.address(&world.evm.deployment);
    assert_eq!(to, world.evm.deployment.indexes);
    world.evm.send(reporter, Call { to: Some(to), data: proof.call.clone(), value: Amount::ZERO }).unwrap();
    let slashes = world.evm.state.slashes();
    assert_eq!((slashes.len(), slashes[0].account, slashes[0].victim), (1, account(INDEXERS[0]).address(), Address::ZERO));
    let refuted = *world.evm.state.refuted(of).unwrap();
    assert_eq!((refuted.root, refuted.mode, refuted.reporter), (laid.root(), 5, reporter));
    assert_eq!(world.evm.state.refuted_root(laid.root()), Some((of, &refuted)));
    let refused = ManifestError::Refuted { version: of, root: laid.root(), mode: 5, block: refuted.block };
    assert_eq!(world.evm.state.manifest(of), Err(refused));
    let again = world.evm.try_proof(reporter, &proof).unwrap_err();
    assert!(again.starts_with("already slashed"), "{again}");
    // The next version has a root of its own.
    let root = world.index.root();
    let (next, _) = world.post_by(INDEXERS[1], root);
    assert_eq!(world.evm.state.manifest(next).unwrap().index, root);
}
