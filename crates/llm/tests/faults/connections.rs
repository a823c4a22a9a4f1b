//! Who closes a connection and when, how often it is used, and what it tells nobody.

use super::*;

#[tokio::test]
async fn a_drop_before_the_headers_closes_the_connection() {
    let mut server = Server::start(vec![vec![Step::Hang]]).await;
    let mut stream = ask(&server.openai(patient()));
    tokio::select! {
        _ = stream.next() => panic!("nothing was sent"),
        request = server.requests.recv() => assert!(request.is_some()),
    }
    drop(stream);
    server.client_gone().await;
}

#[tokio::test]
async fn a_drop_between_headers_and_first_token_closes_the_connection() {
    let role = r#"data: {"model":"m","choices":[{"index":0,"delta":{"role":"assistant"}}]}"#;
    let opening = [stream_head(), chunk(format!("{role}\n\n"))].concat();
    let mut server = Server::start(vec![vec![Step::Send(opening), Step::Hang]]).await;
    let mut stream = ask(&server.openai(patient()));
    // It comes after the headers and before any content.
    let first = stream.next().await.unwrap().unwrap();
    assert!(matches!(first, ChatEvent::Started { .. }), "{first:?}");
    drop(stream);
    server.client_gone().await;
}

#[tokio::test]
async fn a_drop_in_the_middle_of_an_answer_closes_the_connection() {
    let script = vec![
        Step::Send([stream_head(), chunk(HELLO)].concat()),
        Step::Hang,
    ];
    let mut server = Server::start(vec![script]).await;
    let mut stream = ask(&server.openai(patient()));
    while !matches!(stream.next().await, Some(Ok(ChatEvent::Text(_)))) {}
    drop(stream);
    server.client_gone().await;
}

#[tokio::test]
async fn a_drop_of_a_collected_answer_closes_the_connection() {
    let events = [stream_head(), chunk(HELLO)].concat();
    let whole = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\
                  content-length: 1000\r\n\r\n{\"choices\":["
        .to_vec();
    for answer in [events, whole] {
        let length = answer.len();
        let mut server = Server::start(vec![vec![Step::Send(answer), Step::Hang]]).await;
        let model = server.openai(patient());
        let sent = async {
            while server.sent.load(Ordering::SeqCst) < length {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            answer = collect(&model) => panic!("half an answer was given: {answer:?}"),
            () = sent => {}
        }
        server.client_gone().await;
    }
}

/// How often the provider is asked when this many calls meet an outage, one by one.
async fn attempts_in_an_outage(calls: usize, guarded: bool) -> usize {
    let mut server = Server::saying(plain("500 Oops", "", "")).await;
    let provider = server.openai(patient());
    let guarded: Arc<dyn ChatModel> = match guarded {
        true => Arc::new(Breaking::new(provider, "test", BreakerConfig::default())),
        false => Arc::new(provider),
    };
    let policy = RetryPolicy {
        attempts: 5,
        min: Duration::from_millis(1),
        max: Duration::from_millis(2),
    };
    let queued = Queued::new(guarded, Queue::new(QueueConfig::default()));
    let model = Metered::new(Retrying::new(queued, policy));
    for _ in 0..calls {
        collect(&model).await.unwrap_err();
    }
    let mut attempts = 0;
    while server.requests.try_recv().is_ok() {
        attempts += 1;
    }
    attempts
}

#[tokio::test]
async fn an_outage_is_met_with_at_most_a_fifth_more_attempts() {
    let (calls, start) = (100, Instant::now());
    let attempts = attempts_in_an_outage(calls, false).await;
    // A budget has one retry from the beginning and gets one back every 10 s.
    let spare = 1 + start.elapsed().as_secs() as usize / 10;
    assert!(
        (calls + 1..=calls * 12 / 10 + spare).contains(&attempts),
        "{attempts} attempts for {calls} calls"
    );
}

#[tokio::test]
async fn an_outage_is_left_alone_by_a_breaker() {
    let attempts = attempts_in_an_outage(100, true).await;
    assert!((1..50).contains(&attempts), "{attempts} attempts");
}

#[tokio::test]
async fn a_stream_that_is_not_polled_sends_nothing() {
    let mut server = Server::saying(events(DONE)).await;
    drop(ask(&server.openai(patient())));
    assert!(server.requests.try_recv().is_err());
    assert_eq!(server.connections.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_connection_serves_call_after_call() {
    // The end of the body comes after the end of the answer, as it does from real servers.
    let answer = vec![
        Step::Send([stream_head(), chunk([HELLO, STOP, DONE].concat())].concat()),
        Step::Wait,
        Step::Send(END.to_vec()),
    ];
    let server = Server::start(vec![answer]).await;
    let model = server.openai(patient());
    for _ in 0..20 {
        collect(&model).await.unwrap();
        server.go.notify_one();
    }
    // A call that comes before the end of the last one's body makes a new connection.
    let connections = server.connections.load(Ordering::SeqCst);
    assert!(connections <= 5, "{connections} connections for 20 calls");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut elsewhere = Server::saying(events(DONE)).await;
    let header = format!("location: {}\r\n", elsewhere.url);
    let server = Server::saying(plain("307 Temporary Redirect", &header, "")).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert_eq!(error.label(), "rejected");
    assert!(elsewhere.requests.try_recv().is_err());
}

#[tokio::test]
async fn the_key_is_sent_and_never_shown() {
    let echo = format!(r#"{{"error":{{"message":"no such key: {KEY}"}}}}"#);
    let mut server = Server::saying(plain("401 Unauthorized", "", &echo)).await;
    let config = server.openai_config(patient());
    let model = OpenAi::new(config.clone()).unwrap();
    let error = collect(&model).await.unwrap_err();
    let head = server.requests.recv().await.unwrap().head;
    assert!(head.contains(&format!("authorization: bearer {KEY}")));
    let shown = format!("{error} {error:?} {model:?} {config:?}");
    assert!(!shown.contains(KEY), "{shown}");
    assert!(shown.contains("no such key: [redacted]"));

    let stream_error = format!("data: {{\"error\":{{\"message\":\"bad {KEY}\"}}}}\n\n");
    let server = Server::saying(events(&stream_error)).await;
    let error = collect(&server.openai(patient())).await.unwrap_err();
    assert!(!error.to_string().contains(KEY), "{error}");
}

#[test]
fn what_cannot_work_is_refused_when_built() {
    let preset = lyceum_llm::Preset::by_name("openai").unwrap();
    let config = || OpenAiConfig::from_preset(preset, "m");
    let mut bad_url = config();
    bad_url.base_url = "https://user:secret-word@host.test/v1".into();
    let error = OpenAi::new(bad_url).unwrap_err().to_string();
    assert!(
        error.contains("password") && !error.contains("secret-word"),
        "{error}"
    );

    let mut bad_key = config();
    bad_key.api_key = Some(SecretString::from("sk-1\nsk-2"));
    let error = OpenAi::new(bad_key).unwrap_err().to_string();
    assert!(error.contains("key") && !error.contains("sk-1"), "{error}");
}
