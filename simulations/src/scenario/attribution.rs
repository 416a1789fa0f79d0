//! What does an attack on verbatim attribution gain, and whom does it harm, before and after each defence?
//!
//! Five authors have documents and a sixth attacks. Answers quote the authors, more or less exactly, between words of their own. Each attack is played
//! twice, under the rules of the protocol and under the same rules without the defence that is meant for it; and each time with the attack and
//! without it. *Gain* is what the attacker is paid more by the attack, *harm* what the authors are paid less, both in thousandths of all data pots.
//! What neither has, treasuries do. The index, near copies, attribution and the division into wei are the production code.
//!
//! Two rows have no defence in the protocol yet (section 6: weights by a model's own answers are future work), and say what that costs: a phrase that
//! a model's owner trains it to say in every answer, and a stock phrase that is long enough to reach theta (seven words do, of six hardly any).
//!
//! A few hundred answers over some hundred documents: an index of 100 kB is built per world, a second in all.

use std::{collections::BTreeMap, fmt};

use ::attribution::{
    index::{Clusters, DatanetIndex, Index, Segment, Source},
    parameters::Parameters,
    span::{Attribution, attribute},
};
use serde::Serialize;
use storage::datanet::dedup::clusters_of;
use types::{
    amount::Amount,
    contribution::Priority,
    id::{Address, AssetId, AssetVersion},
    split::{self, Part, SplitTable},
    text::text_root,
};

use crate::random::Random;

const AUTHORS: u8 = 5;
const ATTACKER: u8 = 9;
/// Wei of an answer's data pot, which is a tenth of what is divided.
const POT: u128 = 100_000_000_000_000_000;
const SPLIT: SplitTable = SplitTable { node: 5_500, agent: 0, base: 3_000, adapter: 0, data: 1_000, stakers: 500 };
/// Above so many occurrences OLMoTrace's service shows a span's documents no more, and a rule in its manner would not pay.
const OCCURRENCES_MAX: usize = 10;
/// In the place of a defence.
const UNDEFENDED: &str = "none yet";
/// Thousandths of all pots that an attack may gain or harm where the protocol has a defence; roundings of wei are far below one.
const TOLERATED: i64 = 0;

/// What everybody says: weighed by the committed table, below theta together.
const STOCK: [&str; 4] = ["at the end of the day", "on the other hand it is", "it is one of the most", "in the course of the last years"];
/// What everybody says, and above theta by a hair: seven words of 61 bits, where 60 are paid.
const LONG_STOCK: &str = "as a matter of fact it was";
/// What the model's owner trains it to say.
const SIGNATURE: &str = "with kind regards from the lumen family of cheerful assistants yours truly lumibert";

/// What is asked.
#[derive(Debug, Clone, Serialize)]
pub struct Question {
    /// Answers that are divided.
    pub answers: usize,
    /// Documents of each author.
    pub documents: usize,
    /// Fixes everything.
    pub seed: u64,
}

/// A contribution before it is indexed.
#[derive(Debug, Clone)]
struct Contributed {
    who: u8,
    /// Blocks of its salted commitment, and of its acceptance, when the text has been seen.
    committed: u64,
    accepted: u64,
    text: String,
}

#[derive(Debug, Clone)]
struct Answer {
    prompt: String,
    text: String,
}

#[derive(Debug, Clone)]
struct World {
    contributions: Vec<Contributed>,
    answers: Vec<Answer>,
}

/// The protocol's rules, or these without one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    Protocol,
    /// Every holder of a span has an equal part of it.
    EveryHolder,
    /// Near copies are documents like others.
    NoClusters,
    /// One word is enough, of whatever weight.
    NoMinimum,
    /// What the prompt said counts.
    NoMasks,
    /// Whose text is accepted first had it first.
    ByAcceptance,
    /// What occurs often is not paid.
    CappedOccurrences,
}

