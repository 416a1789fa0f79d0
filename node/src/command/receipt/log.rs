//! `tributary receipt log`: a node's append-only log of receipts, held to what it said before, and a receipt found in it.

mod kept;
mod remote;

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, str::FromStr};

use anyhow::{Context as _, bail, ensure};
use attribution::log::{
    checkpoint::Checkpoint,
    entry,
    follow::{self, Followed},
    note::{Key, Note, NoteError, Role, signature_lines},
    proof::{PROOF_BYTES_MAX, Proof},
    quorum::{self, Cosigned},
    tree::inclusion_ranges,
};
use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use types::{
    encoding::Document as _,
    id::{Address, Hash32, NodeId},
};

use self::remote::{Remote, SEARCHED_MAX};
use crate::{
    command::Context,
    data::{Existing, may_write, read_bounded, write_out},
    running::Addresses,
    when::utc,
};

/// Whose log is read where.
#[derive(Debug, ClapArgs)]
pub(super) struct At {
    /// Where the log is served [default: by this folder's running node].
    #[arg(long, value_name = "URL")]
    log: Option<String>,
    /// Whose log it must be: nothing that another key signed is believed [default: the node of the receipt, by the chain; without --log this folder's own].
    #[arg(long, value_name = "NODE_ID")]
    node: Option<NodeId>,
}

/// A witness: its node, and where it is asked.
#[derive(Debug, Clone)]
pub(super) struct Witness {
    node: NodeId,
    url: Option<String>,
}

impl FromStr for Witness {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, url) = match text.split_once('@') {
            Some((key, url)) => (key, Some(url.to_owned())),
            None => (text, None),
        };
        if let Some(node) = Key::witness(key) {
            return Ok(Self { node, url });
        }
        let node = key
            .parse()
            .map_err(|error| format!("{error}: write NODE_ID@http://ADDRESS, or the witness's key (tributary.witness/..+..+..)"))?;
        Ok(Self { node, url })
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Show the head that a log has signed, and which one of it this machine saw last.
    #[command(
        after_help = "Examples:\n  tributary receipt log show                                       the log of the node that runs with this folder\n  tributary receipt log show --log http://203.0.113.5:7404 --node NODE_ID\n\nThe key printed is the log's in the form that other tools take (name, id, public key). Next: tributary receipt log verify holds the head to what was seen before."
    )]
    Show {
        #[command(flatten)]
        at: At,
    },
    /// Find a receipt in its node's log and prove that it is there.
    #[command(
        after_help = "Entries are read from the newest back, so a receipt of today is found at once. The head must go on from the one this machine saw last.\n\nExamples:\n  tributary receipt log prove R.json --log http://203.0.113.5:7404\n  tributary receipt log prove R.json --log URL --out R.tlog-proof      a proof that `receipt log verify` checks without network\n  tributary receipt log prove R.json --log URL --witness NODE_ID@URL   cosigned: the witness has seen the same log"
    )]
    Prove {
        /// The receipt's file.
        file: PathBuf,
        #[command(flatten)]
        at: At,
        /// Write the proof, in the form of c2sp.org/tlog-proof.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write over the proof if it is there.
        #[arg(long, requires = "out")]
        force: bool,
        /// Have this witness cosign the head first. May be repeated.
        #[arg(long, value_name = "NODE_ID@URL")]
        witness: Vec<Witness>,
    },
    /// Hold a log to the head that this machine saw last, or a receipt against a proof that was kept.
    #[command(
        after_help = "Without a receipt: the log's head must go on from the one of last time, entry for entry; a fork is refused, and both signed heads are kept as evidence.\nWith one: the proof is checked without network; --node says whose log it must be.\n\nExamples:\n  tributary receipt log verify --log http://203.0.113.5:7404 --node NODE_ID\n  tributary receipt log verify --log URL --node NODE_ID --witness OTHER_ID@URL\n  tributary receipt log verify --log URL --node NODE_ID --witness A --witness B --witness C --quorum 2\n  tributary receipt log verify R.json --proof R.tlog-proof --node NODE_ID"
    )]
    Verify {
        /// The receipt's file.
        #[arg(requires = "proof")]
        file: Option<PathBuf>,
        /// The proof's file.
        #[arg(long, value_name = "FILE", requires = "file", conflicts_with = "log")]
        proof: Option<PathBuf>,
        #[command(flatten)]
        at: At,
        /// A witness that must cosign the head, by its node id or its key: the log may serve its signature; with a URL it is asked otherwise, but not about a kept
        /// proof. May be repeated.
        #[arg(long, value_name = "KEY[@URL]")]
        witness: Vec<Witness>,
        /// So many of the witnesses are enough [default: all of them].
        #[arg(long, value_name = "N", requires = "witness")]
        quorum: Option<NonZeroUsize>,
    },
}

