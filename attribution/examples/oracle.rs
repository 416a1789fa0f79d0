//! Queries of the index with its answers, one JSON object a line, for two other searchers to answer: infini-gram and a naive one
//! (`tests/fixtures/attribution/oracle.py`).
//!
//!     cargo run -p attribution --example oracle -- CASES.jsonl [SEQUENCES] [SEED]
//!
//! infini-gram counts tokens, so the index is in token mode, over u16 and u32. Corpora: words as rare as in prose, with spliced repeats; one token for
//! ever; a Fibonacci word, of all texts the most repetitive that has no period; equal headers of wide tokens; two tokens at random; documents of one
//! to three tokens. Queries: runs of the corpus, cut, spliced, with a token changed, over the ends of documents, and tokens that sort before and
//! behind all others.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufWriter, Write},
};

use anyhow::{Context, Result, ensure};
use attribution::{
    index::tokens::{Token, TokenIndex},
    parameters,
};
use serde_json::json;

/// Longest query; of wide tokens fewer are told apart.
const QUERY_TOKENS_MAX: usize = 48;
/// Sequences unless asked otherwise: with count, find, longest match and infinite-gram of each, above 100,000 queries.
const SEQUENCES: u64 = 30_000;

/// Numbers by splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn place(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("below a length")
    }

    fn token(&mut self, bound: u32) -> u32 {
        u32::try_from(self.below(bound.into())).expect("below 32 bits")
    }

    /// A run of at most `most` tokens of `from`.
    fn run(&mut self, from: &[u32], most: usize) -> Vec<u32> {
        let start = self.place(from.len());
        let end = from.len().min(start + 1 + self.place(most));
        from[start..end].to_vec()
    }
}

type Document = Vec<u32>;

/// First token and end.
type Run = [usize; 2];

struct Corpus {
    name: &'static str,
    /// infini-gram's type of token.
    tokens: &'static str,
    documents: Vec<Document>,
}

/// A token as rare as the word of that rank in prose, nearly: the product of three numbers.
fn rare(random: &mut Random) -> u32 {
    let token = random.below(13) * random.below(13) * random.below(13);
    // Both bytes of a token differ, so that their order and that of the numbers do too.
    u32::try_from(token * 29 % 60_000).expect("below 2^16")
}

fn prose(random: &mut Random) -> Vec<Document> {
    let mut documents: Vec<Document> = Vec::new();
    for _ in 0..60 {
        let mut document = Vec::new();
        while document.len() < 20 + random.place(400) {
            if random.below(3) == 0 && !documents.is_empty() {
                let other = random.place(documents.len());
                document.extend(random.run(&documents[other], 60));
            } else {
                document.extend((0..random.below(30)).map(|_| rare(random)).collect::<Vec<_>>());
            }
        }
        documents.push(document);
    }
    documents
}

fn fibonacci() -> Document {
    let (mut short, mut long) = (vec![256], vec![256, 255]);
    while long.len() < 4_000 {
        let next = [long.as_slice(), &short].concat();
        short = std::mem::replace(&mut long, next);
    }
    long
}

fn corpora(random: &mut Random) -> Vec<Corpus> {
    // Wide tokens: what lies above 16 bits tells some apart.
    let wide = |random: &mut Random| rare(random) + 65_536 * random.token(3);
    let header: Document = (0..30).map(|_| wide(random)).collect();
    let headed = |random: &mut Random| [header.clone(), (0..1 + random.below(12)).map(|_| wide(random)).collect()].concat();
    vec![
        Corpus { name: "prose", tokens: "u16", documents: prose(random) },
        Corpus { name: "one token", tokens: "u8", documents: (1..40).map(|length| vec![7; length * 5]).collect() },
        Corpus { name: "fibonacci", tokens: "u16", documents: vec![fibonacci(), fibonacci()[..99].to_vec()] },
        Corpus { name: "headers", tokens: "u32", documents: (0..200).map(|_| headed(random)).collect() },
        Corpus { name: "two tokens", tokens: "u8", documents: (0..30).map(|_| (0..100).map(|_| 65 + random.token(2)).collect()).collect() },
        Corpus {
            name: "ends",
            tokens: "u16",
            documents: (0..400).map(|_| (0..1 + random.below(3)).map(|_| rare(random) % 40 + 250).collect()).collect(),
        },
    ]
}

/// Tokens as the index has them.
fn narrowed<T: Token>(tokens: &[u32]) -> Vec<T> {
    tokens.iter().filter_map(|token| T::try_from(*token).ok()).collect()
}

/// An index in two segments: what spans segments is asked as well.
fn indexed<T: Token>(documents: &[Document]) -> Result<TokenIndex<T>> {
    let documents: Vec<Vec<T>> = documents.iter().map(|document| narrowed(document)).collect();
    let (early, late) = documents.split_at(documents.len() / 2);
    let mut index = TokenIndex::default();
    index.push(early)?;
    index.push(late)?;
    Ok(index)
}

fn query(random: &mut Random, corpus: &Corpus, longest: usize) -> Vec<u32> {
    let documents = &corpus.documents;
    let most = if random.below(3) == 0 { longest } else { 6 };
    let (one, other) = (random.place(documents.len()), random.place(documents.len()));
    let mut tokens = match random.below(6) {
        // Over the end of one document into the next, which stands nowhere.
        0 => {
            let tail = &documents[one][documents[one].len().saturating_sub(3)..];
            [tail, &documents[(one + 1) % documents.len()]].concat()
        }
        1 => [random.run(&documents[one], most), random.run(&documents[other], most)].concat(),
        2 => vec![*[0, 1, 254, 250].get(random.place(4)).expect("four of them"), documents[one][0]],
        _ => random.run(&documents[one], most),
    };
    if random.below(5) == 0 {
        let at = random.place(tokens.len());
        tokens[at] = (tokens[at] + 1 + random.token(3)) % 255;
    }
    tokens.truncate(longest);
    tokens
}

