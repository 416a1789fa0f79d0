//! `tributary wallet session`: keys that sign requests, lanes and vouchers for the wallet, with a cap and an end that the chain enforces.
//!
//! The escrow pays no more by a session's signature than its cap, and nothing after its last block. So who steals a session key can ask, and have vouchers
//! paid up to the cap, and nothing else. With a session the wallet's own key is not needed where questions are asked.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail, ensure};
use chain_bridge::{
    chain::Header,
    lanes::{self, SessionRight},
};
use clap::{Args as ClapArgs, Subcommand};
use inference::proto::spending::Refused;
use serde::{Deserialize, Serialize};
use types::{amount::Amount, id::Address, key::Account};

use crate::{
    chain::Chained,
    command::{Context, sent::Transaction},
    data::{read_bounded, write_atomic},
    output::table,
    purse::Purse,
    when::lasting,
};

/// Longest name.
const NAME_MAX: usize = 64;
/// Largest record read.
const FILE_MAX: u64 = 16 << 10;
/// Blocks over which the chain's pace is measured.
const PACE_BLOCKS: u64 = 1_000;

/// Session keys.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Examples:\n  tributary wallet session add phone --cap \"1 OPEN\" --expires 30d\n  tributary ask --session phone --with medical \"What is gout?\"\n  tributary wallet session list\n  tributary wallet session revoke phone\n\nAdding a session again raises its cap or moves its end: while it is live both may only grow, because nodes have served against them.\nA revoked one ends when the withdrawal's wait is over; nodes take nothing new from it at once."
)]
pub(super) struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key, encrypted with the wallet's password, and let it sign on the chain; or raise the bounds of one.
    Add {
        /// A name of letters, digits, - and _.
        name: String,
        /// Most that may be collected by its signature.
        #[arg(long)]
        cap: Amount,
        /// How long it lasts: 90s, 30m, 12h or 30d.
        #[arg(long, value_parser = seconds)]
        expires: u64,
    },
    /// Show every session: cap, what was collected and promised by it, its end.
    List,
    /// End a session.
    Revoke {
        /// Its name.
        name: String,
    },
}

/// What is kept beside a session's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Info {
    signer: Address,
    payer: Address,
    chain_id: u64,
    escrow: Address,
}

/// A session as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Row {
    name: String,
    signer: Address,
    payer: Address,
    /// `live`, `ended`, `revoked`, `unknown` to the chain, or of another `deployment`.
    state: &'static str,
    cap_wei: Amount,
    /// Collected by its signature.
    spent_wei: Amount,
    /// Promised by it here and paid, or not yet collected; never above the cap.
    promised_wei: Amount,
    last_block: u64,
    /// When a revocation takes effect, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Printed {
    sessions: Vec<Row>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<Transaction>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Add { name, cap, expires } => add(context, &name, cap, expires).await,
        Action::List => {
            let chain = context.chain_reader().await?;
            print(context, &chain, names(context)?, None).await
        }
        Action::Revoke { name } => revoke(context, &name).await,
    }
}

async fn add(context: &Context, name: &str, cap: Amount, expires_s: u64) -> anyhow::Result<()> {
    check_name(name)?;
    ensure!(cap > Amount::ZERO && expires_s > 0, "a session with a cap or a time of 0 signs nothing: name more");
    let chain = context.chain().await?;
    let payer = chain.client.address().context("no account")?;
    let head = chain.head().await?;
    let last_block = last_block(&chain, &head, expires_s).await?;
    ensure!(!context.is_dry(), "--dry-run: a session begins with a key on disk; nothing was done");
    let signer = key(context, name, payer, &chain)?;
    let right = chain.client.session_of(payer, signer.address()).await?;
    if let Some(live) = right.filter(|right| right.expiry >= head.block.number && right.revoked_at.is_none()) {
        ensure!(
            cap >= live.cap && last_block >= live.expiry,
            "the session is live with a cap of {} until block {}: while it is, both may only grow; revoke it, or add another one",
            crate::output::money(live.cap),
            live.expiry
        );
    }
    context.output.note(&format!(
        "letting {} sign requests, lanes and vouchers for {payer} worth up to {} until block {last_block}",
        signer.address(),
        crate::output::money(cap)
    ));
    // The last block is counted from now, so the same command asks for another one each time.
    let sent = match chain.client.take_up(&["set signer"]).await? {
        Some(sent) => sent,
        None => chain.client.set_signer(signer.address(), cap, last_block).await?,
    };
    print(context, &chain, vec![name.to_owned()], Some(Transaction::new("set signer", &sent))).await
}

