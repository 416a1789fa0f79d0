//! F2, F9, F10, F11 and ineligible spans from index to slash: what `attribution` finds, the compiled verifiers take, and against an honest receipt neither says a word.

use std::{collections::BTreeMap, sync::Arc};

use attribution::{
    answer::answer_root,
    index::{Clusters, DatanetIndex, Index, Segment, Source},
    parameters::Parameters,
    proof::{Committed, Given, find, find_in_leaves},
    span::attribute,
};
use chain_bridge::{bindings::AssetRegistry, chain::Call, fraud::calldata::Proof};
use types::{
    amount::Amount,
    contribution::Priority,
    encoding::Document as _,
    id::{Address, AssetId, AssetVersion, Hash32},
    key::{Account, Signed},
    merkle::{Tree, keccak, leaf_digests},
    proof::{self, Claim, FalseLeaf, FalseMask, Ineligible},
    quote::{Class, Profile},
    receipt::{Mask, Reason, Receipt, Span},
    text::{prompt_root, text_root},
    time::BlockRef,
};

use super::{
    differential::random::Rng,
    harness::{Evm, account, open},
    transcript::cases,
};

const SALT: Hash32 = Hash32([6; 32]);
/// Words of one, two and three bytes a character, some of which are words by themselves.
const WORDS: [&str; 40] = [
    "hepatic",
    "renal",
    "ataxia",
    "nystagmus",
    "dysplasia",
    "febrile",
    "seizure",
    "congenital",
    "onset",
    "hypoplasia",
    "of",
    "the",
    "in",
    "a",
    "café",
    "naïve",
    "Übergröße",
    "señal",
    "фебрильный",
    "судорога",
    "почки",
    "здоровье",
    "学习",
    "语言",
    "数据",
    "कखग",
    "चछज",
    "हिन्दी",
    "generator",
    "lazily",
    "evaluated",
    "expression",
    "yields",
    "enclosing",
    "comprehension",
    "whenever",
    "object",
    "new",
    "x1",
    "2nd",
];

/// A chain that knows the parameters and a staked node, and what the node answers from.
struct World {
    evm: Evm,
    node: Account,
}

impl World {
    fn new() -> Self {
        let mut evm = Evm::new();
        let node = account(1);
        evm.bond(&node, open(1_000));
        let parameters = Parameters::builtin(1).unwrap();
        let call = AssetRegistry::approveParametersCall { paramId: 1, paramHash: parameters.hash().0.into() };
        let registry = evm.deployment.registry;
        evm.call(account(60).address(), registry, &call, Amount::ZERO).unwrap();
        evm.block += 1;
        Self { evm, node }
    }

    fn sign(&self, receipt: Receipt) -> Signed<Receipt> {
        Signed::new(&self.node, &self.evm.deployment.domains(), receipt)
    }

    fn find(&self, receipt: &Signed<Receipt>, answer: &str, prompt: &[u8], index: &Index) -> Vec<proof::Proof> {
        let prompt = Some((prompt.into(), SALT));
        let given = Given { domains: &self.evm.deployment.domains(), receipt, answer, answer_salt: SALT, prompt };
        find(given, Parameters::builtin(1).unwrap(), index).unwrap()
    }

    /// The same by who does not know the prompt.
    fn find_blind(&self, receipt: &Signed<Receipt>, answer: &str, index: &Index) -> Vec<proof::Proof> {
        let given = Given { domains: &self.evm.deployment.domains(), receipt, answer, answer_salt: SALT, prompt: None };
        find(given, Parameters::builtin(1).unwrap(), index).unwrap()
    }

    fn try_proof(&mut self, proof: &proof::Proof) -> Result<u64, String> {
        self.evm.try_proof(account(4).address(), &Proof::attribution(proof)).map(|done| done.gas)
    }
}

