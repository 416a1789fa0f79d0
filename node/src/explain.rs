//! Each transaction said in words before it is signed: what it does, to which contract, what it costs at most, what is left afterwards.
//!
//! Every command that sends goes through here, because the sender of its client asks ([`Explainer`] is its approval). A person at a terminal is
//! asked to go on; a script is told on standard error and not asked; `--yes` is not asked; `--dry-run` signs nothing and goes through all the same. With
//! `--json` the same lines are the document's `transactions`. What is waited for, and what an earlier run has sent already, is said here too.

mod pending;
mod row;

use std::{
    io::{BufRead as _, IsTerminal as _, Write as _},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use chain_bridge::{
    chain::error::ChainError,
    client::{
        approval::{Approval, Waiting},
        quote::Quote,
        send::Sent,
    },
    deploy::Deployment,
    outbox::Untold,
};
use types::id::{Address, Hash32};

use self::pending::Pending;
pub use self::row::{Row, together};
use crate::{
    output::{Output, money, say},
    when::{ago, now},
    words,
};

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

/// What was explained so far, shared by all who print.
pub type Explained = Arc<Mutex<Vec<Row>>>;

/// Explains what a command is about to sign, and says what becomes of it.
#[derive(Debug)]
pub struct Explainer {
    /// How consent is given.
    pub consent: Consent,
    /// Whether the person who would be asked has agreed to all of it.
    pub agreed: Arc<AtomicBool>,
    /// Nothing is written beside the one document, but for what is waited for.
    pub is_json: bool,
    /// Where it is noted.
    pub explained: Explained,
    /// Fingerprint of the command line.
    pub origin: Hash32,
    /// Whether what an earlier run sent is sent once more.
    pub is_again: bool,
    /// The deployment's contracts by name.
    pub contracts: Vec<(&'static str, Address)>,
    pending: Pending,
}

impl Explainer {
    /// For what a command sends to a deployment.
    pub fn new(output: &Output, deployment: &Deployment) -> Self {
        Self {
            consent: output.consent,
            agreed: Arc::clone(&output.agreed),
            is_json: output.is_json,
            explained: Arc::clone(&output.explained),
            origin: output.origin,
            is_again: output.is_again,
            contracts: deployment.contracts(),
            pending: Pending::default(),
        }
    }

    /// Shows one row and asks, as consent demands.
    ///
    /// # Errors
    /// [`ChainError::NotSent`].
    pub fn ask(&self, row: &Row) -> Result<(), ChainError> {
        self.pending.clear();
        let refuse = |why: &str| Err(ChainError::NotSent { what: row.what.clone(), why: why.to_owned() });
        let is_agreed = self.consent == Consent::Asked && self.agreed.load(Ordering::Relaxed);
        match if is_agreed { Consent::Given } else { self.consent } {
            Consent::Refused => refuse("--dry-run signs nothing"),
            Consent::Given => {
                if !self.is_json {
                    say(&row.to_string());
                }
                Ok(())
            }
            Consent::Asked => {
                let mut err = std::io::stderr().lock();
                let asked = write!(err, "{}\ngo on? [y/N] ", words::lines(&row.to_string())).and_then(|()| err.flush());
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

    fn row(&self, key: &str, quote: &Quote) -> Row {
        let contract = self.contracts.iter().find(|(_, address)| Some(*address) == quote.call.to).map(|(name, _)| *name);
        Row::new(key, quote, contract)
    }

    fn note(&self, row: Row) {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).push(row);
    }
}

impl Approval for Explainer {
    fn approve(&self, key: &str, quote: &Quote) -> Result<(), ChainError> {
        let row = self.row(key, quote);
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
        self.pending.clear();
        let mut rows = self.explained.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = rows.iter_mut().rev().find(|row| row.key == key) {
            row.included(sent);
        }
    }

    fn origin(&self) -> Hash32 {
        self.origin
    }

    fn is_again(&self) -> bool {
        self.is_again
    }

    fn is_rehearsal(&self) -> bool {
        self.consent == Consent::Refused
    }

    fn waiting(&self, waiting: &Waiting) {
        self.pending.show(waiting, now());
    }

    fn resumed(&self, earlier: &Untold, quote: &Quote, ended: Result<&Sent, &ChainError>) {
        self.pending.clear();
        if let Ok(sent) = ended {
            self.note(self.row(&earlier.key, quote).resumed(sent));
        }
        if !self.is_json {
            say(&taken_up(earlier, ended, self.is_again, now()));
        }
    }
}

/// What an earlier run sent, as a person is told.
fn taken_up(earlier: &Untold, ended: Result<&Sent, &ChainError>, is_again: bool, now: u64) -> String {
    let what = format!("{} ({}, begun {})", earlier.what, money(earlier.call.value), ago(earlier.since, now));
    match ended {
        Ok(sent) => format!(
            "{what}: an earlier run, which was stopped before it told you, has sent it: transaction {} is in block {}; {}",
            sent.transaction,
            sent.block.number,
            if is_again { "another one is sent now (--again)" } else { "nothing is sent for it now, to send another give --again" }
        ),
        Err(error) => format!("{what}: an earlier run, which was stopped, had no success: {error}; it is tried anew"),
    }
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
    use types::{amount::Amount, time::BlockRef};

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
            is_simulated: true,
        }
    }

    fn explainer(consent: Consent) -> Explainer {
        Explainer {
            consent,
            agreed: Arc::default(),
            is_json: true,
            explained: Explained::default(),
            origin: Hash32::ZERO,
            is_again: false,
            contracts: vec![("InferenceEscrow", Address([5; 20]))],
            pending: Pending::default(),
        }
    }

    #[test]
    fn a_dry_run_notes_the_transaction_and_refuses_it() {
        let explainer = explainer(Consent::Refused);
        let error = explainer.approve("k", &quote()).unwrap_err();
        assert!(matches!(&error, ChainError::NotSent { .. }), "{error}");
        let rows = explainer.explained.lock().unwrap().clone();
        assert_eq!((rows[0].contract, rows[0].transaction), (Some("InferenceEscrow"), None));
        let most = 1_000 + 70 * Fees { most: 4, tip: 0 }.highest().most + 2 * 9 + 1;
        assert_eq!(
            (rows[0].cost_wei, rows[0].most_wei, rows[0].balance_after_wei),
            (Some(Amount(110)), Some(Amount(most)), Some(Amount(3_890)))
        );
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
        assert_eq!(row.gas, Some(50));
        let block = BlockRef { number: 7, hash: Hash32::ZERO };
        let sent = Sent::for_tests(Hash32([3; 32]), block, 40, 2);
        explainer.included("k", &sent, true);
        row = explainer.explained.lock().unwrap()[0].clone();
        assert_eq!((row.gas, row.cost_wei, row.block, row.transaction), (Some(40), Some(Amount(90)), Some(7), Some(Hash32([3; 32]))));
        assert!(unsent(&[row]).is_empty());
    }

    #[test]
    fn several_are_asked_about_as_one() {
        let row = together("deployment", &[quote(), quote()]).unwrap();
        assert_eq!((row.gas, row.cost_wei, row.balance_after_wei), (Some(100), Some(Amount(220)), Some(Amount(2_780))));
        assert_eq!(row.most_wei, Some(Amount(2 * quote().most().0)));
        assert_eq!(together("deployment", &[]), None);
    }

    #[test]
    fn what_depends_on_a_transaction_that_was_not_sent_says_so() {
        let row = Row::new("k", &Quote { is_simulated: false, ..quote() }, None);
        assert_eq!((row.gas, row.cost_wei, row.most_wei), (None, None, None));
        assert!(row.to_string().contains("not simulated: it depends on the transaction before it"), "{row}");
    }

    #[test]
    fn what_an_earlier_run_sent_is_told_with_what_to_do_for_another() {
        let call = quote().call;
        let fees = Fees { most: 4, tip: 0 };
        let (key, what, origin) = ("k".to_owned(), "deposit".to_owned(), Hash32::ZERO);
        let earlier = Untold { key, what, origin, since: 1_000, call, gas: 70, fees, transaction: None, ended: Some(true) };
        let sent = Sent::for_tests(Hash32([3; 32]), BlockRef { number: 7, hash: Hash32::ZERO }, 40, 2);
        let text = taken_up(&earlier, Ok(&sent), false, 1_000 + 7_300);
        for says in ["deposit (0.000000000000001 OPEN, begun 2 h ago)", "is in block 7", "nothing is sent for it now", "--again"] {
            assert!(text.contains(says), "{says}: {text}");
        }
        assert!(taken_up(&earlier, Ok(&sent), true, 1_000).contains("another one is sent now"));
        let error = ChainError::Reverted { what: "deposit".into(), reason: "no".into(), error: None };
        assert!(taken_up(&earlier, Err(&error), false, 1_000).contains("it is tried anew"));
        let explainer = explainer(Consent::Given);
        explainer.resumed(&earlier, &quote(), Ok(&sent));
        let rows = explainer.explained.lock().unwrap().clone();
        assert_eq!((rows[0].is_resumed, rows[0].transaction, rows[0].cost_wei), (true, Some(Hash32([3; 32])), Some(Amount(90))));
        assert!(!rows[0].is_l1_fee_known, "nobody remembers what was quoted, and this receipt does not say");
        assert!(unsent(&rows).is_empty());
    }
}
