use serde_json::Value;
use types::receipt::Reason;

use super::*;
use crate::{
    index::{Opened, TextLeaf},
    sample::{ANSWER, Sample, answer, datanet, sample},
};

impl Sample {
    /// Signs receipt and quote again with the node's own key.
    fn resign(&self, bundle: &mut Bundle) {
        bundle.receipt = Signed::new(&self.node, &bundle.domains, bundle.receipt.document.clone());
        bundle.quote = Signed::new(&self.node, &bundle.domains, bundle.quote.document);
    }
}

/// Changes the sample, re-signs with the node's key, and expects a fault whose field is `field`.
fn check(field: &str, change: impl Fn(&mut Bundle)) {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    change(&mut bundle);
    assert_ne!(bundle, sample.bundle, "{field}");
    sample.resign(&mut bundle);
    let faults = verify(&bundle).expect_err(field);
    assert!(faults.0.iter().any(|fault| fault.field == field), "{field} is not named in: {faults}");
}

#[test]
fn an_honest_bundle_verifies_and_survives_its_file() {
    let sample = sample();
    assert_eq!((sample.bundle.receipt.document.spans.len(), sample.bundle.receipt.document.masks.len()), (2, 1));
    let verified = verify(&sample.bundle).unwrap();
    assert_eq!(Amount::sum(verified.parts.iter().map(|part| part.1)), Ok(sample.bundle.receipt.document.fee));
    assert_eq!(Bundle::from_json(sample.bundle.to_json().as_bytes()).unwrap(), sample.bundle);
    assert_eq!(verify_full(&sample.bundle, &sample.index), Ok(verified));
}

#[test]
fn each_changed_field_of_a_receipt_is_named_although_the_node_signed_it() {
    check("span 0: start", |b| b.receipt.document.spans[0].start += 1);
    check("span 0: text", |b| b.receipt.document.spans[0].start = u32::try_from(ANSWER.find("describe").unwrap()).unwrap());
    check("span 1: length", |b| b.receipt.document.spans[1].length += 1);
    check("span 1: length", |b| b.receipt.document.spans[1].length = 0);
    check("span 1: weight", |b| b.receipt.document.spans[1].weight -= 1);
    check("span 0: payee", |b| b.receipt.document.spans[0].payee.0[3] ^= 1);
    check("span 0: position", |b| b.receipt.document.spans[0].position += 64);
    check("span 0: text", |b| b.receipt.document.spans[0].position += 1);
    check("span 0: Datanet", |b| b.receipt.document.spans[0].datanet = 1);
    check("total weight W", |b| b.receipt.document.weight_total -= 1);
    check("fee", |b| b.receipt.document.fee.0 += 1);
    check("input tokens", |b| b.receipt.document.tokens_in += 1);
    check("output tokens", |b| b.receipt.document.tokens_out += 1);
    check("first token", |b| b.receipt.document.first_token += 1);
    check("attempt", |b| b.receipt.document.attempt += 1);
    check("cumulative after", |b| b.receipt.document.cumulative_after.0 += 1);
    check("manifest root", |b| b.receipt.document.manifest.0[0] ^= 1);
    check("index root", |b| b.receipt.document.index.0[0] ^= 1);
    check("quote hash", |b| b.receipt.document.quote.0[0] ^= 1);
    check("request id", |b| b.receipt.document.request.0[0] ^= 1);
    check("lane", |b| b.receipt.document.lane.0[0] ^= 1);
    check("client", |b| b.receipt.document.client.0[0] ^= 1);
    check("node", |b| b.receipt.document.node.0[0] ^= 1);
    check("block", |b| b.receipt.document.block.number += 1);
    check("block", |b| b.receipt.document.block.hash.0[0] ^= 1);
    check("prompt root", |b| b.receipt.document.prompt_root.0[0] ^= 1);
    check("answer root", |b| b.receipt.document.answer_root.0[0] ^= 1);
    check("token-id hash", |b| b.receipt.document.token_ids.0[0] ^= 1);
    check("fingerprint root", |b| b.receipt.document.fingerprint_root.0[0] ^= 1);
    check("parameter id", |b| b.receipt.document.parameters = 2);
    check("assets", |b| b.receipt.document.assets[1].version += 1);
    check("class", |b| b.receipt.document.class = types::quote::Class::Open);
    check("mask 0", |b| b.receipt.document.masks[0].start += 1);
    check("mask 0", |b| b.receipt.document.masks[0].prompt += 1);
    check("mask 0", |b| b.receipt.document.masks.clear());
    check("mask 1", |b| b.receipt.document.masks.push(b.receipt.document.masks[0]));
    check("fee", |b| b.receipt.document.reason = Reason::EngineFailure);
}

