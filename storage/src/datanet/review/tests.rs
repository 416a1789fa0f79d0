use types::key::Account;

use super::*;
use crate::datanet::{Card, Contribution, Datanet, Document as Row, GatePolicy, Place};

const NET: AssetId = AssetId(3);
const COMMITMENT: Hash32 = Hash32([6; 32]);

fn domains() -> Domains {
    let address = |byte| Address([byte; 20]);
    Domains { chain_id: 31_337, escrow: address(1), registry: address(2), settlement: address(3), stake: address(4) }
}

fn account(byte: u8) -> Account {
    Account::from_bytes(&[byte; 32]).unwrap()
}

fn report(policy: GatePolicy, texts: &[&str]) -> Report {
    let card = Card::new("a".parse().unwrap(), String::new(), "MIT".parse().unwrap(), vec![], vec![]).unwrap().with_policy(policy).unwrap();
    let documents = texts.iter().map(|text| Row::new(None, None, text.as_bytes()).unwrap()).collect();
    let given = Contribution { contributor: account(9).address(), licence: "MIT".parse().unwrap(), documents };
    Datanet::new(card).gate(Place::default(), &given)
}

fn case() -> Case {
    let policy = GatePolicy { personal_data: Action::Quarantine, ..GatePolicy::default() };
    let report = report(policy, &["write to anna@example.org", "tides"]);
    assert!(report.can_wait());
    Case { datanet: NET, commitment: COMMITMENT, since: 5, shard_bytes: 100, report, approvals: vec![], rejection: None }
}

fn act(case: &Case, act: Act, reason: &str) -> ReviewAct {
    let (report, reason) = (case.report.digest(), keccak(&[reason.as_bytes()]));
    ReviewAct { datanet: NET, commitment: COMMITMENT, report, act, reason, gate: NodeId([8; 32]), block: 7 }
}

fn signed(case: &Case, by: u8, what: Act, reason: &str) -> Signed<ReviewAct> {
    Signed::new(&account(by), &domains(), act(case, what, reason))
}

fn reviewers(address: Address) -> bool {
    [1, 2, 9].map(|byte| account(byte).address()).contains(&address)
}

#[test]
fn two_reviewers_let_a_contribution_in_and_its_report_proves_it() {
    let mut case = case();
    assert_eq!((case.state(), case.accepted()), ("waits", None));
    case.decide(&domains(), &signed(&case, 1, Act::Approve, ""), "", reviewers).unwrap();
    case.decide(&domains(), &signed(&case, 1, Act::Approve, ""), "", reviewers).unwrap();
    assert_eq!((case.state(), case.approvals.len()), ("waits", 1), "the same reviewer counts once");
    case.decide(&domains(), &signed(&case, 2, Act::Approve, ""), "", reviewers).unwrap();
    let accepted = case.accepted().unwrap();
    let by = accepted.approved_by(&domains(), (NET, COMMITMENT), reviewers).unwrap();
    assert_eq!(by, [1, 2].map(|byte| account(byte).address()));
    let again: Report = serde_json::from_str(&accepted.to_json()).unwrap();
    assert_eq!((&again, again.digest()), (&accepted, accepted.digest()));

    let other = accepted.approved_by(&domains(), (NET, Hash32::ZERO), reviewers);
    assert_eq!(other, Err(ApprovalError::Other(1)));
    let changed = Report { documents: 7, ..accepted.clone() };
    assert_eq!(changed.approved_by(&domains(), (NET, COMMITMENT), reviewers), Err(ApprovalError::Other(1)));
    let once = Report { approvals: accepted.approvals[..1].to_vec(), ..accepted.clone() };
    assert_eq!(once.approved_by(&domains(), (NET, COMMITMENT), reviewers), Err(ApprovalError::TooFew { got: 1 }));
    let twice = Report { approvals: vec![accepted.approvals[0].clone(); 2], ..accepted.clone() };
    assert!(matches!(twice.approved_by(&domains(), (NET, COMMITMENT), reviewers), Err(ApprovalError::By { number: 2, .. })));
    let nobody = accepted.approved_by(&domains(), (NET, COMMITMENT), |_| false);
    assert!(matches!(nobody, Err(ApprovalError::By { number: 1, .. })));
}

