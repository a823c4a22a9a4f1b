//! A server that answers Lyceum's `/chat` and `/chat/stream` in the documented shapes, and
//! in the wrong ones that a load generator must notice.

use std::{convert::Infallible, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use lyceum_sim::marker;
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Mutex};

/// What the server does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mistake {
    None,
    /// Answers every second request with the words of the one before.
    SwapsWords,
    /// Answers under the session of the request before.
    SwapsSessions,
    /// Never repeats the user's words.
    SaysNothing,
    /// Leaves out the end of a stream.
    NoEnd,
    /// Sends an error event.
    ErrorEvent,
    /// Refuses.
    Status(u16),
    /// Says something that is not of the shape.
    Shapeless,
}

/// What the last request said: its words and its session.
type Last = Mutex<(String, String)>;

/// Serves until the runtime ends.
pub(crate) async fn serve(mistake: Mistake) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let last = Arc::new(Last::default());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let last = Arc::clone(&last);
            let service = service_fn(move |request| {
                let last = Arc::clone(&last);
                async move { Ok::<_, Infallible>(answer(mistake, &last, request).await) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    addr
}

async fn answer(
    mistake: Mistake,
    last: &Last,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let streamed = request.uri().path() == "/chat/stream";
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let body: Value = serde_json::from_slice(&body).unwrap();
    let mut words = body["explanation"].as_str().unwrap().to_owned();
    let mut session = body["session_id"].as_str().unwrap().to_owned();
    let (last_words, last_session) =
        std::mem::replace(&mut *last.lock().await, (words.clone(), session.clone()));
    match mistake {
        Mistake::SwapsWords if !last_words.is_empty() => words = last_words,
        Mistake::SwapsSessions if !last_session.is_empty() => session = last_session,
        Mistake::SaysNothing => words.clear(),
        Mistake::Status(status) => {
            let refused = Response::builder()
                .status(status)
                .header("retry-after", "0");
            return refused.body(Full::from("{\"detail\":\"no\"}")).unwrap();
        }
        _ => {}
    }
    let mark = marker::find(&words).next().unwrap_or_default();
    let question = format!("What is {mark}?");
    if !streamed {
        let mut memory = body["short_term_memory"].as_array().unwrap().clone();
        memory.push(json!({"role": "user", "content": words}));
        let mut answer = json!({
            "questions": [question], "session_id": session, "short_term_memory": memory,
        });
        if mistake == Mistake::Shapeless {
            answer["questions"] = json!("none");
        }
        return Response::new(Full::from(answer.to_string()));
    }
    let mut events = vec![json!({"node": "question_generator"})];
    let (one, two) = question.split_at(question.len() / 2);
    events.extend([json!(one), json!(two)]);
    match mistake {
        Mistake::NoEnd => {}
        Mistake::ErrorEvent => events.push(json!({"error": {"detail": "the model failed"}})),
        _ => events.push(json!("[END_OF_STREAM]")),
    }
    let mut lines: String = events
        .iter()
        .map(|event| format!("data: {event}\n\n"))
        .collect();
    if mistake == Mistake::Shapeless {
        lines.insert_str(0, "data: {what\n\n");
    }
    Response::new(Full::from(lines))
}
