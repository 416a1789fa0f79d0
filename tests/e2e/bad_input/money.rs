//! What money commands are told that cannot be: each refusal says what, where and the fix, and nothing is sent or written.

use harness::{cluster::text, files};
use types::{
    amount::{Amount, WEI_PER_OPEN},
    id::Address,
};

use super::{Row, chain::Place, check, row};

/// An id that no case has.
const CASE: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
/// A witness that is not asked.
const WITNESS: &str = "1111111111111111111111111111111111111111111111111111111111111111";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn money_commands_that_cannot_be_carried_out_send_nothing_and_say_what_to_do() {
    let _alone = harness::alone().await;
    let place = super::chain::place().await;
    let money = async || {
        let rpc = place.reader.rpc();
        let nonce = rpc.nonce(place.account, true).await.expect("the chain answers");
        (nonce, place.reader.balance(place.account).await.expect("the chain answers"))
    };
    let before = money().await;
    command_lines(&place).await;
    check(&place.tributary, &place.folder, &never_staked()).await;
    check(&place.tributary, &place.folder, &of_nobody(text(&place.folder.join("tributary.toml")))).await;
    assert_eq!(money().await, before, "no transaction was sent");

    // The same with something there, which is asked for in the wrong amount or too early.
    place.devnet.fund(&[(place.account, Amount(50 * WEI_PER_OPEN))]).await.expect("the faucet pays");
    place.tributary.run(&place.folder, &["stake", "add", "12 OPEN"]).await;
    place.tributary.run(&place.folder, &["stake", "unbond", "2 OPEN"]).await;
    place.tributary.run(&place.folder, &["wallet", "deposit", "3 OPEN"]).await;
    place.tributary.run(&place.folder, &["wallet", "withdraw", "1 OPEN"]).await;
    let before = money().await;
    check(&place.tributary, &place.folder, &too_early_and_too_much()).await;
    assert_eq!(money().await, before, "no transaction was sent");
}

/// What is no command at all ends before the folder is looked at, with exit code 2.
async fn command_lines(place: &Place) {
    let before = files::listing(&place.folder);
    let lane = "0x1234";
    for (arguments, words) in [
        (&["wallet", "deposit", "-1"][..], &["-1"][..]),
        (&["wallet", "deposit", "1.5"], &["\"1.5\" is no amount", "OPEN with the unit"]),
        (&["wallet", "deposit", "1e18"], &["is no amount"]),
        (&["wallet", "deposit", "1 ETH"], &["is no amount"]),
        (&["wallet", "deposit", "0.0000000000000000001 OPEN"], &["at most 18 decimals"]),
        (&["wallet", "deposit", "340282366920938463463374607431768211456"], &["overflows"]),
        (&["wallet", "deposit"], &["AMOUNT"]),
        (&["wallet", "withdraw", "all"], &["\"all\" is no amount"]),
        (&["wallet", "refund", lane], &[lane]),
        (&["stake", "add", "many"], &["\"many\" is no amount"]),
        (&["stake", "add", "1 OPEN", "--payout", "0x12"], &["0x12"]),
        (&["stake", "leave"], &["ROLES"]),
        (&["stake", "leave", "king"], &["king", "poster"]),
        (&["stake", "release", "fault"], &["fault"]),
        (&["claim", "--for", "nobody"], &["nobody"]),
        (&["audit", "case", "open"], &["EVIDENCE"]),
        (&["audit", "case", "open", "nowhere.json", "--part", "-1"], &["-1"]),
        (&["audit", "case", "close", "0x12"], &["0x12"]),
        (&["receipt", "log", "verify", "--witness", "nobody"], &["nobody", "write NODE_ID@http://ADDRESS"]),
        (&["receipt", "log", "verify", "--quorum", "2"], &["--witness"]),
        (&["receipt", "log", "verify", "--witness", "nobody@http://a", "--quorum", "two"], &["nobody"]),
        (&["receipt", "log", "verify", "--witness", WITNESS, "--quorum", "0"], &["--quorum", "zero"]),
        (&["audit", "case", "answer", "everything"], &["everything"]),
        (&["audit", "case", "list", "--node", "somebody"], &["somebody"]),
        (&["chain", "deploy", "--governor", "0x12", "--protocol", "0x12"], &["0x12"]),
        (&["wallet", "deposit", "1 OPEN", "--yes", "--dry-run"], &["--yes", "--dry-run"]),
    ] {
        let outcome = place.tributary.outcome(&place.folder, arguments).await;
        let error = outcome.json["error"].as_str().unwrap_or_default().to_owned();
        assert_eq!(outcome.code, Some(2), "{outcome}");
        for word in words {
            assert!(error.contains(word), "{arguments:?} was refused without {word:?}: {error}");
        }
    }
    assert_eq!(files::listing(&place.folder), before, "nothing was written");
}

