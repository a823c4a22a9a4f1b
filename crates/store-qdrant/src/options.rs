//! How a Qdrant server is reached.

use std::time::Duration;

use qdrant_client::{Qdrant, config::QdrantConfig};
use secrecy::{ExposeSecret, SecretString};

/// Why an address or a prefix cannot be used. Neither is repeated: an address may hold a
/// secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// The address has another form.
    #[error("read the address of the Qdrant server: it must look like http://HOST:6334")]
    Address,
    /// The prefix holds something else than `a-z`, `0-9` and `_`, or has not 1 to 32 of them.
    #[error("begin the names of collections: a prefix takes 1 to 32 characters of a-z, 0-9 and _")]
    Prefix,
}

/// How a Qdrant server is used.
#[derive(Debug, Clone)]
pub struct QdrantOptions {
    /// What the names of collections begin with. Default `lyceum`; 1 to 32 characters of
    /// `a-z`, `0-9` and `_`.
    pub prefix: String,
    /// The server's key. Default: none.
    pub api_key: Option<SecretString>,
    /// How long a call may take. Default 5 s.
    pub timeout: Duration,
    /// How long connecting may take. Default 2 s.
    pub connect_timeout: Duration,
    /// Whether every vector of the owner is compared, as the port says, or the server's index
    /// is asked, which is faster for owners of more than some 100,000 and may miss some.
    /// Default true.
    pub exact: bool,
}

impl Default for QdrantOptions {
    fn default() -> Self {
        Self {
            prefix: "lyceum".to_owned(),
            api_key: None,
            timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            exact: true,
        }
    }
}

impl QdrantOptions {
    /// A client, which connects at its first use. Needs a tokio runtime.
    pub(crate) fn client(&self, address: &SecretString) -> Result<Qdrant, AddressError> {
        let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        if self.prefix.is_empty() || self.prefix.len() > 32 || !self.prefix.chars().all(allowed) {
            return Err(AddressError::Prefix);
        }
        let mut config = QdrantConfig::from_url(address.expose_secret());
        config.timeout = self.timeout;
        config.connect_timeout = self.connect_timeout;
        config.api_key = self
            .api_key
            .as_ref()
            .map(|key| key.expose_secret().to_owned());
        // It would ask the server now, and print what it thinks.
        config.check_compatibility = false;
        Qdrant::new(config).map_err(|_| AddressError::Address)
    }
}
