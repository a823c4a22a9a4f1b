//! The folder: one file a document, replaced whole.
//!
//! Invariant: at every moment, a power cut included, each file is one whole version of its
//! document: a new one is written beside it, synced, renamed over it, and the folder is synced.
//! Names are made here from digests, so no id of a caller is a path. Files are their owner's
//! alone to read.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use lyceum_core::Scope;
use lyceum_memory::{Document, StoreError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The form of the files.
const FORMAT: u32 = 1;
const EXTENSION: &str = "json";
const UNFINISHED: &str = "tmp";
const LOCK: &str = "lock";

/// Why a folder cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The folder or a file of it cannot be used.
    #[error("open {path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// Another process has it open.
    #[error("open {path}: another process has it open")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not what this store writes.
    #[error("read {path}: repair it or move it away")]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// A file has a later form, or holds another's document.
    #[error("read {path}: it is of another version of this program, or it was renamed")]
    Foreign {
        /// Which.
        path: PathBuf,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    document: &'a Document,
}

#[derive(Deserialize)]
struct Read {
    format: u32,
    document: Document,
}

/// An open folder. The lock on it ends with the process, however that ends.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
    _lock: File,
}

impl Files {
    pub(crate) fn open(folder: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io {
            path: folder.to_owned(),
            source,
        };
        make(folder).map_err(failed)?;
        let lock = create(&folder.join(LOCK)).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let path = folder.to_owned();
                return Err(OpenError::InUse { path });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        Ok(Self {
            folder: folder.to_owned(),
            _lock: lock,
        })
    }

    /// Reads every document, and removes what was never finished.
    pub(crate) fn read_all(&self) -> Result<Vec<Document>, OpenError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            |source| OpenError::Io { path, source }
        };
        let mut documents = Vec::new();
        for tenant in fs::read_dir(&self.folder).map_err(failed(&self.folder))? {
            let tenant = tenant.map_err(failed(&self.folder))?.path();
            if !tenant.is_dir() {
                continue;
            }
            for file in fs::read_dir(&tenant).map_err(failed(&tenant))? {
                let file = file.map_err(failed(&tenant))?.path();
                match file.extension().and_then(|extension| extension.to_str()) {
                    Some(UNFINISHED) => fs::remove_file(&file).map_err(failed(&file))?,
                    Some(EXTENSION) => documents.push(self.read_file(&file)?),
                    _ => {}
                }
            }
        }
        Ok(documents)
    }

    /// The scope's document, if there is one.
    pub(crate) fn read(&self, scope: &Scope) -> Result<Option<Document>, OpenError> {
        let file = self.path(scope);
        match file.exists() {
            true => self.read_file(&file).map(Some),
            false => Ok(None),
        }
    }

    fn read_file(&self, path: &Path) -> Result<Document, OpenError> {
        let bytes = fs::read(path).map_err(|source| OpenError::Io {
            path: path.to_owned(),
            source,
        })?;
        let read: Read = serde_json::from_slice(&bytes).map_err(|source| OpenError::Damaged {
            path: path.to_owned(),
            source,
        })?;
        let is_own = read.format == FORMAT && self.path(&read.document.scope) == path;
        match is_own {
            true => Ok(read.document),
            false => Err(OpenError::Foreign {
                path: path.to_owned(),
            }),
        }
    }

    /// Keeps the document: once this returns it outlives a power cut.
    pub(crate) fn keep(&self, document: &Document) -> Result<(), StoreError> {
        let path = self.path(&document.scope);
        let written = Written {
            format: FORMAT,
            document,
        };
        let bytes = serde_json::to_vec(&written).map_err(|source| StoreError::Internal {
            source: source.into(),
        })?;
        self.replace(&path, &bytes).map_err(failure)
    }

    fn replace(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let folder = path.parent().unwrap_or(&self.folder);
        if !folder.exists() {
            make(folder)?;
            sync_folder(&self.folder)?;
        }
        let unfinished = path.with_extension(UNFINISHED);
        let mut file = create(&unfinished)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&unfinished, path)?;
        sync_folder(folder)
    }

    /// Removes the scope's document.
    pub(crate) fn remove(&self, scope: &Scope) -> Result<(), StoreError> {
        let path = self.path(scope);
        match fs::remove_file(&path) {
            Ok(()) => sync_folder(path.parent().unwrap_or(&self.folder)).map_err(failure),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    /// A folder for each tenant, a file for each owner and session.
    fn path(&self, scope: &Scope) -> PathBuf {
        let tenant = name(scope.tenant.as_str(), &[scope.tenant.as_str()]);
        let session = scope.session.as_ref().map(|session| session.as_str());
        // Present and absent sessions differ in the number of parts.
        let mut parts = vec![
            scope.tenant.as_str(),
            scope.user.as_str(),
            scope.agent.as_str(),
        ];
        parts.extend(session);
        let document = name(session.unwrap_or("memories"), &parts);
        let file = format!("{document}.{EXTENSION}");
        self.folder.join(tenant).join(file)
    }
}

/// A name that people recognise and no two things share, on any file system.
fn name(readable: &str, parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths keep neighbours apart.
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    let digest: String = digest[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let plain = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '_',
    };
    let readable: String = readable.chars().take(40).map(plain).collect();
    format!("{readable}-{digest}")
}

/// Makes a folder that nobody but this user may look into. One that is there keeps its rights.
fn make(folder: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

/// A new or emptied file that nobody but this user may read.
fn create(path: &Path) -> io::Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Makes names in a folder outlive a power cut; where folders cannot be synced, they do so.
fn sync_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

fn failure(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::NoSpace,
        _ => StoreError::Unavailable {
            source: Box::new(error),
        },
    }
}
