//! `tributary audit rounds`: what this data folder's node was drawn to check, and what came of it.

use attribution::check::Outcome;
use serde::Serialize;
use types::{
    id::{Address, Hash32},
    receipt::Finding,
};

use crate::{
    command::Context,
    output::{counted, table},
    service::checking::kept::{Kept, Row, epochs},
    words,
};

/// A round in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(in crate::command) struct Round {
    pub(in crate::command) epoch: u64,
    checker: Address,
    /// What receipts were drawn by; nothing until it is known.
    beacon: Option<Hash32>,
    /// Roots whose receipts came, and those whose did not.
    roots: usize,
    unreachable: usize,
    receipts: u64,
    /// Receipts drawn for anybody, and such as too few operators could be drawn for.
    drawn: u64,
    unchecked: u64,
    /// Receipts that this node was drawn for.
    pub(in crate::command) own: usize,
    pub(in crate::command) agreed: usize,
    /// Looked at, and something differs.
    pub(in crate::command) found: usize,
    pub(in crate::command) withheld: usize,
    unable: usize,
    /// Not looked at yet.
    open: usize,
    left_out: u64,
    committed: Option<Hash32>,
    revealed: Option<Hash32>,
    checks: Vec<Row>,
}

impl Round {
    fn of(kept: Kept) -> Self {
        let count = |is: &dyn Fn(&Outcome) -> bool| kept.checks.iter().filter_map(|row| row.outcome.as_ref()).filter(|of| is(of)).count();
        let sum = |of: &dyn Fn(&crate::service::checking::kept::Root) -> u64| kept.roots.iter().map(of).fold(0, u64::saturating_add);
        let agreed = count(&Outcome::agrees);
        let judged = count(&|outcome| matches!(outcome, Outcome::Judged { .. }));
        Self {
            epoch: kept.epoch,
            checker: kept.checker,
            beacon: Some(kept.beacon).filter(|beacon| *beacon != Hash32::ZERO),
            roots: kept.roots.iter().filter(|root| root.receipts.is_some()).count(),
            unreachable: kept.roots.iter().filter(|root| root.receipts.is_none()).count(),
            receipts: sum(&|root| root.receipts.unwrap_or(0)),
            drawn: sum(&|root| root.drawn),
            unchecked: sum(&|root| root.unchecked),
            own: kept.checks.len(),
            agreed,
            found: judged - agreed,
            withheld: count(&|outcome| *outcome == Outcome::Withheld),
            unable: count(&|outcome| *outcome == Outcome::Unable),
            open: kept.checks.iter().filter(|row| row.outcome.is_none()).count(),
            left_out: kept.left_out,
            committed: kept.committed,
            revealed: kept.revealed,
            checks: kept.checks,
        }
    }
}

/// The newest round that lies in the data folder; nothing if there is none.
pub(in crate::command) fn newest(context: &Context) -> anyhow::Result<Option<Round>> {
    Ok(Kept::newest(&context.data.checks())?.map(Round::of))
}

/// Prints the rounds, of one epoch or all.
pub(super) fn run(context: &Context, epoch: Option<u64>) -> anyhow::Result<()> {
    let folder = context.data.checks();
    let kept = match epoch {
        Some(epoch) => Kept::read(&folder, epoch)?.into_iter().collect(),
        None => Kept::all(&folder)?,
    };
    let found: Vec<Round> = kept.into_iter().map(Round::of).collect();
    let others = if found.is_empty() { epochs(&folder)? } else { Vec::new() };
    context.output.result(&found, || describe(&found, &others))
}

