//! `tributary stake release`: divides slashes whose wait is over. Anybody may; who was wronged and who proved the fault have the interest.

use anyhow::{Context as _, ensure};
use chain_bridge::registry::money::Slash;
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::{
    chain::Chained,
    command::{Context, sent::Transaction},
    output::{money, table},
    when::when,
};

/// Slashes divided by one run: a transaction of about 130,000 gas each.
const RELEASED_MAX: usize = 32;

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    slashes: Vec<Row>,
}

/// One slash and where it went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    fault: Hash32,
    account: Address,
    amount_wei: Amount,
    to_victim_wei: Amount,
    /// To the victim, out of the insurance pool.
    covered_wei: Amount,
    to_reporter_wei: Amount,
    burned_wei: Amount,
    insured_wei: Amount,
    transaction: Transaction,
}

/// Divides the slashes of `faults`, or, if none is named, all that are due and have the wallet's account as victim or reporter.
pub(super) async fn run(context: &Context, chain: &Chained, own: Address, faults: &[Hash32]) -> anyhow::Result<()> {
    let (state, now) = (chain.state().await?, chain.head().await?.timestamp);
    let mut slashes = Vec::new();
    for slash in due(state.slashes(), own, faults, now)? {
        context.output.note(&format!("dividing the slash of {} for fault {}", money(slash.amount), slash.fault));
        let (parts, sent) = chain.client.release_slash(slash, state.lane_body(slash.lane).as_ref()).await?;
        slashes.push(Row {
            fault: slash.fault,
            account: slash.account,
            amount_wei: slash.amount,
            to_victim_wei: parts.to_victim,
            covered_wei: parts.covered,
            to_reporter_wei: parts.to_reporter,
            burned_wei: parts.burned,
            insured_wei: parts.insured,
            transaction: Transaction::new("divide a slash", &sent),
        });
    }
    let printed = Printed { slashes };
    context.output.result(&printed, || describe(&printed.slashes))
}

/// The slashes to divide, oldest first.
fn due<'a>(all: &'a [Slash], own: Address, faults: &[Hash32], now: u64) -> anyhow::Result<Vec<&'a Slash>> {
    if faults.is_empty() {
        let of_own = || all.iter().filter(|slash| slash.released.is_none() && (slash.victim == own || slash.reporter == own));
        let due: Vec<_> = of_own().filter(|slash| slash.release_at <= now).take(RELEASED_MAX).collect();
        if due.is_empty() {
            let next = of_own().map(|slash| slash.release_at).min();
            let next = next.context("no slash that waits names this account as victim or reporter: name a fault to divide another's")?;
            anyhow::bail!("nothing can be divided yet: the first slash that concerns this account waits until {}", when(next, now));
        }
        return Ok(due);
    }
    ensure!(faults.len() <= RELEASED_MAX, "at most {RELEASED_MAX} faults at once, {} were named", faults.len());
    let find = |fault: &Hash32| {
        let slash = all.iter().find(|slash| slash.fault == *fault);
        let slash =
            slash.with_context(|| format!("nobody was slashed for fault {fault}: `tributary audit prove` prints a fault's hash"))?;
        ensure!(slash.released.is_none(), "the slash for fault {fault} was divided before");
        ensure!(slash.release_at <= now, "the slash for fault {fault} waits until {}", when(slash.release_at, now));
        Ok(slash)
    };
    faults.iter().map(find).collect()
}

fn describe(rows: &[Row]) -> String {
    let cells = |row: &Row| {
        vec![
            row.fault.to_string(),
            money(row.amount_wei),
            money(Amount(row.to_victim_wei.0.saturating_add(row.covered_wei.0))),
            money(row.to_reporter_wei),
            money(row.burned_wei),
            money(row.insured_wei),
        ]
    };
    let columns = ["fault", "slashed", "to the victim", "to the reporter", "burned", "to the insurance pool"];
    table(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Address = Address([1; 20]);
    const OTHER: Address = Address([2; 20]);

    fn slash(fault: u8, victim: Address, release_at: u64) -> Slash {
        Slash {
            block: 1,
            transaction: Hash32::ZERO,
            fault: Hash32([fault; 32]),
            account: Address([9; 20]),
            amount: Amount(100),
            victim,
            victim_amount: Amount(10),
            lane: Hash32::ZERO,
            reporter: OTHER,
            release_at,
            number: 1,
            released: None,
        }
    }

    #[test]
    fn without_a_name_what_is_due_and_concerns_the_account_is_divided() {
        let all = [slash(1, OWN, 50), slash(2, OWN, 51), slash(3, OTHER, 10)];
        let faults = |own, now| due(&all, own, &[], now).map(|due| due.iter().map(|slash| slash.fault.0[0]).collect::<Vec<_>>());
        assert_eq!(faults(OWN, 50).unwrap(), [1]);
        assert_eq!(faults(OTHER, 51).unwrap(), [1, 2, 3], "a reporter's too");
        assert!(faults(OWN, 40).unwrap_err().to_string().contains("(in 10 s)"));
        assert!(faults(Address([7; 20]), 99).unwrap_err().to_string().contains("name a fault"));
    }

    #[test]
    fn a_named_slash_is_divided_once_and_not_before_its_time() {
        let mut all = [slash(1, OWN, 50)];
        let named =
            |all: &[Slash], fault, now| due(all, OTHER, &[Hash32([fault; 32])], now).map(|due| due.len()).map_err(|e| e.to_string());
        assert_eq!(named(&all, 1, 50), Ok(1));
        assert!(named(&all, 1, 45).unwrap_err().contains("(in 5 s)"));
        assert!(named(&all, 2, 50).unwrap_err().contains("nobody was slashed"));
        all[0].released = Some(chain_bridge::registry::money::Division {
            to_victim: Amount(10),
            covered: Amount::ZERO,
            to_reporter: Amount(45),
            burned: Amount(45),
            insured: Amount::ZERO,
        });
        assert!(named(&all, 1, 50).unwrap_err().contains("divided before"));
    }
}
