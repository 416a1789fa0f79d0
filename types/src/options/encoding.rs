//! The one canonical encoding of [`Options`], and the hash that a request signs.
//!
//! Big-endian: temperature, top-k, top-p, min-p, repetition `u32` each, presence and frequency `i32` each in two's complement,
//! logprobs `u8`; bias: count `u16`, each token `u32` and value `i32`; stop strings: count `u8`, each length `u16` and bytes; the
//! grammar's kind `u8` (0 none, 1 schema, 2 Lark), and with one its engine `u16`, length `u32` and bytes. At least [`FIXED_BYTES`].

use super::{BIAS_MAX, GRAMMAR_BYTES_MAX, Grammar, GrammarKind, Options, STOP_BYTES_MAX, STOPS_MAX};
use crate::{
    encoding::{DecodeError, Reader, Writer},
    id::Hash32,
    merkle::keccak,
};

/// Bytes without bias, stop strings and grammar.
pub const FIXED_BYTES: usize = 7 * 4 + 1 + 2 + 1 + 1;

/// Most bytes of an encoding: 78 kB.
pub const OPTIONS_BYTES_MAX: usize = FIXED_BYTES + BIAS_MAX * 8 + STOPS_MAX * (2 + STOP_BYTES_MAX) + 2 + 4 + GRAMMAR_BYTES_MAX;

impl Options {
    /// The bytes that are hashed and sent.
    ///
    /// # Panics
    /// If bias, stop strings or grammar are longer than [`Options::check`] allows: options are checked first.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let bias = u16::try_from(self.bias.len()).expect("checked options have few biases");
        let stops = u8::try_from(self.stop.len()).expect("checked options have few stop strings");
        let numbers = Writer::sized(FIXED_BYTES)
            .u32(self.temperature_milli)
            .u32(self.top_k)
            .u32(self.top_p_ppm)
            .u32(self.min_p_ppm)
            .u32(self.repeat_milli)
            .u32(self.presence_milli.cast_unsigned())
            .u32(self.frequency_milli.cast_unsigned())
            .u8(self.logprobs);
        let lists = numbers
            .u16(bias)
            .each(&self.bias, |w, (token, milli)| w.u32(*token).u32(milli.cast_unsigned()))
            .u8(stops)
            .each(&self.stop, |w, text| w.u16(u16::try_from(text.len()).expect("checked stop strings are short")).bytes(text.as_bytes()));
        let Some(grammar) = &self.grammar else { return lists.u8(0).finish() };
        let length = u32::try_from(grammar.source.len()).expect("checked grammars are short");
        lists.u8(grammar.kind.code()).u16(grammar.engine).u32(length).bytes(grammar.source.as_bytes()).finish()
    }

    /// Reads what [`Options::encode`] wrote. Ranges are [`Options::check`]'s; here only the form is, and the order of entries, so that equal
    /// options have equal bytes.
    ///
    /// # Errors
    /// [`DecodeError`] for bytes that are no canonical encoding.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let mut options = Self {
            temperature_milli: r.u32("temperature")?,
            top_k: r.u32("top-k")?,
            top_p_ppm: r.u32("top-p")?,
            min_p_ppm: r.u32("min-p")?,
            repeat_milli: r.u32("repetition")?,
            presence_milli: r.u32("presence")?.cast_signed(),
            frequency_milli: r.u32("frequency")?.cast_signed(),
            logprobs: r.u8("logprobs")?,
            ..Self::default()
        };
        let count = usize::from(r.u16("bias count")?);
        options.bias = r.each("bias", count, 8, |r| Ok((r.u32("token of a bias")?, r.u32("bias")?.cast_signed())))?;
        let count = usize::from(r.u8("stop count")?);
        options.stop = r.each("stop", count, 2, |r| {
            let length = usize::from(r.u16("length of a stop string")?);
            text("stop string", r.bytes("stop string", length)?)
        })?;
        ascending("bias", options.bias.windows(2).position(|pair| pair[0].0 >= pair[1].0))?;
        ascending("stop", options.stop.windows(2).position(|pair| pair[0] >= pair[1]))?;
        options.grammar = grammar(&mut r)?;
        r.finish().map(|()| options)
    }

    /// What a request signs: zero if its own fields say it all ([`Options::is_plain`]), else keccak of `tributary/options/v1` and the encoding.
    ///
    /// # Panics
    /// As [`Options::encode`].
    #[must_use]
    pub fn digest(&self) -> Hash32 {
        if self.is_plain() { Hash32::ZERO } else { hash(&self.encode()) }
    }
}