#[test]
fn one_rejection_ends_it_and_nobody_decides_on_what_they_bring() {
    let mut case = case();
    let own = case.decide(&domains(), &signed(&case, 9, Act::Approve, ""), "", reviewers).unwrap_err();
    assert!(own.to_string().contains("brings the contribution"), "{own}");
    let stranger = case.decide(&domains(), &signed(&case, 4, Act::Reject, "no"), "no", reviewers).unwrap_err();
    assert!(stranger.to_string().contains("does not review"), "{stranger}");
    let reason = case.decide(&domains(), &signed(&case, 1, Act::Reject, "no"), "yes", reviewers);
    assert_eq!(reason, Err(DecideError::Other("reason")));
    let stale = signed(&Case { report: Report { documents: 9, ..case.report.clone() }, ..case.clone() }, 1, Act::Approve, "");
    assert_eq!(case.decide(&domains(), &stale, "", reviewers), Err(DecideError::Other("report")));
    assert_eq!(case.decide(&domains(), &signed(&case, 1, Act::Show, ""), "", reviewers), Err(DecideError::Other("act")));
    case.decide(&domains(), &signed(&case, 1, Act::Approve, ""), "", reviewers).unwrap();
    case.decide(&domains(), &signed(&case, 1, Act::Reject, "her address"), "her address", reviewers).unwrap();
    let (state, reason) = (case.state(), case.rejection.as_ref().map(|rejection| rejection.reason.as_str()));
    assert_eq!((state, reason, case.accepted()), ("rejected", Some("her address"), None));
    assert_eq!(case.decide(&domains(), &signed(&case, 2, Act::Approve, ""), "", reviewers), Err(DecideError::Decided("rejected")));
    let kept: Case = serde_json::from_str(&serde_json::to_string(&case).unwrap()).unwrap();
    assert_eq!(kept, case);
}

#[test]
fn what_is_blocked_or_to_be_redacted_waits_for_nobody() {
    for action in [Action::Block, Action::Redact] {
        let report = report(GatePolicy { personal_data: action, ..GatePolicy::default() }, &["write to anna@example.org"]);
        assert!(!report.can_wait());
        let forced = Report { accepted: true, ..report };
        assert_eq!(forced.approved_by(&domains(), (NET, COMMITMENT), reviewers), Err(ApprovalError::Blocked(1)));
    }
    let noted = report(GatePolicy::default(), &["write to anna@example.org"]);
    assert_eq!(noted.approved_by(&domains(), (NET, COMMITMENT), reviewers), Ok(vec![]), "a note needs nobody");
}

#[test]
fn the_draw_follows_the_share_and_a_drawn_report_waits() {
    let drawn = |per_mille| (0..2000_u32).filter(|number| is_drawn(keccak(&[&number.to_be_bytes()]), Hash32([1; 32]), per_mille)).count();
    assert_eq!((drawn(0), drawn(1000)), (0, 2000));
    // 100 expected; 60 to 140 is four standard deviations.
    assert!((60..140).contains(&drawn(50)), "{}", drawn(50));
    let report = report(GatePolicy::default(), &["tides"]).sampled(12, 50);
    assert!(report.can_wait() && report.refusals[0].rule == Rule::Sampled);
    assert!(report.to_json().contains("\"rule\":\"sampled\""));
}

