//! Reading addresses that strangers give and sending to them, and nothing but the public web.
//!
//! Invariants: every hop of a redirect is checked before anything is sent; a name is
//! resolved once for a connection, all its addresses are checked, and that connection goes
//! to one of them, so a resolver that changes its answer gains nothing. No proxy of the
//! environment is used, because it would resolve names itself. No cookies, no credentials,
//! no referrer. At most `max_bytes` are kept of a body, counted after decompression.

mod address;
mod body;
mod post;
mod resolve;

use std::{error::Error as _, sync::Arc, time::Duration};

use ipnet::IpNet;
use lyceum_core::ToolError;
use reqwest::{
    Client, Response,
    header::{ACCEPT, ACCEPT_ENCODING, LOCATION},
};
use url::{Host, Url};

pub(crate) use self::body::{Body, Kind};
use self::{address::Networks, resolve::Guarded};
pub use self::{
    post::WebPost,
    resolve::{Resolver, SystemResolver},
};

/// Redirects followed.
const MAX_HOPS: usize = 5;
/// Why an address inside is refused.
const NOT_PUBLIC: &str = "its host is not on the public web";
/// The longest address, in bytes.
const MAX_URL_BYTES: usize = 2_000;

/// What may be read.
#[derive(Debug, Clone)]
pub struct WebRules {
    /// Ports. Default 80 and 443.
    pub ports: Vec<u16>,
    /// Whether `http` addresses are refused. Default: no.
    pub https_only: bool,
    /// Networks that may be read though they are not public, e.g. a school's own. Default:
    /// none.
    pub networks: Vec<IpNet>,
    /// Hosts that may be read, subdomains included. Default: none, which is every host.
    pub hosts: Vec<String>,
    /// The most bytes of a page, decompressed. Default 2 MiB.
    pub max_bytes: usize,
    /// How long connecting may take. Default 5 s.
    pub connect_timeout: Duration,
    /// How long reading a page may take, redirects aside. Default 10 s.
    pub timeout: Duration,
}