/// Hash of an encoding.
pub(crate) fn hash(encoding: &[u8]) -> Hash32 {
    keccak(&[b"tributary/options/v1".as_slice(), encoding])
}

impl GrammarKind {
    const fn code(self) -> u8 {
        match self {
            Self::Schema => 1,
            Self::Lark => 2,
        }
    }
}

fn grammar(r: &mut Reader<'_>) -> Result<Option<Grammar>, DecodeError> {
    let kind = match r.u8("grammar kind")? {
        0 => return Ok(None),
        1 => GrammarKind::Schema,
        2 => GrammarKind::Lark,
        got => return Err(DecodeError::Value { field: "grammar kind", got: got.into(), expected: "0 none, 1 schema, 2 Lark" }),
    };
    let engine = r.u16("grammar engine")?;
    let length = r.u32("length of the grammar")?;
    let bytes = r.bytes("grammar", usize::try_from(length).unwrap_or(usize::MAX))?;
    Ok(Some(Grammar { engine, kind, source: text("grammar", bytes)? }))
}

fn text(field: &'static str, bytes: &[u8]) -> Result<String, DecodeError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|error| {
        let got = u64::try_from(error.valid_up_to()).unwrap_or(u64::MAX);
        DecodeError::Value { field, got, expected: "UTF-8; the number is where it ends" }
    })
}

fn ascending(field: &'static str, broken: Option<usize>) -> Result<(), DecodeError> {
    broken.map_or(Ok(()), |at| {
        let got = u64::try_from(at + 1).unwrap_or(u64::MAX);
        Err(DecodeError::Value { field, got, expected: "entries that ascend; the number is the one that does not" })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_options() -> impl Strategy<Value = Options> {
        let numbers = (any::<[u32; 5]>(), any::<[i32; 2]>(), any::<u8>());
        let bias = prop::collection::btree_map(any::<u32>(), any::<i32>(), 0..6);
        let stop = prop::collection::btree_set(".{0,6}", 0..5);
        let grammar = prop::option::of((any::<u16>(), any::<bool>(), ".{0,40}"));
        (numbers, bias, stop, grammar).prop_map(|((plain, signed, logprobs), bias, stop, grammar)| Options {
            temperature_milli: plain[0],
            top_k: plain[1],
            top_p_ppm: plain[2],
            min_p_ppm: plain[3],
            repeat_milli: plain[4],
            presence_milli: signed[0],
            frequency_milli: signed[1],
            bias: bias.into_iter().collect(),
            stop: stop.into_iter().collect(),
            logprobs,
            grammar: grammar.map(|(engine, is_lark, source)| Grammar {
                engine,
                kind: if is_lark { GrammarKind::Lark } else { GrammarKind::Schema },
                source,
            }),
        })
    }

    #[test]
    fn plain_options_have_the_zero_digest_and_others_do_not() {
        assert_eq!(Options::default().digest(), Hash32::ZERO);
        assert_eq!(Options { temperature_milli: 1, top_k: 2, top_p_ppm: 3, ..Options::default() }.digest(), Hash32::ZERO);
        assert_ne!(Options { min_p_ppm: 1, ..Options::default() }.digest(), Hash32::ZERO);
        assert_eq!(Options::default().encode().len(), FIXED_BYTES);
    }

    proptest! {
        #[test]
        fn options_come_back_from_their_only_encoding(options in any_options()) {
            let bytes = options.encode();
            prop_assert_eq!(Options::decode(&bytes), Ok(options));
            prop_assert!(Options::decode(&bytes[..bytes.len() - 1]).is_err());
        }

        /// Whatever decodes has exactly these bytes.
        #[test]
        fn no_other_bytes_decode_to_the_same(options in any_options(), at in any::<prop::sample::Index>(), flip in 1u8..) {
            let mut bytes = options.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            if let Ok(other) = Options::decode(&bytes) {
                prop_assert_eq!(other.encode(), bytes);
                prop_assert_ne!(other, options);
            }
        }

        #[test]
        fn decoding_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Options::decode(&bytes);
        }
    }
}
