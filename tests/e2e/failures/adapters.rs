//! Adapters that cannot answer: frozen on the chain, damaged on the disk, or so large in their numbers that the engine itself fails.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use chain_bridge::client::assets::NewVersion;
use futures::future::join_all;
use harness::{cluster::text, files, wire::Payer};
use inference::{adapter::AdapterFiles, proto::message::RefusalCode};
use types::{
    id::{AssetVersion, BlobId, Hash32},
    manifest::{AssetKind, Manifest},
    split::SplitTable,
};

use super::scene::{Class, Door, Scene, WORDS, account, client, is_refused, manifest, mixed};

const FROZEN: Class = Class::new("a version frozen on the chain just before", 500);
const DAMAGED: Class = Class::new("an adapter whose file is damaged", 150);
const OVERFLOWING: Class = Class::new("the engine fails at the first token", 150);

/// What is injected here.
pub(super) const CLASSES: [&Class; 3] = [&FROZEN, &DAMAGED, &OVERFLOWING];

/// Longest from a freeze in a block to every node's refusing.
const FREEZE_WAIT: Duration = Duration::from_secs(60);

/// Every class of this file.
pub(super) async fn everything(scene: &Scene<'_>) {
    let sound = |name: &str, byte: u8| {
        files::adapter(&scene.cluster.path(name), |settings, _, data| {
            settings["task_type"] = "CAUSAL_LM".into();
            data.fill(0);
            data[0] = byte;
        })
    };
    let (brief, damaged) = (sound("brief", 1), sound("damaged", 2));
    let overflowing = files::adapter(&scene.cluster.path("overflowing"), |_, _, data| {
        // Taken in each by itself; the product of both matrices leaves the range in which the profile computes.
        data.chunks_exact_mut(4).for_each(|number| number.copy_from_slice(&1e11_f32.to_le_bytes()));
    });
    let (brief, damaged, overflowing) = tokio::join!(
        published(scene, &FROZEN, &brief, |_, _| {}),
        published(scene, &DAMAGED, &damaged, damage),
        published(scene, &OVERFLOWING, &overflowing, |_, _| {}),
    );

    scene.run(&DAMAGED, async |door, payer, _| fails(&damaged, door, payer, RefusalCode::NotServed, "broken").await).await;
    scene.run(&OVERFLOWING, async |door, payer, _| fails(&overflowing, door, payer, RefusalCode::Internal, "finite").await).await;
    frozen(scene, &brief).await;
}

/// A version that the nodes serve.
struct Served {
    version: AssetVersion,
    manifest: Manifest,
}

/// Registers an adapter of the base to the class's payer, brings it to both nodes, and waits until they serve it. What is to happen to a node's copy happens
/// before anybody asks its price: from then on the node reads it.
async fn published(scene: &Scene<'_>, class: &Class, folder: &Path, then: impl Fn(&Path, BlobId)) -> Served {
    let chain = client(scene.cluster, account(class.name)).await;
    let content = BlobId(AdapterFiles::read(folder).expect("an adapter's files").hash());
    let register = async {
        let (asset, _) = chain.register_asset(AssetKind::Adapter, "tributary:adapter:failing").await.expect("an asset");
        let new = NewVersion {
            content,
            parents: vec![scene.manifest.assets[0].version],
            split: SplitTable { node: 3_000, agent: 0, base: 1_000, adapter: 1_500, data: 4_000, stakers: 500 },
            datanets: vec![],
            licence: Hash32::ZERO,
            parent_share_min: 0,
        };
        chain.publish(asset, &new).await.expect("a version").0
    };
    let import = ["adapter", "import", text(folder)];
    let (version, _) = tokio::join!(register, join_all(scene.cluster.nodes.iter().map(|node| scene.cluster.run(node, &import))));
    scene.cluster.nodes.iter().for_each(|node| then(&node.folder, content));
    let manifest = manifest(scene.cluster, version).await;
    join_all(scene.doors.iter().map(|door| door.serves(&manifest))).await;
    Served { version, manifest }
}

/// Cuts an adapter's matrices short, as a disk that loses its end does.
fn damage(folder: &Path, content: BlobId) {
    let path: PathBuf = folder.join("adapters").join(content.to_string()).join("adapter_model.safetensors");
    let whole = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("a node's own file");
}

async fn fails(served: &Served, door: &Door, payer: &Payer, code: RefusalCode, words: &str) -> Result<(), String> {
    let (mut talk, quote) = door.quoted(&served.manifest).await?;
    let begin = payer.begin(&quote, payer.request(&quote.document, WORDS), payer.lane(door.account), &served.manifest, WORDS);
    is_refused(&mut talk, &begin, code, words).await
}

/// Offers made before the freeze, used after it: refused as soon as a node has read the block, and always from then on.
async fn frozen(scene: &Scene<'_>, served: &Served) {
    let quotes = join_all(scene.doors.iter().map(async |door| door.offer(&served.manifest).await)).await;
    let owner = client(scene.cluster, account(FROZEN.name)).await;
    owner.freeze(served.version).await.expect("the owner may freeze");
    let is_not_offered = async |door: &Door| match door.quoted(&served.manifest).await {
        Err(why) if why.contains("NotServed") => Ok(()),
        other => Err(format!("a frozen version is offered: {other:?}")),
    };
    let started = Instant::now();
    for door in &scene.doors {
        while let Err(why) = is_not_offered(door).await {
            assert!(started.elapsed() < FREEZE_WAIT, "{}: {why}", door.account);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let refused = async |door: &Door, payer: &Payer, number: usize| {
        if mixed(&FROZEN, number, "step").is_multiple_of(2) {
            return is_not_offered(door).await;
        }
        let quote = quotes.iter().find(|quote| quote.document.node == door.account).expect("both nodes made one");
        let begin = payer.begin(quote, payer.request(&quote.document, WORDS), payer.lane(door.account), &served.manifest, WORDS);
        is_refused(&mut door.talk().await?, &begin, RefusalCode::NotServed, "").await
    };
    scene.run(&FROZEN, async |door, payer, number| refused(door, payer, number).await).await;
}
