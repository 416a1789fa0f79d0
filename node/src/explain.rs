//! Each transaction said in words before it is signed: what it does, to which contract, what it costs at most, what is left afterwards.
//!
//! Every command that sends goes through here, because the sender of its client asks ([`Explainer`] is its approval). A person at a terminal is
//! asked to go on; a script is told on standard error and not asked; `--yes` is not asked; `--dry-run` ends before the first signature. With
//! `--json` the same lines are the document's `transactions`.

use std::{
    fmt,
    io::{BufRead as _, IsTerminal as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use chain_bridge::{
    chain::error::ChainError,
    client::{
        quote::{Approval, Quote},
        send::Sent,
    },
    deploy::Deployment,
};
use serde::Serialize;
use types::{
    amount::Amount,
    id::{Address, Hash32},
};

use crate::output::money;

/// Whether a transaction may be signed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Consent {
    /// It was given beforehand: `--yes`, or nobody is there to ask.
    #[default]
    Given,
    /// A person at the terminal is asked.
    Asked,
    /// Nothing is signed: `--dry-run`.
    Refused,
}

impl Consent {
    /// What the command line and the terminal say.
    pub fn of(is_yes: bool, is_dry: bool) -> Self {
        let is_person = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        match (is_dry, is_yes) {
            (true, _) => Self::Refused,
            (false, false) if is_person => Self::Asked,
            _ => Self::Given,
        }
    }
}

/// One transaction, before it is signed and after it is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    #[serde(skip)]
    key: String,
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
    /// Gas: used, or as estimated while it is not in a block.
    pub gas: u64,
    /// Most gas it may use.
    pub gas_limit: u64,
    /// Per gas: paid, or expected.
    pub gas_price_wei: Amount,
    /// Fee for its bytes on the L1.
    pub l1_fee_wei: Amount,
    /// The operator's fee.
    pub operator_fee_wei: Amount,
    /// All fees: paid, or expected.
    pub cost_wei: Amount,
    /// The most that could leave the account, value included.
    pub most_wei: Amount,
    /// Balance before.
    pub balance_wei: Amount,
    /// Balance after the value and the expected fees.
    pub balance_after_wei: Amount,
    /// Its hash; nothing if it was not sent.
    pub transaction: Option<Hash32>,
    /// Its block.
    pub block: Option<u64>,
}

impl Row {
    fn new(key: &str, quote: &Quote, contract: Option<&'static str>) -> Self {
        Self {
            key: key.to_owned(),
            what: quote.what.clone(),
            does: words(quote),
            contract,
            to: quote.call.to,
            value_wei: quote.call.value,
            gas: quote.estimate,
            gas_limit: quote.gas,
            gas_price_wei: Amount(quote.price),
            l1_fee_wei: quote.l1_fee,
            operator_fee_wei: quote.operator_fee,
            cost_wei: quote.fee(),
            most_wei: quote.most(),
            balance_wei: quote.balance,
            balance_after_wei: quote.balance_after(),
            transaction: None,
            block: None,
        }
    }

