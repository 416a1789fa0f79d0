//! One transaction in words and figures.

use std::fmt;

use chain_bridge::client::{quote::Quote, send::Sent};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::output::money;

/// One transaction, before it is signed and after it is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    #[serde(skip)]
    pub(super) key: String,
    /// The operation.
    pub what: String,
    /// What it does, in words.
    pub does: String,
    /// Name of the contract that is called, if it is one of the deployment's.
    pub contract: Option<&'static str>,
    /// Whom it calls; nothing creates a contract.
    pub to: Option<Address>,
    /// Sent along.
    pub value_wei: Amount,
    /// Gas: used, or as estimated while it is not in a block; nothing where it depends on a transaction that was not sent.
    pub gas: Option<u64>,
    /// Most gas it may use.
    pub gas_limit: Option<u64>,
    /// Per gas: paid, or expected.
    pub gas_price_wei: Amount,
    /// Fee for its bytes on the L1.
    pub l1_fee_wei: Amount,
    /// Whether that fee is known: where the chain's receipts do not name it, only the run that sent a transaction knows what was quoted.
    pub is_l1_fee_known: bool,
    /// The operator's fee.
    pub operator_fee_wei: Amount,
    /// All fees: paid, or expected.
    pub cost_wei: Option<Amount>,
    /// The most that could leave the account: the value, all gas at the highest fee that it may come to offer, and the other fees.
    pub most_wei: Option<Amount>,
    /// Balance before.
    pub balance_wei: Amount,
    /// Balance after the value and the expected fees.
    pub balance_after_wei: Option<Amount>,
    /// Its hash; nothing if it was not sent.
    pub transaction: Option<Hash32>,
    /// Its block.
    pub block: Option<u64>,
    /// Whether an earlier run of the command sent it, which was stopped before it told so.
    pub is_resumed: bool,
    /// Whether it could be tried; not where it depends on a transaction that was not sent.
    pub is_simulated: bool,
}

impl Row {
    pub(super) fn new(key: &str, quote: &Quote, contract: Option<&'static str>) -> Self {
        let known = |amount| quote.is_simulated.then_some(amount);
        Self {
            key: key.to_owned(),
            what: quote.what.clone(),
            does: words(quote),
            contract,
            to: quote.call.to,
            value_wei: quote.call.value,
            gas: quote.is_simulated.then_some(quote.estimate),
            gas_limit: quote.is_simulated.then_some(quote.gas),
            gas_price_wei: Amount(quote.price),
            l1_fee_wei: quote.l1_fee,
            is_l1_fee_known: true,
            operator_fee_wei: quote.operator_fee,
            cost_wei: known(quote.fee()),
            most_wei: known(quote.most()),
            balance_wei: quote.balance,
            balance_after_wei: known(quote.balance_after()),
            transaction: None,
            block: None,
            is_resumed: false,
            is_simulated: quote.is_simulated,
        }
    }

    pub(super) fn included(&mut self, sent: &Sent) {
        let l1 = sent.l1_fee.unwrap_or(self.l1_fee_wei);
        let paid = sent.gas_price.saturating_mul(u128::from(sent.gas_used));
        (self.gas, self.gas_price_wei, self.l1_fee_wei) = (Some(sent.gas_used), Amount(sent.gas_price), l1);
        self.cost_wei = Some(Amount(paid.saturating_add(l1.0).saturating_add(self.operator_fee_wei.0)));
        (self.transaction, self.block) = (Some(sent.transaction), Some(sent.block.number));
    }

    /// One that an earlier run sent, and what it cost.
    pub(super) fn resumed(mut self, sent: &Sent) -> Self {
        self.included(sent);
        self.is_l1_fee_known = sent.l1_fee.is_some();
        // Its cost is behind it.
        (self.is_resumed, self.most_wei, self.balance_after_wei) = (true, None, None);
        self
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {}", self.what, self.does)?;
        match (self.contract, self.to) {
            (Some(contract), Some(to)) => writeln!(f, "  to       {contract} at {to}")?,
            (None, Some(to)) => writeln!(f, "  to       {to}")?,
            _ => writeln!(f, "  to       a new contract")?,
        }
        writeln!(f, "  amount   {}", money(self.value_wei))?;
        let Self {
            gas: Some(gas), gas_limit: Some(limit), cost_wei: Some(cost), most_wei: Some(most), balance_after_wei: Some(after), ..
        } = self
        else {
            writeln!(f, "  gas      not simulated: it depends on the transaction before it, which was not sent")?;
            writeln!(f, "  L1 data  {}", money(self.l1_fee_wei))?;
            return write!(f, "  balance  {}", money(self.balance_wei));
        };
        writeln!(f, "  gas      about {gas} at {}, at most {limit}", money(self.gas_price_wei))?;
        writeln!(f, "  L1 data  {}, operator {}", money(self.l1_fee_wei), money(self.operator_fee_wei))?;
        writeln!(f, "  cost     about {}, with the amount at most {}, every fee rise included", money(*cost), money(*most))?;
        write!(f, "  balance  {}, about {} afterwards", money(self.balance_wei), money(*after))
    }
}

