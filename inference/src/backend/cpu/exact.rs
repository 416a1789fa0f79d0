//! The device that computes steps on the CPU in the profile `exact`.

use std::num::NonZeroUsize;
use std::sync::Arc;

use crate::adapter::{AdapterError, Packed8};
use crate::backend::{Backend, Counters, Outputs, PageError, Profile};
use crate::model::forward::{Arena, Pass};
use crate::model::packed::PackedModel;
use crate::model::plan::Plan;
use crate::model::{ModelError, ModelInfo};
use crate::numeric::{BLOCK_KEYS, MAGNITUDE_MAX};
use crate::step::{PAGE_TOKENS, Page, ROWS_MAX, Slot, Step, StepError, StepLimits};

use super::cache::{CacheShape, KvCache, scales, token_bytes};
use super::kernel::{Kernels, Path, select};
use super::pool::Pool;

/// Sizes of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CpuConfig {
    /// Threads, the caller's among them: one for each core that the system gives, by default.
    pub threads: NonZeroUsize,
    /// Pages of keys and values: 512 by default, 32,768 tokens, 400 MB for SmolLM2-135M.
    pub pages: u32,
    /// Rows of a step: [`ROWS_MAX`] by default and at most.
    pub rows: usize,
    /// Adapters attached at a time: 64 by default; a slot costs nothing while it is empty.
    pub slots: u32,
    /// The best set of instructions to use; all that the machine has, by default.
    pub path: Option<Path>,
}

impl Default for CpuConfig {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self { threads, pages: 512, rows: ROWS_MAX, slots: 64, path: None }
    }
}

/// A model on the CPU.
#[derive(Debug)]
pub struct Cpu {
    model: Arc<PackedModel>,
    plan: Plan,
    limits: StepLimits,
    kernels: &'static Kernels,
    pool: Pool,
    cache: KvCache,
    arena: Arena,
    slots: Vec<Option<Arc<Packed8>>>,
    counters: Counters,
}

impl Cpu {
    /// Makes all room that steps need.
    ///
    /// # Errors
    /// [`ModelError::Config`] if the model's heads, or its sizes of the device, are not what kernels take.
    pub fn new(model: Arc<PackedModel>, config: &CpuConfig) -> Result<Self, ModelError> {
        let shape = model.config();
        let wrong = |key: &str, value: String, expected| ModelError::Config { key: key.to_owned(), value, expected };
        if config.rows == 0 || config.rows > ROWS_MAX {
            return Err(wrong("rows", config.rows.to_string(), "1 to 256 rows of a step"));
        }
        if config.pages == 0 {
            return Err(wrong("pages", config.pages.to_string(), "at least one page"));
        }
        let pages = usize::try_from(config.pages).expect("a number of pages is an index");
        let plan = Plan::new(shape, config.rows, pages)?;
        let number = |value: usize| u32::try_from(value).expect("a size of the checked configuration");
        let limits = StepLimits {
            rows: config.rows,
            vocabulary: number(shape.vocabulary),
            context: number(shape.context),
            pages: config.pages,
            slots: config.slots,
        };
        let cache = KvCache::new(CacheShape { layers: shape.layers, heads: shape.kv_heads, head_dim: shape.head_dim, pages });
        let pool = Pool::new(config.threads);
        let arena = Arena::new(&plan, pool.threads());
        let slots = (0..config.slots).map(|_| None).collect();
        Ok(Self { model, plan, limits, kernels: select(config.path), pool, cache, arena, slots, counters: Counters::default() })
    }

    /// The instructions in use.
    #[must_use]
    pub fn kernels(&self) -> &'static Kernels {
        self.kernels
    }

    /// What steps may be.
    #[must_use]
    pub fn limits(&self) -> StepLimits {
        self.limits
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &Arc<PackedModel> {
        &self.model
    }
}

impl Backend for Cpu {
    fn profile(&self) -> Profile {
        self.model.profile()
    }

    fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    fn outputs(&self) -> Outputs {
        let (rows, width) = (self.plan.rows, self.plan.hidden);
        Outputs {
            logits: Vec::with_capacity(rows * self.plan.vocabulary),
            hidden: Vec::with_capacity(rows * width),
            hidden_scales: Vec::with_capacity(rows * (width / self.model.head.group())),
            hidden_zeros: Vec::with_capacity(rows * (width / self.model.head.group())),
            failed: Vec::with_capacity(rows),
        }
    }

