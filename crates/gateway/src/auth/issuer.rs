//! An issuer of tokens, and its keys as they are known here.
//!
//! Invariant: keys that work are never given up for nothing: a set that cannot be fetched or
//! read changes nothing, however long that lasts. The issuer is asked by one request at a
//! time, and for keys that tokens name at most once in [`ASKED_EVERY`], whatever is presented.
//! Deliberately absent: asking the issuer about single tokens.

use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use bytes::BytesMut;
use metrics::counter;
use reqwest::{Client, Url, redirect};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use super::{
    ClaimScopes, ClaimTenant, KeyRules,
    jwks::{KeySet, SetError},
    token::{self, TokenAlgorithm, TokenError, Verified},
};
use crate::{error::ApiError, metrics::ISSUER_KEYS};

/// How often the issuer is asked at most because a token names a key that is not known.
const ASKED_EVERY: Duration = Duration::from_secs(10);

/// How often a file of keys is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The largest set that is read, in bytes, and the longest that fetching it may take.
const LARGEST: usize = 256 << 10;
const LONGEST: Duration = Duration::from_secs(5);

/// Whose tokens count, and what they say.
#[derive(Debug, Clone)]
pub struct IssuerConfig {
    /// The claim `iss`, exactly.
    pub issuer: String,
    /// One of these must be in the claim `aud`.
    pub audiences: Vec<String>,
    /// Where its keys are.
    pub keys: IssuerKeys,
    /// How its tokens may be signed.
    pub algorithms: Vec<TokenAlgorithm>,
    /// How far its clock may be off.
    pub leeway: Duration,
    /// Claims that must be there, beside `exp`, `iss` and `aud`.
    pub required_claims: Vec<String>,
    /// Whose data its tokens reach.
    pub tenant: ClaimTenant,
    /// The claim that names the user.
    pub user_claim: String,
    /// What its tokens open.
    pub scopes: ClaimScopes,
    /// What holds for each of its users; scopes and expiry are the token's.
    pub rules: KeyRules,
}

/// Where an issuer's keys are.
#[derive(Clone)]
pub struct IssuerKeys(Place);

#[derive(Clone)]
enum Place {
    File(PathBuf),
    Address {
        url: Url,
        client: Client,
        every: Duration,
        /// Whose document it is that names the address; `None` where it is the address itself.
        of: Option<String>,
    },
}

impl fmt::Debug for IssuerKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::File(path) => f.debug_tuple("File").field(path).finish(),
            Place::Address { url, .. } => f.debug_tuple("Address").field(&url.as_str()).finish(),
        }
    }
}

/// Why an address of keys cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssuerError {
    /// It is no address.
    #[error("read the address of an issuer's keys")]
    Address,
    /// Whoever is between could put in keys of their own.
    #[error("trust keys that come without TLS: the address must be https, or of this machine")]
    Unencrypted,
    /// The HTTP client cannot be made.
    #[error("make the client that fetches keys")]
    Client(#[source] reqwest::Error),
}

impl IssuerKeys {
    /// A file, which is read again when it changes.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }

    /// An address, which is asked `every` so often, and when a token names another key.
    ///
    /// # Errors
    ///
    /// [`IssuerError`] for an address that is neither `https` nor of this machine.
    pub fn address(url: &str, every: Duration) -> Result<Self, IssuerError> {
        let url = safe(url)?;
        let mut client = Client::builder()
            .user_agent(concat!("lyceum/", env!("CARGO_PKG_VERSION")))
            // Where it leads was not configured.
            .redirect(redirect::Policy::none())
            .referer(false)
            .connect_timeout(LONGEST)
            .timeout(LONGEST);
        if is_loopback(&url) {
            client = client.no_proxy();
        }
        let client = client.build().map_err(IssuerError::Client)?;
        Ok(Self(Place::Address {
            url,
            client,
            every,
            of: None,
        }))
    }

    /// The address that the issuer's document names, `/.well-known/openid-configuration` below
    /// the issuer's name (OpenID Connect Discovery 1.0, section 4). Both are asked `every` so
    /// often, and when a token names another key.
    ///
    /// # Errors
    ///
    /// [`IssuerError`] for an issuer whose name is no address that is `https` or of this machine.
    pub fn discovered(issuer: &str, every: Duration) -> Result<Self, IssuerError> {
        let document = format!(
            "{}/.well-known/openid-configuration",
            issuer.trim_end_matches('/')
        );
        let mut keys = Self::address(&document, every)?;
        if let Place::Address { of, .. } = &mut keys.0 {
            *of = Some(issuer.to_owned());
        }
        Ok(keys)
    }

