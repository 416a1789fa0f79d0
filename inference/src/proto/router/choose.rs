//! The order in which to ask, and why the first is first.
//!
//! `Economic`: fee, then queue, then first-token time in steps of a factor of two, then a hash of client and node, the same for every question: equal
//! providers share the clients evenly, and a client keeps to its node, where its lane is collected by one voucher for many answers (about 32,000 gas,
//! whatever it is worth) and what it said before may still be cached. So nobody new is tried at a higher price, and among equals chance is the trial.
//!
//! `Fast` and `Balanced`: of those within [`BAND_PERCENT`] of the best two are drawn and the one with the shorter queue is taken, so that many clients
//! with one ad before them do not all run to one node (Mitzenmacher 2001: two choices suffice). In [`EXPLORED_PERMILLE`] of 1,000 choices whoever has no
//! fresh measure is asked in place of the best; the others follow in their order. A client that remembers nothing explores nothing: it would not keep
//! what it learns.

use types::{id::NodeId, merkle::keccak, time::Time};

use super::{Asked, Memory, Middle, Mode, Preference, Provider, Score, Tally, filter, score};

/// Within so many percent of the best all are as good as the best: first-token times of one node scatter by more.
pub const BAND_PERCENT: u128 = 10;
/// Choices of 1,000 that ask whoever has no fresh measure.
pub const EXPLORED_PERMILLE: u64 = 25;

/// Why the first is first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It is the best by the mode, or the only one.
    Best,
    /// It has the shorter queue of two that were drawn from those as good as the best.
    Drawn,
    /// It has no fresh measure, and gets one.
    Explored,
    /// All failed lately, and it the least.
    LeftAlone,
}

impl Why {
    /// In words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::Best => "the best by the mode",
            Self::Drawn => "the shorter queue of two as good as the best",
            Self::Explored => "to be measured anew",
            Self::LeftAlone => "all have failed lately",
        }
    }
}

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// All that may be asked, first first.
    pub order: Vec<NodeId>,
    /// Why the first is first; nothing if there is none.
    pub why: Option<Why>,
    /// Those that may not, by reason.
    pub unfit: Tally,
}

/// One that may be asked, and where it stands.
struct Placed {
    provider: Provider,
    is_banned: bool,
    key: u128,
    score: Score,
}

/// Puts `providers` in the order in which to ask them. One named twice is there twice; the order of `providers` changes nothing.
pub fn choose(providers: Vec<Provider>, asked: &Asked, preference: &Preference, memory: &Memory, now: Time) -> Route {
    let mut unfit = Tally::default();
    let may = |provider: &Provider| filter(provider, asked.profile, preference).map_err(|why| unfit.count(why)).is_ok();
    let fitting: Vec<Provider> = providers.into_iter().filter(may).collect();
    let mut placed = place(fitting, asked, preference.mode, memory, now);
    let why = match placed.first() {
        None => None,
        Some(first) if first.is_banned => Some(Why::LeftAlone),
        Some(_) if preference.mode == Mode::Economic => Some(Why::Best),
        Some(_) => Some(draw(&mut placed, asked, memory, now)),
    };
    Route { order: placed.into_iter().map(|one| one.provider.node).collect(), why, unfit }
}

/// The order without any draw but that of equals.
fn place(fitting: Vec<Provider>, asked: &Asked, mode: Mode, memory: &Memory, now: Time) -> Vec<Placed> {
    let middle = Middle::of(&fitting, memory);
    let score = |provider: Provider| (score(&provider, asked, memory, middle, now), provider);
    let scored: Vec<(Score, Provider)> = fitting.into_iter().map(score).collect();
    let least = (
        scored.iter().map(|(score, _)| score.fee).min().unwrap_or_default(),
        scored.iter().map(|(score, _)| score.whole_ms).min().unwrap_or_default(),
    );
    let placed = |(score, provider): (Score, Provider)| {
        let is_banned = memory.is_banned(provider.node, now);
        Placed { is_banned, key: score.key(mode, least), score, provider }
    };
    let mut placed: Vec<Placed> = scored.into_iter().map(placed).collect();
    placed.sort_by_cached_key(|one| {
        let hash = keccak(&[b"tributary/route/v1", &asked.client.0, &one.provider.node.0]);
        (one.is_banned, one.key, one.provider.queue, one.score.step, hash)
    });
    placed
}

/// Brings to the front whom chance chooses; the first is not left alone.
fn draw(placed: &mut [Placed], asked: &Asked, memory: &Memory, now: Time) -> Why {
    let free = placed.iter().take_while(|one| !one.is_banned).count();
    let [whether, which, one, other] = draws(asked);
    let stale: Vec<usize> = (0..free).filter(|place| memory.is_stale(placed[*place].provider.node, now)).collect();
    if free > 1 && !memory.is_empty() && !stale.is_empty() && below(whether, 1_000) < EXPLORED_PERMILLE {
        let place = stale[index(which, stale.len())];
        placed[..=place].rotate_right(1);
        return Why::Explored;
    }
    let edge = placed[0].key.saturating_add(placed[0].key.saturating_mul(BAND_PERCENT) / 100);
    let band = placed[..free].iter().take_while(|one| one.key <= edge).count();
    if band < 2 {
        return Why::Best;
    }
    let one = index(one, band);
    // Among the others: two that differ.
    let other = (one + 1 + index(other, band - 1)) % band;
    let place = [one, other].into_iter().min_by_key(|place| (placed[*place].provider.queue, *place)).unwrap_or(0);
    placed[..=place].rotate_right(1);
    Why::Drawn
}

/// Four numbers of this choice.
fn draws(asked: &Asked) -> [u64; 4] {
    let hash = keccak(&[b"tributary/route/draw/v1", &asked.client.0, &asked.number.to_be_bytes()]).0;
    std::array::from_fn(|place| {
        let bytes: [u8; 8] = hash[8 * place..8 * place + 8].try_into().expect("eight of thirty-two bytes");
        u64::from_be_bytes(bytes)
    })
}

/// A draw below `bound`, by the high half of a product.
fn below(draw: u64, bound: u64) -> u64 {
    u64::try_from((u128::from(draw) * u128::from(bound)) >> 64).expect("below a bound of 64 bits")
}

fn index(draw: u64, len: usize) -> usize {
    let len = u64::try_from(len).expect("a length in memory fits 64 bits");
    usize::try_from(below(draw, len)).expect("below a length in memory")
}
