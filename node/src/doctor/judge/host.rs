//! The machine, its disk, and the model on it.

use super::{Verdict, bad, good, unconfigured, unknown, warn};
use crate::doctor::{
    facts::{Facts, Gpu, System},
    probe::HASH_BYTES_MAX,
};

/// Fewest open files: 256 connections, as many streams, and a thousand segments and indexes.
const OPEN_FILES_MIN: u64 = 4_096;
/// What a node takes beside its model: keys and values of 32,768 tokens of a small one (400 MB), its books and its connections.
const BESIDE_MODEL_BYTES: u64 = 512 << 20;
/// The oldest line of drivers that CUDA 12 runs on.
const DRIVER_MIN: u64 = 525;

fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes / 1_000_000)
}

pub(super) fn open_files(system: &System) -> Verdict {
    match system.open_files {
        None => unknown("the kernel does not say"),
        Some(limit) if limit < OPEN_FILES_MIN => warn(
            format!("a process may open {limit} files, a busy node opens {OPEN_FILES_MIN}"),
            format!("set LimitNOFILE={} in the node's unit, or run ulimit -n {} before it", 16 * OPEN_FILES_MIN, 16 * OPEN_FILES_MIN),
        ),
        Some(u64::MAX) => good("no limit"),
        Some(limit) => good(format!("{limit}")),
    }
}

pub(super) fn memory(facts: &Facts) -> Verdict {
    if facts.files.holder.is_node() {
        return good("the running node has its own already");
    }
    let Some(models) = &facts.model else { return unconfigured() };
    let Some(free) = facts.system.memory_bytes else { return unknown("the kernel does not say") };
    let model = models.model.as_ref().and_then(|model| model.bytes.as_ref().ok().copied()).unwrap_or(0);
    let needed = model.saturating_add(BESIDE_MODEL_BYTES);
    let said = format!("{} can be had, the node takes {}", megabytes(free), megabytes(needed));
    if free < needed { bad(said, "stop what else takes memory, add some, or serve a smaller model") } else { good(said) }
}

pub(super) fn processor(system: &System) -> Verdict {
    match system.is_quick {
        None => unknown("no x86 processor, or the kernel does not say what it can"),
        Some(true) => good("AVX2, FMA and F16C"),
        Some(false) => warn(
            "it lacks AVX2, FMA or F16C: answers are right, and many times slower",
            "expose the host's processor to this machine (for QEMU: -cpu host), or use one made after 2013",
        ),
    }
}

pub(super) fn gpu(system: &System) -> Verdict {
    match &system.gpu {
        Gpu::None => good("none; this version computes on the processor"),
        Gpu::Failing(why) => warn(
            format!("the kernel knows a GPU that does not answer: {why}"),
            "reinstall its driver, or unload it (modprobe -r nvidia): this version computes on the processor and needs neither",
        ),
        Gpu::Driver(told) => match told.split('.').next().and_then(|line| line.trim().parse::<u64>().ok()) {
            Some(line) if line >= DRIVER_MIN => good(format!("driver {told}; this version computes on the processor")),
            Some(_) => warn(
                format!("driver {told} is older than {DRIVER_MIN}"),
                "install a later driver before you count on the GPU; this version does not",
            ),
            None => warn(
                format!("its program does not tell a driver's version: {told:?}"),
                "reinstall the driver; this version does not use it",
            ),
        },
    }
}

pub(super) fn disk_free(facts: &Facts) -> Verdict {
    let free = match &facts.system.disk_free {
        Ok(free) => *free,
        Err(why) => return bad(why, "make the folder readable for the user who runs the node"),
    };
    let Ok(config) = &facts.files.config else { return unconfigured() };
    let reserve = config.keeping.store.disk_reserve_bytes;
    if free < reserve {
        return bad(
            format!("{} are free, {} are reserved: nothing more is kept", megabytes(free), megabytes(reserve)),
            "make room on the disk, or lower [keeping.store] disk_reserve_bytes",
        );
    }
    let needed = reserve.saturating_add(config.keeping.room_bytes);
    if config.storage && free < needed {
        return warn(
            format!("{} are free; for new fragments, which earn rent, {} must be", megabytes(free), megabytes(needed)),
            "make room on the disk, lower [keeping.store] disk_reserve_bytes or [keeping] room_bytes, or set storage = false",
        );
    }
    good(format!("{} are free", megabytes(free)))
}

pub(super) fn disk_write(system: &System) -> Verdict {
    match &system.sync {
        Err(why) => bad(
            format!("4 KiB cannot be written and synced: {why}"),
            "mount the disk for writing, make room on it, and give the folder to the user who runs the node",
        ),
        Ok((median, most)) if median > most => warn(
            format!(
                "4 KiB take {} ms to be on the disk for sure, at most {} are good: every receipt waits for it",
                median.as_millis(),
                most.as_millis()
            ),
            "move the data folder to a disk of its own, best a solid-state one, and not to one over a network",
        ),
        Ok((median, _)) => good(format!("4 KiB are on the disk for sure in {} us", median.as_micros())),
    }
}

pub(super) fn model_file(facts: &Facts) -> Verdict {
    let Some(models) = &facts.model else { return unconfigured() };
    match &models.model {
        None => good("none: this node only stores"),
        Some(model) => match &model.bytes {
            Ok(bytes) => good(format!("{}, {}", model.path.display(), megabytes(*bytes))),
            Err(why) => bad(
                why,
                "fetch the file again and bring it in by `tributary model pull FILE`, or correct the key `model` in tributary.toml",
            ),
        },
    }
}

pub(super) fn model_hash(facts: &Facts) -> Verdict {
    let Some(models) = &facts.model else { return unconfigured() };
    let Some(model) = &models.model else { return good("no model") };
    let fix = "remove the file and bring the model in again by `tributary model pull FILE --hash HASH`";
    match (&model.bytes, &model.hash, model.named) {
        (Err(_), ..) => unknown("not hashed: it is no model file"),
        (Ok(bytes), None, _) => {
            unknown(format!("not hashed: {} are more than {}; --full hashes them", megabytes(*bytes), megabytes(HASH_BYTES_MAX)))
        }
        (_, Some(Err(why)), _) => bad(format!("it cannot be read to its end: {why}"), fix),
        (_, Some(Ok(hash)), Some(named)) if *hash != named => {
            bad(format!("its hash is {hash} and not what its name says: its answers would be proven wrong"), fix)
        }
        (_, Some(Ok(hash)), Some(_)) => good(format!("{hash}, as its name says")),
        (_, Some(Ok(hash)), None) => good(format!("{hash}; its name does not say which it should be")),
    }
}

pub(super) fn adapters(facts: &Facts) -> Verdict {
    let Some(models) = &facts.model else { return unconfigured() };
    match &models.adapters {
        Err(why) => bad(why, "make the folder of adapters readable for the user who runs the node"),
        Ok(all) => {
            let damaged: Vec<String> = all.iter().filter_map(|(hash, whole)| Some(format!("{hash}: {}", whole.as_ref().err()?))).collect();
            if damaged.is_empty() {
                good(format!("{} whole", all.len()))
            } else {
                bad(
                    damaged.join("; "),
                    "remove the folders of these adapters: a running node fetches them again, or you do by `tributary adapter fetch`",
                )
            }
        }
    }
}
