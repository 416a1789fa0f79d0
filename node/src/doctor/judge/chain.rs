//! The chain, the deployment on it, and how the account stands.

use types::amount::{Amount, WEI_PER_OPEN};

use super::{Verdict, bad, good, unconfigured, unknown, warn};
use crate::{
    doctor::facts::{ChainFacts, Facts, Standing, Suite},
    output::money,
};

/// Seconds by which a clock may be wrong before it is said.
const SKEW_WARN_S: u64 = 5;
/// Seconds from which it is a fault: ads would be too old or not begun.
const SKEW_BAD_S: u64 = 30;
/// Oldest head, in seconds; of a slow chain this many of its blocks.
const HEAD_AGE_MAX_S: u64 = 60;
/// Blocks that may be late.
const HEAD_BLOCKS_LATE: u64 = 30;
/// What ten epochs of receipts and claims cost at 1 gwei, with room.
const BALANCE_MIN: Amount = Amount(WEI_PER_OPEN / 100);
/// Longest answer of an endpoint that is fit to settle by.
const ANSWER_MS_MAX: u128 = 2_000;

fn suite(facts: &Facts) -> Result<(&ChainFacts, &Suite), Verdict> {
    let Some(chain) = &facts.chain else { return Err(unconfigured()) };
    chain.suite.as_ref().map(|suite| (chain, suite)).ok_or_else(|| {
        unknown(match (&chain.id, &facts.files.deployment) {
            (Err(_), _) => "not asked: the endpoint does not answer",
            (_, Err(_)) => "not asked: registry.json is not read",
            _ => "not asked: it is another chain",
        })
    })
}

pub(super) fn rpc(facts: &Facts) -> Verdict {
    let Some(chain) = &facts.chain else { return unconfigured() };
    match &chain.id {
        Ok((_, took)) if took.as_millis() > ANSWER_MS_MAX => warn(
            format!("{} takes {} ms to answer", chain.url, took.as_millis()),
            "name an endpoint nearby, best one of your own, by the key `rpc` in tributary.toml",
        ),
        Ok((_, took)) => good(format!("{} answers in {} ms", chain.url, took.as_millis())),
        Err(why) => bad(why, "start the chain's node, or name another endpoint by the key `rpc` in tributary.toml or by --rpc"),
    }
}

pub(super) fn clock(facts: &Facts) -> Verdict {
    let Some(chain) = &facts.chain else { return unconfigured() };
    let Some(ahead) = chain.ahead_s else { return unknown("the endpoint does not tell its time") };
    let side = if ahead > 0 { "ahead of" } else { "behind" };
    let said = format!("{} s {side} the endpoint's", ahead.unsigned_abs());
    let fix = "run timedatectl set-ntp true, or start chrony, and look again";
    match ahead.unsigned_abs() {
        0 => good("as the endpoint's"),
        ahead if ahead >= SKEW_BAD_S => bad(said, fix),
        ahead if ahead >= SKEW_WARN_S => warn(said, fix),
        _ => good(said),
    }
}

pub(super) fn id(facts: &Facts) -> Verdict {
    let Some(chain) = &facts.chain else { return unconfigured() };
    match (&chain.id, &facts.files.deployment) {
        (Err(_), _) => unknown("not asked: the endpoint does not answer"),
        (Ok((got, _)), Err(_)) => unknown(format!("{got}; registry.json, which says what it should be, is not read")),
        (Ok((got, _)), Ok(deployment)) if *got != deployment.chain_id => bad(
            format!("the endpoint is of chain {got}, registry.json of chain {}", deployment.chain_id),
            "use the endpoint of that chain (the key `rpc`), or the registry.json of this one",
        ),
        (Ok((got, _)), Ok(_)) => good(format!("{got}")),
    }
}

pub(super) fn contracts(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match &suite.missing {
        Err(why) => bad(format!("code cannot be asked for: {why}"), "name an endpoint that answers eth_getCode, in batches"),
        Ok(missing) if missing.is_empty() => good("all stand where registry.json says"),
        Ok(missing) => bad(
            format!("no code where there should be {}", missing.join(", ")),
            "take the registry.json of the deployment from who made it; a development chain that was begun anew needs a new one",
        ),
    }
}

pub(super) fn code(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match &suite.code {
        None => unknown("not compared: some contracts are missing"),
        Some(Ok(())) => good("as this program has it, byte for byte, where money goes"),
        Some(Err(why)) => bad(why, "send no money there; take the deployment's own registry.json, and the program of its version"),
    }
}

pub(super) fn heads(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    let fix = "name an endpoint of an OP Stack execution client that follows its consensus client, which knows safe and finalized blocks";
    match &suite.heads {
        Err(why) => bad(why, fix),
        Ok(heads) if heads.finalized.number > heads.safe.number || heads.safe.number > heads.latest.number => bad(
            format!("final {}, safe {} and latest {} are not in order", heads.finalized.number, heads.safe.number, heads.latest.number),
            fix,
        ),
        Ok(heads) => good(format!("latest {}, safe {}, final {}", heads.latest.number, heads.safe.number, heads.finalized.number)),
    }
}

