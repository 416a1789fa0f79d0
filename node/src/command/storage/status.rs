//! `tributary storage status`: each object with a picture of its fragments, the node's room, and its audits.

use clap::Args as ClapArgs;
use storage::proto::audit::standing::Lifting;
use types::id::BlobId;

use super::{Context, ObjectRow, Report, picture, report};
use crate::{
    notice::now_s,
    output::table,
    service::{
        keeping::report::{PaceRow, Stands},
        upkeep,
    },
};

/// Show what the running node holds, how each object stands, and how its audits ended.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "One letter per fragment: @ held here, # held by another node, . its holder is silent, x lost. An object that falls below its floor is due: its\ncoordinators of the epoch bring it back to all fragments. The node reads every byte it keeps once in [keeping] scrub_days (14), marks what has rotted and has it\ncomputed anew, frees the room of what was released ([keeping] collect_bytes_per_s), and keeps nothing of an object whose manifest was proved to be a lie.\n\nExamples:\n  tributary storage status\n  tributary storage status 8f0c...e1 --json\n\nNext: tributary storage repair makes the node look at once."
)]
pub(super) struct Args {
    /// Only this object.
    object: Option<BlobId>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: &Args) -> anyhow::Result<()> {
    let report = report(context, args.object).await?;
    context.output.result(&report, || describe(&report))
}

fn describe(report: &Report) -> String {
    let mut text = format!(
        "node      {}\nepoch     {}\nroom      {}\nstanding  {}\naudits    {}\nroll      {}\npace      {}\nupkeep    {}\n",
        report.node,
        report.epoch,
        room(report),
        standing(report),
        audits(report),
        report.roll,
        paced(report.pace),
        upkept(&report.upkeep, now_s())
    );
    if !report.is_storing {
        text.push_str("\nthis node does not store: set storage = true in its configuration");
        return text;
    }
    if report.objects.is_empty() && report.upkeep.unrecorded > 0 {
        text.push_str("\nno object is listed before it is known who holds its other fragments");
        return text;
    }
    if report.objects.is_empty() {
        text.push_str("\nno fragments are held: a node with stake is given some when somebody contributes");
        return text;
    }
    text.push('\n');
    let rows: Vec<_> = report.objects.iter().map(|row| line(row, report)).collect();
    text.push_str(&table(&["object", "Datanet", "code", "fragments", "held", "away", "lost", "floor", "repair"], &rows));
    text
}

/// What the store takes of its capacity, and what the disk has left.
fn room(report: &Report) -> String {
    let Report { used_bytes, capacity_bytes, free_bytes, disk_free_bytes, disk_reserve_bytes, .. } = report;
    let percent = used_bytes.saturating_mul(100) / (*capacity_bytes).max(1);
    let mut text = format!(
        "{used_bytes} bytes used of {capacity_bytes} ({percent} %), {free_bytes} free for fragments; the disk has {disk_free_bytes} left, of which {disk_reserve_bytes} are kept for everything else"
    );
    if report.is_storing && !report.has_room {
        text.push_str("\n          no new fragments are taken: raise [keeping.store] capacity_bytes, or make room on the disk; below [keeping] room_bytes of free ones it takes none");
    }
    text
}

/// Where the node stands, and what lifts a suspension.
fn standing(report: &Report) -> String {
    let Some(Lifting { to_pass, to_idle }) = report.lifting else { return report.standing.clone() };
    format!(
        "{}: no rent and no new fragments until it passes {to_pass} more audits without one late or failed, or is there and holds nothing for {to_idle} more epochs in a row",
        report.standing
    )
}

fn audits(report: &Report) -> String {
    let each: Vec<_> = report.audits.iter().map(|audit| format!("{} {:?}", audit.epoch, audit.outcome).to_lowercase()).collect();
    if each.is_empty() { "none yet".to_owned() } else { format!("epoch {}", each.join(", ")) }
}

/// What the node grants those that it audits, and who is caught by it.
fn paced(pace: Option<PaceRow>) -> String {
    let Some(pace) = pace else { return "no epoch of audits yet".to_owned() };
    let tenths = |micros: u64| format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100);
    let origin =
        if pace.is_measured { "measured on this store, at least 5 ms" } else { "the most that counts: too little is held to measure" };
    format!(
        "{} for a range of 16 KiB ({origin}): an answer is due {} after its challenge, beside the round trip; who fetches what it is asked for is caught from {} to its source, or {} if it answers pings at once",
        tenths(pace.read_us),
        tenths(pace.deadline_us),
        // A microsecond above the bound, and never below it in print.
        tenths(pace.caught_from_us + 99),
        tenths(pace.caught_from_if_plain_us + 99)
    )
}

