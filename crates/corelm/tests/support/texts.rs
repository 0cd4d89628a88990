//! The texts of the differential test: the same for a seed, a number and a vocabulary as `tools/tokenizer-diff/texts.py`
//! makes.

use corelm::tokenizer::{TokenKind, Tokenizer};
use serde_json::Value as Json;

const PARTS: &str = include_str!("../tokenizers/parts.json");
const SIZES: [usize; 8] = [1, 2, 3, 4, 4, 5, 6, 8];

/// What texts are put together from.
pub struct Texts<'t, 'm> {
    tokenizer: &'t Tokenizer<'t, 'm>,
    parts: Vec<Vec<u8>>,
    words: Vec<Vec<u8>>,
    repeated: Vec<Vec<u8>>,
    broken: Vec<Vec<u8>>,
    /// The code points of each general category.
    categories: Vec<Vec<u32>>,
    /// The texts of tokens that are no ordinary ones.
    specials: Vec<Vec<u8>>,
}

impl<'t, 'm> Texts<'t, 'm> {
    /// Texts for a vocabulary, whose tokens are among their parts.
    pub fn new(tokenizer: &'t Tokenizer<'t, 'm>) -> Self {
        let data: Json = serde_json::from_str(PARTS).unwrap();
        let list = |key: &str| -> Vec<Vec<u8>> {
            data[key].as_array().unwrap().iter().map(|part| part.as_str().unwrap().into()).collect()
        };
        let hex = |digits: Vec<u8>| -> Vec<u8> {
            let pair = |pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
            digits.chunks(2).map(pair).collect()
        };
        let codes = |flat: &Json| -> Vec<u32> {
            let ends: Vec<u32> =
                flat.as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as u32).collect();
            ends.chunks(2).flat_map(|range| range[0]..=range[1]).collect()
        };
        let is_special =
            |kind| matches!(kind, TokenKind::Unknown | TokenKind::Control | TokenKind::UserDefined);
        let ids = (0..tokenizer.vocab_size() as u32)
            .filter(|&id| is_special(tokenizer.kind(id).unwrap()))
            .map(|id| tokenizer.piece(id).unwrap().collect::<Vec<u8>>());
        let mut specials: Vec<_> = ids.filter(|text| !text.is_empty()).take(64).collect();
        if specials.is_empty() {
            specials.push(b"<|endoftext|>".to_vec());
        }
        Self {
            tokenizer,
            parts: list("parts"),
            words: list("words"),
            repeated: list("repeated"),
            broken: list("broken").into_iter().map(hex).collect(),
            categories: data["categories"].as_object().unwrap().values().map(codes).collect(),
            specials,
        }
    }

    /// The text of a number.
    pub fn text(&self, seed: u64, number: u64) -> Vec<u8> {
        let draw = |i: u64| {
            let x = ((seed << 32) + number).wrapping_add((i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
            let x = (x ^ x >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let x = (x ^ x >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
            x ^ x >> 31
        };
        let n_parts = SIZES[(draw(0) & 7) as usize] as u64;
        (1..=n_parts).flat_map(|i| self.part(draw(i))).collect()
    }

    fn part(&self, number: u64) -> Vec<u8> {
        let x = number >> 8;
        let at = |n: usize| (x % n as u64) as usize;
        match number & 63 {
            0..20 => self.parts[at(self.parts.len())].clone(),
            20..36 => {
                let id = at(self.tokenizer.vocab_size()) as u32;
                match self.tokenizer.kind(id).unwrap() {
                    TokenKind::Normal => self.tokenizer.piece(id).unwrap().collect(),
                    _ => Vec::new(),
                }
            }
            36..43 => {
                let space: &[u8] = if x & 1 == 1 { b" " } else { b"" };
                [space, &self.words[((x >> 1) % self.words.len() as u64) as usize]].concat()
            }
            43..48 => {
                let codes = &self.categories[at(self.categories.len())];
                let code = codes[((x >> 8) % codes.len() as u64) as usize];
                char::from_u32(code).unwrap().to_string().into_bytes()
            }
            48..52 => vec![(x & 127) as u8],
            52..55 => self.repeated[at(self.repeated.len())].repeat([2, 3, 7, 20][(x >> 8 & 3) as usize]),
            55..57 => {
                let mut digits = x.to_string().into_bytes();
                digits.truncate(1 + (x & 15) as usize);
                digits
            }
            57..62 => {
                let special = &self.specials[at(self.specials.len())][..];
                match x >> 32 & 7 {
                    0..3 => special.to_vec(),
                    3 => special[..special.len() - 1].to_vec(),
                    4 => special[1..].to_vec(),
                    5 => special.repeat(2),
                    6 => special.to_ascii_uppercase(),
                    _ => [b" ", special, b" "].concat(),
                }
            }
            _ => self.broken[at(self.broken.len())].clone(),
        }
    }
}
