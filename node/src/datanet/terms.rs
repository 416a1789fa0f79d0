//! What the cards of Datanets allow to be done with them: training, answering, and under which licence what is made of them is passed on.
//!
//! Asked before anything is trained, signed or served. The chain keeps of a licence the hash of its expression, so who has only that can tell whether it is the
//! Datanet's own expression and nothing else. A Datanet without a readable card (other software's, say) forbids nothing that could be read.

use chain_bridge::registry::State;
use storage::datanet::{Card, CardError, Licence, not_within};
use types::{
    id::{Address, AssetId, AssetVersion, Hash32},
    manifest::AssetKind,
    merkle::keccak,
};

use super::card_of;

/// Why a Datanet's card forbids it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TermsError {
    /// `may_train` is off.
    #[error("Datanet {id} ({name}) may not be trained on: its card says so; ask its owner {owner}")]
    Train {
        /// The Datanet.
        id: AssetId,
        /// Its name.
        name: String,
        /// Its owner.
        owner: Address,
    },
    /// `may_serve` is off.
    #[error("Datanet {id} ({name}) may not be served: its card says so; ask its owner {owner}")]
    Serve {
        /// The Datanet.
        id: AssetId,
        /// Its name.
        name: String,
        /// Its owner.
        owner: Address,
    },
    /// `share_alike` is on, and the licence is not its own.
    #[error(
        "Datanet {id} ({name}) is share-alike: what is made of it is passed on under {asked}, and {problem}; publish it with --licence \"{fix}\""
    )]
    Alike {
        /// The Datanet.
        id: AssetId,
        /// Its name.
        name: String,
        /// Its licence.
        asked: String,
        /// What is wrong with the one given.
        problem: String,
        /// A licence that satisfies all Datanets concerned.
        fix: String,
    },
    /// No licence expression.
    #[error(transparent)]
    Licence(#[from] CardError),
}

/// The licence under which a version is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Given<'a> {
    /// As an expression.
    Expression(&'a str),
    /// The hash that an earlier version has on the chain.
    Hash(Hash32),
}

fn card(state: &State, id: AssetId) -> Option<(Card, Address)> {
    let asset = state.asset(id).filter(|asset| asset.kind == AssetKind::Datanet)?;
    Some((card_of(asset).ok()?, asset.owner()))
}

/// Whether adapters may be trained on a Datanet.
///
/// # Errors
/// [`TermsError::Train`].
pub fn may_train(state: &State, id: AssetId) -> Result<(), TermsError> {
    match card(state, id) {
        Some((card, owner)) if !card.policy().may_train => Err(TermsError::Train { id, name: card.name().to_string(), owner }),
        _ => Ok(()),
    }
}

/// Whether answers may be attributed to Datanets, and so draw on them.
///
/// # Errors
/// [`TermsError::Serve`] of the first that forbids it. Whether a node may read a private one at all say its grants ([`super::granted`]).
pub fn may_serve(state: &State, declared: &[AssetVersion]) -> Result<(), TermsError> {
    for version in declared {
        let Some((card, owner)) = card(state, version.asset) else { continue };
        let (id, name) = (version.asset, card.name().to_string());
        if !card.policy().may_serve {
            return Err(TermsError::Serve { id, name, owner });
        }
    }
    Ok(())
}

/// The licence that what is made of a Datanet has to have, if it is share-alike.
pub fn alike_licence(state: &State, id: AssetId) -> Option<Licence> {
    card(state, id).filter(|(card, _)| card.policy().share_alike).map(|(card, _)| card.licence().clone())
}

