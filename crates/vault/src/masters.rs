//! The master key, which wraps the keys of tenants and nothing else.
//!
//! Invariant: a wrapped key opens for its own tenant and version only, and says itself whether
//! rows that were never sealed are still to be believed: whoever can write to the store cannot
//! put clear text in the place of a sealed row.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{KeyRing, OpenError, SealError, TenantKeys, place, ring::random, tenant::Secret};

/// The kind of a wrapped key's place.
const KEY: u8 = b'k';
const KEY_BYTES: usize = 32;
/// Versions begin at a random number below this, so that a tenant who comes back after its keys
/// were destroyed is not given versions again that something old was sealed with.
const FIRST: u32 = 1 << 30;

/// Whether a tenant's rows may be clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clear {
    /// A row that was never sealed was put there by somebody else.
    Refused,
    /// The tenant's rows are being sealed one after the other.
    Accepted,
}

/// A tenant's key as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Wrapped {
    /// Which of the tenant's keys it is; newer ones have higher numbers.
    pub version: u32,
    /// The key, sealed by a master key.
    pub bytes: Vec<u8>,
}

/// The master keys: the newest wraps, all of them open.
#[derive(Clone)]
pub struct Masters(KeyRing);

impl Masters {
    /// One master key of 32 random bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(KeyRing::new(fingerprint(key), key))
    }

    /// Adds a key that wrapped before this one.
    #[must_use]
    pub fn and_old(self, key: &[u8; 32]) -> Self {
        Self(self.0.and_old(fingerprint(key), key))
    }

    /// The id of the key that wraps.
    #[must_use]
    pub fn newest(&self) -> u32 {
        self.0.newest()
    }

    /// A new key for a tenant, behind the version it has.
    ///
    /// # Errors
    ///
    /// [`SealError`], where the system fails.
    pub fn make(
        &self,
        tenant: &str,
        behind: Option<u32>,
        clear: Clear,
    ) -> Result<Wrapped, SealError> {
        let version = match behind {
            Some(version) => version.saturating_add(1),
            None => u32::from_le_bytes(random()?) % FIRST,
        };
        let secret = Secret::new(random()?);
        self.wrap(tenant, version, &secret, clear)
    }

    /// The keys of a tenant.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: a key is another tenant's, was changed, or was wrapped by a master key that
    /// is not here ([`OpenError::UnknownKey`]); or there are none ([`OpenError::Form`]).
    pub fn open(&self, tenant: &str, wrapped: &[Wrapped]) -> Result<TenantKeys, OpenError> {
        let mut secrets = Vec::with_capacity(wrapped.len());
        let mut accepts = Clear::Refused;
        for key in wrapped {
            let (secret, clear) = self.unwrap(tenant, key)?;
            if clear == Clear::Accepted {
                accepts = Clear::Accepted;
            }
            secrets.push((key.version, secret));
        }
        TenantKeys::new(secrets, accepts).ok_or(OpenError::Form)
    }

    /// The same key, wrapped by the newest master key, and with this said of clear rows; `None`
    /// where it is like that already.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open); and [`OpenError::Refused`] where it cannot be sealed.
    pub fn rewrap(
        &self,
        tenant: &str,
        key: &Wrapped,
        clear: Clear,
    ) -> Result<Option<Wrapped>, OpenError> {
        let (secret, was) = self.unwrap(tenant, key)?;
        if was == clear && KeyRing::sealed_by(&key.bytes)? == self.0.newest() {
            return Ok(None);
        }
        let wrapped = self.wrap(tenant, key.version, &secret, clear);
        wrapped.map(Some).map_err(|_random| OpenError::Refused)
    }

    fn wrap(
        &self,
        tenant: &str,
        version: u32,
        secret: &Secret,
        clear: Clear,
    ) -> Result<Wrapped, SealError> {
        let mut plain = Zeroizing::new(secret.bytes().to_vec());
        plain.push(u8::from(clear == Clear::Accepted));
        let bytes = self.0.seal(&place_of(tenant, version), &plain)?;
        Ok(Wrapped { version, bytes })
    }

    fn unwrap(&self, tenant: &str, key: &Wrapped) -> Result<(Secret, Clear), OpenError> {
        let place = place_of(tenant, key.version);
        let plain = Zeroizing::new(self.0.open(&place, &key.bytes)?);
        let (secret, rest) = plain
            .split_first_chunk::<KEY_BYTES>()
            .ok_or(OpenError::Form)?;
        let clear = match rest {
            [0] => Clear::Refused,
            [1] => Clear::Accepted,
            _ => return Err(OpenError::Form),
        };
        Ok((Secret::new(*secret), clear))
    }
}

/// Shows which keys there are, not the keys.
impl fmt::Debug for Masters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Masters").field(&self.0).finish()
    }
}

fn place_of(tenant: &str, version: u32) -> Vec<u8> {
    place(KEY, &[tenant.as_bytes(), &version.to_le_bytes()])
}

/// Names a master key without telling anything of it.
fn fingerprint(key: &[u8; 32]) -> u32 {
    let digest = derived(key, b"lyceum-vault master key");
    u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]])
}

/// A key for one purpose: HMAC-SHA-256 as a pseudo-random function (NIST SP 800-108).
pub(crate) fn derived(key: &[u8; 32], purpose: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut mac = keyed(key);
    mac.update(purpose);
    Zeroizing::new(mac.finalize().into_bytes().into())
}

pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A key that is shorter than the hash's block is followed by zeros: RFC 2104, section 2.
    let mut block = Zeroizing::new([0; 64]);
    block[..key.len()].copy_from_slice(key);
    Hmac::new(&(*block).into())
}
