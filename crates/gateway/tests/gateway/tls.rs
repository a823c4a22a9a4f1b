//! TLS: certificates from files that change, and slow clients.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use lyceum_gateway::{GatewayConfig, Server, ServerConfig, Tls, TlsError};
use lyceum_observe::Health;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    time::{Instant, sleep},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, pem::PemObject},
    },
};
use tokio_util::sync::CancellationToken;

use crate::support::{EXPLANATION, Scripted, gateway, soon};

/// A certificate for `localhost` and its key, in PEM.
fn made() -> (String, String) {
    let names = vec!["localhost".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    (cert.pem(), signing_key.serialize_pem())
}

struct Files {
    _dir: TempDir,
    cert: PathBuf,
    key: PathBuf,
}

impl Files {
    fn new((cert, key): &(String, String)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = Self {
            cert: dir.path().join("cert.pem"),
            key: dir.path().join("key.pem"),
            _dir: dir,
        };
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        files
    }

    fn open(&self) -> Result<Tls, TlsError> {
        Tls::open(&self.cert, &self.key)
    }
}

fn server() -> Server {
    let config = GatewayConfig::default();
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    Server::new(gateway, ServerConfig::default())
}

async fn listen(tls: Arc<Tls>) -> (u16, CancellationToken) {
    let any = "127.0.0.1:0".parse().unwrap();
    let bound = server().with_tls(tls).bind(any).await.unwrap();
    assert!(bound.is_encrypted());
    let (port, shutdown) = (bound.local_addr().port(), CancellationToken::new());
    tokio::spawn(bound.serve(shutdown.clone()));
    (port, shutdown)
}

/// A client that trusts this certificate alone.
fn trusting(cert: &str) -> reqwest::ClientBuilder {
    let cert = reqwest::Certificate::from_pem(cert.as_bytes()).unwrap();
    reqwest::Client::builder().no_proxy().tls_certs_only([cert])
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_over_tls() {
    let pair = made();
    let files = Files::new(&pair);
    let (port, _shutdown) = listen(Arc::new(files.open().unwrap())).await;
    let url = format!("https://localhost:{port}");
    let clients = [
        (trusting(&pair.0), http::Version::HTTP_2),
        (trusting(&pair.0).http1_only(), http::Version::HTTP_11),
    ];
    for (client, version) in clients {
        let client = client.build().unwrap();
        let reply = client.get(format!("{url}/livez")).send().await.unwrap();
        assert_eq!(
            (reply.status(), reply.version()),
            (http::StatusCode::OK, version)
        );
        assert_eq!(
            reply.headers()["strict-transport-security"],
            "max-age=31536000"
        );
        // A page's own request is told by its origin, in either version.
        let taught = |origin: String| {
            let post = client.post(format!("{url}/chat")).header("origin", origin);
            post.header("content-type", "application/json")
                .body(EXPLANATION)
                .send()
        };
        assert_eq!(
            taught(url.clone()).await.unwrap().status(),
            200,
            "{version:?}"
        );
        let foreign = taught("https://evil.example".into()).await.unwrap();
        assert_eq!(foreign.status(), 403, "{version:?}");
    }
    // Without TLS there is nothing to talk to.
    let plain = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(
        plain
            .get(format!("http://localhost:{port}/livez"))
            .send()
            .await
            .is_err()
    );
}

#[tokio::test]
async fn a_new_certificate_is_taken_up_and_a_bad_one_is_not() {
    let (old, new) = (made(), made());
    let files = Files::new(&old);
    let tls = Arc::new(files.open().unwrap());
    let (port, _shutdown) = listen(Arc::clone(&tls)).await;
    let url = format!("https://localhost:{port}/livez");
    let fetch = async |client: &reqwest::Client| {
        Some(client.get(&url).send().await.ok()?.status().as_u16())
    };
    let fresh = async |cert: &str| fetch(&trusting(cert).build().unwrap()).await;
    let keeping = trusting(&old.0).build().unwrap();
    assert_eq!(fetch(&keeping).await, Some(200));
    assert!(!tls.reload().unwrap(), "nothing changed");

    // One file of two: they do not fit together yet.
    fs::write(&files.cert, &new.0).unwrap();
    let error = tls.reload().unwrap_err();
    assert!(matches!(error, TlsError::Pair { .. }), "{error}");
    assert!(error.to_string().contains("cert.pem"), "{error}");
    assert!(!tls.reload().unwrap(), "it is told once");
    assert_eq!(fresh(&old.0).await, Some(200));

    fs::write(&files.key, &new.1).unwrap();
    assert!(tls.reload().unwrap());
    assert_eq!(fresh(&new.0).await, Some(200));
    assert_eq!(fresh(&old.0).await, None);
    assert_eq!(
        fetch(&keeping).await,
        Some(200),
        "an open connection goes on"
    );

    for (cert, key) in [
        ("", &*new.1),
        ("-----BEGIN CERTIFICATE-----", &new.1),
        (&new.0, "no key"),
    ] {
        fs::write(&files.cert, cert).unwrap();
        fs::write(&files.key, key).unwrap();
        let error = tls.reload().unwrap_err();
        let named = matches!(
            error,
            TlsError::NoCertificate { .. } | TlsError::NoKey { .. }
        );
        assert!(named, "{error}");
    }
    fs::remove_file(&files.key).unwrap();
    assert!(matches!(
        tls.reload().unwrap_err(),
        TlsError::Unreadable { .. }
    ));
    assert_eq!(fresh(&new.0).await, Some(200));
}

#[test]
fn a_pair_that_does_not_work_is_refused_at_the_start() {
    let (one, other) = (made(), made());
    let mixed = Files::new(&(one.0, other.1));
    assert!(matches!(mixed.open().unwrap_err(), TlsError::Pair { .. }));
    let missing = Tls::open("/nowhere/cert.pem", "/nowhere/key.pem").unwrap_err();
    assert!(
        missing.to_string().contains("/nowhere/cert.pem"),
        "{missing}"
    );
}

fn connect() -> (DuplexStream, TlsConnector) {
    let pair = made();
    let files = Files::new(&pair);
    let server = server().with_tls(Arc::new(files.open().unwrap()));
    let (client, io) = duplex(1 << 16);
    tokio::spawn(async move { server.connection(io).await });
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(pair.0.as_bytes()).unwrap())
        .unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (client, TlsConnector::from(Arc::new(config)))
}

#[tokio::test(start_paused = true)]
async fn slowloris_over_tls_is_cut_off_after_ten_seconds() {
    // One that never begins its handshake, and one that breaks off in it.
    for hello in [&b""[..], b"\x16\x03\x01\x02\x00\x01"] {
        let (mut client, _) = connect();
        let begun = Instant::now();
        client.write_all(hello).await.unwrap();
        let mut rest = Vec::new();
        let _ = soon(client.read_to_end(&mut rest)).await;
        assert_eq!(begun.elapsed().as_secs(), 10, "{hello:?}");
    }
    // One that sends its headers by the byte.
    let (client, connector) = connect();
    let tls = connector
        .connect("localhost".try_into().unwrap(), client)
        .await
        .unwrap();
    let (mut reader, mut writer) = tokio::io::split(tls);
    let begun = Instant::now();
    tokio::spawn(async move {
        for byte in
            b"GET / HTTP/1.1\r\nHost: localhost\r\nX: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy"
        {
            if writer.write_all(&[*byte]).await.is_err() || writer.flush().await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    let mut rest = Vec::new();
    let _ = soon(reader.read_to_end(&mut rest)).await;
    assert!(
        (9..=11).contains(&begun.elapsed().as_secs()),
        "{:?}",
        begun.elapsed()
    );
}