#[test]
fn changed_evidence_is_named_as_well() {
    check("answer root", |b| b.answer = b.answer.replace("matters", "differs"));
    check("prompt root", |b| b.messages[1].content.push('?'));
    check("prompt root", |b| b.messages[0].role = crate::prompt::Role::User);
    check("prompt root", |b| b.prompt_salt.0[0] ^= 1);
    check("answer root", |b| b.answer_salt.0[0] ^= 1);
    check("answer", |b| b.answer.push('\u{7}'));
    check("token ids", |b| b.token_ids[5] += 1);
    check("output tokens", |b| b.token_ids.push(1));
    check("manifest root", |b| b.manifest.split.node -= 1);
    check("manifest", |b| b.manifest.split.node -= 1);
    check("manifest: treasury of Datanet 1", |b| b.manifest.datanets[1].treasury.0[0] ^= 1);
    check("quote hash", |b| b.quote.document.rate_out.0 += 1);
    check("quote: input rate", |b| b.quote.document.rate_in.0 *= 2);
    check("quote hash", |b| b.quote.document.tokens_max += 1);
    check("openings", |b| b.openings.truncate(1));
    check("span 0: document", |b| b.openings[0].document.leaf.payee.0[0] ^= 1);
    check("span 1: text", |b| b.openings[1].text.leaf.0[70] ^= 1);
    check("span 1: segment", |b| b.openings[1].segment.leaf.length += 1);
    check("span 1: Datanet", |b| b.openings[1].datanet.leaf.version.version += 1);
    for name in ["request", "lane", "voucher"] {
        check(&format!("{name}: signature"), |b| match name {
            "request" => b.request.document.nonce += 1,
            "lane" => b.lane.document.nonce += 1,
            _ => b.voucher.document.tokens_out += 1,
        });
    }
}

/// Every number and string of the file, changed one at a time; the node signs again what it may sign.
#[test]
fn no_value_of_the_file_can_change_unseen() {
    let sample = sample();
    let whole: Value = serde_json::from_str(&sample.bundle.to_json()).unwrap();
    let mut places = Vec::new();
    leaves(&whole, "", &mut places);
    let mut tried = 0;
    for place in places {
        // Why an answer ended is the node's word alone; its own signatures are made again below; no document of a bundle is signed for the
        // other two contracts.
        if ["/receipt/document/reason", "/receipt/signature", "/quote/signature", "/domains/registry", "/domains/stake"]
            .contains(&place.as_str())
        {
            continue;
        }
        let mut changed = whole.clone();
        change(changed.pointer_mut(&place).unwrap());
        let Ok(mut bundle) = Bundle::from_json(changed.to_string().as_bytes()) else { continue };
        assert_ne!(bundle, sample.bundle, "{place}");
        sample.resign(&mut bundle);
        assert!(verify(&bundle).is_err(), "{place} changed unseen");
        tried += 1;
    }
    assert!(tried > 200, "{tried}");
}

fn leaves(value: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found)),
        Value::Array(list) => list.iter().enumerate().for_each(|(key, value)| leaves(value, &format!("{path}/{key}"), found)),
        _ => found.push(path.to_owned()),
    }
}

fn change(value: &mut Value) {
    *value = match value {
        Value::Number(n) => Value::from(n.as_u64().unwrap() ^ 1),
        Value::String(s) => {
            let last = s.pop().unwrap_or('0');
            s.push(if last == '0' { '1' } else { '0' });
            Value::from(s.clone())
        }
        other => panic!("no leaf: {other}"),
    };
}

#[test]
fn unknown_keys_are_refused_wherever_they_stand() {
    let whole: Value = serde_json::from_str(&sample().bundle.to_json()).unwrap();
    let mut objects = vec![String::new()];
    let mut tried = 0;
    while let Some(place) = objects.pop() {
        let value = whole.pointer(&place).unwrap();
        let children: Vec<String> = match value {
            Value::Object(map) => map.keys().map(|key| format!("{place}/{key}")).collect(),
            Value::Array(list) => (0..list.len()).map(|at| format!("{place}/{at}")).collect(),
            _ => Vec::new(),
        };
        objects.extend(children);
        if value.is_object() {
            let mut changed = whole.clone();
            changed.pointer_mut(&place).unwrap().as_object_mut().unwrap().insert("extra".into(), Value::from(1));
            assert!(Bundle::from_json(changed.to_string().as_bytes()).is_err(), "an unknown key under {place:?} was read");
            tried += 1;
        }
    }
    assert!(tried > 30, "{tried}");
    assert!(Bundle::from_json(b"{}").is_err());
}

