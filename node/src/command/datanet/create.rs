//! `tributary datanet create`: a card with its whole policy, registered under the wallet's account.

use anyhow::{Context as _, bail, ensure};
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use storage::{
    datanet::{Action, Card, Contributors, GatePolicy},
    proto::placement::{Region, RegionError},
};
use types::{
    id::{Address, Hash32},
    manifest::AssetKind,
};

use super::Context;
use crate::{datanet::resolve, words};

/// Register a Datanet under your account.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  tributary datanet create medical --licence CC-BY-4.0 --language en --description \"Definitions of medical terms.\"\n  tributary datanet create cases --licence LicenseRef-Clinic --personal-data redact --near-copies quarantine --sample 5 --rows-max 10000\n  tributary datanet create wards --licence LicenseRef-Clinic --private --contributors listed\n\nThe card (name, licence, description, languages, tags, policy) goes to the registry as it is, and cannot be changed. note: the report says it; redact: only\nredacted rows enter; quarantine: two reviewers decide; block: the row may not enter.\nNext: tributary run, with this wallet and stake: the node is the Datanet's gate, which looks at every contribution."
)]
pub(super) struct Args {
    /// Name: lower-case letters, digits and hyphens.
    name: String,
    /// Licence of every contribution, as an SPDX expression.
    #[arg(long, value_name = "SPDX")]
    licence: String,
    /// What it is about.
    #[arg(long, default_value = "")]
    description: String,
    /// Language of its documents, such as en. May be repeated.
    #[arg(long = "language", value_name = "TAG")]
    languages: Vec<String>,
    /// What it may be found by. May be repeated.
    #[arg(long = "tag", value_name = "WORD")]
    tags: Vec<String>,
    /// What follows from a near copy of an earlier document.
    #[arg(long, value_enum, default_value_t = NearCopies::Note)]
    near_copies: NearCopies,
    /// What follows from what looks like personal data.
    #[arg(long, value_enum, default_value_t = PersonalData::Note)]
    personal_data: PersonalData,
    /// Most rows of one contributor.
    #[arg(long, value_name = "ROWS")]
    rows_max: Option<u64>,
    /// Most bytes of text of one contributor.
    #[arg(long, value_name = "BYTES")]
    bytes_max: Option<u64>,
    /// Percent of the contributions that pass which two reviewers look at all the same, such as 5 or 0.5.
    #[arg(long, value_name = "PERCENT", default_value = "0")]
    sample: String,
    /// Who may contribute: anybody, or whom you list with `datanet members --add`.
    #[arg(long, value_enum, default_value_t = Who::Anyone)]
    contributors: Who,
    /// Whether adapters may be trained on it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    may_train: bool,
    /// Whether answers may be attributed to it.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set)]
    may_serve: bool,
    /// What is made of it must be passed on under its licence.
    #[arg(long)]
    share_alike: bool,
    /// Country in which its fragments must stay, such as DE. May be repeated. Operators state theirs; fragments go to no others.
    #[arg(long = "region", value_name = "COUNTRY", value_parser = country)]
    regions: Vec<Region>,
    /// Only members may read it: what is stored is sealed.
    #[arg(long)]
    private: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum NearCopies {
    Note,
    Quarantine,
    Block,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum PersonalData {
    Note,
    Redact,
    Quarantine,
    Block,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Who {
    Anyone,
    Listed,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Created {
    asset: u64,
    name: String,
    owner: Address,
    private: bool,
    transaction: Hash32,
    gas: u64,
}

/// Percent with at most one digit after the point, as parts of a thousand.
fn per_mille(text: &str) -> anyhow::Result<u16> {
    let wrong = || format!("--sample {text:?}: write a percentage from 0 to 100 with at most one digit after the point, such as 5 or 0.5");
    let (whole, tenth) = text.split_once('.').unwrap_or((text, "0"));
    ensure!(tenth.len() == 1 && whole.len() <= 3 && !whole.is_empty() && !whole.starts_with('+') && !tenth.starts_with('+'), "{}", wrong());
    let (whole, tenth): (u16, u16) = (whole.parse().with_context(wrong)?, tenth.parse().with_context(wrong)?);
    let all = whole * 10 + tenth;
    ensure!(all <= 1000, "{}", wrong());
    Ok(all)
}

/// A country by its two letters.
fn country(text: &str) -> Result<Region, String> {
    let region: Region = text.parse().map_err(|error: RegionError| error.to_string())?;
    let words = || format!("{text:?} are the letters of no country (ISO 3166-1): write them as in DE or US");
    if region.is_country() { Ok(region) } else { Err(words()) }
}

impl Args {
    fn card(self) -> anyhow::Result<Card> {
        words::of_lines("--description", &self.description)?;
        for (flag, most) in [("--rows-max", self.rows_max), ("--bytes-max", self.bytes_max)] {
            ensure!(most != Some(0), "{flag} 0 would let nobody contribute: leave it out, or give a number");
        }
        let policy = GatePolicy {
            near_copies: match self.near_copies {
                NearCopies::Note => Action::Note,
                NearCopies::Quarantine => Action::Quarantine,
                NearCopies::Block => Action::Block,
            },
            personal_data: match self.personal_data {
                PersonalData::Note => Action::Note,
                PersonalData::Redact => Action::Redact,
                PersonalData::Quarantine => Action::Quarantine,
                PersonalData::Block => Action::Block,
            },
            contributor_rows_max: self.rows_max,
            contributor_bytes_max: self.bytes_max,
            sample_per_mille: per_mille(&self.sample)?,
            contributors: match self.contributors {
                Who::Anyone => Contributors::Anyone,
                Who::Listed => Contributors::Listed,
            },
            may_train: self.may_train,
            may_serve: self.may_serve,
            share_alike: self.share_alike,
            residency: self.regions,
        };
        let card = Card::new(self.name.parse()?, self.description, self.licence.parse()?, self.languages, self.tags)?;
        Ok(card.with_policy(policy)?.with_privacy(self.private))
    }
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let card = args.card()?;
    let chain = context.chain().await?;
    let state = chain.state().await?;
    // The registry keeps names apart by number only; two of one name would have to be told apart by everybody.
    if let Ok((asset, _)) = resolve(&state, card.name().as_str())
        && !context.was_stopped(&chain).await
    {
        bail!("Datanet {} of {} is called {} already: choose another name", asset.id, asset.owner(), card.name());
    }
    let uri = serde_json::to_string(&card).context("a card is plain data")?;
    let (asset, sent) = chain.client.register_asset(AssetKind::Datanet, &uri).await?;
    let owner = chain.client.address().context("the wallet has an account")?;
    if card.is_private() {
        // The first key, wrapped for this folder's node alone; without one the gate makes it for the first contribution.
        let seed = context
            .seed()
            .context("the Datanet is registered; a private one needs a node here: run `tributary init` and `tributary run`")?;
        crate::datanet::seals::sealing_key(&context.data, &crate::datanet::seals::author(&seed), asset, chain.head().await?.block.number)?;
    }
    let created = Created {
        asset: asset.0,
        name: card.name().to_string(),
        owner,
        private: card.is_private(),
        transaction: sent.transaction,
        gas: sent.gas_used,
    };
    context.output.result(&created, || {
        let members = if card.is_private() { format!("\nMembers: tributary datanet grant {asset} NODE --purpose read --until BLOCK") } else { String::new() };
        format!("Datanet {asset}  {}\nowner      {owner}\n\nContributors: tributary datanet contribute {asset} FILE (your node must be running: it is the gate){members}", created.name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_is_a_country() {
        assert_eq!(country("DE").map(|region| region.to_string()), Ok("DE".to_owned()));
        for text in ["XX", "EU", "UK"] {
            assert!(country(text).unwrap_err().contains("no country"), "{text}");
        }
        assert!(country("de").unwrap_err().contains("is no region") && country("Germany").is_err());
    }

    #[test]
    fn a_description_holds_nothing_that_a_terminal_obeys() {
        #[derive(clap::Parser)]
        struct Line {
            #[command(flatten)]
            args: Args,
        }
        let card = |description: &str| {
            let line =
                <Line as clap::Parser>::try_parse_from(["create", "tides", "--licence", "MIT", "--description", description]).unwrap();
            line.args.card().map_err(|error| error.to_string())
        };
        assert_eq!(card("Of the sea.\nAnd more.").unwrap().description(), "Of the sea.\nAnd more.");
        for bad in ["a\u{1b}]0;x\u{7}", "a\u{9b}2J", "a\u{202e}b"] {
            assert!(card(bad).unwrap_err().contains("--description: character 2 is U+"), "{bad:?}");
        }
    }

    #[test]
    fn a_share_is_a_percentage_with_one_digit_after_the_point() {
        for (text, expected) in [("0", 0), ("5", 50), ("0.5", 5), ("100", 1000), ("99.9", 999)] {
            assert_eq!(per_mille(text).unwrap(), expected, "{text}");
        }
        for text in ["", "-1", "+5", "100.1", "101", "5.55", "5.", ".5", "five", "1e2", "0.+", "9999"] {
            assert!(per_mille(text).unwrap_err().to_string().contains("percentage"), "{text}");
        }
    }
}
