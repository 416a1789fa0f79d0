use proptest::prelude::*;
use serde_json::Value;
use types::{id::ExchangeKey, key::Account};

use super::*;
use crate::{
    message::encode,
    sample::{Sample, account, sample},
    transcript::{
        ask::Shown,
        wrap::{BadKey, WRAP_BYTES, check, wrap},
    },
};
use types::encoding::Body;

fn reader(byte: u8) -> ExchangeSecret {
    ExchangeSecret::of(&account(byte))
}

/// The sample's answer as its node keeps it, with the receipt that the node signed.
fn kept(sample: &Sample) -> (Bundle, Sealed, TranscriptKey) {
    let mut bundle = sample.bundle.clone();
    bundle.receipt = Signed::new(&sample.node, &bundle.domains, bundle.receipt.document);
    let (sealed, key) = seal(bundle.receipt.document.hash(), &serde_json::to_vec(&bundle).unwrap(), &[5; 32]).unwrap();
    (bundle, sealed, key)
}

#[test]
fn who_the_key_is_wrapped_for_reads_the_text_behind_the_receipts_roots_and_nobody_else_does() {
    let sample = sample();
    let (bundle, sealed, key) = kept(&sample);
    let sealed = sealed.encode();
    let for_nine = wrap(&key, reader(9).public()).unwrap();
    assert_eq!(open(&sealed, &for_nine, &reader(9), &bundle.receipt, &bundle.domains), Ok(bundle.clone()));
    let refused = open(&sealed, &for_nine, &reader(10), &bundle.receipt, &bundle.domains).unwrap_err();
    assert!(matches!(refused, OpenError::Wrap(NotForReader { reader: who, .. }) if who == reader(10).public()), "{refused}");
    let text = String::from_utf8_lossy(&sealed);
    assert!(!text.contains("hearing") && !text.contains("receipt"), "what is said is not in the bytes");
    assert!(!format!("{key:?} {:?} {:?}", reader(9), Sealed::decode(&sealed)).contains(&hex::encode(key.secret())));
}

#[test]
fn a_key_is_a_receipts_and_a_texts_own_even_where_the_same_bytes_are_drawn() {
    let (a, b) = (Hash32([1; 32]), Hash32([2; 32]));
    let (same, key) = seal(a, b"text", &[5; 32]).unwrap();
    assert_eq!(seal(a, b"text", &[5; 32]).unwrap().0, same);
    for (receipt, plain, drawn) in [(b, b"text", 5), (a, b"texT", 5), (a, b"text", 6)] {
        let (other, other_key) = seal(receipt, plain, &[drawn; 32]).unwrap();
        assert_ne!(other_key.secret(), key.secret());
        assert_ne!(other.body, same.body);
    }
    assert_ne!(wrap(&key, reader(1).public()).unwrap(), wrap(&key, reader(2).public()).unwrap());
    assert_eq!(seal(a, b"", &[5; 32]).unwrap_err(), PlainLength(0));
    assert_eq!(seal(a, &vec![0; PLAIN_BYTES_MAX + 1], &[5; 32]).unwrap_err(), PlainLength(PLAIN_BYTES_MAX + 1));
    let longest = seal(a, &vec![0; PLAIN_BYTES_MAX], &[5; 32]).unwrap().0.encode();
    let shown = Shown { sealed: Body(longest), wrap: wrap(&key, reader(1).public()).unwrap() };
    assert!(encode(&crate::message::Reply::Sealed(Box::new(shown))).len() <= REPLY_BYTES_MAX, "the longest one is one reply");
}

#[test]
fn each_changed_byte_of_a_sealed_transcript_is_refused_by_what_stands_there() {
    let sample = sample();
    let (bundle, sealed, key) = kept(&sample);
    let (sealed, for_nine) = (sealed.encode(), wrap(&key, reader(9).public()).unwrap());
    let opened = |bytes: &[u8]| open(bytes, &for_nine, &reader(9), &bundle.receipt, &bundle.domains);
    assert!(opened(&sealed).is_ok());
    for place in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[place] ^= 1 << (place % 8);
        let refused = opened(&changed).unwrap_err();
        let is_named = match place {
            0..8 => matches!(refused, OpenError::Layout(DecodeError::Value { field: "magic", .. })),
            8 => matches!(refused, OpenError::Layout(DecodeError::Value { field: "format", .. })),
            9..41 => matches!(refused, OpenError::Foreign { .. }),
            // Another length: beyond what there may be, more than there is, or less.
            41..45 => matches!(
                refused,
                OpenError::Layout(DecodeError::Value { field: "length", .. } | DecodeError::Short { .. } | DecodeError::Trailing(_))
            ),
            _ => matches!(refused, OpenError::Changed(_)),
        };
        assert!(is_named, "byte {place}: {refused}");
    }
    for len in [0, 7, HEADER_BYTES, HEADER_BYTES + 1, sealed.len() - 1] {
        assert!(matches!(opened(&sealed[..len]), Err(OpenError::Layout(DecodeError::Short { .. }))), "{len} bytes");
    }
    assert_eq!(opened(&[&sealed[..], &[0]].concat()), Err(OpenError::Layout(DecodeError::Trailing(1))));
}

