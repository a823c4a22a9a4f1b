//! `lyceum key`: makes an API key.

use std::fmt::Write;

use anyhow::Result;
use lyceum_gateway::ApiKey;
use rand::{TryRngCore, rngs::OsRng};

use crate::{banner, cli::KeyOptions};

/// Random bytes of a key: 256 bits cannot be guessed.
const KEY_BYTES: usize = 32;

/// Prints a new key, once, and the lines for the configuration file, which hold its digest only.
pub(crate) fn make(options: &KeyOptions) -> Result<()> {
    let tenant = lyceum_core::TenantId::new(&options.tenant)?;
    let name = lyceum_core::UserId::new(&options.name)?;
    let (key, sha256) = random()?;
    banner::say(&format!(
        "The key, shown only now:\n\n  {key}\n\nAdd to the configuration file:\n\n[[auth.keys]]\nname = \"{name}\"\ntenant = \"{tenant}\"\nsha256 = \"{sha256}\"",
    ))
}

/// A new key, and its digest in hexadecimal.
pub(crate) fn random() -> Result<(String, String)> {
    let mut bytes = [0; KEY_BYTES];
    OsRng.try_fill_bytes(&mut bytes)?;
    let key = format!("lyc-{}", hex(&bytes));
    let sha256 = hex(&ApiKey::digest(&key));
    Ok((key, sha256))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string never fails.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
