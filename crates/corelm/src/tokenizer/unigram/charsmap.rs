//! The normalizer's map from short texts to their replacements, as SentencePiece compiles it and in place in the file: a
//! double array over bytes, then the replacements, each ended by a NUL.
//!
//! All that lookups rely on is checked once.

use crate::error::{ModelError, VocabFault};
use crate::gguf::{Image, ValueType, limits::Limit};

const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// Bounds what a byte of text can become; of the usual maps the longest has 33.
const MAX_REPLACEMENT: Limit = Limit { what: "bytes of a replacement in the normalizer's map", max: 255 };
/// Bounds the work at each byte of a text. Longer keys are not found.
const MAX_KEY_BYTES: usize = 255;

/// The map. A unit of the double array is a node or a value.
#[derive(Clone, Copy, Debug)]
pub struct Charsmap<'m> {
    units: &'m [[u8; 4]],
    replacements: &'m [u8],
}

/// A unit with this bit is a value: no byte leads to it.
const IS_VALUE: u32 = 1 << 31;

impl<'m> Charsmap<'m> {
    /// The map of a file, if it has one that is not empty.
    ///
    /// # Errors
    ///
    /// [`ModelError::WrongType`]; [`VocabFault::Charsmap`] with the byte at which it is damaged;
    /// [`ModelError::Limit`] for a replacement that is too long.
    pub fn new(image: &Image<'m>) -> Result<Option<Self>, ModelError> {
        let Some(value) = image.get(CHARSMAP) else { return Ok(None) };
        let of_type = |ty| value.to_array(CHARSMAP, ty);
        let bytes = of_type(ValueType::U8).or(of_type(ValueType::I8))?.bytes();
        let bad = |index: usize| ModelError::BadVocab { fault: VocabFault::Charsmap, index: index as u64 };
        let (len, rest) = bytes.split_first_chunk().ok_or(bad(0))?;
        let len = usize::try_from(u32::from_le_bytes(*len)).map_err(|_| bad(0))?;
        let (units, replacements) = rest.split_at_checked(len).ok_or(bad(0))?;
        if replacements.last() != Some(&0) {
            return Err(bad(bytes.len()));
        }
        let map = Self { units: units.as_chunks().0, replacements };
        MAX_REPLACEMENT.check(map.longest_replacement(|text| text.len()) as u64)?;
        match map.damaged_unit() {
            Some(unit) => Err(bad(unit.saturating_mul(4).saturating_add(4))),
            None => Ok((!map.units.is_empty()).then_some(map)),
        }
    }

    /// The longest key that `text` begins with: its length and replacement.
    #[inline]
    pub fn longest(&self, text: &[u8]) -> Option<(usize, &'m [u8])> {
        let mut node = base(self.unit(0)?);
        let mut longest = None;
        for (len, &byte) in (1..=MAX_KEY_BYTES).zip(text) {
            let Some(child) = self.child(node, byte) else { break };
            node = child.node;
            if child.is_key {
                longest = Some((len, node));
            }
        }
        let (len, node) = longest?;
        Some((len, self.replacement(node)?))
    }

    /// Most of what `count` counts in a replacement, for each byte of its key, rounded up. Keys of a byte and of two are
    /// gone through, the others taken to have three.
    pub fn growth(&self, count: impl Fn(&[u8]) -> usize) -> usize {
        let mut growth = self.longest_replacement(&count).div_ceil(3);
        let mut note = |child: Child, key_bytes: usize| {
            if let Some(text) = self.replacement(child.node).filter(|_| child.is_key) {
                growth = growth.max(count(text).div_ceil(key_bytes));
            }
        };
        let root = self.unit(0).map_or(0, base);
        for child in (1..=u8::MAX).filter_map(|byte| self.child(root, byte)) {
            note(child, 1);
            (1..=u8::MAX).filter_map(|byte| self.child(child.node, byte)).for_each(|child| note(child, 2));
        }
        growth
    }

    /// Whether all replacements are UTF-8.
    pub fn is_utf8(&self) -> bool {
        str::from_utf8(self.replacements).is_ok()
    }

    fn longest_replacement(&self, count: impl Fn(&[u8]) -> usize) -> usize {
        self.replacements.split(|&byte| byte == 0).map(count).max().unwrap_or(0)
    }

    /// The first unit from which a lookup could leave the array or the replacements.
    fn damaged_unit(&self) -> Option<usize> {
        let mut units = (0..=u32::MAX).zip(self.units);
        let damaged = units.find(|&(i, &bytes)| {
            let unit = u32::from_le_bytes(bytes);
            if unit & IS_VALUE != 0 && i != 0 {
                return false;
            }
            let node = i ^ base(unit);
            let has_children_inside = self.unit(node | 0xFF).is_some();
            let has_value_inside = !is_key(unit) || self.replacement(node).is_some();
            !(has_children_inside && has_value_inside)
        });
        damaged.map(|(i, _)| i as usize)
    }

    fn unit(&self, i: u32) -> Option<u32> {
        self.units.get(i as usize).map(|&bytes| u32::from_le_bytes(bytes))
    }

    #[inline]
    fn child(&self, node: u32, byte: u8) -> Option<Child> {
        let i = node ^ u32::from(byte);
        let unit = self.unit(i).filter(|unit| byte != 0 && unit & (IS_VALUE | 0xFF) == u32::from(byte))?;
        Some(Child { node: i ^ base(unit), is_key: is_key(unit) })
    }

    /// The replacement of the key that ends at a node.
    fn replacement(&self, node: u32) -> Option<&'m [u8]> {
        let begin = self.unit(node)? & !IS_VALUE;
        let text = self.replacements.get(begin as usize..).filter(|text| !text.is_empty())?;
        text.split(|&byte| byte == 0).next()
    }
}

#[derive(Clone, Copy)]
struct Child {
    /// Where its value and its children are: the children at this number XOR their byte.
    node: u32,
    is_key: bool,
}

/// What leads, by XOR, from a unit to the place of its children.
#[inline]
fn base(unit: u32) -> u32 {
    (unit >> 10) << ((unit & 1 << 9) >> 6)
}

#[inline]
fn is_key(unit: u32) -> bool {
    unit & 1 << 8 != 0
}