/// `others` are the epochs of rounds that are there, if none is to be described.
fn describe(rounds: &[Round], others: &[u64]) -> String {
    if let ([], [first, .., last] | [first @ last]) = (rounds, others) {
        return format!("no round of that epoch is kept here: {} are there, of epochs {first} to {last}", counted(others.len(), "round"));
    }
    if rounds.is_empty() {
        return "no round of checks is kept here; a node with stake takes part in them if its configuration says `checks.enabled = true`"
            .to_owned();
    }
    let state = |round: &Round| match (round.committed, round.revealed) {
        (_, Some(_)) => "shown",
        (Some(_), None) => "sealed",
        (None, None) => "open",
    };
    let row = |round: &Round| {
        let numbers = [round.receipts, round.drawn, round.unchecked].map(|number| number.to_string());
        let own = [round.own, round.agreed, round.found, round.withheld, round.unable].map(|number| number.to_string());
        [&[round.epoch.to_string()][..], &numbers, &own, &[state(round).to_owned()]].concat()
    };
    let head = ["epoch", "receipts", "drawn", "unchecked", "for this node", "agreed", "found", "withheld", "unable", "state"];
    let mut text = table(&head, &rounds.iter().map(row).collect::<Vec<_>>());
    for round in rounds {
        if round.unreachable > 0 {
            let nodes = counted(round.unreachable, "node");
            text.push_str(&format!("\n\nepoch {}: the receipts of {nodes} were not to be had", round.epoch));
        }
        for check in round.checks.iter().filter(|check| check.outcome.is_some_and(|outcome| !outcome.agrees())) {
            text.push_str(&format!(
                "\n\nepoch {}, receipt {} of node {} (place {}): {}",
                round.epoch,
                check.receipt,
                check.node,
                check.index,
                outcome(check)
            ));
            if let Some(note) = &check.note {
                text.push_str(&format!("\n  {}", words::line(note)));
            }
            for proved in &check.proved {
                text.push_str(&format!("\n  proved: {}", words::line(proved)));
            }
        }
    }
    text
}

fn outcome(check: &Row) -> String {
    match check.outcome {
        None => "not looked at yet".to_owned(),
        Some(Outcome::Withheld) => "withheld: its transcript was not to be had".to_owned(),
        Some(Outcome::Unable) => "not looked at".to_owned(),
        Some(Outcome::Judged { finding, position, .. }) => match finding {
            Finding::Agrees => "agrees".to_owned(),
            Finding::Token => format!("output token {position} is not what the model gives"),
            Finding::Activations => format!("the activations from output token {position} on are not near the model's"),
            Finding::Text => format!("the answer differs from its tokens at byte {position}"),
            Finding::Attribution => format!("spans, weights or masks differ (position {position})"),
            Finding::Split => "the fee or its parts differ".to_owned(),
            Finding::Signature => "a signature or what it binds does not stand".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::checking::kept::Root;

    #[test]
    fn a_round_says_what_was_drawn_checked_agreed_and_found() {
        let (node, receipt) = (Address([3; 20]), Hash32([4; 32]));
        let mut kept = Kept::new(7, Address([1; 20]), Hash32([2; 32]));
        kept.roots = vec![
            Root { node, receipts: Some(9), drawn: 4, unchecked: 0 },
            Root { node: Address([5; 20]), receipts: None, drawn: 0, unchecked: 0 },
        ];
        let judged = |finding, position| Some(Outcome::Judged { finding, position, trace: Hash32([6; 32]) });
        let row = |index, outcome| Row { node, index, receipt, outcome, note: None, proved: vec![] };
        let withheld = Row { note: Some("it \u{202e}refuses\nall".into()), ..row(2, Some(Outcome::Withheld)) };
        let false_one = Row { proved: vec!["F1: it is false".into()], ..row(1, judged(Finding::Attribution, 2)) };
        kept.checks = vec![row(0, judged(Finding::Agrees, 0)), false_one, withheld, row(3, None)];
        let round = Round::of(kept);
        assert_eq!((round.own, round.agreed, round.found, round.withheld, round.unable, round.open), (4, 1, 1, 1, 0, 1));
        assert_eq!((round.receipts, round.drawn, round.roots, round.unreachable), (9, 4, 1, 1));
        let told = describe(&[round], &[]);
        assert!(told.contains("spans, weights or masks differ (position 2)") && told.contains("proved: F1: it is false"), "{told}");
        assert!(told.contains("withheld") && told.contains("1 node were not") && !told.contains('\u{202e}'), "{told}");
        assert!(describe(&[], &[]).contains("checks.enabled"));
        assert!(describe(&[], &[3, 5, 9]).contains("3 rounds are there, of epochs 3 to 9"));
    }
}
