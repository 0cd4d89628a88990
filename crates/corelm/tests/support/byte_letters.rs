//! How byte-level vocabularies write bytes (`bytes_to_unicode` of GPT-2): written here once more, from its definition.

/// The letter of each byte.
pub fn byte_letters() -> Vec<String> {
    let mut shifted = 256;
    let letter = |byte: u8| {
        let is_plain = matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
        let code = if is_plain { u32::from(byte) } else { shifted };
        shifted += u32::from(!is_plain);
        char::from_u32(code).unwrap().to_string()
    };
    (0..=255).map(letter).collect()
}
