//! Keys of 32 bytes: written as 64 hexadecimal digits, kept in files of their owner's alone.
//!
//! Invariant: a key that is there is never replaced: what it was used for could not be read again.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context, Result, bail};
use rand::{TryRngCore, rngs::OsRng};

use crate::private_file;

/// The length of a key, in bytes.
const KEY_BYTES: usize = 32;

/// Reads a key.
///
/// # Errors
///
/// When the text is not 64 hexadecimal digits.
pub(crate) fn key_of(text: &str) -> Result<[u8; KEY_BYTES]> {
    let text = text.trim();
    let mut key = [0; KEY_BYTES];
    if text.len() != 2 * KEY_BYTES || !text.is_ascii() {
        bail!("a key has 64 hexadecimal digits: `openssl rand -hex 32` makes one");
    }
    for (place, byte) in key.iter_mut().enumerate() {
        let digits = &text[2 * place..2 * place + 2];
        *byte = u8::from_str_radix(digits, 16).context("a key has 64 hexadecimal digits")?;
    }
    Ok(key)
}

/// The key in a file, which is made where there is none.
///
/// # Errors
///
/// When the file holds something else, or can be neither read nor made.
pub(crate) fn key_in(file: &Path) -> Result<[u8; KEY_BYTES]> {
    let named = || format!("use the key in {}", file.display());
    match fs::read_to_string(file) {
        Ok(text) => return key_of(&text).with_context(named),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(named),
    }
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(named)?;
    }
    let mut key = [0; KEY_BYTES];
    OsRng.try_fill_bytes(&mut key)?;
    let text: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    // Neither a crash nor another process leaves a part of a key, and a key takes the name of no
    // other.
    match private_file::make(file, |made| made.write_all(text.as_bytes())) {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let text = fs::read_to_string(file).with_context(named)?;
            key_of(&text).with_context(named)
        }
        Err(error) => Err(error).with_context(named),
    }
}

/// The key in a file that somebody made: it is never made here, as losing it loses all that it
/// encrypted, and others than its owner must not be able to read it.
///
/// # Errors
///
/// When the file is absent, holds something else, or others may read it.
pub(crate) fn key_at(file: &Path) -> Result<[u8; KEY_BYTES]> {
    let named = || {
        let file = file.display();
        format!("use the key in {file}; `openssl rand -hex 32` makes one")
    };
    let mode = fs::metadata(file).with_context(named)?.permissions().mode();
    if mode & 0o007 != 0 {
        let file = file.display();
        bail!("others may read the key in {file}: `chmod 600 {file}` keeps it its owner's");
    }
    let text = fs::read_to_string(file).with_context(named)?;
    key_of(&text).with_context(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_made_once_and_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new").join("some.key");
        let key = key_in(&file).unwrap();
        assert_eq!(key_in(&file).unwrap(), key);
        assert_ne!(key, [0; KEY_BYTES]);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, "short").unwrap();
        assert!(key_in(&file).is_err(), "what is there is not replaced");
        assert_eq!(fs::read_to_string(&file).unwrap(), "short");
    }

    #[test]
    fn keys_are_hexadecimal() {
        assert_eq!(key_of(&"0f".repeat(32)).unwrap(), [15; 32]);
        for wrong in [
            "",
            "0f",
            &"0g".repeat(32),
            &"0f".repeat(33),
            &"é".repeat(32),
        ] {
            assert!(key_of(wrong).is_err(), "{wrong}");
        }
    }
}
