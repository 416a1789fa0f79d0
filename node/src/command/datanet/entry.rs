//! Which Datanet the rows of a described folder may enter.
//!
//! A name alone says nothing of who owns a Datanet or what becomes of its rows, and whoever likes takes any name. So rows go into one that is registered only if it is this
//! account's, or is named by its number, and only under the privacy, licence and policy that the folder says they have. A folder that states no policy (Croissant,
//! Hugging Face) is taken under the Datanet's.

use storage::datanet::{Card, GatePolicy, Licence};
use types::id::{Address, AssetId};

use crate::words;

/// A folder that describes itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Offered<'c> {
    pub(super) card: &'c Card,
    /// Whether the card's policy is the folder's word, and not a default.
    pub(super) is_policy_stated: bool,
}

/// A Datanet of the registry.
#[derive(Debug, Clone)]
pub(super) struct Registered {
    pub(super) id: AssetId,
    pub(super) owner: Address,
    pub(super) card: Card,
}

/// Why rows do not enter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EntryError {
    #[error("no Datanet has the number {0}: tributary datanet list shows those there are")]
    Unknown(AssetId),
    #[error(
        "Datanet {id} is called {name} already and belongs to {owner}, this account is {me}: --name NAME registers a Datanet of your own, --into {id} brings the rows into that one"
    )]
    Others { id: AssetId, name: String, owner: Address, me: Address },
    #[error("you own {count} Datanets called {name}: --into NUMBER says which")]
    Several { count: usize, name: String },
    #[error(
        "the folder is of a private Datanet and Datanet {0} is open: everybody would read its rows; --name NAME registers a private Datanet of your own"
    )]
    Private(AssetId),
    #[error(
        "the folder is of an open Datanet and Datanet {0} is private: --name NAME registers an open one, tributary datanet contribute {0} FILE brings single files into that one"
    )]
    Open(AssetId),
    #[error(
        "the folder is under {folder}, Datanet {id} under {datanet}: --name NAME registers a Datanet under the folder's licence; if you may give the rows under {datanet}, say so with --licence {datanet:?}"
    )]
    Licence { id: AssetId, folder: String, datanet: String },
    #[error(
        "the folder has another policy than Datanet {id} ({differences}): --name NAME registers a Datanet with the folder's, tributary datanet contribute {id} FILE brings single files under that one's"
    )]
    Policy { id: AssetId, differences: String },
}

/// The Datanet that the rows enter; none: one is to be registered for them.
///
/// # Errors
/// [`EntryError`].
pub(super) fn target(
    offered: Offered<'_>,
    registered: &[Registered],
    me: Address,
    into: Option<AssetId>,
) -> Result<Option<AssetId>, EntryError> {
    let known = match into {
        Some(id) => registered.iter().find(|known| known.id == id).ok_or(EntryError::Unknown(id))?,
        None => match named(offered.card, registered, me)? {
            Some(known) => known,
            None => return Ok(None),
        },
    };
    is_alike(offered, known)?;
    Ok(Some(known.id))
}

/// This account's Datanet of the card's name.
fn named<'r>(card: &Card, registered: &'r [Registered], me: Address) -> Result<Option<&'r Registered>, EntryError> {
    let name = || card.name().to_string();
    let (mine, others): (Vec<_>, Vec<_>) =
        registered.iter().filter(|known| known.card.name() == card.name()).partition(|known| known.owner == me);
    match (&mine[..], others.first()) {
        ([known], _) => Ok(Some(*known)),
        ([], None) => Ok(None),
        ([], Some(known)) => Err(EntryError::Others { id: known.id, name: name(), owner: known.owner, me }),
        (several, _) => Err(EntryError::Several { count: several.len(), name: name() }),
    }
}

fn is_alike(Offered { card, is_policy_stated }: Offered<'_>, known: &Registered) -> Result<(), EntryError> {
    let id = known.id;
    match (card.is_private(), known.card.is_private()) {
        (true, false) => return Err(EntryError::Private(id)),
        (false, true) => return Err(EntryError::Open(id)),
        _ => {}
    }
    let (folder, datanet) = (card.licence(), known.card.licence());
    if folder != datanet {
        // One on record may hold a line break.
        let said = |licence: &Licence| words::line(licence.as_str()).into_owned();
        return Err(EntryError::Licence { id, folder: said(folder), datanet: said(datanet) });
    }
    let differences = if is_policy_stated { differences(card.policy(), known.card.policy()) } else { Vec::new() };
    if differences.is_empty() { Ok(()) } else { Err(EntryError::Policy { id, differences: differences.join("; ") }) }
}

/// The parts in which two policies differ, as cards write them.
fn differences(folder: &GatePolicy, datanet: &GatePolicy) -> Vec<String> {
    let (folder, datanet) = (written(folder), written(datanet));
    let keys: std::collections::BTreeSet<&String> = folder.keys().chain(datanet.keys()).collect();
    let shown = |value: Option<&serde_json::Value>| value.map_or_else(|| "not set".to_owned(), ToString::to_string);
    let differs = keys.into_iter().filter(|key| folder.get(*key) != datanet.get(*key));
    differs.map(|key| format!("{key}: {} in the folder, {} there", shown(folder.get(key)), shown(datanet.get(key)))).collect()
}

