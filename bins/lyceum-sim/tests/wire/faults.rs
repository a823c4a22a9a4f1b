//! What each fault looks like on the wire, in both formats.

use crate::client::{End, Response, chat, chat_stream, post, send, until};
use lyceum_sim::{Fault, FaultRule, Running, SimConfig, Simulator};
use serde_json::{Value, json};

async fn faulty(fault: Fault) -> Running {
    Simulator::start(SimConfig {
        faults: vec![FaultRule::always(fault)],
        ..SimConfig::default()
    })
    .await
    .unwrap()
}

const OPEN_AI: &str = "/v1/chat/completions";
const ANTHROPIC: &str = "/v1/messages";

fn message(stream: bool) -> Value {
    json!({"model": "m", "max_tokens": 100, "stream": stream,
           "messages": [{"role": "user", "content": "hello"}]})
}

/// The answers to a stream and to a whole request in both formats.
async fn answers(fault: Fault) -> [Response; 4] {
    let sim = faulty(fault).await;
    let answers = [
        post(&sim, OPEN_AI, &chat_stream("hello")).await,
        post(&sim, OPEN_AI, &chat("hello")).await,
        post(&sim, ANTHROPIC, &message(true)).await,
        post(&sim, ANTHROPIC, &message(false)).await,
    ];
    assert_eq!(sim.stats().faults_of(fault), 4);
    answers
}

#[tokio::test]
async fn statuses() {
    let cases = [
        (Fault::RateLimited, 429, 429, "rate_limit_error"),
        (Fault::ServerError, 500, 500, "api_error"),
        (Fault::Overloaded, 503, 529, "overloaded_error"),
    ];
    for (fault, open_ai, anthropic, kind) in cases {
        let [one, two, three, four] = answers(fault).await;
        assert_eq!([one.status, two.status], [open_ai; 2]);
        assert_eq!([three.status, four.status], [anthropic; 2]);
        assert_eq!(four.json()["error"]["type"], kind);
        let retry = (fault == Fault::RateLimited).then_some("1");
        assert_eq!(
            [one.header("retry-after"), four.header("retry-after")],
            [retry; 2]
        );
    }
}

#[tokio::test]
async fn a_reset_comes_after_half_the_answer() {
    for answer in answers(Fault::Reset).await {
        assert_eq!((answer.status, answer.end), (200, End::Reset));
        assert!(!answer.body.is_empty());
    }
}

#[tokio::test]
async fn a_truncated_answer_ends_regularly() {
    let [one, two, three, four] = answers(Fault::Truncate).await;
    for answer in [&one, &three] {
        assert_eq!((answer.status, &answer.end), (200, &End::Whole));
        assert!(answer.events().len() > 2);
        assert!(!answer.body.contains("[DONE]") && !answer.body.contains("message_stop"));
    }
    for answer in [two, four] {
        assert_eq!(answer.end, End::Whole);
        assert!(serde_json::from_str::<Value>(&answer.body).is_err());
    }
}

#[tokio::test]
async fn a_malformed_answer_has_one_broken_part() {
    let [one, two, three, four] = answers(Fault::Malformed).await;
    for answer in [&one, &three] {
        let events = answer.events();
        let broken =
            |data: &&&str| **data != "[DONE]" && serde_json::from_str::<Value>(data).is_err();
        assert_eq!(events.iter().filter(broken).count(), 1);
    }
    assert!(one.body.ends_with("[DONE]\n\n"));
    assert!(three.body.contains("message_stop"));
    for answer in [two, four] {
        assert!(serde_json::from_str::<Value>(&answer.body).is_err());
    }
}

#[tokio::test]
async fn an_error_event_is_the_last() {
    let [one, two, three, four] = answers(Fault::ErrorEvent).await;
    let last: Value = serde_json::from_str(one.events().last().unwrap()).unwrap();
    assert_eq!(last["error"]["type"], "server_error");
    let last: Value = serde_json::from_str(three.events().last().unwrap()).unwrap();
    assert_eq!(
        (&last["type"], &last["error"]["type"]),
        (&json!("error"), &json!("overloaded_error"))
    );
    assert!(three.body.contains("event: error\n"));
    assert_eq!([two.status, four.status], [500, 500]);
}

#[tokio::test(start_paused = true)]
async fn a_trickle_is_the_same_answer_byte_by_byte() {
    let regular = Simulator::start(SimConfig::default()).await.unwrap();
    let expected = post(&regular, ANTHROPIC, &message(true)).await;
    let sim = faulty(Fault::Trickle).await;
    let begun = tokio::time::Instant::now();
    let slow = post(&sim, ANTHROPIC, &message(true)).await;
    assert_eq!(slow.body, expected.body);
    let least = std::time::Duration::from_millis(10) * u32::try_from(slow.body.len() - 1).unwrap();
    assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
    assert_eq!(sim.stats().answered, 1);
}

#[tokio::test]
async fn hangs_end_only_when_the_client_leaves() {
    for fault in [Fault::HangBeforeHeaders, Fault::HangInBody] {
        let sim = faulty(fault).await;
        let mut stream = send(&sim, OPEN_AI, &chat_stream("hello")).await;
        until(&sim, |stats| stats.active == 1).await;
        if fault == Fault::HangInBody {
            let mut head = [0; 15];
            tokio::io::AsyncReadExt::read_exact(&mut stream, &mut head)
                .await
                .unwrap();
            assert_eq!(&head, b"HTTP/1.1 200 OK");
        }
        drop(stream);
        let stats = until(&sim, |stats| stats.cancelled == 1).await;
        assert_eq!((stats.active, stats.answered), (0, 0));
    }
}
