//! The simulator over the wire: quotas, determinism, scripts, timing, cancellation.

use std::time::Duration;

use crate::client::{ask, chat, chat_stream, post, send, until};
use lyceum_sim::{Fault, FaultRule, Rule, Running, SimConfig, Simulator, Spread, quota::Quotas};
use serde_json::{Value, json};
use tokio::time::Instant;

async fn start(config: SimConfig) -> Running {
    Simulator::start(config).await.unwrap()
}

fn content(answer: &Value) -> &str {
    answer["choices"][0]["message"]["content"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test]
async fn the_quota_admits_exactly_its_number_and_keeps_keys_and_models_apart() {
    let sim = start(SimConfig {
        quotas: Quotas {
            requests: Some(5),
            ..Quotas::default()
        },
        ..SimConfig::default()
    })
    .await;
    let request = chat("hello");
    let answers = futures::future::join_all((0..9).map(|_| ask(&sim, &request))).await;
    let admitted = answers.iter().filter(|answer| answer.status == 200).count();
    assert_eq!(admitted, 5);
    for refused in answers.iter().filter(|answer| answer.status != 200) {
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["error"]["code"], "rate_limit_exceeded");
        assert_eq!(refused.header("x-ratelimit-remaining-requests"), Some("0"));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=60).contains(&wait), "{wait}");
    }
    let mut other_model = request;
    other_model["model"] = json!("other");
    assert_eq!(ask(&sim, &other_model).await.status, 200);
    let stats = sim.shutdown().await;
    assert_eq!(
        (stats.requests, stats.answered, stats.rate_limited),
        (10, 6, 4)
    );
    assert_eq!(stats.rate_limited_by.requests, 4);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_obeys_retry_after_never_sees_a_full_window_pass_the_limit() {
    const LIMIT: usize = 7;
    let window = Duration::from_secs(60);
    let sim = start(SimConfig {
        quotas: Quotas {
            requests: Some(LIMIT as u64),
            ..Quotas::default()
        },
        ..SimConfig::default()
    })
    .await;
    let mut admitted: Vec<Instant> = Vec::new();
    let mut waited = false;
    while admitted.len() < 40 {
        let answer = ask(&sim, &chat("hello")).await;
        let now = Instant::now();
        if answer.status == 200 {
            admitted.push(now);
            tokio::time::sleep(Duration::from_millis(1_700)).await;
            waited = false;
        } else {
            assert!(!waited, "refused after the time that retry-after said");
            let wait = answer.header("retry-after").unwrap().parse().unwrap();
            tokio::time::sleep(Duration::from_secs(wait)).await;
            waited = true;
        }
    }
    for (first, last) in admitted.iter().zip(&admitted[LIMIT..]) {
        assert!(last.duration_since(*first) >= window);
    }
    // Not a request more is refused than the window demands: each full window takes at
    // most the second to which retry-after rounds up, and the pauses between requests.
    let took = admitted[39].duration_since(admitted[0]);
    assert!(took < 5 * (window + Duration::from_secs(2)) + 7 * Duration::from_millis(1_700));
}

#[tokio::test]
async fn token_quotas_count_what_the_usage_says() {
    let usage = ask(&start(SimConfig::default()).await, &chat("hello"))
        .await
        .json();
    let (input, output) = (
        usage["usage"]["prompt_tokens"].as_u64().unwrap(),
        usage["usage"]["completion_tokens"].as_u64().unwrap(),
    );
    let limits: [fn(u64, u64) -> Quotas; 3] = [
        |input, _| Quotas {
            input_tokens: Some(2 * input),
            ..Quotas::default()
        },
        |_, output| Quotas {
            output_tokens: Some(2 * output),
            ..Quotas::default()
        },
        |input, output| Quotas {
            total_tokens: Some(2 * (input + output)),
            ..Quotas::default()
        },
    ];
    for quotas in limits {
        let sim = start(SimConfig {
            quotas: quotas(input, output),
            ..SimConfig::default()
        })
        .await;
        let statuses = [
            ask(&sim, &chat("hello")).await.status,
            ask(&sim, &chat("hello")).await.status,
            ask(&sim, &chat("hello")).await.status,
        ];
        assert_eq!(statuses, [200, 200, 429], "{:?}", quotas(input, output));
        let stats = sim.stats();
        assert_eq!(
            (stats.input_tokens, stats.output_tokens),
            (2 * input, 2 * output)
        );
    }
}

