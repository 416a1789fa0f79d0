//! The date of HTTP (RFC 9110, section 5.6.7), by which a server tells its clock: `Sun, 06 Nov 1994 08:49:37 GMT`.
//!
//! Read and written here for seconds since 1970 alone; days are counted in the Gregorian calendar, whose 400 years have 146,097 of them.

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
/// The last year that is read or written.
const YEAR_MAX: u64 = 9_999;

const fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_of(year: u64, month: usize) -> u64 {
    match month {
        1 if is_leap(year) => 29,
        1 => 28,
        3 | 5 | 8 | 10 => 30,
        _ => 31,
    }
}

/// Days from 1970 to the first of January of a year.
const fn days_before(year: u64) -> u64 {
    let past = year - 1;
    past * 365 + past / 4 - past / 100 + past / 400 - 719_162
}

/// Seconds since 1970; nothing for what is no such date.
pub fn read(text: &str) -> Option<u64> {
    let mut parts = text.split_once(", ")?.1.split(' ');
    let mut number = |least: u64, most: u64| parts.next()?.parse::<u64>().ok().filter(|number| (least..=most).contains(number));
    let day = number(1, 31)?;
    let (month, rest) = text.split_once(", ")?.1.get(3..)?.split_once(' ')?;
    let month = MONTHS.iter().position(|name| *name == month)?;
    let (year, rest) = rest.split_once(' ')?;
    let year = year.parse::<u64>().ok().filter(|year| (1970..=YEAR_MAX).contains(year))?;
    let mut clock = rest.strip_suffix(" GMT")?.split(':').map(|part| part.parse::<u64>().ok().filter(|_| part.len() == 2));
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // A leap second is the one before it: this is no clock to the second anyway.
    if clock.next().is_some() || day > days_of(year, month) || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let days = days_before(year) + (0..month).map(|month| days_of(year, month)).sum::<u64>() + day - 1;
    Some(days * 86_400 + hour * 3_600 + minute * 60 + second.min(59))
}

/// The date of so many seconds since 1970; the end of the last year for what is beyond it.
pub fn written(seconds: u64) -> String {
    let seconds = seconds.min(days_before(YEAR_MAX + 1) * 86_400 - 1);
    let (days, of_day) = (seconds / 86_400, seconds % 86_400);
    let mut year = 1970 + days / 366;
    while days_before(year + 1) <= days {
        year += 1;
    }
    let (mut month, mut day) = (0, days - days_before(year));
    while day >= days_of(year, month) {
        day -= days_of(year, month);
        month += 1;
    }
    let name = DAYS[usize::try_from(days % 7).unwrap_or_default()];
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{name}, {:02} {} {year} {hour:02}:{minute:02}:{second:02} GMT", day + 1, MONTHS[month])
}
