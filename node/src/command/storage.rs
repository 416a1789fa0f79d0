//! `tributary storage`: what the operator's own node holds for others, and how that stands.

mod check;
mod repair;
mod status;

use anyhow::{Context as _, bail};
use clap::{Args as ClapArgs, Subcommand};
use p2p::client::{Client, Limits};
use types::id::BlobId;

use super::Context;
use crate::{
    running::Addresses,
    service::{
        KEEPING_TAG,
        keeping::report::{Answer, Ask, ObjectRow, Report},
        settlement::loopback_any,
    },
};

/// Longest answer read.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// See to the fragments that this node keeps for Datanets.
#[derive(Debug, ClapArgs)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Args),
    Status(status::Args),
    Repair(repair::Args),
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.command {
        Command::Check(args) => check::run(context, args).await,
        Command::Status(args) => status::run(context, &args).await,
        Command::Repair(args) => repair::run(context, &args).await,
    }
}

/// Asks the running node of this data folder.
async fn ask(context: &Context, ask: Ask) -> anyhow::Result<Answer> {
    let (seed, addresses) = (context.seed()?, Addresses::read(&context.data)?);
    let client = Client::bind(loopback_any(addresses.clients), &seed, Limits::default())?;
    let asking = async {
        let connection = client.connect(addresses.clients, Some(seed.node_id())).await;
        let mut stream = connection.context("the node does not answer: start it with `tributary run`")?.open_stream().await?;
        let mut frame = vec![KEEPING_TAG];
        serde_json::to_writer(&mut frame, &ask)?;
        stream.send(&frame).await?;
        let frame = stream.recv(ANSWER_BYTES_MAX).await?.context("the node ended the stream without an answer")?;
        anyhow::Ok(serde_json::from_slice(&frame)?)
    };
    let answer = asking.await;
    client.close(p2p::stream::code::SHUTDOWN).await;
    match answer? {
        Answer::Refused(reason) => bail!("{}", crate::words::line(&reason)),
        answer => Ok(answer),
    }
}

/// The whole report: every page of it, or the one object that is asked for.
async fn report(context: &Context, object: Option<BlobId>) -> anyhow::Result<Report> {
    let mut whole: Option<Report> = None;
    loop {
        let after = whole.as_ref().and_then(|report| report.objects.last()).map(|row| row.object);
        let Answer::Report(page) = ask(context, Ask::Status(after)).await? else { bail!("the node answered something else") };
        let is_more = page.is_more;
        match &mut whole {
            None => whole = Some(*page),
            Some(whole) => whole.objects.extend(page.objects),
        }
        if !is_more {
            break;
        }
    }
    let mut report = whole.context("the node sent no page")?;
    report.is_more = false;
    if let Some(object) = object {
        report.objects.retain(|row| row.object == object);
        if report.objects.is_empty() {
            bail!("this node holds no fragment of object {object}: `tributary storage status` lists those it holds");
        }
    }
    Ok(report)
}

/// Fragments of an object in one word: a letter each.
fn picture(row: &ObjectRow, me: types::id::Address) -> String {
    use crate::service::keeping::report::Stands;
    let letter = |fragment: &crate::service::keeping::report::FragmentRow| match fragment.stands {
        Stands::Held if fragment.holder == me => '@',
        Stands::Held => '#',
        Stands::Away => '.',
        Stands::Lost => 'x',
    };
    row.fragments.iter().map(letter).collect()
}