async fn revoke(context: &Context, name: &str) -> anyhow::Result<()> {
    let info = info(context, name)?;
    let chain = context.chain().await?;
    info.is_of(&chain)?;
    context
        .output
        .note(&format!("ending {name}: what it signed so far can be collected for {}", lasting(chain.deployment().config.thaw_s)));
    let sent = chain.client.revoke_signer(info.signer).await?;
    print(context, &chain, vec![name.to_owned()], Some(Transaction::new("revoke signer", &sent))).await
}

/// For whom a session signs.
pub(crate) fn payer(context: &Context, name: &str) -> anyhow::Result<Address> {
    info(context, name).map(|info| info.payer)
}

/// The key of a session that may sign now, with what the escrow says of it.
pub(crate) async fn live(context: &Context, name: &str, chain: &Chained, block: u64) -> anyhow::Result<(Account, SessionRight)> {
    let info = info(context, name)?;
    info.is_of(chain)?;
    let right = chain.client.session_of(info.payer, info.signer).await?;
    let left = lanes::admit_session(right, info.payer, info.signer, block).with_context(|| format!("session {name}"))?;
    ensure!(left > Amount::ZERO, "session {name} is used up: `tributary wallet session add {name}` with a higher --cap");
    let right = right.context("a session that is admitted is known")?;
    let signer = chain_bridge::wallet::load(&key_file(context, name), &context.password()?)?;
    ensure!(signer.address() == info.signer, "{}: the key is another one than its record says", key_file(context, name).display());
    Ok((signer, right))
}

impl Info {
    fn is_of(&self, chain: &Chained) -> anyhow::Result<()> {
        let deployment = chain.deployment();
        ensure!(
            (self.chain_id, self.escrow) == (deployment.chain_id, deployment.escrow),
            "the session is of chain {} with escrow {}, this is chain {} with escrow {}: add one here",
            self.chain_id,
            self.escrow,
            deployment.chain_id,
            deployment.escrow
        );
        Ok(())
    }
}

/// The session's key, made if it is not there: a run that was interrupted is finished by the next.
fn key(context: &Context, name: &str, payer: Address, chain: &Chained) -> anyhow::Result<Account> {
    let (file, record) = (key_file(context, name), info_file(context, name));
    let password = context.password()?;
    if context.data.has(&record)? {
        let info = info(context, name)?;
        info.is_of(chain)?;
        ensure!(info.payer == payer, "session {name} signs for {}: choose another name", info.payer);
    }
    let signer = if context.data.has(&file)? {
        chain_bridge::wallet::load(&file, &password)?
    } else {
        fs::create_dir_all(context.data.sessions()).with_context(|| context.data.sessions().display().to_string())?;
        chain_bridge::wallet::create(&file, &password)?
    };
    let deployment = chain.deployment();
    let info = Info { signer: signer.address(), payer, chain_id: deployment.chain_id, escrow: deployment.escrow };
    write_atomic(&record, &serde_json::to_vec_pretty(&info)?, 0o600).with_context(|| record.display().to_string())?;
    Ok(signer)
}

/// The block in which that many seconds from now end, by the chain's own pace.
async fn last_block(chain: &Chained, head: &Header, seconds: u64) -> anyhow::Result<u64> {
    let then = head.block.number.saturating_sub(PACE_BLOCKS);
    let earlier = chain.client.rpc().header(then).await?.with_context(|| format!("the chain does not show its block {then}"))?;
    Ok(paced(head, &earlier, seconds))
}

fn paced(head: &Header, earlier: &Header, seconds: u64) -> u64 {
    let blocks = u128::from(head.block.number.saturating_sub(earlier.block.number));
    let passed = u128::from(head.timestamp.saturating_sub(earlier.timestamp));
    // A chain without a past is taken to make a block a second.
    let due = (u128::from(seconds) * blocks).checked_div(passed).unwrap_or_else(|| u128::from(seconds));
    head.block.number.saturating_add(u64::try_from(due).unwrap_or(u64::MAX)).saturating_add(1)
}

async fn print(context: &Context, chain: &Chained, names: Vec<String>, transaction: Option<Transaction>) -> anyhow::Result<()> {
    let block = chain.head().await?.block.number;
    let mut sessions = Vec::new();
    for name in names {
        sessions.push(row(context, chain, name, block).await?);
    }
    let printed = Printed { sessions, transaction };
    context.output.result(&printed, || describe(&printed))
}

