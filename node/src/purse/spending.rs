//! The books of spending on disk: every change is written before it counts, under a lock that all processes of the folder share.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use inference::proto::spending::Spending;
use types::{amount::Amount, id::Hash32, key::Domains};

use super::{Purse, lock, read_record};
use crate::data::write_atomic;

/// Largest file: [`inference::proto::spending::OPEN_MAX`] requests, `OWED_MAX` promises and `KEYS_MAX` keys take about 1.5 MB.
const FILE_MAX: u64 = 4 << 20;

impl Purse {
    /// Changes the books of a deployment's money; what `change` refuses is not written.
    pub fn spending<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        domains: &Domains,
        change: impl FnOnce(&mut Spending) -> Result<T, E>,
    ) -> anyhow::Result<T> {
        self.change_spending(domains, |books| Ok(change(books)?))
    }

    /// Lanes whose promises are counted though they have expired before `last_final`, a final block; at most `most`.
    pub fn expired(&self, domains: &Domains, last_final: u64, most: usize) -> anyhow::Result<BTreeSet<Hash32>> {
        self.change_spending(domains, |books| Ok(books.expired(last_final, most)))
    }

    /// Counts of the promises on expired lanes what the chain says was collected.
    pub fn reckon(&self, domains: &Domains, last_final: u64, collected: &BTreeMap<Hash32, Amount>) -> anyhow::Result<()> {
        self.change_spending(domains, |books| {
            books.reckon(last_final, collected);
            Ok(())
        })
    }

    pub(super) fn change_spending<T>(
        &self,
        domains: &Domains,
        change: impl FnOnce(&mut Spending) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let path = self.folder.join(format!("spending-{}-{}.json", domains.chain_id, domains.escrow));
        let _lock = lock(&path, true)?;
        let before = match read_record(&path, FILE_MAX)? {
            Some(text) => serde_json::from_str(&text).with_context(|| format!("{}: the books of spending are damaged", path.display()))?,
            None => Spending::default(),
        };
        let mut books = before.clone();
        let result = change(&mut books)?;
        if books != before {
            write_atomic(&path, &serde_json::to_vec(&books)?, 0o600).with_context(|| path.display().to_string())?;
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use inference::proto::spending::{Caps, Refused};
    use types::id::Address;

    use super::*;

    fn domains(chain_id: u64) -> Domains {
        Domains { chain_id, escrow: Address([1; 20]), registry: Address([2; 20]), settlement: Address([3; 20]), stake: Address([4; 20]) }
    }

    #[test]
    fn processes_of_one_folder_never_promise_more_than_the_cap_together() {
        let folder = tempfile::tempdir().unwrap();
        let caps = Caps { per_day: Some(Amount(100)), ..Caps::default() };
        // Each opening stands for a process: all it shares with the others is the file.
        let allowed: usize = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..24_u8)
                .map(|number| {
                    let folder = folder.path();
                    scope.spawn(move || {
                        let purse = Purse::open(folder).unwrap();
                        let begin =
                            |books: &mut Spending| books.begin(caps, Hash32([number; 32]), Address([7; 20]), Amount(9), Amount::ZERO, 3);
                        usize::from(purse.spending(&domains(1), begin).is_ok())
                    })
                })
                .collect();
            tries.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(allowed, 11, "eleven times nine wei fit a hundred");
        let purse = Purse::open(folder.path()).unwrap();
        let today = |chain| purse.spending(&domains(chain), |books| Ok::<_, Refused>(books.today()?)).unwrap();
        assert_eq!((today(1), today(2)), (Amount(99), Amount::ZERO), "each deployment has its own money");
    }

    #[test]
    fn what_is_refused_is_not_written_and_damage_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let purse = Purse::open(folder.path()).unwrap();
        let path = folder.path().join(format!("purse/spending-1-{}.json", Address([1; 20])));
        let refused = purse.spending(&domains(1), |books| {
            books.turn_to(9);
            Err::<(), _>(Refused::Keys)
        });
        assert!(refused.is_err() && !path.exists());
        std::fs::write(&path, "{}").unwrap();
        let error = purse.spending(&domains(1), |_| Ok::<_, Refused>(())).unwrap_err();
        assert!(format!("{error:#}").contains("damaged"), "{error:#}");
    }
}
