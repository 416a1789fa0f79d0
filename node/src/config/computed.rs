//! The numeric rules that answers are computed under: what a node is told to offer, and what a client asks for.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use types::quote::Profile;

/// A profile that nodes compute in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Computed {
    /// The same bits on every machine: any checker computes the answer again and compares each token.
    #[default]
    Exact,
    /// Whatever is quickest on its machine: receipts commit to fingerprints of activations, which a checker compares within bounds.
    Fast,
}

impl Computed {
    /// As documents name it.
    #[must_use]
    pub const fn profile(self) -> Profile {
        match self {
            Self::Exact => Profile::Exact,
            Self::Fast => Profile::Fast,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_profile_is_called_in_the_configuration_and_on_the_command_line_as_in_documents() {
        for computed in [Computed::Exact, Computed::Fast] {
            let name = computed.profile().name();
            assert_eq!(Computed::from_str(name, false), Ok(computed));
            assert_eq!(toml::from_str::<Config>(&format!("profile = \"{name}\"")).unwrap().profile, computed);
        }
        assert_eq!(toml::from_str::<Config>("").unwrap().profile, Computed::Exact);
        let unknown = toml::from_str::<Config>("profile = \"candle-f32-b1\"").unwrap_err().to_string();
        assert!(unknown.contains("exact") && unknown.contains("fast"), "{unknown}");
    }
}
