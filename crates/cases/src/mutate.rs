//! GGUF files damaged at random, but where it may hurt: numbers, lengths, types, names and entries of a good file.
//!
//! The walk through the file is not the engine's: a fault there would hide itself.

use crate::random::Random;

/// A place in a file that can be changed as what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// A whole number of 1 to 8 bytes: a count, a length, a type, a dimension, an offset, a value.
    Number { at: usize, len: usize },
    /// An `f32`.
    Float { at: usize },
    /// The text of a key, a value or a name.
    Text { at: usize, len: usize },
    /// A key with its value, or all that is said of a tensor.
    Entry { at: usize, len: usize, counted_at: usize },
    /// Everything behind the entries.
    Data { at: usize },
}

/// Where the counts of tensors and of keys stand.
const N_TENSORS_AT: usize = 8;
const N_KEYS_AT: usize = 16;
const HEADER_BYTES: usize = 24;

/// Numbers that readers trip over; one less and one more are tried as well.
const EDGES: [u64; 14] = [
    0,
    1,
    4,
    32,
    255,
    0x7FFF,
    0xFFFF,
    0x7FFF_FFFF,
    0xFFFF_FFFF,
    1 << 32,
    1 << 40,
    1 << 61,
    i64::MAX as u64,
    u64::MAX,
];

/// The same of an `f32`: zeros, a denormal, the least and the greatest, infinities, NaN.
const FLOATS: [f32; 9] =
    [0.0, -0.0, 1e-40, f32::MIN_POSITIVE, -1.0, f32::MAX, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];

/// And of an `f16`, the scale of a block: the greatest, infinities, NaN, denormals.
const HALVES: [u16; 7] = [0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0x0001, 0x8001];

/// Flips one bit that `seed` chooses.
pub fn flip_bit(bytes: &mut [u8], seed: u64) {
    let mut random = Random::new(seed);
    if let Some(byte) = bytes.get_mut(random.below(bytes.len())) {
        *byte ^= 1 << random.below(8);
    }
}

/// Damages the first `len` bytes of `file`, a good model, in one to four places that `seed` chooses; gives the length that
/// it has then. What is behind them is room for it to grow.
pub fn mutate(file: &mut [u8], len: usize, seed: u64) -> usize {
    let mut random = Random::new(seed);
    let mut mutant = Mutant { file, len };
    for _ in 0..=random.below(4) {
        mutant.change(&mut random);
    }
    mutant.len
}

struct Mutant<'f> {
    file: &'f mut [u8],
    len: usize,
}