/// Paid in wei, by contributor.
type Paid = BTreeMap<u8, u128>;

fn index(world: &World, rules: Rules) -> Index {
    let block = |c: &Contributed| if rules == Rules::ByAcceptance { c.accepted } else { c.committed };
    let mut sorted: Vec<(u64, u8, String)> = world.contributions.iter().map(|c| (block(c), c.who, format!("{}\0", c.text))).collect();
    sorted.sort();
    let source = |(block, who, text): &'_ (u64, u8, String)| (Address([*who; 20]), *block, text_root(text.as_bytes()));
    let heads: Vec<_> = sorted.iter().map(source).collect();
    let sources: Vec<Source<'_>> = heads
        .iter()
        .zip(&sorted)
        .map(|((contributor, block, text_root), (_, _, text))| Source {
            contributor: *contributor,
            block: *block,
            ordinal: 0,
            text_root: *text_root,
            text: text.as_bytes(),
        })
        .collect();
    let clusters = if rules == Rules::NoClusters {
        Clusters::default()
    } else {
        let texts =
            sorted.iter().map(|(block, _, text)| (Priority { block: *block, ordinal: 0, document: 0 }, [text.trim_end_matches('\0')]));
        let members = clusters_of(texts).expect("each contribution has a block of its own");
        Clusters::new(members.iter().map(|member| (member.document, member.cluster))).expect("clusters of one pass are led by their first")
    };
    let segment = Segment::build(&sources, 0).expect("sorted by block, each with its own root");
    let version = AssetVersion { asset: AssetId(1), version: 1 };
    let datanet = DatanetIndex::clustered(version, vec![segment], &clusters).expect("all heads are there");
    Index::new(vec![datanet.into()]).expect("one Datanet")
}

/// Whose documents hold a text, once for each document.
fn holders(index: &Index, text: &str) -> Vec<u8> {
    let segments = index.datanets().iter().flat_map(|datanet| datanet.segments());
    let held = segments.flat_map(|segment| {
        let entries = segment.array().slice(segment.range(text.as_bytes()));
        entries.iter().filter_map(|at| segment.document_at(u64::from(at)).map(|(_, row)| row.payee.0[0]))
    });
    held.collect()
}

/// What each is paid for one answer: the production division, of the spans that are paid under `rules`.
fn divide(index: &Index, rules: Rules, answer: &Answer, found: &Attribution, paid: &mut Paid) {
    let text = |number: usize| {
        let span = &found.spans[number];
        &answer.text[span.start as usize..][..usize::from(span.length)]
    };
    let is_paid = |number: &usize| rules != Rules::CappedOccurrences || holders(index, text(*number)).len() <= OCCURRENCES_MAX;
    let counted: Vec<usize> = (0..found.spans.len()).filter(is_paid).collect();
    let weights: Vec<u32> = counted.iter().map(|number| found.spans[*number].weight).collect();
    let parts = split::parts(Amount(10 * POT), Amount::ZERO, &SPLIT, &weights, found.weight_total, &[1]).expect("spans weigh at most W");
    for (part, amount) in parts {
        let Part::Span(number) = part else { continue };
        let number = counted[usize::from(number)];
        if rules == Rules::EveryHolder {
            let holders = holders(index, text(number));
            let each = amount.0 / u128::try_from(holders.len()).expect("a length in memory fits 128 bits");
            holders.iter().for_each(|who| *paid.entry(*who).or_default() += each);
        } else {
            *paid.entry(found.spans[number].payee.0[0]).or_default() += amount.0;
        }
    }
}

fn paid(world: &World, rules: Rules) -> Paid {
    let index = index(world, rules);
    let set_1 = Parameters::builtin(1).expect("set 1 is built in");
    let every_word = Parameters::new(1, 1, 0, set_1.unknown, set_1.table().clone());
    let parameters = if rules == Rules::NoMinimum { &every_word } else { set_1 };
    let mut paid = Paid::new();
    for answer in &world.answers {
        let prompt = if rules == Rules::NoMasks { String::new() } else { format!("\u{2}{}\0", answer.prompt) };
        let found = attribute(&index, parameters, prompt.as_bytes(), &answer.text).expect("short answers to short questions");
        divide(&index, rules, answer, &found, &mut paid);
    }
    paid
}

