//! Three people publish the same document at the same time, two of them in one Datanet and one in another: the order on the chain says whose it is, and every
//! node says the same.

use std::process::{Output, Stdio};

use attribution::index::Index;
use node::{
    chain::Chained,
    data::DataDir,
    datanet::{resolve, shards},
    service::index::store::Indexes,
};
use serde_json::Value;
use types::id::{Address, AssetVersion, Hash32};

use super::{Party, World, documents};

/// Bytes of the document by which its holder is asked for.
const PATTERN: usize = 200;

fn printed(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text:?} ({error}): {}", String::from_utf8_lossy(&output.stderr)))
}

/// Node 0 owns "north", node 1 "south"; 2 and 3 bring the document to the one, 4 to the other.
pub(super) async fn the_order_on_the_chain_says_whose_a_document_is(world: &World) {
    let folder = |number: usize| world.nodes[number].folder.clone();
    world.ok(&folder(0), &["datanet", "create", "north", "--licence", "CC0-1.0"]);
    world.ok(&folder(1), &["datanet", "create", "south", "--licence", "CC0-1.0"]);
    let shared = documents(1_000..1_001);
    // Each has a document of its own beside it: two Datanets may hold one text, and one Datanet two texts that share a document.
    let file = |own: u32| world.file(&format!("shared-{own}.jsonl"), &[shared.clone(), documents(own..own + 1)].concat());
    let all: [(usize, &str, String); 3] = [(2, "north", file(2_002)), (3, "north", file(2_003)), (4, "south", file(2_004))];
    let begun: Vec<_> = all
        .iter()
        .map(|(number, name, file)| {
            let mut command = world.command(&folder(*number), &["datanet", "contribute", name, file]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let ended: Vec<Output> = begun.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    assert!(ended[2].status.success(), "nobody else brought it to south: {}", printed(&ended[2]));
    let refused: Vec<usize> = (0..2).filter(|place| !ended[*place].status.success()).collect();
    assert!(refused.len() < 2, "somebody is the earlier one: {} {}", printed(&ended[0]), printed(&ended[1]));
    for place in &refused {
        let ((number, name, file), other) = (&all[*place], &world.nodes[all[1 - place].0]);
        let error = printed(&ended[*place])["error"].as_str().unwrap().to_owned();
        assert!(error.contains("row 1: duplicate") && error.contains(&other.account.to_string()), "{error}");
        let kept = world.ok(&folder(*number), &["datanet", "contribute", name, file, "--drop-refused"]);
        assert_eq!(kept["documents"].as_u64(), Some(1), "{kept}");
    }
    world.ok(&folder(0), &["datanet", "publish", "north"]);
    world.ok(&folder(1), &["datanet", "publish", "south"]);

    let text = serde_json::from_str::<Value>(&shared[0]).unwrap()["text"].as_str().unwrap().to_owned();
    let pattern = &text.as_bytes()[..PATTERN];
    let mut seen = Vec::new();
    for number in [0, 3] {
        for name in ["north", "south"] {
            world.ok(&folder(number), &["datanet", "fetch", name]);
        }
        seen.push(as_indexed(world, &world.nodes[number], pattern).await);
    }
    let Indexed { root, holds, payee } = &seen[0];
    assert_eq!((root, payee), (&seen[1].root, &seen[1].payee), "two nodes disagree");
    assert_eq!(holds.len(), 3 - refused.len(), "{holds:?}");
    // Equal blocks are told apart by the ordinal: no two are equal.
    let earliest = holds.iter().min_by_key(|(place, _)| *place).unwrap();
    assert_eq!((holds.iter().filter(|(place, _)| *place == earliest.0).count(), payee), (1, &earliest.1), "{holds:?}");
}

struct Indexed {
    root: Hash32,
    /// Block, ordinal and contributor of every accepted contribution with the document.
    holds: Vec<((u64, u32), Address)>,
    /// Who is paid for it.
    payee: Address,
}

/// Both Datanets as a node would index them from what lies in its folder.
async fn as_indexed(world: &World, party: &Party, pattern: &[u8]) -> Indexed {
    let data = DataDir::new(&party.folder);
    let chain = Chained::open_in(&data, world.devnet.url(), world.devnet.deployment().clone(), None).await.unwrap();
    let state = chain.state().await.unwrap();
    let named = |name: &str| AssetVersion { asset: resolve(&state, name).unwrap().0.id, version: 1 };
    let versions = [named("north"), named("south")];
    let (mut parts, mut holds) = (Vec::new(), Vec::new());
    for version in versions {
        let local = shards::local_all(&data, &state, version).unwrap();
        for one in &local {
            if one.text.windows(pattern.len()).any(|window| window == pattern) {
                holds.push(((one.accepted.priority.block, one.accepted.priority.ordinal), one.accepted.contributor));
            }
        }
        parts.push(std::sync::Arc::new(Indexes::over(version, local, &[]).unwrap()));
    }
    let index = Index::new(parts).unwrap();
    Indexed { root: index.root(), payee: index.holder(pattern).unwrap().payee, holds }
}
