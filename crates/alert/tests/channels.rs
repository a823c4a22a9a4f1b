//! What receivers get, from local sinks that speak their protocols.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{sync::Arc, time::Duration};

use axum::{Json, Router, extract::State, http::HeaderMap, http::StatusCode, routing::post};
use lyceum_alert::{
    Alerts, Bound, Channel, Dispatcher, Email, EmailConfig, Notice, PagerDuty, Rule, Severity,
    Slack, Webhook, watch,
};
use secrecy::SecretString;
use serde_json::Value;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

/// A sink that answers with the given statuses, then with 200.
async fn sink(statuses: Vec<u16>) -> (SecretString, mpsc::Receiver<(HeaderMap, Value)>) {
    type Shared = (
        mpsc::Sender<(HeaderMap, Value)>,
        Arc<std::sync::Mutex<Vec<u16>>>,
    );
    async fn take(
        State((sender, statuses)): State<Shared>,
        headers: HeaderMap,
        Json(body): Json<Value>,
    ) -> StatusCode {
        sender.send((headers, body)).await.unwrap();
        let status = statuses.lock().unwrap().pop().unwrap_or(200);
        StatusCode::from_u16(status).unwrap()
    }
    let (sender, inbox) = mpsc::channel(16);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut statuses = statuses;
    statuses.reverse();
    let shared = (sender, Arc::new(std::sync::Mutex::new(statuses)));
    let router = Router::new().route("/hook", post(take)).with_state(shared);
    tokio::spawn(async move { axum::serve(listener, router).await });
    (format!("http://{address}/hook").into(), inbox)
}

fn notices() -> (Notice, Notice) {
    let rule = Rule {
        name: "daily_cost".to_owned(),
        summary: "too dear <!channel> & more".to_owned(),
        severity: Severity::Critical,
        bound: Bound::Above(10.0),
        hold: Duration::ZERO,
        unit: "USD".to_owned(),
    };
    let mut alerts = Alerts::new("server-1", vec![rule], Duration::from_secs(60));
    let now = std::time::Instant::now();
    let mut told = |value| {
        alerts
            .evaluate(now, OffsetDateTime::UNIX_EPOCH, |_| Some(value))
            .remove(0)
    };
    (told(12.5), told(1.0))
}

#[tokio::test]
async fn slack_gets_a_line_without_mentions() {
    let (url, mut inbox) = sink(vec![]).await;
    let slack = Slack::new(&url).unwrap();
    slack.send(&notices().0).await.unwrap();
    let (_, body) = inbox.recv().await.unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("12.5 USD; bad above 10 USD"), "{text}");
    assert!(text.contains("&lt;!channel&gt; &amp; more"), "{text}");
}

#[tokio::test]
async fn pagerduty_gets_trigger_and_resolve_under_one_key() {
    let (url, mut inbox) = sink(vec![202, 202]).await;
    let pager = PagerDuty::at(&url, "routing".into()).unwrap();
    let (firing, resolved) = notices();
    pager.send(&firing).await.unwrap();
    pager.send(&resolved).await.unwrap();
    let (_, first) = inbox.recv().await.unwrap();
    let (_, second) = inbox.recv().await.unwrap();
    assert_eq!(first["event_action"], "trigger");
    assert_eq!(first["payload"]["severity"], "critical");
    assert_eq!(first["payload"]["custom_details"]["value"], 12.5);
    assert_eq!(second["event_action"], "resolve");
    assert_eq!(first["dedup_key"], "server-1/daily_cost");
    assert_eq!(first["dedup_key"], second["dedup_key"]);
    assert!(!format!("{pager:?}").contains("routing\""), "{pager:?}");
}

#[tokio::test]
async fn a_webhook_gets_the_notice_and_its_key() {
    let (url, mut inbox) = sink(vec![]).await;
    let hook = Webhook::new(&url, Some("secret".into())).unwrap();
    hook.send(&notices().0).await.unwrap();
    let (headers, body) = inbox.recv().await.unwrap();
    assert_eq!(headers["authorization"], "Bearer secret");
    assert_eq!(body["state"], "firing");
    assert_eq!(body["bound"]["above"], 10.0);
}