/// A log and its head.
#[derive(Debug, Serialize)]
struct Shown {
    /// Its name.
    log: String,
    node: NodeId,
    /// Its key, as other tools are told it.
    key: String,
    entries: u64,
    root: String,
    /// Entries of the head that this machine saw before.
    seen_entries: Option<u64>,
    witnesses: Vec<Cosigned>,
}

/// A receipt in a log.
#[derive(Debug, Serialize)]
struct Included {
    receipt: Hash32,
    index: u64,
    #[serde(flatten)]
    shown: Shown,
    /// Where the proof was written.
    proof: Option<PathBuf>,
}

/// Runs the command.
pub(super) async fn run(context: &Context, action: Action) -> anyhow::Result<()> {
    match action {
        Action::Show { at } => show(context, &at).await,
        Action::Prove { file, at, out, force, witness } => {
            prove(context, &file, &at, out.as_deref().map(|out| (out, Existing::by(force))), &witness).await
        }
        Action::Verify { file: Some(file), proof: Some(proof), at, witness, quorum } => {
            verify_kept(context, &file, &proof, &at, (&witness, quorum.map(NonZeroUsize::get)))
        }
        Action::Verify { at, witness, quorum, .. } => verify(context, &at, (&witness, quorum.map(NonZeroUsize::get))).await,
    }
}

/// The log at an address, and whose it must be: `of` is the account of the receipt's node.
async fn open(context: &Context, at: &At, of: Option<Address>) -> anyhow::Result<(Remote, NodeId)> {
    let Some(url) = &at.log else {
        let own = Addresses::read(&context.data).context("--log URL says where a log is served")?;
        let address = own.log.context("the node that runs with this folder serves no log: set log = \"127.0.0.1:7404\" in tributary.toml and restart it, or give --log URL")?;
        return Ok((Remote::new(&format!("http://{address}"))?, at.node.unwrap_or(own.node)));
    };
    let remote = Remote::new(url)?;
    let node = match (at.node, of) {
        (Some(node), _) => node,
        (None, Some(account)) => {
            let state =
                context.chain_reader().await.context("--node NODE_ID says whose log it is; else the chain is asked")?.state().await?;
            let operator = state
                .operator(account)
                .with_context(|| format!("{account}, which signed the receipt, is no operator on this chain: give --node NODE_ID"))?;
            operator.node
        }
        (None, None) => bail!("--node NODE_ID is needed with --log: a head is only worth what its signer is"),
    };
    Ok((remote, node))
}

fn shown(node: NodeId, checkpoint: &Checkpoint, seen: Option<&Checkpoint>, witnesses: Vec<Cosigned>) -> Shown {
    let key = Key::new(Role::Log, node);
    Shown {
        log: key.name().to_owned(),
        node,
        key: key.verifier(),
        entries: checkpoint.head.size,
        root: checkpoint.head.root.to_string(),
        seen_entries: seen.map(|seen| seen.head.size),
        witnesses,
    }
}

async fn show(context: &Context, at: &At) -> anyhow::Result<()> {
    let (remote, node) = open(context, at, None).await?;
    let checkpoint = remote.checkpoint(node).await?;
    let shown = shown(node, &checkpoint, kept::read(&context.data, node)?.as_ref(), Vec::new());
    context.output.result(&shown, || {
        let seen = shown.seen_entries.map_or_else(
            || "none of its heads was seen here before".to_owned(),
            |seen| format!("a head of {seen} entries was seen here last"),
        );
        format!("{}\n{seen}; tributary receipt log verify holds this one to it", describe(&shown))
    })
}

/// Witnesses, and how many of them are enough; nothing is all.
type Trusted<'a> = (&'a [Witness], Option<usize>);

async fn verify(context: &Context, at: &At, witnesses: Trusted<'_>) -> anyhow::Result<()> {
    let (remote, node) = open(context, at, None).await?;
    // Nothing is written for what is no log.
    drop(remote.checkpoint(node).await?);
    let _turn = kept::turn(&context.data, node)?;
    let seen = kept::read(&context.data, node)?;
    let (mut checkpoint, followed) = followed(context, &remote, node, seen.as_ref()).await?;
    let cosigned = cosign(context, &remote, &mut checkpoint, witnesses).await?;
    kept::keep(&context.data, node, &checkpoint)?;
    let shown = shown(node, &checkpoint, seen.as_ref(), cosigned);
    context.output.result(&shown, || format!("{}\n{}", describe(&shown), told(followed, shown.seen_entries)))
}