fn phrase(rng: &mut Rng, words: u64) -> String {
    let one = |rng: &mut Rng| WORDS[rng.below(WORDS.len() as u64) as usize];
    let mut text = one(rng).to_owned();
    for _ in 1..words {
        text.push_str([" ", " ", " ", " ", ", ", "-", ". "][rng.below(7) as usize]);
        text.push_str(one(rng));
    }
    text
}

/// Datanets of several segments and contributions; later documents repeat pieces of earlier ones, a few are near copies paid through them.
fn index(rng: &mut Rng) -> (Index, Vec<String>) {
    let mut texts: Vec<String> = Vec::new();
    let mut block = 0;
    let mut datanets = Vec::new();
    for number in 0..1 + rng.below(2) {
        let (mut segments, mut members, mut of_datanet) = (Vec::new(), Vec::new(), Vec::<Priority>::new());
        for _ in 0..1 + rng.below(3) {
            let mut contributions = Vec::new();
            for _ in 0..rng.below(4) {
                block += 1;
                let mut text = String::new();
                for document in 0..1 + rng.below(3) {
                    let words = 4 + rng.below(40) * 3;
                    let mut one = phrase(rng, words);
                    if rng.is(2) && !texts.is_empty() {
                        one = format!("{one} {}", texts[rng.below(texts.len() as u64) as usize]);
                    }
                    let at = Priority { block, ordinal: 0, document: document as u32 };
                    if rng.is(4) && !of_datanet.is_empty() {
                        members.push((at, of_datanet[rng.below(of_datanet.len() as u64) as usize]));
                    } else {
                        of_datanet.push(at);
                    }
                    text.push_str(&one);
                    text.push('\0');
                    texts.push(one);
                }
                contributions.push((block, text));
            }
            // Priorities rise within a segment, not from one to the next.
            let sources: Vec<_> = contributions
                .iter()
                .map(|(block, text)| Source {
                    contributor: Address([*block as u8; 20]),
                    block: *block,
                    ordinal: 0,
                    text_root: text_root(text.as_bytes()),
                    text: text.as_bytes(),
                })
                .collect();
            segments.push(Segment::build(&sources, 0).unwrap());
        }
        if rng.is(2) {
            segments.reverse();
        }
        let version = AssetVersion { asset: AssetId(number + 1), version: 1 };
        datanets.push(Arc::new(DatanetIndex::clustered(version, segments, &Clusters::new(members).unwrap()).unwrap()));
    }
    (Index::new(datanets).unwrap(), texts)
}

/// Pieces of documents between words of its own; the prompt repeats one of them.
fn answer(rng: &mut Rng, texts: &[String]) -> (String, Vec<u8>) {
    let (mut answer, mut prompt) = (phrase(rng, 3), "\u{2}What?".to_owned());
    for _ in 0..1 + rng.below(4) {
        if let Some(text) = texts.get(rng.below(texts.len().max(1) as u64) as usize) {
            let words: Vec<_> = types::text::words(text);
            let first = rng.below(words.len() as u64) as usize;
            let last = (first + 5 + rng.below(40) as usize).min(words.len() - 1);
            let piece = &text[words[first].start..words[last].end];
            if rng.is(6) {
                prompt = format!("\u{2}{piece}");
            }
            answer = format!("{answer} {piece}");
        }
        let words = 1 + rng.below(4);
        answer = format!("{answer} {}", phrase(rng, words));
        if rng.is(3) {
            let words = 6 + rng.below(20);
            let shared = phrase(rng, words);
            (prompt, answer) = (format!("{prompt}, {shared}"), format!("{answer} {shared} {}", phrase(rng, 1)));
        }
    }
    prompt.push('\0');
    (answer, prompt.into_bytes())
}

