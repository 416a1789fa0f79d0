//! The letters that stand for bytes in vocabularies of byte-level BPE.

/// GPT-2's alphabet: printable bytes stand for themselves, the other 68 for U+0100 onwards in byte order.
pub(crate) fn byte_alphabet() -> [char; 256] {
    let mut out = ['\0'; 256];
    let mut spare = 0x100u32;
    for byte in 0..=255u8 {
        let printable = matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
        out[usize::from(byte)] = if printable {
            char::from(byte)
        } else {
            spare += 1;
            char::from_u32(spare - 1).expect("0x100 to 0x143 are letters")
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_gpt2s() {
        let alphabet = byte_alphabet();
        assert_eq!(alphabet[usize::from(b' ')], 'Ġ');
        assert_eq!(alphabet[usize::from(b'\n')], 'Ċ');
        assert_eq!(alphabet[0], 'Ā');
        assert_eq!(alphabet[0xad], 'Ń');
        assert_eq!(alphabet[usize::from(b'a')], 'a');
    }
}
