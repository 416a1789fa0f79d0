//! Answers under options, by every way to them: stop strings, penalties, bias, logarithms, grammars. What is chosen is what a replay chooses, alone and among others, from the
//! beginning and from any token on.
#![allow(clippy::unwrap_used, missing_docs)]

use inference::engine::{EngineConfig, EngineError, EngineHandle, Start, Step};
use inference::sampler::{GRAMMAR_ENGINE, Grammar, GrammarKind, Options};
use inference::verify::{Claim, replay};
use inference::{Finish, Message, Role, tiny};
use types::id::Address;

const SEED: [u8; 32] = [3; 32];

struct Bench {
    _folder: tempfile::TempDir,
    engine: EngineHandle,
}

/// An answer with what was told of each token.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    finish: Finish,
    told: Vec<Vec<(u32, i32)>>,
}

impl Bench {
    fn new(change: impl FnOnce(&mut EngineConfig)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("tiny.gguf");
        tiny::write_model(&model, 1).unwrap();
        let mut config = EngineConfig::new(model);
        change(&mut config);
        Self { engine: EngineHandle::start(config).unwrap(), _folder: folder }
    }

    fn start(&self, options: &Options, continued: &[u32]) -> Start {
        let prompt = self.engine.prompt_tokens(&[Message { role: Role::User, content: "an étale 12 note".into() }]).unwrap();
        Start { continued: continued.to_vec(), ..Start::new(prompt, options.clone(), SEED, 40) }
    }

    async fn answer(&self, options: &Options, continued: &[u32], ahead: u32) -> Answer {
        run(&self.engine, self.start(options, continued), ahead).await.unwrap()
    }

    async fn refused(&self, options: &Options, continued: &[u32]) -> EngineError {
        self.engine.begin(self.start(options, continued)).await.unwrap_err()
    }

    fn claim(&self, options: &Options, tokens: &[u32], finish: Option<Finish>) -> Claim {
        let Start { prompt, seed, .. } = self.start(options, &[]);
        Claim { prompt, continued: vec![], tokens: tokens.to_vec(), adapters: vec![], options: options.clone(), seed, finish }
    }

    /// Positions that pass, and the first that does not with what should stand there.
    async fn replayed(&self, claim: Claim) -> (u32, Option<(u32, u32)>) {
        let found = replay(&self.engine, claim).await.unwrap();
        (found.checked, found.mismatch.map(|wrong| (wrong.position, wrong.expected)))
    }

    /// Every way to the answer: token by token, ahead with guesses, gone on with from any part of it, among others; and the replay of each.
    async fn same_everywhere(&self, options: &Options) -> Answer {
        let answer = self.answer(options, &[], 0).await;
        assert_eq!(self.answer(options, &[], 64).await, answer, "ahead of its caller");
        for from in [1, answer.tokens.len() / 2, answer.tokens.len() - 1] {
            let (before, after) = answer.tokens.split_at(from);
            let rest = self.answer(options, before, 3).await;
            assert_eq!((&rest.tokens[..], rest.finish), (after, answer.finish), "from {from}");
            let claim = Claim { continued: before.to_vec(), ..self.claim(options, after, Some(answer.finish)) };
            assert_eq!(self.replayed(claim).await.1, None, "replayed from {from}");
        }
        let others =
            [warm(), Options { logprobs: 2, ..warm() }, options.clone(), Options { min_p_ppm: 100_000, ..warm() }, options.clone()];
        let tasks: Vec<_> = others.iter().map(|options| tokio::spawn(spawned(self.engine.clone(), self.start(options, &[])))).collect();
        for (task, of) in tasks.into_iter().zip(&others) {
            let got = task.await.unwrap();
            assert!(of != options || got == answer, "among others");
        }
        let count = u32::try_from(answer.tokens.len()).unwrap();
        assert_eq!(self.replayed(self.claim(options, &answer.tokens, Some(answer.finish))).await, (count, None), "replayed");
        for at in 0..answer.tokens.len() {
            let mut wrong = answer.tokens.clone();
            wrong[at] = (wrong[at] + 1) % 250 + 3;
            let expected = (u32::try_from(at).unwrap(), Some((u32::try_from(at).unwrap(), answer.tokens[at])));
            assert_eq!(self.replayed(self.claim(options, &wrong, None)).await, expected, "another token at {at}");
        }
        answer
    }

    /// Whoever checks an answer without the options that made it other finds it wrong.
    async fn is_wrong_without(&self, options: &Options, answer: &Answer) {
        let plain = Options::from(options.sampling());
        assert_ne!(self.answer(&plain, &[], 0).await.tokens, answer.tokens, "{options:?} changes nothing");
        let found = self.replayed(self.claim(&plain, &answer.tokens, Some(answer.finish))).await;
        assert!(found.1.is_some(), "{options:?}");
    }

    fn text(&self, tokens: &[u32]) -> Vec<u8> {
        self.engine.decode(tokens)
    }
}

async fn spawned(engine: EngineHandle, start: Start) -> Answer {
    run(&engine, start, 150).await.unwrap()
}

