//! One provider's HTTP client: sends a request and turns every refusal into a
//! [`ChatError`]. It is built once and serves all calls.
//!
//! Invariant: the key is in one header, which is marked sensitive, and nowhere else:
//! not in errors, not in `Debug`. Redirects are not followed, so the key goes to the
//! configured host only. Deliberately absent: retries, which are a decorator.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use lyceum_core::{ChatError, TimeoutStage, propagate};
use lyceum_queue::{ObservedLimits, Queue};
use reqwest::{Client, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{Instant, timeout};
use url::{Host, Url};

use crate::{
    BuildError, Pool, Timeouts,
    clock::Clock,
    decode::Origin,
    dns::CachedResolver,
    failure::{Complaint, protocol},
    headers::RateHeaders,
};

/// How much of an error's body is read.
const MAX_ERROR_BYTES: usize = 16 << 10;

/// How a provider's HTTP client is set up.
pub(crate) struct Setup<'a> {
    pub(crate) provider: Arc<str>,
    pub(crate) base_url: &'a str,
    /// Added to the base URL's path.
    pub(crate) path: &'a [&'a str],
    pub(crate) key: Option<SecretString>,
    /// The header for the key, and what stands before the key in it.
    pub(crate) key_header: (HeaderName, &'static str),
    pub(crate) more_headers: &'a [(HeaderName, HeaderValue)],
    pub(crate) timeouts: Timeouts,
    pub(crate) pool: Pool,
    pub(crate) queue: Option<Queue>,
}

/// See the module's text.
pub(crate) struct Transport {
    pub(crate) provider: Arc<str>,
    client: Client,
    resolver: CachedResolver,
    url: Url,
    headers: HeaderMap,
    key: Option<SecretString>,
    pub(crate) timeouts: Timeouts,
    queue: Option<Queue>,
}

/// How the provider answers.
#[derive(Debug)]
pub(crate) enum Form {
    /// As an event stream.
    Events,
    /// As one JSON document, because it ignored the wish for a stream.
    Whole,
}

impl Transport {
    pub(crate) fn new(setup: Setup<'_>) -> Result<Self, BuildError> {
        let url = endpoint(setup.base_url, setup.path).map_err(|reason| BuildError::BaseUrl {
            provider: setup.provider.to_string(),
            reason,
        })?;
        let mut headers = HeaderMap::new();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        let events = HeaderValue::from_static("text/event-stream, application/json");
        headers.insert(header::ACCEPT, events);
        headers.extend(setup.more_headers.iter().cloned());
        if let Some(key) = &setup.key {
            let (name, prefix) = setup.key_header;
            let value = format!("{prefix}{}", key.expose_secret().trim());
            let mut value = HeaderValue::try_from(value).map_err(|_| BuildError::Key {
                provider: setup.provider.to_string(),
            })?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        let resolver = CachedResolver::default();
        let mut client = Client::builder()
            .user_agent(concat!("lyceum/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .referer(false)
            .http1_only()
            .tcp_nodelay(true)
            .connect_timeout(setup.timeouts.connect)
            .pool_max_idle_per_host(setup.pool.max_idle)
            .pool_idle_timeout(setup.pool.idle_timeout)
            .dns_resolver(resolver.clone());
        if is_loopback(&url) {
            // A proxy of the environment cannot reach this machine's own servers.
            client = client.no_proxy();
        }
        let client = client.build().map_err(|source| BuildError::Client {
            provider: setup.provider.to_string(),
            source,
        })?;
        Ok(Self {
            provider: setup.provider,
            client,
            resolver,
            url,
            headers,
            key: setup.key,
            timeouts: setup.timeouts,
            queue: setup.queue,
        })
    }

    /// Sends a request and waits for an answer's headers.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn send(
        &self,
        body: Vec<u8>,
        clock: &Clock,
    ) -> Result<(Response, Form), ChatError> {
        let request = self
            .client
            .post(self.url.clone())
            .headers(self.headers())
            .body(body);
        let response = clock
            .first_token(request.send())
            .await?
            .map_err(|error| self.unreachable(error))?;
        let rate = RateHeaders::read(response.headers(), SystemTime::now());
        if let Some(queue) = &self.queue
            && rate.limits != ObservedLimits::default()
        {
            queue.observe(&rate.limits);
        }
        if response.status().is_success() {
            let form = form(response.headers())?;
            return Ok((response, form));
        }
        let status = response.status().as_u16();
        let body = self.error_body(response, clock).await;
        Err(Complaint::of_body(&body).into_error(status, rate.retry_after, self.key.as_ref()))
    }

    /// The headers of one request.
    fn headers(&self) -> HeaderMap {
        let mut headers = self.headers.clone();
        propagate(&mut |name, value| {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), value.try_into()) {
                headers.insert::<HeaderName>(name, value);
            }
        });
        headers
    }