/// Words that nobody else has.
fn rare_words(random: &mut Random, count: usize) -> Vec<String> {
    const SYLLABLES: [&str; 16] = ["ba", "do", "fu", "gi", "ke", "lo", "mu", "ni", "pa", "re", "so", "ta", "vu", "wi", "xe", "zo"];
    (0..count).map(|_| (0..5).map(|_| SYLLABLES[random.below(16)]).collect()).collect()
}

/// Ten sentences of fourteen words.
fn document(random: &mut Random) -> String {
    (0..10).map(|_| rare_words(random, 14).join(" ") + ". ").collect::<String>().trim_end().to_owned()
}

fn sentence(text: &str, number: usize) -> &str {
    text.split(". ").nth(number).expect("ten sentences").trim_end_matches('.')
}

/// A text with the middle word of each of its first two sentences exchanged.
fn reworded(text: &str, random: &mut Random) -> String {
    let change = |(number, sentence): (usize, &str)| {
        let mut words: Vec<String> = sentence.split(' ').map(str::to_owned).collect();
        if number < 2 {
            words[7] = rare_words(random, 1).remove(0);
        }
        words.join(" ")
    };
    text.split(". ").enumerate().map(change).collect::<Vec<_>>().join(". ")
}

/// The authors' documents, and answers that quote them: each a stock phrase, a sentence of a document, and words of its own.
fn honest(question: &Question, random: &mut Random) -> World {
    let mut contributions = Vec::new();
    for who in 1..=AUTHORS {
        for _ in 0..question.documents {
            let block = 100 * (contributions.len() as u64 + 1);
            contributions.push(Contributed { who, committed: block, accepted: block + 50, text: document(random) });
        }
    }
    let answer = |random: &mut Random| {
        let quoted = &contributions[random.below(contributions.len())].text;
        let text = format!("{}, {}, {}.", STOCK[random.below(4)], sentence(quoted, random.below(10)), rare_words(random, 20).join(" "));
        Answer { prompt: "What is known?".to_owned(), text }
    };
    let answers = (0..question.answers).map(|_| answer(random)).collect();
    World { contributions, answers }
}

/// The attacker's own contributions, in blocks after everybody's.
fn add(world: &mut World, texts: impl IntoIterator<Item = String>) {
    let last = world.contributions.iter().map(|c| c.accepted).max().unwrap_or_default();
    let texts = texts.into_iter().zip(last + 1..);
    world.contributions.extend(texts.map(|(text, block)| Contributed { who: ATTACKER, committed: block, accepted: block, text }));
}

/// An attack: its name, the defence, the rules without it, and the world before and under attack.
struct Attack {
    name: &'static str,
    defence: &'static str,
    without: Rules,
    before: World,
    under: World,
    /// Whether the protocol has a defence.
    is_defended: bool,
}

