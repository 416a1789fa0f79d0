//! What a running node counts of itself, for a monitoring system to read: counters of what clients asked and what came of it, and gauges that are read when somebody asks.
//!
//! The names are part of what operators build on: `packaging/` has a dashboard and alert rules, and a test holds every query in them against what [`Metrics::render`] prints.
//! Labels are closed sets that this file spells out: nobody's text becomes a label, and a node has the same series on its first day as on its last (some 60, 12 kB of text).
//! Money is in OPEN here, as a fraction: for looking at. Whoever counts it reads receipts.

use std::{
    fmt,
    sync::{Mutex, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use inference::proto::message::RefusalCode;
use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    receipt::{Reason, Receipt},
};

mod facts;

pub use facts::{EngineFacts, Facts};

/// The media type of [`Metrics::render`].
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Seconds to a first token: what a prompt of a page takes is in the middle.
const FIRST_TOKEN_S: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

type Label = [(&'static str, &'static str); 1];
type Number = Gauge<f64, AtomicU64>;

/// Counters of a node, and its gauges as they were read last.
pub struct Metrics {
    registry: Registry,
    answers: Family<Label, Counter>,
    refusals: Family<Label, Counter>,
    tokens: Family<Label, Counter>,
    fees: Counter<f64, AtomicU64>,
    first_token: Histogram,
    /// One reading at a time: gauges are set and printed in one step.
    gauges: Mutex<Gauges>,
}

/// What is read when somebody asks.
#[derive(Default)]
struct Gauges {
    uptime: Number,
    memory: Gauge,
    peers: Gauge,
    providers: Gauge,
    running: Gauge,
    manifests: Gauge,
    waiting: Gauge,
    receipts: Gauge,
    unposted: Gauge,
    ready: Gauge,
    leaving: Gauge,
    halted: Gauge,
    block: Family<Label, Gauge>,
    block_age: Number,
    store_free: Gauge,
    pages: Family<Label, Gauge>,
    jobs: Family<Label, Gauge>,
    adapters: Gauge,
    preempted: Gauge,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("tributary"),
            answers: Family::default(),
            refusals: Family::default(),
            tokens: Family::default(),
            fees: Counter::default(),
            first_token: Histogram::new(FIRST_TOKEN_S),
            gauges: Mutex::default(),
        };
        metrics.registered()
    }
}

impl Metrics {
    fn registered(mut self) -> Self {
        // Every series is there from the beginning: what never happened reads 0 and not nothing.
        for reason in REASONS {
            drop(self.answers.get_or_create(&[("reason", name_of(reason))]));
        }
        for code in CODES {
            drop(self.refusals.get_or_create(&[("code", code_name(code))]));
        }
        for way in ["in", "out"] {
            drop(self.tokens.get_or_create(&[("direction", way)]));
        }
        let to = &mut self.registry;
        to.register("answers", "Answers that ended with a receipt, by the reason in it", self.answers.clone());
        to.register("refusals", "Questions that were refused, by the code that their client was told", self.refusals.clone());
        to.register("tokens", "Tokens of answers that a receipt bills: read (in) and told (out)", self.tokens.clone());
        to.register("fees_open", "Fees of receipts signed, in OPEN", self.fees.clone());
        to.register("first_token_seconds", "Time from a question to its first token", self.first_token.clone());
        let gauges = self.gauges.get_mut().unwrap_or_else(PoisonError::into_inner);
        let plain: [(&str, &str, &Gauge); 14] = [
            ("memory_bytes", "Resident memory of the process", &gauges.memory),
            ("peers", "Overlay connections", &gauges.peers),
            ("providers", "Other nodes whose ads are known", &gauges.providers),
            ("answers_running", "Streams that talk of answers now", &gauges.running),
            ("manifests", "What is served: combinations of base, adapter and Datanets", &gauges.manifests),
            ("waiting", "Reasons why something is not served yet, as `tributary status` lists them", &gauges.waiting),
            ("receipts", "Receipts kept", &gauges.receipts),
            ("receipts_unposted", "Of them, those under no root on the chain yet", &gauges.unposted),
            ("ready", "1 if /readyz says so", &gauges.ready),
            ("leaving", "1 while the node is drained", &gauges.leaving),
            (
                "chain_halted",
                "1 if the chain is not the one that the node counted by: nothing of money moves until a person has looked",
                &gauges.halted,
            ),
            ("store_free_bytes", "Bytes that the store may still take", &gauges.store_free),
            ("engine_adapters", "Adapters on this node's disk", &gauges.adapters),
            ("engine_preemptions", "Times since the start that an answer gave up its place to another", &gauges.preempted),
        ];
        for (name, help, gauge) in plain {
            to.register(name, help, gauge.clone());
        }
        let version = Family::<Label, Gauge>::default();
        version.get_or_create(&[("version", env!("CARGO_PKG_VERSION"))]).set(1);
        to.register("build_info", "1; the version is its label", version);
        to.register("uptime_seconds", "Seconds since the start", gauges.uptime.clone());
        to.register("chain_block", "Blocks of the chain, as far as this node has heard", gauges.block.clone());
        to.register("chain_block_age_seconds", "Age of the newest block, by this machine's clock", gauges.block_age.clone());
        to.register("engine_pages", "Pages of keys and values", gauges.pages.clone());
        to.register("engine_jobs", "Answers and checks in the engine", gauges.jobs.clone());
        self
    }