/// Whether a version that declares Datanets and builds on parents may have its licence: the share-alike ones among the Datanets that it, or a parent, declares or
/// was trained on ask for their own.
///
/// # Errors
/// [`TermsError::Alike`] of the first that is not satisfied; [`TermsError::Licence`].
pub fn passed_on_alike(state: &State, made_of: &[AssetVersion], parents: &[AssetVersion], given: Given<'_>) -> Result<(), TermsError> {
    let licence: Option<Licence> = match given {
        Given::Expression(text) => Some(text.parse()?),
        Given::Hash(_) => None,
    };
    let inherited = parents.iter().filter_map(|parent| state.version(*parent)).flat_map(|version| &version.datanets);
    let mut ids: Vec<AssetId> = made_of.iter().chain(inherited).map(|version| version.asset).collect();
    ids.sort_unstable();
    ids.dedup();
    let asked: Vec<(AssetId, Licence)> = ids.into_iter().filter_map(|id| Some((id, alike_licence(state, id)?))).collect();
    for (id, wanted) in &asked {
        let problem = match (&licence, given) {
            (Some(licence), _) => not_within(licence, wanted),
            (None, Given::Hash(hash)) if hash == licence_hash(wanted.as_str()) => None,
            (None, _) => Some("of the newest version's licence the chain keeps only the hash, which is another".to_owned()),
        };
        if let Some(problem) = problem {
            let name = card(state, *id).map_or_else(String::new, |(card, _)| card.name().to_string());
            return Err(TermsError::Alike { id: *id, name, asked: wanted.to_string(), problem, fix: all_of(&asked) });
        }
    }
    Ok(())
}

/// What the chain keeps of a licence.
pub fn licence_hash(licence: &str) -> Hash32 {
    keccak(&[licence.as_bytes()])
}

/// An expression that keeps to every one of these.
fn all_of(asked: &[(AssetId, Licence)]) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for (_, licence) in asked {
        if !parts.contains(&licence.as_str()) {
            parts.push(licence.as_str());
        }
    }
    match parts.as_slice() {
        [one] => (*one).to_owned(),
        all => all
            .iter()
            .map(|part| if part.contains(' ') { format!("({part})") } else { (*part).to_owned() })
            .collect::<Vec<_>>()
            .join(" AND "),
    }
}

#[cfg(test)]
mod tests {
    use chain_bridge::registry::{Event, Logged};
    use types::{id::BlobId, split::SplitTable, time::BlockRef};

    use super::*;

    const fn at(asset: u64) -> AssetVersion {
        AssetVersion { asset: AssetId(asset), version: 1 }
    }

    const OPEN: u64 = 2;
    const ALIKE: u64 = 3;
    const CHOICE: u64 = 4;
    const NO_TRAIN: u64 = 5;
    const NO_SERVE: u64 = 6;
    const PRIVATE: u64 = 7;
    const CARDLESS: u64 = 8;
    /// An adapter that declares `ALIKE`.
    const ADAPTER: u64 = 9;

