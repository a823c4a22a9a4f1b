//! A connection, and what a proxy says in front of one, for any bytes.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use tokio_util::sync::CancellationToken;

use super::{
    connection::{Manner, serve},
    proxied,
};
use crate::{config::ServerConfig, edge::address::Peer, gateway::Gateway};

/// The longest header of each version of the PROXY protocol that is read, in bytes.
const LONGEST: [usize; 2] = [107, 2_048];

/// Reads what a proxy says; exactly the header is taken, whatever stands behind it.
pub(crate) fn proxy_header(bytes: &[u8]) {
    let proxy = Peer::Net(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)));
    let read = |mut bytes: &[u8]| {
        let peer = proxied::client(&mut bytes, proxy).now_or_never();
        (peer.and_then(Result::ok), bytes.len())
    };
    let (peer, left) = read(bytes);
    let taken = bytes.len() - left;
    let longest = LONGEST[usize::from(!bytes.starts_with(b"PROXY "))];
    assert!(taken <= longest, "{taken} bytes were taken");
    if let Some(peer) = peer {
        assert!(matches!(peer, Peer::Told(_)));
        assert_eq!(read(&bytes[..taken]), (Some(peer), 0));
        if taken > 0 {
            assert_eq!(read(&bytes[..taken - 1]).0, None, "it was whole before");
        }
    }
}

/// Sends bytes over a connection, waits for so many bytes behind the first empty line where
/// `behind` is above zero, and gives all that came back.
pub(crate) async fn exchange(gateway: &Gateway, bytes: &[u8], behind: usize) -> Vec<u8> {
    let (near, far) = duplex(1 << 16);
    let manner = Manner {
        gateway: gateway.clone(),
        config: ServerConfig::default(),
        tls: None,
        finish: CancellationToken::new(),
    };
    let (mut reading, mut writing) = tokio::io::split(far);
    let says = async {
        // A server that has closed the connection takes no more.
        let _ = writing.write_all(bytes).await;
        if behind == 0 {
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
            let _ = writing.shutdown().await;
        }
    };
    let hears = async {
        let mut all = Vec::new();
        while reading.read_buf(&mut all).await.is_ok_and(|read| read > 0) {
            let head = all.windows(4).position(|four| four == b"\r\n\r\n");
            if behind > 0 && head.is_some_and(|head| all.len() >= head + 4 + behind) {
                break;
            }
        }
        all
    };
    let serves = serve(Box::new(manner), near, Peer::Local);
    let exchanged = async {
        let talk = async { tokio::join!(says, hears).1 };
        match behind {
            0 => tokio::join!(serves, talk).1,
            // Who serves waits for more.
            _ => tokio::select! {
                all = talk => all,
                () = async { serves.await; std::future::pending().await } => Vec::new(),
            },
        }
    };
    let within = tokio::time::timeout(std::time::Duration::from_secs(60), exchanged);
    let exchanged = within.await;
    assert!(exchanged.is_ok(), "the connection does not end");
    exchanged.unwrap_or_default()
}
