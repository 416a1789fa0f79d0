//! Answers in the profile `fast`: their receipts commit to fingerprints of activations, by which another node with the same model tells them from
//! those of another one, and what it finds is evidence alone.

use attribution::{
    bundle::{self, Bundle},
    fault::find_false_spans,
};
use inference::{
    engine::{EngineConfig, EngineHandle, Start, Step},
    proto::message::{FromClient, RefusalCode},
};
use node::{
    ask::{Answered, Asker, Event, Question},
    check::{check_under, message},
};
use types::{
    fingerprint::{self, Fingerprint},
    id::Hash32,
    key::Signed,
    options::Options,
    quote::{Class, Profile},
    receipt::{CheckReport, Finding},
};

use super::world::{Cable, TOKENS, World, account};

/// Of three fingerprints, the last of fewer positions.
const LONG: u32 = 80;

async fn ask(world: &World, asker: &Asker) -> Answered {
    let question = Question { tokens_max: LONG, ..world.question(asker) };
    asker.ask(&question, std::slice::from_ref(&world.front), &mut |_: Event<'_>| {}).await.unwrap()
}

/// What another node finds of a bundle.
async fn checked(world: &World, bundle: &Bundle) -> CheckReport {
    let (engine, offer) = world.elsewhere();
    check_under(&engine, &account(9), &world.domains, &offer, bundle).await.unwrap().document
}

/// Fingerprints of another model's answer to the same question.
async fn of_another_model(bundle: &Bundle) -> Vec<Fingerprint> {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("other.gguf");
    inference::tiny::write_model(&model, 2).unwrap();
    let engine = EngineHandle::start(EngineConfig { profile: Profile::Fast, ..EngineConfig::new(&model) }).unwrap();
    let prompt = engine.prompt_tokens(&bundle.messages.iter().map(message).collect::<Vec<_>>()).unwrap();
    let start = Start { fingerprints: true, ..Start::new(prompt, Options::default(), bundle.request.seed().0, LONG) };
    let (mut generation, mut tokens) = (engine.begin(start).await.unwrap(), 0);
    while let Step::Token { .. } = generation.next().await.unwrap() {
        tokens += 1;
    }
    generation.activations().unwrap().fingerprints(tokens)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_answer_commits_to_its_activations_and_a_node_with_the_same_model_finds_them_near() {
    let (world, folder) = (World::start_in(Profile::Fast).await, tempfile::tempdir().unwrap());
    let answered = ask(&world, &world.asker(folder.path())).await;
    let bundle = Bundle::from_json(&std::fs::read(&answered.kept).unwrap()).unwrap();
    let receipt = &bundle.receipt.document;
    assert_eq!((receipt.profile, &bundle), (Profile::Fast, &answered.bundle));
    assert_ne!(receipt.fingerprint_root, Hash32::ZERO);
    assert_eq!(receipt.fingerprint_root, fingerprint::root(&bundle.fingerprints));
    assert_eq!(u32::try_from(bundle.fingerprints.len()).unwrap(), fingerprint::count(receipt.tokens_out));
    assert!(bundle.fingerprints.len() > 1, "the model ended after {} tokens", receipt.tokens_out);
    bundle::verify(&bundle).unwrap();
    let report = checked(&world, &bundle).await;
    assert_eq!((report.finding, report.position), (Finding::Agrees, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fingerprints_of_another_model_are_found_far_and_give_nothing_that_a_chain_takes() {
    let (world, folder) = (World::start_in(Profile::Fast).await, tempfile::tempdir().unwrap());
    let honest = ask(&world, &world.asker(folder.path())).await.bundle;
    let other = of_another_model(&honest).await;
    assert!(honest.fingerprints.len().min(other.len()) > 1, "a model ended early");
    // The node signs what another model computed: all of it, or the second part alone.
    for (first, place) in [(0, 0), (1, 32)] {
        let mut bundle = honest.clone();
        for (own, other) in bundle.fingerprints.iter_mut().zip(&other).skip(first) {
            *own = other.clone();
        }
        bundle.receipt.document.fingerprint_root = fingerprint::root(&bundle.fingerprints);
        bundle.receipt = Signed::new(&account(1), &bundle.domains, bundle.receipt.document);
        // No document is false: only an execution tells.
        bundle::verify(&bundle).unwrap();
        let report = checked(&world, &bundle).await;
        assert_eq!((report.finding, report.position), (Finding::Activations, place));
        // What could be filed is a span that is false; the check took no chain, and there is no document that names a token or an activation to one.
        assert!(!bundle.receipt.document.profile.is_proved());
        assert_eq!(find_false_spans(&bundle, &world.elsewhere().1.index).unwrap(), vec![]);
    }
    // Altered after they were signed, it shows without an execution.
    let mut altered = honest.clone();
    altered.fingerprints[0] = other[0].clone();
    let faults = bundle::verify(&altered).unwrap_err();
    assert!(faults.0.iter().all(|fault| fault.field == "fingerprint root"), "{faults}");
    assert_eq!(checked(&world, &altered).await.finding, Finding::Activations);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_in_fast_refuses_a_request_for_exact_and_names_both() {
    let world = World::start_in(Profile::Fast).await;
    let mut talk = world.talk().await;
    let ask = FromClient::QuoteAsk { manifest: world.manifest.root(), profile: Profile::Exact, class: Class::Open, tokens_max: TOKENS };
    talk.send(&ask).await;
    talk.refusal(RefusalCode::NotServed, "this node answers in the profile fast, not in exact").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fast_answer_that_a_cut_line_interrupts_is_taken_up_and_commits_to_the_activations_of_all_of_it() {
    let (world, folder) = (World::start_in(Profile::Fast).await, tempfile::tempdir().unwrap());
    let (asker, cable) = (world.asker(folder.path()), Cable::to(world.front.addr).await);
    let (whole, _) = world.ask_by(&asker, &cable, Options::default(), |_| {}).await;
    assert!(whole.bundle.fingerprints.len() > 1, "the model ended after {} tokens", whole.tokens.len());
    // In the first fingerprint's positions, and in the second's.
    for at in [2, 34] {
        let mut broke_at = None;
        let (answered, _) = world
            .ask_by(&asker, &cable, Options::default(), |event| match event {
                Event::Token(_, count, _) if *count == at && broke_at.is_none() => cable.cut(true, true),
                Event::TakingUp(_, tokens, _) => {
                    broke_at = Some(*tokens);
                    cable.cut(false, false);
                }
                _ => {}
            })
            .await;
        assert!(broke_at.is_some_and(|tokens| tokens >= at) && answered.resumed >= 1, "{broke_at:?}");
        assert_eq!((&answered.tokens, &answered.bundle.fingerprints), (&whole.tokens, &whole.bundle.fingerprints));
        bundle::verify(&answered.bundle).unwrap();
        assert_eq!(checked(&world, &answered.bundle).await.finding, Finding::Agrees);
    }
}
