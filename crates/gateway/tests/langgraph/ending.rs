//! A connection to a thread ends with the key that it was opened with.

use futures_util::StreamExt;
use lyceum_gateway::KeyRules;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    client_async,
    tungstenite::{Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};

use crate::{
    client::{Api, Gated, platform},
    support::{Scripted, key, served, soon, with_keys},
};

#[tokio::test]
async fn the_socket_of_a_thread_ends_with_its_key() {
    let gateway = with_keys(
        Scripted::thorough(),
        vec![key("alice", KeyRules::default())],
    )
    .with_langgraph(platform(Gated::open()));
    let api = Api(served(&gateway).await);
    let thread = api.thread("alice").await;
    let port = api.0.address.port();
    let url = format!("ws://localhost:{port}/threads/{thread}/stream/events");
    let mut asked = url.into_client_request().unwrap();
    let secret = "alice".parse().unwrap();
    asked.headers_mut().insert("x-api-key", secret);
    let stream = TcpStream::connect(api.0.address).await.unwrap();
    let (mut socket, _) = client_async(asked, stream).await.unwrap();

    gateway.set_keys(&[]);
    let closed = async {
        loop {
            match socket.next().await {
                Some(Ok(Message::Ping(_))) => {}
                other => break other,
            }
        }
    };
    match soon(closed).await {
        Some(Ok(Message::Close(Some(frame)))) => assert_eq!(frame.code, CloseCode::Policy),
        other => panic!("{other:?}"),
    }
}