/// An answer that splices runs of the corpus with words of its own.
fn answer(random: &mut Random, corpus: &Corpus) -> Vec<u32> {
    let mut tokens = Vec::new();
    let length = 40 + random.place(400);
    while tokens.len() < length {
        let document = random.place(corpus.documents.len());
        tokens.extend(random.run(&corpus.documents[document], 40));
        tokens.extend((0..random.below(4)).map(|_| rare(random)).collect::<Vec<_>>());
    }
    tokens.truncate(length);
    tokens
}

/// OLMoTrace's rules (arXiv 2504.07096, section 3) over this index: from each token on the longest run that stands in the corpus, cut behind its
/// first delimiter, unless it lies within an earlier one; of these the ceil(0.05 L) least likely by their tokens. Runs, then the kept ones.
fn olmotrace<T: Token>(index: &TokenIndex<T>, counts: &BTreeMap<u32, u64>, tokens: &[u32], delimiters: &[u32]) -> Result<[Vec<Run>; 2]> {
    let total: u64 = counts.values().sum();
    let mut runs: Vec<Run> = Vec::new();
    for start in 0..tokens.len() {
        let rest = &tokens[start..tokens.len().min(start + T::RUN_MAX)];
        let length = index.longest(&narrowed(rest))?;
        ensure!(length == tokens.len() - start || length < T::RUN_MAX, "a run of {length} tokens is as long as any that is told apart");
        let end = rest[..length].iter().position(|token| delimiters.contains(token)).map_or(start + length, |at| start + at + 1);
        if end > start && runs.last().is_none_or(|last| end > last[1]) {
            runs.push([start, end]);
        }
    }
    let rarity =
        |run: &Run| tokens[run[0]..run[1]].iter().map(|token| parameters::weight(total, counts[token]).map(u64::from)).sum::<Option<u64>>();
    let mut kept = runs
        .iter()
        .map(|run| rarity(run).map(|rarity| (std::cmp::Reverse(rarity), *run)))
        .collect::<Option<Vec<_>>>()
        .context("a run of known tokens")?;
    kept.sort_unstable();
    kept.truncate(tokens.len().div_ceil(20));
    let mut kept: Vec<_> = kept.into_iter().map(|(_, run)| run).collect();
    kept.sort_unstable();
    Ok([runs, kept])
}

fn write<T: Token>(out: &mut impl Write, random: &mut Random, corpus: &Corpus, sequences: u64) -> Result<()> {
    let index = indexed::<T>(&corpus.documents)?;
    writeln!(out, "{}", json!({ "corpus": corpus.name, "tokens": corpus.tokens, "documents": corpus.documents }))?;
    for number in 0..sequences {
        let tokens = query(random, corpus, QUERY_TOKENS_MAX.min(T::RUN_MAX));
        let run: Vec<T> = narrowed(&tokens);
        let places = index.find(&run, usize::MAX)?;
        let (last, context) = run.split_last().context("a query has tokens")?;
        let (suffix, next) = index.next_infinite(context)?;
        let mut case = json!({
            "query": tokens,
            "count": places.len(),
            "first": places.first().map(|place| place.token),
            "sum": places.iter().map(|place| place.token).sum::<u64>(),
            // The longest suffix of all but the last token that stands in the corpus, how often it does, and how often with the last token.
            "suffix": [suffix, usize::try_from(next.count)?, usize::try_from(next.probability(*last).count)?],
        });
        if number % 4 == 0 {
            case["longest"] = (0..run.len()).map(|start| Ok(index.longest(&run[start..])?)).collect::<Result<_>>()?;
        }
        if number % 16 == 0 {
            // All that follows the whole context, and its longest end that stands.
            let whole = index.next(context)?;
            case["next"] = [whole, next].iter().map(|next| json!([next.count, next.ends, pairs(&next.next)])).collect();
        }
        writeln!(out, "{case}")?;
    }
    if corpus.name != "prose" {
        return Ok(());
    }
    let mut counts = BTreeMap::new();
    corpus.documents.iter().flatten().for_each(|token| *counts.entry(*token).or_insert(0) += 1);
    for _ in 0..sequences.div_ceil(40) {
        let tokens = answer(random, corpus);
        let delimiters = [0, 29, *tokens.last().context("an answer has tokens")?];
        let [runs, kept] = olmotrace(&index, &counts, &tokens, &delimiters)?;
        writeln!(out, "{}", json!({ "answer": tokens, "delimiters": delimiters, "runs": runs, "kept": kept }))?;
    }
    Ok(())
}

/// Tokens with their counts.
fn pairs<T: Token>(next: &BTreeMap<T, u64>) -> Vec<(u32, u64)> {
    next.iter().map(|(token, count)| ((*token).into(), *count)).collect()
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().context("expected the file to write")?;
    let sequences = arguments.next().map_or(Ok(SEQUENCES), |number| number.parse())?;
    let mut random = Random(arguments.next().map_or(Ok(1), |seed| seed.parse())?);
    let mut out = BufWriter::new(File::create(path)?);
    let corpora = corpora(&mut random);
    for corpus in &corpora {
        let sequences = sequences.div_ceil(corpora.len() as u64);
        match corpus.tokens {
            "u32" => write::<u32>(&mut out, &mut random, corpus, sequences)?,
            // A byte's tokens are infini-gram's alone.
            _ => write::<u16>(&mut out, &mut random, corpus, sequences)?,
        }
    }
    Ok(out.flush()?)
}