/// A mail server that takes one mail: what the client said.
async fn mail_server() -> (u16, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 sink\r\n").await.unwrap();
        let (mut said, mut in_data) = (String::new(), false);
        while let Ok(Some(line)) = lines.next_line().await {
            said.push_str(&line);
            said.push('\n');
            let answer = match (in_data, line.as_str()) {
                (true, ".") => {
                    in_data = false;
                    "250 taken\r\n"
                }
                (true, _) => continue,
                (false, "DATA") => {
                    in_data = true;
                    "354 go on\r\n"
                }
                (false, "QUIT") => {
                    write.write_all(b"221 bye\r\n").await.unwrap();
                    break;
                }
                (false, _) => "250 ok\r\n",
            };
            write.write_all(answer.as_bytes()).await.unwrap();
            if said.contains("\n.\n") {
                break;
            }
        }
        said
    });
    (port, said)
}

#[tokio::test]
async fn a_mail_names_the_alert() {
    let (port, said) = mail_server().await;
    let mail = Email::new(&EmailConfig {
        server: format!("smtp://127.0.0.1:{port}").into(),
        from: "Lyceum <lyceum@example.org>".to_owned(),
        to: vec!["ops@example.org".to_owned(), "boss@example.org".to_owned()],
    })
    .unwrap();
    mail.send(&notices().0).await.unwrap();
    let said = said.await.unwrap();
    assert!(said.contains("RCPT TO:<ops@example.org>"), "{said}");
    assert!(said.contains("RCPT TO:<boss@example.org>"), "{said}");
    assert!(
        said.contains("Subject: [firing] daily_cost on server-1"),
        "{said}"
    );
    assert!(said.contains("since:    1970-01-01T00:00:00Z"), "{said}");
}

#[test]
fn what_cannot_work_is_refused_without_its_secret() {
    let refused = [
        Slack::new(&"hooks.example.org/secret".into()).map(drop),
        Webhook::new(&"ftp://secret".into(), None).map(drop),
        Email::new(&EmailConfig {
            server: "imap://user:secret@host".into(),
            from: "a@example.org".to_owned(),
            to: vec!["b@example.org".to_owned()],
        })
        .map(drop),
    ];
    for result in refused {
        let error = result.unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_condition_that_lasts_reaches_each_channel_once_though_one_is_away_for_long() {
    #[derive(Debug)]
    struct Probe {
        name: &'static str,
        failures: std::sync::atomic::AtomicUsize,
        sender: mpsc::Sender<(&'static str, Notice)>,
    }
    #[async_trait::async_trait]
    impl Channel for Probe {
        fn name(&self) -> &'static str {
            self.name
        }
        async fn send(&self, notice: &Notice) -> Result<(), lyceum_alert::SendError> {
            use std::sync::atomic::Ordering::Relaxed;
            let left = self.failures.load(Relaxed);
            if left > 0 {
                self.failures.store(left - 1, Relaxed);
                return Err(lyceum_alert::SendError::Unreachable {
                    detail: "away".to_owned(),
                });
            }
            self.sender.send((self.name, notice.clone())).await.unwrap();
            Ok(())
        }
    }
    let (sender, mut inbox) = mpsc::channel(16);
    let probe = |name, failures: usize| -> Arc<dyn Channel> {
        Arc::new(Probe {
            name,
            failures: failures.into(),
            sender: sender.clone(),
        })
    };
    let dispatcher = Dispatcher::start(vec![probe("good", 0), probe("late", 12)]);
    let rule = Rule {
        name: "slow".to_owned(),
        summary: "slow".to_owned(),
        severity: Severity::Warning,
        bound: Bound::Above(5.0),
        hold: Duration::from_secs(30),
        unit: String::new(),
    };
    let alerts = Alerts::new("a", vec![rule], Duration::from_secs(3600));
    let stop = CancellationToken::new();
    let every = Duration::from_secs(15);
    let read = || |_: &str| Some(9.0);
    let running = tokio::spawn(watch(alerts, dispatcher, every, read, stop.clone()));
    tokio::time::sleep(Duration::from_secs(3_000)).await;
    stop.cancel();
    running.await.unwrap();
    drop(sender);
    let mut names = Vec::new();
    while let Ok((name, _)) = inbox.try_recv() {
        names.push(name);
    }
    names.sort_unstable();
    assert_eq!(names, ["good", "late"]);
}