#[test]
fn acts_draws_and_salted_roots_are_those_of_the_vectors() {
    use serde_json::Value;
    let all: Value = serde_json::from_str(include_str!("../../../../tests/fixtures/storage_vectors.json")).unwrap();
    let bytes = |value: &Value| hex::decode(value.as_str().unwrap().trim_start_matches("0x")).unwrap();
    let hash = |value: &Value| Hash32(bytes(value).try_into().unwrap());
    let address = |name: &str| Address(bytes(&all["contracts"][name]).try_into().unwrap());
    let domains = Domains {
        chain_id: all["chainId"].as_u64().unwrap(),
        escrow: address("InferenceEscrow"),
        registry: address("AssetRegistry"),
        settlement: address("Settlement"),
        stake: address("StakeManager"),
    };
    let (vectors, given) = (&all["review"], &all["review"]["act"]);
    let act = ReviewAct::decode(&bytes(&given["body"])).unwrap();
    assert_eq!((act.datanet, act.commitment, act.act, act.block), (NET, COMMITMENT, Act::Reject, 4));
    assert_eq!((act.report, act.reason, act.gate), (Hash32([1; 32]), keccak(&[b"her address"]), NodeId([8; 32])));
    assert_eq!((act.encode(), act.hash(), domains.digest(&act)), (bytes(&given["body"]), hash(&given["hash"]), hash(&given["digest"])));
    let signer = Account::from_bytes(&bytes(&given["signer"]).try_into().unwrap()).unwrap();
    assert_eq!(signer.sign(&domains, &act).0.to_vec(), bytes(&given["signature"]));
    assert_eq!(signer.address().0.to_vec(), bytes(&given["account"]));
    let mut wrong = act.encode();
    wrong[72] = 4;
    assert!(ReviewAct::decode(&wrong).is_err() && ReviewAct::decode(&wrong[1..]).is_err());

    let draws = vectors["draws"].as_array().unwrap();
    for draw in draws {
        let (root, number) = (hash(&draw["textRoot"]), u16::try_from(draw["number"].as_u64().unwrap()).unwrap());
        assert_eq!([number, number + 1].map(|share| is_drawn(hash(&vectors["seed"]), root, share)), [false, true], "{draw}");
    }
    let roots = vectors["roots"].as_array().unwrap();
    for root in roots {
        assert_eq!(crate::datanet::private::root(&bytes(&root["text"]), Some(hash(&vectors["salt"]))), hash(&root["root"]));
    }
    assert_eq!((draws.len(), roots.len()), (8, 2));
}

#[test]
fn a_contribution_with_rows_of_another_that_waits_or_was_rejected_waits_too_and_names_them() {
    let again = |row, rejected_by| Again {
        row,
        earlier_row: 7,
        more: 2,
        commitment: COMMITMENT,
        contributor: account(9).address(),
        since: 5,
        rejected_by,
    };
    let passed = report(GatePolicy::default(), &["fog", "tides"]);
    assert_eq!(passed.clone().again(&[]), passed);
    let by = account(1).address();
    let held = passed.clone().again(&[again(2, None), again(1, Some(by))]);
    assert!(held.can_wait());
    let rules: Vec<_> = held.refusals.iter().map(|refusal| (refusal.row, refusal.rule)).collect();
    assert_eq!(rules, [(1, Rule::Rejected), (2, Rule::Sampled)]);
    let detail = &held.refusals[0].detail;
    assert!(detail.contains(&format!("row 7 of the contribution under commitment {COMMITMENT}")), "{detail}");
    assert!(detail.contains(&format!("which reviewer {by} rejected, and 2 more rows")), "{detail}");
    assert!(held.refusals[1].detail.contains("waits for two reviewers"));
    // What a policy blocks is refused all the same, and a list of findings has its length.
    let blocks = report(GatePolicy { personal_data: Action::Block, ..GatePolicy::default() }, &["write to anna@example.org"]);
    assert_eq!(blocks.clone().again(&[again(1, None)]), blocks);
    assert_eq!(passed.again(&[again(1, None); AGAIN_MAX + 1]).refusals.len(), AGAIN_MAX);
}
