//! From which address a request comes.
//!
//! Invariant: what a request says about its own address is believed only as far as trusted
//! proxies wrote it. They append, so the list is read from its end: the first address that is
//! no trusted proxy is the client's, whatever stands before it.
//! Sources: RFC 7239 (`Forwarded`); `X-Forwarded-For` as nginx, HAProxy and Envoy append it.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    str::FromStr,
};

use http::{HeaderMap, HeaderName, header};
use ipnet::IpNet;

/// The most hops looked at: longer lists are nobody's honest work.
const MOST_HOPS: usize = 32;

/// The other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// An address of the network.
    Net(IpAddr),
    /// An address that a proxy told in front of the connection: nobody's word about another
    /// counts then, since the proxy writes no header.
    Told(IpAddr),
    /// A program of this machine, through a Unix socket or in the same process.
    Local,
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Net(address.ip().to_canonical())
    }
}

/// What a request came over TLS carries.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encrypted;

/// One client for the purpose of limits: an IPv4 address, or the /64 network of an IPv6
/// address, because a single machine may use all addresses of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    V4([u8; 4]),
    V6([u8; 8]),
    Local,
}

impl From<Peer> for Client {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Net(IpAddr::V4(address)) | Peer::Told(IpAddr::V4(address)) => {
                Self::V4(address.octets())
            }
            Peer::Net(IpAddr::V6(address)) | Peer::Told(IpAddr::V6(address)) => {
                let mut network = [0; 8];
                network.copy_from_slice(&address.octets()[..8]);
                Self::V6(network)
            }
            Peer::Local => Self::Local,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(address) | Self::Told(address) => address.fmt(f),
            Self::Local => f.write_str("local"),
        }
    }
}

/// In which header trusted proxies write where a request comes from. Only this one is read:
/// a client may send the other through a proxy that knows nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` of RFC 7239.
    Forwarded,
}

/// Whose word about a request's origin counts. By default nobody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    networks: Vec<IpNet>,
    /// Whether programs that come through a Unix socket are proxies.
    local: bool,
    header: ForwardedHeader,
}

/// A trusted proxy is not written as one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no network such as \"10.0.0.0/8\", no address, and not \"unix\"")]
pub struct ProxyError {
    /// What was written.
    pub text: String,
}

impl TrustedProxies {
    /// Trusts networks (`10.0.0.0/8`), addresses (`::1`) and, as `unix`, the programs that
    /// come through a Unix socket.
    ///
    /// # Errors
    ///
    /// [`ProxyError`] for what is none of these.
    pub fn new<T: AsRef<str>>(
        proxies: impl IntoIterator<Item = T>,
        header: ForwardedHeader,
    ) -> Result<Self, ProxyError> {
        let mut trusted = Self {
            header,
            ..Self::default()
        };
        for text in proxies {
            let text = text.as_ref().trim();
            if text.eq_ignore_ascii_case("unix") {
                trusted.local = true;
                continue;
            }
            let network = IpNet::from_str(text).or_else(|_| text.parse().map(IpAddr::into));
            let network = network.map_err(|_| ProxyError {
                text: text.chars().take(100).collect(),
            })?;
            trusted.networks.push(network);
        }
        Ok(trusted)
    }

    /// Whether a connection comes from a trusted proxy.
    pub(crate) fn trusts(&self, peer: Peer) -> bool {
        match peer {
            Peer::Local => self.local,
            Peer::Told(_) => false,
            Peer::Net(address) => self.networks.iter().any(|net| net.contains(&address)),
        }
    }

