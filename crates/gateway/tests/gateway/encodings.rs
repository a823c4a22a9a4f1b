//! Bodies that come compressed, and answers that go so.

use std::io::{Read, Write};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use lyceum_gateway::{GatewayConfig, Limits, ServerConfig};
use lyceum_observe::Health;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    EXPLANATION, Reply, Running, Scripted, gateway, listen, post, request, serve, soon,
};

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

/// An answer as it came: its head, and its bytes.
async fn fetch(server: &Running, request: Vec<u8>) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&request).await.unwrap();
    let mut bytes = Vec::new();
    soon(stream.read_to_end(&mut bytes)).await.unwrap();
    let end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = String::from_utf8(bytes[..end].to_vec())
        .unwrap()
        .to_lowercase();
    (head, bytes[end + 4..].to_vec())
}

fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut joined = Vec::new();
    loop {
        let end = bytes.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&bytes[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return joined;
        }
        joined.extend(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

#[tokio::test]
async fn whole_texts_go_compressed_to_who_asks_for_it() {
    let server = serve(Scripted::thorough()).await;
    let plain = server.get("/openapi.json").await;
    assert_eq!(plain.header("content-encoding"), None);
    let asks = |encoding| [("Accept-Encoding", encoding)];
    for path in ["/openapi.json", "/", "/assets/app.js"] {
        let (head, _) = fetch(&server, request("GET", path, &asks("gzip"), b"")).await;
        assert!(head.contains("content-encoding: gzip"), "{path}: {head}");
        assert!(
            head.contains("vary: ") && head.contains("accept-encoding"),
            "{head}"
        );
        assert!(!head.contains("etag: \""), "a strong tag: {head}");
    }
    let (_, body) = fetch(&server, request("GET", "/openapi.json", &asks("gzip"), b"")).await;
    let mut text = String::new();
    GzDecoder::new(&unchunked(&body)[..])
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(text, plain.body);
    for encoding in ["br", "zstd"] {
        let (head, body) = fetch(
            &server,
            request("GET", "/openapi.json", &asks(encoding), b""),
        )
        .await;
        assert!(
            head.contains(&format!("content-encoding: {encoding}")),
            "{head}"
        );
        assert!(body.len() < plain.body.len() / 4);
    }
}

#[tokio::test]
async fn streams_and_small_answers_are_never_compressed() {
    let server = serve(Scripted::thorough()).await;
    let headers = [("Accept-Encoding", "gzip, br, zstd")];
    let reply = server
        .send(post("/chat/stream", &headers, EXPLANATION.as_bytes()))
        .await;
    assert_eq!(reply.header("content-encoding"), None);
    assert!(reply.body.contains("[END_OF_STREAM]"));
    let reply = server.send(request("GET", "/livez", &headers, b"")).await;
    assert_eq!(
        (reply.status, reply.header("content-encoding")),
        (200, None)
    );
}