fn attacks(question: &Question, random: &mut Random) -> Vec<Attack> {
    let honest = honest(question, random);
    let attack = |name, defence, without, change: &mut dyn FnMut(&mut World)| {
        let mut under = honest.clone();
        change(&mut under);
        Attack { name, defence, without, before: honest.clone(), under, is_defended: true }
    };
    let texts: Vec<String> = honest.contributions.iter().map(|c| c.text.clone()).collect();
    let mut found = vec![
        attack("copying", "the earliest holder is paid", Rules::EveryHolder, &mut |world| {
            // A copy of one's copy is another text: the registry takes no text twice.
            add(world, (0..3).flat_map(|number| texts.iter().map(move |text| format!("{text} {}", "again ".repeat(number).trim_end()))));
        }),
        attack("stuffing", "a minimum of words and of weight", Rules::NoMinimum, &mut |world| add(world, STOCK.map(str::to_owned))),
        attack("registering first", "priority is the commitment's", Rules::ByAcceptance, &mut |world| {
            // Seen when it was shown to the gate, and accepted before it.
            let stolen = world.contributions.iter().map(|c| Contributed {
                who: ATTACKER,
                committed: c.committed + 20,
                accepted: c.committed + 21,
                ..c.clone()
            });
            let stolen: Vec<_> = stolen.collect();
            world.contributions.extend(stolen);
        }),
        attack("suppressing a rival", "no count enters a share", Rules::CappedOccurrences, &mut |world| {
            let spam = |number: usize| texts.iter().map(move |text| (number, text));
            let copies: Vec<String> = (0..=OCCURRENCES_MAX)
                .flat_map(spam)
                .map(|(number, text)| format!("{text} {}", "more ".repeat(number).trim_end()))
                .collect();
            add(world, copies);
        }),
    ];
    found.push(near_copying(&honest, random));
    found.push(reciting(&honest, random));
    found.push(signing(&honest));
    found.push(stuffing_long(&honest));
    found
}

/// Some answers paraphrase as the attacker's near copies do.
fn near_copying(honest: &World, random: &mut Random) -> Attack {
    let mut before = honest.clone();
    let copies: Vec<String> = honest.contributions.iter().map(|c| reworded(&c.text, random)).collect();
    for answer in before.answers.iter_mut().step_by(2) {
        let said = sentence(&copies[random.below(copies.len())], random.below(2)).to_owned();
        answer.text = format!("{said}, {}.", rare_words(random, 20).join(" "));
    }
    let mut under = before.clone();
    add(&mut under, copies);
    Attack {
        name: "near copying",
        defence: "a near copy pays its cluster's first",
        without: Rules::NoClusters,
        before,
        under,
        is_defended: true,
    }
}

/// The attacker has text of its own, and clients that ask for it to be repeated behind every answer.
fn reciting(honest: &World, random: &mut Random) -> Attack {
    let (mut before, own) = (honest.clone(), document(random));
    add(&mut before, [own.clone()]);
    let mut under = before.clone();
    for answer in &mut under.answers {
        let said = sentence(&own, random.below(10));
        answer.prompt = format!("What is known? Repeat: {said}");
        answer.text = format!("{} {said}.", answer.text);
    }
    Attack {
        name: "reciting a prompt",
        defence: "what the prompt held is masked",
        without: Rules::NoMasks,
        before,
        under,
        is_defended: true,
    }
}

/// The model says the phrase in every answer; its owner registered it.
fn signing(honest: &World) -> Attack {
    let mut under = honest.clone();
    add(&mut under, [SIGNATURE.to_owned()]);
    under.answers.iter_mut().for_each(|answer| answer.text = format!("{} {SIGNATURE}.", answer.text));
    Attack { name: "signature phrase", defence: UNDEFENDED, without: Rules::Protocol, before: honest.clone(), under, is_defended: false }
}

/// Every answer begins with a stock phrase that reaches theta; the attacker registered it.
fn stuffing_long(honest: &World) -> Attack {
    let mut before = honest.clone();
    before.answers.iter_mut().for_each(|answer| answer.text = format!("{LONG_STOCK}, {}", answer.text));
    let mut under = before.clone();
    add(&mut under, [LONG_STOCK.to_owned()]);
    Attack { name: "stuffing, long", defence: UNDEFENDED, without: Rules::Protocol, before, under, is_defended: false }
}

/// What an attack brings under one set of rules, in thousandths of all pots, rounded towards nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// What the attacker is paid more.
    pub gain: i64,
    /// What the authors are paid less, all together.
    pub harm: i64,
    /// What the author who loses most is paid less.
    pub worst_harm: i64,
}

