//! Which servers there are, how they are reached and what each may use.
//!
//! Invariant: a value of these types was checked. Deliberately absent: reading variables and
//! files; who configures a server has the values.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

use http::{HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::{Host, Url};

use crate::ServerName;

/// Why a server's configuration is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The address is none.
    #[error("read the address {url:?}")]
    Url {
        /// The address.
        url: String,
    },
    /// The address is not `https`, nor this machine.
    #[error("send requests to {host:?} unencrypted: use https, or allow it for this server")]
    Unencrypted {
        /// The host.
        host: String,
    },
    /// A header cannot be sent, or is the protocol's own.
    #[error("send the header {name:?}")]
    Header {
        /// Its name.
        name: String,
    },
    /// The command, an argument or a variable cannot be given to a process.
    #[error("start a process with the {what}")]
    Process {
        /// What is wrong.
        what: &'static str,
    },
    /// Two servers have one name.
    #[error("tell two servers named {name} apart")]
    Twice {
        /// The name.
        name: ServerName,
    },
}

/// One server.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Its name, the first part of its tools' names.
    pub name: ServerName,
    /// How it is reached.
    pub reach: Reach,
    /// The tools that may be used, by the server's own names; `None` for all.
    pub allow: Option<BTreeSet<String>>,
    /// What it may use.
    pub limits: ServerLimits,
}

/// How a server is reached.
#[derive(Debug, Clone)]
pub enum Reach {
    /// It is a process of ours and speaks on its standard input and output.
    Process(ProcessConfig),
    /// It is somewhere else and speaks streamable HTTP.
    Http(HttpConfig),
}

/// A process that is a server.
#[derive(Debug, Clone)]
pub struct ProcessConfig {
    pub(crate) command: String,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<(String, SecretString)>,
    pub(crate) directory: Option<PathBuf>,
}

impl ProcessConfig {
    /// A command with its arguments, and all variables the process gets: it inherits none.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Process`] for an empty command, a NUL anywhere, or a variable's name that
    /// is empty or has a `=`.
    pub fn new(
        command: impl Into<String>,
        args: Vec<String>,
        env: Vec<(String, SecretString)>,
    ) -> Result<Self, ConfigError> {
        let command = command.into();
        let refuse = |what| Err(ConfigError::Process { what });
        if command.is_empty() || command.contains('\0') {
            return refuse("command");
        }
        if args.iter().any(|arg| arg.contains('\0')) {
            return refuse("arguments");
        }
        let fits = |(name, value): &(String, SecretString)| {
            !name.is_empty() && !name.contains(['=', '\0']) && !value.expose_secret().contains('\0')
        };
        if !env.iter().all(fits) {
            return refuse("variables");
        }
        Ok(Self {
            command,
            args,
            env,
            directory: None,
        })
    }

    /// The folder the process starts in. Default: this program's.
    #[must_use]
    pub fn in_directory(mut self, directory: PathBuf) -> Self {
        self.directory = Some(directory);
        self
    }
}

/// A server at an address.
#[derive(Debug, Clone)]
pub struct HttpConfig {
    pub(crate) url: Url,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
}

impl HttpConfig {
    /// An address, and headers for every request. An address that is not `https` is refused
    /// unless it is this machine's or `unencrypted` allows it.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Url`], [`ConfigError::Unencrypted`], [`ConfigError::Header`].
    pub fn new(
        url: &str,
        headers: &[(String, SecretString)],
        unencrypted: bool,
    ) -> Result<Self, ConfigError> {
        let wrong = || ConfigError::Url {
            url: crate::plain::line(url, 200),
        };
        let url = Url::parse(url).map_err(|_| wrong())?;
        let host = url.host().ok_or_else(wrong)?;
        match url.scheme() {
            "https" => {}
            "http" if unencrypted || is_this_machine(&host) => {}
            "http" => {
                return Err(ConfigError::Unencrypted {
                    host: host.to_string(),
                });
            }
            _ => return Err(wrong()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong());
        }
        let headers = headers
            .iter()
            .map(|(name, value)| header(name, value))
            .collect::<Result<_, _>>()?;
        Ok(Self { url, headers })
    }
}

fn header(name: &str, value: &SecretString) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let wrong = || ConfigError::Header {
        name: crate::plain::line(name, 100),
    };
    let header: HeaderName = name.parse().map_err(|_| wrong())?;
    let own = header == http::header::ACCEPT
        || header == http::header::HOST
        || header == http::header::CONTENT_TYPE
        || header == http::header::CONTENT_LENGTH
        || header == "last-event-id"
        || header.as_str().starts_with("mcp-");
    if own {
        return Err(wrong());
    }
    let mut value: HeaderValue = value.expose_secret().parse().map_err(|_| wrong())?;
    value.set_sensitive(true);
    Ok((header, value))
}

