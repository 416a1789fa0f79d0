//! A contract's custom errors in words, read from the ABI: `StakeBelowMinimum(100, 5)` becomes "stake below minimum (minimum 100, got 5)".

use std::{collections::BTreeMap, sync::OnceLock};

use alloy::primitives::U256;
use serde::Deserialize;
use types::{amount::Amount, merkle::keccak};

use crate::{
    bindings::ARTIFACTS,
    time::{utc, when},
};

/// What to do about the errors people meet.
const FIXES: &[(&str, &str)] = &[
    ("AlreadyAnnounced", "somebody announced it before; store it six L1 blocks later"),
    ("AlreadyCommitted", "it is there already; go on with the next step"),
    ("AlreadyContributed", "the text is in the Datanet already"),
    ("AlreadyErased", "it was asked for before; holders drop it when that is final"),
    ("AlreadyEnlisted", "it is on the roll already"),
    ("AlreadyRevealed", "it is there already"),
    ("AlreadySlashed", "somebody proved it before"),
    ("AlreadyStored", "somebody stored it before"),
    ("AlreadySubmitted", "this node's root for the epoch is on chain already"),
    ("AlreadySuperseded", "another version took its place already"),
    ("AlreadyVoid", "somebody proved it before"),
    ("AnotherAccount", "open the leaf of the account it names"),
    ("BaseParentMissing", "name the base version among the parents"),
    ("BeaconForgotten", "announce another block, in the epoch that is open"),
    ("BeaconNotReady", "announce it first, then wait for the block after the announced one"),
    ("BeaconUnderWay", "somebody announced or stored it before"),
    ("BeyondReceipts", "a node root whose tree holds more than its receipts opens none of them"),
    ("BlockInWindow", "the receipt is honest about its block"),
    ("ClaimsAboveTotal", "the payout tree pays more than its total; rebuild it"),
    ("ClaimsOver", "what nobody earned in time is the Datanet's again"),
    ("CommitmentExpired", "commit again; the priority is that of the new commitment"),
    ("CommittedInThisBlock", "wait for the next block"),
    ("ContributionSize", "contribute a document at least, and no more than 2^40 bytes at once"),
    ("ConvictedSince", "the node was slashed for all that it had signed by then: ask by a commitment signed after it"),
    ("CreditAboveCollected", "the lane never brought that much in"),
    ("CreditExpired", "the note can no longer be claimed"),
    ("CreditKnown", "a request is credited once on a lane"),
    ("CreditNotCollected", "wait until the node has collected what the note is about; before that nothing was charged"),
    ("CreditNotOpen", "the claim was answered or paid, or was never made"),
    ("CreditWindow", "wait until the time to honour it is over"),
    ("DataRowTooLow", "raise the data row of the split table"),
    ("EpochNotCharged", "name the charge that the epoch is in; charge the Datanet if there is none yet"),
    ("EpochTooSoon", "wait until the chain's time reaches it"),
    ("ErasedOnRequest", "nobody keeps what was erased; name another contribution of the object"),
    ("FallbackTooSoon", "wait, or post with the poster's role"),
    ("FeesAboveStake", "stake more, or wait until earlier epochs are final"),
    ("FeesOfTree", "a node root whose fee sum is not its receipts' opens none of them"),
    ("FragmentBeyond", "show the fragment as the object's manifest numbers it"),
    ("HonourTooShort", "let notes wait as long as stake takes to unbond"),
    ("IncarnationMustRise", "start the node with a higher incarnation"),
    ("KnownChallenge", "the same was asked before"),
    ("KnownCase", "the leaf is asked for already, or was since the node signed: ask for another, or by a later commitment"),
    ("LaneExpired", "open a new lane"),
    ("LaneHolds", "the lane promises what the receipt takes"),
    ("LaneOpen", "wait until no receipt of the lane can come any more"),
    ("NoBeacon", "nobody was drawn for the epoch yet; if its time is over nobody will be"),
    ("NoBond", "it was given back, or none was attached"),
    ("NoCase", "it was answered or closed, or never opened"),
    ("NoChallenge", "nothing of this kind is open"),
    ("NoContradiction", "one honest node may sign both"),
    ("NoFinalPayout", "wait until a payout has passed its window"),
    ("NobodyToPay", "nothing was contributed to the Datanet yet"),
    ("NotAcceptedThen", "name a contribution that had been accepted when the node signed, or ask by a later commitment"),
    ("NotAnnounced", "announce it first, when the epoch takes no more node roots"),
    ("NotBonded", "stake at least the minimum first"),
    ("NotCharged", "rent of this contribution is charged from the next charge on"),
    ("NotCommitted", "commit first, with the same account"),
    ("NotDrawn", "two of the three drawn auditors must have signed"),
    ("NotEmpty", "a root of no receipts has no fees, and the root of the empty tree"),
    ("NotEnlisted", "put the node on the roll first"),
    ("NotEnoughFree", "ask for less"),
    ("NotEnoughStake", "ask for less"),
    ("NotNext", "begin with the next receipt that was not shown, or before it"),
    ("NotOnRoll", "name the place that the node had on that epoch's roll"),
    ("NotPassed", "rent is paid for audits that were passed"),
    ("NotPending", "only the payout that is not final yet can be taken back"),
    ("NotSetUp", "the deployer must name peers and verifiers first"),
    ("NotYours", "use the key of its contributor, or of the Datanet's owner"),
    ("NothingAtStake", "the account has no stake that silence could take"),
    ("NothingDue", "everything shown was paid before, or comes to less than a wei"),
    ("NothingLeaving", "ask for rent back first"),
    ("NothingLeft", "the lane collected nothing, or all of it was given back by notes and slashes"),
    ("NothingOwed", "everything was paid"),
    ("NothingPending", "no payout is waiting for its window to end"),
    ("NothingShown", "show the receipts that follow, one at least"),
    ("NothingThawing", "ask for a withdrawal first"),
    ("NothingToClaim", "everything earned by the last final payout is claimed"),
    ("NothingToDebit", "the node has no stake left"),
    ("NothingUnbonding", "unbond first"),
    ("NothingUnpaid", "all of this charge was paid or given back"),
    ("OnlyAssetOwner", "use the owner's account"),
    ("OnlyAuditor", "only the contract that pays audits may"),
    ("OnlyDatanetOwner", "use the owner's account"),
    ("OnlyGovernor", "use the governor's account"),
    ("OnlyPayer", "use the payer's account"),
    ("OriginTooEarly", "wait until the chain stands on that L1 block"),
    ("OtherFragments", "another claim has shown the object with another number of fragments; leave this fragment out"),
    ("OtherObject", "name a contribution of the fragment's object"),
    ("ParametersUnknown", "have the governor approve the parameters first"),
    ("PayoutHolds", "what is opened shows no fault"),
    ("PayoutIsFinal", "the window to prove it wrong is over"),
    ("PayoutOutOfOrder", "post the payouts of earlier epochs first"),
    ("PayoutTooSoon", "wait until window W1 has passed"),
    ("PreviousNotFinal", "wait until the payout before has passed window W2"),
    ("RefundIsDue", "wait for the payout it is due in"),
    ("RequestIsMet", "the receipt keeps to this request"),
    ("RowOfAbsentRole", "give nothing to a role that nobody has"),
    ("RowTooLow", "raise the row to what the owner of the parent asks for"),
    ("RuleHolds", "the receipt keeps this rule"),
    ("SignerMayOnlyGrow", "revoke the signer first"),
    ("SignerSpent", "the payer must raise the bound of this key"),
    ("SignedLater", "wait for the block that the commitment names"),
    ("SpanIsTrue", "the receipt is honest about this span"),
    ("StakeBelowMinimum", "stake more"),
    ("StillBonded", "only who is no longer bonded can be struck off"),
    ("StillClaimable", "wait until the time to claim it is over"),
    ("StillDelayed", "wait until the chain's time reaches it"),
    ("StillOpen", "wait until its time is over"),
    ("StillPledged", "pay the claimed credit notes first, or wait until stake has paid them"),
    ("StillThawing", "wait until the chain's time reaches it"),
    ("StillUnbonding", "wait until the chain's time reaches it"),
    ("StillWaiting", "wait until the chain's time reaches it"),
    ("StretchBeyondCount", "ask for receipts below the count of the root"),
    ("StretchCount", "ask for more than none, and for the rest by another challenge"),
    ("TextBytesMismatch", "state the bytes that the text root commits to, and open it with its own top"),
    ("TooLate", "the window is over"),
    ("TooManyReceipts", "leave the others to the next epoch"),
    ("TooOld", "ask by a younger commitment"),
    ("TooSoon", "wait until the delay since the contribution's acceptance is over"),
    ("TotalAboveReceived", "collect the vouchers first"),
    ("TotalFell", "build the tree on the last final one"),
    ("UnknownRoles", "a poster is 2, an indexer 4, both are 6"),
    ("UnknownSlash", "give the fields of its event; or it was divided before"),
    ("VerdictsDiffer", "give two verdicts of the same walk"),
    ("VersionIsFrozen", "use a newer version"),
    ("VoucherAboveLaneCap", "the client must open a lane with a higher cap"),
    ("VoucherNotAboveCollected", "this voucher was collected already; drop it"),
    ("WrongBond", "attach exactly the bond, of receipts for each"),
    ("WrongClaimRoot", "build the claim from the last final payout tree"),
    ("WrongDeposit", "attach exactly the deposit of the roll"),
    ("WrongEpoch", "sign the root for the epoch that is open now"),
    ("WrongHoldings", "show the holdings that were audited, and each fragment with the contribution it belongs to"),
    ("WrongNodeRoot", "give the body and block of the root's event"),
    ("WrongPreviousRoot", "build the tree on the last posted one"),
    ("ZeroExpiry", "name the last block that the key may sign for"),
];