fn written(policy: &GatePolicy) -> serde_json::Map<String, serde_json::Value> {
    match serde_json::to_value(policy) {
        Ok(serde_json::Value::Object(parts)) => parts,
        _ => unreachable!("a policy is a structure of plain data"),
    }
}

#[cfg(test)]
mod tests {
    use storage::datanet::Action;

    use super::*;

    const ME: Address = Address([1; 20]);
    const OTHER: Address = Address([2; 20]);

    fn card(name: &str, licence: &str) -> Card {
        Card::new(name.parse().unwrap(), String::new(), licence.parse().unwrap(), vec![], vec![]).unwrap()
    }

    fn registered(id: u64, owner: Address, card: Card) -> Registered {
        Registered { id: AssetId(id), owner, card }
    }

    fn asked(card: &Card, known: &[Registered], into: Option<u64>) -> Result<Option<AssetId>, EntryError> {
        target(Offered { card, is_policy_stated: true }, known, ME, into.map(AssetId))
    }

    #[test]
    fn a_name_leads_to_ones_own_datanet_and_a_number_to_any() {
        let folder = card("tides", "CC0-1.0");
        let (mine, theirs) = (registered(4, ME, folder.clone()), registered(5, OTHER, folder.clone()));
        assert_eq!(asked(&folder, &[], None), Ok(None));
        assert_eq!(asked(&folder, &[registered(6, OTHER, card("winds", "CC0-1.0"))], None), Ok(None));
        assert_eq!(asked(&folder, std::slice::from_ref(&mine), None), Ok(Some(AssetId(4))));
        assert_eq!(asked(&folder, &[theirs.clone(), mine.clone()], None), Ok(Some(AssetId(4))), "somebody took the name as well");
        let error = asked(&folder, std::slice::from_ref(&theirs), None).unwrap_err();
        assert_eq!(error, EntryError::Others { id: AssetId(5), name: "tides".into(), owner: OTHER, me: ME });
        let words = error.to_string();
        assert!(words.contains(&OTHER.to_string()) && words.contains("--into 5") && words.contains("--name"), "{words}");
        assert_eq!(asked(&folder, &[theirs, mine.clone()], Some(5)), Ok(Some(AssetId(5))));
        assert_eq!(asked(&folder, std::slice::from_ref(&mine), Some(9)), Err(EntryError::Unknown(AssetId(9))));
        let second = registered(7, ME, folder.clone());
        assert_eq!(asked(&folder, &[mine, second], None), Err(EntryError::Several { count: 2, name: "tides".into() }));
    }

    #[test]
    fn rows_keep_their_privacy_licence_and_policy_wherever_they_go() {
        let policy = |near_copies| GatePolicy { near_copies, ..GatePolicy::default() };
        let folder = card("wards", "LicenseRef-Clinic").with_policy(policy(Action::Block)).unwrap();
        let private = folder.clone().with_privacy(true);
        for (offered, there, words) in [
            (&private, folder.clone(), "everybody would read its rows"),
            (&private, card("wards", "CC0-1.0"), "everybody would read its rows"),
            (&folder, private.clone(), "is private"),
            (&folder, card("wards", "CC0-1.0"), "under LicenseRef-Clinic, Datanet 4 under CC0-1.0"),
            (&folder, card("wards", "LicenseRef-Clinic"), "near_copies: \"block\" in the folder, not set there"),
        ] {
            for (owner, into) in [(ME, None), (ME, Some(4)), (OTHER, Some(4))] {
                let error = asked(offered, &[registered(4, owner, there.clone())], into).unwrap_err().to_string();
                assert!(error.contains(words) && error.contains("--name NAME"), "{error}");
            }
        }
        assert_eq!(asked(&private, &[registered(4, ME, private.clone())], None), Ok(Some(AssetId(4))));
        let broken =
            Card::new("wards".parse().unwrap(), String::new(), Licence::try_from("MIT\nOR ISC".to_owned()).unwrap(), vec![], vec![])
                .unwrap();
        let error = asked(&broken, &[registered(4, ME, folder.clone())], None).unwrap_err().to_string();
        assert!(error.contains(r"MIT\nOR ISC") && !error.contains('\n'), "{error}");
        // Who states no policy is taken under the Datanet's, and under no other licence or privacy.
        let stated =
            |card: &Card, there: &Card| target(Offered { card, is_policy_stated: false }, &[registered(4, ME, there.clone())], ME, None);
        assert_eq!(stated(&card("wards", "LicenseRef-Clinic"), &folder), Ok(Some(AssetId(4))));
        assert!(matches!(stated(&card("wards", "CC-BY-NC-4.0"), &folder), Err(EntryError::Licence { .. })));
        assert!(matches!(stated(&card("wards", "LicenseRef-Clinic"), &private), Err(EntryError::Open(_))));
    }
}
