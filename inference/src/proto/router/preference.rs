//! What a client wants of whoever answers it.

use types::amount::Amount;

/// What is to be little.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Mode {
    /// The fee: the cheapest first, to the wei.
    #[default]
    Economic,
    /// Fee and time alike: twice the time weighs as much as twice the fee.
    Balanced,
    /// The time to the first token.
    Fast,
}

impl Mode {
    /// Its name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Economic => "economic",
            Self::Balanced => "balanced",
            Self::Fast => "fast",
        }
    }
}

/// Bounds, which are kept, and a wish, which orders who keeps them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// What is to be little.
    pub mode: Mode,
    /// Most wei per 1,000 input and output tokens. An ad above it is not asked for a quote; a quote above it is refused wherever it comes from.
    pub rates_max: (Amount, Amount),
    /// Least active stake.
    pub stake_min: Amount,
    /// Countries, as two capital letters; empty means anywhere. A provider that names none stands in none of them.
    pub regions: Vec<[u8; 2]>,
}

impl Default for Preference {
    /// Cheapest first, no bounds.
    fn default() -> Self {
        Self { mode: Mode::default(), rates_max: (Amount(u128::MAX), Amount(u128::MAX)), stake_min: Amount::ZERO, regions: Vec::new() }
    }
}