    /// Base 1, Datanets of every policy, and an adapter; each in one version.
    fn state() -> State {
        let card = |name: &str, licence: &str, policy: &str, rest: &str| {
            format!(r#"{{"name":"{name}","description":"","licence":"{licence}","languages":[],"tags":[],"policy":{{{policy}}}{rest}}}"#)
        };
        let assets = [
            (1, AssetKind::Base, "tributary:base:b".to_owned()),
            (OPEN, AssetKind::Datanet, card("open", "CC0-1.0", "", "")),
            (ALIKE, AssetKind::Datanet, card("alike", "CC-BY-SA-4.0", r#""share_alike":true"#, "")),
            (CHOICE, AssetKind::Datanet, card("choice", "MIT OR ISC", r#""share_alike":true"#, "")),
            (NO_TRAIN, AssetKind::Datanet, card("no-train", "CC0-1.0", r#""may_train":false"#, "")),
            (NO_SERVE, AssetKind::Datanet, card("no-serve", "CC0-1.0", r#""may_serve":false"#, "")),
            (PRIVATE, AssetKind::Datanet, card("private", "CC0-1.0", "", r#","private":true"#)),
            (CARDLESS, AssetKind::Datanet, "https://example.org".to_owned()),
            (ADAPTER, AssetKind::Adapter, "tributary:adapter:a".to_owned()),
        ];
        let owner = Address([9; 20]);
        let mut events = Vec::new();
        for (asset, kind, uri) in assets {
            events.push(Event::Transferred { asset: AssetId(asset), to: owner });
            events.push(Event::Registered { asset: AssetId(asset), kind, owner, uri });
            let datanets = if asset == ADAPTER { vec![at(ALIKE)] } else { Vec::new() };
            let (content, split) = (BlobId([1; 32]), SplitTable::default());
            let version = at(asset);
            events.push(Event::Published {
                version,
                content,
                parents: vec![],
                split,
                datanets,
                licence: Hash32::ZERO,
                parent_share_min: 0,
            });
        }
        let mut state = State::default();
        for (number, event) in (1..).zip(events) {
            let block = BlockRef { number, hash: Hash32::ZERO };
            state.apply(&Logged { block, log: 0, transaction: Hash32::ZERO, time: 0, event }).unwrap();
        }
        state
    }

    #[test]
    fn cards_forbid_training_and_serving_by_name_and_say_whom_to_ask() {
        let state = state();
        // (Datanet, what is said of training, what is said of serving)
        for (datanet, train, serve) in [
            (OPEN, None, None),
            (ALIKE, None, None),
            (NO_TRAIN, Some("Datanet 5 (no-train) may not be trained on: its card says so; ask its owner 0x0909"), None),
            (NO_SERVE, None, Some("Datanet 6 (no-serve) may not be served: its card says so; ask its owner 0x0909")),
            (PRIVATE, None, None),
            (CARDLESS, None, None),
            (1, None, None),
        ] {
            for (outcome, says) in [(may_train(&state, AssetId(datanet)), train), (may_serve(&state, &[at(OPEN), at(datanet)]), serve)] {
                let said = outcome.err().map(|error| error.to_string());
                assert_eq!(said.is_some(), says.is_some(), "Datanet {datanet}: {said:?}");
                assert!(said.unwrap_or_default().starts_with(says.unwrap_or_default()), "Datanet {datanet}");
            }
        }
    }

    #[test]
    fn what_is_made_of_share_alike_datanets_is_passed_on_as_they_ask() {
        let state = state();
        let check = |made_of: &[u64], parents: &[u64], given: Given<'_>| {
            let versions = |ids: &[u64]| ids.iter().map(|id| at(*id)).collect::<Vec<_>>();
            passed_on_alike(&state, &versions(made_of), &versions(parents), given).map_err(|error| error.to_string())
        };
        let say = Given::Expression;
        // (Datanets, parents, licence, what is said)
        for (made_of, parents, given, says) in [
            (&[OPEN, CARDLESS][..], &[1][..], say("Apache-2.0"), ""),
            (&[ALIKE], &[1], say("CC-BY-SA-4.0"), ""),
            (&[ALIKE], &[1], say("CC-BY-SA-4.0 AND MIT"), ""),
            (&[ALIKE], &[1], Given::Hash(licence_hash("CC-BY-SA-4.0")), ""),
            (&[CHOICE], &[1], say("ISC"), ""),
            (&[CHOICE, ALIKE], &[1], say("CC-BY-SA-4.0 AND ISC"), ""),
            (
                &[ALIKE],
                &[1],
                say("Apache-2.0"),
                "Datanet 3 (alike) is share-alike: what is made of it is passed on under CC-BY-SA-4.0, and who takes Apache-2.0 may keep to Apache-2.0 alone",
            ),
            (&[ALIKE], &[1], say("Apache-2.0"), "publish it with --licence \"CC-BY-SA-4.0\""),
            (&[ALIKE], &[1], say("MIT OR CC-BY-SA-4.0"), "may keep to MIT alone"),
            (&[ALIKE], &[1], Given::Hash(licence_hash("Apache-2.0")), "the chain keeps only the hash"),
            (&[ALIKE, CHOICE], &[], say("CC-BY-SA-4.0"), "publish it with --licence \"CC-BY-SA-4.0 AND (MIT OR ISC)\""),
            (&[], &[1, ADAPTER], say("Apache-2.0"), "Datanet 3 (alike) is share-alike"),
            (&[OPEN], &[ADAPTER], say("CC-BY-SA-4.0"), ""),
            (&[OPEN], &[1], say("free"), "is no SPDX licence expression"),
        ] {
            let outcome = check(made_of, parents, given);
            match says {
                "" => assert_eq!(outcome, Ok(()), "{made_of:?} {parents:?} {given:?}"),
                says => assert!(outcome.as_ref().is_err_and(|error| error.contains(says)), "{made_of:?} {given:?}: {outcome:?}"),
            }
        }
        let fix = "CC-BY-SA-4.0 AND (MIT OR ISC)";
        assert_eq!(check(&[ALIKE, CHOICE], &[], say(fix)), Ok(()), "the fix that is named is one");
    }
}
