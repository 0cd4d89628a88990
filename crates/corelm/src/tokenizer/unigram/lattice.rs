//! The memory of Viterbi's algorithm: what of the text lies ahead, the best ways to the places there, and the links of
//! the way to every place passed.
//!
//! Places are the beginnings of characters. Only a window of text and of ways is kept, as long as the longest token; a
//! link of 32 bits stays behind for each character.

use crate::Token;
use crate::arena::{Arena, Layout};
use crate::error::{ArenaError, TokenizeError};

/// How large a lattice must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the longest token.
    pub reach: usize,
    /// Characters that a byte of text can become.
    pub growth: usize,
}

/// The last step of a way: over a token, or over a character without one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link(u32);

impl Link {
    /// Above all tokens; the low eight bits are the first byte of the character.
    const UNKNOWN: u32 = 0xFFFF_FF00;

    pub fn token(token: Token) -> Self {
        Self(token)
    }

    pub fn unknown(first: u8) -> Self {
        Self(Self::UNKNOWN | u32::from(first))
    }

    pub fn as_token(self) -> Option<Token> {
        (self.0 < Self::UNKNOWN).then_some(self.0)
    }

    pub fn unknown_byte(self) -> Option<u8> {
        (self.0 >= Self::UNKNOWN).then_some(self.0 as u8)
    }
}

#[derive(Debug)]
pub struct Lattice<'s> {
    pub window: Window<'s>,
    pub ways: Ways<'s>,
    /// For each place passed the last link of the best way to it, and from [`Lattice::turn`] on, for each place of the
    /// best way the link that goes on from there.
    links: &'s mut [Link],
    n_links: usize,
}

impl<'s> Lattice<'s> {
    /// Adds what [`Lattice::new`] allocates; `size` is `None` for models that need none.
    pub fn layout(size: Option<Size>, text_bytes: usize, layout: Layout) -> Result<Layout, ArenaError> {
        let Some(size) = size else { return Ok(layout) };
        let layout = layout.add::<u8>(n_window(size))?.add::<Way>(n_ways(size))?;
        layout.add::<Link>(n_links(size, text_bytes)?)
    }

    pub fn new(size: Option<Size>, text_bytes: usize, arena: &mut Arena<'s>) -> Result<Self, ArenaError> {
        let (mut window, mut ways, mut links) = (&mut [][..], &mut [][..], &mut [][..]);
        if let Some(size) = size {
            window = arena.alloc(n_window(size), 0)?;
            ways = arena.alloc(n_ways(size), Way::NONE)?;
            links = arena.alloc(n_links(size, text_bytes)?, Link::default())?;
        }
        Ok(Self {
            window: Window { bytes: window, begin: 0, end: 0 },
            ways: Ways { ways, at: 0 },
            links,
            n_links: 0,
        })
    }

    /// Overwrites all of it with zeros.
    pub fn clear(&mut self) {
        self.window.bytes.fill(0);
        self.ways.ways.fill(Way::CLEARED);
        self.links.fill(Link::default());
    }

    /// Begins a text.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::ScratchFull`] when the lattice was made for shorter ones, or for another model.
    pub fn start(&mut self, size: Size, text_bytes: usize) -> Result<(), TokenizeError> {
        let fits = self.window.bytes.len() >= n_window(size)
            && self.ways.ways.len() >= n_ways(size)
            && n_links(size, text_bytes).is_ok_and(|n| self.links.len() >= n);
        if !fits {
            return Err(TokenizeError::ScratchFull { need: text_bytes, have: 0 });
        }
        (self.window.begin, self.window.end) = (0, 0);
        (self.ways.at, self.n_links) = (0, 0);
        self.ways.ways.fill(Way::NONE);
        self.ways.offer(0, 0.0, Link::default());
        Ok(())
    }

    /// Notes the best way to the current place and gives its score.
    ///
    /// # Errors
    ///
    /// [`TokenizeError::ScratchFull`], here in characters.
    #[inline]
    pub fn arrive(&mut self) -> Result<f64, TokenizeError> {
        let way = self.ways.take(0);
        let have = self.links.len();
        let full = TokenizeError::ScratchFull { need: have.saturating_add(1), have };
        *self.links.get_mut(self.n_links).ok_or(full)? = way.link;
        self.n_links = self.n_links.wrapping_add(1); // at most their number
        Ok(way.score)
    }