    fn forward(&mut self, step: &Step<'_>, out: &mut Outputs) -> Result<(), StepError> {
        step.check(&self.limits)?;
        let is_empty = |slot: u32| self.slots[usize::try_from(slot).expect("a checked slot")].is_none();
        if let Some(segment) = step.segments.iter().find(|segment| is_empty(segment.slot)) {
            return Err(StepError::Slot { slot: segment.slot });
        }
        let Self { model, plan, kernels, pool, cache, arena, slots, counters, .. } = self;
        Pass { model, plan, kernels, pool, slots, step }.run(cache, arena, counters, out);
        Ok(())
    }

    fn attach(&mut self, slot: Slot, adapter: &Arc<Packed8>) -> Result<(), AdapterError> {
        let unsupported = |feature: String, fix| AdapterError::Unsupported { feature, fix };
        if adapter.layers() != self.model.layers.len() {
            return Err(unsupported(format!("{} layers", adapter.layers()), "match it with this model"));
        }
        let place = usize::try_from(slot.0).ok().and_then(|slot| self.slots.get_mut(slot));
        *place.ok_or_else(|| unsupported(format!("slot {}", slot.0), "attach it to a slot of the device"))? = Some(Arc::clone(adapter));
        Ok(())
    }

    fn detach(&mut self, slot: Slot) {
        if let Some(place) = usize::try_from(slot.0).ok().and_then(|slot| self.slots.get_mut(slot)) {
            *place = None;
        }
    }

    fn page_digest(&self, page: Page, tokens: u32) -> [u8; 32] {
        let shape = self.cache.shape();
        let each = token_bytes(shape.head_dim);
        let mut bytes = vec![0; BLOCK_KEYS * each];
        let mut hasher = blake3::Hasher::new();
        for (layer, head) in (0..shape.layers).flat_map(|layer| (0..shape.heads).map(move |head| (layer, head))) {
            self.cache.region(layer, head).read(page.0, &mut bytes);
            hasher.update(&bytes[..count_of(tokens) * each]);
        }
        hasher.finalize().into()
    }

    fn read_page(&self, page: Page, tokens: u32, out: &mut Vec<u8>) {
        let shape = self.cache.shape();
        let each = token_bytes(shape.head_dim);
        let mut bytes = vec![0; BLOCK_KEYS * each];
        for (layer, head) in (0..shape.layers).flat_map(|layer| (0..shape.heads).map(move |head| (layer, head))) {
            self.cache.region(layer, head).read(page.0, &mut bytes);
            out.extend(&bytes[..count_of(tokens) * each]);
        }
    }

    fn write_page(&mut self, page: Page, tokens: u32, bytes: &[u8]) -> Result<(), PageError> {
        let shape = self.cache.shape();
        let each = token_bytes(shape.head_dim);
        if page.0 >= self.limits.pages || tokens > PAGE_TOKENS {
            return Err(PageError::Place { page: page.0, tokens });
        }
        let expected = count_of(tokens) * self.cache.token_bytes();
        if bytes.len() != expected {
            return Err(PageError::Length { got: bytes.len(), expected });
        }
        check_page(bytes, shape.head_dim)?;
        if tokens == 0 {
            return Ok(());
        }
        let mut heads = bytes.chunks_exact(count_of(tokens) * each);
        for layer in 0..shape.layers {
            let regions = self.cache.layer_mut(layer);
            for (head, bytes) in (0..shape.heads).zip(heads.by_ref()) {
                regions.take(head).fill(page.0, bytes);
            }
        }
        Ok(())
    }

    fn copy_page(&mut self, from: Page, to: Page) {
        self.cache.copy_page(from.0, to.0);
    }

    fn counters(&self) -> Counters {
        self.counters
    }

    fn spread(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.pool.run(count, task);
    }
}

/// Tokens of a page, as an index.
fn count_of(tokens: u32) -> usize {
    usize::try_from(tokens.min(PAGE_TOKENS)).expect("at most a page")
}

/// Whether codes and scales are such as [`crate::numeric::quantise`] makes: kernels rely on no more, and no honest page has others.
fn check_page(bytes: &[u8], head_dim: usize) -> Result<(), PageError> {
    for (at, token) in bytes.chunks_exact(token_bytes(head_dim)).enumerate() {
        let (codes, numbers) = token.split_at(2 * head_dim);
        let is_code = codes.iter().all(|code| *code != 0x80);
        // By their bits, so that what is negative or not a number is too large.
        let is_scale = scales(numbers).iter().all(|scale| scale.to_bits() <= (MAGNITUDE_MAX / 127.0).to_bits());
        if !(is_code && is_scale) {
            return Err(PageError::Numbers { at: at * token_bytes(head_dim) });
        }
    }
    Ok(())
}