/// Roles by their row in a split table.
const ROLES: [&str; 6] = ["node", "agent", "base", "adapter", "data", "stakers"];

#[derive(Deserialize)]
struct Artifact {
    abi: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    inputs: Vec<Input>,
}

#[derive(Deserialize, Clone)]
struct Input {
    #[serde(rename = "type")]
    kind: String,
    name: String,
}

struct Known {
    name: String,
    inputs: Vec<Input>,
}

fn known() -> &'static BTreeMap<[u8; 4], Known> {
    static KNOWN: OnceLock<BTreeMap<[u8; 4], Known>> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let artifacts = ARTIFACTS.iter().map(|(name, text)| {
            serde_json::from_str::<Artifact>(text).unwrap_or_else(|error| panic!("the embedded artifact of {name} is an artifact: {error}"))
        });
        let errors = artifacts.flat_map(|artifact| artifact.abi).filter(|item| item.kind == "error");
        errors.map(|item| (selector(&item.name, &item.inputs), Known { name: item.name, inputs: item.inputs })).collect()
    })
}

fn selector(name: &str, inputs: &[Input]) -> [u8; 4] {
    let kinds: Vec<&str> = inputs.iter().map(|input| input.kind.as_str()).collect();
    let digest = keccak(&[format!("{name}({})", kinds.join(",")).as_bytes()]).0;
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A revert: its words, and the error's name if it is one of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revert {
    /// What happened and what to do.
    pub reason: String,
    /// Name in the contract.
    pub error: Option<String>,
}

