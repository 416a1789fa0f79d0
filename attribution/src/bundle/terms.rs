//! Who signed what, and whether receipt, voucher, quote, request, lane and manifest say the same (PROTOCOL sections 1, 5 and 7).

use types::{
    amount::Amount,
    encoding::Document,
    fingerprint,
    id::{Address, Hash32},
    key::{Domains, Signed},
    manifest::{DATANETS_MAX, MANIFEST_ASSETS_MAX, treasury},
    receipt::{Finding, token_ids_hash},
    split::{self, Part},
};

use super::{Bundle, Collector, assets};
use crate::shares;

/// Checks all of it; the fee's parts if they can be computed.
pub(super) fn check(bundle: &Bundle, faults: &mut Collector) -> Option<Vec<(Part, Amount)>> {
    signatures(bundle, faults);
    identities(bundle, faults);
    options(bundle, faults);
    counts(bundle, faults);
    fingerprints(bundle, faults);
    limits(bundle, faults);
    manifest(bundle, faults);
    fee(bundle, faults)
}

fn signatures(bundle: &Bundle, faults: &mut Collector) {
    fn one<D: Document>(faults: &mut Collector, domains: &Domains, name: &str, signed: &Signed<D>, by: Address) {
        if let Err(error) = signed.verify(domains, by) {
            faults.add(Finding::Signature, 0, format!("{name}: signature"), format!("does not stand: {error}"));
        }
    }
    let domains = &bundle.domains;
    let payer = bundle.session.unwrap_or(bundle.lane.document.payer);
    one(faults, domains, "request", &bundle.request, bundle.request_signer());
    one(faults, domains, "lane", &bundle.lane, payer);
    one(faults, domains, "voucher", &bundle.voucher, payer);
    one(faults, domains, "quote", &bundle.quote, bundle.quote.document.node);
    one(faults, domains, "receipt", &bundle.receipt, bundle.receipt.document.node);
}

fn identities(bundle: &Bundle, faults: &mut Collector) {
    let (receipt, request, quote) = (&bundle.receipt.document, &bundle.request.document, &bundle.quote.document);
    let (lane, voucher) = (&bundle.lane.document, &bundle.voucher.document);
    let root = bundle.manifest.root();
    let mut same =
        |field: &str, got: Hash32, source: &str, expected: Hash32| faults.same(Finding::Signature, field, &got, source, &expected);
    same("request id", receipt.request, "the request's is", request.id());
    same("voucher: request id", voucher.request, "the request's is", request.id());
    same("lane", receipt.lane, "the lane's id is", lane.id());
    same("voucher: lane", voucher.lane, "the lane's id is", lane.id());
    same("quote hash", receipt.quote, "the quote's is", quote.hash());
    same("voucher: quote hash", voucher.quote, "the quote's is", quote.hash());
    same("manifest root", receipt.manifest, "the manifest's is", root);
    same("request: manifest root", request.manifest, "the manifest's is", root);
    same("quote: manifest root", quote.manifest, "the manifest's is", root);
    let mut same =
        |field: &str, got: Address, source: &str, expected: Address| faults.same(Finding::Signature, field, &got, source, &expected);
    same("client", receipt.client, "the request names", request.client);
    same("lane: payer", lane.payer, "the request names", request.client);
    same("node", receipt.node, "the quote names", quote.node);
    same("lane: node", lane.node, "the quote names", quote.node);
    faults.same(Finding::Signature, "profile", &receipt.profile, "the request says", &request.profile);
    faults.same(Finding::Signature, "quote: profile", &quote.profile, "the request says", &request.profile);
    faults.same(Finding::Signature, "class", &receipt.class, "the request says", &request.class);
    faults.same(Finding::Signature, "quote: class", &quote.class, "the request says", &request.class);
    faults.same(Finding::Signature, "block", &receipt.block, "the quote that the client's voucher accepts names", &quote.block);
}

/// What was asked of sampling is what the client signed. Whether the tokens follow from it is a re-execution's to say.
fn options(bundle: &Bundle, faults: &mut Collector) {
    if let Err(error) = bundle.request.document.asked(&bundle.options.0) {
        faults.add(Finding::Signature, 0, "options", format!("do not stand: {error}"));
    }
}

fn counts(bundle: &Bundle, faults: &mut Collector) {
    let (receipt, voucher) = (&bundle.receipt.document, &bundle.voucher.document);
    faults.same(Finding::Signature, "attempt", &receipt.attempt, "the client's voucher says", &voucher.attempt);
    let mut same = |field: &str, got: u32, expected: u32| faults.same(Finding::Token, field, &got, "the client's voucher says", &expected);
    same("first token", receipt.first_token, voucher.first_token);
    same("input tokens", receipt.tokens_in, voucher.tokens_in);
    same("output tokens", receipt.tokens_out, voucher.tokens_out);
    faults.same(Finding::Token, "token-id hash", &receipt.token_ids, "the client's voucher says", &voucher.token_ids);
    let all = [bundle.continued.as_slice(), &bundle.token_ids].concat();
    faults.same(Finding::Token, "token ids", &token_ids_hash(&all), "hash signed by the client is", &voucher.token_ids);
    let count = |tokens: &[u32]| u32::try_from(tokens.len()).unwrap_or(u32::MAX);
    faults.same(Finding::Token, "first token", &receipt.first_token, "tokens continued are", &count(&bundle.continued));
    let listed = count(&bundle.token_ids);
    faults.same(Finding::Token, "output tokens", &receipt.tokens_out, "token ids listed are", &listed);
}