/// What an operation does. Those of nodes that run by themselves are not here: nobody is asked about them.
fn words(quote: &Quote) -> String {
    let value = money(quote.call.value);
    match quote.what.as_str() {
        "deposit" => format!("puts {value} into the escrow, from which answers are paid; asked back, it thaws first"),
        "request withdrawal" => "asks for part of the deposit back; it can be taken when it has thawed".into(),
        "withdraw" => "takes what has thawed out of the escrow".into(),
        "stake" => format!("registers this folder's node under the account and puts {value} at stake; a proven fault takes part of it"),
        "increase stake" => format!("adds {value} to the stake; a proven fault takes part of it"),
        "take on roles" => "takes on the roles that post payouts and index roots; a proven fault of theirs takes stake too".into(),
        "give up roles" => "gives up roles; the stake stays until it is unbonded".into(),
        "unbond" => "starts to withdraw stake; it stays slashable until its wait is over".into(),
        "withdraw stake" => "takes stake whose wait is over".into(),
        "release slash" => "divides a slash whose delay is over: victim, reporter, burn, insurance".into(),
        "claim" => "takes what the last final payout owes the account".into(),
        "claim for many" => "has the last final payout pay other accounts; this account pays the fees and gets nothing".into(),
        "enter contribution" => "lets a contribution share in what its Datanet's treasury earns from now on".into(),
        "claim treasury share" => "pays a contributor what its contribution earned of the Datanet's treasury".into(),
        "claim stakers' share" => "takes what the account's stake has earned".into(),
        "register asset" => "makes a new asset that belongs to the account".into(),
        "publish version" => "publishes a version for good: what it holds and how its fees are divided can never be changed".into(),
        "freeze version" => "ends a version for good: no answer may name it any more".into(),
        "redirect version" => "ends a version for good and puts another one in its place".into(),
        "set reviewer" => "says whether an account may sign reports on contributions to the account's Datanet".into(),
        "commit contribution" => "fixes the place in time of a text that nobody has seen".into(),
        "accept contribution" => "brings an accepted contribution on the chain; its contributor is paid for what answers draw on it".into(),
        "erase contribution" => {
            "asks for good that a contribution be erased: nodes serve it no more, and delete it once the request is final".into()
        }
        "commit proof" => "commits to a proof, so that nobody can copy it before it counts".into(),
        "transfer" => format!("pays {value}"),
        "claim credit" => "claims a credit note that its node did not honour".into(),
        "settle credit claim" => "has a claimed credit note that nobody paid taken out of the node's stake".into(),
        "give up credit claim" => "gives up a claimed credit note that nobody pays, so that the lane's refund counts it as not paid".into(),
        "pay credit claim" => format!("pays {value} for a claimed credit note into the payer's deposit"),
        "set signer" => "lets another key sign lanes and vouchers for the account, up to a cap and a block".into(),
        "revoke signer" => "ends a key that signs for the account, when the thaw is over".into(),
        "enlist for audits" => {
            format!("leaves {value} with the roll of nodes that audit each other, and puts this one on it from the next epoch on")
        }
        "resign from audits" => "takes this node off the roll of nodes that audit each other; its deposit comes back".into(),
        "strike off the roll" => {
            "takes a node without stake off the roll of those that audit each other; its deposit is this account's".into()
        }
        "announce audit beacon" => "announces the block whose hash draws this epoch's auditors".into(),
        "store audit beacon" => "stores the hash that draws an epoch's auditors".into(),
        "claim rent" => "has rent paid to nodes that passed their audits, for the fragments they held".into(),
        "give unearned rent back" => "makes prepaid again what no node earned of a Datanet's rent".into(),
        "request refund" => "asks for what an expired lane collected above its receipts".into(),
        "deployment" => "puts the whole suite of contracts on the chain".into(),
        _ if quote.call.to.is_none() => "puts a contract on the chain".into(),
        what if what.contains("prove") || what.contains("proof") => "proves a fault; the node that is at fault loses stake".into(),
        what => what.to_owned(),
    }
}

/// Several transactions as one row: what is asked once for a whole deployment.
pub fn together(what: &str, quotes: &[Quote]) -> Option<Row> {
    let first = quotes.first()?;
    let mut row = Row::new(what, first, None);
    row.what = what.to_owned();
    row.does = format!("{} transactions that put the contracts on the chain and introduce them to one another", quotes.len());
    let sum = |of: fn(&Quote) -> u128| Amount(quotes.iter().fold(0, |sum, quote| of(quote).saturating_add(sum)));
    row.gas = Some(quotes.iter().map(|quote| quote.estimate).sum());
    row.gas_limit = Some(quotes.iter().map(|quote| quote.gas).sum());
    row.l1_fee_wei = sum(|quote| quote.l1_fee.0);
    row.operator_fee_wei = sum(|quote| quote.operator_fee.0);
    let cost = sum(|quote| quote.fee().0);
    row.cost_wei = Some(cost);
    row.most_wei = Some(sum(|quote| quote.most().0));
    row.balance_after_wei = Some(Amount(row.balance_wei.0.saturating_sub(cost.0).saturating_sub(sum(|quote| quote.call.value.0).0)));
    Some(row)
}
