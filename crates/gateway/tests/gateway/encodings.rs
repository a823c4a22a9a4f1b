//! Bodies that come compressed.

use std::io::Write;

use flate2::{Compression, write::GzEncoder};
use lyceum_gateway::{GatewayConfig, Limits, ServerConfig};
use lyceum_observe::Health;

use crate::support::{EXPLANATION, Reply, Running, Scripted, gateway, listen, post, serve};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

async fn send(server: &Running, encoding: &str, body: &[u8]) -> Reply {
    let headers = [("Content-Encoding", encoding)];
    server.send(post("/chat", &headers, body)).await
}

#[tokio::test]
async fn a_body_in_gzip_is_taken() {
    let server = serve(Scripted::thorough()).await;
    let packed = gzip(EXPLANATION.as_bytes());
    for encoding in ["gzip", "GZIP"] {
        let reply = send(&server, encoding, &packed).await;
        assert_eq!(reply.status, 200, "{reply:?}");
    }
    // A body of several members is one body: RFC 1952, section 2.2.
    let (first, second) = EXPLANATION.as_bytes().split_at(20);
    let members = [gzip(first), gzip(second)].concat();
    assert_eq!(send(&server, "gzip", &members).await.status, 200);
}

#[tokio::test]
async fn gzip_bombs_are_refused_by_what_they_hold() {
    let limits = Limits {
        body_bytes: 100_000,
        ..Limits::default()
    };
    let config = GatewayConfig {
        limits,
        ..GatewayConfig::default()
    };
    let student = Scripted::thorough();
    let server = listen(
        gateway(student.clone(), &config, Health::default()),
        ServerConfig::default(),
    )
    .await;
    let bomb = gzip(&vec![b' '; 50 << 20]);
    assert!(bomb.len() < 100_000, "{}", bomb.len());
    let reply = send(&server, "gzip", &bomb).await;
    assert_eq!(reply.status, 413);
    assert!(reply.detail().contains("100000 bytes"));
    // Members that hold nothing never reach the limit of what they hold.
    let empty = gzip(b"").repeat(10_000);
    assert_eq!(send(&server, "gzip", &empty).await.status, 413);
    assert!(student.taught.lock().unwrap().is_empty());
}

#[tokio::test]
async fn what_is_no_gzip_or_another_encoding_is_refused() {
    let server = serve(Scripted::thorough()).await;
    let packed = gzip(EXPLANATION.as_bytes());
    let mut broken = packed.clone();
    let at = broken.len() - 6;
    broken[at] ^= 1;
    let trailed = [&packed[..], b"and more"].concat();
    for body in [
        EXPLANATION.as_bytes(),
        &packed[..packed.len() - 4],
        &broken,
        &trailed,
        b"",
    ] {
        let reply = send(&server, "gzip", body).await;
        assert_eq!(reply.status, 400, "{reply:?}");
    }
    for encoding in ["br", "deflate", "zstd", "gzip, gzip"] {
        let reply = send(&server, encoding, &packed).await;
        assert_eq!(reply.status, 415, "{encoding}");
        assert_eq!(reply.header("accept-encoding"), Some("gzip"));
    }
}