impl Mutant<'_> {
    fn bytes(&self) -> &[u8] {
        self.file.get(..self.len).unwrap_or_default()
    }

    /// A field of those that `is_wanted`.
    fn pick(&self, random: &mut Random, is_wanted: impl Fn(&Field) -> bool) -> Option<Field> {
        let (mut n, mut chosen) = (0, None);
        walk(self.bytes(), &mut |field| {
            if is_wanted(&field) {
                n += 1;
                // Each of the first n is chosen with the same chance.
                chosen = if random.below(n) == 0 { Some(field) } else { chosen };
            }
        });
        chosen
    }

    fn change(&mut self, random: &mut Random) {
        match random.below(16) {
            0..=3 => self.change_number(random),
            4 => self.copy_number(random),
            5 => self.change_float(random),
            6 => self.change_text(random),
            7 => self.copy_text(random),
            8 => self.flip_bit(random, 0),
            9 => self.flip_bit(random, HEADER_BYTES),
            10 => self.change_scale(random),
            11 => self.len -= random.below(self.len),
            12 => self.drop_entry(random),
            13 => self.repeat_entry(random),
            14 => self.swap_entries(random),
            _ => self.splice(random),
        }
    }

    fn change_number(&mut self, random: &mut Random) {
        let Some(Field::Number { at, len }) =
            self.pick(random, |field| matches!(field, Field::Number { .. }))
        else {
            return;
        };
        let old = number(self.bytes(), at, len);
        let step = [1u64, 2, 8, 32, 256][random.below(5)];
        let new = match random.below(6) {
            0 => old.wrapping_add(step),
            1 => old.wrapping_sub(step),
            2 => old.wrapping_mul(step),
            3 => old ^ 1 << random.below(8 * len),
            _ => EDGES[random.below(EDGES.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1),
        };
        self.set_number(at, len, new);
    }

    fn set_number(&mut self, at: usize, len: usize, value: u64) {
        let bytes = value.to_le_bytes();
        self.write(at, bytes.get(..len).unwrap_or(&bytes));
    }

    fn write(&mut self, at: usize, bytes: &[u8]) {
        if let Some(place) = self.file.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    /// A number becomes another one of the file.
    fn copy_number(&mut self, random: &mut Random) {
        let is_number = |field: &Field| matches!(field, Field::Number { .. });
        let (from, to) = (self.pick(random, is_number), self.pick(random, is_number));
        if let (Some(Field::Number { at, len }), Some(Field::Number { at: to, len: room })) = (from, to) {
            self.set_number(to, room, number(self.bytes(), at, len));
        }
    }

    fn change_float(&mut self, random: &mut Random) {
        if let Some(Field::Float { at }) = self.pick(random, |field| matches!(field, Field::Float { .. })) {
            self.write(at, &FLOATS[random.below(FLOATS.len())].to_le_bytes());
        }
    }

    fn change_text(&mut self, random: &mut Random) {
        let is_text = |field: &Field| matches!(field, Field::Text { len: 1.., .. });
        if let Some(Field::Text { at, len }) = self.pick(random, is_text) {
            let byte = [0, b' ', b'.', b'0', 0x80, 0xFF, random.below(256) as u8][random.below(7)];
            self.write(at + random.below(len), &[byte]);
        }
    }

    /// A text becomes another one of the file, as far as it has room for it.
    fn copy_text(&mut self, random: &mut Random) {
        let is_text = |field: &Field| matches!(field, Field::Text { .. });
        let (from, to) = (self.pick(random, is_text), self.pick(random, is_text));
        if let (Some(Field::Text { at, len }), Some(Field::Text { at: to, len: room })) = (from, to) {
            self.file.copy_within(at..at + len.min(room), to);
        }
    }

    /// A bit anywhere behind `from`.
    fn flip_bit(&mut self, random: &mut Random, from: usize) {
        let at = from + random.below(self.len.saturating_sub(from));
        if let Some(byte) = self.file.get_mut(at).filter(|_| at < self.len) {
            *byte ^= 1 << random.below(8);
        }
    }

    /// Two bytes of the data become a half of an odd kind.
    fn change_scale(&mut self, random: &mut Random) {
        if let Some(Field::Data { at }) = self.pick(random, |field| matches!(field, Field::Data { .. })) {
            let at = at + random.below(self.len.saturating_sub(at)) / 2 * 2;
            if at + 2 <= self.len {
                self.write(at, &HALVES[random.below(HALVES.len())].to_le_bytes());
            }
        }
    }

    fn drop_entry(&mut self, random: &mut Random) {
        let Some(Field::Entry { at, len, counted_at }) = self.pick(random, is_entry) else { return };
        self.file.copy_within(at + len..self.len, at);
        self.len -= len;
        self.count(random, counted_at, u64::MAX);
    }

    fn repeat_entry(&mut self, random: &mut Random) {
        let Some(Field::Entry { at, len, counted_at }) = self.pick(random, is_entry) else { return };
        if self.len + len <= self.file.len() {
            self.file.copy_within(at..self.len, at + len);
            self.len += len;
            self.count(random, counted_at, 1);
        }
    }

    /// Keeps a count true, but for one time of four.
    fn count(&mut self, random: &mut Random, at: usize, step: u64) {
        if random.below(4) > 0 {
            self.set_number(at, 8, number(self.bytes(), at, 8).wrapping_add(step));
        }
    }

    /// Two entries change places.
    fn swap_entries(&mut self, random: &mut Random) {
        let (Some(Field::Entry { at: a, len, .. }), Some(Field::Entry { at: b, len: other, .. })) =
            (self.pick(random, is_entry), self.pick(random, is_entry))
        else {
            return;
        };
        let ((a, len), (b, other)) = if a < b { ((a, len), (b, other)) } else { ((b, other), (a, len)) };
        if let Some(both) = self.file.get_mut(a..b + other)
            && a + len <= b
        {
            both.rotate_left(len); // the second is in front of the first then, with what was between them before it
            let between = b - a - len;
            if let Some(front) = both.get_mut(..between + other) {
                front.rotate_left(between);
            }
        }
    }

    /// A few bytes more or less somewhere.
    fn splice(&mut self, random: &mut Random) {
        let (at, n) = (random.below(self.len), 1 + random.below(40));
        if random.below(2) == 0 {
            let n = n.min(self.len - at);
            self.file.copy_within(at + n..self.len, at);
            self.len -= n;
        } else if self.len + n <= self.file.len() {
            self.file.copy_within(at..self.len, at + n);
            self.len += n;
        }
    }
}

fn is_entry(field: &Field) -> bool {
    matches!(field, Field::Entry { .. })
}

fn number(file: &[u8], at: usize, len: usize) -> u64 {
    let mut bytes = [0; 8];
    let from = file.get(at..).unwrap_or_default();
    bytes.iter_mut().zip(from).take(len).for_each(|(to, from)| *to = *from);
    u64::from_le_bytes(bytes)
}

/// Shows all fields of a file to `visit`, as far as the file makes sense.
fn walk(file: &[u8], visit: &mut impl FnMut(Field)) {
    for (at, len) in [(4, 4), (N_TENSORS_AT, 8), (N_KEYS_AT, 8)] {
        visit(Field::Number { at, len });
    }
    let mut walk = Walk { file, at: HEADER_BYTES, visit };
    let all = [(N_KEYS_AT, true), (N_TENSORS_AT, false)].iter().try_for_each(|&(counted_at, is_key)| {
        (0..number(file, counted_at, 8)).try_for_each(|_| {
            let start = walk.at;
            if is_key {
                walk.key()?
            } else {
                walk.tensor()?
            }
            (walk.visit)(Field::Entry { at: start, len: walk.at - start, counted_at });
            Some(())
        })
    });
    if all.is_some() {
        let at = walk.at;
        (walk.visit)(Field::Data { at });
    }
}

struct Walk<'f, V> {
    file: &'f [u8],
    at: usize,
    visit: V,
}

