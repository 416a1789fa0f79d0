//! `tributary chain`: puts the contract suite on any chain, verifies what stands there, and acknowledges a chain that changed what was final.

use std::{
    path::{Path, PathBuf},
    sync::PoisonError,
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{
    chain::rpc::Rpc,
    client::{ChainClient, send::Sender},
    deploy::{DeployConfig, Deployment, Governors, Plan, governors, source_hashes, verify_code},
};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
    time::BlockRef,
};

use super::Context;
use crate::{
    data::read_text,
    explain::{Explainer, together},
    finalized::{self, LastFinal},
    output::{money, table},
};

/// Largest file of parameters read: one holds about a kilobyte.
const PARAMETERS_MAX: u64 = 64 << 10;

/// The contract suite on a chain: deploy it, verify it, go on after an alarm.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Deploy all contracts with the wallet's money, write their addresses to a file, verify what stands there.
    #[command(
        after_help = "Twenty-four transactions, about 49 million gas, explained and agreed to once. The addresses follow from the wallet's account and its nonce,\nso use a key that sends nothing else meanwhile. Interrupted, the same command goes on where it was; run again afterwards, it verifies.\n\nDefaults (a TOML file given by --parameters replaces any of them):\n  w1_s = 86400  w2_s = 21600  epoch_min_s = 28800  fallback_s = 3600  poster_bond = \"5 OPEN\"  min_data_bps = 1000\n  unbonding_s = 1209600  slash_delay_s = 604800  stake_min = \"10 OPEN\"  poster_stake_min = \"5 OPEN\"  indexer_stake_min = \"1 OPEN\"\n  thaw_s = 604800  honour_s = 1209600  index_window_s = 86400  rent_delay_s = 604800  treasury_delay_s = 604800  rent_price = \"1 OPEN\"\n  grace_blocks = 16  max_age_blocks = 43200  challenge_bond = \"0.0005 OPEN\"  answer_s = 7200  payout_answer_s = 540\n  case_bond = \"0.0005 OPEN\"  case_answer_s = 259200  case_age_blocks = 172800  block_s = 2\n\nExample:\n  tributary chain deploy --rpc https://rpc.example --governor 0x... --protocol 0x... --out registry.json\n\nNext: give the file to everybody (--registry FILE, or registry.json in the data folder)."
    )]
    Deploy {
        /// Approves attribution parameters and sets the rent; can move nobody's money.
        #[arg(long, value_name = "ADDRESS")]
        governor: Address,
        /// Takes the protocol's part of each answer.
        #[arg(long, value_name = "ADDRESS")]
        protocol: Address,
        /// File that the addresses are written to.
        #[arg(long, value_name = "FILE", default_value = "registry.json")]
        out: PathBuf,
        /// TOML file with constructor values other than the defaults.
        #[arg(long, value_name = "FILE")]
        parameters: Option<PathBuf>,
    },
    /// Compare a deployment, byte for byte, with this program's contracts and the file's values.
    #[command(
        after_help = "Needs no wallet. Exit code 1 with the contract's name if anything differs.\n\nExample:\n  tributary chain verify registry.json --rpc https://rpc.example\n\nNext: trust the file: --registry FILE, or registry.json in the data folder."
    )]
    Verify {
        /// The deployment's file.
        file: PathBuf,
    },
    /// Go on after the alarm that a finalized block changed: count by the chain as it is now.
    #[command(
        after_help = "First find out which chain is right: ask a second endpoint for the block that the alarm names. Money that the old chain held may be\nelsewhere on the new one. The node must be stopped. Transactions under way are set aside, never sent on the new chain; books are rebuilt from it.\n\nExample:\n  tributary chain accept-finalized 0x5c9e...\n\nNext: tributary run, and tributary wallet show, which shows what the account has on this chain."
    )]
    AcceptFinalized {
        /// The block's hash on the chain as it is now, as the alarm says it.
        hash: Hash32,
    },
}

/// What is printed of an acknowledged change.
#[derive(Debug, Serialize)]
struct Accepted {
    /// What this folder counted by.
    was: BlockRef,
    /// What it counts by now.
    block: BlockRef,
    /// Where transactions of the chain before were moved to.
    set_aside: Vec<PathBuf>,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Verified {
    file: PathBuf,
    chain_id: u64,
    deployer: Address,
    /// Whether this run sent anything.
    is_new: bool,
    contracts: Vec<Row>,
    /// Who governs now; the file names who did first.
    #[serde(flatten)]
    governors: Governors,
    /// Paid for gas and L1 data by this run.
    cost_wei: Amount,
}

#[derive(Debug, Serialize)]
struct Row {
    contract: &'static str,
    address: Address,
    /// Hash of the sources that the embedded artifact was compiled from.
    source: String,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Deploy { governor, protocol, out, parameters } => {
            let config = values(DeployConfig::standard(protocol, governor), parameters.as_deref())?;
            deploy(context, config, &std::path::absolute(out)?).await
        }
        Action::Verify { file } => {
            let deployment = Deployment::read(&file)?;
            let rpc = Rpc::connect(&context.config()?.rpc).await?;
            print(context, &rpc, &file, &deployment, None).await
        }
        Action::AcceptFinalized { hash } => accept(context, hash).await,
    }
}

