//! `tributary datanet treasury`: what a Datanet's treasury earned, and what of it belongs to a contributor.

use anyhow::{Context as _, ensure};
use chain_bridge::client::treasury::{Stream, StreamShare};
use clap::Args as ClapArgs;
use serde::Serialize;
use types::{amount::Amount, id::Address};

use crate::{
    command::{Context, sent::Transaction},
    datanet::resolve,
    output::money,
};

/// Contributions that one run enters or claims for: each is a transaction.
const RUN_MAX: usize = 32;

/// Show or take what a Datanet's treasury earned.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Words of an answer that stand in no contribution pay the treasuries of the declared Datanets. A treasury has no owner: it is divided over the\ncontributions that entered, by their bytes of text. Who entered shares in what comes in afterwards, so enter early.\n\nExamples:\n  tributary datanet treasury medical             what it holds, and this wallet's contributions\n  tributary datanet treasury medical --enter     lets them share, once each\n  tributary datanet treasury medical --claim     takes what they earned\n  tributary datanet treasury medical --of 0x…    another contributor's; --claim pays it, this wallet pays the fees"
)]
pub(super) struct Args {
    /// Name or number.
    datanet: String,
    /// Contributor, instead of this wallet.
    #[arg(long, value_name = "ADDRESS")]
    of: Option<Address>,
    /// Enter the contributions that have not.
    #[arg(long, conflicts_with = "claim")]
    enter: bool,
    /// Pay what they earned.
    #[arg(long)]
    claim: bool,
}

#[derive(Debug, Serialize)]
struct Row {
    contribution: u64,
    text_bytes: u64,
    #[serde(flatten)]
    share: StreamShare,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Printed {
    asset: u64,
    name: String,
    contributor: Address,
    treasury: Stream,
    contributions: Vec<Row>,
    paid_wei: Amount,
    transactions: Vec<Transaction>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let needs_key = args.enter || args.claim || args.of.is_none();
    let chain = if needs_key { context.chain().await? } else { context.chain_reader().await? };
    let state = chain.state().await?;
    let (asset, card) = resolve(&state, &args.datanet)?;
    let contributor = match args.of {
        Some(contributor) => contributor,
        None => chain.client.address().context("no account")?,
    };
    let own: Vec<(u64, u64)> = state
        .contributions(asset.id)
        .filter(|accepted| accepted.contributor == contributor)
        .map(|accepted| (accepted.number, accepted.text_bytes))
        .collect();
    ensure!(!own.is_empty() || !(args.enter || args.claim), "Datanet {} has no accepted contribution of {contributor}", asset.id);
    let (mut transactions, mut paid_wei) = (Vec::new(), Amount::ZERO);
    for (number, _) in &own {
        if !(args.enter || args.claim) || transactions.len() >= RUN_MAX {
            break;
        }
        let share = chain.client.treasury_share(asset.id, *number).await?;
        if args.enter && !share.has_entered {
            let sent = chain.client.enter_contribution(asset.id, *number).await?;
            transactions.push(Transaction::new(format!("enter contribution {number}"), &sent));
        } else if args.claim && share.earned > Amount::ZERO {
            let (_, amount, sent) = chain.client.claim_contribution(asset.id, *number).await?;
            paid_wei = paid_wei.plus(amount)?;
            transactions.push(Transaction::new(format!("claim for contribution {number}"), &sent));
        }
    }
    let mut contributions = Vec::with_capacity(own.len());
    for (contribution, text_bytes) in own {
        contributions.push(Row { contribution, text_bytes, share: chain.client.treasury_share(asset.id, contribution).await? });
    }
    let treasury = chain.client.treasury_stream(asset.id).await?;
    let printed =
        Printed { asset: asset.id.0, name: card.name().to_string(), contributor, treasury, contributions, paid_wei, transactions };
    context.output.result(&printed, || describe(&printed))
}

fn describe(printed: &Printed) -> String {
    let Printed { asset, name, contributor, treasury, .. } = printed;
    let mut text = format!(
        "Datanet      {asset} ({name})\nundivided    {}\nshared by    {} bytes of text\ncontributor  {contributor}",
        money(treasury.undivided),
        treasury.text_bytes
    );
    for Row { contribution, text_bytes, share } in &printed.contributions {
        let earned = if share.has_entered { format!("{} to claim", money(share.earned)) } else { "not entered".to_owned() };
        text.push_str(&format!("\n  contribution {contribution:>5}  {text_bytes:>12} bytes  {earned}"));
    }
    if printed.contributions.is_empty() {
        text.push_str("\n  no accepted contribution");
    }
    for row in &printed.transactions {
        text.push_str(&format!("\n{row}"));
    }
    if printed.paid_wei > Amount::ZERO {
        text.push_str(&format!("\npaid {}", money(printed.paid_wei)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_treasury_shows_what_waits_and_what_each_contribution_has() {
        let row = |contribution, has_entered, earned| Row {
            contribution,
            text_bytes: 640,
            share: StreamShare { has_entered, earned: Amount(earned) },
        };
        let printed = Printed {
            asset: 3,
            name: "medical".to_owned(),
            contributor: Address([1; 20]),
            treasury: Stream { undivided: Amount(500_000_000_000_000_000), text_bytes: 640, opens_at: 9 },
            contributions: vec![row(0, true, 1_500_000_000_000_000_000), row(4, false, 0)],
            paid_wei: Amount::ZERO,
            transactions: vec![],
        };
        let text = describe(&printed);
        for part in ["3 (medical)", "0.5 OPEN", "1.5 OPEN to claim", "not entered", "640 bytes"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let json = serde_json::to_value(&printed).unwrap();
        assert_eq!(
            (&json["treasury"]["undivided_wei"], &json["contributions"][0]["earned_wei"]),
            (&"500000000000000000".into(), &"1500000000000000000".into())
        );
    }
}
