//! Two servers share one provider's quota through a Redis server.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod support;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lyceum_sim::{SimConfig, Simulator, quota::Quotas};
use serde_json::json;
use support::Server;
use tokio::{task::JoinSet, time::sleep};

/// A Redis server of the test's own; dropping it kills it.
struct Redis {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Redis {
    fn start() -> Self {
        // Another process may take the port in between: then try the next one.
        for _ in 0..20 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let dir = tempfile::tempdir().unwrap();
            let mut child = Command::new("redis-server")
                .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
                .args(["--requirepass", "hunter2", "--save", "", "--dir"])
                .arg(dir.path())
                .stdout(Stdio::null())
                .spawn()
                .expect("redis-server is missing: run `cargo xtask setup`");
            while child.try_wait().unwrap().is_none() {
                if is_ready(port) {
                    return Self {
                        child,
                        port,
                        _dir: dir,
                    };
                }
                std::thread::yield_now();
            }
        }
        panic!("redis-server found no free port");
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut answer = [0; 8];
    stream.write_all(b"PING\r\n").is_ok() && stream.read(&mut answer).is_ok_and(|n| n > 0)
}

/// Requests a minute that the provider allows.
const QUOTA: u64 = 240;

fn server(redis: &Redis, provider: &str) -> Server {
    let address = format!("redis://:hunter2@127.0.0.1:{}", redis.port);
    Server::start(
        &[],
        &[
            ("OPENAI_API_KEY", "sk-test-secret"),
            ("OPENAI_BASE_URL", provider),
            ("LYCEUM_QUEUE__REQUESTS_PER_MINUTE", &QUOTA.to_string()),
            ("LYCEUM_QUEUE__SHARED", "redis"),
            ("LYCEUM_QUEUE__SHARED_REPLICAS", "2"),
            ("LYCEUM_REDIS__URL", &address),
        ],
    )
}

/// Keeps conversations going until the server is gone.
fn load(tasks: &mut JoinSet<()>, server: &Server, name: &'static str) {
    let client = reqwest::Client::new();
    for user in 0..30 {
        let (client, url) = (client.clone(), format!("{}/chat", server.url));
        tasks.spawn(async move {
            // No two calls are equal: none is answered from a cache.
            for turn in 0.. {
                let text = format!("Stone {turn} of {name}-{user} falls.");
                let session = format!("{name}-{user}");
                let body = json!({"topic": "Gravity", "explanation": text, "session_id": session});
                if client.post(&url).json(&body).send().await.is_err() {
                    return;
                }
            }
        });
    }
}

async fn health(server: &Server) -> String {
    let answer = reqwest::get(format!("{}/health", server.url))
        .await
        .unwrap();
    answer.text().await.unwrap()
}

/// Waits until `server` says of its health what `done` looks for.
async fn until(server: &Server, what: &str, done: impl Fn(&str) -> bool) {
    let begin = Instant::now();
    loop {
        let seen = health(server).await;
        if done(&seen) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}: {seen}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_share_one_quota_and_survive_their_ledger() {
    let config = SimConfig {
        quotas: Quotas {
            requests: Some(QUOTA),
            ..Quotas::default()
        },
        ..SimConfig::default()
    };
    let (sim, redis) = (Simulator::start(config).await.unwrap(), Redis::start());
    let provider = format!("{}/v1", sim.url());
    let (one, other) = (server(&redis, &provider), server(&redis, &provider));
    let mut tasks = JoinSet::new();
    load(&mut tasks, &one, "one");
    load(&mut tasks, &other, "other");
    let begin = Instant::now();
    // What one server alone may send in this time: a tenth at once, the rest evenly.
    let allowed = |seconds: f64| QUOTA as f64 * (0.1 + seconds * 1.05 / 60.0) + 4.0;
    // How fast a machine works is not what is asked here: each part waits for its
    // requests, and none may come sooner than one server's quota lets them.
    let reach = async |more: u64, what: &str| {
        let target = sim.stats().requests + more;
        let slow = begin.elapsed() + Duration::from_secs(90);
        while sim.stats().requests < target {
            assert!(begin.elapsed() < slow, "no {more} requests {what}");
            sleep(Duration::from_millis(50)).await;
        }
        let (sent, passed) = (sim.stats().requests, begin.elapsed().as_secs_f64());
        assert!(
            sent as f64 <= allowed(passed),
            "{sent} in {passed} s {what}"
        );
    };
    reach(QUOTA / 4, "from both").await;

    drop(other);
    reach(QUOTA / 24, "from one alone").await;
    let again = server(&redis, &provider);
    load(&mut tasks, &again, "again");
    reach(QUOTA / 6, "from both again").await;

    redis.signal("STOP");
    reach(QUOTA / 12, "without the ledger").await;
    until(&one, "without the ledger", |seen| {
        seen.contains("out of reach")
    })
    .await;
    redis.signal("CONT");
    until(&one, "with the ledger", |seen| {
        !seen.contains("out of reach")
    })
    .await;
    reach(QUOTA / 12, "with the ledger").await;
    assert_eq!(sim.stats().rate_limited, 0);
}

#[test]
fn sharing_needs_an_address_and_never_shows_it() {
    let output = support::run(
        &["check", "--provider", "offline"],
        &[("LYCEUM_QUEUE__SHARED", "redis")],
    );
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("redis.url"), "{said}");
    for address in ["redis://:hunter2@127.0.0.1:1", "hunter2@nonsense"] {
        let environment = [
            ("LYCEUM_QUEUE__SHARED", "redis"),
            ("LYCEUM_REDIS__URL", address),
            ("OPENAI_API_KEY", "sk-test-secret"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:9/v1"),
        ];
        let output = support::run(&["check"], &environment);
        let mut said = String::from_utf8_lossy(&output.stderr).into_owned();
        said += &String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("hunter2"), "{said}");
    }
}