/// What the node does by itself, in a line or some.
fn upkept(upkeep: &upkeep::Report, now_s: u64) -> String {
    let upkeep::Scrub { days, bytes_per_s, bytes, bytes_total, last_round_s, .. } = upkeep.scrub;
    let last =
        last_round_s.map_or_else(String::new, |ended_s| format!(", the last round ended {} h ago", now_s.saturating_sub(ended_s) / 3_600));
    let mut text = match days {
        0 => "the store is not read for rot ([keeping] scrub_bytes_per_s = 0)".to_owned(),
        days => format!("{bytes} of {bytes_total} bytes read for rot at {bytes_per_s} bytes/s, all within {days} days{last}"),
    };
    if upkeep.dead_bytes > 0 || upkeep.collected_bytes > 0 {
        text.push_str(&format!(
            "; {} bytes released and not yet freed, {} freed since the start",
            upkeep.dead_bytes, upkeep.collected_bytes
        ));
    }
    if upkeep.handed_on > 0 {
        text.push_str(&format!("; {} fragments that others took over were released", upkeep.handed_on));
    }
    if upkeep.lost_bytes > 0 {
        text.push_str(&format!(
            "\nlost      {} bytes of segments were gone from the disk at the start, and {} items with them: what is not mended yet is rotten below",
            upkeep.lost_bytes, upkeep.lost_items
        ));
    }
    if upkeep.rotten_items > 0 {
        text.push_str(&format!(
            "\nrotten    {} items are damaged or gone, and offered to nobody: to be had anew from other holders",
            upkeep.rotten_items
        ));
    }
    for item in &upkeep.rotten {
        text.push_str(&format!("\nrotten    {item}: to be computed anew"));
    }
    if upkeep.unrecorded > 0 {
        text.push_str(&format!(
            "\nunknown   {} objects have fragments here and no record of who holds the others (a salvage saves none from an index that cannot be read): other nodes are asked for it, at once with storage repair",
            upkeep.unrecorded
        ));
    }
    if let Some(why) = &upkeep.unerased {
        text.push_str(&format!("\nerasing   what was erased on request is not gone from this disk yet: {why}"));
    }
    for object in &upkeep.void {
        text.push_str(&format!("\nvoid      {object}: its manifest was proved to be a lie, nothing of it is kept"));
    }
    text
}

