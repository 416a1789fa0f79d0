//! Split tables by the names of their roles: `node=4000,base=2500,data=3000,stakers=500`.

use clap::Args as ClapArgs;
use types::split::{SPLIT_TOTAL, SplitTable};

/// Names of the rows in canonical order.
pub(super) const ROLES: [&str; 6] = ["node", "agent", "base", "adapter", "data", "stakers"];

/// What an owner asks for when a version is first published.
#[derive(Debug, Clone, PartialEq, Eq, ClapArgs)]
pub struct Terms {
    /// How its fees are divided, in 1/10,000 by role: node, agent, base, adapter, data, stakers; a role that is not named gets nothing.
    #[arg(long, value_name = "ROLE=BPS,...", value_parser = parse_split)]
    pub split: Option<SplitTable>,
    /// SPDX licence expression.
    #[arg(long, default_value = "Apache-2.0")]
    pub licence: String,
}

/// Reads `role=basis points` pairs; they sum to 10,000.
pub fn parse_split(text: &str) -> Result<SplitTable, String> {
    let form = "write role=number pairs that sum to 10000, such as node=4000,base=2500,data=3000,stakers=500";
    let mut rows = [None; 6];
    for pair in text.split(',').map(str::trim) {
        let (role, number) = pair.split_once('=').ok_or_else(|| format!("{pair:?} is no row of a split: {form}"))?;
        let role = role.trim();
        let place = ROLES.iter().position(|known| *known == role);
        let place = place.ok_or_else(|| format!("{role:?} is no role: the roles are {}; {form}", ROLES.join(", ")))?;
        let share: u16 = number
            .trim()
            .parse()
            .ok()
            .filter(|share| *share <= SPLIT_TOTAL)
            .ok_or_else(|| format!("the {role} row is {:?}, expected a whole number from 0 to {SPLIT_TOTAL}", number.trim()))?;
        if rows[place].replace(share).is_some() {
            return Err(format!("the {role} row is given twice"));
        }
    }
    let split = SplitTable::from_rows(rows.map(Option::unwrap_or_default));
    if split.is_whole() {
        return Ok(split);
    }
    let sum: u32 = split.rows().into_iter().map(u32::from).sum();
    Err(format!("the rows sum to {sum}, expected {SPLIT_TOTAL}: {form}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_by_role_and_refused_in_words() {
        let split = parse_split("data=3000, node=4000,stakers=500,base=2500").unwrap();
        assert_eq!(split.rows(), [4_000, 0, 2_500, 0, 3_000, 500]);
        let cases = [
            ("", "is no row of a split"),
            ("4000,0,2500,0,3000,500", "\"4000\" is no row of a split"),
            ("node=4000,owner=6000", "\"owner\" is no role: the roles are node, agent"),
            ("node=ten", "the node row is \"ten\""),
            ("data=70000", "the data row is \"70000\", expected a whole number from 0 to 10000"),
            ("node=10000,node=0", "the node row is given twice"),
            ("node=4000,data=5999", "sum to 9999, expected 10000"),
            ("node=10000,data=10000", "sum to 20000"),
        ];
        for (text, says) in cases {
            let error = parse_split(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
