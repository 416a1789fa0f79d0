//! A refund left out of a tree that its poster shows nowhere but on the chain: its payer opens that it is not there, and asks again.

use chain_bridge::{
    bindings::PayoutVerifier,
    fraud::{
        calldata::Step,
        challenge::{leaf_evidence, part_evidence},
        payout::Shown,
        withheld::{Answers, Question, Sought, absence},
    },
};
use types::{amount::Amount, encoding::Document, id::Address, payout::PartLeaf, voucher::Lane};

use super::{
    harness::account,
    money::{World, seal},
    transcript::cases,
};

/// What the poster's answers on the chain say of a part, and after how many questions.
fn sought(world: &mut World, posted: &Shown, payer: Address, part: &PartLeaf) -> (Sought, usize) {
    let (asker, poster) = (account(4).address(), world.t.node.address());
    let mut answers = Answers::default();
    for asked in 0..40 {
        let (question, leaf) = match absence(&answers, payer, part) {
            Sought::Ask(question, leaf) => (question, leaf),
            found => return (found, asked),
        };
        let (ask, shown, evidence) = match question {
            Question::Leaf(index) => {
                let evidence = leaf_evidence(posted, index);
                (Step::ask_leaf(index), Step::show_leaf(index, evidence.clone()), evidence)
            }
            Question::Part { leaf: place, index, .. } => {
                let evidence = part_evidence(posted, place as usize, index).unwrap();
                (Step::ask_part(leaf, index), Step::show_part(index, evidence.clone()), evidence)
            }
        };
        world.t.evm.step(asker, &ask).unwrap();
        world.t.evm.step(poster, &shown).unwrap();
        answers.take(&evidence, posted.root());
    }
    panic!("no end");
}

/// Asks for a lane's refund; the epoch that it is due in by then.
fn request(world: &mut World, payer: Address, lane: &Lane, absence: &[u8]) -> Result<u64, String> {
    let call = PayoutVerifier::requestRefundCall { lane: lane.encode().into(), absence: absence.to_vec().into() };
    let payout = world.t.evm.deployment.payout;
    world.t.evm.call(payer, payout, &call, Amount::ZERO)?;
    Ok(world.t.evm.state.refund(lane.id()).unwrap().epoch)
}

#[test]
fn a_refund_left_out_of_a_tree_that_nobody_serves_is_asked_for_again_by_what_was_shown_on_the_chain() {
    let mut asked_again = 0;
    for seed in 0..u64::from(cases(1)) {
        let mut world = World::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x1ef7_5678_9abc_def1);
        let honest = world.expected();
        let before = world.t.evm.snapshot();
        let refunds = honest.iter().enumerate().flat_map(|(line, of)| {
            let parts = of.parts.iter().enumerate();
            parts.filter_map(move |(place, row)| Some((line, place, row.part().filter(|part| part.refund.is_some())?)))
        });
        for (line, place, part) in refunds {
            let payer = honest[line].account;
            // In the honest tree it is there.
            world.t.evm.restore(&before);
            let shown = Shown::new(seal(&honest)).unwrap();
            world.post(&shown, shown.total()).unwrap();
            assert_eq!(sought(&mut world, &shown, payer, &part).0, Sought::There);
            for is_whole_line in [false, true] {
                let mut lines = honest.clone();
                if is_whole_line {
                    lines.remove(line);
                } else {
                    lines[line].parts.remove(place);
                }
                let posted = Shown::new(seal(&lines)).unwrap();
                world.t.evm.restore(&before);
                // A total below the last one is posted by nobody.
                if world.post(&posted, posted.total()).is_err() {
                    continue;
                }
                let (found, questions) = sought(&mut world, &posted, payer, &part);
                let Sought::Absent(absence) = found else { panic!("{found:?}") };
                assert!(questions <= 14, "{questions} questions");
                let lane = world.t.evm.state.lane_body(part.lane().unwrap()).unwrap();
                assert!(request(&mut world, payer, &lane, &absence).is_err(), "while it may be disputed it is due");
                world.t.evm.time += world.t.evm.deployment.config.w2_s;
                assert!(request(&mut world, payer, &lane, &[]).is_err(), "a refund is asked for once");
                let epoch = request(&mut world, payer, &lane, &absence).unwrap();
                assert!(epoch > world.epoch, "due in the next epoch");
                asked_again += 1;
            }
        }
    }
    assert!(asked_again > 2, "{asked_again}");
}