#[test]
fn each_changed_bit_of_a_wrap_opens_nothing() {
    let (_, key) = seal(Hash32([1; 32]), b"text", &[5; 32]).unwrap();
    let bytes = wrap(&key, reader(9).public()).unwrap().encode();
    assert!(unwrap(&Wrap::decode(&bytes).unwrap(), &reader(9), key.receipt()).is_ok());
    // The first 32 are a point: that its highest bit is ignored by the curve must not give the wrap a second form.
    for bit in 0..WRAP_BYTES * 8 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(unwrap(&Wrap::decode(&changed).unwrap(), &reader(9), key.receipt()).is_err(), "bit {bit}");
    }
    assert!(unwrap(&Wrap::decode(&bytes).unwrap(), &reader(9), Hash32([2; 32])).is_err(), "it is that receipt's alone");
    for len in [0, 31, 79] {
        assert!(matches!(Wrap::decode(&bytes[..len]), Err(DecodeError::Short { .. })));
    }
    assert_eq!(Wrap::decode(&[&bytes[..], &[0]].concat()), Err(DecodeError::Trailing(1)));
}

#[test]
fn nothing_is_wrapped_for_what_is_no_key() {
    let (_, key) = seal(Hash32([1; 32]), b"text", &[5; 32]).unwrap();
    // The points of small order and their other names (draft-irtf-cfrg-curve25519, section 7 of RFC 7748 and libsodium's list).
    let bad = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0900000000000000000000000000000000000000000000000000000000000080",
        "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
    ];
    for text in bad {
        let bad: ExchangeKey = text.parse().unwrap();
        assert_eq!((wrap(&key, bad).unwrap_err(), check(bad)), (BadKey(bad), Err(BadKey(bad))));
    }
    let base: ExchangeKey = "0900000000000000000000000000000000000000000000000000000000000000".parse().unwrap();
    assert!(wrap(&key, base).is_ok() && check(base).is_ok());
}

#[test]
fn a_node_that_seals_another_text_under_the_receipt_is_told_so() {
    let sample = sample();
    let (bundle, ..) = kept(&sample);
    let receipt = bundle.receipt.document.hash();
    let told = |change: &dyn Fn(&mut Bundle), as_receipt: Hash32| {
        let mut other = bundle.clone();
        change(&mut other);
        let (sealed, key) = seal(as_receipt, &serde_json::to_vec(&other).unwrap(), &[5; 32]).unwrap();
        let wrapped = wrap(&key, reader(9).public()).unwrap();
        open(&sealed.encode(), &wrapped, &reader(9), &bundle.receipt, &bundle.domains).unwrap_err().to_string()
    };
    assert!(told(&|bundle| bundle.answer.push('x'), receipt).contains("its answer is not"));
    assert!(told(&|bundle| bundle.messages.truncate(1), receipt).contains("its question is not"));
    assert!(told(&|bundle| bundle.answer_salt.0[0] ^= 1, receipt).contains("its answer is not"));
    assert!(told(&|bundle| bundle.receipt.document.attempt ^= 1, receipt).contains("asked for was"));
    assert!(told(&|_| {}, Hash32([1; 32])).contains("it is sealed for receipt"));
    let (sealed, key) = seal(receipt, b"{}", &[5; 32]).unwrap();
    let wrapped = wrap(&key, reader(9).public()).unwrap();
    let broken = open(&sealed.encode(), &wrapped, &reader(9), &bundle.receipt, &bundle.domains).unwrap_err();
    assert!(broken.to_string().contains("no bundle"), "{broken}");
    let (_, other_key) = seal(receipt, b"{}", &[6; 32]).unwrap();
    let wrapped = wrap(&other_key, reader(9).public()).unwrap();
    assert_eq!(open(&sealed.encode(), &wrapped, &reader(9), &bundle.receipt, &bundle.domains), Err(OpenError::Changed(receipt)));
}

#[test]
fn what_is_left_of_a_bundle_without_its_text_says_nothing_of_it() {
    let bundle = sample().bundle;
    let left = bundle.without_text();
    assert!(left.is_without_text() && !bundle.is_without_text());
    assert_eq!(
        (&left.receipt, &left.quote, &left.manifest, &left.lane, &left.voucher),
        (&bundle.receipt, &bundle.quote, &bundle.manifest, &bundle.lane, &bundle.voucher)
    );
    let json = left.to_json();
    for said in ["hearing", "generator", &hex::encode(bundle.prompt_salt.0), &hex::encode(bundle.answer_salt.0)] {
        assert!(bundle.to_json().contains(said) && !json.contains(said), "{said}");
    }
    assert_eq!(Bundle::from_json(json.as_bytes()), Ok(left));
}