async fn accept(context: &Context, hash: Hash32) -> anyhow::Result<()> {
    ensure!(!context.is_dry(), "--dry-run: what is final is not acknowledged on trial; nothing was done");
    let deployment = context.deployment()?;
    let kept = LastFinal::of(&context.data, &deployment);
    let was = kept.read()?.context("this folder knows no finalized block of this deployment: there is nothing to acknowledge")?;
    let _lock = context.data.lock()?;
    let client = ChainClient::connect(&context.config()?.rpc, deployment, None).await?;
    let heads = client.heads().await?;
    // A chain that was begun anew may not have come so far.
    let now = client.block(was.number).await?.unwrap_or(heads.finalized);
    ensure!(
        hash == now.hash,
        "block {} of the chain at {} is {}, not {hash}: nothing was changed",
        now.number,
        client.rpc().url(),
        now.hash
    );
    ensure!(now != was, "block {} is what it was: there is no alarm, and nothing was changed", was.number);
    let block = if now.number <= heads.finalized.number { now } else { heads.finalized };
    let set_aside = finalized::set_outboxes_aside(&context.data, was)?;
    kept.replace(block)?;
    let accepted = Accepted { was, block, set_aside };
    context.output.result(&accepted, || {
        let aside: String = accepted.set_aside.iter().map(|path| format!("\nset aside {}", path.display())).collect();
        format!(
            "was       block {} {}\nnow       block {} {}{aside}\n\nthe books are rebuilt from this chain at the next start",
            was.number, was.hash, block.number, block.hash
        )
    })
}

/// The defaults with what a file replaces.
fn values(defaults: DeployConfig, file: Option<&Path>) -> anyhow::Result<DeployConfig> {
    let Some(file) = file else { return Ok(defaults) };
    let named = || format!("{}", file.display());
    let text = read_text(file, PARAMETERS_MAX).with_context(named)?;
    let given: toml::Table = text.parse().with_context(named)?;
    let toml::Value::Table(mut all) = toml::Value::try_from(&defaults)? else { bail!("constructor values are a table") };
    for (name, value) in given {
        let known = all.keys().cloned().collect::<Vec<_>>().join(", ");
        let place =
            all.get_mut(&name).with_context(|| format!("{}: there is no value {name:?}, expected one of {known}", file.display()))?;
        *place = value;
    }
    toml::Value::Table(all).try_into().with_context(named)
}

/// The file of a deployment under way, beside the one of a finished one.
fn unfinished(out: &Path) -> PathBuf {
    let mut name = out.file_name().unwrap_or_default().to_owned();
    name.push(".unfinished");
    out.with_file_name(name)
}

async fn deploy(context: &Context, config: DeployConfig, out: &Path) -> anyhow::Result<()> {
    let account = context.account()?;
    let rpc = Rpc::connect(&context.config()?.rpc).await?;
    if context.data.has(out)? {
        let known = Deployment::read(out)?;
        ensure!(
            known.config == config && known.deployer == account.address() && known.chain_id == rpc.chain_id(),
            "{} holds another deployment (chain {}, by {}): nothing was sent; name another --out",
            out.display(),
            known.chain_id,
            known.deployer
        );
        return print(context, &rpc, out, &known, None).await;
    }
    let under_way = unfinished(out);
    let plan = match Plan::read(&under_way)? {
        Some(plan) => {
            ensure!(
                plan.deployment.config == config,
                "{} holds a deployment under way with other values: nothing was sent; give the same ones, or move the file away",
                under_way.display()
            );
            context.output.note(&format!("going on with the deployment of {}", under_way.display()));
            plan
        }
        None => Plan::new(&rpc, account.address(), config).await?,
    };
    let sender = Sender::new(rpc.clone(), account.clone());
    if !context.is_dry() {
        sender.keep_in(&context.data.outbox(false)).await?;
        sender.resume().await.with_context(|| format!("{}: finishing what was sent", under_way.display()))?;
    }
    let quotes = plan.quotes(&rpc, &account).await?;
    let before = rpc.balance(account.address()).await?;
    if let Some(row) = together("deployment", &quotes) {
        let explainer = Explainer::new(&context.output, &plan.deployment);
        if context.is_dry() {
            context.output.explained.lock().unwrap_or_else(PoisonError::into_inner).push(row.clone());
        }
        explainer.ask(&row)?;
    }
    // Before the first transaction: who is killed from here on goes on with the same addresses.
    plan.write(&under_way)?;
    let why = || format!("{} holds the deployment under way: run the same command again", under_way.display());
    plan.carry_out(&rpc, &sender).await.with_context(why)?;
    plan.deployment.write(out)?;
    std::fs::remove_file(&under_way).with_context(|| format!("{}: cannot be removed", under_way.display()))?;
    let spent = before.minus(rpc.balance(account.address()).await?).unwrap_or_default();
    print(context, &rpc, out, &plan.deployment, Some(spent)).await
}

