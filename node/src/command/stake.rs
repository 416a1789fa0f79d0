//! `tributary stake`: what an operator puts at risk so that others may rely on its node.

mod release;

use anyhow::{Context as _, ensure};
use chain_bridge::{
    chain::error::ChainError,
    client::ChainClient,
    client::send::Sent,
    registry::{
        money::{ROLE_INDEXER, ROLE_NODE, ROLE_POSTER, Slash},
        state::Operator,
    },
};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32, NodeId},
};

use super::{Context, certain::Certain, sent::Transaction};
use crate::{
    chain::Chained,
    output::money,
    when::{lasting, when},
};

/// Fees that may be open are the slashable stake divided by this, as `Settlement` has it.
const EXPOSURE_DIVISOR: u128 = 10;

/// Stake of this node's operator.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A node that signs a false receipt loses stake; an honest one takes all of it back. Stake binds the wallet's account to the node\nkey of this data folder.\n\nExamples:\n  tributary stake add \"100 OPEN\"     registers the node the first time, adds to its stake afterwards\n  tributary stake status               roles, slashes that wait, faults, how much may be open\n  tributary stake unbond \"40 OPEN\"   starts the wait; slashable until it is withdrawn\n  tributary stake withdraw           takes what has waited long enough\n  tributary stake leave poster         gives a role up\n  tributary stake release              divides the slashes that this account is owed a part of"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Register this folder's node with a stake, or add to it.
    Add {
        /// How much.
        amount: Amount,
        /// Account that the node's earnings go to [default: the wallet's].
        #[arg(long, value_name = "ADDRESS")]
        payout: Option<Address>,
    },
    /// Show the stake: what it is bound to, its roles, slashes that wait, faults of the last 90 days, what it still lets be open.
    #[command(alias = "show")]
    Status,
    /// Start to withdraw part of the stake.
    Unbond {
        /// How much.
        amount: Amount,
    },
    /// Take back what was unbonded and has waited long enough.
    Withdraw,
    /// Give up roles; what they demanded of the stake can be unbonded then.
    Leave {
        /// Which.
        #[arg(required = true)]
        roles: Vec<Role>,
    },
    /// Divide slashes whose wait is over: to who was wronged, to who proved the fault, the rest burned or insured.
    Release {
        /// Faults whose slashes to divide [default: all that are due and concern this account].
        faults: Vec<Hash32>,
    },
}

/// What an account is bonded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Role {
    /// Answers clients.
    Node,
    /// Posts payout trees.
    Poster,
    /// Posts index roots.
    Indexer,
}

impl Role {
    const fn bit(self) -> u8 {
        match self {
            Self::Node => ROLE_NODE,
            Self::Poster => ROLE_POSTER,
            Self::Indexer => ROLE_INDEXER,
        }
    }
}

/// What is at stake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Stake {
    account: Address,
    is_registered: bool,
    node: Option<NodeId>,
    incarnation: u64,
    payout: Option<Address>,
    active_wei: Amount,
    unbonding_wei: Amount,
    /// Seconds since 1970 from which the unbonding part can be taken; 0 if there is none.
    unbonded_at: u64,
    /// What the account's roles demand of the active stake.
    least_wei: Amount,
    is_bonded: bool,
    /// `node`, `poster`, `indexer`.
    roles: Vec<&'static str>,
    /// What a fault can take: active and unbonding.
    slashable_wei: Amount,
    /// Faults within 90 days: each doubles what the next one takes.
    faults: u64,
    /// Slashes of the account that were not divided yet.
    slashes: Vec<SlashRow>,
    exposure: Exposure,
    /// What its stake has earned as a share of all answers' fees.
    rewards_wei: Amount,
    /// Active stake and rewards by each head.
    certainty: Certain<Known>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transaction: Option<Transaction>,
}

/// What differs while transactions are not final.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
struct Known {
    active_wei: Amount,
    slashable_wei: Amount,
    rewards_wei: Amount,
}

/// A slash in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct SlashRow {
    fault: Hash32,
    amount_wei: Amount,
    /// What the victim claims to have lost.
    victim_wei: Amount,
    /// Which fault it was of those within 90 days.
    number: u8,
    /// Seconds since 1970 from which anybody may divide it.
    release_at: u64,
}

/// How much may be open: fees of node roots whose epoch is not final stay below a tenth of the bond, which leaves out what unbonds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Exposure {
    open_wei: Amount,
    most_wei: Amount,
    left_wei: Amount,
}