fn honest(world: &World, index: &Index, answer: &str, prompt: &[u8]) -> Receipt {
    let found = attribute(index, Parameters::builtin(1).unwrap(), prompt, answer).unwrap();
    Receipt {
        request: Hash32([1; 32]),
        attempt: 0,
        client: account(2).address(),
        node: world.node.address(),
        lane: Hash32([5; 32]),
        cumulative_after: Amount(500),
        manifest: Hash32([7; 32]),
        index: index.root(),
        parameters: 1,
        profile: Profile::Exact,
        class: Class::Checked,
        block: BlockRef { number: 10, hash: Hash32([11; 32]) },
        prompt_root: prompt_root(prompt, SALT),
        answer_root: answer_root(answer, &found.words, SALT),
        token_ids: Hash32([14; 32]),
        tokens_in: 15,
        first_token: 0,
        tokens_out: 40,
        quote: Hash32([18; 32]),
        fee: Amount(500),
        reason: Reason::Stop,
        weight_total: found.weight_total,
        fingerprint_root: Hash32::ZERO,
        assets: vec![AssetVersion { asset: AssetId(1), version: 1 }],
        spans: found.spans,
        masks: found.masks,
    }
}

/// Words of the answer in [start, end), and their weight.
fn weight(answer: &str, start: usize, end: usize) -> u32 {
    let words = types::text::words(answer).into_iter().filter(|word| (start..end).contains(&word.start));
    words.map(|word| Parameters::builtin(1).unwrap().weight(&answer[word])).sum()
}

/// The span's words from `first` on, `count` of them, at the place where the whole span stands.
fn part(answer: &str, span: &Span, first: usize, count: usize) -> Span {
    let (start, end) = (span.start as usize, span.start as usize + usize::from(span.length));
    let words: Vec<_> = types::text::words(answer).into_iter().filter(|word| (start..end).contains(&word.start)).collect();
    let (from, to) = (words[first].start, words[first + count - 1].end);
    Span {
        start: from as u32,
        length: (to - from) as u16,
        position: span.position + (from - start) as u64,
        weight: weight(answer, from, to),
        ..*span
    }
}

/// Another place with the same bytes, later than the one the span names.
fn later(index: &Index, answer: &str, span: &Span) -> Option<Span> {
    let text = &answer.as_bytes()[span.start as usize..][..span.length.into()];
    let places = index.datanets().iter().zip(0_u8..).flat_map(|(datanet, number)| {
        let mut start = 0;
        datanet.segments().iter().flat_map(move |segment| {
            let first = start;
            start += segment.text().len() as u64;
            let held = segment.array().iter().filter(move |at| segment.text()[*at as usize..].starts_with(text));
            held.map(move |at| (number, first + u64::from(at)))
        })
    });
    let (datanet, position) = places.filter(|place| *place != (span.datanet, span.position)).last()?;
    let open = index.open_span(datanet, position).unwrap();
    let payee = open.head.map_or(open.document.leaf.payee, |head| head.document.leaf.payee);
    Some(Span { datanet, position, payee, ..*span })
}

/// What a node may sign instead; nothing where a receipt gives no room for it.
fn lie(rng: &mut Rng, kind: u64, index: &Index, answer: &str, receipt: &Receipt) -> Option<Receipt> {
    let mut lied = receipt.clone();
    let number = rng.below(receipt.spans.len().max(1) as u64) as usize;
    let span = *receipt.spans.get(number)?;
    let words = types::text::words(answer);
    let count = words.iter().filter(|word| (span.start..span.start + u32::from(span.length)).contains(&(word.start as u32))).count();
    let some = 1 + rng.below(count as u64 - 1) as usize;
    match kind {
        0 => drop(lied.spans.splice(number..=number, [])),
        1 => lied.spans[number] = part(answer, &span, 0, some),
        2 => lied.spans[number] = part(answer, &span, some, count - some),
        3 => drop(lied.spans.splice(number..=number, [part(answer, &span, 0, some), part(answer, &span, some, count - some)])),
        4 => lied.spans[number].payee = Address([0x66; 20]),
        5 => lied.spans[number] = later(index, answer, &span)?,
        6 => lied.spans[number].weight -= 1,
        7 => lied.spans[number].weight += 1,
        8 => lied.weight_total += 1,
        9 => lied.spans.insert(number + 1, span),
        10 => {
            let half = &mut lied.spans[number];
            (half.start, half.length, half.position) = (half.start + 1, half.length - 1, half.position + 1);
        }
        11 => lied.spans[number].length -= 1,
        12 => lied.spans[number] = part(answer, &span, 0, some.min(5)),
        13 => {
            // Nothing was copied there.
            lied.masks.push(Mask { start: span.start, length: span.length.into(), prompt: 1 });
            lied.masks.sort_by_key(|mask| mask.start);
        }
        // A part of it beside the whole.
        14 => lied.spans.insert(number + 1, part(answer, &span, 0, count - 1)),
        _ => return mask_lie(rng, kind, answer, receipt, span),
    }
    Some(lied)
}