    /// The client of a request that came over a connection from `peer`.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> Peer {
        if !self.trusts(peer) {
            return peer;
        }
        let name = match self.header {
            ForwardedHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            ForwardedHeader::Forwarded => header::FORWARDED,
        };
        let lines: Vec<_> = headers.get_all(name).iter().collect();
        let lines = lines.iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or_default().rsplit(','));
        let mut nearest = peer;
        for hop in hops.take(MOST_HOPS) {
            let address = match self.header {
                ForwardedHeader::XForwardedFor => address(hop.trim()),
                ForwardedHeader::Forwarded => forwarded_for(hop),
            };
            // What cannot be read was not written by a proxy that is to be believed.
            let Some(address) = address else {
                return nearest;
            };
            nearest = Peer::Net(address);
            if !self.trusts(nearest) {
                return nearest;
            }
        }
        nearest
    }
}

/// The address of an element of `Forwarded`: `for=192.0.2.1;proto=https`.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut pairs = element.split(';').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("for"))?;
    address(value.trim().trim_matches('"'))
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let parsed = match bare {
        Some(inside) => inside.parse::<Ipv6Addr>().map(IpAddr::V6).ok(),
        None => text.parse().ok(),
    };
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    parsed
        .or_else(with_port)
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(header: ForwardedHeader) -> TrustedProxies {
        TrustedProxies::new(["10.0.0.0/8", "::1", "unix"], header).unwrap()
    }

    fn client(header: ForwardedHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let peer = match peer {
            "local" => Peer::Local,
            peer => Peer::Net(peer.parse().unwrap()),
        };
        proxies(header).client(peer, &headers).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        let lines = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")];
        let told = client(ForwardedHeader::XForwardedFor, "192.0.2.7", &lines);
        assert_eq!(told, "192.0.2.7");
        assert_eq!(
            TrustedProxies::default().client(Peer::Local, &HeaderMap::new()),
            Peer::Local
        );
    }

    #[test]
    fn the_rightmost_address_that_is_no_proxy_is_the_client() {
        let seen = |peer, line| {
            client(
                ForwardedHeader::XForwardedFor,
                peer,
                &[("x-forwarded-for", line)],
            )
        };
        assert_eq!(
            seen("10.0.0.1", "6.6.6.6, 192.0.2.7, 10.2.3.4"),
            "192.0.2.7"
        );
        assert_eq!(seen("::1", "192.0.2.7:4711"), "192.0.2.7");
        assert_eq!(seen("local", "2001:db8::7"), "2001:db8::7");
        assert_eq!(seen("local", "[2001:db8::7]:80"), "2001:db8::7");
        // What a client made up does not hide the proxy that forwarded it.
        assert_eq!(seen("10.0.0.1", "192.0.2.7, made-up"), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "made-up, 10.2.3.4"), "10.2.3.4");
        assert_eq!(seen("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(seen("10.0.0.1", "::ffff:192.0.2.7"), "192.0.2.7");
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "192.0.2.7"),
            ("x-forwarded-for", "10.9.9.9"),
        ];
        let told = client(ForwardedHeader::XForwardedFor, "10.0.0.1", &lines);
        assert_eq!(told, "192.0.2.7");
    }

    #[test]
    fn only_the_header_that_proxies_write_is_read() {
        let lines = [
            ("x-forwarded-for", "6.6.6.6"),
            (
                "forwarded",
                "for=6.6.6.6, for=\"[2001:db8::7]:80\";proto=https, For=10.1.1.1",
            ),
        ];
        let told = client(ForwardedHeader::Forwarded, "10.0.0.1", &lines);
        assert_eq!(told, "2001:db8::7");
        let hidden = [("forwarded", "for=192.0.2.7, for=_hidden")];
        let told = client(ForwardedHeader::Forwarded, "10.0.0.1", &hidden);
        assert_eq!(told, "10.0.0.1");
    }

    #[test]
    fn addresses_of_one_network_of_version_6_are_one_client() {
        let of = |text: &str| Client::from(Peer::Net(text.parse().unwrap()));
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
    }

    #[test]
    fn what_is_no_network_is_named() {
        let wrong = TrustedProxies::new(["10.0.0.0/33"], ForwardedHeader::default());
        assert!(wrong.unwrap_err().to_string().contains("10.0.0.0/33"));
    }
}
