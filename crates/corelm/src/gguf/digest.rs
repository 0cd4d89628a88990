//! Whether a file is the one it should be: its SHA-256, compared before anything in it is believed.
//!
//! A model with a flipped bit is most often a valid model that says something else.

mod sha256;

pub use sha256::Sha256;

use crate::session::Progress;
use core::fmt;
use core::num::NonZeroUsize;

/// A SHA-256 digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest([u8; 32]);

impl Digest {
    /// The digest of these bytes, the most significant first.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Reads 64 hexadecimal digits, of either case; `None` when these are not all there is.
    pub fn from_hex(text: &str) -> Option<Self> {
        let (pairs, []) = text.as_bytes().as_chunks() else { return None };
        let mut bytes = [0; 32];
        if pairs.len() != bytes.len() {
            return None;
        }
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Some(Self(bytes))
    }
}

/// The value of a hexadecimal digit.
fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit.wrapping_sub(b'0')),
        b'a'..=b'f' => Some(digit.wrapping_sub(b'a' - 10)),
        b'A'..=b'F' => Some(digit.wrapping_sub(b'A' - 10)),
        _ => None,
    }
}

/// 64 hexadecimal digits in lower case.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The file is not the one that the digest is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongDigest {
    /// The file's own digest.
    pub found: Digest,
}

impl WrongDigest {
    /// A number for C callers and logs; never reused.
    pub const fn code(self) -> u32 {
        20
    }
}

impl fmt::Display for WrongDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not the file that was asked for: its SHA-256 is {}", self.found)
    }
}

impl core::error::Error for WrongDigest {}

/// The comparison of a file with a digest, as often as wanted and in slices.
///
/// The bytes must lie where neither a device nor another program can write: what is verified and changed afterwards is
/// not verified.
///
/// Who knows a model's digest sees every changed bit before [`Image::parse`](super::Image::parse) and, the same way, whenever
/// a core has nothing else to do:
///
/// ```
/// use core::num::NonZeroUsize;
/// use corelm::Progress;
/// use corelm::gguf::{Digest, Verify};
///
/// # let file = *b"abc";
/// # let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// let digest = Digest::from_hex(known).ok_or("64 hexadecimal digits")?;
/// let mut verify = Verify::new(&file, digest);
/// verify.run()?; // all at once
///
/// let slice = NonZeroUsize::new(64).unwrap(); // as many bytes as there is time for
/// while verify.poll(slice)? == Progress::Pending {
///     // the kernel does something else
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Verify<'m> {
    file: &'m [u8],
    /// What this pass has not come to yet.
    rest: &'m [u8],
    hash: Sha256,
    wanted: Digest,
}

impl<'m> Verify<'m> {
    /// Of the whole file, at its beginning.
    pub const fn new(file: &'m [u8], wanted: Digest) -> Self {
        Self { file, rest: file, hash: Sha256::new(), wanted }
    }

    /// Reads at most `budget` bytes; at the end of the file says whether it is the right one. The call after that begins
    /// another pass, for whoever wants to see bits that flip while a model is in use.
    ///
    /// # Errors
    ///
    /// [`WrongDigest`], at the end of the file.
    pub fn poll(&mut self, budget: NonZeroUsize) -> Result<Progress, WrongDigest> {
        let (slice, rest) = self.rest.split_at_checked(budget.get()).unwrap_or((self.rest, &[]));
        self.hash.update(slice);
        self.rest = rest;
        if !rest.is_empty() {
            return Ok(Progress::Pending);
        }
        let found = core::mem::take(&mut self.hash).finish();
        self.rest = self.file;
        if found == self.wanted { Ok(Progress::Ready) } else { Err(WrongDigest { found }) }
    }

    /// Reads what is left of the file, at once.
    ///
    /// # Errors
    ///
    /// As [`poll`](Self::poll).
    pub fn run(&mut self) -> Result<(), WrongDigest> {
        self.poll(NonZeroUsize::MAX).map(|_| ())
    }
}