/// The same about what the answer repeats from its prompt.
fn mask_lie(rng: &mut Rng, kind: u64, answer: &str, receipt: &Receipt, span: Span) -> Option<Receipt> {
    let mut lied = receipt.clone();
    let number = rng.below(receipt.masks.len().max(1) as u64) as usize;
    let mask = *receipt.masks.get(number)?;
    let (start, end) = (mask.start as usize, (mask.start + mask.length) as usize);
    let words: Vec<_> = types::text::words(answer).into_iter().filter(|word| (start..end).contains(&word.start)).collect();
    let cut = words.len() - 1 - rng.below(2) as usize;
    let mut shorten = |from: usize, to: usize| {
        let mask = &mut lied.masks[number];
        *mask = Mask { start: from as u32, length: (to - from) as u32, prompt: mask.prompt + (from - start) as u32 };
    };
    match kind {
        15 => drop(lied.masks.remove(number)),
        16 => {
            lied.masks.remove(number);
            lied.weight_total += u64::from(weight(answer, start, end));
        }
        17 => lied.masks[number].start += 1,
        18 => lied.masks[number].prompt += 1,
        19 => shorten(start, words[cut - 1].end),
        20 => shorten(words[1].start, end),
        21 => shorten(start + 1, end),
        22 => shorten(start, end - 1),
        23 => shorten(start, words[2].end),
        24 => lied.masks[number].length += 1 << 20,
        25 => lied.masks[number].prompt += 1 << 20,
        26 => lied.masks.insert(number, mask),
        _ => lied.spans.push(Span { start: mask.start, length: mask.length.min(200) as u16, ..span }),
    }
    Some(lied)
}

/// What is proven, by its name and mode.
fn name(claim: &Claim) -> String {
    match claim {
        Claim::Omission(_) => "F2".to_owned(),
        Claim::Payee(_) => "F9 payee".to_owned(),
        Claim::Holder(_) => "F9 holder".to_owned(),
        Claim::Ineligible(Ineligible { rule, .. }) => format!("ineligible {}", rule.code()),
        Claim::Total(_) => "F10 W".to_owned(),
        Claim::FalseLeaf(FalseLeaf { why, .. }) => format!("F10 {}", why.code()),
        Claim::FalseMask(FalseMask { flaw, .. }) => format!("F11 {}", flaw.code()),
        Claim::MissingMask(_) => "F11 missing".to_owned(),
    }
}

/// What the contract says of evidence that shows nothing wrong with a receipt, some of which is about another span than the one it is held against.
const REFUSALS: [&str; 32] = [
    "not outranked",
    "payee is right",
    "holder is earliest",
    "does not occur",
    "outside document",
    "outside segment",
    "wrong root",
    "not its head",
    "trailing bytes",
    "span is eligible",
    "weight is right",
    "mask is right",
    "held by mask",
    "no such mask",
    "span beyond receipt",
    "leaf order",
    "no word",
    "beyond",
    "empty mask",
    "truncated",
    "not whole words",
    "texts differ",
    "too few words",
    "masks do not ascend",
    "not last leaf",
    "span length",
    "malformed",
    "masked",
    "holds delimiter",
    "too light",
    "run length",
    "place beyond",
];