    async fn fetch(&self) -> Result<Vec<u8>, FetchError> {
        match &self.0 {
            Place::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read(&path)).await;
                read.map_err(|_| FetchError::Cut)?
            }
            Place::Address {
                url, client, of, ..
            } => match of {
                None => get(client, url.clone()).await,
                Some(issuer) => {
                    let document = get(client, url.clone()).await?;
                    get(client, named_in(&document, issuer, is_loopback(url))?).await
                }
            },
        }
    }

    /// How often they are looked at without a reason.
    fn every(&self) -> Duration {
        match &self.0 {
            Place::File(_) => LOOK_EVERY,
            Place::Address { every, .. } => *every,
        }
    }
}

/// What an issuer says of itself, as far as it is of use here.
#[derive(Deserialize)]
struct Document {
    issuer: String,
    jwks_uri: String,
}

/// The address of the keys, in a document that is really the issuer's. Only one of this machine
/// may lead to this machine.
fn named_in(document: &[u8], issuer: &str, is_local: bool) -> Result<Url, FetchError> {
    let document: Document = serde_json::from_slice(document).map_err(|_| FetchError::Document)?;
    if document.issuer != issuer {
        return Err(FetchError::Other);
    }
    let keys = safe(&document.jwks_uri).map_err(|_| FetchError::Document)?;
    match is_local || !is_loopback(&keys) {
        true => Ok(keys),
        false => Err(FetchError::Document),
    }
}

async fn get(client: &Client, url: Url) -> Result<Vec<u8>, FetchError> {
    let mut answer = client.get(url).send().await?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let mut whole = BytesMut::new();
    while let Some(part) = answer.chunk().await? {
        if whole.len() + part.len() > LARGEST {
            return Err(FetchError::TooLarge);
        }
        whole.extend_from_slice(&part);
    }
    Ok(whole.to_vec())
}

/// An address from which keys can be trusted.
fn safe(url: &str) -> Result<Url, IssuerError> {
    let url = Url::parse(url).map_err(|_| IssuerError::Address)?;
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err(IssuerError::Unencrypted),
        _ => Err(IssuerError::Address),
    }
}

fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, FetchError> {
    use io::Read as _;
    let mut text = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(LARGEST as u64 + 1).read_to_end(&mut text)?;
    match text.len() > LARGEST {
        true => Err(FetchError::TooLarge),
        false => Ok(text),
    }
}

/// Why the keys could not be had.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the file cannot be read: {0}")]
    File(#[from] io::Error),
    #[error("the address does not answer: {0}")]
    Network(#[from] reqwest::Error),
    #[error("the address answers with status {0}")]
    Status(u16),
    #[error(
        "the issuer's document cannot be read, or its jwks_uri is neither https nor, like the \
         issuer, of this machine: configure auth.jwt.jwks_url"
    )]
    Document,
    #[error(
        "the document names another issuer: auth.jwt.issuer must be what it says, to the last slash"
    )]
    Other,
    #[error("they are larger than 256 KiB")]
    TooLarge,
    #[error("reading was cut short")]
    Cut,
    #[error(transparent)]
    Set(#[from] SetError),
}

impl FetchError {
    fn label(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Network(_) => "network",
            Self::Status(_) => "status",
            Self::Document => "document",
            Self::Other => "other_issuer",
            Self::TooLarge => "too_large",
            Self::Cut => "cut",
            Self::Set(_) => "no_set",
        }
    }
}