    /// A receipt was signed, whatever it bills.
    pub fn receipt(&self, receipt: &Receipt) {
        self.answers.get_or_create(&[("reason", name_of(receipt.reason))]).inc();
        if receipt.reason.is_billable() {
            self.tokens.get_or_create(&[("direction", "in")]).inc_by(u64::from(receipt.tokens_in));
            self.tokens.get_or_create(&[("direction", "out")]).inc_by(u64::from(receipt.tokens_out));
            self.fees.inc_by(in_open(receipt.fee));
        }
    }

    /// A question was refused.
    pub fn refused(&self, code: RefusalCode) {
        self.refusals.get_or_create(&[("code", code_name(code))]).inc();
    }

    /// A first token came so long after its question.
    pub fn first_token(&self, took: Duration) {
        self.first_token.observe(took.as_secs_f64());
    }

    /// The text that a monitoring system reads, in OpenMetrics' form.
    pub fn render(&self, facts: &Facts) -> String {
        let gauges = self.gauges.lock().unwrap_or_else(PoisonError::into_inner);
        gauges.set(facts);
        let mut text = String::with_capacity(16 << 10);
        encode(&mut text, &self.registry).expect("a string takes any text");
        text
    }
}

impl Gauges {
    fn set(&self, facts: &Facts) {
        let clipped = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let flag = i64::from;
        self.uptime.set(facts.uptime.as_secs_f64());
        self.memory.set(clipped(facts.memory_bytes));
        self.peers.set(clipped(facts.peers));
        self.providers.set(clipped(facts.providers));
        self.running.set(clipped(facts.running));
        self.manifests.set(clipped(facts.manifests));
        self.waiting.set(clipped(facts.waiting.len() as u64));
        self.receipts.set(clipped(facts.receipts));
        self.unposted.set(clipped(facts.receipts_unposted));
        self.ready.set(flag(facts.unready().is_empty()));
        self.leaving.set(flag(facts.is_leaving));
        self.halted.set(flag(facts.is_halted));
        self.store_free.set(clipped(facts.store_free_bytes));
        for (head, block) in [("latest", facts.blocks.0), ("safe", facts.blocks.1), ("finalized", facts.blocks.2)] {
            self.block.get_or_create(&[("head", head)]).set(clipped(block));
        }
        self.block_age.set(facts.block_age.map_or(f64::NAN, |age| age.as_secs_f64()));
        let engine = facts.engine.unwrap_or_default();
        for (state, pages) in [("all", engine.pages), ("free", engine.pages_free)] {
            self.pages.get_or_create(&[("state", state)]).set(clipped(pages));
        }
        for (state, jobs) in [("running", engine.running), ("waiting", engine.waiting)] {
            self.jobs.get_or_create(&[("state", state)]).set(clipped(jobs));
        }
        self.adapters.set(clipped(engine.adapters));
        self.preempted.set(clipped(engine.preempted));
    }
}

/// For looking at.
#[expect(clippy::cast_precision_loss, reason = "a fraction for a graph, never counted with")]
fn in_open(amount: Amount) -> f64 {
    amount.0 as f64 / WEI_PER_OPEN as f64
}