#[test]
fn what_is_found_convicts_each_lie_and_nothing_is_found_against_an_honest_receipt() {
    let mut world = World::new();
    let mut rng = Rng(17);
    const KINDS: usize = 28;
    let (mut lies, mut proven) = ([0_u32; KINDS], BTreeMap::<String, (u32, u64)>::new());
    for case in 0..cases(15) {
        let (index, texts) = index(&mut rng);
        for _ in 0..3 {
            let (answer, prompt) = answer(&mut rng, &texts);
            let honest = honest(&world, &index, &answer, &prompt);
            let signed = world.sign(honest.clone());
            assert_eq!(world.find(&signed, &answer, &prompt, &index), [], "case {case}: an honest receipt was accused: {answer:?}");
            for kind in 0..KINDS as u64 {
                let Some(lied) = lie(&mut rng, kind, &index, &answer, &honest) else { continue };
                let lied = world.sign(lied);
                let mut found = world.find(&lied, &answer, &prompt, &index);
                if kind == KINDS as u64 - 1 {
                    found.extend(world.find_blind(&lied, &answer, &index));
                }
                assert!(!found.is_empty(), "case {case}: lie {kind} was not found");
                lies[kind as usize] += 1;
                for mut proof in found {
                    let which = name(&proof.claim);
                    let gas = world.try_proof(&proof).unwrap_or_else(|refused| panic!("case {case}, lie {kind}, {which}: {refused}"));
                    let (count, dearest) = proven.entry(which.clone()).or_default();
                    (*count, *dearest) = (*count + 1, gas.max(*dearest));
                    // The same evidence against the honest receipt.
                    if proof.claim.voids().is_none_or(|span| usize::from(span) < honest.spans.len()) {
                        (proof.receipt, proof.signature) = (honest.encode(), signed.signature);
                        let refused = world.try_proof(&proof).unwrap_err();
                        assert!(REFUSALS.iter().any(|name| refused.starts_with(name)), "case {case}, lie {kind}, {which}: {refused}");
                    }
                }
            }
        }
    }
    println!("lies {lies:?}, proven with the dearest gas {proven:?}");
    let every = ["F2", "F9 payee", "F9 holder", "F10 W", "F11 missing"].map(str::to_owned).into_iter();
    let every = every.chain((0..11).map(|rule| format!("ineligible {rule}"))).chain((0..6).map(|flaw| format!("F11 {flaw}")));
    let unproven: Vec<_> = every.filter(|name| !proven.contains_key(name)).collect();
    assert!(lies.iter().all(|count| *count > 10) && unproven.is_empty(), "{lies:?} {unproven:?} {proven:?}");
}

/// The leaves of an answer with a lie in one of them; nothing where they give no room for it.
fn lying_leaves(rng: &mut Rng, kind: u64, honest: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    const HEAD: usize = 41;
    let mut leaves = honest.to_vec();
    let number = rng.below(leaves.len() as u64) as usize;
    let words = usize::from(leaves[number][40]);
    let row = HEAD + 7 * rng.below(words.max(1) as u64) as usize;
    let leaf = &mut leaves[number];
    match kind {
        // The number of words, a running weight, the text behind the stride, the leaf's end.
        0 => leaf[40] = leaf[40].checked_sub(1)?,
        1 => leaf[32 + rng.below(8) as usize] ^= 1 << rng.below(8),
        2 => *leaf.last_mut().filter(|_| number + 1 < honest.len())? ^= 1,
        3 => leaf.truncate(leaf.len() - 1),
        4 => leaf.truncate(rng.below(HEAD as u64) as usize),
        5 => leaf.push(b'x'),
        // A word's weight; its length; where it starts; a row that is left out, and one that is made up.
        _ if words == 0 => return None,
        6 => leaf[row + 3 + rng.below(4) as usize] ^= 1 << rng.below(8),
        7 => leaf[row + 2] ^= 1 << rng.below(3),
        8 => leaf[row] ^= 1 << rng.below(6),
        9 => {
            leaf.drain(row..row + 7);
            leaf[40] -= 1;
        }
        _ => {
            let invented = [leaf[row] + 1, 0, 1, 0, 0, 0, 9];
            leaf.splice(row + 7..row + 7, invented);
            leaf[40] += 1;
        }
    }
    Some(leaves)
}