fn line(row: &ObjectRow, report: &Report) -> Vec<String> {
    let count = |stands: Stands| row.fragments.iter().filter(|fragment| fragment.stands == stands).count().to_string();
    let datanet = match (&row.name, row.datanet, row.contribution) {
        (Some(name), _, Some(number)) => format!("{name} {number}"),
        (None, Some(datanet), Some(number)) => format!("{datanet} {number}"),
        _ => "not registered".to_owned(),
    };
    let repair = match (row.is_due, row.is_mending) {
        (_, true) => "under way",
        (true, false) => "due",
        (false, false) => "",
    };
    vec![
        row.object.to_string(),
        datanet,
        format!("{}/{}", row.data, row.fragments.len()),
        picture(row, report.account),
        count(Stands::Held),
        count(Stands::Away),
        count(Stands::Lost),
        row.floor.to_string(),
        repair.to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use storage::proto::audit::{Pace, standing::Ended};
    use types::id::{Address, NodeId};

    use super::*;
    use crate::service::{
        auditing::Granted,
        keeping::report::{AuditRow, FragmentRow},
    };

    fn example() -> Report {
        let fragment = |byte, stands| FragmentRow { holder: Address([byte; 20]), stands };
        let row = ObjectRow {
            object: BlobId([7; 32]),
            datanet: Some(2),
            name: Some("tides".to_owned()),
            contribution: Some(0),
            data: 3,
            fragments: vec![
                fragment(1, Stands::Held),
                fragment(9, Stands::Held),
                fragment(2, Stands::Away),
                fragment(3, Stands::Lost),
                fragment(4, Stands::Held),
            ],
            floor: 4,
            is_due: true,
            is_mending: false,
            coordinators: vec![],
        };
        Report {
            node: NodeId([1; 32]),
            account: Address([9; 20]),
            is_storing: true,
            epoch: 12,
            used_bytes: 250,
            capacity_bytes: 1_000,
            free_bytes: 625,
            disk_free_bytes: 9_000,
            disk_reserve_bytes: 70,
            has_room: true,
            standing: "warned".to_owned(),
            lifting: None,
            audits: vec![
                AuditRow { epoch: 10, outcome: Ended::Passed, verdicts: 3 },
                AuditRow { epoch: 11, outcome: Ended::Failed, verdicts: 2 },
            ],
            roll: "not on the roll".to_owned(),
            pace: Some(PaceRow::of(Granted { pace: Pace::LEAST, is_measured: true })),
            upkeep: upkeep::Report {
                scrub: upkeep::Scrub { days: 14, bytes_per_s: 7, bytes: 30, bytes_total: 250, ..upkeep::Scrub::default() },
                rotten_items: 70,
                rotten: vec!["fragment 2 of object 07".to_owned()],
                lost_bytes: 8_480_450,
                lost_items: 71,
                unerased: Some("the disk is full".to_owned()),
                unrecorded: 9,
                dead_bytes: 40,
                collected_bytes: 60,
                void: vec![BlobId([8; 32])],
                handed_on: 2,
            },
            objects: vec![row],
            is_more: false,
        }
    }

    #[test]
    fn an_object_is_shown_with_a_letter_for_each_fragment_and_the_node_with_its_audits() {
        let text = describe(&example());
        for part in [
            "#@.x#",
            "tides 0",
            "3/5",
            "due",
            "250 bytes used of 1000 (25 %), 625 free for fragments; the disk has 9000 left, of which 70 are kept",
            "standing  warned",
            "epoch 10 passed, 11 failed",
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        let void = format!("void      {}: its manifest was proved to be a lie", BlobId([8; 32]));
        for part in [
            "30 of 250 bytes read for rot at 7 bytes/s, all within 14 days; 40 bytes released and not yet freed, 60 freed since the start; 2 fragments that others",
            "lost      8480450 bytes of segments were gone from the disk at the start, and 71 items with them",
            "rotten    70 items are damaged or gone",
            "rotten    fragment 2 of object 07: to be computed anew",
            "unknown   9 objects have fragments here and no record of who holds the others",
            "erasing   what was erased on request is not gone from this disk yet: the disk is full",
            &void,
        ] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("no new fragments are taken"), "{text}");
        let full = describe(&Report { has_room: false, ..example() });
        assert!(full.contains("no new fragments are taken: raise [keeping.store] capacity_bytes"), "{full}");
        let off = upkeep::Report::default();
        assert_eq!(upkept(&off, 0), "the store is not read for rot ([keeping] scrub_bytes_per_s = 0)");
        let ended = upkeep::Scrub { days: 14, last_round_s: Some(1_000), ..upkeep::Scrub::default() };
        assert!(upkept(&upkeep::Report { scrub: ended, ..off }, 8_300).contains("ended 2 h ago"));
        let suspended = describe(&Report {
            standing: "suspended".to_owned(),
            lifting: Some(Lifting { to_pass: 7, to_idle: 9 }),
            audits: vec![AuditRow { epoch: 12, outcome: Ended::Idle, verdicts: 0 }],
            ..example()
        });
        let told = "standing  suspended: no rent and no new fragments until it passes 7 more audits without one late or failed, or is there and holds nothing for 9 more epochs in a row\n";
        assert!(suspended.contains(told) && suspended.contains("epoch 12 idle"), "{suspended}");
        let idle = Report { objects: vec![], audits: vec![], ..example() };
        let unknown = describe(&idle);
        assert!(
            unknown.contains("none yet") && unknown.contains("before it is known") && !unknown.contains("no fragments are held"),
            "{unknown}"
        );
        let idle = Report { upkeep: upkeep::Report { unrecorded: 0, ..idle.upkeep }, ..idle };
        assert!(describe(&idle).contains("no fragments are held"));
        assert!(describe(&Report { is_storing: false, ..idle }).contains("storage = true"));
    }

    #[test]
    fn the_pace_is_told_with_who_is_caught_by_it() {
        let text = describe(&example());
        let told = "pace      5.0 ms for a range of 16 KiB (measured on this store, at least 5 ms): an answer is due 331.0 ms after its challenge, beside the round trip; who fetches what it is asked for is caught from 36.6 ms to its source, or 11.6 ms if it answers pings at once";
        assert!(text.contains(told), "{text}");
        let idle = paced(Some(PaceRow::of(Granted { pace: Pace::MOST, is_measured: false })));
        assert!(
            idle.starts_with("25.0 ms")
                && idle.contains("too little is held")
                && idle.contains("from 76.6 ms")
                && idle.contains("or 31.6 ms"),
            "{idle}"
        );
        assert_eq!(paced(None), "no epoch of audits yet");
    }

    #[test]
    fn a_report_survives_its_own_json() {
        let text = serde_json::to_string(&example()).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), example());
    }
}
