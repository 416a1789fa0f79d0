use chain_bridge::registry::{Event, Logged};
use types::{
    id::{Address, AssetId, BlobId, Hash32},
    time::BlockRef,
};

use super::*;

const AGENT: SplitTable = SplitTable { node: 3_000, agent: 500, base: 1_000, adapter: 1_000, data: 4_000, stakers: 500 };

const fn at(asset: u64, version: u32) -> AssetVersion {
    AssetVersion { asset: AssetId(asset), version }
}

/// Base 1 in two versions that ask for 500, adapter 2 on 1@1 that asks for 800, Datanet 3, adapter 4 that is frozen, and base 5.
fn state() -> State {
    let kinds = [AssetKind::Base, AssetKind::Adapter, AssetKind::Datanet, AssetKind::Adapter, AssetKind::Base];
    let owner = Address([9; 20]);
    let mut events: Vec<Event> = (1..)
        .zip(kinds)
        .map(|(asset, kind)| Event::Registered { asset: AssetId(asset), kind, owner, uri: format!("tributary:{}:x", word(kind)) })
        .collect();
    for (version, parents, least) in [
        (at(1, 1), vec![], 500),
        (at(1, 2), vec![], 500),
        (at(2, 1), vec![at(1, 1)], 800),
        (at(3, 1), vec![], 0),
        (at(4, 1), vec![at(1, 1)], 0),
        (at(5, 1), vec![], 0),
    ] {
        events.push(Event::Published {
            version,
            content: BlobId([1; 32]),
            parents,
            split: SplitTable::default(),
            datanets: vec![],
            licence: Hash32::ZERO,
            parent_share_min: least,
        });
    }
    events.push(Event::Frozen { version: at(4, 1) });
    let mut state = State::default();
    for (number, event) in (1..).zip(events) {
        let block = BlockRef { number, hash: Hash32::ZERO };
        state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
    }
    state
}

fn tried(kind: AssetKind, parents: &[AssetVersion], split: SplitTable, datanets: &[AssetVersion]) -> Result<(), String> {
    let (parents, datanets) = (parents.to_vec(), datanets.to_vec());
    let new = NewVersion { content: BlobId([1; 32]), parents, split, datanets, licence: Hash32::ZERO, parent_share_min: 0 };
    fits(&state(), kind, &new, 1_000).map_err(|error| error.to_string())
}

#[test]
fn what_the_registry_takes_is_taken() {
    let base = SplitTable { agent: 0, adapter: 0, base: 2_500, ..AGENT };
    tried(AssetKind::Base, &[], base, &[at(3, 1)]).unwrap();
    tried(AssetKind::Adapter, &[at(1, 2)], SplitTable { agent: 0, node: 3_500, ..AGENT }, &[at(3, 1)]).unwrap();
    tried(AssetKind::Agent, &[at(2, 1), at(1, 1)], AGENT, &[at(3, 1)]).unwrap();
    tried(AssetKind::Agent, &[at(5, 1)], SplitTable { adapter: 0, node: 4_000, ..AGENT }, &[]).unwrap();
}

#[test]
fn what_it_would_refuse_is_refused_with_the_role_or_the_version() {
    let (agent, both) = (AssetKind::Agent, [at(1, 1), at(2, 1)]);
    let moved = |base, adapter| SplitTable { base, adapter, node: 5_000 - base - adapter, ..AGENT };
    let cases = [
        (tried(agent, &both, moved(499, 1_000), &[]), "the base row is 499 basis points, the owner of 1@1 asks for at least 500"),
        (tried(agent, &both, moved(1_000, 799), &[]), "the adapter row is 799 basis points, the owner of 2@1 asks for at least 800"),
        (
            tried(agent, &both, SplitTable { data: 999, stakers: 3_501, ..AGENT }, &[]),
            "the data row is 999 basis points, this chain asks for at least 1000",
        ),
        (tried(agent, &both, SplitTable { node: 1, ..AGENT }, &[]), "do not sum to 10000"),
        (tried(AssetKind::Adapter, &[at(1, 1)], AGENT, &[]), "the agent row is 500 basis points, and no agent has a part"),
        (tried(agent, &[at(1, 1)], AGENT, &[]), "the adapter row is 1000 basis points, and no adapter has a part"),
        (tried(agent, &[at(1, 2), at(2, 1)], AGENT, &[]), "adapter 2@1 was published for base 1@1, the agent names 1@2: name 1@1"),
        (tried(agent, &[at(2, 1)], AGENT, &[]), "it names no base version, which every agent has"),
        (tried(agent, &[at(1, 1), at(5, 1)], AGENT, &[]), "versions 1@1 and 5@1 are both named"),
        (tried(agent, &[at(1, 1), at(4, 1)], AGENT, &[]), "version 4@1 was frozen in block"),
        (tried(agent, &[at(1, 7)], AGENT, &[]), "version 1@7 is not published"),
        (tried(agent, &both, AGENT, &[at(1, 1)]), "version 1@1 is no datanet"),
        (tried(agent, &both, AGENT, &[at(3, 1), at(3, 1)]), "Datanet 3 is named twice"),
        (tried(agent, &both, AGENT, &[at(3, 1); 17]), "17 Datanets are named, at most 16"),
        (tried(AssetKind::Base, &[at(1, 1)], AGENT, &[]), "on which no base builds"),
        (tried(AssetKind::Adapter, &both, AGENT, &[]), "version 2@1 is of kind adapter, on which no adapter builds"),
    ];
    for (outcome, says) in cases {
        let error = outcome.expect_err(says);
        assert!(error.contains(says) && error.contains("nothing was sent"), "{says}: {error}");
    }
}
