//! Documents: digests, signers, bodies, each read or refused the same.

use types::{
    contribution::Contribution,
    encoding::Document,
    id::{Address, AssetId},
    key::{Signed65, recover},
    manifest::{Manifest, treasury},
    operator::NodeRoot,
    quote::Quote,
    receipt::{Receipt, fee_of},
    request::Request,
    voucher::{CreditNote, Lane, Voucher},
};

use super::{
    VERIFYING, domains, h,
    probe::{Asked, Probe},
    random::Rng,
    run,
};
use crate::harness::{account, address};

macro_rules! digests {
    ($asked:ident, $rng:ident, $($make:ident => $call:ident),*) => {$(
        let document = $rng.$make();
        let call = Probe::$call { verifying: address(VERIFYING), body: document.encode().into() };
        assert_eq!($asked.ask(&call), Some(h(domains().digest(&document))), "{}", stringify!($make));
    )*};
}

#[test]
fn digests_are_the_same() {
    run(1, |asked, rng| {
        digests!(asked, rng, lane => laneDigestCall, voucher => voucherDigestCall, credit_note => creditNoteDigestCall);
        digests!(asked, rng, quote => quoteDigestCall, request => requestDigestCall, receipt => receiptDigestCall);
        digests!(asked, rng, node_root => nodeRootDigestCall, contribution => contributionDigestCall, gate_report => gateReportDigestCall);
        let (client, nonce, datanet) = (rng.address(), rng.u64(), rng.u64());
        let request = Request { client, nonce, ..rng.request() };
        assert_eq!(asked.ask(&Probe::requestIdCall { client: address(client), nonce }), Some(h(request.id())));
        assert_eq!(asked.ask(&Probe::treasuryOfCall { datanet }), Some(address(treasury(AssetId(datanet)))));
    });
}

#[test]
fn signers_are_the_same_and_so_is_every_signature_that_is_none() {
    run(2, |asked, rng| {
        let (lane, signer) = (rng.lane(), account(1 + rng.below(200) as u8));
        let mut signature = signer.sign(&domains(), &lane);
        match rng.below(8) {
            0 => signature.0[64] = rng.number(8) as u8,
            1 => signature.0[rng.below(65) as usize] ^= 1 << rng.below(8),
            2 => signature.0[..32].copy_from_slice(&rng.bytes::<32>()),
            3 => signature.0[32..64].copy_from_slice(&rng.bytes::<32>()),
            4 => signature = mirrored(signature),
            _ => {}
        }
        let expected = recover(&domains(), &lane, &signature).map_or(Address::ZERO, |signer| signer);
        let call = Probe::signerCall { digest_: h(domains().digest(&lane)), signature: signature.0.to_vec().into() };
        assert_eq!(asked.ask(&call), Some(address(expected)), "{signature:?}");
    });
}

/// The other signature of the same key over the same digest: s in the upper half.
fn mirrored(signature: Signed65) -> Signed65 {
    use alloy::primitives::{U256, uint};
    const ORDER: U256 = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
    let s = U256::from_be_slice(&signature.0[32..64]);
    let mut other = signature;
    other.0[32..64].copy_from_slice(&(ORDER - s).to_be_bytes::<32>());
    other.0[64] = 55 - signature.0[64];
    other
}

#[test]
fn bodies_are_read_the_same_and_refused_the_same() {
    run(3, |asked, rng| {
        let body = rng.lane().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::laneCall { body: body.clone().into() });
        let read = read.map(|l| (l.payer, l.node, l.cap, l.expiryBlock, l.nonce));
        assert_eq!(read, Lane::decode(&body).ok().map(|l| (address(l.payer), address(l.node), l.cap.0, l.expiry, l.nonce)), "lane");

        let body = rng.voucher().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::voucherCall { body: body.clone().into() }).map(|v| (v.lane, v.request, v.base, v.cumulative));
        assert_eq!(read, Voucher::decode(&body).ok().map(|v| (h(v.lane), h(v.request), v.base.0, v.cumulative.0)), "voucher");

        let body = rng.credit_note().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::creditNoteCall { body: body.clone().into() });
        let read = read.map(|n| (n.lane, n.request, n.cumulative, n.amount, n.expiryBlock));
        let own = CreditNote::decode(&body).ok().map(|n| (h(n.lane), h(n.request), n.cumulative.0, n.amount.0, n.expiry));
        assert_eq!(read, own, "credit note");

        let body = rng.node_root().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::nodeRootCall { body: body.clone().into() });
        let read = read.map(|r| (r.node, r.epoch, r.receiptsRoot, r.count, r.feeSum));
        let own = NodeRoot::decode(&body).ok().map(|r| (address(r.node), r.epoch, h(r.receipts), r.count, r.fees.0));
        assert_eq!(read, own, "node root");

        let body = rng.contribution().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::contributionCall { body: body.clone().into() });
        let read = read.map(|c| (c.datanet, c.contributor, c.textRoot, c.textBytes, c.documents, c.salt, c.licenceHash, c.objectHash));
        let own = Contribution::decode(&body).ok().map(|c| {
            (c.datanet.0, address(c.contributor), h(c.text_root), c.text_bytes, c.documents, h(c.salt), h(c.licence), c.object.0.into())
        });
        assert_eq!(read, own, "contribution");
    });
}

