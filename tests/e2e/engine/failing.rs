//! An adapter with which the engine computes well until one token is fed to it, and then meets numbers beyond its range.
//!
//! Its keys in the first layer grow beyond that range along one direction, to which every token of the prompt is orthogonal and one other token is not.
//! What stands there depends on the token alone, and the embeddings have more dimensions than the prompt has tokens, so there is such a direction. Which
//! token comes first is chance's choice at a high temperature, and chance follows from the request's signature: the client signs until it is that one.

use std::path::{Path, PathBuf};

use chain_bridge::client::{ChainClient, assets::NewVersion};
use futures::future::join_all;
use harness::{
    Cluster,
    cluster::text,
    files,
    wire::{Heard, Payer},
};
use inference::{
    Message, Role, Sampling,
    adapter::AdapterFiles,
    engine::{EngineConfig, EngineError, EngineHandle, Start, Step},
    gguf::GgufFile,
    proto::message::{Begin, FromNode},
    sampler, tiny,
};
use serde_json::Value;
use types::{
    amount::Amount,
    id::{BlobId, Hash32},
    key::Signed,
    manifest::{AssetKind, Manifest},
    quote::Quote,
    receipt::Reason,
    request::SamplingRule,
    split::SplitTable,
};

use super::{Door, WORDS, is_unbilled, manifest, payer};

/// So hot that chance alone decides.
const HOT: SamplingRule = SamplingRule { temperature_milli: 10_000_000, top_k: 0, top_p_ppm: 0 };
/// Requests signed until chance picks the token: one in 300 does.
const SIGNED_MAX: usize = 20_000;
/// What the token is along the direction. What rounding to eight bits leaves of the prompt's tokens is a few hundredths of it.
const LONG: f64 = 20.0;
/// A key's factor, twice this by the adapter's own scale: the token's key is beyond 2^40, where a row fails, and the prompt's keys are far below.
const HUGE: f32 = 1e11;
/// Tokens tried.
const TRIED_MAX: usize = 40;

/// The first token is delivered and paid for, the engine fails at the second one: the node signs that nothing is charged.
pub(super) async fn in_the_middle(cluster: &Cluster, door: &Door, base: &Manifest) {
    let adapters_dir = Some(cluster.path("packed"));
    let engine = EngineHandle::start(EngineConfig { adapters_dir, ..EngineConfig::new(files::tiny_model()) }).expect("the committed model");
    let (token, folder) = failing(cluster, &engine).await;
    let served = published(cluster, base, &folder).await;
    let payer = payer(cluster, "unlucky");
    let (mut talk, quote) = door.quoted(&served).await;
    let begin = signed(&payer, door, &served, &quote, token);
    let mut answer = talk.begun(&begin).await.expect("a beginning");
    answer.token(&mut talk).await.expect("the first token");
    assert_eq!(answer.tokens, [token]);
    let voucher = answer.due();
    assert!(voucher.cumulative > Amount::ZERO);
    answer.pay(&mut talk, &payer, voucher).await;
    match talk.hear().await {
        Heard::Said(FromNode::Receipt(delivered)) => {
            assert!(is_unbilled(&delivered, Reason::EngineFailure), "{delivered:?}");
            assert_eq!(delivered.receipt.cumulative_after, Amount::ZERO, "the lane stands where it stood");
        }
        other => panic!("the engine failed and the node said {other:?}"),
    }
    let refusal = talk.refusal().await.expect("why");
    assert!(refusal.message.contains("finite"), "{refusal:?}");
    cluster.say("the engine failed in the middle of an answer, and the node signed that it costs nothing");
}

/// A request whose first token chance makes `token`.
fn signed(payer: &Payer, door: &Door, served: &Manifest, quote: &Signed<Quote>, token: u32) -> Begin {
    let sampling = Sampling { temperature_milli: HOT.temperature_milli, top_k: HOT.top_k, top_p_ppm: HOT.top_p_ppm };
    let found = (0..SIGNED_MAX).find_map(|_| {
        let mut begin = payer.begin(quote, payer.request(&quote.document, WORDS), payer.lane(door.account), served, WORDS);
        begin.request.document.sampling = HOT;
        begin.request = payer.sign(begin.request.document);
        let first =
            sampler::choose(&[0.0; tiny::VOCABULARY], &sampling.into(), &sampler::Counts::default(), None, &begin.request.seed().0, 0);
        Some(begin).filter(|_| first.is_some_and(|first| first.token == token))
    });
    found.expect("chance never picks the token")
}

/// The first token for which there is such an adapter, and its folder.
async fn failing(cluster: &Cluster, engine: &EngineHandle) -> (u32, PathBuf) {
    let turns = [Message { role: Role::User, content: WORDS.to_owned() }];
    let prompt = engine.prompt_tokens(&turns).expect("a short question");
    let inputs = inputs();
    let plain = (0..256_u32).filter(|token| !prompt.contains(token) && !engine.eos().contains(token));
    for token in plain.take(TRIED_MAX) {
        let folder = cluster.path(&format!("failing-{token}"));
        write(&folder, &orthogonal(&inputs, &prompt, token));
        if fails_at_the_second(engine, &folder, &prompt, token).await {
            return (token, folder);
        }
    }
    panic!("no adapter lets the engine fail at the second token");
}