impl Default for WebRules {
    fn default() -> Self {
        Self {
            ports: vec![80, 443],
            https_only: false,
            networks: Vec::new(),
            hosts: Vec::new(),
            max_bytes: 2 << 20,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

/// The HTTP client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("make an HTTP client")]
pub struct WebError(#[source] reqwest::Error);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Web {
    client: Client,
    rules: WebRules,
    networks: Arc<Networks>,
}

impl Web {
    pub(crate) fn new(rules: WebRules, resolver: Arc<dyn Resolver>) -> Result<Self, WebError> {
        let networks = Arc::new(Networks::new(rules.networks.clone()));
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .connect_timeout(rules.connect_timeout)
            .timeout(rules.timeout)
            .pool_max_idle_per_host(0)
            .user_agent(concat!("lyceum/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Guarded::new(resolver, networks.clone()))
            .build()
            .map_err(WebError)?;
        Ok(Self {
            client,
            rules,
            networks,
        })
    }

    /// Reads what is at an address.
    pub(crate) async fn read(&self, address: &str) -> Result<Body, ToolError> {
        let mut url = parse(address)?;
        for _ in 0..=MAX_HOPS {
            self.check(&url)?;
            let request = self
                .client
                .get(url.clone())
                .header(ACCEPT, "text/html, text/*;q=0.9, application/json;q=0.8")
                .header(ACCEPT_ENCODING, "gzip");
            let response = request.send().await.map_err(|error| unread(&error))?;
            if !response.status().is_redirection() {
                return self.take(url, response).await;
            }
            let next = response.headers().get(LOCATION);
            let next = next.and_then(|next| next.to_str().ok());
            let Some(next) = next.filter(|next| next.len() <= MAX_URL_BYTES) else {
                return Err(wrong("it redirects to nowhere"));
            };
            url = url
                .join(next)
                .map_err(|_| wrong("it redirects to what is no address"))?;
        }
        Err(wrong("it redirects too often"))
    }

    async fn take(&self, url: Url, response: Response) -> Result<Body, ToolError> {
        let status = response.status();
        match status.as_u16() {
            200..=299 => body::take(url, response, self.rules.max_bytes).await,
            429 | 500..=599 => Err(ToolError::Transient {
                detail: format!("the page answered with status {}", status.as_u16()),
            }),
            number => Err(wrong(&format!("it answered with status {number}"))),
        }
    }

    /// Whether an address may be read, as far as can be seen without resolving its name.
    fn check(&self, url: &Url) -> Result<(), ToolError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(denied("only http and https addresses are allowed"));
        }
        if self.rules.https_only && url.scheme() != "https" {
            return Err(denied("only https addresses are allowed"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(denied("an address with a name or password is not allowed"));
        }
        let port = url.port_or_known_default().unwrap_or_default();
        if !self.rules.ports.contains(&port) {
            return Err(denied("that port is not allowed"));
        }
        let host = match url.host() {
            Some(Host::Domain(host)) => host.trim_end_matches('.').to_owned(),
            Some(Host::Ipv4(address)) => self.literal(address.into())?,
            Some(Host::Ipv6(address)) => self.literal(address.into())?,
            None => return Err(denied("it names no host")),
        };
        let hosts = &self.rules.hosts;
        if !hosts.is_empty() && !hosts.iter().any(|known| is_within(&host, known)) {
            return Err(denied("that host is not among those that are allowed"));
        }
        Ok(())
    }

    fn literal(&self, address: std::net::IpAddr) -> Result<String, ToolError> {
        match self.networks.allow(address) {
            true => Ok(address.to_string()),
            false => Err(denied(NOT_PUBLIC)),
        }
    }
}

fn is_within(host: &str, domain: &str) -> bool {
    let domain = domain.trim_matches('.');
    let outer = host.len().checked_sub(domain.len());
    outer.is_some_and(|at| {
        host.is_char_boundary(at)
            && host[at..].eq_ignore_ascii_case(domain)
            && (at == 0 || host[..at].ends_with('.'))
    })
}

/// Parsing makes one form of many: `http://2130706433/` and `http://0x7f.1/` both become
/// `http://127.0.0.1/`.
fn parse(address: &str) -> Result<Url, ToolError> {
    let detail = if address.len() > MAX_URL_BYTES {
        format!("the address has over {MAX_URL_BYTES} bytes")
    } else {
        match Url::parse(address.trim()) {
            Ok(url) => return Ok(url),
            Err(error) => format!("it is no address such as https://example.org/: {error}"),
        }
    };
    Err(ToolError::Arguments { detail })
}

fn denied(detail: &str) -> ToolError {
    let detail = detail.to_owned();
    ToolError::Denied { detail }
}

/// What lies at another's address is not the tool's failure: another address may do.
fn wrong(detail: &str) -> ToolError {
    let detail = format!("the page cannot be read: {detail}");
    ToolError::Arguments { detail }
}

/// Why an address was not reached.
enum Failure {
    /// Its host has an address that may not be reached.
    Forbidden,
    /// Its host was not found.
    Unknown,
    /// It took too long.
    Slow,
    /// The connection broke, or none was made.
    Broken,
}

impl From<&reqwest::Error> for Failure {
    fn from(error: &reqwest::Error) -> Self {
        let mut cause = error.source();
        while let Some(inner) = cause {
            if inner.is::<resolve::Forbidden>() {
                return Self::Forbidden;
            }
            if inner.is::<resolve::Unknown>() {
                return Self::Unknown;
            }
            cause = inner.source();
        }
        match error.is_timeout() {
            true => Self::Slow,
            false => Self::Broken,
        }
    }
}

fn unread(error: &reqwest::Error) -> ToolError {
    let detail = match Failure::from(error) {
        Failure::Forbidden => return denied(NOT_PUBLIC),
        Failure::Unknown => return wrong("there is no such host"),
        Failure::Slow => "the page took too long",
        Failure::Broken => "the connection to the page broke",
    };
    ToolError::Transient {
        detail: detail.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_within_its_domain_and_no_other() {
        for host in ["example.org", "www.example.org", "EXAMPLE.org"] {
            assert!(is_within(host, "example.org"), "{host}");
        }
        for host in [
            "badexample.org",
            "example.org.evil.net",
            "org",
            "字example.org",
        ] {
            assert!(!is_within(host, "example.org"), "{host}");
        }
    }
}