#[test]
fn offers_and_receipts_are_read_the_same_and_refused_the_same() {
    run(4, |asked, rng| {
        let body = rng.quote().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::quoteCall { body: body.clone().into() }).unwrap();
        let read = read.known.then_some(read.fields).map(|q| {
            (
                (q.node, q.manifestRoot, q.profile, q.class),
                (q.rateIn, q.rateOut, q.protocolFee, q.maxTokens),
                (q.blockNumber, q.blockHash, q.expiryBlock),
            )
        });
        let own = Quote::decode(&body).ok().map(|q| {
            let rates = (q.rate_in.0, q.rate_out.0, q.protocol_fee.0, q.tokens_max);
            ((address(q.node), h(q.manifest), q.profile.code(), q.class.code()), rates, (q.block.number, h(q.block.hash), q.expiry))
        });
        assert_eq!(read, own, "quote");

        let body = rng.request().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::requestCall { body: body.clone().into() });
        let read = read.map(|r| {
            (
                (r.client, r.nonce, r.manifestRoot, r.promptRoot),
                (r.maxRateIn, r.maxRateOut, r.spendingLimit),
                (r.profile, r.class, r.maxTokens),
            )
        });
        let own = Request::decode(&body).ok().map(|r| {
            let limits = (r.rate_in_max.0, r.rate_out_max.0, r.spending_limit.0);
            ((address(r.client), r.nonce, h(r.manifest), h(r.prompt_root)), limits, (r.profile.code(), r.class.code(), r.tokens_max))
        });
        assert_eq!(read, own, "request");

        let body = rng.manifest().encode();
        let body = rng.damage(body);
        let read = asked.ask(&Probe::manifestCall { body: body.clone().into() }).unwrap();
        let read = read.known.then_some(read.fields).map(|m| {
            let assets: Vec<_> = m.assets.iter().map(|a| (a.kind, a.asset, a.version, a.contentHash)).collect();
            let datanets: Vec<_> = m.datanets.iter().map(|d| (d.asset, d.version, d.treasury, d.weight)).collect();
            (assets, m.split, m.indexRoot, m.parameterId, datanets)
        });
        let own = Manifest::decode(&body).ok().map(|m| {
            let assets: Vec<_> =
                m.assets.iter().map(|a| (a.kind.code(), a.version.asset.0, a.version.version, a.content.0.into())).collect();
            let datanets: Vec<_> =
                m.datanets.iter().map(|d| (d.version.asset.0, d.version.version, address(d.treasury), d.weight)).collect();
            (assets, m.split.rows(), h(m.index), m.parameters, datanets)
        });
        assert_eq!(read, own, "manifest");
        same_receipt(asked, rng);
    });
}

fn same_receipt(asked: &mut Asked, rng: &mut Rng) {
    let body = rng.receipt().encode();
    let body = rng.damage(body);
    let own = Receipt::decode(&body).ok();
    assert_eq!(asked.ask(&Probe::feeOfCall { body: body.clone().into() }), Some(fee_of(&body).0), "fee of a body, well formed or not");
    assert_eq!(asked.ask(&Probe::isWellFormedCall { body: body.clone().into() }), Some(own.is_some()), "receipt");
    let Some(own) = own else { return };
    let words = asked.ask(&Probe::receiptCall { body: body.clone().into() }).unwrap();
    assert_eq!(words.map(|word| word.0), fields(&own), "receipt");
    assert_eq!(asked.ask(&Probe::isBillableCall { reason: own.reason.code() }), Some(own.reason.is_billable()));
    for (number, asset) in own.assets.iter().enumerate() {
        let row = asked.ask(&Probe::receiptAssetCall { body: body.clone().into(), number: number.try_into().unwrap() }).unwrap();
        assert_eq!((row.asset, row.version), (asset.asset.0, asset.version));
    }
    for (number, span) in own.spans.iter().enumerate() {
        let row = asked.ask(&Probe::spanCall { body: body.clone().into(), number: number.try_into().unwrap() }).unwrap();
        assert_eq!((row.start, row.length, row.datanet), (span.start, span.length, span.datanet));
        assert_eq!((row.position.to::<u64>(), row.weight, row.payee), (span.position, span.weight, address(span.payee)));
    }
    let sum: u64 = own.spans.iter().map(|span| u64::from(span.weight)).sum();
    assert_eq!(asked.ask(&Probe::spanWeightsCall { body: body.into() }), Some(sum.try_into().unwrap()));
}

/// A receipt's fields as words, in the order of the contract's struct.
fn fields(r: &Receipt) -> [[u8; 32]; 27] {
    let number = |value: u128| {
        let mut word = [0; 32];
        word[16..].copy_from_slice(&value.to_be_bytes());
        word
    };
    let account = |address: Address| {
        let mut word = [0; 32];
        word[12..].copy_from_slice(&address.0);
        word
    };
    let small = |value: u64| number(value.into());
    let count = |len: usize| small(len as u64);
    [
        r.request.0,
        small(r.attempt.into()),
        account(r.client),
        account(r.node),
        r.lane.0,
        number(r.cumulative_after.0),
        r.manifest.0,
        r.index.0,
        small(r.parameters.into()),
        small(r.profile.code().into()),
        small(r.class.code().into()),
        small(r.block.number),
        r.block.hash.0,
        r.prompt_root.0,
        r.answer_root.0,
        r.token_ids.0,
        small(r.tokens_in.into()),
        small(r.first_token.into()),
        small(r.tokens_out.into()),
        r.quote.0,
        number(r.fee.0),
        small(r.reason.code().into()),
        small(r.weight_total),
        r.fingerprint_root.0,
        count(r.assets.len()),
        count(r.spans.len()),
        count(r.masks.len()),
    ]
}
