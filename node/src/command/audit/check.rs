//! A node's signed report on a receipt, asked for and verified.

use std::{net::SocketAddr, path::Path, time::Duration};

use anyhow::{Context as _, bail, ensure};
use attribution::bundle::Bundle;
use inference::proto::message::{CLIENT_FRAME_MAX, FromClient, FromNode};
use p2p::overlay::OverlayHandle;
use serde::Serialize;
use types::{
    encoding::Document as _,
    id::{Address, Hash32, NodeId},
    key::Signed,
    quote::Profile,
    receipt::{CheckReport, Finding},
};

use crate::{
    command::{
        Context, receipt,
        talk::{ask_node, joining},
    },
    config::Config,
    running::Addresses,
};

/// How long a node may take: 4,096 tokens at 20 a second, and some.
const PATIENCE: Duration = Duration::from_secs(300);
/// Most bytes of a bundle in one message of a client: the frame's own bytes around it are fewer than 64.
const QUESTION_BYTES_MAX: usize = CLIENT_FRAME_MAX - 64;
/// How long the node's ad is awaited.
const ADS_WAIT: Duration = Duration::from_secs(15);

/// What is printed: the report, and who answers for it.
#[derive(Debug, Serialize)]
struct Printed {
    finding: Finding,
    /// Output token, byte or span concerned; 0 when all agrees.
    position: u32,
    /// The numeric rules that the answer was made under, and executed again.
    profile: Profile,
    node: NodeId,
    checker: Address,
    receipt: Hash32,
    trace: Hash32,
    /// The report as it was signed.
    report: Signed<CheckReport>,
}

/// Who is asked.
struct Checker {
    node: NodeId,
    account: Address,
    addr: SocketAddr,
}

/// Asks a node (this folder's own if none is named) and verifies what it signs.
pub(super) async fn run(context: &Context, file: &Path, node: Option<NodeId>, bootstrap: Vec<String>) -> anyhow::Result<()> {
    let bundle = receipt::read(file)?;
    let checker = find(context, &joining(context, bootstrap)?, node).await?;
    context.output.note(&format!("node {} executes {} tokens again", checker.node, bundle.token_ids.len()));
    let question = question(&bundle).with_context(|| format!("{}", file.display()))?;
    // The folder's own key: a node executes answers again for its operator and for nodes with stake.
    let seed = context.seed()?;
    let FromNode::Checked(report) = ask_node(checker.addr, checker.node, &seed, &question, PATIENCE).await? else {
        bail!("node {} answered something else than a report: it is of another version", checker.node);
    };
    verify(&report, &bundle, checker.account).with_context(|| format!("the report of node {}", checker.node))?;
    let document = report.document;
    let printed = Printed {
        finding: document.finding,
        position: document.position,
        profile: bundle.receipt.document.profile,
        node: checker.node,
        checker: document.checker,
        receipt: document.receipt,
        trace: document.trace,
        report,
    };
    context.output.result(&printed, || describe(&printed))
}

/// The bundle in one message, without spaces.
fn question(bundle: &Bundle) -> anyhow::Result<FromClient> {
    let bundle = serde_json::to_string(bundle)?;
    ensure!(
        bundle.len() <= QUESTION_BYTES_MAX,
        "the bundle takes {} bytes, a node reads at most {QUESTION_BYTES_MAX} of one in a message: answers with so many sources cannot be executed \
         by another node; `tributary receipt verify --full` checks everything else about them",
        bundle.len()
    );
    Ok(FromClient::Check { bundle })
}

/// Whether a report is about this receipt and signed by the account that answers for the node.
fn verify(report: &Signed<CheckReport>, bundle: &Bundle, account: Address) -> anyhow::Result<()> {
    let document = &report.document;
    ensure!(document.checker == account, "it is signed in the name of {}, the node's account is {account}", document.checker);
    report.verify(&bundle.domains, account)?;
    let expected = bundle.receipt.document.hash();
    ensure!(document.receipt == expected, "it is about receipt {}, asked for was {expected}", document.receipt);
    ensure!(document.finding != Finding::Agrees || document.position == 0, "it agrees, yet names position {}", document.position);
    Ok(())
}

