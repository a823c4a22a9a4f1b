//! One line per request, at its real end, with nothing a learner wrote.
//!
//! One recorder serves the whole test program, because `tracing` caches per call site
//! whether anybody listens; a test finds its own lines by its request id.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    error::Error,
    fmt,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use futures_util::{StreamExt, stream};
use lyceum_core::{TeachError, TeachEvent, TeachStream};
use lyceum_gateway::{GatewayConfig, Server, ServerConfig};
use lyceum_observe::Health;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_core::span::Current;

use crate::support::{EXPLANATION, Reply, Scripted, gateway, post, request};

type Fields = BTreeMap<String, String>;

/// Keeps events with the fields of the spans around them.
#[derive(Default)]
struct Recorder {
    last_id: AtomicU64,
    spans: Mutex<BTreeMap<u64, (&'static Metadata<'static>, Fields)>>,
    events: Mutex<Vec<Fields>>,
}

thread_local! {
    /// The spans that are entered; every test has a thread of its own.
    static ENTERED: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
}

struct Taking<'a>(&'a mut Fields);

impl Visit for Taking<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
    fn record_error(&mut self, field: &Field, mut value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        while let Some(source) = value.source() {
            value = source;
            text = format!("{text}: {value}");
        }
        self.0.insert(field.name().to_owned(), text);
    }
}

impl Subscriber for &'static Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("lyceum_gateway")
    }
    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let mut fields = Fields::new();
        attributes.record(&mut Taking(&mut fields));
        let span = (attributes.metadata(), fields);
        self.spans.lock().unwrap().insert(id, span);
        Id::from_u64(id)
    }
    fn record(&self, id: &Id, values: &Record<'_>) {
        if let Some((_, fields)) = self.spans.lock().unwrap().get_mut(&id.into_u64()) {
            values.record(&mut Taking(fields));
        }
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::new();
        for id in ENTERED.with_borrow(Clone::clone) {
            fields.extend(self.spans.lock().unwrap()[&id].1.clone());
        }
        fields.insert("level".into(), event.metadata().level().to_string());
        event.record(&mut Taking(&mut fields));
        self.events.lock().unwrap().push(fields);
    }
    fn enter(&self, id: &Id) {
        ENTERED.with_borrow_mut(|entered| entered.push(id.into_u64()));
    }
    fn exit(&self, _: &Id) {
        ENTERED.with_borrow_mut(Vec::pop);
    }
    fn current_span(&self) -> Current {
        match ENTERED.with_borrow(|entered| entered.last().copied()) {
            Some(id) => Current::new(Id::from_u64(id), self.spans.lock().unwrap()[&id].0),
            None => Current::none(),
        }
    }
}

fn recorder() -> &'static Recorder {
    static RECORDER: OnceLock<&'static Recorder> = OnceLock::new();
    RECORDER.get_or_init(|| {
        let recorder: &'static Recorder = Box::leak(Box::default());
        tracing::subscriber::set_global_default(recorder).unwrap();
        recorder
    })
}

/// Everything that was logged under a request id.
fn logged(id: &str) -> Vec<Fields> {
    let events = recorder().events.lock().unwrap();
    let is_mine = |fields: &&Fields| fields.get("request_id").is_some_and(|known| known == id);
    events.iter().filter(is_mine).cloned().collect()
}

/// The one line that tells how a request ended.
fn ending(id: &str) -> Fields {
    let mut lines = logged(id);
    lines.retain(|fields| fields["message"] == "request");
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.remove(0)
}

/// Serves one raw request until its connection has ended.
async fn served(student: Arc<Scripted>, request: &[u8]) -> Reply {
    recorder();
    let gateway = gateway(student, &GatewayConfig::default(), Health::default());
    let server = Server::new(gateway, ServerConfig::default());
    let (mut client, io) = duplex(1 << 20);
    let serving = tokio::spawn(async move { server.connection(io).await });
    client.write_all(request).await.unwrap();
    let reply = Reply::read(&mut client).await;
    serving.await.unwrap();
    reply
}

