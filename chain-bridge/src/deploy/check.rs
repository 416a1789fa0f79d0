//! Values with which a suite cannot work, refused in words before anything is sent: those that a constructor refuses, and those that it takes and with
//! which epochs, one after another without end, would stall.
//!
//! Epochs open `epoch_min_s` apart, and never while roots of the one before are taken, which is a third of W1. Payouts are posted in order, each on a
//! final one: so one takes W2, and `fallback_s` more where no bonded poster is there. If that is longer than the spacing, each payout is later
//! than the one before. By the standard values: 28,800 s apart, 21,600 + 3,600 s for a payout.

use types::{amount::Amount, id::Address, split::SPLIT_TOTAL};

use super::DeployConfig;
use crate::chain::{Heads, error::ChainError};

/// As `FaultBase` has it: blocks of no chain that the suite stands on are further apart.
const BLOCK_SECONDS_MAX: u64 = 12;
/// Questions that find a wrong line of a payout tree that nobody shows: one for each level of 2^20 accounts and of the 2^16 parts of one of them. As
/// `ReceiptChallenge` has it, which refuses what they do not fit.
const QUESTIONS: u64 = 36;
/// Longest time of any kind: 136 years. Contracts add them to the chain's time in 64 bits.
const SECONDS_MAX: u64 = 1 << 32;
/// Most blocks of any kind: 136 years of blocks a second apart.
const BLOCKS_MAX: u64 = 1 << 32;

fn refuse<T>(why: String) -> Result<T, ChainError> {
    Err(ChainError::Argument(format!("{why}; nothing was sent")))
}

/// What the constructors would refuse, or overflow on later.
pub(super) fn constructors(c: &DeployConfig) -> Result<(), ChainError> {
    let times = [
        ("w1_s", c.w1_s, 3, "roots are taken in its first third"),
        ("w2_s", c.w2_s, 1, "that window would be over when it opens"),
        ("slash_delay_s", c.slash_delay_s, 1, "that window would be over when it opens"),
        ("thaw_s", c.thaw_s, 1, "that window would be over when it opens"),
        ("honour_s", c.honour_s, 1, "that window would be over when it opens"),
        ("answer_s", c.answer_s, 1, "nobody could answer a challenge"),
        ("payout_answer_s", c.payout_answer_s, 1, "no poster could answer a challenge"),
        ("case_answer_s", c.case_answer_s, 1, "no node could answer a slash case"),
        ("block_s", c.block_s, 1, "blocks of no chain are as close"),
        ("epoch_min_s", c.epoch_min_s, 0, ""),
        ("fallback_s", c.fallback_s, 0, ""),
        ("unbonding_s", c.unbonding_s, 0, ""),
        ("index_window_s", c.index_window_s, 0, ""),
        ("rent_delay_s", c.rent_delay_s, 0, ""),
        ("treasury_delay_s", c.treasury_delay_s, 0, ""),
    ];
    for (name, seconds, least, why) in times {
        if seconds < least {
            return refuse(format!("{name} is {seconds}, below {least}: {why}; give it {least} s at least"));
        }
        if seconds > SECONDS_MAX {
            return refuse(format!(
                "{name} is {seconds}, above {SECONDS_MAX}: no sum of it with the chain's time may overflow; give it fewer seconds"
            ));
        }
    }
    for (name, blocks) in [("grace_blocks", c.grace_blocks), ("max_age_blocks", c.max_age_blocks), ("case_age_blocks", c.case_age_blocks)] {
        if blocks > BLOCKS_MAX {
            return refuse(format!("{name} is {blocks}, above {BLOCKS_MAX}: give it fewer blocks"));
        }
    }
    if c.unbonding_s <= c.w1_s + c.w2_s {
        return refuse(format!(
            "stake must unbond for longer than both windows: unbonding_s is {}, w1_s + w2_s are {}; raise unbonding_s",
            c.unbonding_s,
            c.w1_s + c.w2_s
        ));
    }
    if c.honour_s < c.unbonding_s {
        return refuse(format!(
            "honour_s is {}, unbonding_s {}: a credit note must not take stake out sooner than unbonding does; raise honour_s",
            c.honour_s, c.unbonding_s
        ));
    }
    if c.case_age_blocks == 0 || c.case_bond == Amount::ZERO {
        return refuse(format!(
            "case_age_blocks is {}, case_bond {}: neither may be zero, or nobody could open a slash case, or would pay nothing for the answer",
            c.case_age_blocks,
            c.case_bond.in_open()
        ));
    }
    let case = c.case_age_blocks.saturating_mul(c.block_s).saturating_add(c.case_answer_s);
    if case >= c.unbonding_s {
        return refuse(format!(
            "stake must unbond for longer than a slash case can take: case_answer_s and case_age_blocks, {} s a block, are {case} s, unbonding_s is {}; lower \
             case_age_blocks or raise unbonding_s",
            c.block_s, c.unbonding_s
        ));
    }
    if c.poster_bond == Amount::ZERO || c.poster_bond.0 >> 96 != 0 {
        return refuse(format!("poster_bond is {}, expected more than nothing and less than 2^96 wei", c.poster_bond.in_open()));
    }
    if c.rent_price.0 >> 96 != 0 {
        return refuse(format!("rent_price is {}, expected below 2^96 wei", c.rent_price.in_open()));
    }
    if c.governor == Address::ZERO || c.protocol == Address::ZERO {
        return refuse(format!("governor is {}, protocol {}: neither may be the zero address", c.governor, c.protocol));
    }
    if u32::from(c.min_data_bps) > u32::from(SPLIT_TOTAL) {
        return refuse(format!("min_data_bps is {}, expected at most {SPLIT_TOTAL}", c.min_data_bps));
    }
    let epoch = c.epoch_min_s + c.w1_s / 3;
    if c.max_age_blocks * BLOCK_SECONDS_MAX <= epoch {
        return refuse(format!(
            "max_age_blocks is {}: an epoch with its time for node roots (epoch_min_s + w1_s / 3) takes {epoch} s, which no chain of blocks at most \
             {BLOCK_SECONDS_MAX} s apart holds in so few; give it more blocks than this chain makes in that time",
            c.max_age_blocks
        ));
    }
    Ok(())
}