#[tokio::test]
async fn the_same_seed_gives_the_same_run() {
    let run = async |seed: u64| {
        let sim = start(SimConfig {
            seed,
            output: Some(Spread::LogNormal { p50: 40, p99: 120 }),
            faults: vec!["500=30%".parse().unwrap()],
            ..SimConfig::default()
        })
        .await;
        let mut run = Vec::new();
        for turn in 0..20 {
            let answer = ask(&sim, &chat(&format!("marker-u1t{turn}"))).await;
            let body = answer.json();
            run.push((answer.status, content(&body).to_owned(), body["id"].clone()));
        }
        run
    };
    let first = run(7).await;
    assert_eq!(first, run(7).await);
    assert_ne!(first, run(8).await);
    assert!(first.iter().any(|answer| answer.0 == 500));
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_counted_and_frees_its_place() {
    let sim = start(SimConfig {
        per_token: Spread::Fixed(Duration::from_secs(3_600)),
        quotas: Quotas {
            concurrency: Some(1),
            ..Quotas::default()
        },
        ..SimConfig::default()
    })
    .await;
    for cancelled in 1..=3 {
        let stream = send(&sim, "/v1/chat/completions", &chat_stream("hello")).await;
        until(&sim, |stats| stats.open_streams == 1).await;
        let refused = ask(&sim, &chat("hello")).await;
        assert_eq!(refused.status, 429);
        drop(stream);
        let stats = until(&sim, |stats| stats.cancelled == cancelled).await;
        assert_eq!(
            (stats.active, stats.open_streams, stats.answered),
            (0, 0, 0)
        );
    }
}

#[tokio::test]
async fn a_client_that_leaves_before_the_first_byte_is_counted() {
    let sim = start(SimConfig {
        first_token: Spread::Fixed(Duration::from_secs(3_600)),
        ..SimConfig::default()
    })
    .await;
    let whole = send(&sim, "/v1/chat/completions", &chat("hello")).await;
    let streamed = send(&sim, "/v1/messages", &messages()).await;
    until(&sim, |stats| stats.active == 2).await;
    drop((whole, streamed));
    let stats = until(&sim, |stats| stats.cancelled == 2).await;
    assert_eq!(
        (stats.active, stats.active_peak, stats.output_tokens),
        (0, 2, 0)
    );
}

fn messages() -> Value {
    json!({"model": "m", "max_tokens": 9, "stream": true,
           "messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test(start_paused = true)]
async fn tokens_come_when_they_are_due() {
    let sim = start(SimConfig {
        first_token: Spread::Fixed(Duration::from_millis(300)),
        per_token: Spread::Fixed(Duration::from_millis(100)),
        output: Some(Spread::Fixed(11)),
        ..SimConfig::default()
    })
    .await;
    for request in [chat("hello"), chat_stream("hello")] {
        let begun = Instant::now();
        let answer = ask(&sim, &request).await;
        let took = begun.elapsed();
        assert_eq!(answer.status, 200);
        let expected = Duration::from_millis(1_300);
        assert!(took >= expected, "{took:?}");
        // Tokio's timer has a resolution of a millisecond.
        assert!(took < expected + Duration::from_millis(15), "{took:?}");
    }
}

#[tokio::test]
async fn a_script_plays_an_agents_model() {
    let sim = start(SimConfig {
        faults: vec![
            FaultRule::at(Fault::Overloaded, 1..=1),
            FaultRule::at(Fault::Truncate, 2..=2),
        ],
        script: vec![
            Rule::tool_call("calculate", json!({"expression": "2+2"}))
                .when_user("2+2")
                .times(1),
            Rule::text("It is 4, {{marker}}.").when_tool("4"),
        ],
        record: 2,
        ..SimConfig::default()
    })
    .await;
    let question = chat("what is 2+2, marker-u5t1?");
    assert_eq!(ask(&sim, &question).await.status, 503);
    assert_eq!(ask(&sim, &question).await.status, 200);
    // The failed attempts did not use the rule up.
    let call = ask(&sim, &question).await.json();
    let call = &call["choices"][0]["message"];
    assert_eq!(call["tool_calls"][0]["function"]["name"], "calculate");
    let mut result = question.clone();
    result["messages"].as_array_mut().unwrap().extend([
        call.clone(),
        json!({"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "4"}),
    ]);
    assert_eq!(
        content(&ask(&sim, &result).await.json()),
        "It is 4, marker-u5t1."
    );
    let recorded = sim.requests();
    assert_eq!(recorded.len(), 2);
    assert_eq!((recorded[0].json(), recorded[1].json()), (question, result));
    assert_eq!(recorded[0].path, "/v1/chat/completions");
}

#[tokio::test]
async fn a_refused_request_does_not_use_a_rule_up() {
    let sim = start(SimConfig {
        quotas: Quotas {
            requests: Some(1),
            ..Quotas::default()
        },
        script: vec![Rule::text("only once").when_user("b").times(1)],
        ..SimConfig::default()
    })
    .await;
    assert_eq!(ask(&sim, &chat("a")).await.status, 200);
    assert_eq!(ask(&sim, &chat("b")).await.status, 429);
    let mut other_model = chat("b");
    other_model["model"] = json!("other");
    assert_eq!(content(&ask(&sim, &other_model).await.json()), "only once");
}

#[tokio::test]
async fn wrong_requests_are_refused_and_cost_no_quota() {
    let sim = start(SimConfig {
        quotas: Quotas {
            requests: Some(1),
            ..Quotas::default()
        },
        ..SimConfig::default()
    })
    .await;
    let deep = format!("{}{}", "[".repeat(5_000), "]".repeat(5_000));
    let wrong = [
        json!({}),
        json!({"model": "m", "messages": []}),
        json!({"model": "m", "messages": [{"role": "robot", "content": "x"}]}),
        json!({"model": "m", "messages": [{"role": "user", "content": 7}]}),
        json!({"model": "m", "messages": [{"role": "user"}]}),
        json!({"model": "m", "messages": [{"role": "tool", "tool_call_id": "a", "content": "x"}]}),
        json!(deep),
    ];
    for request in &wrong {
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/embeddings"] {
            let answer = post(&sim, path, request).await;
            assert_eq!(answer.status, 400, "{path} {request}: {}", answer.body);
            assert_eq!(answer.json()["error"]["type"], "invalid_request_error");
        }
    }
    assert_eq!(post(&sim, "/v1/nothing", &json!({})).await.status, 404);
    assert_eq!(ask(&sim, &chat("hello")).await.status, 200);
    let stats = sim.stats();
    assert_eq!(stats.invalid, 3 * wrong.len() as u64);
    assert_eq!(stats.requests, stats.invalid + 1);
}

#[tokio::test]
async fn shutting_down_ends_open_streams_and_the_port() {
    let sim = start(SimConfig {
        per_token: Spread::Fixed(Duration::from_secs(3_600)),
        ..SimConfig::default()
    })
    .await;
    let addr = sim.addr();
    let mut stream = send(&sim, "/v1/chat/completions", &chat_stream("hello")).await;
    until(&sim, |stats| stats.open_streams == 1).await;
    sim.shutdown().await;
    let mut rest = Vec::new();
    // Ends, with or without an error; a stream left open would hang here.
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    assert!(tokio::net::TcpStream::connect(addr).await.is_err());
}
