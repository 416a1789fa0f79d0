//! Documents to token sequences, their order, and their packing into steps.

use candle_core::{Device, Tensor};

use crate::model::Text;
use crate::sampler::split_mix;
use crate::{Message, Role};

use super::graph::Batch;
use super::{Example, STEP_ROWS_MAX, TrainError};

/// A document as tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    tokens: Vec<u32>,
    /// Number of the first token that counts in the loss; at least 1.
    first: usize,
    /// Whether the document was longer than allowed.
    pub(super) cut: bool,
}

impl Encoded {
    /// Tokens that are fed; the last one is only predicted.
    pub(super) fn inputs(&self) -> &[u32] {
        &self.tokens[..self.tokens.len() - 1]
    }

    /// Tokens that count in the loss.
    pub(super) fn counted(&self) -> usize {
        self.tokens.len() - self.first
    }
}

/// Renders and tokenizes a document exactly as a request for it would be, then the document and the end token.
pub(super) fn encode(text: &Text, example: &Example, max_length: usize) -> Result<Encoded, TrainError> {
    let id = || example.id.clone();
    let tokenize = |part: &str| text.tokenizer.encode(part).map_err(|source| TrainError::Tokenizer { id: id(), source });
    let mut tokens = match &example.prompt {
        Some(prompt) => {
            let message = Message { role: Role::User, content: prompt.clone() };
            let rendered = text.template.render(&text.tokenizer, &[message], true);
            tokenize(&rendered.map_err(|source| TrainError::Template { id: id(), source })?)?
        }
        // A text by itself begins as the vocabulary says.
        None => text.tokenizer.encode_plain("").map_err(|source| TrainError::Tokenizer { id: id(), source })?,
    };
    if text.tokenizer.control_in(&example.text).is_some() {
        return Err(TrainError::Document { id: id(), problem: "its text holds a control token of the chat template" });
    }
    let first = tokens.len().max(1);
    tokens.extend(tokenize(&example.text)?);
    tokens.push(text.tokenizer.end_of_turn());
    if tokens.len() <= first + 1 {
        return Err(TrainError::Document { id: id(), problem: "its text is empty" });
    }
    let cut = tokens.len() > max_length;
    tokens.truncate(max_length);
    if tokens.len() <= first {
        return Err(TrainError::Document { id: id(), problem: "its prompt alone is longer than max_length" });
    }
    Ok(Encoded { tokens, first, cut })
}

/// The order of documents in a pass: Fisher and Yates, by the seed and the pass.
pub(super) fn order(count: usize, seed: u64, pass: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = split_mix(split_mix(seed) ^ u64::from(pass));
    for last in (1..count).rev() {
        state = split_mix(state);
        let bound = last as u64 + 1;
        let other = usize::try_from(state % bound).unwrap_or(0);
        order.swap(last, other);
    }
    order
}

/// Cuts an order into steps of at most `size` documents and [`STEP_ROWS_MAX`] rows.
pub(super) fn batches(examples: &[Encoded], order: &[usize], size: usize) -> Vec<Vec<usize>> {
    let mut out: Vec<Vec<usize>> = Vec::new();
    let mut rows = 0;
    for &index in order {
        let len = examples[index].inputs().len();
        match out.last_mut().filter(|batch| batch.len() < size && rows + len <= STEP_ROWS_MAX) {
            Some(batch) => {
                batch.push(index);
                rows += len;
            }
            None => {
                out.push(vec![index]);
                rows = len;
            }
        }
    }
    out
}

/// Packs documents: the rows they all begin with once, then the rest of each.
pub(super) fn pack(examples: &[Encoded], trunk: &[Vec<f32>], members: &[usize], width: usize) -> candle_core::Result<Batch> {
    let shared = common_prefix(examples, members);
    let mut hidden = trunk[members[0]][..shared * width].to_vec();
    let mut lengths = Vec::with_capacity(members.len());
    let mut targets = Vec::new();
    let mut start = shared;
    for &member in members {
        let example = &examples[member];
        hidden.extend_from_slice(&trunk[member][shared * width..]);
        let own = example.inputs().len() - shared;
        for (offset, &token) in example.tokens.iter().enumerate().skip(example.first) {
            targets.push((start + offset - 1 - shared, token));
        }
        lengths.push(own);
        start += own;
    }
    let hidden = Tensor::from_vec(hidden, (start, width), &Device::Cpu)?;
    Ok(Batch { hidden, shared, lengths, targets })
}

/// The reverse of [`pack`]: the rows of each member, the shared ones first.
pub(super) fn unpack(hidden: &[f32], batch: &Batch, width: usize) -> Vec<Vec<f32>> {
    let (shared, mut rest) = hidden.split_at(batch.shared * width);
    let mut out = Vec::with_capacity(batch.lengths.len());
    for len in &batch.lengths {
        let (own, behind) = rest.split_at(len * width);
        out.push([shared, own].concat());
        rest = behind;
    }
    out
}

/// Rows that all members begin with and that predict nothing counted. A single member shares nothing.
fn common_prefix(examples: &[Encoded], members: &[usize]) -> usize {
    let [first, rest @ ..] = members else { return 0 };
    if rest.is_empty() {
        return 0;
    }
    let limit = members.iter().map(|&member| examples[member].first - 1).min().unwrap_or(0);
    let head = &examples[*first].tokens;
    let agrees = |at: usize| rest.iter().all(|&member| examples[member].tokens[at] == head[at]);
    (0..limit).take_while(|&at| agrees(at)).count()
}

#[cfg(test)]
impl Encoded {
    /// A document of these tokens, of which those from `first` on count.
    pub(super) fn of(tokens: &[u32], first: usize) -> Self {
        Self { tokens: tokens.to_vec(), first, cut: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(tokens: &[u32], first: usize) -> Encoded {
        Encoded::of(tokens, first)
    }

    #[test]
    fn shared_rows_are_packed_once_and_targets_point_at_the_right_rows() {
        let examples = [encoded(&[1, 2, 3, 7, 8], 3), encoded(&[1, 2, 4, 5, 9, 10], 4)];
        let trunk = vec![vec![10.0, 11.0, 12.0, 13.0], vec![20.0, 21.0, 22.0, 23.0, 24.0]];
        let batch = pack(&examples, &trunk, &[1, 0], 1).unwrap();
        assert_eq!(batch.shared, 2);
        assert_eq!(batch.lengths, [3, 2]);
        let hidden: Vec<f32> = batch.hidden.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(hidden, [20.0, 21.0, 22.0, 23.0, 24.0, 12.0, 13.0]);
        assert_eq!(batch.targets, [(3, 9), (4, 10), (5, 7), (6, 8)]);
        let unpacked = unpack(&hidden, &batch, 1);
        assert_eq!(unpacked, [vec![20.0, 21.0, 22.0, 23.0, 24.0], vec![20.0, 21.0, 12.0, 13.0]]);
    }

    #[test]
    fn every_document_occurs_once_per_pass_and_passes_differ() {
        let mut first = order(50, 7, 0);
        let second = order(50, 7, 1);
        assert_ne!(first, second);
        assert_eq!(first, order(50, 7, 0));
        first.sort_unstable();
        assert_eq!(first, (0..50).collect::<Vec<_>>());
    }
}
