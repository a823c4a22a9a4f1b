//! Where connections come from: a TCP port or a Unix socket.
//!
//! Invariant: a Unix socket appears under its name only once it listens and only its owner and
//! group may connect; a socket that somebody listens on is never taken away from them.

use std::{
    fmt, fs, io,
    net::SocketAddr,
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::edge::address::Peer;

/// Who may connect to a Unix socket: its owner and group.
const SOCKET_MODE: u32 = 0o660;

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port of the network.
    Net(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixSocket),
}

/// A socket's file goes with it.
#[derive(Debug)]
pub(super) struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let _gone = fs::remove_file(&self.path);
    }
}

pub(super) enum Accepted {
    Tcp(TcpStream, Peer),
    Unix(UnixStream),
}

impl Listener {
    /// Listens on a Unix socket. What an ended process left behind is replaced.
    pub(super) fn unix(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => {
                return Err(io::ErrorKind::AlreadyExists.into());
            }
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            _ => {}
        }
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}", std::process::id()));
        let unfinished = PathBuf::from(name);
        // A process with this number may have left one; ours is not there yet.
        let _gone = fs::remove_file(&unfinished);
        let listener = UnixListener::bind(&unfinished)?;
        let named = fs::set_permissions(&unfinished, fs::Permissions::from_mode(SOCKET_MODE))
            .and_then(|()| fs::rename(&unfinished, path));
        if let Err(error) = named {
            let _gone = fs::remove_file(&unfinished);
            return Err(error);
        }
        Ok(Self::Unix(UnixSocket {
            listener,
            path: path.to_owned(),
        }))
    }

    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Without it small events wait for the peer's acknowledgement.
                let _ = stream.set_nodelay(true);
                Ok(Accepted::Tcp(stream, address.into()))
            }
            Self::Unix(socket) => Ok(Accepted::Unix(socket.listener.accept().await?.0)),
        }
    }
}
