//! Files of their owner's alone.
//!
//! Invariant: a file that is replaced or made here is there whole or not at all, and stays over a
//! loss of power once the call has returned, as far as the folder can be synced.
//! Deliberately absent: locks. Who writes the same file at the same time keeps the others out.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// The folder that a file is in.
pub(crate) fn folder_of(path: &Path) -> &Path {
    let folder = path.parent();
    let folder = folder.filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Makes a file to write to, never what somebody has put there.
///
/// # Errors
///
/// When there is one, or the system refuses.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Waits until a written file and its name are on the disk.
///
/// # Errors
///
/// When the system refuses.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    file.sync_all()?;
    sync_folder(path)
}

/// Puts what is written in the place of the file, or where there is none.
///
/// # Errors
///
/// When it cannot be written; the file is as it was then.
pub(crate) fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let draft = draft(path, ".new", write)?;
    fs::rename(draft, path)?;
    sync_folder(path)
}

/// Makes the file with what is written, or leaves the one that is there.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] when there is one; else when it cannot be written.
pub(crate) fn make(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    // Another process may make the same file, in another container under the same id.
    let draft = draft(path, &format!(".{:016x}.new", rand::random::<u64>()), write)?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    linked?;
    sync_folder(path)
}

/// What is written, on the disk beside the file.
fn draft(
    path: &Path,
    ending: &str,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<PathBuf> {
    let mut name = OsString::from(path);
    name.push(ending);
    let draft = PathBuf::from(name);
    // One of this name is left over from a process that ended.
    let _left_over = fs::remove_file(&draft);
    let mut made = create(&draft)?;
    let written = write(&mut made).and_then(|()| made.sync_all());
    if let Err(error) = written {
        let _left_over = fs::remove_file(&draft);
        return Err(error);
    }
    Ok(draft)
}

/// A folder that may not be read, or whose file system syncs no folders, is left to the system:
/// the file itself is whole.
fn sync_folder(path: &Path) -> io::Result<()> {
    let synced = File::open(folder_of(path)).and_then(|folder| folder.sync_all());
    match synced.as_ref().map_err(io::Error::kind) {
        Err(ErrorKind::PermissionDenied | ErrorKind::InvalidInput | ErrorKind::Unsupported) => {
            Ok(())
        }
        _ => synced,
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn files(folder: &Path) -> usize {
        fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_file_is_replaced_whole_or_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.toml");
        fs::write(folder.path().join("some.toml.new"), "left over").unwrap();
        for text in ["first", "second"] {
            replace(&path, |file| file.write_all(text.as_bytes())).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let failed = replace(&path, |file| {
            file.write_all(b"a part")?;
            Err(io::Error::other("the disk is full"))
        });
        failed.unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "second");
        assert_eq!(files(folder.path()), 1);
    }

    #[test]
    fn a_file_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("some.key");
        make(&path, |file| file.write_all(b"first")).unwrap();
        let again = make(&path, |file| file.write_all(b"second")).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(&path).unwrap(), "first");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let again = create(&path).unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(files(folder.path()), 1);
    }
}
