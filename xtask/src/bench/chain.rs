//! Group `chain`: what settling costs in gas, how fast books of money are made, and how well the contracts that hold money are tested.
//!
//! Gas of single operations is read from the snapshot that forge writes in this run, gas per answer from epochs carried out on the compiled
//! contracts, times from a benchmark in release mode. Beside each gas figure stands the most that the L1 charges for its bytes.

use std::fs;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use super::Row;
use crate::shell::{cargo, execute, read, root};
use crate::{contracts, toolchain};

const COMMAND: &str = "cargo xtask bench chain";
const SNAPSHOT: &str = "chain-bridge/contracts/snapshots/gas.json";

/// Every figure of the group with what it is to reach.
const FIGURES: [(&str, Reach); 14] = [
    ("chain.gas_per_answer_1k", Reach::Most(4_500.0)),
    ("chain.gas_per_answer_100k", Reach::Most(1_600.0)),
    ("chain.gas_per_answer_1m", Reach::Most(200.0)),
    ("chain.gas_voucher32", Reach::Most(36_000.0)),
    ("chain.gas_voucher32_first", Reach::Most(80_000.0)),
    ("chain.gas_epoch_post", Reach::Most(60_000.0)),
    ("chain.gas_claim64", Reach::Most(45_000.0)),
    ("chain.gas_f1", Reach::Most(180_000.0)),
    ("chain.receipts_per_s", Reach::Least(5_000.0)),
    ("chain.epoch_1m_s", Reach::Most(30.0)),
    ("chain.rounding_loss", Reach::Most(0.0)),
    ("chain.coverage_lines", Reach::Least(95.0)),
    ("chain.coverage_branches", Reach::Least(90.0)),
    ("chain.contracts_gate_s", Reach::Most(240.0)),
];

/// What a figure is held against.
#[derive(Debug, Clone, Copy)]
enum Reach {
    Most(f64),
    Least(f64),
}

/// Figure, entry of the snapshot, how many it is for, whose bytes.
const SNAPSHOTS: [(&str, &str, u32, &str); 7] = [
    ("chain.gas_voucher32", "collect 32 vouchers, next", 32, "voucher32"),
    ("chain.gas_voucher32_first", "collect 32 vouchers, first", 32, "voucher32_first"),
    ("chain.gas_epoch_post", "post payout, with bond", 1, "epoch_post"),
    ("chain.gas_epoch_post_by_role", "post payout", 1, "epoch_post"),
    ("chain.gas_claim64", "64 relayed claims at depth 12, next", 64, "claim64"),
    ("chain.gas_claim64_first", "64 relayed claims at depth 12, first", 64, "claim64"),
    ("chain.gas_f1", "F1 at depth 20, full leaves", 1, "f1"),
];

/// Contracts that hold money.
const CUSTODY: [&str; 9] = [
    "AuditCase",
    "AuditRent",
    "DatanetRent",
    "InferenceEscrow",
    "InsurancePool",
    "ReceiptChallenge",
    "RewardsVault",
    "Settlement",
    "StakeManager",
];

/// L1 prices by which data fees are stated, in gwei, and the scalars of OP Mainnet after Ecotone.
const L1_BASE_FEE_GWEI: f64 = 10.0;
const L1_BLOB_BASE_FEE_GWEI: f64 = 1.0;
const BASE_FEE_SCALAR: f64 = 5_227.0;
const BLOB_BASE_FEE_SCALAR: f64 = 1_014_213.0;

/// What the programs print; `bytes` where it is about transactions, for one unit of the figure.
#[derive(Debug, Deserialize)]
struct Printed {
    figure: String,
    ours: f64,
    unit: String,
    n: usize,
    bytes: Option<f64>,
    note: String,
}

/// Measures the group; what could not be measured is said in `missing`.
///
/// # Errors
/// If what is needed cannot be installed or built.
pub(super) fn measure(missing: &mut Vec<String>) -> Result<Vec<Row>> {
    toolchain::check()?;
    contracts::install()?;
    let mut rows = Vec::new();
    let sizes = match epochs() {
        Ok((found, sizes)) => {
            rows.extend(found);
            sizes
        }
        Err(error) => {
            missing.push(format!("gas per answer: {error:#}"));
            Vec::new()
        }
    };
    for (what, found) in [("contracts", contracts_gate(&sizes)), ("receipts and epochs", printed(&mut release())), ("coverage", coverage())]
    {
        match found {
            Ok(found) => rows.extend(found),
            Err(error) => missing.push(format!("{what}: {error:#}")),
        }
    }
    for (figure, reach) in FIGURES {
        let Some(row) = rows.iter_mut().find(|row| row.figure == figure) else {
            missing.push(format!("{figure} was not measured"));
            continue;
        };
        match reach {
            Reach::Most(limit) => row.limit = Some(limit),
            Reach::Least(limit) => (row.limit, row.is_least) = (Some(limit), true),
        }
    }
    let place = |row: &Row| FIGURES.iter().position(|(figure, _)| *figure == row.figure).unwrap_or(FIGURES.len());
    rows.sort_by_key(place);
    Ok(rows)
}