#[test]
fn every_lie_in_an_answers_leaves_is_found_and_convicted_and_none_in_honest_ones() {
    let mut world = World::new();
    let mut rng = Rng(23);
    let domains = world.evm.deployment.domains();
    const KINDS: usize = 11;
    let (mut lies, mut proven) = ([0_u32; KINDS], BTreeMap::<String, (u32, u64)>::new());
    for case in 0..cases(25) {
        let (index, texts) = index(&mut rng);
        let (answer, prompt) = answer(&mut rng, &texts);
        let parameters = Parameters::builtin(1).unwrap();
        let receipt = honest(&world, &index, &answer, &prompt);
        let signed = world.sign(receipt.clone());
        let leaves = attribution::answer::answer_leaves(&answer, &attribution::span::weigh(parameters, &answer), SALT);
        let byte_length = answer.len() as u64;
        let committed = Committed { leaves: &leaves, byte_length };
        assert_eq!(find_in_leaves(&domains, &signed, committed, parameters), Ok(vec![]), "case {case}: {answer:?}");
        for kind in 0..KINDS as u64 {
            let Some(lying) = lying_leaves(&mut rng, kind, &leaves) else { continue };
            let root = Tree::new(leaf_digests(&lying), byte_length).root();
            let lied = world.sign(Receipt { answer_root: root, ..receipt.clone() });
            let found = find_in_leaves(&domains, &lied, Committed { leaves: &lying, byte_length }, parameters).unwrap();
            // How long a word is that goes on behind what is shown nobody can tell, and there is none such here.
            assert!(!found.is_empty(), "case {case}: lie {kind} was not found: {answer:?}");
            lies[kind as usize] += 1;
            for mut proof in found {
                let which = name(&proof.claim);
                let gas = world.try_proof(&proof).unwrap_or_else(|refused| panic!("case {case}, lie {kind}, {which}: {refused}"));
                let (count, dearest) = proven.entry(which.clone()).or_default();
                (*count, *dearest) = (*count + 1, gas.max(*dearest));
                (proof.receipt, proof.signature) = (receipt.encode(), signed.signature);
                let refused = world.try_proof(&proof).unwrap_err();
                assert!(refused.starts_with("wrong root"), "case {case}, lie {kind}, {which}: {refused}");
            }
        }
    }
    println!("lies {lies:?}, proven with the dearest gas {proven:?}");
    let unproven: Vec<_> =
        [0, 1, 2, 4, 5].map(|kind| format!("F10 {kind}")).into_iter().filter(|name| !proven.contains_key(name)).collect();
    assert!(lies.iter().all(|count| *count > 10) && unproven.is_empty(), "{lies:?} {unproven:?} {proven:?}");
}

