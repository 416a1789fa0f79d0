//! `tributary doctor`: what keeps this node from serving and earning, each with what to do about it.

use clap::Args as ClapArgs;

use super::{Context, Failed};
use crate::{
    doctor::{Finding, Level, World, examine, rehearse},
    output::{counted, table},
};

/// Look whether machine, folder, network and chain let this node serve and earn, and say what to do where they do not.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Changes nothing and signs nothing; some seconds, and the model file is read once. With the wallet's password (--password-file, TRIBUTARY_PASSWORD)\nits account is looked at too. Exit code 1 if anything is bad: `warn` costs earnings, `bad` keeps the node from serving or being paid, and what is\n`unknown` could not be looked at, because something else is in the way.\n\nExamples:\n  tributary doctor\n  tributary doctor --json | jq '.findings[] | select(.level == \"bad\") | .fix'\n  tributary doctor --full               also models beyond 4 GiB, and the code of every contract\n  tributary doctor --rehearse           spoils a host of its own in every way it knows, and counts what it finds\n\nNext: tributary run"
)]
pub struct Args {
    /// Hash every file however large, and compare the code of every contract.
    #[arg(long)]
    full: bool,
    /// Try the checks themselves, on hosts of their own that are spoilt one by one: the figures network.doctor_found and network.doctor_false_alarms.
    #[arg(long, conflicts_with = "full")]
    rehearse: bool,
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    if args.rehearse {
        return rehearsal(context).await;
    }
    let findings = examine(&World::here(context.clone(), args.full)).await;
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let (bad, warned) = (count(Level::Bad), count(Level::Warn));
    let printed = serde_json::json!({ "findings": findings, "bad": bad, "warn": warned, "unknown": count(Level::Unknown) });
    context.output.result(&printed, || describe(&findings))?;
    if bad > 0 { Err(Failed(format!("{} bad", counted(bad, "check"))).into()) } else { Ok(()) }
}

fn name(finding: &Finding) -> String {
    serde_json::to_value(finding.check).ok().and_then(|name| name.as_str().map(|name| name.replace('_', " "))).unwrap_or_default()
}

/// A table of all, and below it what to do, the worst first.
fn describe(findings: &[Finding]) -> String {
    let word = |level| match level {
        Level::Good => "good",
        Level::Warn => "warn",
        Level::Bad => "BAD",
        Level::Unknown => "unknown",
    };
    let rows: Vec<Vec<String>> =
        findings.iter().map(|finding| vec![name(finding), word(finding.level).to_owned(), finding.said.clone()]).collect();
    let mut text = table(&["check", "level", "found"], &rows);
    let fixes = |level| findings.iter().filter(move |finding| finding.level == level);
    for finding in fixes(Level::Bad).chain(fixes(Level::Warn)) {
        let fix = finding.fix.as_deref().unwrap_or_default();
        text.push_str(&format!("\n\n{}: {}\n  fix: {}", name(finding), crate::words::line(&finding.said), crate::words::line(fix)));
    }
    if !findings.iter().any(Finding::is_alarm) {
        text.push_str("\n\nNothing is in the way. Next: tributary run");
    }
    text
}

async fn rehearsal(context: &Context) -> anyhow::Result<()> {
    let done = rehearse::rehearse().await?;
    let rows = done.rows();
    context.output.result(&rows, || {
        let line = |row: &rehearse::Trial| {
            let unexpected =
                row.unexpected.iter().map(|finding| format!("{}: {}", name(finding), finding.said)).collect::<Vec<_>>().join("; ");
            vec![row.fault.to_owned(), if row.is_found { "named".to_owned() } else { "MISSED".to_owned() }, unexpected]
        };
        let figures = rows.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        format!("{}\n\n{figures}", table(&["fault", "", "false alarms"], &done.trials.iter().map(line).collect::<Vec<_>>()))
    })?;
    if done.is_perfect() { Ok(()) } else { Err(Failed("a fault was missed, or something whole was called broken".to_owned()).into()) }
}
