//! What the base model's tokenizer makes of a receipt's tokens: its file's header is read, no weight is.
//!
//! Cost: one hash over the file (a gigabyte per second or so) and the tokenizer's tables, a few tens of megabytes.

use std::path::Path;

use anyhow::{Context as _, ensure};
use attribution::bundle::{Bundle, Reading};
use inference::{
    gguf::GgufFile,
    model::{template::ChatTemplate, tokenizer::Tokenizer},
    sampler::text_len,
};
use types::{
    id::BlobId,
    manifest::{AssetKind, Manifest},
    text,
};

use crate::check::message;

/// Reads a bundle's tokens and messages with the model file at `path`, which must be the base that its manifest names.
pub(super) fn read(bundle: &Bundle, path: &Path) -> anyhow::Result<Reading> {
    let file = GgufFile::open(path)?;
    is_base(&bundle.manifest, BlobId(file.hash()?)).with_context(|| path.display().to_string())?;
    let (tokenizer, template) = (Tokenizer::from_header(file.header())?, ChatTemplate::from_header(file.header())?);
    let messages: Vec<_> = bundle.messages.iter().map(message).collect();
    let prompt = tokenizer.encode(&template.render(&tokenizer, &messages, true)?)?;
    // Options that do not stand are a fault of their own, which the check without the model names.
    let stop = bundle.request.document.asked(&bundle.options.0).map_or_else(|_| Vec::new(), |options| options.stop);
    let bytes = tokenizer.decode(&bundle.token_ids);
    let answer = text::canonical_lossy(&bytes[..text_len(&stop, &tokenizer.decode(&bundle.continued), &bytes)]);
    Ok(Reading { answer, prompt_tokens: u32::try_from(prompt.len())? })
}

fn is_base(manifest: &Manifest, file: BlobId) -> anyhow::Result<()> {
    let base = manifest.asset(AssetKind::Base).context("the receipt's manifest names no base model")?;
    ensure!(base.content == file, "the file is {file}, the receipt's manifest names base {} with content {}", base.version, base.content);
    Ok(())
}

#[cfg(test)]
mod tests {
    use types::{
        id::{AssetId, AssetVersion, Hash32},
        manifest::ManifestAsset,
        split::SplitTable,
    };

    use super::*;

    #[test]
    fn only_the_base_that_the_manifest_names_may_read() {
        let version = AssetVersion { asset: AssetId(1), version: 1 };
        let base = ManifestAsset { kind: AssetKind::Base, version, content: BlobId([7; 32]) };
        let manifest = Manifest { assets: vec![base], split: SplitTable::default(), index: Hash32::ZERO, parameters: 1, datanets: vec![] };
        is_base(&manifest, BlobId([7; 32])).unwrap();
        assert!(is_base(&manifest, BlobId([8; 32])).unwrap_err().to_string().contains("names base 1@1"));
        let none = Manifest { assets: vec![], ..manifest };
        assert!(is_base(&none, BlobId([7; 32])).unwrap_err().to_string().contains("no base model"));
    }
}
