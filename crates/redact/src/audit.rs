//! What is kept of an original: a digest that tells two originals apart and none of them.
//!
//! HMAC-SHA-256 (RFC 2104, FIPS 198-1). A digest without a key would give originals away: all
//! mobile numbers of a country can be tried in seconds.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The key of digests. Whoever has it can test guesses, so it is kept like a password.
#[derive(Clone)]
pub struct AuditKey(Hmac<Sha256>);

impl AuditKey {
    /// A key of 32 random bytes.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // A key that is shorter than the hash's block is followed by zeros: RFC 2104, section 2.
        let mut block = [0; 64];
        block[..key.len()].copy_from_slice(key);
        Self(Hmac::new(&block.into()))
    }

    /// The digest of an original.
    #[must_use]
    pub fn digest(&self, original: &str) -> Digest {
        let mut mac = self.0.clone();
        mac.update(original.as_bytes());
        Digest(mac.finalize().into_bytes().into())
    }
}

/// Shows nothing of the key.
impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(********)")
    }
}

/// The keyed SHA-256 of an original. Displays as 64 hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}
