//! The keys of one tenant: for what it stores, and for the words it is found by.

use std::{collections::BTreeMap, fmt};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{
    Clear, KeyRing, OpenError, SealError,
    masters::{derived, keyed},
};

/// How much of a word's MAC is kept. Two words of a tenant share one with a probability of 2^-88
/// among a million.
const TERM_BYTES: usize = 16;

/// A key as it was made; others are derived from it.
#[derive(Clone)]
pub(crate) struct Secret(Zeroizing<[u8; 32]>);

impl Secret {
    pub(crate) fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The keys of a tenant: it seals with the newest, and opens with all.
#[derive(Clone)]
pub struct TenantKeys {
    ring: KeyRing,
    words: BTreeMap<u32, Hmac<Sha256>>,
    clear: Clear,
}

impl TenantKeys {
    /// `None` where there are none.
    pub(crate) fn new(mut secrets: Vec<(u32, Secret)>, clear: Clear) -> Option<Self> {
        secrets.sort_by_key(|(version, _)| *version);
        let words = secrets
            .iter()
            .map(|(version, secret)| (*version, keyed(&derived(secret.bytes(), b"words"))))
            .collect();
        let seals = |secret: &Secret| derived(secret.bytes(), b"seal");
        let (newest, secret) = secrets.pop()?;
        let ring = KeyRing::new(newest, &seals(&secret));
        let ring = secrets.iter().fold(ring, |ring, (version, secret)| {
            ring.and_old(*version, &seals(secret))
        });
        Some(Self { ring, words, clear })
    }

    /// The version that seals.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.ring.newest()
    }

    /// All versions, oldest first.
    pub fn versions(&self) -> impl Iterator<Item = u32> + '_ {
        self.words.keys().copied()
    }

    /// Whether rows that were never sealed are the tenant's own.
    #[must_use]
    pub fn clear(&self) -> Clear {
        self.clear
    }

    /// The ring, for what seals by itself.
    #[must_use]
    pub fn ring(&self) -> &KeyRing {
        &self.ring
    }

    /// Seals bytes at their place.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.ring.seal(place, plain)
    }

    /// Opens what was sealed at this place.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what is known of the bytes.
    pub fn open(&self, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        self.ring.open(place, bytes)
    }

    /// Seals several texts as one piece, so that none of them can be moved alone.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn seal_texts(&self, place: &[u8], texts: &[&str]) -> Result<Vec<u8>, SealError> {
        let bytes = texts.iter().map(|text| size_of::<u32>() + text.len()).sum();
        let mut plain = Zeroizing::new(Vec::with_capacity(bytes));
        for text in texts {
            let length = u32::try_from(text.len()).map_err(|_large| SealError::TooLong)?;
            plain.extend(length.to_le_bytes());
            plain.extend(text.as_bytes());
        }
        self.seal(place, &plain)
    }

    /// Opens what [`seal_texts`](Self::seal_texts) sealed of so many texts.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; [`OpenError::Form`] where they are not so many.
    pub fn open_texts<const N: usize>(
        &self,
        place: &[u8],
        bytes: &[u8],
    ) -> Result<[String; N], OpenError> {
        let plain = Zeroizing::new(self.open(place, bytes)?);
        let mut rest = plain.as_slice();
        let mut texts = [const { String::new() }; N];
        for text in &mut texts {
            let (length, behind) = rest.split_first_chunk().ok_or(OpenError::Form)?;
            let length = u32::from_le_bytes(*length) as usize;
            let (bytes, behind) = behind.split_at_checked(length).ok_or(OpenError::Form)?;
            let whole = std::str::from_utf8(bytes).map_err(|_not_text| OpenError::Form)?;
            whole.clone_into(text);
            rest = behind;
        }
        match rest.is_empty() {
            true => Ok(texts),
            false => Err(OpenError::Form),
        }
    }

    /// What stands for a word in an index: the same for the same word under the same version, in
    /// the same part of the index. `None` for a version that is not here.
    #[must_use]
    pub fn term(&self, version: u32, part: i64, word: &str) -> Option<String> {
        let mut mac = self.words.get(&version)?.clone();
        mac.update(&part.to_le_bytes());
        mac.update(word.as_bytes());
        let digest = mac.finalize().into_bytes();
        Some(BASE64.encode(&digest[..TERM_BYTES]))
    }
}

/// Shows which versions there are, not the keys.
impl fmt::Debug for TenantKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TenantKeys")
            .field("ring", &self.ring)
            .field("clear", &self.clear)
            .finish()
    }
}
