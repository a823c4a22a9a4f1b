//! The configuration of what keeps personal data and secrets where they belong.

use std::path::PathBuf;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::masked;

/// `[privacy]`: with what texts are encrypted, and where personal data and secrets are taken out of them: e-mail addresses, telephone
/// and card numbers, identity numbers, IBANs, addresses of machines, keys and tokens.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Privacy {
    /// Out of log lines, those of the target `audit` aside. Default true.
    pub logs: bool,
    /// Out of what is given to the model that makes vectors. Default true.
    pub embedding: bool,
    /// The key of the digests by which the audit log names what was taken out before embedding:
    /// 64 hexadecimal digits. Better kept in the variable `LYCEUM_PRIVACY__AUDIT_KEY`. Default:
    /// the one in `audit.key` of the data directory, which is made at the first start.
    #[serde(serialize_with = "masked")]
    pub audit_key: Option<SecretString>,
    /// The file of the master key that what is stored is encrypted with: 64 hexadecimal digits,
    /// readable by their owner alone. Needs `store.kind` `sqlite` or `postgres`. Default: none, texts are stored
    /// in the clear.
    pub encryption_key_file: Option<PathBuf>,
    /// The same key itself, for where a secret is given as a variable,
    /// `LYCEUM_PRIVACY__ENCRYPTION_KEY`. Default: none.
    #[serde(serialize_with = "masked")]
    pub encryption_key: Option<SecretString>,
    /// The files of master keys that were used before, until `lyceum memory rotate-key` has run.
    /// Default: none.
    pub encryption_old_key_files: Vec<PathBuf>,
}

impl Privacy {
    /// Whether what is stored is encrypted.
    pub(crate) fn is_encrypting(&self) -> bool {
        self.encryption_key_file.is_some() || self.encryption_key.is_some()
    }
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            logs: true,
            embedding: true,
            audit_key: None,
            encryption_key_file: None,
            encryption_key: None,
            encryption_old_key_files: Vec::new(),
        }
    }
}
