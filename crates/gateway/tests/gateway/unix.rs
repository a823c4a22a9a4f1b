//! A Unix socket instead of a port.

use std::{fs, os::unix::fs::PermissionsExt};

use lyceum_gateway::{Address, BindError, GatewayConfig, Server, ServerConfig};
use lyceum_observe::Health;
use tokio::{io::AsyncWriteExt, net::UnixStream};
use tokio_util::sync::CancellationToken;

use crate::support::{Reply, Scripted, gateway, request};

fn server() -> Server {
    let config = GatewayConfig::default();
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    Server::new(gateway, ServerConfig::default())
}

#[tokio::test]
async fn a_socket_is_served_guarded_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lyceum.sock");
    let bound = server().bind_unix(&path).await.unwrap();
    assert_eq!(bound.address(), &Address::Unix(path.clone()));
    assert_eq!(
        bound.address().to_string(),
        format!("unix:{}", path.display())
    );
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(shutdown.clone()));
    let mut client = UnixStream::connect(&path).await.unwrap();
    client
        .write_all(&request("GET", "/livez", &[], b""))
        .await
        .unwrap();
    assert_eq!(Reply::read(&mut client).await.status, 200);
    // Somebody listens: it is not taken away.
    let taken = server().bind_unix(&path).await.unwrap_err();
    assert!(matches!(taken, BindError::Socket { .. }));
    assert!(taken.to_string().contains("another program"), "{taken}");
    shutdown.cancel();
    assert_eq!(serving.await.unwrap().cut, 0);
    assert!(!path.exists());
}

#[tokio::test]
async fn what_an_ended_process_left_is_replaced_and_other_files_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("left.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let bound = server().bind_unix(&path).await.unwrap();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    drop(bound);
    let file = dir.path().join("notes.txt");
    fs::write(&file, "mine").unwrap();
    let refused = server().bind_unix(&file).await.unwrap_err();
    assert!(refused.to_string().contains("no socket"), "{refused}");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    let nowhere = server()
        .bind_unix(dir.path().join("no/such"))
        .await
        .unwrap_err();
    assert!(nowhere.to_string().contains("folder"), "{nowhere}");
}
