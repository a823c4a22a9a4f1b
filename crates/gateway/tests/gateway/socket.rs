//! Streams over a WebSocket, with another implementation as the client.

use std::sync::Arc;

use futures_util::{SinkExt, StreamExt, stream};
use lyceum_core::{TeachEvent, TeachStream};
use lyceum_gateway::{GatewayConfig, Limits, ServerConfig};
use lyceum_observe::Health;
use serde_json::{Value, json};
use tokio::{net::TcpStream, sync::Semaphore};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, protocol::frame::coding::CloseCode},
};
use tokio_util::sync::CancellationToken;

use crate::support::{Running, Scripted, all_events, gateway, listen, request, serve, soon};

struct Client(WebSocketStream<TcpStream>);

impl Client {
    async fn connect(server: &Running) -> Self {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let url = format!("ws://localhost:{}/ws", server.address.port());
        let (socket, _) = client_async(url, stream).await.unwrap();
        Self(socket)
    }

    async fn send(&mut self, frame: Value) {
        self.0.send(Message::text(frame.to_string())).await.unwrap();
    }

    async fn next(&mut self) -> Value {
        loop {
            match soon(self.0.next()).await.unwrap().unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    async fn until_end(&mut self) -> Vec<Value> {
        let mut all = Vec::new();
        loop {
            all.push(self.next().await);
            if all.last().unwrap()["data"] == "[END_OF_STREAM]" {
                return all;
            }
        }
    }

    async fn close_code(mut self) -> Option<CloseCode> {
        while let Some(message) = soon(self.0.next()).await {
            match message {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code),
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
        None
    }
}

fn teach(reference: &str, durable: bool) -> Value {
    json!({
        "type": "teach", "ref": reference, "topic": "photosynthesis",
        "explanation": "Plants turn light into sugar.", "session_id": "s-1", "durable": durable,
    })
}

#[tokio::test]
async fn a_lesson_over_a_socket_has_the_events_of_its_stream() {
    let server = serve(Scripted::thorough()).await;
    let mut client = Client::connect(&server).await;
    client.send(teach("mine", false)).await;
    let open = client.next().await;
    assert_eq!(
        (&open["event"], &open["ref"]),
        (&json!("open"), &json!("mine"))
    );
    let told = client.until_end().await;
    let names: Vec<&str> = told
        .iter()
        .map(|one| one["event"].as_str().unwrap())
        .collect();
    assert_eq!(
        names,
        [
            "queued", "node", "tool", "gaps", "text", "text", "result", "text"
        ]
    );
    for (at, one) in told.iter().enumerate() {
        assert_eq!(one["id"], at + 1);
        assert_eq!(one["stream"], open["stream"]);
    }
    assert_eq!(told[4]["data"], "为什么\n");
    assert_eq!(told[6]["data"]["questions"], json!(["Why?"]));
}

/// A student of whom each event takes a permit; the token is cancelled when its work is dropped.
fn paced() -> (Arc<Scripted>, Arc<Semaphore>, CancellationToken) {
    let (permits, dropped) = (Arc::new(Semaphore::new(0)), CancellationToken::new());
    let (taken, drops) = (permits.clone(), dropped.clone());
    let student = Scripted::new(move |explanation| {
        let (taken, guard) = (taken.clone(), drops.clone().drop_guard());
        let events = stream::iter(all_events(&explanation)).then(move |event| {
            let _bound = &guard;
            let taken = taken.clone();
            async move {
                taken.acquire().await.unwrap().forget();
                Ok::<TeachEvent, _>(event)
            }
        });
        Box::pin(events) as TeachStream
    });
    (student, permits, dropped)
}

#[tokio::test]
async fn a_durable_lesson_is_gone_on_with_over_another_socket() {
    let (student, permits, _) = paced();
    let server = serve(student).await;
    let mut client = Client::connect(&server).await;
    client.send(teach("a", true)).await;
    let stream = client.next().await["stream"].clone();
    permits.add_permits(3);
    for _ in 0..3 {
        client.next().await;
    }
    drop(client);
    permits.add_permits(100);

    let mut client = Client::connect(&server).await;
    client
        .send(json!({"type": "resume", "ref": "b", "stream": stream, "after": 2}))
        .await;
    assert_eq!(client.next().await["ref"], "b");
    // Twice on one connection would be every event twice.
    client
        .send(json!({"type": "resume", "ref": "c", "stream": stream, "after": 0}))
        .await;
    let mut rest = client.until_end().await;
    rest.retain(|one| match one["event"] == "refused" {
        true => {
            assert_eq!((&one["ref"], &one["status"]), (&json!("c"), &json!(400)));
            false
        }
        false => true,
    });
    let ids: Vec<u64> = rest.iter().map(|one| one["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [3, 4, 5, 6, 7, 8]);
}

#[tokio::test]
async fn work_that_is_not_durable_ends_with_its_socket_and_any_when_cancelled() {
    for (durable, leaves) in [(false, true), (true, false), (false, false)] {
        let (student, _permits, dropped) = paced();
        let server = serve(student).await;
        let mut client = Client::connect(&server).await;
        client.send(teach("a", durable)).await;
        let stream = client.next().await["stream"].clone();
        if leaves {
            drop(client);
        } else {
            client
                .send(json!({"type": "cancel", "stream": stream}))
                .await;
            let told = client.until_end().await;
            assert_eq!(told[0]["data"]["detail"], "the stream was cancelled");
        }
        soon(dropped.cancelled()).await;
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_and_the_socket_stays() {
    let config = GatewayConfig {
        limits: Limits {
            streams: 1,
            ..Limits::default()
        },
        ..GatewayConfig::default()
    };
    let (student, _permits, _) = paced();
    let gateway = gateway(student, &config, Health::default());
    let server = listen(gateway, ServerConfig::default()).await;
    let mut client = Client::connect(&server).await;
    let deep = "[".repeat(200);
    for (frame, status, detail) in [
        ("nonsense".to_owned(), 400, "not JSON"),
        (deep, 400, "nest"),
        ("{}".to_owned(), 422, "type"),
        (r#"{"type":"sing","ref":"x"}"#.to_owned(), 422, "sing"),
        (
            r#"{"type":"teach","topic":"t"}"#.to_owned(),
            422,
            "explanation",
        ),
        (
            r#"{"type":"resume","stream":"x"}"#.to_owned(),
            422,
            "stream",
        ),
        (
            r#"{"type":"resume","stream":"00000000-0000-4000-8000-000000000000"}"#.to_owned(),
            404,
            "no such stream",
        ),
    ] {
        client.0.send(Message::text(frame)).await.unwrap();
        let answer = client.next().await;
        assert_eq!(
            (&answer["event"], &answer["status"]),
            (&json!("refused"), &json!(status))
        );
        assert!(
            answer["detail"].as_str().unwrap().contains(detail),
            "{answer}"
        );
    }
    client.send(teach("first", false)).await;
    assert_eq!(client.next().await["event"], "open");
    client.send(teach("second", false)).await;
    let busy = client.next().await;
    assert_eq!(
        (&busy["status"], &busy["position"]),
        (&json!(503), &json!(1))
    );
    assert!(busy["queue_token"].is_string(), "{busy}");
}

#[tokio::test]
async fn a_message_above_the_limit_closes_the_socket_with_its_code() {
    let server = serve(Scripted::thorough()).await;
    let mut client = Client::connect(&server).await;
    let large = json!({"type": "teach", "topic": "t", "explanation": "x".repeat(110_000)});
    client.send(large).await;
    assert_eq!(client.close_code().await, Some(CloseCode::Size));
    let mut client = Client::connect(&server).await;
    client.0.send(Message::binary(vec![1, 2])).await.unwrap();
    assert_eq!(client.close_code().await, Some(CloseCode::Unsupported));
}

#[tokio::test]
async fn a_server_that_stops_lets_lessons_end_and_closes_idle_sockets() {
    let (student, permits, _) = paced();
    let server = serve(student).await;
    let mut busy = Client::connect(&server).await;
    let idle = Client::connect(&server).await;
    busy.send(teach("a", false)).await;
    busy.next().await;
    server.shutdown.cancel();
    assert_eq!(idle.close_code().await, Some(CloseCode::Away));
    busy.send(teach("late", false)).await;
    assert_eq!(busy.next().await["event"], "refused");
    permits.add_permits(100);
    assert_eq!(busy.until_end().await.len(), 8);
    assert_eq!(busy.close_code().await, Some(CloseCode::Away));
    assert_eq!(soon(server.stopped).await.unwrap().cut, 0);
}

#[tokio::test]
async fn other_requests_and_other_pages_get_no_socket() {
    let server = serve(Scripted::thorough()).await;
    let plain = server.send(request("GET", "/ws", &[], b"")).await;
    assert_eq!(plain.status, 426, "{plain:?}");
    assert_eq!(plain.header("upgrade"), Some("websocket"));

    let stream = TcpStream::connect(server.address).await.unwrap();
    let url = format!("ws://localhost:{}/ws", server.address.port());
    let mut foreign = url.into_client_request().unwrap();
    let origin = "http://evil.example".parse().unwrap();
    foreign.headers_mut().insert("origin", origin);
    match client_async(foreign, stream).await {
        Err(Error::Http(response)) => assert_eq!(response.status(), 403),
        other => panic!("{other:?}"),
    }
}
