//! What proofs about spans do to an epoch's money: a span that is void pays the insurance pool, one of two that overlap pays whom it names, and nobody else's part changes. The
//! contract, the division that `attribution` replays, and one made with `types` alone give the same tree; a tree that pays a void span's payee is refuted.

use std::{collections::BTreeMap, sync::Arc};

use attribution::{
    answer::answer_root,
    epoch::replay::{Accounts, EpochFacts, Facts, Posted, RefundFacts, Replay, RootFacts},
    index::{DatanetIndex, Index, Segment, Source},
    message::ReceiptItem,
    parameters::Parameters,
    proof::{Given, find},
    span::attribute,
};
use chain_bridge::{
    bindings::AssetRegistry,
    chain::Call,
    fraud::{
        calldata::Proof,
        payout::{PayoutMode, Shown},
        search::{Bodies, first_fault},
    },
    registry::State,
};
use types::{
    amount::Amount,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, Hash32},
    key::Signed,
    manifest::Manifest,
    proof::{Claim, Ineligible},
    quote::Quote,
    receipt::{Mask, Receipt, Span},
    split::Part,
    text::{prompt_root, text_root},
};

use super::{
    harness::{account, open},
    money::{Line, Lines, World, seal},
    payout::try_proof,
};

const SALT: Hash32 = Hash32([6; 32]);
const FIRST: &str = "Bilateral sensorineural hearing impairment of congenital onset affecting speech development.\0";
const LATER: &str =
    "A note says: bilateral sensorineural hearing impairment of congenital onset affecting speech development. It says more.\0";
const OTHER: &str = "A generator expression yields a new generator object whenever the enclosing comprehension is evaluated lazily.\0";
const PROMPT: &[u8] = b"\x02What is meant by the long name of this rare and early illness?\0";
const ANSWER: &str = "You ask for the long name of this rare and early illness: sensorineural hearing impairment of congenital onset affecting speech development. \
    In Python a generator expression yields a new generator object whenever the code runs. \
    Cartography, viticulture, numismatics, lexicography, philately, dendrochronology, campanology, heraldry, metallurgy and horticulture have nothing to say here.";
const HOLDER: Address = Address([0xa1; 20]);
const LATER_HOLDER: Address = Address([0xa2; 20]);
const OTHER_HOLDER: Address = Address([0xb1; 20]);

/// What a chain's books say of an epoch.
struct Books<'s>(&'s State);

impl Facts for Books<'_> {
    fn epoch(&self, epoch: u64) -> Option<EpochFacts> {
        let found = self.0.epoch(epoch)?;
        let roots = found
            .roots
            .iter()
            .map(|(node, root)| (*node, RootFacts { receipts: root.receipts, count: root.count, fees: root.fees, block: root.block }));
        let refunds = self.0.refunds_due(epoch).map(|(lane, due, collected)| RefundFacts {
            lane,
            payer: due.payer,
            node: due.node,
            collected,
            given_back: due.given_back,
        });
        let posted = found.payout.map(|payout| Posted { root: payout.root, total: payout.total, previous: payout.previous });
        Some(EpochFacts { roots: roots.collect(), posted, refunds: refunds.collect() })
    }

    fn is_out(&self, epoch: u64, node: Address, receipt: Hash32) -> bool {
        self.0.is_out(epoch, node, receipt)
    }

    fn is_span_out(&self, epoch: u64, receipt: Hash32, span: u16) -> bool {
        self.0.is_span_out(epoch, receipt, span)
    }

    fn is_collected(&self, epoch: u64, lane: Hash32, cumulative_after: Amount) -> bool {
        self.0.is_collected(epoch, lane, cumulative_after)
    }

    fn owner_at(&self, asset: AssetId, block: u64) -> Option<Address> {
        self.0.payee_at(asset, block)
    }

    fn payout_at(&self, node: Address, block: u64) -> Option<Address> {
        self.0.payout_at(node, block)
    }
}