async fn find(context: &Context, config: &Config, node: Option<NodeId>) -> anyhow::Result<Checker> {
    let own = Addresses::read(&context.data);
    match (node, own) {
        (None, own) => own.map(own_checker),
        (Some(node), Ok(own)) if own.node == node => Ok(own_checker(own)),
        (Some(node), _) => {
            let overlay = context.light_overlay(config).await?;
            let found = advertised(&overlay, node).await;
            overlay.shutdown().await;
            found
        }
    }
}

fn own_checker(addresses: Addresses) -> Checker {
    Checker { node: addresses.node, account: addresses.account, addr: addresses.clients }
}

async fn advertised(overlay: &OverlayHandle, node: NodeId) -> anyhow::Result<Checker> {
    let ads = overlay.wait_ads(|ads| ads.iter().any(|signed| signed.ad().node == node), ADS_WAIT).await;
    let ads = ads.with_context(|| format!("node {node} is not heard of: is it running, and is --bootstrap of the same network?"))?;
    let ad = ads.iter().map(|signed| signed.ad()).find(|ad| ad.node == node).with_context(|| format!("node {node} has left"))?;
    Ok(Checker { node, account: ad.account, addr: ad.client_addr })
}

fn describe(printed: &Printed) -> String {
    let found = match printed.finding {
        Finding::Agrees => "agrees with everything".to_owned(),
        Finding::Token => format!("output token {} is not what the model gives", printed.position),
        Finding::Activations => format!("the activations from output token {} on are not near the model's", printed.position),
        Finding::Text => format!("the answer differs from its tokens at byte {}", printed.position),
        Finding::Attribution => format!("spans, weights or masks differ (position {})", printed.position),
        Finding::Split => "the fee or its parts differ".to_owned(),
        Finding::Signature => "a signature or what it binds does not stand".to_owned(),
    };
    let is_of_numbers = matches!(printed.finding, Finding::Token | Finding::Activations);
    let weight = match printed.profile.is_proved() || !is_of_numbers {
        true => String::new(),
        false => format!(
            "\nin the profile {} machines differ: this is evidence of another model, prompt or adapter, and no proof; nobody is slashed for it",
            printed.profile
        ),
    };
    format!(
        "{found}{weight}\n\nreceipt {}\nchecked by {} for account {}\ntrace   {}\nthe report is signed and verifies",
        printed.receipt, printed.node, printed.checker, printed.trace
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(finding: Finding, position: u32) -> Printed {
        let document = CheckReport { checker: Address([1; 20]), receipt: Hash32([2; 32]), finding, position, trace: Hash32([3; 32]) };
        let report = Signed { document, signature: types::key::Signed65([4; 65]) };
        Printed {
            finding,
            position,
            profile: Profile::Exact,
            node: NodeId([5; 32]),
            checker: document.checker,
            receipt: document.receipt,
            trace: document.trace,
            report,
        }
    }

    #[test]
    fn findings_are_words_in_json_and_name_their_position_in_text() {
        let value = serde_json::to_value(printed(Finding::Token, 17)).unwrap();
        assert_eq!((&value["finding"], &value["position"]), (&"token".into(), &17.into()));
        assert!(describe(&printed(Finding::Token, 17)).starts_with("output token 17 is not"));
        assert!(describe(&printed(Finding::Agrees, 0)).starts_with("agrees"));
    }

    #[test]
    fn what_is_found_of_a_fast_answer_s_numbers_is_called_no_proof_and_what_is_found_of_an_exact_one_s_is_not() {
        let said = |profile, finding| describe(&Printed { profile, ..printed(finding, 32) });
        for finding in [Finding::Token, Finding::Activations] {
            assert!(said(Profile::Fast, finding).contains("no proof; nobody is slashed"));
            assert!(!said(Profile::Exact, finding).contains("no proof"));
        }
        assert!(said(Profile::Fast, Finding::Activations).starts_with("the activations from output token 32 on"));
        // A signature or a fee is as false in one profile as in another.
        assert!(!said(Profile::Fast, Finding::Signature).contains("no proof"));
    }
}
