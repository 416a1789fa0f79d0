//! `tributary demo`: the main job from nothing, on real input.

use std::path::PathBuf;

use clap::Args as ClapArgs;

use crate::demo::{self, Options};

/// Run everything once: chain, five nodes, two Datanets, two adapters, questions, a failover, a check, payouts, a slash.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "`cargo xtask demo` fetches what this needs and calls it. Results: OUT/summary.json, OUT/receipts, OUT/registry.json; node folders and\nlogs in OUT/parties. Without --exit everything stays up until interrupted."
)]
pub struct Args {
    /// Base model file (GGUF).
    #[arg(long, env = "TRIBUTARY_MODEL", value_name = "FILE")]
    model: PathBuf,
    /// Folder with contributions, document lists and questions, as `cargo xtask fetch text` prepares it.
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// The program anvil.
    #[arg(long, value_name = "FILE")]
    anvil: PathBuf,
    /// Output folder; what an earlier run left there is replaced.
    #[arg(long, value_name = "DIR", default_value = "target/demo")]
    out: PathBuf,
    /// Trained adapters kept between runs [default: adapters/ beside the data].
    #[arg(long, value_name = "DIR")]
    adapters: Option<PathBuf>,
    /// End with code 0 when done, rather than stay up.
    #[arg(long)]
    exit: bool,
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let adapters = args.adapters.unwrap_or_else(|| args.data.join("adapters"));
    let options = Options {
        model: std::path::absolute(args.model)?,
        data: std::path::absolute(args.data)?,
        anvil: std::path::absolute(args.anvil)?,
        out: std::path::absolute(args.out)?,
        is_brief: args.exit,
        adapters: std::path::absolute(adapters)?,
    };
    demo::run(options).await
}