/// An account that has an OPEN, and nothing anywhere else.
fn never_staked() -> Vec<Row> {
    vec![
        row(&["wallet", "deposit", "0"], &["a deposit of 0 changes nothing", "name an amount"]),
        row(&["wallet", "deposit", "1000 OPEN"], &["deposit", "nothing was sent", "fund the account"]),
        row(&["wallet", "withdraw"], &["nothing was asked back", "name an amount"]),
        row(&["wallet", "withdraw", "0"], &["0 would cancel", "leave the amount out"]),
        row(&["wallet", "withdraw", "1 OPEN"], &["1 OPEN are more than the deposit of 0 OPEN"]),
        row(
            &["wallet", "refund", &Address::ZERO.to_string().replace("0x", "0x000000000000000000000000")],
            &["nothing was collected on", "wallet lanes"],
        ),
        row(&["wallet", "session", "revoke", "phone"], &["phone"]),
        row(&["stake", "add", "0"], &["a stake of 0 changes nothing", "name an amount"]),
        row(&["stake", "add", "0.5 OPEN"], &["stake below minimum", "got 0.5 OPEN", "stake more"]),
        row(&["stake", "unbond", "1 OPEN"], &["never staked"]),
        row(&["stake", "withdraw"], &["never staked"]),
        row(&["stake", "leave", "poster"], &["has the roles []"]),
        row(&["stake", "release"], &["no slash", "name a fault"]),
        row(&["stake", "release", &format!("0x{}", "11".repeat(32))], &["nobody was slashed for fault", "audit prove"]),
    ]
}

/// What belongs to others, or is not there.
fn of_nobody(config: &str) -> Vec<Row> {
    vec![
        row(&["registry", "freeze", "1@1"], &["asset 1 is not registered", "nothing was sent"]),
        row(&["registry", "freeze", "1"], &["ASSET@VERSION"]),
        row(&["registry", "rollback", "poems"], &["no asset is named \"poems\"", "give its number"]),
        row(&["registry", "redirect", "9", "--to", "1"], &["asset 9 is not registered", "nothing was sent"]),
        row(&["registry", "publish", "9", "--content", &"0a".repeat(32)], &["asset 9 is not registered", "nothing was sent"]),
        row(&["datanet", "rent", "nothing", "--prepay", "1 OPEN"], &["no Datanet is called \"nothing\""]),
        row(&["claim", "--credit", "nowhere.json"], &["nowhere.json", "No such file"]),
        row(&["audit", "case", "open", "nowhere.json"], &["nowhere.json", "No such file"]),
        row(&["audit", "case", "open", config], &["tributary.toml", "expected evidence of a failed audit"]),
        row(&["audit", "case", "close", CASE], &["no case 0x", "audit case list"]),
        row(&["audit", "case", "answer", CASE], &["no case 0x", "audit case list"]),
        row(&["registry", "show", "1"], &["asset 1 is not registered", "no other one is"]),
        row(&["epoch", "show", "7"], &["no epoch has opened yet", "nodes open one when they settle"]),
        row(&["epoch", "export", "7", "--out", "anywhere"], &["epoch 7 has no payout on the chain yet"]),
        row(&["audit", "replay", "nowhere"], &["nowhere/index.json", "tributary epoch export"]),
        row(&["audit", "prove", "nowhere"], &["nowhere", "No such file"]),
        row(&["audit", "index", "nothing"], &["no base, adapter or agent is called \"nothing\""]),
        row(&["audit", "index", "9@1"], &["no index root was posted for version 9@1", "nothing to compare"]),
    ]
}

/// 10 OPEN at stake, 2 unbonding, 3 deposited, 1 of them thawing.
fn too_early_and_too_much() -> Vec<Row> {
    vec![
        row(&["wallet", "withdraw"], &["1 OPEN can be taken from", "UTC (in", "run this again then"]),
        row(&["wallet", "withdraw", "4 OPEN"], &["4 OPEN are more than the deposit of 3 OPEN"]),
        row(&["stake", "withdraw"], &["2 OPEN can be withdrawn from", "UTC (in", "run this again then"]),
        row(&["stake", "unbond", "11 OPEN"], &["11 OPEN cannot be unbonded", "the active stake is 10 OPEN"]),
        row(&["stake", "unbond", "0"], &["0 OPEN cannot be unbonded"]),
        row(&["stake", "leave", "poster"], &["has the roles [\"node\"]"]),
        row(&["stake", "add", "1000 OPEN"], &["increase stake", "nothing was sent", "fund the account"]),
    ]
}
