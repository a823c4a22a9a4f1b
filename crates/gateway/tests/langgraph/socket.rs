//! A thread's stream over a WebSocket.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _, protocol::frame::coding::CloseCode},
};

use crate::{
    client::{Api, Gated, keys_of, platform, serve_gateway, with_platform},
    support::soon,
};

type Socket = WebSocketStream<TcpStream>;

async fn connect(api: &Api, key: &str) -> Socket {
    let thread = api.thread(key).await;
    let stream = TcpStream::connect(api.0.address).await.unwrap();
    let port = api.0.address.port();
    let url = format!("ws://localhost:{port}/threads/{thread}/stream/events");
    let mut request = url.into_client_request().unwrap();
    if !key.is_empty() {
        request
            .headers_mut()
            .insert("x-api-key", key.parse().unwrap());
    }
    client_async(request, stream).await.unwrap().0
}

async fn asked(socket: &mut Socket) -> Option<Value> {
    let frame = json!({ "id": 1, "method": "agent.getTree", "params": {} });
    socket.send(Message::text(frame.to_string())).await.ok()?;
    loop {
        match soon(socket.next()).await?.ok()? {
            Message::Text(text) => return serde_json::from_str(&text).ok(),
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

async fn closed(mut socket: Socket) -> Option<CloseCode> {
    while let Some(Ok(message)) = soon(socket.next()).await {
        if let Message::Close(frame) = message {
            return frame.map(|frame| frame.code);
        }
    }
    None
}

#[tokio::test]
async fn a_connection_ends_with_its_key() {
    let keys = keys_of(&[("alice", "school", "alice"), ("bob", "school", "bob")]);
    let gateway = with_platform(platform(Gated::open()), &keys);
    let api = serve_gateway(&gateway).await;
    let (mut alice, mut bob) = (connect(&api, "alice").await, connect(&api, "bob").await);
    for socket in [&mut alice, &mut bob] {
        assert_eq!(asked(socket).await.unwrap()["type"], "success");
    }
    gateway.set_keys(&keys[1..]);
    assert_eq!(closed(alice).await, Some(CloseCode::Policy));
    assert_eq!(asked(&mut bob).await.unwrap()["type"], "success");
}

#[tokio::test]
async fn who_came_without_a_key_asks_nothing_more_once_there_is_one() {
    let gateway = with_platform(platform(Gated::open()), &[]);
    let api = serve_gateway(&gateway).await;
    let mut socket = connect(&api, "").await;
    assert_eq!(asked(&mut socket).await.unwrap()["type"], "success");
    gateway.set_keys(&keys_of(&[("alice", "school", "alice")]));
    assert!(asked(&mut socket).await.is_none());
}

#[tokio::test]
async fn frames_count_like_requests() {
    let mut keys = keys_of(&[("alice", "school", "alice")]);
    // One makes the thread, one opens the connection.
    keys[0].rules.requests_per_minute = std::num::NonZeroU32::new(3);
    let gateway = with_platform(platform(Gated::open()), &keys);
    let api = serve_gateway(&gateway).await;
    let mut socket = connect(&api, "alice").await;
    let kinds = [
        asked(&mut socket).await.unwrap()["type"].clone(),
        asked(&mut socket).await.unwrap()["type"].clone(),
    ];
    assert_eq!(kinds, ["success", "error"]);
}
