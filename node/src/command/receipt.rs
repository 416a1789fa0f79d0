//! `tributary receipt`: an answer with its sources, and the check of its receipt without any other source.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use attribution::bundle::{BUNDLE_BYTES_MAX, Bundle};
use clap::{Args as ClapArgs, Subcommand};

use super::Context;
use crate::{
    data::{Existing, read_bounded},
    notice,
};

pub mod around;
pub mod html;
mod log;
mod olmotrace;
mod reading;
mod recover;
pub mod show;
pub mod texts;
pub mod verify;

/// Largest file opened; the bundle in it may have [`BUNDLE_BYTES_MAX`] bytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
const _: () = assert!(FILE_BYTES_MAX >= BUNDLE_BYTES_MAX as u64);

/// Receipts: what was answered, from whose text, who is paid, and whether all of it stands.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "A receipt's file is a bundle: question, answer, both sides' signatures, and openings to the committed text. It verifies from itself\nalone, on any machine, without network or chain.\n\nExamples:\n  tributary receipt show R.json\n  tributary receipt show R.json --html R.html\n  tributary receipt show R.json --olmotrace            the sources under OLMoTrace's field names, words for tokens\n  tributary receipt verify R.json\n  tributary receipt verify R.json --full               searches the Datanets anew: nothing was left out\n  tributary receipt verify R.json --chain              asks the chain too whether its index root was refuted since\n  tributary receipt verify R.json --model M.gguf       reads the tokens with the model's tokenizer: text and counts are theirs\n  tributary receipt texts R.json --out DIR             keeps what --full needs, so that it runs without the chain\n  tributary receipt log prove R.json --log URL         its place in its node's append-only log\n  tributary receipt failures                           what was not billed, and why"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the answer with its sources marked, and what each earns.
    Show {
        /// The receipt's file.
        file: PathBuf,
        /// Also write a web page with the answer and its sources.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
        /// Write over the page if it is there.
        #[arg(long, requires = "html")]
        force: bool,
        /// Print JSON with OLMoTrace's field names instead; words stand for tokens, and what needs the index is null.
        #[arg(long, conflicts_with = "html")]
        olmotrace: bool,
        /// Rebuild the index: how often each source stands, in which documents, with more of their text.
        #[arg(long, requires = "olmotrace")]
        full: bool,
        /// Folder written by `receipt texts` [default: the data folder's shards, in the order that the chain says].
        #[arg(long, value_name = "DIR", requires = "full")]
        texts: Option<PathBuf>,
    },
    /// Check every signature, count, weight, span and share; exit code 1 names the field that does not stand.
    Verify {
        /// The receipt's file.
        file: PathBuf,
        /// Rebuild the index and search it anew: also finds what was left out.
        #[arg(long)]
        full: bool,
        /// The base model's file: its tokenizer shows that the answer is the text of its token ids, and how many tokens the question has.
        #[arg(long, value_name = "FILE")]
        model: Option<PathBuf>,
        /// Folder written by `receipt texts` [default: the data folder's shards, in the order that the chain says].
        #[arg(long, value_name = "DIR", requires = "full")]
        texts: Option<PathBuf>,
        /// Ask the chain whether its index root was refuted since.
        #[arg(long)]
        chain: bool,
    },
    /// A node's append-only log of receipts: its head, a receipt's place in it, and whether it goes on from what was seen before.
    Log {
        #[command(subcommand)]
        action: log::Action,
    },
    /// List answers that ended unbilled or billed in part: why, what was charged, on whose word.
    Failures {
        /// Most to list, newest first.
        #[arg(long, default_value_t = 20)]
        most: usize,
    },
    /// Have the file of a checked answer back from its node, while the node keeps what it answered: until both windows of its epoch are over, and as long after as stake takes to leave.
    Recover {
        /// The key that was kept beside the receipt's file (`.key`).
        key: PathBuf,
        /// The file to write [default: beside the key, `.json`].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write over the file if it is there.
        #[arg(long)]
        force: bool,
        /// Nodes of the network to join by [default: those of the configuration].
        #[arg(long, value_name = "ADDR")]
        bootstrap: Vec<String>,
    },
    /// Copy the contributions that `verify --full` reads, with their order on the chain, into a folder.
    Texts {
        /// The receipt's file.
        file: PathBuf,
        /// The folder to write.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}

/// Runs the command.
pub async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    match args.action {
        Action::Show { file, olmotrace: true, full, texts, .. } => olmotrace::run(context, &file, full.then_some(texts.as_deref())).await,
        Action::Show { file, html, force, .. } => show::run(context, &file, html.as_deref(), Existing::by(force)),
        Action::Verify { file, full, model, texts, chain } => {
            let depth = verify::Depth { full, model: model.as_deref(), texts: texts.as_deref(), chain };
            verify::run(context, &file, depth).await
        }
        Action::Log { action } => log::run(context, action).await,
        Action::Failures { most } => {
            let notices = notice::newest(&context.data.failures(), most)?;
            context.output.result(&notices, || match notices.as_slice() {
                [] => "every answer asked for from this folder was billed at once".to_owned(),
                some => some.iter().map(notice::Notice::describe).collect::<Vec<_>>().join("\n\n"),
            })
        }
        Action::Recover { key, out, force, bootstrap } => recover::run(context, &key, out, Existing::by(force), bootstrap).await,
        Action::Texts { file, out } => texts::export(context, &file, &out).await,
    }
}

/// Reads a bundle; unknown keys, a wrong shape and a file too large are refused.
pub fn read(file: &Path) -> anyhow::Result<Bundle> {
    let bytes = read_bounded(file, FILE_BYTES_MAX).with_context(|| format!("{}: cannot be read", file.display()))?;
    // The error says what its source says: as one line, not as a chain of both.
    Bundle::from_json(&bytes).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_bundle_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("r.json");
        assert!(read(&file).unwrap_err().to_string().contains("r.json"));
        for (text, says) in [("", "EOF"), ("{}", "missing field"), ("{\"surprise\": 1}", "unknown field `surprise`"), ("[1]", "invalid")] {
            std::fs::write(&file, text).unwrap();
            let error = format!("{:#}", read(&file).unwrap_err());
            assert!(error.contains("r.json") && error.contains(says), "{text}: {error}");
        }
        std::fs::File::create(&file).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
        let error = format!("{:#}", read(&file).unwrap_err());
        assert!(error.contains("at most"), "{error}");
    }
}
