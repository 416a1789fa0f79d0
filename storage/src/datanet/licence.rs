//! Whether rows under one licence may enter a Datanet under another.
//!
//! A licence is what it asks of whoever passes the rows on. Rows may enter if the Datanet's licence asks for all of it, so that nobody who keeps to
//! the Datanet's terms breaks the rows'; share-alike also asks for itself, or for one of the few licences that its text names instead. `A OR B`
//! given with rows is a choice: one side that fits is enough. A Datanet under `A OR B` passes that choice on, so the rows must fit both;
//! under `A AND B` one is enough. Identifiers outside this table, and `LicenseRef-`s, fit only themselves.
//!
//! This compares conditions by a table; it is no legal advice, and what it refuses a Datanet's owner may still take under another card.

use spdx::{LicenseReq, Licensee};

use super::Licence;

/// What a licence asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Asks {
    /// Nothing.
    Nothing,
    /// To be named.
    Attribution,
    /// To be named, and the same licence for what is made of it.
    ShareAlike,
}

/// A row of the table.
#[derive(Debug, Clone, Copy)]
struct Terms {
    asks: Asks,
    no_profit: bool,
    no_changes: bool,
}

/// Licences without conditions.
const FREE: [&str; 7] = ["CC0-1.0", "Unlicense", "0BSD", "PDDL-1.0", "MIT-0", "CC-PDDC", "WTFPL"];
/// Those that ask to be named.
const NAMED: [&str; 31] = [
    "MIT",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "BSL-1.0",
    "PostgreSQL",
    "PSF-2.0",
    "Python-2.0",
    "Python-2.0.1",
    "CC-BY-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "ODC-By-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "NCSA",
    "X11",
    "OGL-UK-3.0",
    "etalab-2.0",
    "DL-DE-BY-2.0",
    "Artistic-2.0",
    "BSD-4-Clause",
    "W3C",
    "NIST-PD-fallback",
    "MIT-CMU",
];
/// Those that ask for themselves.
const ALIKE: [&str; 32] = [
    "CC-BY-SA-1.0",
    "CC-BY-SA-2.0",
    "CC-BY-SA-2.5",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "ODbL-1.0",
    "CDLA-Sharing-1.0",
    "GPL-1.0-only",
    "GPL-1.0-or-later",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "LGPL-2.0-only",
    "LGPL-2.0-or-later",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "MPL-2.0",
    "EPL-2.0",
    "EUPL-1.2",
    "GFDL-1.1-only",
    "GFDL-1.1-or-later",
    "GFDL-1.2-only",
    "GFDL-1.2-or-later",
    "GFDL-1.3-only",
    "GFDL-1.3-or-later",
    "OSL-3.0",
    "LAL-1.3",
];
/// Share-alike licences and those that their text, or their steward, lets stand in their place.
const INSTEAD: [(&str, &[&str]); 15] = [
    ("CC-BY-SA-2.0", &["CC-BY-SA-2.5", "CC-BY-SA-3.0", "CC-BY-SA-4.0"]),
    ("CC-BY-SA-2.5", &["CC-BY-SA-3.0", "CC-BY-SA-4.0"]),
    ("CC-BY-SA-3.0", &["CC-BY-SA-4.0"]),
    ("CC-BY-SA-4.0", &["LAL-1.3", "GPL-3.0-only"]),
    ("GPL-1.0-or-later", &["GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "AGPL-3.0-only", "AGPL-3.0-or-later"]),
    ("GPL-2.0-only", &[]),
    ("GPL-2.0-or-later", &["GPL-2.0-only", "GPL-3.0-only", "GPL-3.0-or-later", "AGPL-3.0-only", "AGPL-3.0-or-later"]),
    ("GPL-3.0-only", &["AGPL-3.0-only"]),
    ("GPL-3.0-or-later", &["GPL-3.0-only", "AGPL-3.0-only", "AGPL-3.0-or-later"]),
    ("LGPL-2.1-only", &["GPL-2.0-only", "GPL-2.0-or-later"]),
    (
        "LGPL-2.1-or-later",
        &["LGPL-2.1-only", "LGPL-3.0-only", "LGPL-3.0-or-later", "GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later"],
    ),
    ("LGPL-3.0-or-later", &["LGPL-3.0-only", "GPL-3.0-only", "GPL-3.0-or-later", "AGPL-3.0-only", "AGPL-3.0-or-later"]),
    ("MPL-2.0", &["LGPL-2.1-or-later", "GPL-2.0-or-later", "GPL-3.0-only", "GPL-3.0-or-later", "AGPL-3.0-only", "AGPL-3.0-or-later"]),
    ("GFDL-1.2-or-later", &["GFDL-1.2-only", "GFDL-1.3-only", "GFDL-1.3-or-later"]),
    ("AGPL-3.0-or-later", &["AGPL-3.0-only"]),
];

/// Why rows under `given` may not enter a Datanet under `taken`; nothing if they may.
pub(super) fn conflict(given: &Licence, taken: &Licence) -> Option<String> {
    if given == taken {
        return None;
    }
    let (rows, datanet) = (given.expression(), taken.expression());
    let mut reason = None;
    let fits = rows.evaluate(|from| {
        // Not "any of the Datanet's is refused", by De Morgan over its operators.
        !datanet.evaluate(|to| {
            let refused = refusal(from, to);
            let is_refused = refused.is_some();
            if reason.is_none() {
                reason = refused;
            }
            is_refused
        })
    });
    if fits { None } else { reason.or_else(|| Some("no side of one fits every side of the other".into())) }
}

/// Most different licences of an expression that is held against another one: every choice among them is looked at.
const CHOICES_MAX: usize = 12;

/// Why what is passed on under `given` is not passed on under `asked`, which the terms of what it is made of demand; nothing if it is.
///
/// It is if whoever keeps to `given`, whatever choice it leaves, keeps to one that `asked` leaves: the same expression, `A AND B` for `A`, `A` for `A OR B`,
/// and by `spdx` a later version for `A+`.
pub fn not_within(given: &Licence, asked: &Licence) -> Option<String> {
    if given == asked {
        return None;
    }
    let (given_to, asked_for) = (given.expression(), asked.expression());
    let mut own: Vec<&LicenseReq> = Vec::new();
    for found in given_to.requirements() {
        if !own.contains(&&found.req) {
            own.push(&found.req);
        }
    }
    if own.len() > CHOICES_MAX {
        return Some(format!("{given} names {} licences, at most {CHOICES_MAX} are held against {asked}", own.len()));
    }
    let taken = |choice: u32| own.iter().enumerate().filter(move |(place, _)| choice >> place & 1 == 1).map(|(_, req)| *req);
    let allows = |choice: u32| given_to.evaluate(|req| taken(choice).any(|own| own == req));
    let keeps = |choice: u32| asked_for.evaluate(|asked| taken(choice).any(|own| satisfies(own, asked)));
    let broken = (0..1_u32 << own.len()).find(|choice| allows(*choice) && !keeps(*choice))?;
    let names: Vec<String> = taken(broken).map(ToString::to_string).collect();
    Some(format!("who takes {given} may keep to {} alone, and {asked} is asked for", names.join(" and ")))
}

/// Whether one licence is another, or a later version of one that allows them.
fn satisfies(own: &LicenseReq, asked: &LicenseReq) -> bool {
    if own == asked || modern(&own.to_string()) == modern(&asked.to_string()) {
        return true;
    }
    // "This version or a later one" is no one version that could stand for another.
    let is_open = matches!(own.license, spdx::LicenseItem::Spdx { or_later: true, .. });
    !is_open && Licensee::new(own.license.clone(), own.addition.clone()).satisfies(asked)
}

/// Why one licence's rows do not fit another's Datanet.
fn refusal(from: &LicenseReq, to: &LicenseReq) -> Option<String> {
    let (from, to) = (modern(&from.to_string()), modern(&to.to_string()));
    if from == to {
        return None;
    }
    let (Some(asked), Some(offered)) = (terms(&from), terms(&to)) else {
        return Some(format!(
            "the terms of {} are not known here, and such a licence fits only itself",
            if terms(&from).is_none() { &from } else { &to }
        ));
    };
    if asked.no_changes {
        return Some(format!("{from} forbids to pass on changed texts, and a Datanet is used in parts"));
    }
    if asked.no_profit && !offered.no_profit {
        return Some(format!("{from} forbids commercial use, {to} does not"));
    }
    if offered.no_changes && asked.asks == Asks::ShareAlike {
        return Some(format!("{from} demands that changed texts may be passed on, {to} forbids it"));
    }
    match asked.asks {
        Asks::Nothing => None,
        Asks::Attribution if offered.asks >= Asks::Attribution => {
            let is_patent = from == "Apache-2.0" && matches!(to.as_str(), "GPL-2.0-only" | "GPL-1.0-only" | "LGPL-2.1-only");
            is_patent.then(|| format!("{from} has patent terms that {to} does not allow"))
        }
        Asks::Attribution => Some(format!("{from} asks to be named, {to} does not")),
        Asks::ShareAlike => {
            let named = INSTEAD.iter().find(|(id, _)| *id == from).map_or(&[][..], |(_, others)| others);
            (!named.contains(&to.as_str())).then(|| format!("{from} asks for the same licence, {to} is another"))
        }
    }
}

/// Deprecated GNU identifiers in their present form.
fn modern(id: &str) -> String {
    let is_gnu = ["GPL-", "LGPL-", "AGPL-", "GFDL-"].iter().any(|family| id.starts_with(family));
    match id.strip_suffix('+') {
        Some(base) if is_gnu => format!("{base}-or-later"),
        _ if is_gnu && id.ends_with(|last: char| last.is_ascii_digit()) => format!("{id}-only"),
        _ => id.to_owned(),
    }
}

fn terms(id: &str) -> Option<Terms> {
    let plain = |asks| Some(Terms { asks, no_profit: false, no_changes: false });
    match id {
        _ if FREE.contains(&id) => plain(Asks::Nothing),
        _ if NAMED.contains(&id) => plain(Asks::Attribution),
        _ if ALIKE.contains(&id) => plain(Asks::ShareAlike),
        _ => {
            let (no_profit, no_changes) = (id.starts_with("CC-BY-NC-"), id.starts_with("CC-BY-ND-") || id.starts_with("CC-BY-NC-ND-"));
            let asks = if id.starts_with("CC-BY-NC-SA-") { Asks::ShareAlike } else { Asks::Attribution };
            (no_profit || no_changes).then_some(Terms { asks, no_profit, no_changes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(given: &str, taken: &str) -> Option<String> {
        conflict(&on_record(given), &on_record(taken))
    }

    fn on_record(text: &str) -> Licence {
        text.to_owned().try_into().unwrap()
    }

    #[test]
    fn what_is_passed_on_alike_leaves_no_choice_but_those_that_were_asked_for() {
        for (given, asked) in [
            ("CC-BY-SA-4.0", "CC-BY-SA-4.0"),
            ("CC-BY-SA-4.0 AND MIT", "CC-BY-SA-4.0"),
            ("(CC-BY-SA-4.0)", "CC-BY-SA-4.0"),
            ("MIT", "MIT OR Apache-2.0"),
            ("Apache-2.0 or MIT", "MIT OR Apache-2.0"),
            ("GPL-2.0+", "GPL-2.0-or-later"),
            ("GPL-3.0", "GPL-3.0-only"),
            ("EPL-2.0", "EPL-1.0+"),
            ("(MIT AND ISC) OR (MIT AND Zlib)", "MIT"),
            ("LicenseRef-HPO AND MIT", "LicenseRef-HPO"),
            ("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0-only WITH Classpath-exception-2.0"),
        ] {
            assert_eq!(not_within(&on_record(given), &on_record(asked)), None, "{given} for {asked}");
        }
        for (given, asked, words) in [
            ("Apache-2.0", "CC-BY-SA-4.0", "keep to Apache-2.0 alone"),
            ("CC-BY-SA-4.0 OR MIT", "CC-BY-SA-4.0", "keep to MIT alone"),
            ("MIT", "MIT AND ISC", "MIT AND ISC is asked for"),
            ("EPL-1.0", "EPL-2.0+", "keep to EPL-1.0 alone"),
            ("EPL-1.0+", "EPL-1.0", "keep to EPL-1.0+ alone"),
            ("GPL-2.0-only", "GPL-2.0-only WITH Classpath-exception-2.0", "is asked for"),
            ("LicenseRef-HPO", "LicenseRef-Other", "LicenseRef-Other is asked for"),
        ] {
            let found = not_within(&on_record(given), &on_record(asked)).unwrap_or_default();
            assert!(found.contains(words), "{given} for {asked}: {found}");
        }
        let many: Vec<String> = (0..=CHOICES_MAX).map(|number| format!("LicenseRef-{number}")).collect();
        let found = not_within(&on_record(&many.join(" OR ")), &on_record("MIT")).unwrap_or_default();
        assert!(found.contains("names 13 licences, at most 12"), "{found}");
    }

    #[test]
    fn rows_enter_where_their_conditions_are_kept() {
        for (given, taken) in [
            ("CC0-1.0", "CC-BY-4.0"),
            ("MIT", "CC-BY-4.0"),
            ("CC-BY-4.0", "CC-BY-SA-4.0"),
            ("CC-BY-SA-3.0", "CC-BY-SA-4.0"),
            ("CC-BY-4.0", "CC-BY-NC-4.0"),
            ("GPL-2.0+", "GPL-3.0-only"),
            ("Apache-2.0", "GPL-3.0-only"),
            ("CC-BY-NC-4.0 OR CC-BY-4.0", "CC-BY-4.0"),
            ("CC0-1.0 AND MIT", "CC-BY-4.0"),
            ("CC-BY-SA-4.0", "CC-BY-4.0 AND CC-BY-SA-4.0"),
            ("CC0-1.0", "MIT OR Apache-2.0"),
            ("LicenseRef-HPO", "LicenseRef-HPO"),
            ("CC-BY-9.0", "CC-BY-9.0"),
        ] {
            assert_eq!(reason(given, taken), None, "{given} into {taken}");
        }
    }

    #[test]
    fn a_conflict_names_the_condition_that_would_be_lost() {
        for (given, taken, words) in [
            ("CC-BY-4.0", "CC0-1.0", "CC-BY-4.0 asks to be named, CC0-1.0 does not"),
            ("CC-BY-NC-4.0", "CC-BY-4.0", "forbids commercial use"),
            ("CC-BY-ND-4.0", "CC-BY-4.0", "forbids to pass on changed texts"),
            ("CC-BY-NC-ND-4.0", "CC-BY-NC-4.0", "forbids to pass on changed texts"),
            ("CC-BY-SA-4.0", "CC-BY-4.0", "asks for the same licence"),
            ("CC-BY-SA-4.0", "CC-BY-SA-3.0", "asks for the same licence"),
            ("CC-BY-NC-SA-4.0", "CC-BY-NC-4.0", "asks for the same licence"),
            ("CC-BY-SA-4.0", "CC-BY-ND-4.0", "may be passed on"),
            ("Apache-2.0", "GPL-2.0-only", "patent"),
            ("GPL-2.0-only", "GPL-3.0-only", "asks for the same licence"),
            ("MIT AND CC-BY-NC-4.0", "MIT", "forbids commercial use"),
            ("CC-BY-SA-4.0", "CC-BY-SA-4.0 OR MIT", "asks for the same licence"),
            ("LicenseRef-HPO", "MIT", "fits only itself"),
            ("CC-BY-9.0", "MIT", "CC-BY-9.0 are not known here"),
            ("MIT", "BUSL-1.1", "the terms of BUSL-1.1 are not known here"),
        ] {
            let found = reason(given, taken).unwrap_or_default();
            assert!(found.contains(words), "{given} into {taken}: {found}");
        }
    }

    #[test]
    fn every_identifier_of_the_table_is_on_spdxs_list() {
        let named = INSTEAD.iter().flat_map(|(id, others)| std::iter::once(id).chain(*others));
        for id in FREE.iter().chain(&NAMED).chain(&ALIKE).chain(named) {
            assert!(spdx::license_id(id).is_some(), "{id}");
            assert!(terms(id).is_some(), "{id}");
        }
        assert!(INSTEAD.iter().all(|(id, _)| ALIKE.contains(id)));
    }
}