/// In `fast` the root is that of the fingerprints, and these are as many as the tokens have; in other profiles there are none. What they say of the model is a re-execution's to tell.
fn fingerprints(bundle: &Bundle, faults: &mut Collector) {
    let receipt = &bundle.receipt.document;
    let is_needed = receipt.profile.needs_fingerprint() && receipt.reason.is_billable();
    let (root, root_source, count, count_source) = if is_needed {
        let count = fingerprint::count(receipt.tokens_out);
        (fingerprint::root(&bundle.fingerprints), "that of the fingerprints is", count, "so many output tokens have")
    } else {
        (Hash32::ZERO, "what has none has", 0, "what has none has")
    };
    faults.same(Finding::Activations, "fingerprint root", &receipt.fingerprint_root, root_source, &root);
    let listed = u32::try_from(bundle.fingerprints.len()).unwrap_or(u32::MAX);
    faults.same(Finding::Activations, "fingerprints", &listed, count_source, &count);
}

fn limits(bundle: &Bundle, faults: &mut Collector) {
    let (receipt, request, quote, lane) =
        (&bundle.receipt.document, &bundle.request.document, &bundle.quote.document, &bundle.lane.document);
    let mut at_most = |field: &str, got: u128, source: &str, most: u128| {
        if got > most {
            faults.add(Finding::Split, 0, field, format!("is {got}, {source} {most}"));
        }
    };
    at_most("quote: input rate", quote.rate_in.0, "the request allows", request.rate_in_max.0);
    at_most("quote: output rate", quote.rate_out.0, "the request allows", request.rate_out_max.0);
    at_most("output tokens", receipt.tokens_out.into(), "the quote allows", quote.tokens_max.into());
    let all = u128::from(receipt.first_token) + u128::from(receipt.tokens_out);
    at_most("first token plus output tokens", all, "the request allows", request.tokens_max.into());
    at_most("fee", receipt.fee.0, "the request's spending limit is", request.spending_limit.0);
    at_most("cumulative after", receipt.cumulative_after.0, "the lane's cap is", lane.cap.0);
    at_most("quote: block", quote.block.number.into(), "it expires at", quote.expiry.into());
    at_most("quote: block", u128::from(quote.block.number) + 1, "the lane expires at", lane.expiry.into());
}

fn manifest(bundle: &Bundle, faults: &mut Collector) {
    let (receipt, manifest) = (&bundle.receipt.document, &bundle.manifest);
    if manifest.assets.len() > MANIFEST_ASSETS_MAX || manifest.datanets.len() > DATANETS_MAX || !manifest.split.is_whole() {
        let problem = format!(
            "has {} assets, {} Datanets and the split {:?}: at most {MANIFEST_ASSETS_MAX}, {DATANETS_MAX}, and a sum of 10000 are allowed",
            manifest.assets.len(),
            manifest.datanets.len(),
            manifest.split.rows()
        );
        faults.add(Finding::Split, 0, "manifest", problem);
    }
    for (number, datanet) in manifest.datanets.iter().enumerate() {
        faults.same(
            Finding::Split,
            &format!("manifest: treasury of Datanet {number}"),
            &datanet.treasury,
            "its asset's is",
            &treasury(datanet.version.asset),
        );
    }
    faults.same(Finding::Attribution, "index root", &receipt.index, "the manifest's is", &manifest.index);
    faults.same(Finding::Attribution, "parameter id", &receipt.parameters, "the manifest's is", &manifest.parameters);
    faults.same(Finding::Signature, "assets", &receipt.assets, "the manifest's are", &assets(manifest));
}

fn fee(bundle: &Bundle, faults: &mut Collector) -> Option<Vec<(Part, Amount)>> {
    let (receipt, quote, voucher) = (&bundle.receipt.document, &bundle.quote.document, &bundle.voucher.document);
    let due = if receipt.reason.is_billable() {
        split::fee(receipt.tokens_in, receipt.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee)
    } else {
        Ok(Amount::ZERO)
    };
    match due {
        Ok(due) => faults.same(Finding::Split, "fee", &receipt.fee, "due by the quote is", &due),
        Err(error) => faults.add(Finding::Split, 0, "fee", format!("is {}, but what is due cannot be computed: {error}", receipt.fee)),
    }
    // Nothing is billed for an answer that failed: then its vouchers are not used up, and the lane stands where it stood.
    let promised = if receipt.reason.is_billable() { voucher.cumulative } else { voucher.base };
    faults.same(Finding::Split, "cumulative after", &receipt.cumulative_after, "the client's voucher says", &promised);
    match promised.minus(voucher.base) {
        Ok(promised) => faults.same(Finding::Split, "fee", &receipt.fee, "the client's voucher promises", &promised),
        Err(error) => faults.add(Finding::Split, 0, "voucher: cumulative", format!("is below its base: {error}")),
    }
    let parts = shares::parts(receipt, quote.protocol_fee, &bundle.manifest).map_err(|error| error.to_string()).and_then(|parts| {
        let sum = Amount::sum(parts.iter().map(|(_, amount)| *amount)).map_err(|error| error.to_string())?;
        if sum == receipt.fee { Ok(parts) } else { Err(format!("the parts sum to {sum}")) }
    });
    parts.map_err(|why| faults.add(Finding::Split, 0, "fee and weights", format!("do not divide: {why}"))).ok()
}