/// An issuer and what is known of its keys.
pub(crate) struct Issuer {
    config: IssuerConfig,
    keys: RwLock<Option<Arc<KeySet>>>,
    asking: tokio::sync::Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    at: Option<Instant>,
    /// The digest of what was read last.
    seen: Option<[u8; 32]>,
    /// Whether the last try failed, which is said once.
    fails: bool,
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Issuer {
    pub(super) fn new(config: &IssuerConfig) -> Self {
        Self {
            config: config.clone(),
            keys: RwLock::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn rules(&self) -> &KeyRules {
        &self.config.rules
    }

    fn current(&self) -> Option<Arc<KeySet>> {
        let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.clone()
    }

    /// Verifies a token with the keys that are known.
    pub(super) fn verify(&self, token: &str, now: OffsetDateTime) -> Result<Verified, ApiError> {
        let Some(keys) = self.current() else {
            return Err(ApiError::IssuerKeys);
        };
        token::verify(&self.config, &keys, token, now).map_err(|error| match error {
            TokenError::UnknownKey => ApiError::TokenKey,
            error => ApiError::Token(error),
        })
    }

    /// Asks for the keys again because a token names one that is not known, unless that was
    /// done a moment ago: whether there are others now.
    pub(crate) async fn ask(&self) -> bool {
        let before = self.current();
        let mut asked = self.asking.lock().await;
        // Somebody else asked while this one waited.
        let now = self.current();
        let is_other = match (&before, &now) {
            (Some(before), Some(now)) => !Arc::ptr_eq(before, now),
            (before, now) => before.is_some() != now.is_some(),
        };
        if is_other {
            return true;
        }
        if asked.at.is_some_and(|at| at.elapsed() < ASKED_EVERY) {
            return false;
        }
        self.renew(&mut asked).await
    }

    /// Follows the keys for ever.
    pub(crate) async fn follow(&self) {
        loop {
            let pause = {
                let mut asked = self.asking.lock().await;
                self.renew(&mut asked).await;
                let every = self.config.keys.every();
                if asked.fails {
                    every.min(ASKED_EVERY)
                } else {
                    every
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn renew(&self, asked: &mut Asked) -> bool {
        asked.at = Some(Instant::now());
        match self.read(asked.seen).await {
            Ok(read) => {
                if asked.fails {
                    tracing::info!(
                        issuer = self.config.issuer,
                        "the issuer's keys are there again"
                    );
                }
                asked.fails = false;
                let Some((digest, keys)) = read else {
                    return false;
                };
                asked.seen = Some(digest);
                *self.keys.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(keys));
                counter!(ISSUER_KEYS, "result" => "new").increment(1);
                true
            }
            Err(error) => {
                counter!(ISSUER_KEYS, "result" => error.label()).increment(1);
                if !asked.fails {
                    let issuer = self.config.issuer.as_str();
                    tracing::warn!(issuer, %error, "the issuer's keys cannot be read; those known before stay");
                }
                asked.fails = true;
                false
            }
        }
    }

    async fn read(&self, seen: Option<[u8; 32]>) -> Result<Option<([u8; 32], KeySet)>, FetchError> {
        let text = self.config.keys.fetch().await?;
        let digest: [u8; 32] = Sha256::digest(&text).into();
        if seen == Some(digest) {
            return Ok(None);
        }
        Ok(Some((digest, KeySet::parse(&text)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_the_issuers_own_and_names_a_safe_address() {
        let issuer = "https://i.example";
        let named = |issuer: &str, keys: &str| {
            let document = serde_json::json!({"issuer": issuer, "jwks_uri": keys, "more": 1});
            named_in(document.to_string().as_bytes(), "https://i.example", false)
        };
        let keys = "https://elsewhere.example/k";
        assert_eq!(named(issuer, keys).unwrap().as_str(), keys);
        assert!(matches!(
            named("https://i.example/", keys),
            Err(FetchError::Other)
        ));
        for bad in [
            "http://i.example/k",
            "http://127.0.0.1/k",
            "https://localhost/k",
            "file:///etc/passwd",
            "",
            "/k",
        ] {
            assert!(matches!(named(issuer, bad), Err(FetchError::Document)));
        }
        assert!(named_in(b"<html>", issuer, false).is_err());
        assert!(named_in(b"{}", issuer, false).is_err());
    }

    #[test]
    fn keys_come_over_tls_or_from_this_machine() {
        let at = |url| IssuerKeys::address(url, Duration::from_secs(1));
        for good in [
            "https://issuer.example/keys",
            "http://127.0.0.1:1/keys",
            "http://[::1]:1/",
            "http://localhost/keys",
        ] {
            assert!(at(good).is_ok(), "{good}");
        }
        for bad in [
            "http://issuer.example/keys",
            "http://localhost.evil.example/",
            "http://10.0.0.1/",
            "http://169.254.169.254/latest/meta-data",
            "file:///etc/passwd",
            "data:,{}",
            "",
        ] {
            assert!(at(bad).is_err(), "{bad}");
        }
    }
}
