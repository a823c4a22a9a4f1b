//! A service that the operator named: requests in JSON, with errors a tool can give on.
//!
//! Invariants: redirects are not followed, so a key goes to the configured address only; at
//! most [`MAX_BYTES`] of an answer are read; no error holds an address, a query or a key.

use std::time::Duration;

use lyceum_core::ToolError;
use reqwest::{Client, RequestBuilder, Response, header::RETRY_AFTER};
use serde::de::DeserializeOwned;
use url::Url;

/// The most bytes read of an answer; pages of ten results stay far below.
const MAX_BYTES: usize = 1 << 20;
/// The pause after a refusal for rate that named none.
const DEFAULT_PAUSE: Duration = Duration::from_secs(10);

/// Why a service cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The address is not an HTTP address.
    #[error("use {0:?} as an address: give one such as https://search.example.org")]
    Address(String),
    /// The service needs a key.
    #[error("use {service} without a key: set api_key")]
    NoKey {
        /// Which service.
        service: &'static str,
    },
    /// The HTTP client could not be made.
    #[error("make an HTTP client")]
    Client(#[source] reqwest::Error),
}

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Upstream {
    name: &'static str,
    client: Client,
}

impl Upstream {
    /// `name` is what errors call it, e.g. `the search engine`.
    pub(crate) fn new(name: &'static str) -> Result<Self, UpstreamError> {
        let client = Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .timeout(Duration::from_secs(10))
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lyceum/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(UpstreamError::Client)?;
        Ok(Self { name, client })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> Result<T, ToolError> {
        let mut response = request.send().await.map_err(|error| self.broken(&error))?;
        self.check(&response)?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.broken(&e))? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(self.failed("answered too much"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body)
            .map_err(|_| self.failed("did not answer in the JSON that was expected"))
    }

    fn check(&self, response: &Response) -> Result<(), ToolError> {
        let status = response.status();
        let detail = format!("{} answered with status {}", self.name, status.as_u16());
        match status.as_u16() {
            200..=299 => Ok(()),
            429 => {
                let header = response.headers().get(RETRY_AFTER);
                let seconds = header.and_then(|value| value.to_str().ok()?.trim().parse().ok());
                let retry_after = seconds.map_or(DEFAULT_PAUSE, Duration::from_secs);
                Err(ToolError::Unavailable { retry_after })
            }
            500..=599 => Err(ToolError::Transient { detail }),
            _ => Err(ToolError::Failed { detail }),
        }
    }

    /// Errors of the client name the address, which may hold a query: only their kind is told.
    fn broken(&self, error: &reqwest::Error) -> ToolError {
        let what = match error.is_timeout() {
            true => "took too long",
            false => "cannot be reached",
        };
        ToolError::Transient {
            detail: format!("{} {what}", self.name),
        }
    }

    fn failed(&self, what: &str) -> ToolError {
        ToolError::Failed {
            detail: format!("{} {what}", self.name),
        }
    }
}

/// An address with more path segments.
pub(crate) fn endpoint(base: &str, path: &[&str]) -> Result<Url, UpstreamError> {
    let wrong = || UpstreamError::Address(base.to_owned());
    let mut url = Url::parse(base).map_err(|_| wrong())?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(wrong());
    }
    url.path_segments_mut()
        .map_err(|()| wrong())?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}