    fn included(&mut self, sent: &Sent) {
        let l1 = sent.l1_fee.unwrap_or(self.l1_fee_wei);
        let paid = sent.gas_price.saturating_mul(u128::from(sent.gas_used));
        (self.gas, self.gas_price_wei, self.l1_fee_wei) = (sent.gas_used, Amount(sent.gas_price), l1);
        self.cost_wei = Amount(paid.saturating_add(l1.0).saturating_add(self.operator_fee_wei.0));
        (self.transaction, self.block) = (Some(sent.transaction), Some(sent.block.number));
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
        writeln!(f, "  gas      about {} at {}, at most {}", self.gas, money(self.gas_price_wei), self.gas_limit)?;
        writeln!(f, "  L1 data  {}, operator {}", money(self.l1_fee_wei), money(self.operator_fee_wei))?;
        writeln!(f, "  cost     about {}, with the amount at most {}", money(self.cost_wei), money(self.most_wei))?;
        write!(f, "  balance  {}, about {} afterwards", money(self.balance_wei), money(self.balance_after_wei))
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
        "commit contribution" => "fixes the place in time of a text that nobody has seen".into(),
        "accept contribution" => "brings an accepted contribution on the chain; its contributor is paid for what answers draw on it".into(),
        "commit proof" => "commits to a proof, so that nobody can copy it before it counts".into(),
        "transfer" => format!("pays {value}"),
        "claim credit" => "claims a credit note that its node did not honour".into(),
        "settle credit claim" => "has a claimed credit note that nobody paid taken out of the node's stake".into(),
        "pay credit claim" => format!("pays {value} for a claimed credit note into the payer's deposit"),
        "set signer" => "lets another key sign lanes and vouchers for the account, up to a cap and a block".into(),
        "revoke signer" => "ends a key that signs for the account, when the thaw is over".into(),
        "request refund" => "asks for what an expired lane collected above its receipts".into(),
        "deployment" => "puts the whole suite of contracts on the chain".into(),
        _ if quote.call.to.is_none() => "puts a contract on the chain".into(),
        what if what.contains("prove") || what.contains("proof") => "proves a fault; the node that is at fault loses stake".into(),
        what => what.to_owned(),
    }
}

/// What was explained so far, shared by all who print.
pub type Explained = Arc<Mutex<Vec<Row>>>;

/// Explains what a command is about to sign.
#[derive(Debug)]
pub struct Explainer {
    /// How consent is given.
    pub consent: Consent,
    /// Nothing is written beside the one document.
    pub is_json: bool,
    /// Where it is noted.
    pub explained: Explained,
    /// The deployment's contracts by name.
    pub contracts: Vec<(&'static str, Address)>,
}

impl Explainer {
    /// For a deployment.
    pub fn new(consent: Consent, is_json: bool, explained: Explained, deployment: &Deployment) -> Self {
        Self { consent, is_json, explained, contracts: deployment.contracts().to_vec() }
    }

    /// Shows one row and asks, as consent demands.
    ///
    /// # Errors
    /// [`ChainError::NotSent`].
    pub fn ask(&self, row: &Row) -> Result<(), ChainError> {
        let refuse = |why: &str| Err(ChainError::NotSent { what: row.what.clone(), why: why.to_owned() });
        match self.consent {
            Consent::Refused => refuse("--dry-run signs nothing"),
            Consent::Given => {
                if !self.is_json {
                    // Nobody reads it: the work goes on all the same.
                    drop(writeln!(std::io::stderr(), "{row}"));
                }
                Ok(())
            }
            Consent::Asked => {
                let mut err = std::io::stderr().lock();
                let asked = write!(err, "{row}\ngo on? [y/N] ").and_then(|()| err.flush());
                let mut answer = String::new();
                let answered = asked.and_then(|()| std::io::stdin().lock().read_line(&mut answer));
                match answered {
                    Ok(_) if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") => Ok(()),
                    Ok(_) => refuse("you did not say yes"),
                    Err(error) => refuse(&format!("nobody could be asked ({error}): give --yes")),
                }
            }
        }
    }

    fn note(&self, row: Row) {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }
}

impl Approval for Explainer {
    fn approve(&self, key: &str, quote: &Quote) -> Result<(), ChainError> {
        let contract = self.contracts.iter().find(|(_, address)| Some(*address) == quote.call.to).map(|(name, _)| *name);
        let row = Row::new(key, quote, contract);
        if self.consent == Consent::Refused {
            self.note(row.clone());
            return self.ask(&row);
        }
        quote.affordable()?;
        self.ask(&row)?;
        self.note(row);
        Ok(())
    }

