//! Options of sampling on their way: asked for, answered, executed again by another node, and refused by name where they are not what was signed.

use attribution::bundle::{self, Bundle};
use inference::proto::message::{Begin, FromClient, RefusalCode};
use node::{
    ask::{Answered, Asker, Event, Question},
    check::check_under,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    encoding::Body,
    id::Hash32,
    key::Signed,
    options::{GRAMMAR_ENGINE, Grammar, GrammarKind, Options},
    quote::{Class, Profile, Quote},
    receipt::{CheckReport, Finding, Reason},
    request::Request,
};

use super::world::{TOKENS, World, account};

/// What this crate's own client gets for a question under options, and what it showed meanwhile.
async fn ask(world: &World, asker: &Asker, options: Options) -> (Answered, Vec<u8>) {
    let question = Question { options, ..world.question(asker) };
    let mut shown = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(bytes, ..) = event {
            shown.extend_from_slice(bytes);
        }
    };
    let answered = asker.ask(&question, std::slice::from_ref(&world.front), &mut on_event).await.unwrap();
    (answered, shown)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_likely_each_token_was_is_told_if_asked_and_changes_none() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let asker = world.asker(folder.path());
    let greedy = ask(&world, &asker, Options::default()).await.0;
    let question = Question { options: Options { logprobs: 3, ..Options::default() }, ..world.question(&asker) };
    let mut all = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Token(bytes, _, told) = event {
            all.push((bytes.to_vec(), told.to_vec()));
        }
    };
    let answered = asker.ask(&question, std::slice::from_ref(&world.front), &mut on_event).await.unwrap();
    assert_eq!((&answered.tokens, all.len()), (&greedy.tokens, greedy.tokens.len()));
    for (bytes, told) in &all {
        // Greedy: the chosen one is the likeliest.
        assert_eq!((told.len(), &told[0].bytes, &told[1]), (4, bytes, &told[0]));
        assert!(told.windows(2).all(|pair| pair[0].ln_ppm >= pair[1].ln_ppm) && told[0].ln_ppm < 0, "{told:?}");
    }
    assert_eq!(checked(&world, &answered.bundle).await.finding, Finding::Agrees);
}

/// What another node finds of a bundle.
async fn checked(world: &World, bundle: &Bundle) -> CheckReport {
    let (engine, offer) = world.elsewhere();
    check_under(&engine, &account(9), &world.domains, &offer, bundle).await.unwrap().document
}

fn warm() -> Options {
    Options { temperature_milli: 900, top_k: 50, ..Options::default() }
}

