//! What a piece of work takes: time of the clock, of processors, memory at its peak. Linux's own counters.

use std::{convert::Infallible, fs, time::Instant};

/// A line of `/proc/self/status` in megabytes of 1,000,000 bytes.
pub(crate) fn status_mb(name: &str) -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or(f64::NAN) * 1_024.0 / 1e6
}

/// Seconds of processor time of all threads so far, in hundredths.
pub(crate) fn process_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// Seconds of processor time of this thread so far.
pub(crate) fn thread_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    stat.split_whitespace().next().and_then(|nanoseconds| nanoseconds.parse::<f64>().ok()).unwrap_or(f64::NAN) / 1e9
}

/// Pages that this process has had read from disks so far, and those of them that were touched before they were asked for (major faults).
pub(crate) fn pages_read() -> (f64, f64) {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let bytes = io.lines().find_map(|line| line.strip_prefix("read_bytes:")?.trim().parse::<f64>().ok());
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let faults = stat.rsplit_once(')').and_then(|(_, fields)| fields.split_whitespace().nth(9)?.parse::<f64>().ok());
    (bytes.unwrap_or(f64::NAN) / 4_096.0, faults.unwrap_or(f64::NAN))
}

/// Says on stderr how far things are.
pub(crate) fn tell(what: &str) {
    eprintln!("   {what}");
}

/// Times of many runs, in ascending order.
pub(crate) struct Times(Vec<f64>);

impl Times {
    /// Of as many runs as there are inputs.
    pub(crate) fn each<T>(inputs: &[T], mut work: impl FnMut(&T)) -> Self {
        Self::prepared(inputs, |_| Ok(()), |input, ()| work(input)).unwrap_or_else(|never: Infallible| match never {})
    }

    /// Likewise, and seconds of a processor in the mean, which other work on the machine changes least.
    pub(crate) fn with_mean<T>(inputs: &[T], work: impl FnMut(&T)) -> (Self, f64) {
        let before = thread_seconds();
        let times = Self::each(inputs, work);
        (times, (thread_seconds() - before) / inputs.len() as f64)
    }

    /// Likewise, what is prepared for each not counted.
    pub(crate) fn prepared<T, P, E>(inputs: &[T], prepare: impl Fn(&T) -> Result<P, E>, mut work: impl FnMut(&T, P)) -> Result<Self, E> {
        let timed = inputs.iter().map(|input| {
            let prepared = prepare(input)?;
            let start = Instant::now();
            work(input, prepared);
            Ok(start.elapsed().as_secs_f64())
        });
        let mut seconds = timed.collect::<Result<Vec<f64>, E>>()?;
        seconds.sort_by(f64::total_cmp);
        Ok(Self(seconds))
    }

    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// What so many of a hundred take at most, in seconds.
    pub(crate) fn at(&self, per_cent: usize) -> f64 {
        self.0[(self.0.len() - 1) * per_cent / 100]
    }
}

/// Prints a row.
pub(crate) fn row(figure: &str, ours: f64, unit: &str, n: usize, note: &str) {
    println!("{}", serde_json::json!({ "figure": format!("attribution.{figure}"), "ours": ours, "unit": unit, "n": n, "note": note }));
}