#[tokio::test]
async fn one_line_tells_how_a_request_ended() {
    for (path, id) in [("/chat", "whole"), ("/chat/stream", "streamed")] {
        let request = post(path, &[("x-request-id", id)], EXPLANATION.as_bytes());
        let reply = served(Scripted::thorough(), &request).await;
        let line = ending(id);
        let bytes = reply.body.len().to_string();
        for (name, value) in [
            ("session", "s-1"),
            ("method", "POST"),
            ("endpoint", path),
            ("status", "200"),
            ("outcome", "complete"),
            ("bytes", &bytes),
            ("level", "INFO"),
        ] {
            assert_eq!(line.get(name).map(String::as_str), Some(value), "{line:?}");
        }
    }
}

#[tokio::test]
async fn a_path_is_logged_as_its_route_only() {
    let headers = [("x-request-id", "lost")];
    let request = request("GET", "/secret/path?key=1", &headers, b"");
    served(Scripted::thorough(), &request).await;
    assert_eq!(ending("lost")["endpoint"], "unmatched");
    assert!(!format!("{:?}", logged("lost")).contains("secret"));
}

#[tokio::test]
async fn a_client_that_leaves_is_told_from_one_that_stayed() {
    recorder();
    let student = Scripted::new(|_| {
        let word = stream::iter([Ok(TeachEvent::Text("hm".into()))]);
        Box::pin(word.chain(stream::pending())) as TeachStream
    });
    let gateway = gateway(
        student.clone(),
        &GatewayConfig::default(),
        Health::default(),
    );
    let server = Server::new(gateway, ServerConfig::default());
    for (path, id, status) in [
        ("/chat/stream", "left-1", "200"),
        ("/chat", "left-2", "499"),
    ] {
        let (mut client, io) = duplex(1 << 20);
        let server = server.clone();
        let serving = tokio::spawn(async move { server.connection(io).await });
        let request = post(path, &[("x-request-id", id)], EXPLANATION.as_bytes());
        client.write_all(&request).await.unwrap();
        if path == "/chat/stream" {
            client.read_u8().await.unwrap();
        }
        while student
            .taught
            .lock()
            .unwrap()
            .iter()
            .all(|(call, _)| call.request.as_str() != id)
        {
            tokio::task::yield_now().await;
        }
        drop(client);
        serving.await.unwrap();
        let line = ending(id);
        assert_eq!(line["status"], status);
        assert_eq!(line["outcome"], "client_gone");
    }
}

#[tokio::test]
async fn the_cause_of_a_failure_is_logged_with_the_request_id() {
    let student = Scripted::failing(|| TeachError::Storage {
        retryable: false,
        source: "disk full".into(),
    });
    let request = post(
        "/chat",
        &[("x-request-id", "failed")],
        EXPLANATION.as_bytes(),
    );
    let reply = served(student, &request).await;
    assert_eq!(reply.header("x-request-id"), Some("failed"));
    let lines = logged("failed");
    let line = lines
        .iter()
        .find(|line| line["message"] == "student failed")
        .unwrap();
    assert_eq!(line["reason"], "storage");
    assert!(line["error"].contains("disk full"), "{line:?}");
}

#[tokio::test]
async fn nothing_a_learner_wrote_is_logged() {
    let cut = r#"{"topic":"photosynthesis","explanation":"Plants turn light"#;
    for (body, id) in [(EXPLANATION, "quiet-1"), (cut, "quiet-2")] {
        let request = post("/chat/stream", &[("x-request-id", id)], body.as_bytes());
        served(Scripted::thorough(), &request).await;
        assert_eq!(ending(id)["endpoint"], "/chat/stream");
        let everything = format!("{:?}", logged(id));
        for words in ["photosynthesis", "Plants", "Why", "turn light"] {
            assert!(!everything.contains(words), "{words} in {everything}");
        }
    }
}
