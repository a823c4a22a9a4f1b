//! A student behind HTTP: the server starts on a free port, answers one request and drains.
//!
//! ```console
//! cargo run -p lyceum-examples --example gateway
//! ```
//!
//! The client is a bare socket, to show the bytes. For a server to keep, run `lyceum`.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use lyceum_agents::{Feynman, FeynmanConfig, Mind};
use lyceum_gateway::{Catalog, Gateway, GatewayConfig, Info, Server, ServerConfig, Services};
use lyceum_memory::{InMemory, Memory, MemoryConfig};
use lyceum_observe::{Health, Lifecycle, ProcessWatch};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

/// The gateway knows the student by its port alone; any other `Student` would do.
fn gateway() -> anyhow::Result<Gateway> {
    let store = Arc::new(InMemory::default());
    let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default());
    let student = Feynman::new(Mind::Offline, Vec::new(), memory, FeynmanConfig::default())?;
    let health = Health::default();
    health.enter(Lifecycle::Ready);
    let services = Services {
        student: Arc::new(student),
        models: Catalog::default(),
        health,
        metrics: Box::new(String::new), // `telemetry.render()` in a real program
        process: Arc::new(ProcessWatch::new()),
        info: Info {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            service_id: "example".to_owned(),
            provider: "offline".to_owned(),
            model: None,
        },
    };
    Ok(Gateway::new(&GatewayConfig::default(), services))
}

/// Sends an explanation over a connection of its own and returns the response's head and body.
async fn post_chat(server: SocketAddr, body: &Value) -> anyhow::Result<(String, Value)> {
    let body = body.to_string();
    let request = format!(
        "POST /chat HTTP/1.1\r\nhost: {server}\r\ncontent-type: application/json\r\n\
         content-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut connection = TcpStream::connect(server).await?;
    connection.write_all(request.as_bytes()).await?;
    let mut response = String::new();
    connection.read_to_string(&mut response).await?;
    let (head, body) = response.split_once("\r\n\r\n").context("half a response")?;
    Ok((head.to_owned(), serde_json::from_str(body)?))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let server = Server::new(gateway()?, ServerConfig::default());
    let bound = server.bind("127.0.0.1:0".parse()?).await?;
    let address = bound.local_addr();
    println!("listening on http://{address}");
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(bound.serve(shutdown.clone()));

    let explanation = json!({
        "topic": "tides",
        "explanation": "The sea rises because the Moon pulls it somehow. It always happens twice a day.",
    });
    let (head, lesson) = post_chat(address, &explanation).await?;
    println!("{head}\n\n{lesson:#}");
    assert!(head.starts_with("HTTP/1.1 200 "));
    assert_eq!(lesson["provider"], "offline");
    let questions = lesson["questions"].as_array().context("no questions")?;
    assert!((1..=5).contains(&questions.len()));

    shutdown.cancel(); // what runs may finish, nothing new is taken
    let stopped = serving.await?;
    println!("stopped; {} connections were cut", stopped.cut);
    assert_eq!(stopped.cut, 0);
    Ok(())
}
