//! Whether a node checks other nodes' answers, and the rule by which it is drawn.

use attribution::check::{DrawRule, ELIGIBLE_MIN};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// `[checks]`. The rule must be the same on every node of a chain: who has another looks at other receipts than it was drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Checks {
    /// Whether this node, once it has stake, announces and stores beacons and checks what it is drawn for: two transactions an epoch in which it found receipts to check, and
    /// now and then two for everybody. Nothing is earned by it yet.
    pub enabled: bool,
    /// Share of receipts that are checked, in 2^-32.
    pub rate: u32,
    /// Checkers of each.
    pub checkers: u8,
    /// Fewest operators with stake beside the answering one; where there are fewer its answers go unchecked.
    pub eligible_min: usize,
}

impl Default for Checks {
    fn default() -> Self {
        Self {
            enabled: false,
            // One in fifty: a checker's work is then 4 % of what it answers, and a cheat that saves all of an answer loses by it once its stake is fifty times
            // what the answer earns.
            rate: u32::MAX / 50,
            checkers: 2,
            eligible_min: ELIGIBLE_MIN,
        }
    }
}

impl Checks {
    /// The rule of the draw.
    pub const fn rule(&self) -> DrawRule {
        DrawRule { rate: self.rate, checkers: self.checkers, eligible_min: self.eligible_min }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError::Value`].
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.enabled && self.checkers == 0 {
            let why = "0 checkers look at nothing: give at least 1, or set checks.enabled = false".to_owned();
            return Err(ConfigError::Value { key: "checks.checkers", why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_checks_nothing_unless_it_is_told_to_and_a_rule_that_looks_at_nothing_is_refused() {
        let told: Checks = toml::from_str("enabled = true\nrate = 4294967295").unwrap();
        assert_eq!((Checks::default().enabled, told.enabled, told.rule().rate, told.rule().checkers), (false, true, u32::MAX, 2));
        told.validate().unwrap();
        let error = Checks { checkers: 0, ..told }.validate().unwrap_err().to_string();
        assert!(error.starts_with("checks.checkers: 0 checkers"), "{error}");
        assert!(toml::from_str::<Checks>("share = 2").unwrap_err().to_string().contains("share"));
    }
}