pub(super) fn head_age(facts: &Facts) -> Verdict {
    let (chain, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    let Ok(heads) = &suite.heads else { return unknown("the heads are not known") };
    // By the endpoint's clock where it tells: a wrong one here is another finding.
    let now = chain.asked_at.saturating_add_signed(chain.ahead_s.unwrap_or(0).saturating_neg());
    let age = now.saturating_sub(heads.timestamp);
    let most = HEAD_AGE_MAX_S.max(suite.block_s.saturating_mul(HEAD_BLOCKS_LATE));
    if age > most {
        return bad(
            format!("the latest block is {age} s old: the chain has stopped, or the endpoint does not follow it"),
            "compare with another endpoint; where that one is further, restart this one or change the key `rpc`",
        );
    }
    good(format!("the latest block is {age} s old"))
}

pub(super) fn pace(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match (&suite.heads, &suite.pace) {
        (Err(_), _) => unknown("the heads are not known"),
        (Ok(_), Some(why)) => bad(why, "use a deployment that was made for this chain: the node does not start with this one"),
        (Ok(_), None) => good("receipts are posted before they are too old"),
    }
}

pub(super) fn final_block(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match &suite.alarm {
        Ok(None) => good("what this folder knows as final still is"),
        Ok(Some(alarm)) => bad(
            alarm,
            "ask a second endpoint for that block, and use it where it has the old one; otherwise see `tributary chain accept-finalized --help`",
        ),
        Err(why) => bad(
            why,
            "wait until the endpoint has come so far, or use another; where the chain was begun anew see `tributary chain accept-finalized --help`",
        ),
    }
}

pub(super) fn logs(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match &suite.logs {
        Ok(()) => good("of the last 2,000 blocks"),
        Err(why) => {
            bad(format!("eth_getLogs: {why}"), "name an endpoint that gives the events of 2,000 blocks at once: many public ones do not")
        }
    }
}

pub(super) fn history(facts: &Facts) -> Verdict {
    let (_, suite) = match suite(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match &suite.history {
        Ok(true) => good("the deployment's first block is known"),
        Ok(false) => bad(
            "the endpoint does not know the deployment's first block, from which every event is read",
            "name an endpoint that has pruned nothing since, or wait until it has caught up",
        ),
        Err(why) => bad(why, "name an endpoint that gives the headers of old blocks"),
    }
}

fn standing(facts: &Facts) -> Result<(&Suite, &Standing), Verdict> {
    let (_, suite) = suite(facts)?;
    let standing = suite.account.as_ref();
    standing
        .map(|standing| (suite, standing))
        .ok_or_else(|| unknown("whose account is not known: give --password-file or TRIBUTARY_PASSWORD"))
}

pub(super) fn binding(facts: &Facts) -> Verdict {
    let (_, standing) = match standing(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match (&standing.operator, &facts.files.seed) {
        (Err(why), _) => unknown(format!("the chain does not say: {why}")),
        (_, Err(_)) => unknown("the node's own key is not read"),
        (Ok(None), Ok(node)) => warn(
            format!("account {} has no node on the chain; this one is {node}", standing.account),
            "run `tributary stake add AMOUNT`, which binds them: unbound, a node's receipts are not paid",
        ),
        (Ok(Some(operator)), Ok(node)) if operator.node != *node => bad(
            format!("account {} is bound to node {}, this one is {node}: its receipts are refused", standing.account, operator.node),
            "use the node.seed of that node, or bind this one by `tributary stake add`",
        ),
        (Ok(Some(operator)), Ok(_)) => good(format!("account {}, incarnation {}", standing.account, operator.incarnation)),
    }
}

pub(super) fn stake(facts: &Facts) -> Verdict {
    let (suite, standing) = match standing(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    let active = match &standing.operator {
        Ok(operator) => operator.map_or(Amount::ZERO, |operator| operator.active),
        Err(why) => return unknown(format!("the chain does not say: {why}")),
    };
    match &standing.is_bonded {
        Err(why) => unknown(format!("the chain does not say: {why}")),
        Ok(true) => good(format!("{} at stake", money(active))),
        Ok(false) => warn(
            format!("{} at stake, its roles take {} or more: no client pays a node without", money(active), money(suite.stake_min)),
            "run `tributary stake add AMOUNT` with what is missing",
        ),
    }
}

pub(super) fn gas(facts: &Facts) -> Verdict {
    let (_, standing) = match standing(facts) {
        Ok(found) => found,
        Err(verdict) => return verdict,
    };
    match &standing.balance {
        Err(why) => unknown(format!("the chain does not say: {why}")),
        Ok(balance) if *balance < BALANCE_MIN => bad(
            format!("{} to pay for transactions: receipts that are not posted in time are not paid", money(*balance)),
            format!("send at least {} to {}", money(BALANCE_MIN), standing.account),
        ),
        Ok(balance) => good(money(*balance)),
    }
}