/// What would make a chain of epochs stall, though every constructor takes it.
pub(super) fn liveness(c: &DeployConfig) -> Result<(), ChainError> {
    constructors(c)?;
    let (third, spacing) = (c.w1_s / 3, c.epoch_min_s.max(c.w1_s / 3));
    if c.w2_s > spacing {
        return refuse(format!(
            "w2_s is {}, epochs are {spacing} s apart (the longer of epoch_min_s and w1_s / 3): payouts wait for one another and would fall behind \
             for ever; lower w2_s to {spacing} or raise epoch_min_s to {}",
            c.w2_s, c.w2_s
        ));
    }
    let alone = c.w2_s + c.fallback_s;
    if alone > spacing {
        return refuse(format!(
            "w2_s + fallback_s are {alone}, epochs are {spacing} s apart: without a bonded poster payouts would fall behind for ever; lower fallback_s to {} \
             or raise epoch_min_s to {alone}",
            spacing - c.w2_s
        ));
    }
    let twice = 2 * c.answer_s;
    if twice >= c.w1_s - third {
        return refuse(format!(
            "answer_s is {}, of w1_s {} s are left when the last root is in: a challenge needs twice answer_s, so a receipt withheld under that root could \
             never be asked for; lower answer_s below {} or raise w1_s",
            c.answer_s,
            c.w1_s - third,
            (c.w1_s - third).div_ceil(2)
        ));
    }
    // The last question must be open a full time to answer before W2 ends, and there is one for each level.
    let search = (QUESTIONS + 1) * c.payout_answer_s;
    if search > c.w2_s {
        return refuse(format!(
            "payout_answer_s is {}, w2_s is {}: a wrong line of a payout tree that its poster shows only when asked is found by {QUESTIONS} questions, \
             each of which it may leave open that long, so that the payout would be final before; lower payout_answer_s to {} or raise w2_s to {search}",
            c.payout_answer_s,
            c.w2_s,
            c.w2_s / (QUESTIONS + 1)
        ));
    }
    Ok(())
}

