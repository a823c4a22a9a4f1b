//! The configuration of what keeps personal data and secrets where they belong.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::masked;

/// `[privacy]`: where personal data and secrets are taken out of texts: e-mail addresses, telephone
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
}

impl Default for Privacy {
    fn default() -> Self {
        Self {
            logs: true,
            embedding: true,
            audit_key: None,
        }
    }
}
