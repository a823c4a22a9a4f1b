//! Who is at the other end of a connection that a trusted proxy passes on.
//!
//! The header of the PROXY protocol, versions 1 and 2
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>), stands in front of all
//! else, TLS too. Invariant: exactly the header is read, at most [`LONGEST_HEADER`] bytes of it.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

use ppp::{v1, v2};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::edge::address::Peer;

/// The address block of version 2 is at most 216 bytes; what stands behind it is not looked at.
const LONGEST_HEADER: usize = 2_048;
/// The longest line of version 1, with its end.
const LONGEST_LINE: usize = 107;
/// Shorter than any header of either version, and what tells them apart.
const BEGINNING: usize = 12;
/// The fixed part of version 2.
const FIXED: usize = 16;

/// Reads the header; the proxy itself where that says that it speaks for nobody, `0.0.0.0` where
/// it has no address. Whoever it is, no header of a request counts beside it.
///
/// # Errors
///
/// [`io::ErrorKind::InvalidData`] where there is no such header, and what the connection said.
///
/// # Cancel safety
///
/// Dropping the future loses the bytes that were read: the connection is of no use then.
pub(super) async fn client<I: AsyncRead + Unpin>(io: &mut I, proxy: Peer) -> io::Result<Peer> {
    let mut header = vec![0; BEGINNING];
    io.read_exact(&mut header).await?;
    let address = match &header[..] {
        v2::PROTOCOL_PREFIX => second(io, header).await?,
        beginning if beginning.starts_with(b"PROXY ") => first(io, header).await?,
        _ => {
            return Err(invalid(
                "a connection from a trusted proxy has no PROXY header",
            ));
        }
    };
    let address = address.or(match proxy {
        Peer::Net(address) | Peer::Told(address) => Some(address),
        Peer::Local => None,
    });
    let unknown = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    Ok(Peer::Told(address.unwrap_or(unknown).to_canonical()))
}

async fn first<I: AsyncRead + Unpin>(
    io: &mut I,
    mut header: Vec<u8>,
) -> io::Result<Option<IpAddr>> {
    while !header.ends_with(b"\r\n") {
        if header.len() == LONGEST_LINE {
            return Err(invalid("a PROXY line is too long"));
        }
        header.push(io.read_u8().await?);
    }
    let read = v1::Header::try_from(&header[..]).map_err(invalid)?;
    Ok(match read.addresses {
        v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
        v1::Addresses::Unknown => None,
    })
}

async fn second<I: AsyncRead + Unpin>(
    io: &mut I,
    mut header: Vec<u8>,
) -> io::Result<Option<IpAddr>> {
    header.resize(FIXED, 0);
    io.read_exact(&mut header[BEGINNING..]).await?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    if FIXED + length > LONGEST_HEADER {
        return Err(invalid("a PROXY header is too long"));
    }
    header.resize(FIXED + length, 0);
    io.read_exact(&mut header[FIXED..]).await?;
    let read = v2::Header::try_from(&header[..]).map_err(invalid)?;
    Ok(match (read.command, read.addresses) {
        (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => {
            Some(addresses.source_address.into())
        }
        (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => {
            Some(addresses.source_address.into())
        }
        _ => None,
    })
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const PROXY: Peer = Peer::Net(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    const AFTER: &[u8] = b"GET / HTTP/1.1\r\n";

    /// What a header says, and that what stands behind it was left alone.
    async fn read(header: &[u8]) -> io::Result<Peer> {
        let (mut near, mut far) = duplex(8_192);
        far.write_all(header).await.unwrap();
        far.write_all(AFTER).await.unwrap();
        drop(far);
        let peer = client(&mut near, PROXY).await?;
        let mut rest = Vec::new();
        near.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest, AFTER);
        Ok(peer)
    }

    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let length = u16::try_from(addresses.len()).unwrap().to_be_bytes();
        [v2::PROTOCOL_PREFIX, &[command, family], &length, addresses].concat()
    }

    fn told(address: &str) -> Peer {
        Peer::Told(address.parse().unwrap())
    }

    #[tokio::test]
    async fn both_versions_say_who_the_client_is() {
        let line = b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\n";
        assert_eq!(read(line).await.unwrap(), told("192.0.2.7"));
        let line = b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
        assert_eq!(read(line).await.unwrap(), told("2001:db8::7"));
        let addresses = [192, 0, 2, 7, 198, 51, 100, 1, 0, 80, 1, 187];
        let header = version_2(0x21, 0x11, &addresses);
        assert_eq!(read(&header).await.unwrap(), told("192.0.2.7"));
        // A mapped address is the one of version 4; more may stand behind the addresses.
        let mut addresses = [0; 36 + 5];
        addresses[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 7]);
        addresses[36..].copy_from_slice(&[4, 0, 2, 0, 0]);
        let header = version_2(0x21, 0x21, &addresses);
        assert_eq!(read(&header).await.unwrap(), told("192.0.2.7"));
    }

    #[tokio::test]
    async fn a_proxy_may_speak_for_itself() {
        let proxy = told("10.0.0.1");
        assert_eq!(read(b"PROXY UNKNOWN\r\n").await.unwrap(), proxy);
        assert_eq!(read(&version_2(0x20, 0x00, &[])).await.unwrap(), proxy);
        let mut io = &b"PROXY UNKNOWN\r\n"[..];
        assert_eq!(client(&mut io, Peer::Local).await.unwrap(), told("0.0.0.0"));
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = format!("PROXY TCP4 {} 1.1.1.1 1 1\r\n", "1".repeat(100));
        for header in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 somebody 198.51.100.1 4711 443\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            long.as_bytes(),
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 4]),
            &version_2(0x21, 0x11, &[0; 4_000]),
            b"PRO",
            b"",
        ] {
            assert!(read(header).await.is_err(), "{header:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(version: bool, bytes: Vec<u8>) {
            let prefix = if version { v2::PROTOCOL_PREFIX } else { b"PROXY TCP4 1" };
            let header = [prefix, &bytes].concat();
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let mut io = &header[..];
            let _ = runtime.block_on(client(&mut io, PROXY));
        }
    }
}
