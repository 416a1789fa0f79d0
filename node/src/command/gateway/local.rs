//! Vectors of texts, computed in this process by a sentence encoder of the operator's: no node is asked and nothing is paid.
//!
//! The encoder has a thread of its own and a bounded line (`inference::embedder`); what it refuses is told here in OpenAI's form.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, ensure};
use inference::embedder::{EmbedError, EmbedderHandle};
use types::id::Hash32;

use crate::api::{
    Kind, Refusal,
    chat::MODEL_BYTES_MAX,
    source::{Embedded, Listed},
};

/// When to come back if the line is full: a usual request takes less than a second, the longest there can be seven.
const FULL_RETRY: Duration = Duration::from_secs(2);

/// An encoder under its name.
#[derive(Debug)]
pub(super) struct Local {
    embedder: EmbedderHandle,
    listed: Listed,
}

impl Local {
    /// Loads the encoder of a folder, which gives it its name.
    ///
    /// # Errors
    /// If the folder holds none, or its name cannot stand in a request.
    pub(super) async fn open(folder: PathBuf) -> anyhow::Result<Self> {
        let shown = folder.display().to_string();
        let opened = tokio::task::spawn_blocking(move || EmbedderHandle::start(&folder)).await;
        let embedder = opened.context("the encoder's thread failed")?.with_context(|| format!("--embeddings {shown}"))?;
        let info = embedder.info();
        let is_name = (1..=MODEL_BYTES_MAX).contains(&info.name.len()) && !info.name.chars().any(char::is_control);
        ensure!(is_name, "--embeddings {shown}: the folder's name is the model's, and {:?} cannot be one: rename it", info.name);
        tracing::info!(model = %info.name, bytes = info.size_bytes, width = info.width, "an encoder is loaded");
        let listed = Listed {
            id: info.name.clone(),
            parent: None,
            root: info.name.clone(),
            owned_by: "gateway".to_owned(),
            created_s: 0,
            content: Some(Hash32(info.hash)),
        };
        Ok(Self { embedder, listed })
    }

    /// As it is listed.
    pub(super) const fn listed(&self) -> &Listed {
        &self.listed
    }

    /// Whether a request means it.
    pub(super) fn is_meant(&self, model: &str) -> bool {
        self.listed.id == model
    }

    /// A vector per text, for the key of that number.
    pub(super) async fn embed(&self, asker: usize, texts: Vec<String>) -> Result<Embedded, Refusal> {
        let embedded = self.embedder.embed(asker, texts).await.map_err(|error| refusal(&error))?;
        Ok(Embedded { vectors: embedded.vectors, tokens: u32::try_from(embedded.tokens).unwrap_or(u32::MAX) })
    }

    /// What whoever asks it a question is told.
    pub(super) fn no_answers(&self) -> Refusal {
        let message = format!("{} makes embeddings and answers nothing: use /v1/embeddings, or another model", self.listed.id);
        Refusal::field("model", "no_answers", message)
    }
}

fn refusal(error: &EmbedError) -> Refusal {
    let long = |message: String| Refusal::field("input", "context_length_exceeded", message);
    match error {
        EmbedError::TextBytes { index, got, max } => {
            long(format!("input[{index}] has {got} bytes, at most {max} are read of a text: send it in parts"))
        }
        EmbedError::TextTokens { index, got, max } => {
            long(format!("input[{index}] has {got} tokens, this model reads at most {max} of a text: send it in parts"))
        }
        EmbedError::Tokens { index, got, max } => long(format!(
            "input has {got} tokens up to input[{index}], at most {max} are taken together: send the texts in several requests"
        )),
        EmbedError::Numbers { texts, width, max } => {
            let message = format!(
                "input has {texts} texts whose vectors have {width} numbers each, at most {max} numbers are answered together: send the texts in several requests"
            );
            Refusal::field("input", "out_of_range", message)
        }
        EmbedError::BusyOwn { waiting } => {
            let message = format!("{waiting} requests of this key wait for embeddings already: ask again when one of them is answered");
            Refusal::new(Kind::Limited, "embeddings_busy", message).after(FULL_RETRY)
        }
        EmbedError::Busy { waiting } => {
            let message = format!("{waiting} requests for embeddings wait here already: ask again in a moment");
            Refusal::new(Kind::Limited, "embeddings_busy", message).after(FULL_RETRY)
        }
        EmbedError::Left | EmbedError::Stopped => Refusal::new(
            Kind::Busy,
            "embeddings_stopped",
            "the encoder has stopped: ask again, and if it stays so the gateway must be started anew",
        ),
        EmbedError::NotFinite { .. } | EmbedError::Failed | EmbedError::Model(_) => {
            Refusal::new(Kind::Failed, "no_embeddings", error.to_string())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_names_the_text_and_the_limit_and_a_full_line_says_when_to_come_back() {
        let long = refusal(&EmbedError::TextTokens { index: 3, got: 600, max: 512 });
        assert_eq!((long.kind, long.code, long.param.as_deref()), (Kind::Invalid, "context_length_exceeded", Some("input")));
        assert!(long.message.starts_with("input[3] has 600 tokens") && long.message.contains("512"), "{long}");
        for error in [EmbedError::Busy { waiting: 16 }, EmbedError::BusyOwn { waiting: 4 }] {
            let full = refusal(&error);
            assert_eq!((full.kind, full.retry_after), (Kind::Limited, Some(FULL_RETRY)));
        }
        let many = refusal(&EmbedError::Numbers { texts: 256, width: 4_096, max: 262_144 });
        assert!(many.param.as_deref() == Some("input") && many.message.contains("262144"), "{many}");
        assert_eq!(refusal(&EmbedError::Failed).kind, Kind::Failed);
    }

    #[tokio::test]
    async fn a_folder_without_an_encoder_is_refused_with_its_flag_and_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let error = format!("{:#}", Local::open(folder.path().to_owned()).await.unwrap_err());
        assert!(error.contains("--embeddings") && error.contains("config.json"), "{error}");
    }
}