/// What each token brings to the first layer's keys: its embedding, normalised.
fn inputs() -> Vec<Vec<f64>> {
    let file = GgufFile::open(&files::tiny_model()).expect("the committed model");
    let hidden = tiny::HIDDEN as u64;
    let all = file.tensor("token_embd.weight", &[tiny::VOCABULARY as u64, hidden]).expect("its embeddings");
    let norm = file.tensor("blk.0.attn_norm.weight", &[hidden]).expect("its first norm");
    let normalised = |row: &[f32]| {
        let mean = row.iter().map(|number| f64::from(*number).powi(2)).sum::<f64>() / tiny::HIDDEN as f64;
        row.iter().zip(&norm).map(|(number, weight)| f64::from(*number) / mean.sqrt() * f64::from(*weight)).collect()
    };
    all.chunks_exact(tiny::HIDDEN).map(normalised).collect()
}

fn dot(one: &[f64], two: &[f64]) -> f64 {
    one.iter().zip(two).map(|(one, two)| one * two).sum()
}

/// Takes from `of` what lies along `along`.
fn subtract(of: &mut [f64], along: &[f64]) {
    let share = dot(of, along) / dot(along, along);
    of.iter_mut().zip(along).for_each(|(one, two)| *one -= share * two);
}

/// The direction to which every token of the prompt is orthogonal, and along which `token` has the length [`LONG`] (Gram and Schmidt).
fn orthogonal(inputs: &[Vec<f64>], prompt: &[u32], token: u32) -> Vec<f32> {
    let of = |token: u32| inputs[usize::try_from(token).expect("a small number")].clone();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let distinct: std::collections::BTreeSet<u32> = prompt.iter().copied().collect();
    for mut row in distinct.into_iter().map(of) {
        // Twice, because rounding leaves a little the first time.
        for _ in 0..2 {
            basis.iter().for_each(|along| subtract(&mut row, along));
        }
        basis.push(row);
    }
    let mut direction = of(token);
    for _ in 0..2 {
        basis.iter().for_each(|along| subtract(&mut direction, along));
    }
    let length = dot(&direction, &of(token));
    #[expect(clippy::cast_possible_truncation, reason = "an adapter's numbers are of single precision")]
    let scaled = |number: f64| (LONG * number / length) as f32;
    direction.into_iter().map(scaled).collect()
}

/// An adapter of zeros but for the first layer's keys.
fn write(folder: &Path, direction: &[f32]) {
    let put = |header: &Value, data: &mut [u8], name: &str, numbers: &mut dyn Iterator<Item = f32>| {
        let start =
            header[format!("base_model.model.model.layers.0.self_attn.{name}.weight")]["data_offsets"][0].as_u64().expect("an offset");
        let place = &mut data[usize::try_from(start).expect("a small file")..];
        place.chunks_exact_mut(4).zip(numbers).for_each(|(bytes, number)| bytes.copy_from_slice(&number.to_le_bytes()));
    };
    files::adapter(folder, |_, header, data| {
        data.fill(0);
        put(header, data, "k_proj.lora_A", &mut direction.iter().copied());
        put(header, data, "k_proj.lora_B", &mut std::iter::repeat_n(HUGE, tiny::HIDDEN / tiny::HEADS * tiny::KV_HEADS));
    });
}

/// Whether the engine reads the prompt with the adapter and fails when the token is fed to it.
async fn fails_at_the_second(engine: &EngineHandle, folder: &Path, prompt: &[u32], token: u32) -> bool {
    let adapter = engine.load_adapter(folder).await.expect("a sound file").hash;
    let greedy = Sampling { temperature_milli: 0, top_k: 0, top_p_ppm: 0 };
    let start = |continued: Vec<u32>| Start { continued, ..Start::new(prompt.to_vec(), greedy, [0; 32], 4).with_adapter(adapter) };
    let mut first = engine.begin(start(vec![])).await.expect("the engine is idle");
    let reads = matches!(first.next().await, Ok(Step::Token { .. } | Step::End(_)));
    let mut second = engine.begin(start(vec![token])).await.expect("the engine is idle");
    reads && matches!(second.next().await, Err(EngineError::Model(_)))
}

/// Registers the adapter to the author, brings it to both nodes; what answers with it name.
async fn published(cluster: &Cluster, base: &Manifest, folder: &Path) -> Manifest {
    let author = cluster.person("author").key();
    let chain = ChainClient::connect(cluster.devnet.url(), cluster.devnet.deployment().clone(), Some(author)).await;
    let chain = chain.expect("the chain answers");
    let content = BlobId(AdapterFiles::read(folder).expect("an adapter's files").hash());
    let (asset, _) = chain.register_asset(AssetKind::Adapter, "tributary:adapter:failing-later").await.expect("an asset");
    let new = NewVersion {
        content,
        parents: vec![base.assets[0].version],
        split: SplitTable { node: 3_000, agent: 0, base: 1_000, adapter: 1_500, data: 4_000, stakers: 500 },
        datanets: vec![],
        licence: Hash32::ZERO,
        parent_share_min: 0,
    };
    let version = chain.publish(asset, &new).await.expect("a version").0;
    let import = ["adapter", "import", text(folder)];
    join_all(cluster.nodes.iter().map(|node| cluster.run(node, &import))).await;
    manifest(cluster, version).await
}