fn told(followed: Followed, seen: Option<u64>) -> String {
    let seen = seen.unwrap_or_default();
    match followed {
        Followed::First => "the first head of this log seen here: later ones are held to it".to_owned(),
        Followed::Same => "the head seen here last".to_owned(),
        Followed::Grown => format!("it goes on from the {seen} entries seen here last, each of them unchanged"),
    }
}

/// The newest head, which goes on from the one seen last; a fork is refused, and kept.
async fn followed(context: &Context, remote: &Remote, node: NodeId, seen: Option<&Checkpoint>) -> anyhow::Result<(Checkpoint, Followed)> {
    let checkpoint = remote.checkpoint(node).await?;
    let (before, head) = (seen.map(|seen| seen.head), checkpoint.head);
    let tiles = remote.tiles(head.size, &follow::needed(before, head)).await?;
    match follow::follow(before, head, &tiles) {
        Ok(followed) => Ok((checkpoint, followed)),
        Err(error) if error.is_fork() => {
            let before = seen.context("a fork is one of two heads")?;
            let [before, now] = kept::keep_fork(&context.data, node, before, &checkpoint)?;
            bail!(
                "{error}. Node {node} has signed both heads, which are kept as evidence: {} and {}. Show them to others",
                before.display(),
                now.display()
            )
        }
        Err(error) => Err(anyhow::Error::new(error).context(remote.to_string())),
    }
}

/// The cosignatures of a head: those that it is served with, and those of the witnesses that are asked for theirs.
async fn cosign(
    context: &Context,
    remote: &Remote,
    checkpoint: &mut Checkpoint,
    (witnesses, quorum): Trusted<'_>,
) -> anyhow::Result<Vec<Cosigned>> {
    for witness in witnesses {
        let has_signed = checkpoint.note.signed_at(&Key::new(Role::Witness, witness.node)).is_ok();
        let Some(url) = witness.url.as_deref().filter(|_| !has_signed) else { continue };
        match asked(remote, checkpoint, witness.node, url).await {
            Ok(note) => checkpoint.note = note,
            // Where not all are needed, one that is away does not matter.
            Err(error) if quorum.is_some() => context.output.note(&format!("{error:#}")),
            Err(error) => return Err(error),
        }
    }
    enough(checkpoint, (witnesses, quorum)).with_context(|| remote.to_string())
}

/// The note with the signature of a witness that is asked for it.
async fn asked(remote: &Remote, checkpoint: &Checkpoint, node: NodeId, url: &str) -> anyhow::Result<Note> {
    let lines = Remote::new(url)?.cosign(remote, checkpoint).await?;
    with_own(&checkpoint.note, node, &lines).with_context(|| format!("the witness {url}"))
}

/// The note with a witness's signature, if it is its. Whatever else it sent is left out: lines of other names would fill the note, which is kept and read again.
fn with_own(note: &Note, witness: NodeId, lines: &str) -> Result<Note, NoteError> {
    let (key, mut note) = (Key::new(Role::Witness, witness), note.clone());
    note.add(signature_lines(lines)?.into_iter().find(|line| line.is_of(&key)));
    note.signed_at(&key)?;
    Ok(note)
}

fn enough(checkpoint: &Checkpoint, (witnesses, quorum): Trusted<'_>) -> anyhow::Result<Vec<Cosigned>> {
    let nodes: BTreeSet<NodeId> = witnesses.iter().map(|witness| witness.node).collect();
    let all = nodes.len();
    let nodes: Vec<NodeId> = nodes.into_iter().collect();
    quorum::cosigned(checkpoint, &nodes, quorum.unwrap_or(all))
        .context("too few witnesses have cosigned it; where one is asked is said by KEY@URL")
}