    /// Goes on to the place `len` bytes ahead. Ways that end before it lead nowhere.
    #[inline]
    pub fn advance(&mut self, len: usize) {
        for skipped in 1..len {
            self.ways.take(skipped);
        }
        self.window.advance(len);
        self.ways.at = self.ways.at.wrapping_add(len);
    }

    /// Turns the links of the best way to the last place around, so that it can be walked from the first.
    pub fn turn(&mut self, n_chars: impl Fn(Link) -> usize) {
        let Some(mut at) = self.n_links.checked_sub(1) else { return };
        let Some(mut link) = self.links.get(at).copied() else { return };
        while at > 0 {
            at = at.saturating_sub(n_chars(link).max(1));
            if let Some(slot) = self.links.get_mut(at) {
                core::mem::swap(slot, &mut link);
            }
        }
    }

    /// The links of the best way from the first place to the last, after [`Lattice::turn`].
    pub fn way(&self, n_chars: impl Fn(Link) -> usize) -> impl Iterator<Item = Link> {
        let links = self.links.get(..self.n_links.saturating_sub(1)).unwrap_or_default();
        let mut at = 0usize;
        core::iter::from_fn(move || {
            let link = *links.get(at)?;
            at = at.saturating_add(n_chars(link).max(1));
            Some(link)
        })
    }
}

/// The text ahead: at least as much as the longest token, if there is as much.
#[derive(Debug)]
pub struct Window<'s> {
    /// Twice the reach, so that what is left moves to the front only once in a while.
    bytes: &'s mut [u8],
    begin: usize,
    end: usize,
}

impl Window<'_> {
    /// Takes bytes until the window is half full.
    #[inline]
    pub fn fill(&mut self, text: &mut impl Iterator<Item = u8>) {
        let reach = self.bytes.len() / 2;
        while self.end.saturating_sub(self.begin) < reach {
            let Some(byte) = text.next() else { return };
            if self.end >= self.bytes.len() {
                self.move_to_front();
            }
            if let Some(slot) = self.bytes.get_mut(self.end) {
                *slot = byte;
            }
            self.end = self.end.wrapping_add(1); // at most the length
        }
    }

    /// The text ahead.
    #[inline]
    pub fn text(&self) -> &[u8] {
        self.bytes.get(self.begin..self.end).unwrap_or_default()
    }

    fn advance(&mut self, len: usize) {
        self.begin = self.begin.saturating_add(len).min(self.end);
    }

    /// What is left is less than half of the window, so it does not overlap its new place.
    fn move_to_front(&mut self) {
        let Some((front, back)) = self.bytes.split_at_mut_checked(self.begin) else { return };
        let len = self.end.saturating_sub(self.begin);
        front.iter_mut().zip(back.iter().take(len)).for_each(|(to, from)| *to = *from);
        (self.begin, self.end) = (0, len);
    }
}

/// A way to a place: the sum of its scores and its last link.
#[derive(Clone, Copy, Debug)]
struct Way {
    score: f64,
    link: Link,
    /// In the place of padding, which nothing would overwrite.
    _zero: u32,
}

impl Way {
    const NONE: Self = Self { score: f64::MIN, link: Link(0), _zero: 0 };
    /// Nothing but zeros, for whoever has the memory next.
    const CLEARED: Self = Self { score: 0.0, ..Self::NONE };
}

/// The best ways to the next places, in a ring.
#[derive(Debug)]
pub struct Ways<'s> {
    /// A power of two, more than the reach.
    ways: &'s mut [Way],
    /// The byte at which the current place lies.
    at: usize,
}

impl Ways<'_> {
    /// A way to the place `len` bytes ahead; it counts if it is better than those before.
    #[inline]
    pub fn offer(&mut self, len: usize, score: f64, link: Link) {
        if let Some(way) = self.slot(len).filter(|way| score > way.score) {
            *way = Way { score, link, _zero: 0 };
        }
    }

    #[inline]
    fn take(&mut self, len: usize) -> Way {
        self.slot(len).map_or(Way::NONE, |way| core::mem::replace(way, Way::NONE))
    }

    #[inline]
    fn slot(&mut self, len: usize) -> Option<&mut Way> {
        let mask = self.ways.len().wrapping_sub(1);
        self.ways.get_mut(self.at.wrapping_add(len) & mask)
    }
}