proptest! {
    #[test]
    fn reading_strangers_bytes_never_panics_and_what_is_read_is_written_again(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let headed = [&b"TRIBTEXT\x01"[..], &bytes].concat();
        for bytes in [&bytes, &headed] {
            if let Ok(sealed) = Sealed::decode(bytes) {
                prop_assert_eq!(&sealed.encode(), bytes);
            }
            if let Ok(wrapped) = Wrap::decode(bytes) {
                prop_assert_eq!(&wrapped.encode()[..], &bytes[..]);
                prop_assert!(unwrap(&wrapped, &reader(9), Hash32([1; 32])).is_err());
            }
        }
    }

    #[test]
    fn any_text_comes_back_for_any_reader(plain in proptest::collection::vec(any::<u8>(), 1..3_000), drawn: [u8; 32], hash: [u8; 32], secret in 1..=254_u8) {
        let (sealed, key) = seal(Hash32(hash), &plain, &drawn).unwrap();
        let sealed = Sealed::decode(&sealed.encode()).unwrap();
        prop_assert_eq!(sealed.encode().len(), HEADER_BYTES + plain.len() + 16);
        let wrapped = Wrap::decode(&wrap(&key, reader(secret).public()).unwrap().encode()).unwrap();
        let key = unwrap(&wrapped, &reader(secret), Hash32(hash)).unwrap();
        prop_assert_eq!(sealed.plain(&key), Ok(plain));
    }
}

/// `tests/fixtures/transcript_vectors.json`, by libsodium and BLAKE3's own library from ARCHITECTURE's words.
mod vectors {
    use super::*;

    fn bytes(value: &Value) -> Vec<u8> {
        let text = value.as_str().unwrap();
        hex::decode(text.strip_prefix("0x").unwrap_or(text)).unwrap()
    }

    fn fixed<const N: usize>(value: &Value) -> [u8; N] {
        bytes(value).try_into().unwrap()
    }

    fn all() -> Value {
        serde_json::from_str(include_str!("../../../../tests/fixtures/transcript_vectors.json")).unwrap()
    }

    fn secrets(all: &Value) -> Vec<ExchangeSecret> {
        let accounts = all["accounts"].as_array().unwrap();
        accounts.iter().map(|row| ExchangeSecret::of(&Account::from_bytes(&fixed(&row["secret"])).unwrap())).collect()
    }

    #[test]
    fn exchange_keys_seals_and_wraps_are_those_of_the_vectors() {
        let all = all();
        let secrets = secrets(&all);
        for (secret, row) in secrets.iter().zip(all["accounts"].as_array().unwrap()) {
            assert_eq!(secret.public().0, fixed(&row["exchange"]));
        }
        let cases = all["transcripts"].as_array().unwrap();
        assert!(cases.len() >= 4);
        for case in cases {
            let (receipt, plain) = (Hash32(fixed(&case["receipt"])), bytes(&case["plain"]));
            let (sealed, key) = seal(receipt, &plain, &fixed(&case["drawn"])).unwrap();
            assert_eq!(sealed.encode(), bytes(&case["sealed"]));
            assert_eq!(key.secret()[..], bytes(&case["key"]));
            let wraps = case["wraps"].as_array().unwrap();
            assert_eq!(wraps.len(), secrets.len());
            for (secret, wrapped) in secrets.iter().zip(wraps) {
                let made = wrap(&key, secret.public()).unwrap();
                assert_eq!(made.encode()[..], bytes(wrapped));
                let opened = unwrap(&Wrap::decode(&bytes(wrapped)).unwrap(), secret, receipt).unwrap();
                assert_eq!(Sealed::decode(&bytes(&case["sealed"])).unwrap().plain(&opened).as_deref(), Ok(&plain[..]));
            }
        }
    }

    #[test]
    fn what_the_vectors_call_wrong_is_refused() {
        let all = all();
        let secrets = secrets(&all);
        let refused = all["refused"].as_array().unwrap();
        assert!(refused.len() >= 6);
        for case in refused {
            let receipt = Hash32(fixed(&case["receipt"]));
            let opened = || -> Result<Vec<u8>, OpenError> {
                let sealed = Sealed::decode(&bytes(&case["sealed"]))?;
                let key = unwrap(&Wrap::decode(&bytes(&case["wrap"]))?, &secrets[0], receipt)?;
                sealed.plain(&key)
            };
            assert!(opened().is_err(), "{}", case["why"]);
        }
        for key in all["bad_keys"].as_array().unwrap() {
            let (_, own) = seal(Hash32([1; 32]), b"text", &[5; 32]).unwrap();
            assert!(wrap(&own, ExchangeKey(fixed(key))).is_err(), "{key}");
        }
    }

    #[test]
    fn a_question_is_signed_as_the_vectors_say() {
        use crate::transcript::ask::TranscriptAsk;
        let all = all();
        let asked: Signed<TranscriptAsk> = serde_json::from_value(all["ask"]["signed"].clone()).unwrap();
        assert_eq!(asked.document.encode(), bytes(&all["ask"]["body"]));
        let domains: Domains = serde_json::from_value(all["ask"]["domains"].clone()).unwrap();
        assert_eq!(domains.digest(&asked.document).0, fixed(&all["ask"]["digest"]));
        let account = Account::from_bytes(&fixed(&all["accounts"][1]["secret"])).unwrap();
        assert_eq!(Signed::new(&account, &domains, asked.document), asked);
    }
}
