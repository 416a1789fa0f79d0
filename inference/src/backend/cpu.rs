//! candle on the CPU, f32, one sequence at a time: the profile `candle-f32-b1`.

use crate::adapter::{AdapterError, AdapterFiles, AdapterInfo, Lora};
use crate::model::{Cache, Model, ModelError, ModelInfo};

use super::Backend;

/// The CPU backend.
#[derive(Debug)]
pub struct Cpu {
    model: Model,
}

impl Cpu {
    /// Wraps a loaded model.
    #[must_use]
    pub fn new(model: Model) -> Self {
        Self { model }
    }
}

impl Backend for Cpu {
    type Sequence = Cache;
    type Adapter = Lora;

    fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    fn sequence(&self) -> Cache {
        Cache::new(self.model.config())
    }

    fn prepare(&self, files: &AdapterFiles) -> Result<Lora, AdapterError> {
        Lora::new(files, self.model.info())
    }

    fn adapter_info(adapter: &Lora) -> &AdapterInfo {
        adapter.info()
    }

    fn forward(&self, sequence: &mut Cache, tokens: &[u32], adapter: Option<&Lora>) -> Result<Vec<f32>, ModelError> {
        self.model.forward(tokens, sequence, adapter)
    }
}
