//! What this process hands to its transports, written down before they encrypt it: so that a test can search the wire for what must not be on it.
//!
//! In builds with debug assertions alone, and there only if [`VARIABLE`] names a folder: a release cannot be made to write its traffic down. A file for each
//! stream that is sent on, `<process>-<number>.<transport>`, holds its frames' bodies and raw bytes one after another, without lengths, so that what was cut into
//! frames is found whole; `<process>.gossip` holds what was published. Nothing received is written: its sender's file has it.

#[cfg(not(debug_assertions))]
pub(crate) use self::off::{Tap, published};
#[cfg(debug_assertions)]
pub(crate) use self::on::{Tap, published};

/// Names the folder.
#[cfg(debug_assertions)]
pub const VARIABLE: &str = "TRIBUTARY_WIRE_TAP";

#[cfg(debug_assertions)]
mod on {
    use std::{
        fs::{File, OpenOptions},
        io::Write as _,
        path::PathBuf,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    fn folder() -> Option<&'static PathBuf> {
        static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
        FOLDER.get_or_init(|| std::env::var_os(super::VARIABLE).map(PathBuf::from)).as_ref()
    }

    fn open(name: &str) -> Option<File> {
        let path = folder()?.join(name);
        match OpenOptions::new().create(true).append(true).open(&path) {
            Ok(file) => Some(file),
            // A tap that misses something would let a test pass that must not.
            Err(error) => panic!("{}: the tap of the wire cannot be written: {error}", path.display()),
        }
    }

    fn write(file: &mut File, bytes: &[u8]) {
        file.write_all(bytes).unwrap_or_else(|error| panic!("the tap of the wire cannot be written: {error}"));
    }

    /// One stream's file, made with the first byte that is sent.
    #[derive(Debug)]
    pub(crate) struct Tap {
        transport: &'static str,
        file: Option<File>,
    }

    impl Tap {
        pub(crate) const fn new(transport: &'static str) -> Self {
            Self { transport, file: None }
        }

        /// Writes down what is sent.
        pub(crate) fn sent(&mut self, bytes: &[u8]) {
            static STREAMS: AtomicU64 = AtomicU64::new(0);
            if folder().is_none() {
                return;
            }
            if self.file.is_none() {
                let number = STREAMS.fetch_add(1, Ordering::Relaxed);
                self.file = open(&format!("{}-{number}.{}", std::process::id(), self.transport));
            }
            if let Some(file) = &mut self.file {
                write(file, bytes);
            }
        }
    }

    /// Writes down what is published.
    pub(crate) fn published(bytes: &[u8]) {
        if let Some(mut file) = open(&format!("{}.gossip", std::process::id())) {
            write(&mut file, bytes);
        }
    }
}

#[cfg(not(debug_assertions))]
mod off {
    #[derive(Debug)]
    pub(crate) struct Tap;

    impl Tap {
        pub(crate) const fn new(_: &'static str) -> Self {
            Self
        }

        #[expect(clippy::unused_self, reason = "stands where the tap of debug builds does")]
        pub(crate) const fn sent(&mut self, _: &[u8]) {}
    }

    pub(crate) const fn published(_: &[u8]) {}
}