#[test]
fn an_omission_slashes_and_voids_nothing_and_a_wrong_payee_voids_its_span_even_after_that() {
    let mut world = World::new();
    let mut rng = Rng(3);
    let reporter = account(4).address();
    let (index, answer, prompt, receipt) = loop {
        let (index, texts) = index(&mut rng);
        let (answer, prompt) = answer(&mut rng, &texts);
        let receipt = honest(&world, &index, &answer, &prompt);
        if receipt.spans.len() >= 2 {
            break (index, answer, prompt, receipt);
        }
    };
    let mut lied = receipt;
    lied.spans.remove(0);
    lied.spans[0].payee = Address([0x66; 20]);
    let signed = world.sign(lied);
    let found = world.find(&signed, &answer, &prompt, &index);
    let (omission, payee) = match &found[..] {
        [payee, omission] if payee.claim.voids() == Some(0) && omission.claim.voids().is_none() => (omission, payee),
        other => panic!("{other:?}"),
    };
    let void = keccak(&[&signed.document.hash().0, &0_u16.to_be_bytes()]);
    let mut send = |proof: &Proof| {
        world.evm.try_proof(reporter, proof)?;
        let call = Call { to: Some(world.evm.deployment.spans), data: proof.call.clone(), value: Amount::ZERO };
        world.evm.send(reporter, call)?;
        Ok::<_, String>((world.evm.state.slashes().len(), world.evm.state.voided_at(void).is_some()))
    };
    assert_eq!(send(&Proof::attribution(omission)), Ok((1, false)));
    let again = send(&Proof::attribution(omission)).unwrap_err();
    assert!(again.starts_with("already slashed"), "{again}");
    let late = send(&Proof::late_attribution(payee)).unwrap_err();
    assert!(late.starts_with("already slashed"), "{late}");
    assert_eq!(send(&Proof::attribution(payee)), Ok((1, true)), "void, and not slashed for again");
    let proven: Vec<_> = world.evm.state.proven().iter().map(|proven| proven.fault).collect();
    use chain_bridge::registry::event::Fault;
    assert!(matches!(proven[..], [Fault::Omission { .. }, Fault::Payee { span: 0, mode: 0 }]), "{proven:?}");
    let slash = world.evm.state.slashes()[0];
    assert_eq!((slash.account, slash.victim_amount, slash.reporter), (world.node.address(), Amount(500), reporter));
}

#[test]
fn a_misweighed_span_is_void_and_a_false_total_or_mask_slashes_and_voids_nothing() {
    let mut world = World::new();
    let mut rng = Rng(5);
    let reporter = account(4).address();
    let (index, answer, prompt, honest) = loop {
        let (index, texts) = index(&mut rng);
        let (answer, prompt) = answer(&mut rng, &texts);
        let receipt = honest(&world, &index, &answer, &prompt);
        if !receipt.spans.is_empty() && !receipt.masks.is_empty() {
            break (index, answer, prompt, receipt);
        }
    };
    let mut prove = |number: u8, tell: &dyn Fn(&mut Receipt)| {
        let mut lied = Receipt { request: Hash32([number; 32]), ..honest.clone() };
        tell(&mut lied);
        let signed = world.sign(lied);
        let found = world.find(&signed, &answer, &prompt, &index);
        let proof = Proof::attribution(&found[0]);
        world.evm.try_proof(reporter, &proof).unwrap();
        let to = proof.verifier.address(&world.evm.deployment);
        world.evm.send(reporter, Call { to: Some(to), data: proof.call, value: Amount::ZERO }).unwrap();
        let void = keccak(&[&signed.document.hash().0, &0_u16.to_be_bytes()]);
        let fault = world.evm.state.proven().last().map(|proven| proven.fault);
        (fault, world.evm.state.slashes().len(), world.evm.state.voided_at(void).is_some())
    };
    use chain_bridge::registry::event::Fault;
    assert_eq!(prove(2, &|receipt| receipt.spans[0].weight += 1), (Some(Fault::Ineligible { span: 0, mode: 8 }), 1, true));
    assert_eq!(prove(3, &|receipt| receipt.weight_total += 1), (Some(Fault::Weight { mode: 3 }), 2, false));
    assert_eq!(prove(4, &|receipt| receipt.masks[0].length = 0), (Some(Fault::Mask { mode: 0 }), 3, false));
}
