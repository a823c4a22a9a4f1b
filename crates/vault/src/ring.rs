//! Sealed bytes, and the keys that seal and open them.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random nonce of 192 bits for each piece,
//! so that no counter has to be kept. Invariant: what opens was sealed at the same place, by a key
//! of the ring. Deliberately absent: compression, which would tell about a text by its length.

use std::{collections::BTreeMap, fmt};

use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, OsRng, Payload, rand_core::RngCore as _},
};

/// The form of what is sealed: this byte, the key's id, the nonce, the sealed bytes.
const FORM: u8 = 1;
const ID_BYTES: usize = size_of::<u32>();
const NONCE_BYTES: usize = 24;
const TAG_BYTES: usize = 16;

/// Why stored bytes were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// They were sealed with a key that the ring does not have.
    #[error("open what key {id} has sealed: the ring has no such key")]
    UnknownKey {
        /// The key's id.
        id: u32,
    },
    /// They were changed, or moved from another place.
    #[error("open sealed bytes: they were changed or moved")]
    Refused,
    /// They were never sealed.
    #[error("open stored bytes: they were never sealed")]
    Form,
}

/// Why bytes could not be sealed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The system gave no random bytes.
    #[error("seal: the system gives no random bytes")]
    Random,
    /// They are longer than the cipher takes.
    #[error("seal: too many bytes for one piece")]
    TooLong,
}

/// Spells a place without two places spelt alike: each part comes after its length.
#[must_use]
pub fn place(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut place = vec![kind];
    for part in parts {
        place.extend((part.len() as u64).to_le_bytes());
        place.extend(*part);
    }
    place
}

/// Fills an array with random bytes of the system's.
pub(crate) fn random<const N: usize>() -> Result<[u8; N], SealError> {
    let mut bytes = [0; N];
    OsRng
        .try_fill_bytes(&mut bytes)
        .map_err(|_nothing_to_tell| SealError::Random)?;
    Ok(bytes)
}

/// Keys by their ids: it seals with the newest, and opens with all.
///
/// To rotate, make a ring of a new key with the old ones behind it. A key may go when nothing
/// that it sealed is left.
#[derive(Clone)]
pub struct KeyRing {
    newest: (u32, XChaCha20Poly1305),
    old: BTreeMap<u32, XChaCha20Poly1305>,
}

impl KeyRing {
    /// What a sealed piece is longer by: its form, its key's id, the nonce, the tag.
    pub const OVERHEAD: usize = 1 + ID_BYTES + NONCE_BYTES + TAG_BYTES;

    /// Why bytes do not open where no ring has their key.
    #[must_use]
    pub fn unknown(bytes: &[u8]) -> OpenError {
        match Self::sealed_by(bytes) {
            Ok(id) => OpenError::UnknownKey { id },
            Err(form) => form,
        }
    }

    /// A ring of one key of 32 random bytes. The id is stored in the clear; it is never
    /// given to another key.
    #[must_use]
    pub fn new(id: u32, key: &[u8; 32]) -> Self {
        Self {
            newest: (id, XChaCha20Poly1305::new(Key::from_slice(key))),
            old: BTreeMap::new(),
        }
    }

    /// Adds a key to open with.
    #[must_use]
    pub fn and_old(mut self, id: u32, key: &[u8; 32]) -> Self {
        let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
        self.old.insert(id, cipher);
        self
    }

    /// The id of the key that seals.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.newest.0
    }

    fn get(&self, id: u32) -> Option<&XChaCha20Poly1305> {
        let (newest, cipher) = &self.newest;
        Some(cipher)
            .filter(|_| *newest == id)
            .or_else(|| self.old.get(&id))
    }

    /// Seals bytes at their place.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let (id, cipher) = &self.newest;
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload {
            msg: plain,
            aad: place,
        };
        let sealed = cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_opaque| SealError::TooLong)?;
        let mut bytes = Vec::with_capacity(1 + ID_BYTES + NONCE_BYTES + sealed.len());
        bytes.push(FORM);
        bytes.extend(id.to_le_bytes());
        bytes.extend(nonce);
        bytes.extend(sealed);
        Ok(bytes)
    }

    /// The id of the key that sealed these bytes.
    ///
    /// # Errors
    ///
    /// [`OpenError::Form`] where none did.
    pub fn sealed_by(bytes: &[u8]) -> Result<u32, OpenError> {
        parts(bytes).map(|(id, _, _)| id)
    }

    /// Opens what was sealed at this place.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what is known of the bytes.
    pub fn open(&self, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (id, nonce, sealed) = parts(bytes)?;
        let cipher = self.get(id).ok_or(OpenError::UnknownKey { id })?;
        let payload = Payload {
            msg: sealed,
            aad: place,
        };
        cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_opaque| OpenError::Refused)
    }
}

fn parts(bytes: &[u8]) -> Result<(u32, &[u8; NONCE_BYTES], &[u8]), OpenError> {
    let Some((&FORM, rest)) = bytes.split_first() else {
        return Err(OpenError::Form);
    };
    let (id, rest) = rest.split_first_chunk().ok_or(OpenError::Form)?;
    let (nonce, sealed) = rest.split_first_chunk().ok_or(OpenError::Form)?;
    Ok((u32::from_le_bytes(*id), nonce, sealed))
}

/// Shows which keys there are, not the keys.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("newest", &self.newest.0)
            .field("old", &self.old.keys())
            .finish()
    }
}