#[test]
fn an_omitted_span_shows_in_the_full_search_only() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    bundle.receipt.document.spans.remove(0);
    bundle.openings.remove(0);
    sample.resign(&mut bundle);
    assert!(verify(&bundle).is_ok());
    let faults = verify_full(&bundle, &sample.index).unwrap_err();
    assert!(faults.to_string().starts_with("spans omit"), "{faults}");
}

#[test]
fn a_later_holder_and_a_shortened_span_show_in_the_full_search() {
    let sample = sample();
    let mut bundle = sample.bundle.clone();
    let span = &mut bundle.receipt.document.spans[0];
    let text = &ANSWER[span.start as usize..][..usize::from(span.length)];
    let segment = &sample.index.datanets()[0].segments()[0];
    let later = segment.array()[segment.range(text.as_bytes())].iter().max().copied().unwrap();
    assert_ne!(u64::from(later), span.position, "the copy stands later");
    span.position = later.into();
    bundle.openings[0] = sample.index.open_span(0, later.into()).unwrap();
    span.payee = bundle.openings[0].document.leaf.payee;
    sample.resign(&mut bundle);
    assert!(verify(&bundle).is_ok(), "{:?}", verify(&bundle));
    assert!(verify_full(&bundle, &sample.index).unwrap_err().to_string().starts_with("span 0 is"));

    let mut bundle = sample.bundle.clone();
    let span = &mut bundle.receipt.document.spans[1];
    let words = crate::span::weigh(Parameters::builtin(1).unwrap(), ANSWER);
    let last = words.iter().find(|word| word.range.end == span.start as usize + usize::from(span.length)).unwrap();
    span.length -= u16::try_from(last.range.len() + 1).unwrap();
    span.weight -= last.weight;
    sample.resign(&mut bundle);
    assert!(verify(&bundle).is_ok(), "{:?}", verify(&bundle));
    assert!(verify_full(&bundle, &sample.index).unwrap_err().to_string().starts_with("span 1 is"));
}

#[test]
fn a_span_into_the_middle_of_a_word_and_one_over_a_mask_are_refused() {
    let sample = sample();
    let index =
        Index::new(vec![datanet(3, &[(0xa1, "presensorineural hearing impairment of congenital onset affecting speech development")])])
            .unwrap();
    let mut bundle = answer(&sample.node, &index, 1, ANSWER);
    let found = bundle.receipt.document.spans.clone();
    assert_eq!(found.len(), 1, "from the second word on");
    let first = ANSWER.find("sensorineural").unwrap();
    let added = found[0].start - u32::try_from(first).unwrap();
    let parameters = Parameters::builtin(1).unwrap();
    let span = &mut bundle.receipt.document.spans[0];
    span.start -= added;
    span.length += u16::try_from(added).unwrap();
    span.position -= u64::from(added);
    span.weight += parameters.weight("sensorineural");
    bundle.openings[0] = index.open_span(0, span.position).unwrap();
    sample.resign(&mut bundle);
    let faults = verify(&bundle).unwrap_err();
    assert_eq!(faults.to_string(), "span 0: position is 3, inside a word of the document");

    let index = Index::new(vec![datanet(3, &[(0xa1, "an unusual combination of questions from rather different disciplines")])]).unwrap();
    let mut bundle = answer(&sample.node, &index, 1, ANSWER);
    assert!(bundle.receipt.document.spans.is_empty());
    let mask = bundle.receipt.document.masks[0];
    let text = &ANSWER[mask.start as usize..][..mask.length as usize];
    let weight = text.split(' ').map(|word| parameters.weight(word)).sum();
    let holder = index.holder(text.as_bytes()).unwrap();
    bundle.receipt.document.spans.push(Span {
        start: mask.start,
        length: u16::try_from(mask.length).unwrap(),
        datanet: 0,
        position: holder.position,
        weight,
        payee: holder.payee,
    });
    bundle.openings.push(index.open_span(0, holder.position).unwrap());
    sample.resign(&mut bundle);
    assert!(verify(&bundle).unwrap_err().to_string().contains("covers words that stand in the prompt"));
}

#[test]
fn a_leaf_longer_than_any_text_leaf_is_not_read() {
    let long = Opened { leaf: TextLeaf(vec![0; 321]), opening: sample().bundle.openings[0].text.opening.clone() };
    assert!(serde_json::from_str::<Opened<TextLeaf>>(&serde_json::to_string(&long).unwrap()).is_err());
}
