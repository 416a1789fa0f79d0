//! Bundles in the client's folder: each is there before its lane's books move, so what was paid for is never without its receipt.

use std::path::{Path, PathBuf};

use attribution::bundle::{BUNDLE_BYTES_MAX, Bundle};
use inference::proto::draft::Draft;
use types::id::Hash32;

use crate::data::read_bounded;

/// Where the bundle of an attempt is kept.
pub(super) fn bundle_path(folder: &Path, request: Hash32, attempt: u16) -> PathBuf {
    folder.join(format!("{}-{attempt}.json", hex::encode(&request.0[..8])))
}

/// The bundle of an attempt that is kept and stands.
pub(super) fn read_bundle(folder: &Path, request: Hash32, attempt: u16) -> Option<Bundle> {
    let bytes = read_bounded(&bundle_path(folder, request, attempt), BUNDLE_BYTES_MAX as u64).ok()?;
    let bundle = Bundle::from_json(&bytes).ok()?;
    let receipt = &bundle.receipt.document;
    let is_its = receipt.request == request && receipt.attempt == attempt && receipt.reason.is_billable();
    (is_its && attribution::bundle::verify(&bundle).is_ok()).then_some(bundle)
}

/// The bundle of the last attempt of a request that was answered, if this client died after it was kept and before it was noted.
pub(super) fn kept_bundle(folder: &Path, draft: &Draft) -> Option<Bundle> {
    draft.ended()?;
    let attempt = u16::try_from(draft.tries().len().checked_sub(1)?).ok()?;
    read_bundle(folder, draft.request().document.id(), attempt)
}