async fn run(engine: &EngineHandle, start: Start, ahead: u32) -> Result<Answer, EngineError> {
    let mut generation = engine.begin(start).await?;
    generation.credit(ahead);
    let (mut tokens, mut told) = (Vec::new(), Vec::new());
    loop {
        match generation.next().await? {
            Step::Token { token, .. } => {
                tokens.push(token);
                told.extend(generation.logprobs().map(<[_]>::to_vec));
            }
            Step::End(finish) => {
                assert!(matches!(generation.next().await, Err(EngineError::Ended)), "an answer ends once");
                return Ok(Answer { tokens, finish, told });
            }
        }
    }
}

fn warm() -> Options {
    Options { temperature_milli: 900, top_k: 40, top_p_ppm: 950_000, ..Options::default() }
}

fn lark(source: &str) -> Options {
    Options { grammar: Some(Grammar::new(GrammarKind::Lark, source)), ..warm() }
}

#[tokio::test]
async fn a_stop_string_ends_an_answer_with_the_token_that_completes_it() {
    let bench = Bench::new(|_| {});
    let whole = bench.answer(&warm(), &[], 0).await.tokens;
    // Two tokens from the middle whose bytes are text: the string ends inside no earlier token.
    let is_text = |at: &usize| String::from_utf8(bench.text(&whole[*at..*at + 2])).is_ok_and(|text| text.len() > 1);
    let at = (4..whole.len() - 2).find(is_text).expect("two tokens of plain text");
    let stop = String::from_utf8(bench.text(&whole[at..at + 2])).unwrap();
    let options = Options { stop: vec![stop.clone()], ..warm() };
    let answer = bench.same_everywhere(&options).await;
    assert_eq!((answer.finish, answer.tokens.len() <= at + 2), (Finish::Stop, true));
    assert_eq!(answer.tokens, whole[..answer.tokens.len()], "what comes before is what it was");
    let (text, stop) = (bench.text(&answer.tokens), stop.as_bytes());
    let end = text.windows(stop.len()).position(|part| part == stop).expect("the string is in the answer's last tokens");
    assert_eq!(bench.engine.text(&options.stop, &[], &answer.tokens), text[..end]);

    let count = u32::try_from(answer.tokens.len()).unwrap();
    let (position, expected) = bench.replayed(bench.claim(&options, &whole, Some(Finish::Length))).await.1.unwrap();
    assert_eq!((position, bench.engine.eos().contains(&expected)), (count, true), "nothing follows a stop string");
    let shorter = bench.claim(&options, &answer.tokens[..answer.tokens.len() - 1], Some(Finish::Stop));
    assert_eq!(bench.replayed(shorter).await.1.map(|(position, _)| position), Some(count - 1), "nothing stopped it there");
    let behind = bench.answer(&options, &answer.tokens, 50).await;
    assert_eq!((behind.tokens, behind.finish), (vec![], Finish::Stop), "gone on with from behind the string");
}

#[tokio::test]
async fn penalties_and_bias_count_what_was_said_wherever_it_was_computed() {
    let bench = Bench::new(|_| {});
    let plain = bench.answer(&warm(), &[], 0).await.tokens;
    let barred = plain[1];
    let options = Options {
        repeat_milli: 1_300,
        presence_milli: 700,
        frequency_milli: 400,
        min_p_ppm: 1_000,
        bias: vec![(barred, -100_000)],
        ..warm()
    };
    let answer = bench.same_everywhere(&options).await;
    assert!(!answer.tokens.contains(&barred), "{barred} in {:?}", answer.tokens);
    bench.is_wrong_without(&options, &answer).await;
    let spread = Options { min_p_ppm: 300_000, ..warm() };
    bench.is_wrong_without(&spread, &bench.same_everywhere(&spread).await).await;
    let forced = Options { bias: vec![(barred, 100_000)], ..Options::default() };
    assert_eq!(bench.answer(&forced, &[], 0).await.tokens, vec![barred; 40]);
    let fresh = Options { presence_milli: 2_000, repeat_milli: 10_000, frequency_milli: 2_000, ..Options::default() };
    let distinct: std::collections::BTreeSet<u32> = bench.answer(&fresh, &[], 0).await.tokens.into_iter().collect();
    assert!(distinct.len() > 30, "with the strongest penalties hardly a token comes twice: {}", distinct.len());
}

#[tokio::test]
async fn logarithms_are_told_with_each_token_and_change_none() {
    let bench = Bench::new(|_| {});
    let options = Options { logprobs: 5, ..warm() };
    let answer = bench.same_everywhere(&options).await;
    assert_eq!(answer.tokens, bench.answer(&warm(), &[], 0).await.tokens);
    assert_eq!(answer.told.len(), answer.tokens.len());
    for (token, told) in answer.tokens.iter().zip(&answer.told) {
        assert_eq!((told.len(), told[0].0), (6, *token));
        assert!(told[1..].windows(2).all(|pair| pair[0].1 >= pair[1].1) && told.iter().all(|(_, nats)| *nats <= 0), "{told:?}");
        let among = told[1..].iter().find(|(likely, _)| likely == token);
        assert!(among.is_none_or(|found| found.1 == told[0].1) && told[0].1 <= told[1].1);
    }
    assert!(bench.answer(&warm(), &[], 0).await.told.is_empty());
}