/// How stake is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adding {
    /// Under this incarnation: a new operator, or one whose folder has another node key or payout account.
    Register(u64),
    /// To what is there.
    Increase,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let chain = context.chain().await?;
    let account = chain.client.address().context("no account")?;
    // What is decided below is about the chain as it was before an earlier run of this command changed it.
    let earlier = match args.action {
        Action::Add { .. } => take_up(&chain, &["stake", "increase stake"]).await?,
        Action::Unbond { .. } => take_up(&chain, &["unbond"]).await?,
        Action::Leave { .. } => take_up(&chain, &["give up roles"]).await?,
        Action::Withdraw => take_up(&chain, &["withdraw stake"]).await?,
        Action::Status | Action::Release { .. } => None,
    };
    if let Some(earlier) = earlier {
        if matches!(args.action, Action::Add { .. }) {
            take_on_roles(context, &chain, account, Amount::ZERO).await?;
        }
        return print(context, &chain, account, Some(earlier)).await;
    }
    let known = chain.client.operator(account).await?;
    let transaction = match args.action {
        Action::Add { amount, payout } => Some(add(context, &chain, account, known, amount, payout).await?),
        Action::Status => None,
        Action::Release { faults } => return release::run(context, &chain, account, &faults).await,
        Action::Unbond { amount } => {
            let known = known.context("this account never staked: there is nothing to unbond")?;
            ensure!(
                amount > Amount::ZERO && amount <= known.active,
                "{} cannot be unbonded: the active stake is {}",
                money(amount),
                money(known.active)
            );
            let wait = chain.deployment().config.unbonding_s;
            context.output.note(&format!(
                "unbonding {}; it can be withdrawn in {} and stays slashable until then",
                money(amount),
                lasting(wait)
            ));
            Some(Transaction::new("unbond", &chain.client.unbond(amount).await?))
        }
        Action::Leave { roles: given } => {
            let bits = given.iter().fold(0, |bits, role| bits | role.bit());
            let held = known.map_or(0, |known| known.roles);
            ensure!(held & bits == bits, "this account has the roles {:?}: only those can be given up", roles(held));
            Some(Transaction::new("give up roles", &chain.client.quit(bits).await?))
        }
        Action::Withdraw => {
            let known = known.context("this account never staked: there is nothing to withdraw")?;
            ensure!(known.unbonding > Amount::ZERO, "nothing is unbonding: `tributary stake unbond AMOUNT` comes first");
            let now = chain.head().await?.timestamp;
            ensure!(
                known.unbonded_at <= now,
                "{} can be withdrawn from {} on: run this again then",
                money(known.unbonding),
                when(known.unbonded_at, now)
            );
            context.output.note(&format!("withdrawing {} of stake, but for what claimed credit notes will take", money(known.unbonding)));
            Some(Transaction::new("withdraw stake", &chain.client.withdraw_stake().await?))
        }
    };
    print(context, &chain, account, transaction).await
}

async fn add(
    context: &Context,
    chain: &Chained,
    account: Address,
    known: Option<Operator>,
    amount: Amount,
    payout: Option<Address>,
) -> anyhow::Result<Transaction> {
    ensure!(amount > Amount::ZERO, "a stake of 0 changes nothing: name an amount, for instance \"100 OPEN\"");
    let node = context.seed()?.node_id();
    match adding(known.as_ref(), node, payout) {
        Adding::Increase => {
            context.output.note(&format!("adding {} to the stake of node {node}", money(amount)));
            let increased = chain.client.unless_rehearsed(chain.client.increase_stake(amount).await)?;
            take_on_roles(context, chain, account, unsent(increased.as_ref(), amount)).await?;
            done("increase stake", increased)
        }
        Adding::Register(incarnation) => {
            let payout = payout.or_else(|| known.map(|known| known.payout)).unwrap_or(account);
            context.output.note(&format!(
                "registering node {node} under account {account} with {}, incarnation {incarnation}, paid to {payout}",
                money(amount)
            ));
            let registered = chain.client.unless_rehearsed(chain.client.stake(node, incarnation, payout, amount).await)?;
            take_on_roles(context, chain, account, unsent(registered.as_ref(), amount)).await?;
            done("register and stake", registered)
        }
    }
}

/// What an earlier run of this command sent as one of `whats`.
async fn take_up(chain: &Chained, whats: &[&str]) -> anyhow::Result<Option<Transaction>> {
    Ok(chain.client.take_up(whats).await?.map(|sent| Transaction::new(if whats.len() > 1 { "stake" } else { whats[0] }, &sent)))
}

/// What a dry run would have added.
const fn unsent(sent: Option<&Sent>, amount: Amount) -> Amount {
    if sent.is_some() { Amount::ZERO } else { amount }
}