    /// Sends a request and reads the answer, which is one JSON document.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(crate) async fn whole(
        &self,
        body: Vec<u8>,
        clock: &Clock,
        max_bytes: usize,
    ) -> Result<Vec<u8>, ChatError> {
        let (mut response, _) = self.send(body, clock).await?;
        let mut whole = Vec::new();
        loop {
            let chunk = clock
                .between_chunks(Instant::now(), response.chunk())
                .await?;
            let Some(chunk) = chunk.map_err(interrupted)? else {
                return Ok(whole);
            };
            if whole.len() + chunk.len() > max_bytes {
                let detail = format_args!("it has more than {max_bytes} bytes");
                return Err(protocol(detail));
            }
            whole.extend_from_slice(&chunk);
        }
    }

    /// The beginning of an error's body; what cannot be read in time is left out.
    async fn error_body(&self, mut response: Response, clock: &Clock) -> Vec<u8> {
        let (mut body, since) = (Vec::new(), Instant::now());
        while body.len() < MAX_ERROR_BYTES {
            match clock.between_chunks(since, response.chunk()).await {
                Ok(Ok(Some(chunk))) => body.extend_from_slice(&chunk),
                Ok(Ok(None) | Err(_)) | Err(_) => break,
            }
        }
        body.truncate(MAX_ERROR_BYTES);
        body
    }

    fn unreachable(&self, error: reqwest::Error) -> ChatError {
        if !error.is_connect() {
            return interrupted(error);
        }
        if let Some(host) = self.url.host_str() {
            self.resolver.forget(host);
        }
        if error.is_timeout() {
            return ChatError::Timeout {
                stage: TimeoutStage::Connect,
                after: self.timeouts.connect,
            };
        }
        ChatError::Connect {
            provider: self.provider.to_string(),
            source: Box::new(error.without_url()),
        }
    }

    /// What an answer to a question for this model says it comes from.
    pub(crate) fn origin(&self, asked: &Arc<str>) -> Origin {
        Origin {
            provider: Arc::clone(&self.provider),
            asked: Arc::clone(asked),
            key: self.key.clone(),
        }
    }

    pub(crate) fn key(&self) -> Option<&SecretString> {
        self.key.as_ref()
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("provider", &self.provider)
            .field("host", &self.url.host_str())
            .field("timeouts", &self.timeouts)
            .finish_non_exhaustive()
    }
}

/// A connection that broke after it was made: the provider may have seen the request.
pub(crate) fn interrupted(error: reqwest::Error) -> ChatError {
    ChatError::Interrupted {
        source: Box::new(error.without_url()),
    }
}

/// Reads what little is left of a finished answer, so that its connection can be used
/// again. Without this each call would pay for a new TLS handshake whenever the end
/// of the body comes in a packet of its own.
pub(crate) fn release(mut response: Response) {
    const PATIENCE: Duration = Duration::from_secs(1);
    const MAX_REST: usize = 64 << 10;
    tokio::spawn(timeout(PATIENCE, async move {
        let mut rest = 0;
        while let Ok(Some(chunk)) = response.chunk().await {
            rest += chunk.len();
            if rest > MAX_REST {
                break;
            }
        }
    }));
}

fn endpoint(base_url: &str, path: &[&str]) -> Result<Url, &'static str> {
    let mut url = Url::parse(base_url.trim()).map_err(|_| "it is not a URL")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it starts neither with http:// nor with https://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it holds a user name or password; give the key apart");
    }
    url.set_fragment(None);
    url.path_segments_mut()
        .map_err(|()| "it cannot have a path")?
        .pop_if_empty()
        .extend(path);
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn form(headers: &HeaderMap) -> Result<Form, ChatError> {
    let value = |name| headers.get(name).and_then(|v| v.to_str().ok());
    if let Some(encoding) = value(header::CONTENT_ENCODING)
        && !encoding.eq_ignore_ascii_case("identity")
    {
        return Err(protocol(format_args!(
            "it is compressed ({encoding}), which was not asked for"
        )));
    }
    let kind = value(header::CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if kind.eq_ignore_ascii_case("application/json") {
        return Ok(Form::Whole);
    }
    if kind.eq_ignore_ascii_case("text/html") {
        return Err(protocol("it is a web page: is the base URL right?"));
    }
    // Some servers send their events as text/plain or without a type.
    Ok(Form::Events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_added_to_every_form_of_base_url() {
        let table = [
            ("https://a.test/v1", "https://a.test/v1/chat/completions"),
            ("https://a.test/v1/", "https://a.test/v1/chat/completions"),
            ("http://[::1]:80", "http://[::1]/chat/completions"),
            (
                "https://a.test/v1?x=1#f",
                "https://a.test/v1/chat/completions?x=1",
            ),
        ];
        for (base, expected) in table {
            let url = endpoint(base, &["chat", "completions"]).unwrap();
            assert_eq!(url.as_str(), expected);
        }
        for bad in [
            "",
            "a.test",
            "ftp://a.test",
            "https://u:p@a.test",
            "data:,x",
        ] {
            assert!(endpoint(bad, &[]).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for (url, expected) in [
            ("http://localhost:1", true),
            ("http://127.0.0.9", true),
            ("http://[::1]", true),
            ("http://localhost.evil.test", false),
            ("http://192.168.0.1", false),
        ] {
            assert_eq!(is_loopback(&Url::parse(url).unwrap()), expected, "{url}");
        }
    }
}
