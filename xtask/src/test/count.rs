//! Reads how many tests passed and failed out of what a test runner prints.

use std::ops::AddAssign;

/// Passed and failed tests or checks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

/// Sums the summary lines of cargo test, nextest, forge and halmos.
pub(crate) fn read(lines: &[String]) -> Count {
    let mut total = Count::default();
    // nextest repeats what a failed test's own process printed, its summary too.
    let has_nextest = lines.iter().any(|line| line.trim().starts_with("Summary ["));
    for line in lines.iter().map(|line| line.trim()) {
        let is_cargo = line.starts_with("test result:") && !has_nextest;
        let is_halmos = line.starts_with("Symbolic test result:");
        let is_nextest = line.starts_with("Summary [");
        // forge prints a line per contract and one over all; the latter alone begins like this.
        let is_forge = line.starts_with("Ran ") && line.contains("total tests)");
        if is_cargo || is_nextest || is_forge || is_halmos {
            total += Count { passed: before(line, "passed"), failed: before(line, "failed") + before(line, "timed out") };
        }
    }
    total
}

/// The number before `word`, as in `17 tests passed` or `3 failed`; 0 where there is none.
fn before(line: &str, word: &str) -> u64 {
    let Some(at) = line.find(word) else { return 0 };
    let last = line[..at].split(|c: char| !c.is_ascii_alphanumeric()).rfind(|piece| !piece.is_empty() && *piece != "tests");
    last.and_then(|piece| piece.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, passed: u64, failed: u64) {
        assert_eq!(read(&[line.to_owned()]), Count { passed, failed }, "{line}");
    }

    #[test]
    fn the_summaries_of_the_four_runners_are_understood() {
        check("test result: ok. 10 passed; 3 failed; 1 ignored; 0 measured", 10, 3);
        check("     Summary [   0.012s] 17 tests run: 16 passed (2 slow), 1 failed, 2 skipped", 16, 1);
        check("     Summary [   9.012s] 17 tests run: 15 passed, 1 failed, 1 timed out, 2 skipped", 15, 2);
        check("Ran 3 test suites in 1.2s (3.4s CPU time): 41 tests passed, 2 failed, 0 skipped (43 total tests)", 41, 2);
        check("Symbolic test result: 2 passed; 1 failed; time: 0.94s", 2, 1);
    }

    #[test]
    fn a_failed_test_that_nextest_shows_again_counts_once() {
        let lines = ["test result: FAILED. 0 passed; 1 failed; 0 ignored", "Summary [ 1.0s] 2 tests run: 1 passed, 1 failed, 0 skipped"];
        assert_eq!(read(&lines.map(str::to_owned)), Count { passed: 1, failed: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        check("Ran 4 tests for test/Codec.t.sol:CodecTest", 0, 0);
        check("Suite result: ok. 4 passed; 0 failed; 0 skipped", 0, 0);
        check("        PASS [   0.005s] types split::tests::passed", 0, 0);
    }
}