/// Fewest blocks over which a chain's pace is measured.
const PACE_BLOCKS_MIN: u64 = 8;

/// Refuses a deployment whose `max_age_blocks`, at the pace of the chain it stands on (from its finalized block to its latest), does not hold an epoch with
/// its time for node roots: an honest receipt would be too old for its root (F5), void and never paid. Of a chain that has made fewer than eight blocks since, or
/// tells no time, nothing is said.
///
/// # Errors
/// [`ChainError::Argument`] with both times.
pub fn check_pace(c: &DeployConfig, heads: &Heads) -> Result<(), ChainError> {
    let blocks = heads.latest.number.saturating_sub(heads.finalized.number);
    let seconds = heads.timestamp.saturating_sub(heads.finalized_timestamp);
    if blocks < PACE_BLOCKS_MIN || seconds == 0 {
        return Ok(());
    }
    let needed = c.epoch_min_s.saturating_add(c.w1_s / 3);
    let held = u128::from(c.max_age_blocks) * u128::from(seconds) / u128::from(blocks);
    if held > u128::from(needed) {
        return Ok(());
    }
    let least = u128::from(needed) * u128::from(blocks) / u128::from(seconds) + 1;
    Err(ChainError::Argument(format!(
        "max_age_blocks of this deployment is {}, which this chain makes in {held} s (its last {blocks} blocks took {seconds} s): an epoch with its time for \
         node roots (epoch_min_s + w1_s / 3) takes {needed} s, so that receipts would be too old for their roots and never be paid; use a deployment with \
         max_age_blocks of at least {least}",
        c.max_age_blocks
    )))
}

#[cfg(test)]
mod tests {
    use types::{id::Hash32, time::BlockRef};

    use super::*;
    use crate::devnet::DevnetConfig;

    fn standard() -> DeployConfig {
        DeployConfig::standard(Address([1; 20]), Address([2; 20]))
    }

    #[test]
    fn the_standard_values_stall_nothing_and_a_development_chain_has_good_constructors() {
        liveness(&standard()).unwrap();
        constructors(&DevnetConfig::new("anvil".into()).deploy).unwrap();
    }

    #[test]
    fn an_age_in_blocks_is_held_against_the_pace_that_the_chain_has() {
        // The standard's 43,200 blocks are to hold 57,600 s.
        let c = standard();
        let at = |number| BlockRef { number, hash: Hash32::ZERO };
        let heads = |blocks: u64, seconds: u64| Heads {
            latest: at(1_000 + blocks),
            safe: at(1_000),
            finalized: at(1_000),
            timestamp: 5_000 + seconds,
            safe_timestamp: 5_000,
            finalized_timestamp: 5_000,
        };
        for (blocks, seconds) in [(900, 1_800), (900, 1_201), (0, 0), (7, 1), (100, 0)] {
            check_pace(&c, &heads(blocks, seconds)).unwrap_or_else(|error| panic!("{blocks} blocks in {seconds} s: {error}"));
        }
        let why = check_pace(&c, &heads(900, 900)).unwrap_err().to_string();
        for words in ["max_age_blocks of this deployment is 43200", "in 43200 s", "900 blocks took 900 s", "57600 s", "at least 57601"] {
            assert!(why.contains(words), "{words:?}: {why}");
        }
        check_pace(&DeployConfig { max_age_blocks: 57_601, ..c.clone() }, &heads(900, 900)).unwrap();
        assert!(check_pace(&c, &heads(900, 1_200)).is_err(), "as long is not longer");
        check_pace(&DeployConfig { max_age_blocks: u64::MAX, ..c }, &heads(u64::MAX - 2_000, u64::MAX - 9_000)).unwrap();
    }

    #[test]
    fn a_development_chain_lacks_nothing_of_a_lasting_one_but_time() {
        let mut devnet = DevnetConfig::new("anvil".into()).deploy;
        assert!(liveness(&devnet).unwrap_err().to_string().contains("payouts wait for one another"));
        // Between its epochs, and to be asked for a payout to its end.
        devnet.w2_s = 37 * devnet.payout_answer_s;
        devnet.epoch_min_s = devnet.w2_s + devnet.fallback_s;
        devnet.unbonding_s = 2 * (devnet.w1_s + devnet.w2_s);
        devnet.honour_s = devnet.unbonding_s;
        liveness(&devnet).unwrap();
    }

