//! Which runs become one: as soon as two are of one size class.
//!
//! A class holds runs of 4^c to 4^(c + 1) - 1 documents. A run leaves its class at the fourth merge at the latest, so an entry is written at most four times more per class, and
//! fourteen times in all where 640 contributions of 16 MB are 10 GB: 0.4 us of processor and 145 bytes a document each time. A search, which asks every run for every key, asks one of a class: 16
//! at most, and five at 10 GB. *Against* merging four: a third of the writing, and up to thirteen runs at 10 GB, each of which takes as long as a fiftieth of what else a gate does.

/// Runs of one class that are merged.
const FAN_IN: usize = 2;
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
    fn ten_gigabytes_in_contributions_of_sixteen_megabytes_are_written_fourteen_times_and_stand_in_five_runs_at_most() {
        let (written, held) = entered(&[31_250; 640]);
        assert_eq!(written, 14);
        assert_eq!(held.iter().sum::<u32>(), 20_000_000);
        let most = (1..=640).map(|count| entered(&vec![31_250; count]).1.len()).max();
        assert_eq!(most, Some(5));
    }

    proptest! {
        #[test]
        fn runs_stay_few_and_nothing_is_lost(runs in proptest::collection::vec(1_u32..100_000, 1..300)) {
            let (written, held) = entered(&runs);
            prop_assert!(held.len() <= RUNS_MAX && written <= 4 * CLASSES, "{written} {held:?}");
            prop_assert_eq!(held.iter().sum::<u32>(), runs.iter().sum::<u32>());
        }
    }
}
