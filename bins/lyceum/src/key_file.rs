//! The file of API keys that `lyceum keys` keeps and a running server follows.
//!
//! Invariant: the file is replaced whole or not at all, by one process at a time: whoever
//! changes it holds a lock from reading to writing. It is its owner's alone and holds digests
//! only. Deliberately absent: the keys of the configuration file, which nobody writes.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, fchown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::{
    config::{Key, Resolved},
    private_file,
};

/// Its name in the data directory.
const FILE: &str = "keys.toml";

/// Its first line.
const HEAD: &str = "# Kept by `lyceum keys`. A running server reads it again when it changes.\n\n";

#[derive(Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    keys: Vec<Key>,
}

/// The file of keys.
#[derive(Debug, Clone)]
pub(crate) struct KeyFile(PathBuf);

/// What tells one state of the file from another; `None` where there is none.
pub(crate) type Stamp = Option<(u64, u64, i64, i64, u64)>;

impl KeyFile {
    /// The one that a configuration names.
    pub(crate) fn of(resolved: &Resolved) -> Self {
        let named = resolved.config.auth.keys_file.clone();
        Self(named.unwrap_or_else(|| resolved.data_dir.join(FILE)))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What tells its state now from another one.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub(crate) fn stamp(&self) -> io::Result<Stamp> {
        match fs::metadata(&self.0) {
            Ok(data) => Ok(Some((
                data.dev(),
                data.ino(),
                data.ctime(),
                data.ctime_nsec(),
                data.len(),
            ))),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The keys in it; none where there is no file.
    ///
    /// # Errors
    ///
    /// When it cannot be read or is no file of keys.
    pub(crate) fn read(&self) -> Result<Vec<Key>> {
        let named = || format!("read the keys in {}", self.0.display());
        let text = match fs::read_to_string(&self.0) {
            Ok(text) => text,
            Err(error) if is_absent(&error) => return Ok(Vec::new()),
            Err(error) => return Err(error).with_context(named),
        };
        // What the parser says quotes what it read, which may be a key.
        let written: Result<Written, _> = toml::from_str(&text);
        let written = written.map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start));
            let line = before.map_or(1, |before| before.matches('\n').count() + 1);
            anyhow::anyhow!("line {line} is not as `lyceum keys` writes it")
        });
        Ok(written.with_context(named)?.keys)
    }

    /// Changes the keys, while nobody else does.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, locked or written, and what the change itself refuses;
    /// nothing is changed then.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Vec<Key>) -> Result<T>) -> Result<T> {
        let named = || format!("change the keys in {}", self.0.display());
        let folder = self.folder();
        fs::create_dir_all(folder).with_context(named)?;
        // The folder, because a file of its own would belong to whoever came first.
        let lock = File::open(folder).with_context(named)?;
        lock.lock().with_context(named)?;
        let mut keys = self.read()?;
        let done = change(&mut keys)?;
        self.write(keys).with_context(named)?;
        drop(lock);
        Ok(done)
    }

    fn write(&self, keys: Vec<Key>) -> io::Result<()> {
        let text = toml::to_string(&Written { keys }).map_err(io::Error::other)?;
        // The lock is held: nobody else writes it.
        private_file::replace(&self.0, |made| {
            self.give_to_owner(made);
            made.write_all(HEAD.as_bytes())?;
            made.write_all(text.as_bytes())
        })
    }

    fn folder(&self) -> &Path {
        private_file::folder_of(&self.0)
    }

    /// A server may run as another user than whoever changes its keys: the file stays that
    /// user's. Who may not give files away is that user, or finds out from the server's log.
    fn give_to_owner(&self, file: &File) {
        let owner = fs::metadata(&self.0).or_else(|_| fs::metadata(self.folder()));
        if let Ok(owner) = owner {
            let _ = fchown(file, Some(owner.uid()), Some(owner.gid()));
        }
    }
}

/// Whether there is no such file, also because its folder is none: whoever opens the store says
/// that.
fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn key(name: &str) -> Key {
        toml::from_str(&format!(
            "name = \"{name}\"\ntenant = \"t\"\nsha256 = \"{}\"",
            "0".repeat(64)
        ))
        .unwrap()
    }

    #[test]
    fn many_changes_at_once_lose_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile(dir.path().join("new").join("keys.toml"));
        assert_eq!(file.read().unwrap(), []);
        assert_eq!(file.stamp().unwrap(), None);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let file = &file;
                scope.spawn(move || {
                    for n in 0..8 {
                        let add = |keys: &mut Vec<Key>| {
                            keys.push(key(&format!("k{thread}-{n}")));
                            Ok(())
                        };
                        file.change(add).unwrap();
                    }
                });
            }
        });
        assert_eq!(file.read().unwrap().len(), 64);
        let mode = fs::metadata(file.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_change_that_fails_and_a_file_that_is_none_leave_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = KeyFile(dir.path().join("keys.toml"));
        file.change(|keys| {
            keys.push(key("a"));
            Ok(())
        })
        .unwrap();
        let stamp = file.stamp().unwrap();
        let refused = file.change(|keys| -> Result<()> {
            keys.clear();
            anyhow::bail!("no")
        });
        assert!(refused.is_err());
        assert_eq!(file.stamp().unwrap(), stamp);
        fs::write(file.path(), "keys = \"lyc-secret\"").unwrap();
        assert_ne!(file.stamp().unwrap(), stamp);
        let error = format!("{:#}", file.change(|_| Ok(())).unwrap_err());
        assert!(
            error.contains("keys.toml") && !error.contains("lyc-secret"),
            "{error}"
        );
    }
}
