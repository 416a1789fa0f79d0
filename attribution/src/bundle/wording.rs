//! Prompt, answer, masks and weights, recomputed from the bundle's own text.

use types::{
    receipt::{Finding, Mask},
    text::{canonical_lossy, prompt_root},
};

use super::{Bundle, Collector, spans};
use crate::{
    answer::answer_root,
    parameters::Parameters,
    prompt::prompt_bytes,
    span::{Masked, Word, mask_answer},
};

/// Checks texts, roots, masks, W and every span; if it can be attributed at all, the answer's words and the spans whose text is not shown.
pub(super) fn check(bundle: &Bundle, parameters: &Parameters, faults: &mut Collector) -> Option<(Vec<Word>, Vec<u32>)> {
    let receipt = &bundle.receipt.document;
    if canonical_lossy(bundle.answer.as_bytes()) != bundle.answer {
        faults.add(Finding::Text, 0, "answer", "is not canonical text: its bytes are not what was hashed");
    }
    for (message, number) in bundle.messages.iter().zip(0_u32..) {
        if canonical_lossy(message.content.as_bytes()) != message.content {
            faults.add(Finding::Text, number, format!("message {number}"), "is not canonical text: its bytes are not what was hashed");
        }
    }
    let prompt = prompt_bytes(&bundle.messages);
    let root = prompt_root(&prompt, bundle.prompt_salt);
    faults.same(Finding::Text, "prompt root", &receipt.prompt_root, "that of the messages is", &root);
    faults.same(Finding::Text, "request: prompt root", &bundle.request.document.prompt_root, "that of the messages is", &root);
    let found = mask_answer(parameters, &prompt, &bundle.answer);
    let found = found.map_err(|error| faults.add(Finding::Text, 0, "answer", format!("cannot be attributed: {error}"))).ok()?;
    let root = answer_root(&bundle.answer, &found.words, bundle.answer_salt);
    faults.same(Finding::Text, "answer root", &receipt.answer_root, "that of the answer and its word weights is", &root);
    weights(bundle, &found, faults);
    let unseen = spans::check(bundle, parameters, &found, faults);
    Some((found.words, unseen))
}

fn weights(bundle: &Bundle, found: &Masked, faults: &mut Collector) {
    let receipt = &bundle.receipt.document;
    masks(&receipt.masks, &found.masks, faults);
    faults.same(Finding::Attribution, "total weight W", &receipt.weight_total, "recomputed", &found.weight_total);
}

fn masks(stated: &[Mask], found: &[Mask], faults: &mut Collector) {
    for (number, mask) in found.iter().enumerate() {
        let field = format!("mask {number}");
        match stated.get(number) {
            Some(stated) if stated == mask => {}
            Some(stated) => faults.add(Finding::Attribution, mask.start, field, format!("is {stated:?}, recomputed {mask:?}")),
            None => faults.add(Finding::Attribution, mask.start, field, format!("is missing, recomputed {mask:?}")),
        }
    }
    for (number, mask) in stated.iter().enumerate().skip(found.len()) {
        faults.add(Finding::Attribution, mask.start, format!("mask {number}"), format!("is {mask:?}, but the prompt has no such run"));
    }
}
