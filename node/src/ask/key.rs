//! The wrapped key of an answer's transcript, in the client's folder beside the bundle: 1 kB that says nothing of the text and brings it back from the node, as long as the
//! node keeps it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use attribution::{
    bundle::Bundle,
    transcript::{
        sealed::open,
        wrap::{ExchangeSecret, Wrap, unwrap},
    },
};
use serde::{Deserialize, Serialize};
use types::{
    encoding::Document as _,
    key::{Domains, Signed},
    receipt::Receipt,
};

use super::kept::bundle_path;
use crate::data::{read_bounded, write_atomic};

/// Largest file read: a receipt of 4,096 spans takes about 1 MB of JSON.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A receipt with the key of its transcript, wrapped for who asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiptKey {
    /// The deployment.
    pub domains: Domains,
    /// The receipt.
    pub receipt: Signed<Receipt>,
    /// The key.
    pub wrap: Wrap,
}

impl ReceiptKey {
    /// What a node sent with a receipt, if it opens for `own`.
    ///
    /// # Errors
    /// That it is no wrap, or another's.
    pub(super) fn read(bundle: &Bundle, wrap: &[u8], own: &ExchangeSecret) -> anyhow::Result<Self> {
        let wrap = Wrap::decode(wrap)?;
        unwrap(&wrap, own, bundle.receipt.document.hash())?;
        Ok(Self { domains: bundle.domains, receipt: bundle.receipt.clone(), wrap })
    }

    /// Writes it into the folder of bundles.
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn keep(&self, folder: &Path) -> anyhow::Result<()> {
        let receipt = &self.receipt.document;
        let path = key_path(&bundle_path(folder, receipt.request, receipt.attempt));
        write_atomic(&path, &serde_json::to_vec_pretty(self)?, 0o600).with_context(|| path.display().to_string())
    }

    /// Reads a file that was kept.
    ///
    /// # Errors
    /// The disk's, and where the file is something else.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let bytes = read_bounded(path, FILE_BYTES_MAX).with_context(|| format!("{}: cannot be read", path.display()))?;
        let key: Self = serde_json::from_slice(&bytes).map_err(|error| anyhow::anyhow!("{}: no receipt's key: {error}", path.display()))?;
        let node = key.receipt.document.node;
        ensure!(key.receipt.verify(&key.domains, node).is_ok(), "{}: its receipt is not signed by node {node}", path.display());
        Ok(key)
    }

    /// The bundle in a sealed transcript.
    ///
    /// # Errors
    /// [`attribution::transcript::sealed::OpenError`].
    pub fn open(&self, sealed: &[u8], own: &ExchangeSecret) -> anyhow::Result<Bundle> {
        Ok(open(sealed, &self.wrap, own, &self.receipt, &self.domains)?)
    }
}

/// Where the key of a bundle's transcript is kept.
pub fn key_path(bundle: &Path) -> PathBuf {
    bundle.with_extension("key")
}