#[tokio::test]
async fn an_answer_under_a_grammar_is_in_its_language_and_ends_where_it_does() {
    let bench = Bench::new(|_| {});
    let options = lark(r#"start: ("ebb" | "flow") " " /[0-9]{3}/"#);
    let answer = bench.same_everywhere(&options).await;
    let text = String::from_utf8(bench.text(&answer.tokens)).unwrap();
    let (word, number) = text.split_once(' ').unwrap();
    assert!(["ebb", "flow"].contains(&word) && number.len() == 3 && number.parse::<u32>().is_ok(), "{text}");
    assert_eq!(answer.finish, Finish::Stop);
    bench.is_wrong_without(&options, &answer).await;

    let schema = r#"{"type":"object","properties":{"tide":{"enum":["ebb","flow"]},"high":{"type":"boolean"}},"required":["tide","high"],"additionalProperties":false}"#;
    let options = Options { grammar: Some(Grammar::new(GrammarKind::Schema, schema)), ..warm() };
    // White space between members is the model's to choose, so it may be cut off by the longest answer: the beginning is right all the same.
    let answer = bench.same_everywhere(&options).await;
    let text = String::from_utf8(bench.text(&answer.tokens)).unwrap();
    match answer.finish {
        Finish::Stop => {
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert!(["ebb", "flow"].contains(&value["tide"].as_str().unwrap()) && value["high"].is_boolean(), "{text}");
        }
        _ => assert!(text.starts_with('{'), "{text}"),
    }
}

#[tokio::test]
async fn what_no_answer_can_have_is_refused_before_anything_is_computed() {
    let bench = Bench::new(|_| {});
    let refused = async |options: Options| {
        let begun = bench.refused(&options, &[]).await.to_string();
        assert_eq!(replay(&bench.engine, bench.claim(&options, &[70], None)).await.unwrap_err().to_string(), begun);
        begun
    };
    assert!(refused(Options { bias: vec![(1 << 20, 0)], ..warm() }).await.contains("bias names token 1048576"));
    assert!(refused(Options { stop: vec![String::new()], ..warm() }).await.contains("a string of stop has 0 bytes"));
    assert!(refused(Options { repeat_milli: 0, ..warm() }).await.contains("repeat_milli is 0"));
    let other = Grammar { engine: GRAMMAR_ENGINE + 1, ..Grammar::new(GrammarKind::Schema, "{}") };
    assert!(refused(Options { grammar: Some(other), ..warm() }).await.contains("this node has engine"));
    let broken = Grammar::new(GrammarKind::Schema, "{");
    assert!(refused(Options { grammar: Some(broken), ..warm() }).await.contains("the schema is not JSON"));
    assert!(refused(lark("start: \"a")).await.starts_with("grammar cannot be used: "));
    assert!(refused(lark("begin: \"a\"")).await.starts_with("grammar cannot be used: "));
    let error = bench.refused(&lark("start: \"yes\""), &[40]).await;
    assert!(matches!(error, EngineError::Constraint(_)), "{error}");
    let stats = bench.engine.stats().await.unwrap();
    assert_eq!((stats.generations, stats.counters.rows), (0, 0));
    assert!(!bench.answer(&warm(), &[], 0).await.tokens.is_empty(), "others are answered as before");
}

#[tokio::test]
async fn answers_under_options_survive_that_their_pages_were_given_up() {
    let roomy = Bench::new(|_| {});
    let tight = Bench::new(|config| config.cached_tokens_max = 6 * 64);
    let options = [
        Options { repeat_milli: 1_200, frequency_milli: 300, ..warm() },
        Options { logprobs: 3, ..warm() },
        lark("start: /[a-z]{140}/"),
        Options { stop: vec!["never this".to_owned()], ..warm() },
        Options { min_p_ppm: 20_000, presence_milli: 900, ..warm() },
        lark("start: /[0-9 ]{145}/"),
    ];
    let start = |bench: &Bench, at: usize| {
        let (payer, start) = (Address([u8::try_from(at % 3).unwrap(); 20]), bench.start(&options[at], &[]));
        Start { prompt: [start.prompt.clone(), vec![9; 60 + at]].concat(), max_tokens: 150, payer, ..start }
    };
    let mut expected = Vec::new();
    for at in 0..options.len() {
        expected.push(run(&roomy.engine, start(&roomy, at), 0).await.unwrap());
    }
    let tasks: Vec<_> = (0..options.len()).map(|at| tokio::spawn(spawned(tight.engine.clone(), start(&tight, at)))).collect();
    for (task, expected) in tasks.into_iter().zip(expected) {
        assert_eq!(task.await.unwrap(), expected);
    }
    assert!(tight.engine.stats().await.unwrap().preempted > 0, "384 tokens for six answers of more than 200");
}