/// Bytes of single operations by name.
type Sizes = Vec<(String, f64)>;

/// Gas per answer, and the bytes of single operations.
fn epochs() -> Result<(Vec<Row>, Sizes)> {
    // With the features of the whole workspace, as the gate builds it.
    let all = lines(&read(cargo().args(["test", "--workspace", "--test", "evm", "gas", "--", "--nocapture"]))?)?;
    let (sizes, rows): (Vec<_>, Vec<_>) = all.into_iter().partition(|printed| printed.figure.starts_with("bytes."));
    let sizes = sizes.into_iter().map(|size| (size.figure.trim_start_matches("bytes.").to_owned(), size.ours)).collect();
    Ok((rows.into_iter().map(row).collect(), sizes))
}

/// The benchmark of receipts and epochs, as it is shipped: in release mode, with the features of the whole workspace (signatures take tables
/// that a library alone would leave out).
fn release() -> std::process::Command {
    let mut cargo = cargo();
    cargo.args(["bench", "--workspace", "--bench", "epoch"]);
    cargo
}

fn printed(command: &mut std::process::Command) -> Result<Vec<Row>> {
    Ok(lines(&read(command)?)?.into_iter().map(row).collect())
}

/// The JSON rows among what a program printed.
fn lines(text: &str) -> Result<Vec<Printed>> {
    let rows = text.lines().filter(|line| line.starts_with('{'));
    let rows: Vec<Printed> =
        rows.map(|line| serde_json::from_str(line).with_context(|| format!("it printed {line:?}"))).collect::<Result<_>>()?;
    ensure!(!rows.is_empty(), "it printed no rows");
    Ok(rows)
}

fn row(printed: Printed) -> Row {
    let mut row = Row::measured(&printed.figure, &printed.unit, printed.ours, printed.n, COMMAND);
    row.note = Some(match printed.bytes {
        Some(bytes) => format!("{}; {}", printed.note, l1_note(bytes, false)),
        None => printed.note,
    });
    row
}

/// The contracts' part of the gate, timed, and the gas snapshot that it writes.
fn contracts_gate(sizes: &[(String, f64)]) -> Result<Vec<Row>> {
    let path = root().join(SNAPSHOT);
    let committed = fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    // What is read below is then of this run.
    fs::remove_file(&path)?;
    let start = Instant::now();
    let ran = execute(&mut contracts::node(&["tools/forge.mjs", "build"]))
        .and_then(|()| execute(&mut contracts::node(&["tools/artifacts.mjs", "--check"])))
        .and_then(|()| execute(&mut contracts::node(&["tools/forge.mjs", "test"])))
        .and_then(|()| execute(&mut contracts::analysis("tools/slither.mjs")?))
        .and_then(|()| execute(&mut contracts::analysis("tools/halmos.mjs")?));
    let seconds = start.elapsed().as_secs_f64();
    let written = fs::read(&path);
    if ran.is_err() || written.is_err() {
        fs::write(&path, &committed)?;
    }
    ran?;
    let snapshot: Value = serde_json::from_slice(&written?).context("the gas snapshot is not JSON")?;
    let mut rows = Vec::new();
    for (figure, entry, count, size) in SNAPSHOTS {
        let gas = snapshot[entry].as_str().with_context(|| format!("forge wrote no gas of {entry:?}"))?;
        let mut row = Row::measured(figure, "gas", gas.parse::<f64>()? / f64::from(count), 1, COMMAND);
        let bytes =
            sizes.iter().find(|(name, _)| name == size).map_or_else(String::new, |(_, bytes)| format!("; {}", l1_note(*bytes, count == 1)));
        row.note = Some(format!("forge: {entry}{bytes}"));
        rows.push(row);
    }
    let mut row = Row::measured("chain.contracts_gate_s", "s", seconds, 1, COMMAND);
    row.note = Some("forge build, artifacts compared, every forge test, slither, halmos".to_owned());
    rows.push(row);
    Ok(rows)
}