/// A request and its options as the client signs and sends them.
fn sign(world: &World, begin: &mut Begin, options: &Options) {
    let request = Request { sampling: options.sampling(), options: options.digest(), ..begin.request.document };
    begin.request = Signed::new(&world.client, &world.domains, request);
    begin.options = options.beside();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_under_options_carries_them_and_another_node_agrees_unless_anything_was_changed() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let penalised = Options { repeat_milli: 1_500, frequency_milli: 600, min_p_ppm: 20_000, bias: vec![(70, 2_000)], ..warm() };
    let (answered, _) = ask(&world, &world.asker(folder.path()), penalised.clone()).await;
    let bundle = &answered.bundle;
    assert_eq!(bundle.request.document.asked(&bundle.options.0), Ok(penalised.clone()));
    assert_eq!(bundle.receipt.document.profile, Profile::Exact);
    bundle::verify(bundle).unwrap();
    assert_eq!(Bundle::from_json(&std::fs::read(&answered.kept).unwrap()).unwrap(), *bundle, "the file says it all");
    let honest = checked(&world, bundle).await;
    assert_eq!((honest.finding, honest.position), (Finding::Agrees, 0));

    // Whatever is changed of the options, nothing is executed for it: nobody signed for these.
    let other = Options { repeat_milli: 1_501, ..penalised };
    for options in [Body(other.encode()), Body::default()] {
        let changed = Bundle { options, ..bundle.clone() };
        assert!(bundle::verify(&changed).unwrap_err().0.iter().any(|fault| fault.field == "options"));
        assert_eq!(checked(&world, &changed).await.finding, Finding::Signature);
    }
    // Nor could a node have answered by others than it was asked for: its tokens would not be these.
    let mut changed = bundle.clone();
    let place = changed.token_ids.len() / 2;
    changed.token_ids[place] = if changed.token_ids[place] == 75 { 76 } else { 75 };
    let found = checked(&world, &changed).await;
    assert_eq!((found.finding, found.position), (Finding::Token, u32::try_from(place).unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_string_ends_what_is_shown_billed_and_checked() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let asker = world.asker(folder.path());
    // Without chance, so that both questions have one answer as far as it goes.
    let (whole, text) = ask(&world, &asker, Options::default()).await;
    let pair = text.windows(2).skip(text.len() / 2).find(|pair| pair.is_ascii()).unwrap();
    let end = text.windows(2).position(|here| here == pair).unwrap();
    let stop = vec![String::from_utf8(pair.to_vec()).unwrap()];
    let (stopped, shown) = ask(&world, &asker, Options { stop, ..Options::default() }).await;
    assert_eq!((stopped.reason, &shown[..]), (Reason::Stop, &text[..end]), "nothing of the string is shown");
    assert!(stopped.tokens.len() <= whole.tokens.len());
    assert_eq!(stopped.text, types::text::canonical_lossy(&shown));
    assert_eq!(stopped.bundle.answer, stopped.text);
    assert_eq!(checked(&world, &stopped.bundle).await.finding, Finding::Agrees);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_held_to_a_schema_is_what_it_describes_and_another_node_agrees() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let schema =
        r#"{"x-guidance": {"whitespace_flexible": false}, "type": "array", "items": {"type": "boolean"}, "minItems": 1, "maxItems": 1}"#;
    let grammar = Some(Grammar::new(GrammarKind::Schema, schema));
    let (answered, _) = ask(&world, &world.asker(folder.path()), Options { grammar, ..warm() }).await;
    let value: serde_json::Value = serde_json::from_str(&answered.text).unwrap();
    assert!(value[0].is_boolean(), "{value}");
    assert_eq!(answered.reason, Reason::Stop);
    assert_eq!(checked(&world, &answered.bundle).await.finding, Finding::Agrees);
}

/// Else whoever writes one that ends nowhere would have all before that for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_its_clients_own_grammar_ends_is_billed_as_far_as_it_came() {
    let (world, folder) = (World::start().await, tempfile::tempdir().unwrap());
    let grammar = Some(Grammar::new(GrammarKind::Lark, "start: \"abc\" b\nb: b"));
    let (answered, shown) = ask(&world, &world.asker(folder.path()), Options { grammar, ..warm() }).await;
    assert_eq!((&shown[..], answered.reason), (&b"abc"[..], Reason::Cancelled));
    assert!(answered.bundle.receipt.document.fee > Amount::ZERO);
    assert_eq!(checked(&world, &answered.bundle).await.finding, Finding::Agrees);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_that_were_not_signed_or_cannot_be_followed_are_refused_by_name_before_a_token() {
    type Forge = fn(&World, &mut Begin);
    let forged: [(RefusalCode, &str, Forge); 9] = [
        (RefusalCode::Invalid, "the request names", |world, begin| {
            sign(world, begin, &Options { min_p_ppm: 5, ..warm() });
            begin.options = Options { min_p_ppm: 6, ..warm() }.beside();
        }),
        (RefusalCode::Invalid, "none came with it", |world, begin| {
            sign(world, begin, &Options { min_p_ppm: 5, ..warm() });
            begin.options = Body::default();
        }),
        (RefusalCode::Invalid, "names no options", |_, begin| begin.options = Options { min_p_ppm: 5, ..warm() }.beside()),
        (RefusalCode::Invalid, "must be the same", |world, begin| {
            sign(world, begin, &Options { min_p_ppm: 5, ..warm() });
            let mut request = begin.request.document;
            request.sampling.top_k += 1;
            begin.request = Signed::new(&world.client, &world.domains, request);
        }),
        (RefusalCode::Invalid, "Request", |_, begin| begin.request.document.options = Hash32([7; 32])),
        (RefusalCode::Invalid, "min_p_ppm is 1000001", |world, begin| sign(world, begin, &Options { min_p_ppm: 1_000_001, ..warm() })),
        (RefusalCode::Invalid, "bias names token 300", |world, begin| sign(world, begin, &Options { bias: vec![(300, 1)], ..warm() })),
        (RefusalCode::Invalid, "the schema is not JSON", |world, begin| {
            sign(world, begin, &Options { grammar: Some(Grammar::new(GrammarKind::Schema, "{")), ..warm() });
        }),
        (RefusalCode::NotServed, "this node has engine", |world, begin| {
            let grammar = Grammar { engine: GRAMMAR_ENGINE + 1, ..Grammar::new(GrammarKind::Schema, "{}") };
            sign(world, begin, &Options { grammar: Some(grammar), ..warm() });
        }),
    ];
    let world = World::start().await;
    for (number, (code, words, forge)) in (1..).zip(forged) {
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let lane = world.lane(WEI_PER_OPEN, number);
        let mut begin = world.begin(quote, lane.clone());
        forge(&world, &mut begin);
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(code, words).await;
        assert_eq!(world.charged(&lane), (0, Amount::ZERO), "{words}");
    }
}

/// Also under a quote of its own, as it could have made one before it was started anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_the_node_does_not_compute_in_is_refused_by_name() {
    let world = World::start().await;
    for profile in [Profile::CandleF32B1, Profile::Fast] {
        let words = format!("in the profile exact, not in {profile}");
        let mut talk = world.talk().await;
        let ask = FromClient::QuoteAsk { manifest: world.manifest.root(), profile, class: Class::Open, tokens_max: TOKENS };
        talk.send(&ask).await;
        talk.refusal(RefusalCode::NotServed, &words).await;
        let mut talk = world.talk().await;
        let quote = talk.quote(&world.manifest).await;
        let quote = Signed::new(&account(1), &world.domains, Quote { profile, ..quote.document });
        let mut begin = world.begin(quote, world.lane(WEI_PER_OPEN, 1));
        begin.request = Signed::new(&world.client, &world.domains, Request { profile, ..begin.request.document });
        talk.send(&FromClient::Begin(Box::new(begin))).await;
        talk.refusal(RefusalCode::NotServed, &words).await;
    }
}