async fn row(context: &Context, chain: &Chained, name: String, block: u64) -> anyhow::Result<Row> {
    let Info { signer, payer, .. } = info(context, &name)?;
    let mut row = Row {
        name,
        signer,
        payer,
        state: "deployment",
        cap_wei: Amount::ZERO,
        spent_wei: Amount::ZERO,
        promised_wei: Amount::ZERO,
        last_block: 0,
        revoked_at: None,
    };
    if info(context, &row.name)?.is_of(chain).is_err() {
        return Ok(row);
    }
    let domains = chain.deployment().domains();
    row.promised_wei = Purse::open(context.data.path())?.spending(&domains, |books| Ok::<_, Refused>(books.of_key(signer)?))?;
    let Some(right) = chain.client.session_of(payer, signer).await? else {
        row.state = "unknown";
        return Ok(row);
    };
    row.state = match right.revoked_at {
        Some(_) => "revoked",
        None if right.expiry < block => "ended",
        None => "live",
    };
    (row.cap_wei, row.spent_wei, row.last_block, row.revoked_at) = (right.cap, right.spent, right.expiry, right.revoked_at);
    Ok(row)
}

fn describe(printed: &Printed) -> String {
    if printed.sessions.is_empty() {
        return "no sessions: `tributary wallet session add NAME --cap \"1 OPEN\" --expires 30d` makes one".to_owned();
    }
    let rows: Vec<Vec<String>> = printed
        .sessions
        .iter()
        .map(|row| {
            let money = [row.cap_wei, row.spent_wei, row.promised_wei].map(crate::output::money);
            [vec![row.name.clone(), row.state.to_owned()], money.to_vec(), vec![row.last_block.to_string(), row.signer.to_string()]]
                .concat()
        })
        .collect();
    let mut text = table(&["name", "state", "cap", "collected", "promised", "last block", "key"], &rows);
    if let Some(transaction) = &printed.transaction {
        text.push_str(&format!("\n{transaction}"));
    }
    text
}

fn check_name(name: &str) -> anyhow::Result<()> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    ensure!(
        is_plain && !name.is_empty() && name.len() <= NAME_MAX,
        "{name:?} is no name for a session: use 1 to {NAME_MAX} letters, digits, - and _"
    );
    Ok(())
}

fn key_file(context: &Context, name: &str) -> PathBuf {
    context.data.sessions().join(format!("{name}.json"))
}

fn info_file(context: &Context, name: &str) -> PathBuf {
    context.data.sessions().join(format!("{name}.info"))
}

fn info(context: &Context, name: &str) -> anyhow::Result<Info> {
    check_name(name)?;
    let path = info_file(context, name);
    if !context.data.has(&path)? {
        let known = names(context)?;
        bail!(
            "no session is called {name}: {}; `tributary wallet session add {name}` makes it",
            if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) }
        );
    }
    let bytes = read_bounded(&path, FILE_MAX).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&bytes).with_context(|| format!("{}: damaged record of a session", path.display()))
}

fn names(context: &Context) -> anyhow::Result<Vec<String>> {
    let folder = context.data.sessions();
    if !context.data.has(&folder)? {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "info") {
            names.extend(path.file_stem().and_then(|stem| Path::new(stem).to_str()).map(str::to_owned));
        }
    }
    names.sort();
    Ok(names)
}

/// Seconds of 90s, 30m, 12h or 30d.
fn seconds(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no duration: write 90s, 30m, 12h or 30d");
    let unit = text.chars().last().ok_or_else(wrong)?;
    let of = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(wrong()),
    };
    let count: u64 = text.strip_suffix(unit).and_then(|count| count.parse().ok()).ok_or_else(wrong)?;
    count.checked_mul(of).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use types::{id::Hash32, time::BlockRef};

    use super::*;

    fn header(number: u64, timestamp: u64) -> Header {
        Header { block: BlockRef { number, hash: Hash32::ZERO }, parent: Hash32::ZERO, timestamp }
    }

    #[test]
    fn durations_become_blocks_by_the_chains_pace() {
        assert_eq!(["90s", "30m", "12h", "30d"].map(seconds), [Ok(90), Ok(1_800), Ok(43_200), Ok(2_592_000)]);
        for text in ["", "d", "3", "3w", "-3d", "1.5h", "99999999999999999999d", "9999999999999999d"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(paced(&header(1_000, 2_000), &header(0, 0), 600), 1_301, "two seconds a block");
        assert_eq!(paced(&header(0, 7), &header(0, 7), 600), 601);
        assert_eq!(paced(&header(9, u64::MAX), &header(8, 0), u64::MAX), 11);
    }

    #[test]
    fn names_stay_inside_their_folder() {
        for name in ["phone", "a-b_9"] {
            check_name(name).unwrap();
        }
        for name in ["", "../wallet", "a/b", "a.b", "ä", "a b"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name(&"a".repeat(NAME_MAX + 1)).is_err());
    }
}