impl<V: FnMut(Field)> Walk<'_, V> {
    /// Takes a number of `len` bytes.
    fn number(&mut self, len: usize) -> Option<u64> {
        let at = self.take(len)?;
        (self.visit)(Field::Number { at, len });
        Some(number(self.file, at, len))
    }

    fn take(&mut self, len: usize) -> Option<usize> {
        let at = self.at;
        self.at = at.checked_add(len).filter(|&end| end <= self.file.len())?;
        Some(at)
    }

    fn text(&mut self) -> Option<()> {
        let len = usize::try_from(self.number(8)?).ok()?;
        let at = self.take(len)?;
        (self.visit)(Field::Text { at, len });
        Some(())
    }

    fn key(&mut self) -> Option<()> {
        self.text()?;
        let ty = self.number(4)?;
        self.value(ty)
    }

    fn value(&mut self, ty: u64) -> Option<()> {
        match ty {
            0 | 1 | 7 => self.number(1).map(drop),
            2 | 3 => self.number(2).map(drop),
            4 | 5 => self.number(4).map(drop),
            10..=12 => self.number(8).map(drop),
            6 => {
                let at = self.take(4)?;
                (self.visit)(Field::Float { at });
                Some(())
            }
            8 => self.text(),
            9 => {
                let element = self.number(4)?;
                let n = self.number(8)?;
                // No arrays of arrays: nothing here recurses.
                (0..n).try_for_each(|_| if element == 9 { None } else { self.value(element) })
            }
            _ => None,
        }
    }

    fn tensor(&mut self) -> Option<()> {
        self.text()?;
        let n_dims = self.number(4)?;
        (0..n_dims).try_for_each(|_| self.number(8).map(drop))?;
        self.number(4)?;
        self.number(8)?;
        Some(())
    }
}
