//! Fees and what they are divided into.

use types::{
    amount::Amount,
    encoding::Document,
    manifest::{DATANETS_MAX, MANIFEST_ASSETS_MAX, Manifest},
    quote::Quote,
    receipt::Receipt,
    split::{self, Part},
};

use super::{
    probe::{Asked, Probe},
    run,
};

#[test]
fn fees_and_shares_are_the_same_to_the_wei() {
    run(7, |asked, rng| {
        let mut manifest = rng.manifest();
        manifest.assets.truncate(MANIFEST_ASSETS_MAX);
        manifest.datanets.truncate(DATANETS_MAX);
        let mut quote = rng.quote();
        if rng.is(2) {
            (quote.rate_in, quote.rate_out, quote.protocol_fee) = (Amount(rng.number(90)), Amount(rng.number(90)), Amount(rng.number(60)));
        }
        let mut receipt = Receipt { manifest: manifest.root(), quote: quote.hash(), ..rng.receipt() };
        let fee = split::fee(receipt.tokens_in, receipt.tokens_out, quote.rate_in, quote.rate_out, quote.protocol_fee);
        let call = Probe::feeCall { receiptBody: receipt.encode().into(), quoteBody: quote.encode().into() };
        let got = asked.ask(&call).unwrap();
        assert!(got.known);
        assert_eq!(u128::try_from(got.amount).ok(), fee.as_ref().ok().map(|fee| fee.0));
        if let Ok(fee) = fee {
            receipt.fee = fee;
        }
        let weights: u64 = receipt.spans.iter().map(|span| u64::from(span.weight)).sum();
        if rng.is(2) {
            receipt.weight_total = weights + rng.below(3) * rng.below(1_000);
        }
        same_parts(asked, &receipt, &quote, &manifest);

        let (total, rows) = (rng.amount(), rng.split());
        let weights: Vec<u64> = rng.some(6, |rng| rng.u64());
        let own = split::sequential_remainder(total, &weights);
        let call = Probe::sequentialCall { total: total.0.try_into().unwrap(), weights: weights.clone() };
        let got: Vec<u128> = asked.ask(&call).unwrap().into_iter().map(|share| share.try_into().unwrap()).collect();
        let zeros = vec![0; weights.len()];
        assert_eq!(got, own.map_or(zeros, |shares| shares.into_iter().map(|share| share.0).collect()), "{weights:?} of {total}");
        let own = split::sequential_remainder(total, &rows.rows().map(u64::from)).unwrap();
        for (row, share) in own.into_iter().enumerate() {
            let call = Probe::roleShareCall { total: total.0.try_into().unwrap(), rows: rows.rows(), row: row.try_into().unwrap() };
            assert_eq!(asked.ask(&call), Some(share.0.try_into().unwrap()), "row {row} of {rows:?}");
        }
    });
}

fn same_parts(asked: &mut Asked, receipt: &Receipt, quote: &Quote, manifest: &Manifest) {
    let spans: Vec<u32> = receipt.spans.iter().map(|span| span.weight).collect();
    let treasuries: Vec<u64> = manifest.datanets.iter().map(|datanet| datanet.weight).collect();
    let sum: u64 = spans.iter().map(|weight| u64::from(*weight)).sum();
    let divides = receipt.reason.is_billable()
        && receipt.fee >= quote.protocol_fee
        && receipt.fee <= receipt.cumulative_after
        && sum <= receipt.weight_total;
    let mut codes: Vec<u32> = (0..8).chain([255, Part::Refund.code()]).collect();
    codes.extend((0..=manifest.datanets.len() as u32).map(|number| 256 + number));
    codes.extend((0..=receipt.spans.len() as u32).map(|number| 65_536 + number));
    let call = Probe::partsCall {
        receiptBody: receipt.encode().into(),
        quoteBody: quote.encode().into(),
        manifestBody: manifest.encode().into(),
        codes: codes.clone(),
    };
    let got = asked.ask(&call).unwrap();
    assert_eq!(got.divides, divides);
    if !divides {
        return;
    }
    let own = split::parts(receipt.fee, quote.protocol_fee, &manifest.split, &spans, receipt.weight_total, &treasuries).unwrap();
    for (code, amount) in codes.iter().zip(got.amounts) {
        let part = own.iter().find(|(part, _)| part.code() == *code).map_or(0, |(_, amount)| amount.0);
        assert_eq!(u128::try_from(amount), Ok(part), "part {code} of {own:?}");
    }
}
