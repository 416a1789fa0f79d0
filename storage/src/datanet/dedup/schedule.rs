//! Which runs become one: as soon as four are of one size class, all of that class.
//!
//! A class holds runs of 4^c to 4^(c + 1) - 1 documents. What is merged is of a higher class afterwards, so an entry is written once more per class, at most
//! sixteen times in all and five times where 640 contributions of 16 MB are 10 GB; and a search asks at most three runs of a class.

/// Runs of one class that are merged.
const FAN_IN: usize = 4;
/// Classes there are: a run holds less than 2^32 documents.
const CLASSES: usize = 16;
/// Most runs that are left alone.
#[cfg(test)]
const RUNS_MAX: usize = (FAN_IN - 1) * CLASSES;

fn class(documents: u32) -> usize {
    usize::try_from(documents.max(1).ilog(4)).expect("at most 15")
}

/// The places of the runs to merge next, given how many documents each holds; nothing if all may stay.
pub(crate) fn due(documents: &[u32]) -> Option<Vec<usize>> {
    let of = |wanted: usize| documents.iter().enumerate().filter(move |(_, documents)| class(**documents) == wanted).map(|(at, _)| at);
    (0..CLASSES).map(|class| of(class).collect::<Vec<_>>()).find(|runs| runs.len() >= FAN_IN)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Enters runs one after another; how often the documents of the first were written, and the runs at last.
    fn entered(runs: &[u32]) -> (usize, Vec<u32>) {
        // Documents, and whether the first run is in it.
        let (mut held, mut written): (Vec<(u32, bool)>, usize) = (Vec::new(), 1);
        for (number, run) in runs.iter().enumerate() {
            held.push((*run, number == 0));
            while let Some(due) = due(&held.iter().map(|(documents, _)| *documents).collect::<Vec<_>>()) {
                let merged = due.iter().fold((0, false), |sum, at| (sum.0 + held[*at].0, sum.1 || held[*at].1));
                written += usize::from(merged.1);
                for at in due.iter().rev() {
                    held.remove(*at);
                }
                held.push(merged);
            }
        }
        (written, held.into_iter().map(|(documents, _)| documents).collect())
    }

    #[test]
    fn ten_gigabytes_in_contributions_of_sixteen_megabytes_are_written_five_times() {
        let (written, held) = entered(&[31_250; 640]);
        assert_eq!(written, 5);
        assert_eq!(held.len(), 4);
        assert_eq!(held.iter().sum::<u32>(), 20_000_000);
    }

    proptest! {
        #[test]
        fn runs_stay_few_and_nothing_is_lost(runs in proptest::collection::vec(1_u32..100_000, 1..300)) {
            let (written, held) = entered(&runs);
            prop_assert!(held.len() <= RUNS_MAX && written <= CLASSES, "{written} {held:?}");
            prop_assert_eq!(held.iter().sum::<u32>(), runs.iter().sum::<u32>());
        }
    }
}