/// The longest character.
const CHAR_BYTES: usize = 4;

fn n_window(size: Size) -> usize {
    size.reach.max(CHAR_BYTES).saturating_mul(2)
}

fn n_ways(size: Size) -> usize {
    size.reach.max(CHAR_BYTES).saturating_add(1).checked_next_power_of_two().unwrap_or(usize::MAX)
}

/// The characters of a text, the space before it and the place behind it. Their numbers fit in 32 bits.
fn n_links(size: Size, text_bytes: usize) -> Result<usize, ArenaError> {
    let n = text_bytes.checked_mul(size.growth).and_then(|n| n.checked_add(2));
    n.filter(|&n| n < u32::MAX as usize).ok_or(ArenaError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::MaybeUninit;

    const SIZE: Size = Size { reach: 5, growth: 1 };

    #[test]
    fn windows_move_and_nothing_is_left_behind() {
        let mut region = [MaybeUninit::uninit(); 1024];
        let mut lattice = Lattice::new(Some(SIZE), 20, &mut Arena::new(&mut region)).unwrap();
        lattice.start(SIZE, 20).unwrap();
        let mut text = b'a'..=b'z';
        for begin in 0..26 {
            lattice.window.fill(&mut text);
            let ahead = lattice.window.text();
            assert!((b'a' + begin..=b'z').take(5).eq(ahead.iter().copied()));
            lattice.advance(1);
        }
        assert!(lattice.window.text().is_empty());
        lattice.ways.offer(1, 0.0, Link::token(7));
        assert_eq!(lattice.arrive(), Ok(f64::MIN));
        lattice.clear();
        assert!(lattice.window.bytes.iter().all(|&byte| byte == 0));
        assert!(lattice.ways.ways.iter().all(|way| way.score.to_bits() == 0 && way.link == Link(0)));
        assert!(lattice.links.iter().all(|&link| link == Link(0)));
    }

    #[test]
    fn ways_are_walked_from_the_front() {
        let mut region = [MaybeUninit::uninit(); 1024];
        let mut lattice = Lattice::new(Some(SIZE), 20, &mut Arena::new(&mut region)).unwrap();
        lattice.start(SIZE, 20).unwrap();
        // A link over as many characters as its number: 0 --2--> 2 --1--> 3, and 1 is a dead end.
        lattice.arrive().unwrap();
        lattice.ways.offer(1, -1.0, Link::token(1));
        lattice.ways.offer(2, -3.0, Link::token(9));
        lattice.ways.offer(2, -2.0, Link::token(2));
        lattice.ways.offer(2, -2.0, Link::token(9));
        for _ in 0..2 {
            lattice.advance(1);
            lattice.arrive().unwrap();
        }
        lattice.ways.offer(1, -4.0, Link::token(1));
        lattice.advance(1);
        assert_eq!(lattice.arrive(), Ok(-4.0));
        let n_chars = |link: Link| link.as_token().unwrap_or(0) as usize;
        lattice.turn(n_chars);
        assert!(lattice.way(n_chars).eq([Link::token(2), Link::token(1)]));
        assert_eq!(Link::unknown(0xC3).unknown_byte(), Some(0xC3));
        assert_eq!((Link::unknown(0).as_token(), Link::token(5).unknown_byte()), (None, None));
    }

    #[test]
    fn lattices_that_are_too_small_say_so() {
        let mut region = [MaybeUninit::uninit(); 1024];
        let mut lattice = Lattice::new(Some(SIZE), 20, &mut Arena::new(&mut region)).unwrap();
        for (size, n_bytes) in [(SIZE, 21), (Size { reach: 6, ..SIZE }, 1), (Size { growth: 2, ..SIZE }, 11)]
        {
            assert_eq!(
                lattice.start(size, n_bytes),
                Err(TokenizeError::ScratchFull { need: n_bytes, have: 0 })
            );
        }
        assert!(lattice.start(Size { growth: 2, ..SIZE }, 10).is_ok());
        assert_eq!(n_links(Size { growth: 255, ..SIZE }, 1 << 25), Err(ArenaError::TooLarge));
    }
}