/// The transaction; a dry run has said all it can.
fn done(what: &str, sent: Option<Sent>) -> anyhow::Result<Transaction> {
    let why = "--dry-run signs nothing".to_owned();
    sent.map(|sent| Transaction::new(what, &sent)).ok_or_else(|| ChainError::NotSent { what: what.to_owned(), why }.into())
}

/// A node also posts payout trees and index roots, as soon as its stake reaches what all three roles demand. `unsent` is what a dry run left out.
async fn take_on_roles(context: &Context, chain: &Chained, account: Address, unsent: Amount) -> anyhow::Result<()> {
    let all = ROLE_NODE | ROLE_POSTER | ROLE_INDEXER;
    let (least, active) = (chain.client.least_stake(all).await?, chain.client.stake_of(account).await?.plus(unsent)?);
    if chain.client.is_bonded_as(account, all).await? {
        return Ok(());
    }
    if active < least {
        context.output.note(&format!("to post payouts and index roots as well, a stake of {} is needed", money(least)));
        return Ok(());
    }
    context.output.note("taking on the roles that post payouts and index roots");
    chain.client.unless_rehearsed(chain.client.join(ROLE_POSTER | ROLE_INDEXER, Amount::ZERO).await)?;
    Ok(())
}

/// Incarnations count the registrations of an account: each is one above the last, so the chain alone decides which copy counts.
fn adding(known: Option<&Operator>, node: NodeId, payout: Option<Address>) -> Adding {
    match known {
        None => Adding::Register(1),
        Some(known) if known.node == node && payout.is_none_or(|payout| payout == known.payout) => Adding::Increase,
        Some(known) => Adding::Register(known.incarnation.saturating_add(1)),
    }
}

async fn print(context: &Context, chain: &Chained, account: Address, transaction: Option<Transaction>) -> anyhow::Result<()> {
    let client = &chain.client;
    let known = client.operator(account).await?;
    let state = chain.state().await?;
    let waiting = state.slashes().iter().filter(|slash| slash.account == account && slash.released.is_none());
    let (slashable_wei, open_wei) = (client.slashable_of(account).await?, client.open_fees_of(account).await?);
    let most_wei = Amount(client.bond_of(account).await?.0 / EXPOSURE_DIVISOR);
    let held = known.map_or(0, |known| known.roles);
    let certainty = Certain::read(client, async |client: ChainClient| {
        Ok(Known {
            active_wei: client.stake_of(account).await?,
            slashable_wei: client.slashable_of(account).await?,
            rewards_wei: client.rewards_of(account).await?,
        })
    })
    .await?;
    let stake = Stake {
        account,
        is_registered: known.is_some(),
        node: known.map(|known| known.node),
        incarnation: known.map_or(0, |known| known.incarnation),
        payout: known.map(|known| known.payout),
        active_wei: known.map_or(Amount::ZERO, |known| known.active),
        unbonding_wei: known.map_or(Amount::ZERO, |known| known.unbonding),
        unbonded_at: known.map_or(0, |known| known.unbonded_at),
        least_wei: client.least_stake(if held == 0 { ROLE_NODE } else { held }).await?,
        is_bonded: client.is_bonded(account).await?,
        roles: roles(held),
        slashable_wei,
        faults: client.recent_faults(account).await?,
        slashes: waiting.map(row).collect(),
        exposure: Exposure { open_wei, most_wei, left_wei: Amount(most_wei.0.saturating_sub(open_wei.0)) },
        rewards_wei: certainty.pending.rewards_wei,
        certainty,
        transaction,
    };
    let now = chain.head().await?.timestamp;
    context.output.result(&stake, || describe(&stake, now))
}

const fn row(slash: &Slash) -> SlashRow {
    SlashRow {
        fault: slash.fault,
        amount_wei: slash.amount,
        victim_wei: slash.victim_amount,
        number: slash.number,
        release_at: slash.release_at,
    }
}

/// Roles by their bits.
fn roles(bits: u8) -> Vec<&'static str> {
    let all = [(ROLE_NODE, "node"), (ROLE_POSTER, "poster"), (ROLE_INDEXER, "indexer")];
    all.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, name)| *name).collect()
}