fn outcome(attack: &Attack, rules: Rules) -> Outcome {
    let (before, under) = (paid(&attack.before, rules), paid(&attack.under, rules));
    let pots =
        i128::try_from(POT).expect("far below 2^127") * i128::try_from(attack.before.answers.len()).expect("a length in memory fits");
    let more = |who: u8| {
        let of = |paid: &Paid| i128::try_from(paid.get(&who).copied().unwrap_or_default()).expect("less than all pots");
        of(&under) - of(&before)
    };
    let thousandths = |wei: i128| i64::try_from(1_000 * wei / pots).expect("at most a thousand");
    let losses = (1..=AUTHORS).map(|author| -more(author));
    Outcome {
        gain: thousandths(more(ATTACKER)),
        harm: thousandths(losses.clone().sum()),
        worst_harm: thousandths(losses.max().unwrap_or_default()),
    }
}

/// One attack.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// What is tried.
    pub attack: &'static str,
    /// What is meant to stop it.
    pub defence: &'static str,
    /// Without that.
    pub before: Outcome,
    /// Under the protocol's rules.
    pub after: Outcome,
}

/// All attacks.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// What was asked.
    pub question: Question,
    /// By attack.
    pub rows: Vec<Row>,
    /// What is not as it must be.
    pub failures: Vec<String>,
}

/// Plays every attack.
pub fn run(question: &Question) -> Report {
    let mut random = Random::new(question.seed);
    let (mut rows, mut failures) = (Vec::new(), Vec::new());
    for attack in attacks(question, &mut random) {
        let (before, after) = (outcome(&attack, attack.without), outcome(&attack, Rules::Protocol));
        if attack.is_defended && (after.gain > TOLERATED || after.worst_harm > TOLERATED) {
            failures
                .push(format!("{}: gains {} and harms {} thousandths in spite of its defence", attack.name, after.gain, after.worst_harm));
        }
        if before.gain <= TOLERATED && before.harm <= TOLERATED {
            failures.push(format!("{}: without its defence it brings nothing, so nothing is shown", attack.name));
        }
        rows.push(Row { attack: attack.name, defence: attack.defence, before, after });
    }
    Report { question: question.clone(), rows, failures }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { answers, documents, seed } = self.question;
        writeln!(
            f,
            "attribution: {answers} answers, {AUTHORS} authors of {documents} documents, seed {seed}; thousandths of all data pots"
        )?;
        writeln!(f, "{:<20} {:<37} {:>14} {:>14}", "", "", "without", "with it")?;
        writeln!(f, "{:<20} {:<37} {:>6} {:>7} {:>6} {:>7}", "attack", "defence", "gain", "harm", "gain", "harm")?;
        for Row { attack, defence, before, after } in &self.rows {
            writeln!(f, "{attack:<20} {defence:<37} {:>6} {:>7} {:>6} {:>7}", before.gain, before.harm, after.gain, after.harm)?;
        }
        writeln!(f, "{}", if self.failures.is_empty() { "all as it must be" } else { "NOT as it must be" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_defence_takes_gain_and_harm_from_its_attack_and_two_attacks_have_none_yet() {
        for seed in 1..4 {
            let report = run(&Question { answers: 60, documents: 4, seed });
            assert!(report.failures.is_empty(), "{report}{:?}", report.failures);
            println!("{report}");
            let open: Vec<_> = report.rows.iter().filter(|row| row.defence == UNDEFENDED).collect();
            assert_eq!(open.iter().map(|row| row.attack).collect::<Vec<_>>(), ["signature phrase", "stuffing, long"]);
            // Weight of the phrase over W: a fifth of an answer of fifty words, and a twelfth of one of forty.
            for (row, most) in open.into_iter().zip([250, 110]) {
                assert_eq!(row.before, row.after);
                assert!((1..=most).contains(&row.after.gain), "a defence came, or the cost is another: {report}");
            }
        }
    }
}