/// The words of revert data.
pub fn words(data: &[u8]) -> Revert {
    let plain = |reason: String| Revert { reason, error: None };
    let Some((selector, arguments)) = data.split_first_chunk::<4>() else {
        return plain("without a reason".into());
    };
    match *selector {
        [0x08, 0xc3, 0x79, 0xa0] => return plain(text(arguments, 0).unwrap_or_else(|| "an unreadable reason".into())),
        [0x4e, 0x48, 0x7b, 0x71] => {
            return plain(format!("a panic of the contract, code 0x{}", hex::encode(arguments.get(31..32).unwrap_or(&[]))));
        }
        _ => {}
    }
    let Some(error) = known().get(selector) else {
        return plain(format!("an unknown error 0x{}", hex::encode(selector)));
    };
    let kind = |input: &Input| meaning(&error.name, &error.inputs, &input.name);
    let now = error.inputs.iter().position(|input| input.name == NOW).and_then(|place| word(arguments, place)).map(|word| second(&word));
    let arguments: Vec<String> =
        error.inputs.iter().enumerate().map(|(place, input)| argument(arguments, place, input, kind(input), now)).collect();
    let mut reason = spaced(&error.name);
    if !arguments.is_empty() {
        reason = format!("{reason} ({})", arguments.join(", "));
    }
    if let Some((_, fix)) = FIXES.iter().find(|(name, _)| *name == error.name) {
        reason = format!("{reason}: {fix}");
    }
    Revert { reason, error: Some(error.name.clone()) }
}

