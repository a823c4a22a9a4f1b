//! TLS by rustls, from two files that may change.
//!
//! Invariant: there is always a pair that works: a new one takes the place of the old one only
//! once it has been read as a whole and fits together, and for new connections only.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        self, ServerConfig,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The largest file that is read, in bytes: longer chains are nobody's.
const LARGEST: u64 = 1 << 20;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file does not exist or may not be read, or is larger than 1 MiB.
    #[error("read {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A file holds no certificate.
    #[error(
        "find a certificate in {path}: it must hold PEM blocks named CERTIFICATE, the server's own first"
    )]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no key.
    #[error(
        "find a private key in {path}: it must hold a PEM block of PKCS #8, PKCS #1 or SEC 1, not encrypted"
    )]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// Certificate and key do not belong together, or rustls does not take them.
    #[error("use {cert} with {key}: {source}")]
    Pair {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// What rustls says.
        #[source]
        source: rustls::Error,
    },
}

/// A certificate and its key, kept up to date with their files.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    current: RwLock<Arc<ServerConfig>>,
    /// The digest of what was read last, good or bad.
    seen: Mutex<[u8; 32]>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("cert", &self.cert)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate with its chain, and its key, both in PEM.
    ///
    /// # Errors
    ///
    /// [`TlsError`] for files that cannot be read or do not fit together.
    pub fn open(cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Result<Self, TlsError> {
        let (cert, key) = (cert.into(), key.into());
        let pair = Pair::read(&cert, &key)?;
        Ok(Self {
            current: RwLock::new(pair.config(&cert, &key)?),
            seen: Mutex::new(pair.digest()),
            cert,
            key,
        })
    }

    /// Reads the files again: `true` where they hold something new, which connections from now
    /// on get. Blocks for as long as reading two small files takes.
    ///
    /// # Errors
    ///
    /// [`TlsError`], once for each state of the files; the old pair stays.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let pair = Pair::read(&self.cert, &self.key)?;
        let digest = pair.digest();
        {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            if *seen == digest {
                return Ok(false);
            }
            *seen = digest;
        }
        let config = pair.config(&self.cert, &self.key)?;
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(true)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        TlsAcceptor::from(Arc::clone(&current))
    }

    /// Follows the files for ever.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut unreadable = false;
        loop {
            sleep(LOOK_EVERY).await;
            let tls = Arc::clone(&self);
            let Ok(reloaded) = tokio::task::spawn_blocking(move || tls.reload()).await else {
                return;
            };
            match &reloaded {
                Ok(true) => {
                    tracing::info!(cert = %self.cert.display(), "the TLS certificate is new");
                }
                Ok(false) => {}
                // A file that stays away is told once.
                Err(TlsError::Unreadable { .. }) if unreadable => {}
                Err(error) => {
                    let error = error as &(dyn std::error::Error + 'static);
                    tracing::error!(
                        error,
                        "the new TLS certificate is not used; the old one stays"
                    );
                }
            }
            unreadable = matches!(reloaded, Err(TlsError::Unreadable { .. }));
        }
    }
}

/// The two files as they were read.
struct Pair {
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Ok(Self {
            cert: read(cert)?,
            key: read(key)?,
        })
    }

    fn digest(&self) -> [u8; 32] {
        let mut digest = Sha256::new();
        digest.update((self.cert.len() as u64).to_be_bytes());
        digest.update(&self.cert);
        digest.update(&self.key);
        digest.finalize().into()
    }

    fn config(&self, cert: &Path, key: &Path) -> Result<Arc<ServerConfig>, TlsError> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.cert).collect();
        let chain = chain.ok().filter(|chain| !chain.is_empty());
        let chain = chain.ok_or_else(|| TlsError::NoCertificate { path: cert.into() })?;
        let secret = PrivateKeyDer::from_pem_slice(&self.key);
        let secret = secret.map_err(|_| TlsError::NoKey { path: key.into() })?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let built = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| {
                builder
                    .with_no_client_auth()
                    .with_single_cert(chain, secret)
            });
        let mut config = built.map_err(|source| TlsError::Pair {
            cert: cert.into(),
            key: key.into(),
            source,
        })?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let failed = |source| TlsError::Unreadable {
        path: path.into(),
        source,
    };
    let size = fs::metadata(path).map_err(failed)?.len();
    if size > LARGEST {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    fs::read(path).map_err(failed)
}