/// What the L1 charges for data, by Fjord's formula. Without compression, which is the most; the least charge is for a whole transaction, so of
/// one part of a batch only the slope counts.
fn l1_fee_wei(bytes: f64, is_whole: bool) -> f64 {
    let gwei = 16.0 * BASE_FEE_SCALAR * L1_BASE_FEE_GWEI + BLOB_BASE_FEE_SCALAR * L1_BLOB_BASE_FEE_GWEI;
    let size = if is_whole { (836_500.0 * bytes - 42_585_600.0).max(100e6) } else { 836_500.0 * bytes };
    size * gwei * 1e9 / 1e12
}

fn l1_note(bytes: f64, is_whole: bool) -> String {
    format!(
        "{bytes:.0} bytes: L1 data fee at most {:.3e} wei (L1 base fee {L1_BASE_FEE_GWEI} gwei, blob base fee {L1_BLOB_BASE_FEE_GWEI} gwei)",
        l1_fee_wei(bytes, is_whole)
    )
}

/// Lines and branches of the contracts that hold money, all together; each contract's own stand in the notes.
fn coverage() -> Result<Vec<Row>> {
    let text = read(contracts::npm().args(["run", "--silent", "coverage"]))?;
    let found = custody(&text);
    let absent: Vec<_> = CUSTODY.iter().filter(|name| !found.iter().any(|row| row.0 == **name)).collect();
    ensure!(absent.is_empty(), "no coverage of {absent:?}");
    let figure = |figure: &str, of: fn(&Covered) -> (u32, u32)| {
        let (hit, all) = found.iter().map(of).fold((0, 0), |sum, row| (sum.0 + row.0, sum.1 + row.1));
        let each: Vec<String> = found.iter().map(|row| format!("{} {}/{}", row.0, of(row).0, of(row).1)).collect();
        let mut row = Row::measured(figure, "%", 100.0 * f64::from(hit) / f64::from(all.max(1)), 1, COMMAND);
        row.note = Some(each.join(", "));
        row
    };
    Ok(vec![figure("chain.coverage_lines", |row| row.1), figure("chain.coverage_branches", |row| row.2)])
}

/// A contract, its lines and its branches: hit, of all.
type Covered = (String, (u32, u32), (u32, u32));

/// The rows of forge's table that are of custody contracts: `| src/Name.sol | 98.00% (49/50) | statements | branches | functions |`.
fn custody(text: &str) -> Vec<Covered> {
    let counts = |cell: &str| -> Option<(u32, u32)> {
        let (_, inside) = cell.split_once('(')?;
        let (hit, all) = inside.split_once(')')?.0.split_once('/')?;
        Some((hit.trim().parse().ok()?, all.trim().parse().ok()?))
    };
    let row = |line: &str| -> Option<Covered> {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let name = cells.get(1)?.strip_prefix("src/")?.strip_suffix(".sol")?;
        CUSTODY.contains(&name).then_some(())?;
        Some((name.to_owned(), counts(cells.get(2)?)?, counts(cells.get(4)?)?))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coverage_is_read_of_the_contracts_that_hold_money_alone() {
        let text = "| File | % Lines | % Statements | % Branches | % Funcs |\n\
            | src/Settlement.sol | 99.00% (198/200) | 98.00% (98/100) | 90.00% (18/20) | 100.00% (9/9) |\n\
            | src/Codec.sol | 50.00% (1/2) | 50.00% (1/2) | 0.00% (0/1) | 0.00% (0/1) |\n\
            | Total | 1% (1/1) | 1% (1/1) | 1% (1/1) | 1% (1/1) |";
        assert_eq!(custody(text), [("Settlement".to_owned(), (198, 200), (18, 20))]);
    }

    #[test]
    fn the_l1_fee_of_the_smallest_transaction_is_that_of_the_chain() {
        // Paid on a chain with these prices: 185,053,300,000 wei.
        assert!((l1_fee_wei(110.0, true) - 185_053_300_000.0).abs() < 1.0);
        assert!(l1_fee_wei(1_000.0, true) > l1_fee_wei(110.0, true));
    }

    #[test]
    fn rows_are_found_among_other_output_and_nonsense_is_refused() {
        let text =
            "running 1 test\n{\"figure\":\"chain.a\",\"ours\":1.5,\"unit\":\"gas\",\"n\":3,\"bytes\":9,\"note\":\"x\"}\ntest result: ok";
        let found = lines(text).unwrap();
        assert_eq!((found.len(), found[0].bytes), (1, Some(9.0)));
        assert!(row(lines(text).unwrap().remove(0)).note.unwrap().contains("L1 data fee"));
        assert!(lines("nothing").is_err() && lines("{}").is_err());
    }
}
