//! Targets for libFuzzer: what decodes the bytes of a stranger, fed with whatever reaches new code.
//!
//! `TRIBUTARY_FUZZ_TARGET` names one of [`targets::TARGETS`]; left empty, all names are printed. With `TRIBUTARY_FUZZ_SEEDS`, a folder, its seeds are written there and nothing is run; else
//! arguments are libFuzzer's. A target fails if it panics, if a property that it states does not hold, or if it held more memory at once than a small
//! multiple of what it was given ([`memory`]).
//!
//!     cargo xtask soak fuzz [--seconds N]
#![no_main]

mod bundles;
mod edits;
mod index_file;
mod memory;
mod messages;
mod receipts;
mod targets;
mod texts;
mod trees;

use std::{env, fs, path::PathBuf, process::exit, sync::OnceLock};

use libfuzzer_sys::fuzz_target;
use targets::{TARGETS, Target};

static CHOSEN: OnceLock<&'static Target> = OnceLock::new();

/// The target that the environment names; its seeds are written if they are asked for.
fn choose() {
    let known = TARGETS.map(|target| target.name).join(", ");
    let name = env::var("TRIBUTARY_FUZZ_TARGET").unwrap_or_default();
    if name.is_empty() {
        println!("{}", TARGETS.map(|target| target.name).join("\n"));
        exit(0);
    }
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        eprintln!("TRIBUTARY_FUZZ_TARGET is {name:?}; there are: {known}");
        exit(2);
    };
    if let Some(folder) = env::var_os("TRIBUTARY_FUZZ_SEEDS").map(PathBuf::from) {
        fs::create_dir_all(&folder).expect("the folder of seeds can be made");
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(folder.join(format!("seed-{number:03}")), seed).expect("a seed can be written");
        }
        exit(0);
    }
    // What is made once is not counted as any input's.
    bundles::warm();
    (target.run)(&[]);
    CHOSEN.set(target).unwrap_or_default();
}

fuzz_target!(init: choose(), |bytes: &[u8]| {
    let target = CHOSEN.get().expect("chosen before the first input");
    memory::bounded(target.memory, bytes, target.run);
});