async fn prove(
    context: &Context,
    file: &std::path::Path,
    at: &At,
    out: Option<(&std::path::Path, Existing)>,
    witnesses: &[Witness],
) -> anyhow::Result<()> {
    let receipt = super::read(file)?.receipt.document;
    if let Some((out, existing)) = out {
        may_write(out, existing)?;
    }
    let (remote, node) = open(context, at, Some(receipt.node)).await?;
    // Nothing is written for what is no log.
    drop(remote.checkpoint(node).await?);
    let _turn = kept::turn(&context.data, node)?;
    let seen = kept::read(&context.data, node)?;
    let (mut checkpoint, _) = followed(context, &remote, node, seen.as_ref()).await?;
    let (hash, head) = (receipt.hash(), checkpoint.head);
    let wanted = entry::of_receipt(hash);
    let index = remote.find(&wanted, head.size).await?;
    let index = index.with_context(|| {
        format!(
            "{}: the receipt {hash} is none of the {} entries in the log of node {node}{}: another node signed it, or this one hides it",
            file.display(),
            head.size.min(SEARCHED_MAX),
            if head.size > SEARCHED_MAX { format!(" that were looked through, of {}", head.size) } else { String::new() }
        )
    })?;
    let ranges = inclusion_ranges(index, head.size).context("an entry that was found")?;
    let path = remote.tiles(head.size, &ranges).await?.inclusion(index)?;
    let cosigned = cosign(context, &remote, &mut checkpoint, (witnesses, None)).await?;
    let proof = Proof { index, path, checkpoint };
    proof.verify(&wanted).with_context(|| format!("{remote}: its entries and its tiles disagree"))?;
    kept::keep(&context.data, node, &proof.checkpoint)?;
    if let Some((out, existing)) = out {
        write_out(out, proof.to_text().as_bytes(), 0o644, existing)?;
    }
    let shown = shown(node, &proof.checkpoint, seen.as_ref(), cosigned);
    let included = Included { receipt: hash, index, shown, proof: out.map(|(out, _)| out.to_owned()) };
    context.output.result(&included, || {
        let next = match &included.proof {
            Some(out) => format!(
                "\nproof in {}; tributary receipt log verify {} --proof {} --node {node} checks it without network",
                out.display(),
                file.display(),
                out.display()
            ),
            None => String::new(),
        };
        format!("receipt {hash} is entry {index}\n{}{next}", describe(&included.shown))
    })
}

fn verify_kept(context: &Context, file: &std::path::Path, proof: &std::path::Path, at: &At, witnesses: Trusted<'_>) -> anyhow::Result<()> {
    let hash = super::read(file)?.receipt.document.hash();
    let node = at.node.context("--node NODE_ID is needed: a proof is only worth what the signer of its head is")?;
    let bytes = read_bounded(proof, PROOF_BYTES_MAX as u64).with_context(|| format!("{}: cannot be read", proof.display()))?;
    let opened = Proof::open(&bytes, node).with_context(|| proof.display().to_string())?;
    opened.verify(&entry::of_receipt(hash)).with_context(|| format!("{}: it is no proof of {}", proof.display(), file.display()))?;
    let cosigned = enough(&opened.checkpoint, witnesses).with_context(|| proof.display().to_string())?;
    let seen = kept::read(&context.data, node)?;
    let fork = seen.as_ref().filter(|seen| seen.head.size == opened.checkpoint.head.size && seen.head != opened.checkpoint.head);
    ensure!(
        fork.is_none(),
        "THE LOG FORKED: {} has another head of {} entries than the one seen here",
        proof.display(),
        opened.checkpoint.head.size
    );
    let shown = shown(node, &opened.checkpoint, seen.as_ref(), cosigned);
    let included = Included { receipt: hash, index: opened.index, shown, proof: Some(proof.to_owned()) };
    context.output.result(&included, || format!("receipt {hash} is entry {}\n{}", included.index, describe(&included.shown)))
}

fn describe(shown: &Shown) -> String {
    let mut text = format!("log      {}\nkey      {}\nentries  {}\nroot     {}", shown.log, shown.key, shown.entries, shown.root);
    for witness in &shown.witnesses {
        text.push_str(&format!("\nwitness  {} cosigned it at {}", witness.node, utc(witness.at_s)));
    }
    text
}

#[cfg(test)]
mod tests {
    use attribution::log::{Head, checkpoint::sign, note::Signer};

    use super::*;

    #[test]
    fn a_witness_adds_its_own_signature_and_nothing_else() {
        let (log, witness, other) =
            (Signer::new(Role::Log, &[1; 32]), Signer::new(Role::Witness, &[2; 32]), Signer::new(Role::Witness, &[3; 32]));
        let note = sign(&log, Head::empty()).note;
        let (own, foreign) = (witness.sign(note.text(), 7), other.sign(note.text(), 8));
        let node = witness.key().node();
        assert_eq!(with_own(&note, node, &foreign.to_string()).unwrap_err(), NoteError::Unsigned(witness.key().name().to_owned()));
        let false_line = witness.sign("another text\n", 7).to_string();
        assert_eq!(with_own(&note, node, &false_line).unwrap_err(), NoteError::Signature(witness.key().name().to_owned()));
        let junk: String = (0..40).map(|number| format!("\u{2014} junk\u{1}{number} {}\n", "AAAA".repeat(400))).collect();
        let cosigned = with_own(&note, node, &format!("{junk}{foreign}{own}")).unwrap();
        assert_eq!(cosigned.signed_at(witness.key()), Ok(7));
        let kept = cosigned.to_string();
        assert!(kept.len() < 1_000 && Note::parse(kept.as_bytes()).is_ok(), "{} bytes", kept.len());
    }
}
