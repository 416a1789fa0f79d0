//! The machine: what its kernel tells of limits, memory, processor and GPU, and what the disk does with a few kilobytes.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::Command;

use super::{World, aside, within};
use crate::{
    data::read_text,
    doctor::facts::{Files, Gpu, System},
};

/// Longest text of the kernel that is read: a processor with 1,024 cores fills a megabyte and a half, and the first of them says it all.
const KERNEL_BYTES_MAX: u64 = 4 << 20;
/// Writes whose median is told.
const WRITES: usize = 20;
/// Bytes of each.
const WRITE_BYTES: usize = 4 << 10;
/// Most that is kept of what the GPU's program says.
const TOOL_BYTES_MAX: usize = 400;

pub(super) async fn look(world: &World, files: &Files) -> System {
    let root = &world.root;
    let limits = read_text(&root.join("proc/self/limits"), KERNEL_BYTES_MAX).unwrap_or_default();
    let memory = read_text(&root.join("proc/meminfo"), KERNEL_BYTES_MAX).unwrap_or_default();
    let processor = read_text(&root.join("proc/cpuinfo"), KERNEL_BYTES_MAX).unwrap_or_default();
    let store = store(&files.folder);
    let (place, patience) = (store.clone(), world.patience.sync);
    System {
        open_files: field(&limits, "Max open files")
            .and_then(|limit| if limit == "unlimited" { Some(u64::MAX) } else { limit.parse().ok() }),
        memory_bytes: field(&memory, "MemAvailable:").and_then(|kilobytes| kilobytes.parse::<u64>().ok()?.checked_mul(1 << 10)),
        is_quick: flags(&processor).map(|flags| ["avx2", "fma", "f16c"].iter().all(|needed| flags.contains(needed))),
        gpu: gpu(world).await,
        disk_free: storage::store::available_bytes(&store).map_err(|error| format!("{}: {error}", store.display())),
        sync: aside(move || write(&place).map(|median| (median, patience)).map_err(|error| format!("{}: {error}", place.display()))).await,
    }
}

/// Where most is written: the store, or before there is one the folder. It may be a link to another disk.
fn store(folder: &Path) -> PathBuf {
    let store = folder.join("store");
    if store.symlink_metadata().is_ok() { store } else { folder.to_owned() }
}

/// The first word behind a name at the start of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))?.split_whitespace().next()
}

/// What an x86 processor can; nothing for others.
fn flags(text: &str) -> Option<Vec<&str>> {
    let line = text.lines().find(|line| line.starts_with("flags"))?;
    Some(line.split_once(':')?.1.split_whitespace().collect())
}

/// The median of some small writes that are on the disk for sure.
fn write(folder: &Path) -> std::io::Result<Duration> {
    let path = folder.join(format!("doctor.{}.new", std::process::id()));
    // Whoever was killed while it looked has left its file.
    drop(fs::remove_file(&path));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let written: std::io::Result<Vec<Duration>> = (0..WRITES)
        .map(|_| {
            let begun = Instant::now();
            file.write_all(&[0x5a; WRITE_BYTES]).and_then(|()| file.sync_all()).map(|()| begun.elapsed())
        })
        .collect();
    fs::remove_file(&path)?;
    let mut took = written?;
    took.sort_unstable();
    Ok(took[WRITES / 2])
}

/// Nodes compute on the processor. A GPU is asked all the same: one that hangs takes the machine down with it.
async fn gpu(world: &World) -> Gpu {
    let root = &world.root;
    if !root.join("proc/driver/nvidia").exists() && !root.join("dev/nvidia0").exists() {
        return Gpu::None;
    }
    let mut tool = Command::new(&world.gpu_tool);
    tool.args(["--query-gpu=driver_version,memory.total", "--format=csv,noheader"]);
    let asked = tool.stdin(Stdio::null()).kill_on_drop(true).output();
    let short = |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(TOOL_BYTES_MAX)]).trim().replace('\n', "; ");
    match within(world.patience.tool, asked).await {
        Ok(answer) if answer.status.success() => Gpu::Driver(short(&answer.stdout)),
        Ok(answer) => Gpu::Failing(format!("{} ended with {}: {}", world.gpu_tool.display(), answer.status, short(&answer.stdout))),
        Err(why) => Gpu::Failing(format!("{}: {why}", world.gpu_tool.display())),
    }
}
