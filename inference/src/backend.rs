//! What an engine asks of the device that computes.

pub mod cpu;

use crate::adapter::{AdapterError, AdapterFiles, AdapterInfo};
use crate::model::{ModelError, ModelInfo};

/// A device with a loaded model. Sequences and adapters are values the engine owns; the backend only computes.
pub trait Backend: Send + 'static {
    /// What a sequence keeps between steps.
    type Sequence: Send;
    /// An adapter in the form the device applies.
    type Adapter: Send + Sync;

    /// The loaded model.
    fn info(&self) -> &ModelInfo;

    /// An empty sequence.
    fn sequence(&self) -> Self::Sequence;

    /// Checks an adapter against the model and prepares it.
    ///
    /// # Errors
    /// Any [`AdapterError`].
    fn prepare(&self, files: &AdapterFiles) -> Result<Self::Adapter, AdapterError>;

    /// What others may know of a prepared adapter.
    fn adapter_info(adapter: &Self::Adapter) -> &AdapterInfo;

    /// Runs `tokens` after what the sequence holds; returns the logits after the last. At most
    /// [`PREFILL_CHUNK`](crate::model::PREFILL_CHUNK) tokens, so that no call takes long.
    ///
    /// # Errors
    /// Any [`ModelError`]; the sequence must then be dropped.
    fn forward(&self, sequence: &mut Self::Sequence, tokens: &[u32], adapter: Option<&Self::Adapter>) -> Result<Vec<f32>, ModelError>;
}
