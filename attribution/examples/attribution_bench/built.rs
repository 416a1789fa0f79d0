//! An index built in a process of its own, so that its memory is its own, and what that took.

use std::{
    convert::Infallible,
    env,
    error::Error,
    fs,
    num::NonZeroUsize,
    ops::ControlFlow,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use attribution::disk::{BuildOptions, Progress, build_segment};
use serde::{Deserialize, Serialize};
use types::text::canonical_lossy;

use crate::{
    meter::{process_seconds, status_mb, tell},
    walk::Walk,
};

/// Text of one segment.
const SEGMENT_BYTES: usize = 1_000_000_000;

/// What is built.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) folder: PathBuf,
    pub(crate) megabytes: usize,
    pub(crate) memory_mb: u64,
    pub(crate) threads: usize,
    pub(crate) sources: Vec<PathBuf>,
}

/// What it took.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Built {
    pub(crate) segments: Vec<PathBuf>,
    pub(crate) text: f64,
    pub(crate) index: f64,
    /// Of the clock, the making of the text taken off.
    pub(crate) seconds: f64,
    /// Of processors, likewise.
    pub(crate) processor_seconds: f64,
    /// Peak memory of the process, and what it held before it built.
    pub(crate) peak_mb: f64,
    pub(crate) before_mb: f64,
}

impl Wanted {
    /// In another process of this program.
    pub(crate) fn apart(&self) -> Result<Built, Box<dyn Error>> {
        let mut child = Command::new(env::current_exe()?);
        child.arg("build").arg(&self.folder).args([self.megabytes.to_string(), self.memory_mb.to_string(), self.threads.to_string()]);
        // It tells how far it is, and what it lacks.
        let output = child.args(&self.sources).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("the build ended with {}", output.status).into());
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// As [`Wanted::apart`] gives it to that process.
    pub(crate) fn from_arguments(arguments: &[String]) -> Result<Self, Box<dyn Error>> {
        let [folder, megabytes, memory_mb, threads, sources @ ..] = arguments else {
            return Err("build FOLDER MEGABYTES MEMORY_MIB THREADS SOURCE...".into());
        };
        let sources = sources.iter().map(PathBuf::from).collect();
        Ok(Self { folder: folder.into(), megabytes: megabytes.parse()?, memory_mb: memory_mb.parse()?, threads: threads.parse()?, sources })
    }

    fn source(&self) -> Result<String, Box<dyn Error>> {
        let texts = self.sources.iter().map(|path| Ok(canonical_lossy(&fs::read(path)?)));
        let texts: std::io::Result<Vec<String>> = texts.collect();
        Ok(texts?.join(" "))
    }

    /// Here.
    pub(crate) fn here(&self) -> Result<Built, Box<dyn Error>> {
        let mut walk = Walk::over(self.source()?).ok_or("the sources hold no word")?;
        let threads = NonZeroUsize::new(self.threads).ok_or("at least one thread")?;
        let options = BuildOptions { memory_bytes: self.memory_mb << 20, threads };
        // What the reading of the sources took is no part of the peak.
        fs::write("/proc/self/clear_refs", "5")?;
        let before_mb = status_mb("VmRSS:");
        let (mut segments, mut waited) = (Vec::new(), 0.0);
        let (start, processors, own) = (Instant::now(), process_seconds(), walk.seconds);
        let mut left = self.megabytes * 1_000_000;
        while left > 0 {
            let bytes = left.min(SEGMENT_BYTES);
            left -= bytes;
            let mut contributions = walk.contributions(bytes);
            let entries = std::iter::from_fn(|| {
                let start = Instant::now();
                let entry = contributions.next();
                waited += start.elapsed().as_secs_f64();
                entry.map(Ok::<_, Infallible>)
            });
            segments.push(build_segment(&self.folder, entries, &options, &mut told(bytes))?);
        }
        let seconds = start.elapsed().as_secs_f64() - waited;
        let processor_seconds = process_seconds() - processors - (walk.seconds - own);
        let peak_mb = status_mb("VmHWM:");
        Ok(Built { seconds, processor_seconds, peak_mb, before_mb, ..Built::lying(segments)? })
    }
}

/// Tells each tenth of a segment of so many bytes.
fn told(bytes: usize) -> impl FnMut(Progress) -> ControlFlow<()> {
    let (all, mut before) = (u64::try_from(bytes).unwrap_or(u64::MAX), (false, 0));
    move |progress| {
        let now = match progress {
            Progress::Laid { bytes } => (false, bytes * 10 / all.max(1)),
            Progress::Sorted { entries, of } => (true, entries * 10 / of.max(1)),
        };
        if now != before {
            before = now;
            let (is_sorted, tenths) = now;
            tell(&format!("{} {}0 % of a segment of {} MB", if is_sorted { "sorted" } else { "laid out" }, tenths, bytes / 1_000_000));
        }
        ControlFlow::Continue(())
    }
}

impl Built {
    /// Segments that were built before: what that took is not known.
    pub(crate) fn lying(segments: Vec<PathBuf>) -> Result<Self, Box<dyn Error>> {
        let sizes = segments.iter().map(|path| Ok(fs::metadata(path)?.len() as f64)).collect::<std::io::Result<Vec<f64>>>()?;
        let text = segments.iter().map(|path| Ok(attribution::disk::open_segment(path, None)?.text().len() as f64));
        let text = text.collect::<Result<Vec<f64>, attribution::disk::OpenError>>()?.iter().sum();
        let nan = f64::NAN;
        Ok(Self { segments, text, index: sizes.iter().sum(), seconds: nan, processor_seconds: nan, peak_mb: nan, before_mb: nan })
    }

    /// Megabytes of text in a second of processors.
    pub(crate) fn per_core(&self) -> f64 {
        self.text / 1e6 / self.processor_seconds
    }

    /// Megabytes of text in a second of the clock.
    pub(crate) fn rate(&self) -> f64 {
        self.text / 1e6 / self.seconds
    }

    pub(crate) fn remove(&self) -> std::io::Result<()> {
        self.segments.iter().try_for_each(fs::remove_file)
    }
}