fn describe(stake: &Stake, now: u64) -> String {
    let mut text = match (stake.node, stake.payout) {
        (Some(node), Some(payout)) => format!(
            "account  {}\nnode     {node} (incarnation {})\npayout   {payout}\nstake    {}, at least {} are needed: {}",
            stake.account,
            stake.incarnation,
            money(stake.active_wei),
            money(stake.least_wei),
            if stake.is_bonded { "bonded" } else { "not bonded" }
        ),
        _ => format!(
            "account {} has no stake; `tributary stake add \"{}\"` registers this folder's node",
            stake.account,
            money(stake.least_wei)
        ),
    };
    if stake.unbonding_wei > Amount::ZERO {
        text.push_str(&format!("\nunbonding {}, to be withdrawn from {} on", money(stake.unbonding_wei), when(stake.unbonded_at, now)));
    }
    if stake.is_registered {
        let exposure = &stake.exposure;
        text.push_str(&format!(
            "\nroles    {}\nopen     {} of at most {}: node roots may add {}\nfaults   {} within 90 days",
            if stake.roles.is_empty() { "none".to_owned() } else { stake.roles.join(", ") },
            money(exposure.open_wei),
            money(exposure.most_wei),
            money(exposure.left_wei),
            stake.faults
        ));
    }
    for slash in &stake.slashes {
        text.push_str(&format!(
            "\nslash    {} for fault {} (number {}), to be divided from {} on",
            money(slash.amount_wei),
            slash.fault,
            slash.number,
            when(slash.release_at, now)
        ));
    }
    if stake.rewards_wei > Amount::ZERO {
        text.push_str(&format!("\nearned   {} as a staker", money(stake.rewards_wei)));
    }
    text.push_str(&stake.certainty.lines(|known| {
        format!("stake {}, slashable {}, {} earned", money(known.active_wei), money(known.slashable_wei), money(known.rewards_wei))
    }));
    if let Some(row) = &stake.transaction {
        text.push_str(&format!("\n{row}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operator(node: u8, incarnation: u64) -> Operator {
        let account = Address([1; 20]);
        Operator {
            account,
            node: NodeId([node; 32]),
            incarnation,
            payout: account,
            active: Amount(9),
            unbonding: Amount::ZERO,
            unbonded_at: 0,
            roles: 1,
        }
    }

    #[test]
    fn each_registration_has_the_next_incarnation_and_more_stake_needs_none() {
        let node = NodeId([5; 32]);
        assert_eq!(adding(None, node, None), Adding::Register(1));
        assert_eq!(adding(Some(&operator(5, 3)), node, None), Adding::Increase);
        assert_eq!(adding(Some(&operator(5, 3)), node, Some(Address([1; 20]))), Adding::Increase);
        assert_eq!(adding(Some(&operator(5, 3)), node, Some(Address([2; 20]))), Adding::Register(4));
        assert_eq!(adding(Some(&operator(6, 3)), node, None), Adding::Register(4));
    }

    fn stake() -> Stake {
        Stake {
            account: Address([1; 20]),
            is_registered: false,
            node: None,
            incarnation: 0,
            payout: None,
            active_wei: Amount::ZERO,
            unbonding_wei: Amount::ZERO,
            unbonded_at: 0,
            least_wei: Amount(types::amount::WEI_PER_OPEN),
            is_bonded: false,
            roles: vec![],
            slashable_wei: Amount::ZERO,
            faults: 0,
            slashes: vec![],
            exposure: Exposure { open_wei: Amount::ZERO, most_wei: Amount::ZERO, left_wei: Amount::ZERO },
            rewards_wei: Amount::ZERO,
            certainty: Certain::default(),
            transaction: None,
        }
    }

    #[test]
    fn roles_faults_waiting_slashes_and_exposure_are_shown() {
        let open = |count: u128| Amount(count * types::amount::WEI_PER_OPEN);
        let slash = SlashRow { fault: Hash32([4; 32]), amount_wei: open(2), victim_wei: open(1), number: 1, release_at: 99 };
        let known = Stake {
            is_registered: true,
            node: Some(NodeId([5; 32])),
            payout: Some(Address([1; 20])),
            roles: roles(ROLE_NODE | ROLE_INDEXER),
            faults: 1,
            slashes: vec![slash],
            exposure: Exposure { open_wei: open(1), most_wei: open(4), left_wei: open(3) },
            ..stake()
        };
        let text = describe(&known, 9);
        for says in [
            "node, indexer",
            "1 OPEN of at most 4 OPEN: node roots may add 3 OPEN",
            "1 within 90 days",
            "slash    2 OPEN",
            "from 1970-01-01 00:01:39 UTC (in 90 s)",
        ] {
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn an_account_without_stake_is_told_what_to_do() {
        let none = stake();
        assert!(describe(&none, 9).contains("stake add \"1 OPEN\""));
        assert_eq!(serde_json::to_value(&none).unwrap()["active_wei"], "0");
    }
}