/// What a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Plain,
    Wei,
    /// Seconds since 1970.
    Time,
}

/// Errors whose numbers are amounts, and which of them.
const AMOUNTS: &[(&str, &[&str])] = &[
    ("AmountTooLarge", &["got"]),
    ("ClaimsAboveTotal", &["total", "claims"]),
    ("CreditAboveCollected", &["collected", "returned"]),
    ("CreditAmount", &["most", "got"]),
    ("CreditNotCollected", &["collected", "cumulative"]),
    ("CreditValue", &["expected", "got"]),
    ("FeesAboveStake", &["most", "open"]),
    ("InsufficientBalance", &["balance", "needed"]),
    ("NotEnough", &["held", "asked"]),
    ("NotEnoughFree", &["balance", "asked"]),
    ("NotEnoughStake", &["active", "asked"]),
    ("NothingToClaim", &["claimed", "cumulative"]),
    ("SignerMayOnlyGrow", &["cap"]),
    ("SignerSpent", &["left", "amount"]),
    ("StakeBelowMinimum", &["minimum", "got"]),
    ("StakeTooLarge", &["got"]),
    ("SumTooLarge", &["sum"]),
    ("TotalAboveReceived", &["received", "got"]),
    ("TotalFell", &["previous", "got"]),
    ("VoucherAboveLaneCap", &["cap", "cumulative"]),
    ("VoucherNotAboveCollected", &["collected", "cumulative"]),
    ("WrongBond", &["expected", "got"]),
    ("WrongTreeTotal", &["expected", "got"]),
];
/// The chain's time, beside which an error's other numbers are times too.
const NOW: &str = "timeNow";

fn meaning(error: &str, inputs: &[Input], name: &str) -> Meaning {
    if AMOUNTS.iter().any(|(known, names)| *known == error && names.contains(&name)) {
        Meaning::Wei
    } else if name == "finalAt" || inputs.iter().any(|input| input.name == NOW) {
        Meaning::Time
    } else {
        Meaning::Plain
    }
}

fn word(arguments: &[u8], place: usize) -> Option<[u8; 32]> {
    arguments.get(32 * place..32 * place + 32)?.try_into().ok()
}

/// A time of any century that anybody writes about; a longer number is no time, and is shown as the last of them.
fn second(word: &[u8; 32]) -> u64 {
    u64::try_from(U256::from_be_slice(word)).unwrap_or(u64::MAX)
}

fn argument(arguments: &[u8], place: usize, input: &Input, meaning: Meaning, now: Option<u64>) -> String {
    let name = spaced(&input.name);
    let value = word(arguments, place).and_then(|word| match input.kind.as_str() {
        // A row of a split table goes by the role that it pays.
        "uint256" if input.name == "row" => {
            number(&word, Meaning::Plain, None).parse::<usize>().ok().and_then(|row| ROLES.get(row)).map(ToString::to_string)
        }
        "string" => text(arguments, place),
        "address" => Some(format!("0x{}", hex::encode(&word[12..]))),
        "bool" => Some((word[31] != 0).to_string()),
        kind if kind.starts_with("uint") => Some(number(&word, meaning, now.filter(|_| input.name != NOW))),
        _ => Some(format!("0x{}", hex::encode(word))),
    });
    format!("{name} {}", value.as_deref().unwrap_or("unreadable"))
}