/// Verifies and prints; `spent` is what this run has paid, nothing if it sent nothing.
async fn print(context: &Context, rpc: &Rpc, file: &Path, deployment: &Deployment, spent: Option<Amount>) -> anyhow::Result<()> {
    verify_code(rpc, deployment).await.with_context(|| format!("{}", file.display()))?;
    let sources = source_hashes();
    let source = |name: &str| sources.iter().find(|(of, _)| *of == name).map(|(_, hash)| hash.clone()).unwrap_or_default();
    let contracts = deployment.contracts().into_iter().map(|(contract, address)| Row { contract, address, source: source(contract) });
    let verified = Verified {
        file: file.to_owned(),
        chain_id: deployment.chain_id,
        deployer: deployment.deployer,
        is_new: spent.is_some(),
        contracts: contracts.collect(),
        governors: governors(rpc, deployment).await?,
        cost_wei: spent.unwrap_or_default(),
    };
    context.output.result(&verified, || describe(&verified))
}

fn describe(verified: &Verified) -> String {
    let cells = |row: &Row| vec![row.contract.to_owned(), row.address.to_string()];
    let rows = table(&["contract", "address"], &verified.contracts.iter().map(cells).collect::<Vec<_>>());
    let done = if verified.is_new { format!("deployed for {}, and ", money(verified.cost_wei)) } else { String::new() };
    format!(
        "{rows}\n\nchain     {}\ndeployer  {}\ngovernor  {} of assets, {} of rent\nfile      {}\n\n{done}verified: every byte of code is what this program's contracts and the file's values give",
        verified.chain_id,
        verified.deployer,
        verified.governors.assets_governor,
        verified.governors.rent_governor,
        verified.file.display()
    )
}

#[cfg(test)]
mod tests {
    use chain_bridge::deploy;

    use super::*;

    fn defaults() -> DeployConfig {
        DeployConfig::standard(Address([1; 20]), Address([2; 20]))
    }

    #[test]
    fn the_help_says_how_many_transactions_a_deployment_sends() {
        let deployment = deploy::plan(1, 1, Address([3; 20]), 0, defaults());
        assert_eq!(deploy::calls(&deployment).len(), 24, "the number stands in the help of `chain deploy`, in words");
        let command = Args::augment_args(clap::Command::new("chain"));
        let deploy = command.find_subcommand("deploy").unwrap().get_after_help().unwrap().to_string();
        assert!(deploy.starts_with("Twenty-four transactions"), "{deploy}");
    }

    #[test]
    fn a_file_replaces_what_it_names_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("values.toml");
        std::fs::write(&path, "w1_s = 60\nstake_min = \"2 OPEN\"\n").unwrap();
        let read = values(defaults(), Some(&path)).unwrap();
        let expected = DeployConfig { w1_s: 60, stake_min: "2 OPEN".parse().unwrap(), ..defaults() };
        assert_eq!(read, expected);
        for (text, says) in
            [("w3_s = 1", "no value \"w3_s\""), ("w1_s = \"long\"", "values.toml"), ("w1_s = -1", "values.toml"), ("=", "values.toml")]
        {
            std::fs::write(&path, text).unwrap();
            let error = format!("{:#}", values(defaults(), Some(&path)).unwrap_err());
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    #[test]
    fn the_defaults_in_the_help_are_the_defaults() {
        use clap::Subcommand as _;
        let command = Action::augment_subcommands(clap::Command::new("chain"));
        let help = command.find_subcommand("deploy").and_then(clap::Command::get_after_help).unwrap().to_string();
        let toml::Value::Table(all) = toml::Value::try_from(defaults()).unwrap() else { panic!("a table") };
        for (name, value) in all.into_iter().filter(|(name, _)| name != "protocol" && name != "governor") {
            let shown = match value {
                toml::Value::String(wei) => format!("{name} = \"{}\"", wei.parse::<Amount>().unwrap().in_open()),
                other => format!("{name} = {other}"),
            };
            assert!(help.contains(&shown), "{shown} is not in the help");
        }
    }

    #[test]
    fn the_unfinished_file_lies_beside_the_finished_one() {
        assert_eq!(unfinished(Path::new("/a/registry.json")), Path::new("/a/registry.json.unfinished"));
    }
}
