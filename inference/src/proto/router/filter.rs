//! Who may be asked at all, and why the others may not: one reason each, the first that holds in the order of [`Unfit::ALL`].

use std::{collections::BTreeMap, fmt};

use types::{amount::Amount, quote::Profile};

use super::{Preference, Provider};

/// How much of a manifest a provider serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holds {
    /// All of it.
    All,
    /// Not its base model.
    NoBase,
    /// Its base model, not its adapter.
    NoAdapter,
}

/// Why a provider is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unfit {
    /// It does not serve the base model.
    Model,
    /// It serves the base model without the adapter.
    Adapter,
    /// It answers under other numeric rules.
    Profile,
    /// It is not registered under the account it names, or that account has no stake.
    Unregistered,
    /// Its stake is below the least.
    Stake,
    /// It stands in no wanted country, or names none.
    Region,
    /// Its input rate is above the most.
    RateIn,
    /// Its output rate is above the most.
    RateOut,
}

impl Unfit {
    /// All, in the order in which they are looked for: what nobody can change by asking otherwise comes first.
    pub const ALL: [Self; 8] =
        [Self::Model, Self::Adapter, Self::Profile, Self::Unregistered, Self::Stake, Self::Region, Self::RateIn, Self::RateOut];

    /// In words, behind a count of nodes.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Model => "without the model",
            Self::Adapter => "without the adapter",
            Self::Profile => "of another profile",
            Self::Unregistered => "not registered",
            Self::Stake => "with less stake than asked for",
            Self::Region => "in no region asked for",
            Self::RateIn => "above the highest input rate",
            Self::RateOut => "above the highest output rate",
        }
    }
}

/// Whether a provider may be asked.
///
/// # Errors
/// Why not.
pub fn filter(provider: &Provider, profile: Profile, preference: &Preference) -> Result<(), Unfit> {
    let is_there = |region: [u8; 2]| preference.regions.contains(&region);
    let holds = |unfit| match unfit {
        Unfit::Model => provider.holds == Holds::NoBase,
        Unfit::Adapter => provider.holds == Holds::NoAdapter,
        Unfit::Profile => provider.profile != Some(profile),
        Unfit::Unregistered => provider.stake == Amount::ZERO,
        Unfit::Stake => provider.stake < preference.stake_min,
        Unfit::Region => !preference.regions.is_empty() && !provider.region.is_some_and(is_there),
        Unfit::RateIn => provider.rate_in > preference.rates_max.0,
        Unfit::RateOut => provider.rate_out > preference.rates_max.1,
    };
    Unfit::ALL.into_iter().find(|unfit| holds(*unfit)).map_or(Ok(()), Err)
}

/// How many providers were left out for which reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<Unfit, u32>);

impl Tally {
    pub(super) fn count(&mut self, unfit: Unfit) {
        let count = self.0.entry(unfit).or_default();
        *count = count.saturating_add(1);
    }

    /// How many for that reason.
    pub fn of(&self, unfit: Unfit) -> u32 {
        self.0.get(&unfit).copied().unwrap_or_default()
    }

    /// Whether some were left out for a bound of the client's own: another preference might have found one.
    pub fn is_choosy(&self) -> bool {
        self.0.keys().any(|unfit| matches!(unfit, Unfit::Stake | Unfit::Region | Unfit::RateIn | Unfit::RateOut))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (unfit, count)) in self.0.iter().enumerate() {
            write!(f, "{}{count} {}", if place == 0 { "" } else { ", " }, unfit.words())?;
        }
        Ok(())
    }
}