const REASONS: [Reason; 6] = [Reason::Stop, Reason::Length, Reason::Cancelled, Reason::NoVoucher, Reason::EngineFailure, Reason::Empty];

const fn name_of(reason: Reason) -> &'static str {
    match reason {
        Reason::Stop => "stop",
        Reason::Length => "length",
        Reason::Cancelled => "cancelled",
        Reason::NoVoucher => "no_voucher",
        Reason::EngineFailure => "engine_failure",
        Reason::Empty => "empty",
    }
}

const CODES: [RefusalCode; 13] = [
    RefusalCode::NotServed,
    RefusalCode::TooLong,
    RefusalCode::Busy,
    RefusalCode::Invalid,
    RefusalCode::Quote,
    RefusalCode::Voucher,
    RefusalCode::Duplicate,
    RefusalCode::Internal,
    RefusalCode::Lane,
    RefusalCode::Unknown,
    RefusalCode::Index,
    RefusalCode::Expired,
    RefusalCode::Ended,
];

const fn code_name(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::NotServed => "not_served",
        RefusalCode::TooLong => "too_long",
        RefusalCode::Busy => "busy",
        RefusalCode::Invalid => "invalid",
        RefusalCode::Quote => "quote",
        RefusalCode::Voucher => "voucher",
        RefusalCode::Duplicate => "duplicate",
        RefusalCode::Internal => "internal",
        RefusalCode::Lane => "lane",
        RefusalCode::Unknown => "unknown",
        RefusalCode::Index => "index",
        RefusalCode::Expired => "expired",
        RefusalCode::Ended => "ended",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value of a series.
    fn value(text: &str, series: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
    }

    #[test]
    fn every_series_is_there_before_anything_happened_and_none_is_added_by_what_happens() {
        let metrics = Metrics::default();
        let series = |text: &str| {
            text.lines()
                .filter_map(|line| line.rsplit_once(' ').filter(|_| !line.starts_with('#')).map(|(name, _)| name.to_owned()))
                .collect::<Vec<_>>()
        };
        let mut before = series(&metrics.render(&Facts::default()));
        for code in CODES {
            metrics.refused(code);
        }
        metrics.first_token(Duration::from_millis(30));
        let text = metrics.render(&Facts { blocks: (9, 8, 7), engine: Some(EngineFacts::default()), ..Facts::default() });
        let mut after = series(&text);
        before.sort();
        after.sort();
        assert_eq!(before, after);
        assert!(before.len() > 40 && text.len() < 16 << 10 && text.ends_with("# EOF\n"), "{} series, {} bytes", before.len(), text.len());
        assert_eq!(value(&text, "tributary_refusals_total{code=\"busy\"}"), Some(1.0));
        assert_eq!(value(&text, "tributary_chain_block{head=\"finalized\"}"), Some(7.0));
        assert_eq!(value(&text, "tributary_first_token_seconds_bucket{le=\"0.025\"}"), Some(0.0));
        assert_eq!(value(&text, "tributary_first_token_seconds_bucket{le=\"0.05\"}"), Some(1.0));
    }

    #[test]
    fn a_receipt_counts_as_what_it_bills() {
        let mut bytes = vec![0; 434];
        // Profile, class and reason: the first of each; all else is zero.
        [190, 191, 388].into_iter().for_each(|place| bytes[place] = 1);
        let zero = <Receipt as types::encoding::Document>::decode(&bytes).unwrap();
        let paid = Receipt { reason: Reason::Stop, tokens_in: 7, tokens_out: 3, fee: Amount(WEI_PER_OPEN / 4), ..zero };
        let metrics = Metrics::default();
        metrics.receipt(&paid);
        metrics.receipt(&paid);
        metrics.receipt(&Receipt { reason: Reason::EngineFailure, ..paid });
        let text = metrics.render(&Facts::default());
        let read = |series: &str| value(&text, series).unwrap_or_else(|| panic!("{series}: {text}"));
        assert_eq!(
            (read("tributary_answers_total{reason=\"stop\"}"), read("tributary_answers_total{reason=\"engine_failure\"}")),
            (2.0, 1.0)
        );
        assert_eq!((read("tributary_tokens_total{direction=\"in\"}"), read("tributary_tokens_total{direction=\"out\"}")), (14.0, 6.0));
        assert!((read("tributary_fees_open_total") - 0.5).abs() < 1e-9);
    }
}