fn is_this_machine(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => name.eq_ignore_ascii_case("localhost"),
        Host::Ipv4(address) => IpAddr::V4(*address).is_loopback(),
        Host::Ipv6(address) => IpAddr::V6(*address).is_loopback(),
    }
}

/// What a server may use. Values out of their range are moved into it.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// How long a call may take, waiting for its turn included. Default 30 s.
    pub call: Duration,
    /// How long starting, greeting and listing the tools may take. Default 20 s.
    pub start: Duration,
    /// Calls at once. Default 16; 1 to 1,000.
    pub max_concurrent: usize,
    /// Tools that are taken; the server's further ones are left out. Default 128; 1 to 1,000.
    pub max_tools: usize,
    /// The largest message, in bytes; a larger one is dropped. Default 4 MiB; 1 KiB to 64 MiB.
    pub max_message_bytes: usize,
    /// The most characters of a result. Default 16,000.
    pub max_result_chars: usize,
    /// The wait after a first failure; it doubles with each further one. Default 1 s; not 0.
    pub retry_first: Duration,
    /// The longest wait between attempts. Default 60 s.
    pub retry_most: Duration,
    /// How often a server with nothing to do is asked whether it is there, and its list of
    /// tools is read again. Default 60 s.
    pub check_every: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(30),
            start: Duration::from_secs(20),
            max_concurrent: 16,
            max_tools: 128,
            max_message_bytes: 4 << 20,
            max_result_chars: 16_000,
            retry_first: Duration::from_secs(1),
            retry_most: Duration::from_secs(60),
            check_every: Duration::from_secs(60),
        }
    }
}

impl ServerLimits {
    pub(crate) fn in_range(mut self) -> Self {
        self.max_concurrent = self.max_concurrent.clamp(1, 1_000);
        self.max_tools = self.max_tools.clamp(1, 1_000);
        self.max_message_bytes = self.max_message_bytes.clamp(1 << 10, 64 << 20);
        self.retry_first = self.retry_first.max(Duration::from_millis(10));
        self.check_every = self.check_every.max(Duration::from_millis(100));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(url: &str) -> Result<HttpConfig, ConfigError> {
        HttpConfig::new(url, &[], false)
    }

    #[test]
    fn only_this_machine_is_reached_unencrypted() {
        for good in [
            "https://mcp.example.org/mcp",
            "http://127.0.0.1:8000/mcp",
            "http://[::1]:1/",
            "http://localhost/mcp",
        ] {
            assert!(at(good).is_ok(), "{good}");
        }
        for bad in ["http://mcp.example.org/", "http://10.0.0.1/"] {
            assert!(
                matches!(at(bad), Err(ConfigError::Unencrypted { .. })),
                "{bad}"
            );
            assert!(HttpConfig::new(bad, &[], true).is_ok());
        }
        for bad in [
            "ftp://localhost",
            "mcp",
            "file:///x",
            "https://me:secret@example.org",
        ] {
            assert!(matches!(at(bad), Err(ConfigError::Url { .. })), "{bad}");
        }
    }

    #[test]
    fn headers_are_checked_and_never_shown() {
        let with = |name: &str, value: &str| {
            let headers = [(name.to_owned(), SecretString::from(value))];
            HttpConfig::new("https://example.org", &headers, false)
        };
        let config = with("Authorization", "Bearer s3cret").unwrap();
        assert!(!format!("{config:?}").contains("s3cret"));
        for (name, value) in [
            ("a b", "x"),
            ("x", "a\nb"),
            ("Mcp-Session-Id", "1"),
            ("Accept", "x"),
        ] {
            assert!(
                matches!(with(name, value), Err(ConfigError::Header { .. })),
                "{name}"
            );
        }
    }

    #[test]
    fn a_process_cannot_be_given_everything() {
        let env = |name: &str| vec![(name.to_owned(), SecretString::from("s3cret"))];
        let good = ProcessConfig::new("cat", vec![], env("KEY")).unwrap();
        assert!(!format!("{good:?}").contains("s3cret"));
        assert!(ProcessConfig::new("", vec![], vec![]).is_err());
        assert!(ProcessConfig::new("cat", vec!["\0".to_owned()], vec![]).is_err());
        assert!(ProcessConfig::new("cat", vec![], env("A=B")).is_err());
    }
}