/// A number in the unit that people read: an amount in OPEN with all its digits, a time as a date.
fn number(word: &[u8; 32], meaning: Meaning, now: Option<u64>) -> String {
    let number = U256::from_be_slice(word);
    match (meaning, now) {
        (Meaning::Plain, _) => number.to_string(),
        (Meaning::Wei, _) => u128::try_from(number).map_or_else(|_| format!("{number} wei"), |wei| Amount(wei).in_open()),
        (Meaning::Time, Some(now)) => when(second(word), now),
        (Meaning::Time, None) => utc(second(word)),
    }
}

fn text(arguments: &[u8], place: usize) -> Option<String> {
    let size = |at: usize| -> Option<usize> {
        let word = arguments.get(at..at.checked_add(32)?)?;
        let number = u64::from_be_bytes(word[24..].try_into().ok()?);
        word[..24].iter().all(|byte| *byte == 0).then_some(())?;
        usize::try_from(number).ok()
    };
    let at = size(32 * place)?;
    let length = size(at)?;
    let start = at.checked_add(32)?;
    let bytes = arguments.get(start..start.checked_add(length)?)?;
    Some(String::from_utf8_lossy(bytes).into_owned())
}

/// `StakeBelowMinimum` and `laneId` as words.
fn spaced(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 6);
    for c in name.trim_matches('_').chars() {
        if c.is_ascii_uppercase() && !out.is_empty() {
            out.push(' ');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use alloy::{primitives::B256, sol_types::SolError};
    use proptest::prelude::*;

    use super::*;
    use crate::bindings::{AssetRegistry, FraudVerifier, StakeManager};

    #[test]
    fn custom_errors_name_what_was_expected_what_came_and_the_fix() {
        let data = StakeManager::StakeBelowMinimum { minimum: U256::from(100), got: 5 }.abi_encode();
        let expected = Revert {
            reason: "stake below minimum (minimum 0.0000000000000001 OPEN, got 0.000000000000000005 OPEN): stake more".into(),
            error: Some("StakeBelowMinimum".into()),
        };
        assert_eq!(words(&data), expected);
        let data = StakeManager::StillUnbonding { until: 10_800, timeNow: U256::from(3_600) }.abi_encode();
        let expected = "still unbonding (until 1970-01-01 03:00:00 UTC (in 2 h), time now 1970-01-01 01:00:00 UTC): wait";
        assert!(words(&data).reason.starts_with(expected), "{}", words(&data).reason);
        let data = FraudVerifier::WrongRoot { what: "answer".into(), expected: B256::ZERO, got: B256::repeat_byte(1) }.abi_encode();
        assert!(words(&data).reason.starts_with("wrong root (what answer, expected 0x00"));
    }

    #[test]
    fn a_row_of_a_split_table_goes_by_its_role() {
        let data = AssetRegistry::RowTooLow { row: U256::from(2), demandedByParent: 500, got: 499 }.abi_encode();
        let reason = words(&data).reason;
        assert!(reason.starts_with("row too low (row base, demanded by parent 500, got 499): raise the row"), "{reason}");
        let data = AssetRegistry::RowTooLow { row: U256::MAX, demandedByParent: 500, got: 499 }.abi_encode();
        assert!(words(&data).reason.contains("row unreadable"));
    }

    #[test]
    fn every_amount_is_an_argument_of_an_error_that_exists() {
        for (name, arguments) in AMOUNTS {
            let error = known().values().find(|error| error.name == *name).unwrap_or_else(|| panic!("{name} is in no contract"));
            for argument in *arguments {
                assert!(error.inputs.iter().any(|input| input.name == *argument && input.kind.starts_with("uint")), "{name}: {argument}");
            }
        }
    }

    #[test]
    fn every_fix_is_for_an_error_that_exists() {
        for (name, _) in FIXES {
            assert!(known().values().any(|error| error.name == *name), "{name} is in no contract");
        }
    }

    proptest! {
        #[test]
        fn revert_data_of_strangers_never_panics(data in proptest::collection::vec(any::<u8>(), 0..200), which in any::<proptest::sample::Index>()) {
            words(&data);
            let selectors: Vec<_> = known().keys().collect();
            let known: Vec<u8> = selectors[which.index(selectors.len())].iter().copied().chain(data).collect();
            words(&known);
        }
    }
}