    fn included(&self, key: &str, sent: &Sent, _: bool) {
        let mut rows = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.iter_mut().rev().find(|row| row.key == key) {
            row.included(sent);
        }
    }
}

/// Several transactions as one row: what is asked once for a whole deployment.
pub fn together(what: &str, quotes: &[Quote]) -> Option<Row> {
    let first = quotes.first()?;
    let mut row = Row::new(what, first, None);
    row.what = what.to_owned();
    row.does = format!("{} transactions that put the contracts on the chain and introduce them to one another", quotes.len());
    let sum = |of: fn(&Quote) -> u128| Amount(quotes.iter().fold(0, |sum, quote| of(quote).saturating_add(sum)));
    row.gas = quotes.iter().map(|quote| quote.estimate).sum();
    row.gas_limit = quotes.iter().map(|quote| quote.gas).sum();
    row.l1_fee_wei = sum(|quote| quote.l1_fee.0);
    row.operator_fee_wei = sum(|quote| quote.operator_fee.0);
    row.cost_wei = sum(|quote| quote.fee().0);
    row.most_wei = sum(|quote| quote.most().0);
    row.balance_after_wei = Amount(row.balance_wei.0.saturating_sub(row.cost_wei.0).saturating_sub(sum(|quote| quote.call.value.0).0));
    Some(row)
}

/// What was explained and not sent, for people.
pub fn unsent(rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows.iter().filter(|row| row.transaction.is_none()) {
        text.push_str(&format!("\n\nnot sent\n{row}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use chain_bridge::{chain::Call, outbox::Fees};
    use types::time::BlockRef;

    use super::*;

    fn quote() -> Quote {
        Quote {
            what: "deposit".into(),
            account: Address([7; 20]),
            call: Call { to: Some(Address([5; 20])), data: vec![1], value: Amount(1_000) },
            estimate: 50,
            gas: 70,
            price: 2,
            fees: Fees { most: 4, tip: 0 },
            l1_fee: Amount(9),
            operator_fee: Amount(1),
            balance: Amount(5_000),
        }
    }

    fn explainer(consent: Consent) -> Explainer {
        Explainer { consent, is_json: true, explained: Explained::default(), contracts: vec![("InferenceEscrow", Address([5; 20]))] }
    }

    #[test]
    fn a_dry_run_notes_the_transaction_and_refuses_it() {
        let explainer = explainer(Consent::Refused);
        let error = explainer.approve("k", &quote()).unwrap_err();
        assert!(matches!(&error, ChainError::NotSent { .. }), "{error}");
        let rows = explainer.explained.lock().unwrap().clone();
        assert_eq!((rows[0].contract, rows[0].transaction), (Some("InferenceEscrow"), None));
        assert_eq!((rows[0].cost_wei, rows[0].most_wei, rows[0].balance_after_wei), (Amount(110), Amount(1_290), Amount(3_890)));
        let text = unsent(&rows);
        for says in
            ["not sent", "puts 0.000000000000001 OPEN into the escrow", "InferenceEscrow at 0x0505", "L1 data", "operator", "at most"]
        {
            assert!(text.contains(says), "{says}: {text}");
        }
    }

    #[test]
    fn what_was_paid_replaces_what_was_expected() {
        let explainer = explainer(Consent::Given);
        explainer.approve("k", &quote()).unwrap();
        let mut row = explainer.explained.lock().unwrap()[0].clone();
        assert_eq!(row.gas, 50);
        let block = BlockRef { number: 7, hash: Hash32::ZERO };
        let sent = Sent::for_tests(Hash32([3; 32]), block, 40, 2);
        explainer.included("k", &sent, true);
        row = explainer.explained.lock().unwrap()[0].clone();
        assert_eq!((row.gas, row.cost_wei, row.block, row.transaction), (40, Amount(90), Some(7), Some(Hash32([3; 32]))));
        assert!(unsent(&[row]).is_empty());
    }

    #[test]
    fn several_are_asked_about_as_one() {
        let row = together("deployment", &[quote(), quote()]).unwrap();
        assert_eq!((row.gas, row.cost_wei, row.most_wei, row.balance_after_wei), (100, Amount(220), Amount(2_580), Amount(2_780)));
        assert_eq!(together("deployment", &[]), None);
    }
}