    #[test]
    fn values_that_cannot_work_are_refused_by_name_with_both_numbers_and_the_fix() {
        let c = standard();
        let epoch = c.epoch_min_s + c.w1_s / 3;
        let least = epoch / BLOCK_SECONDS_MAX + 1;
        liveness(&DeployConfig { max_age_blocks: least, ..c.clone() }).unwrap();
        liveness(&DeployConfig { w2_s: c.epoch_min_s, fallback_s: 0, ..c.clone() }).unwrap();
        type Change = fn(&mut DeployConfig);
        let table: [(Change, &[&str]); 23] = [
            (|c| c.w1_s = 2, &["w1_s is 2", "below 3", "give it 3 s"]),
            (|c| c.w2_s = 0, &["w2_s is 0", "over when it opens"]),
            (|c| c.thaw_s = 0, &["thaw_s is 0"]),
            (|c| c.honour_s = 0, &["honour_s is 0"]),
            (|c| c.slash_delay_s = 0, &["slash_delay_s is 0"]),
            (|c| c.answer_s = 0, &["answer_s is 0", "nobody could answer"]),
            (|c| c.case_answer_s = 0, &["case_answer_s is 0", "no node could answer a slash case"]),
            (|c| c.case_age_blocks = 0, &["case_age_blocks is 0", "nobody could open a slash case"]),
            (|c| c.case_age_blocks = 475_200, &["2 s a block, are 1209600", "unbonding_s is 1209600", "raise unbonding_s"]),
            (|c| c.block_s = 0, &["block_s is 0"]),
            (|c| c.fallback_s = u64::MAX, &["fallback_s is 18446744073709551615", "overflow"]),
            (|c| c.max_age_blocks = 1 << 33, &["max_age_blocks is 8589934592", "fewer blocks"]),
            (|c| c.max_age_blocks = 4_800, &["max_age_blocks is 4800", "57600 s", "more blocks"]),
            (|c| c.unbonding_s = 108_000, &["unbonding_s is 108000", "are 108000", "raise unbonding_s"]),
            (|c| c.honour_s = 1_209_599, &["honour_s is 1209599", "unbonding_s 1209600", "raise honour_s"]),
            (|c| c.poster_bond = Amount::ZERO, &["poster_bond is 0 OPEN"]),
            (|c| c.rent_price = Amount(1 << 96), &["rent_price is 79228162514.264337593543950336 OPEN"]),
            (|c| c.min_data_bps = 10_001, &["min_data_bps is 10001", "at most 10000"]),
            (|c| c.w2_s = 28_801, &["w2_s is 28801", "28800 s apart", "lower w2_s to 28800 or raise epoch_min_s to 28801"]),
            (|c| c.fallback_s = 7_201, &["w2_s + fallback_s are 28801", "28800 s apart", "lower fallback_s to 7200"]),
            (|c| (c.answer_s, c.w1_s, c.epoch_min_s) = (7_200, 21_600, 28_800), &["answer_s is 7200", "14400 s are left", "below 7200"]),
            (|c| c.payout_answer_s = 0, &["payout_answer_s is 0", "no poster could answer"]),
            (|c| c.payout_answer_s = 584, &["payout_answer_s is 584", "w2_s is 21600", "36 questions", "to 583 ", "to 21608"]),
        ];
        for (change, says) in table {
            let mut changed = c.clone();
            change(&mut changed);
            let why = liveness(&changed).unwrap_err().to_string();
            for words in says.iter().chain(&["nothing was sent"]) {
                assert!(why.contains(words), "{words:?}: {why}");
            }
        }
        let zero = liveness(&DeployConfig { governor: Address::ZERO, ..c }).unwrap_err().to_string();
        assert!(zero.contains("neither may be the zero address"), "{zero}");
    }
}