fn index() -> Index {
    let datanet = |asset, texts: &[(&'static str, Address)]| {
        let source = |(block, (text, contributor)): (u64, &(&'static str, Address))| Source {
            contributor: *contributor,
            block,
            ordinal: 0,
            text_root: text_root(text.as_bytes()),
            text: text.as_bytes(),
        };
        let segment = Segment::build(&(1..).zip(texts).map(source).collect::<Vec<_>>(), 0).unwrap();
        Arc::new(DatanetIndex::new(AssetVersion { asset: AssetId(asset), version: 1 }, vec![segment]).unwrap())
    };
    Index::new(vec![datanet(1, &[(FIRST, HOLDER), (LATER, LATER_HOLDER)]), datanet(2, &[(OTHER, OTHER_HOLDER)])]).unwrap()
}

/// Set 1 under another number: the world has approved something else as 1.
fn parameters() -> Parameters {
    let first = Parameters::builtin(1).unwrap();
    Parameters::new(2, first.m, first.theta, first.unknown, first.table().clone())
}

/// The span's words from `first` on, `count` of them.
fn part(span: &Span, first: usize, count: usize) -> Span {
    let (start, end) = (span.start as usize, span.start as usize + usize::from(span.length));
    let words: Vec<_> = types::text::words(ANSWER).into_iter().filter(|word| (start..end).contains(&word.start)).collect();
    let weight = words[first..first + count].iter().map(|word| Parameters::builtin(1).unwrap().weight(&ANSWER[word.clone()])).sum();
    let (from, to) = (words[first].start, words[first + count - 1].end);
    let position = span.position + (from - start) as u64;
    Span { start: from as u32, length: (to - from) as u16, position, weight, ..*span }
}

/// Fault, mode where it has several, the span that is void, the lie.
type Lie = (&'static str, Option<u8>, Option<u16>, fn(&mut Receipt));

/// The first span of the honest receipt is [`HOLDER`]'s, the second [`OTHER_HOLDER`]'s.
const LIES: [Lie; 15] = [
    ("F9", None, Some(0), |receipt| receipt.spans[0].payee = Address([0x66; 20])),
    ("F9", None, Some(0), |receipt| {
        let place = LATER.find("sensorineural").unwrap();
        (receipt.spans[0].position, receipt.spans[0].payee) = ((FIRST.len().next_multiple_of(64) + place) as u64, LATER_HOLDER);
    }),
    ("F1", Some(0), Some(1), |receipt| {
        let span = &mut receipt.spans[1];
        (span.start, span.length, span.position) = (span.start + 3, span.length - 3, span.position + 3);
    }),
    ("F1", Some(1), Some(0), |receipt| receipt.spans[0].length -= 1),
    ("F1", Some(2), Some(0), |receipt| receipt.spans[0].position += 1),
    ("F1", Some(3), Some(0), |receipt| receipt.spans[0].length += "t. In Python".len() as u16 - 1),
    ("F1", Some(4), Some(1), |receipt| receipt.spans[1] = part(&receipt.spans[1], 0, 3)),
    ("F1", Some(5), Some(0), |receipt| receipt.spans[0].weight = 60 * 256 - 1),
    ("F10", Some(8), Some(0), |receipt| receipt.spans[0].weight += 1),
    ("F1", Some(9), Some(0), |receipt| {
        let mask = receipt.masks[0];
        receipt.spans.insert(0, Span { start: mask.start, length: mask.length as u16, payee: Address([0x66; 20]), ..receipt.spans[1] });
    }),
    ("F1", Some(10), Some(1), |receipt| receipt.spans.insert(1, receipt.spans[0])),
    // What lies over what is not told: both are paid, and the node pays.
    ("F1", Some(7), None, |receipt| receipt.spans.insert(1, part(&receipt.spans[0], 0, 8))),
    ("F2", None, None, |receipt| receipt.spans.truncate(1)),
    ("F10", None, None, |receipt| receipt.weight_total += 1),
    ("F11", None, None, |receipt| receipt.masks.push(Mask { start: 1 << 20, length: 4, prompt: 0 })),
];

/// Whether a claim is the one that a lie is for.
fn is_it(claim: &Claim, (fault, mode, void, _): &Lie) -> bool {
    let code = match claim {
        Claim::Ineligible(Ineligible { rule, .. }) => Some(rule.code()),
        _ => None,
    };
    claim.fault() == *fault && claim.voids() == *void && (mode.is_none() || code == *mode)
}

/// An epoch of an honest receipt and one of each lie, each lie proven within W1 by what Rust found; the receipts with their proofs' voids.
struct Divided {
    world: World,
    receipts: Vec<(Bodies, Signed<Receipt>)>,
    /// By the receipt's place.
    voids: BTreeMap<u64, u16>,
}

impl Divided {
    fn new() -> Self {
        let (mut world, index, parameters) = (World::start(), index(), parameters());
        let registry = world.t.evm.deployment.registry;
        let call = AssetRegistry::approveParametersCall { paramId: 2, paramHash: parameters.hash().0.into() };
        world.t.evm.call(account(60).address(), registry, &call, Amount::ZERO).unwrap();
        world.t.evm.block += 1;
        let found = attribute(&index, &parameters, PROMPT, ANSWER).unwrap();
        assert_eq!(found.spans.iter().map(|span| span.payee).collect::<Vec<_>>(), [HOLDER, OTHER_HOLDER]);
        let (lane, domains) = (world.lane(1, 1), world.t.evm.deployment.domains());
        let receipt = |world: &World, place: usize, tell: &dyn Fn(&mut Receipt)| {
            let plain = world.bodies(1, &lane, place as u128, place as u64, 0);
            let mut receipt = Receipt {
                request: Hash32([place as u8 + 1; 32]),
                index: index.root(),
                parameters: 2,
                prompt_root: prompt_root(PROMPT, SALT),
                answer_root: answer_root(ANSWER, &found.words, SALT),
                weight_total: found.weight_total,
                spans: found.spans.clone(),
                masks: found.masks.clone(),
                ..Receipt::decode(&plain.receipt).unwrap()
            };
            tell(&mut receipt);
            (Bodies { receipt: receipt.encode(), ..plain }, Signed::new(&world.other, &domains, receipt))
        };
        let told = LIES.iter().zip(1..).map(|(lie, place)| receipt(&world, place, &lie.3));
        let receipts: Vec<_> = std::iter::once(receipt(&world, 0, &|_| ())).chain(told).collect();
        world.collect(&lane, receipts.len() as u128);
        world.submit(1, &receipts.iter().map(|(bodies, _)| bodies.clone()).collect::<Vec<_>>());

        let claims = |receipt: &Signed<Receipt>| {
            let prompt = Some((PROMPT.into(), SALT));
            find(Given { domains: &domains, receipt, answer: ANSWER, answer_salt: SALT, prompt }, &parameters, &index).unwrap()
        };
        assert_eq!(claims(&receipts[0].1), []);
        let mut voids = BTreeMap::new();
        for (lie, (place, (_, signed))) in LIES.iter().zip((1_u64..).zip(&receipts[1..])) {
            let found = claims(signed);
            let named = || found.iter().map(|proof| (proof.claim.fault(), proof.claim.voids())).collect::<Vec<_>>();
            let proof = found.iter().find(|proof| is_it(&proof.claim, lie)).unwrap_or_else(|| panic!("lie {place}: {:?}", named()));
            let proof = Proof::attribution(proof);
            let (reporter, to) = (account(4).address(), proof.verifier.address(&world.t.evm.deployment));
            world.t.evm.try_proof(reporter, &proof).unwrap_or_else(|refused| panic!("lie {place}: {refused}"));
            world.t.evm.send(reporter, Call { to: Some(to), data: proof.call, value: Amount::ZERO }).unwrap();
            voids.extend(lie.2.map(|span| (place, span)));
        }
        assert_eq!(world.t.evm.state.slashes().len(), LIES.len(), "each costs its node once");
        world.end_w1();
        Self { world, receipts, voids }
    }

    fn insurance(&self) -> Address {
        self.world.t.evm.deployment.insurance
    }

    /// The same lines with a part of the insurance pool paid to somebody else.
    fn paid_to(&self, lines: &Lines, receipt: u64, span: u16, payee: Address) -> Lines {
        let mut lines = lines.clone();
        let code = Part::Span(span).code();
        let of =
            |line: &Line| line.parts.iter().position(|row| row.part().is_some_and(|part| (part.receipt, part.part) == (receipt, code)));
        let from = lines.iter_mut().find(|line| line.account == self.insurance()).unwrap();
        let place = of(from).unwrap();
        let row = from.parts.remove(place);
        let part = row.part().unwrap();
        if !lines.iter().any(|line| line.account == payee) {
            lines.push(Line { account: payee, previous: Amount::ZERO, parts: vec![] });
            lines.sort_by_key(|line| line.account);
        }
        let to = lines.iter_mut().find(|line| line.account == payee).unwrap();
        let at = to.parts.iter().position(|other| other.part().unwrap().place() > part.place()).unwrap_or(to.parts.len());
        to.parts.insert(at, row);
        lines.retain(|line| !line.parts.is_empty() || line.previous > Amount::ZERO);
        lines
    }
}

/// What each span of a receipt pays, and to whom.
fn spans(lines: &Lines, receipt: u64) -> BTreeMap<u32, (Address, Amount)> {
    let parts = lines.iter().flat_map(|line| line.parts.iter().map(move |row| (line.account, row.part().unwrap())));
    let spans = parts.filter(|(_, part)| part.receipt == receipt && part.part >= Part::Span(0).code());
    spans.map(|(payee, part)| (part.part - Part::Span(0).code(), (payee, part.amount))).collect()
}

#[test]
fn a_void_spans_part_is_the_insurance_pools_nobody_elses_changes_and_replay_and_contract_agree() {
    let mut divided = Divided::new();
    let lines = divided.world.expected();
    assert_eq!(divided.voids.len(), 11);
    for (place, (_, signed)) in (0_u64..).zip(&divided.receipts) {
        let (receipt, paid) = (&signed.document, spans(&lines, place));
        assert_eq!(paid.len(), receipt.spans.len(), "receipt {place}: every span has its part");
        for (number, span) in (0_u16..).zip(&receipt.spans) {
            let payee = if divided.voids.get(&place) == Some(&number) { divided.insurance() } else { span.payee };
            assert_eq!(paid[&u32::from(number)].0, payee, "receipt {place}, span {number}");
        }
    }
    // The tree of the honest poster: the contract finds nothing, and whoever replays finds the same.
    let shown = Shown::new(seal(&lines)).unwrap();
    let before = divided.world.t.evm.snapshot();
    divided.world.post(&shown, shown.total()).unwrap();
    assert_eq!(first_fault(&divided.world.case(&shown, &shown)), Ok(None));
    let deployment = &divided.world.t.evm.deployment;
    let accounts = Accounts {
        domains: deployment.domains(),
        protocol: deployment.config.protocol,
        stakers: deployment.rewards,
        insurance: deployment.insurance,
    };
    let item = |(bodies, signed): &(Bodies, Signed<Receipt>)| {
        ReceiptItem::new(signed.clone(), &Quote::decode(&bodies.quote).unwrap(), &Manifest::decode(&bodies.manifest).unwrap())
    };
    let items = BTreeMap::from([(divided.world.other.address(), divided.receipts.iter().map(item).collect())]);
    let books = Books(&divided.world.t.evm.state);
    let rebuilt = Replay::new(&books, accounts).next(1, &items).unwrap();
    assert_eq!((rebuilt.payout.root(), rebuilt.unpaid), (shown.root(), vec![]));

    // Who pays a void span's payee all the same is refuted by that part, and so is who takes from one that is not void.
    let named = |place: u64, number: u16| divided.receipts[place as usize].1.document.spans[usize::from(number)].payee;
    let wrong: Vec<_> = divided.voids.iter().map(|(place, span)| divided.paid_to(&lines, *place, *span, named(*place, *span))).collect();
    for lines in wrong {
        divided.world.t.evm.restore(&before);
        let posted = Shown::new(seal(&lines)).unwrap();
        divided.world.post(&posted, posted.total()).unwrap();
        let proof = first_fault(&divided.world.case(&posted, &shown)).unwrap().expect("a void span's payee was paid");
        assert_eq!(proof.mode, PayoutMode::Part);
        try_proof(&mut divided.world, &proof).unwrap();
    }
}

#[test]
fn an_honest_holder_under_a_lie_keeps_what_his_text_earned() {
    let divided = Divided::new();
    let lines = divided.world.expected();
    let honest = spans(&lines, 0);
    assert!(honest.values().all(|(_, amount)| amount.0 > open(1).0 / 1_000), "{honest:?}");
    let lie_of = |mode| (1_u64..).zip(&LIES).find(|(_, lie)| lie.1 == Some(mode)).unwrap().0;
    // A twin, or a span over what the prompt holds, is void; a part of his own span stays beside it. He has what he has without the lie.
    for (mode, his, other) in [(10, 0, 2), (9, 1, 2), (7, 0, 2)] {
        let paid = spans(&lines, lie_of(mode));
        assert_eq!((paid[&his].0, paid[&other].0), (HOLDER, OTHER_HOLDER), "mode {mode}");
        let near = |one: Amount, other: Amount| one.0.abs_diff(other.0) < 1_000;
        assert!(near(paid[&his].1, honest[&0].1) && near(paid[&other].1, honest[&1].1), "mode {mode}: {paid:?}, {honest:?}");
    }
}
