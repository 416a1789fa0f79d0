//! Times of a chain for people: dates in UTC, and how far they are from another time. Seconds since 1970 are for programs.

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A stretch of time in its largest fitting unit, rounded down: `90 s`, `3 h`, `2 d`.
pub fn lasting(seconds: u64) -> String {
    match seconds {
        ..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / MINUTE),
        7_200..172_800 => format!("{} h", seconds / HOUR),
        _ => format!("{} d", seconds / DAY),
    }
}

/// How long ago a time was: `2 min ago`.
pub fn ago(at: u64, now: u64) -> String {
    format!("{} ago", lasting(now.saturating_sub(at)))
}

/// A time in UTC: `2026-11-21 14:03:09 UTC`.
pub fn utc(at: u64) -> String {
    let (days, second) = (at / DAY, at % DAY);
    let (year, month, day) = date(days);
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / HOUR, second % HOUR / MINUTE, second % MINUTE)
}

/// A time in UTC and how far it is from `now`: `2026-11-21 14:03:09 UTC (in 3 h)`.
pub fn when(at: u64, now: u64) -> String {
    let distance = if at > now { format!("in {}", lasting(at - now)) } else { ago(at, now) };
    format!("{} ({distance})", utc(at))
}

/// Year, month and day of a day since 1970-01-01, by the Gregorian calendar (Hinnant, *chrono-compatible low-level date algorithms*): years begin in
/// March, so that a leap day is their last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let place = (5 * of_year + 2) / 153;
    let (day, month) = (of_year - (153 * place + 2) / 5 + 1, if place < 10 { place + 3 } else { place - 9 });
    (era * 400 + year + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_dates_in_utc() {
        for (at, text) in [
            (0, "1970-01-01 00:00:00 UTC"),
            (951_782_399, "2000-02-28 23:59:59 UTC"),
            (951_782_400, "2000-02-29 00:00:00 UTC"),
            (951_868_800, "2000-03-01 00:00:00 UTC"),
            (1_795_269_789, "2026-11-21 14:03:09 UTC"),
            (4_107_542_400, "2100-03-01 00:00:00 UTC"),
        ] {
            assert_eq!(utc(at), text);
        }
    }

    #[test]
    fn distances_are_in_the_largest_unit_that_says_something() {
        for (seconds, text) in
            [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7_199, "119 min"), (7_200, "2 h"), (172_799, "47 h"), (172_800, "2 d")]
        {
            assert_eq!(lasting(seconds), text);
        }
        assert_eq!(when(10_800, 0), "1970-01-01 03:00:00 UTC (in 3 h)");
        assert_eq!(when(0, 172_800), "1970-01-01 00:00:00 UTC (2 d ago)");
        assert_eq!(when(u64::MAX >> 8, 0).matches("UTC").count(), 1, "a number that is no time is no panic");
    }
}
