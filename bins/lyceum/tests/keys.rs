//! API keys and tokens in the real program: made, changed and revoked while it runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use lyceum_sim::{SimConfig, Simulator, Spread};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use support::{Server, key_lines, lyceum, run};

const OFFLINE: [&str; 2] = ["--provider", "offline"];

/// What the documentation promises, and what a busy machine may take on top.
const PROMISED: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(10);

fn keys(data: &Path, args: &[&str]) -> Result<Value, String> {
    let data = data.to_str().unwrap();
    let all = [&["keys"], args, &["--data-dir", data, "--json"]].concat();
    let output = run(&all, &[]);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

fn data(server: &Server) -> PathBuf {
    server.dir.path().join("data")
}

async fn get(server: &Server, key: &str, path: &str) -> Response {
    let get = Client::new().get(format!("{}{path}", server.url));
    get.bearer_auth(key).send().await.unwrap()
}

/// How long it takes until a key is answered so.
async fn until(server: &Server, key: &str, status: u16) -> Duration {
    let began = Instant::now();
    while get(server, key, "/usage").await.status() != status {
        assert!(began.elapsed() < PATIENCE, "it is never {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

#[tokio::test]
async fn keys_come_and_go_while_the_server_runs() {
    let server = Server::start(&OFFLINE, &[]);
    let dir = data(&server);
    assert_eq!(
        get(&server, "", "/usage").await.status(),
        200,
        "{}",
        server.banner
    );
    let made = keys(
        &dir,
        &["add", "alice", "--tenant", "school", "--expires", "90d"],
    )
    .unwrap();
    let alice = made["key"].as_str().unwrap();
    let took = until(&server, "", 401).await;
    assert!(took < PROMISED + Duration::from_secs(1), "{took:?}");
    let told: Value = get(&server, alice, "/usage").await.json().await.unwrap();
    assert_eq!(
        (&told["tenant"], &told["user"]),
        (&json!("school"), &json!("alice"))
    );

    let narrow = [
        "add",
        "scraper",
        "--scope",
        "metrics",
        "--requests-per-minute",
        "100",
    ];
    let scraper = keys(&dir, &narrow).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    until(&server, &scraper, 200).await;
    assert_eq!(get(&server, &scraper, "/metrics").await.status(), 200);
    assert_eq!(get(&server, &scraper, "/sessions").await.status(), 403);

    // A stream of a key ends with it.
    let rotated = keys(&dir, &["rotate", "alice", "--overlap", "1h"]).unwrap();
    let fresh = rotated["key"].as_str().unwrap();
    until(&server, fresh, 200).await;
    assert_eq!(
        get(&server, alice, "/usage").await.status(),
        200,
        "it overlaps"
    );
    let again = keys(&dir, &["rotate", "alice"]).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    let took = until(&server, fresh, 401).await;
    assert!(took < PROMISED + Duration::from_secs(1), "{took:?}");
    assert_eq!(get(&server, alice, "/usage").await.status(), 401);
    assert_eq!(get(&server, &again, "/usage").await.status(), 200);

    keys(&dir, &["revoke", "alice", "scraper"]).unwrap();
    let took = until(&server, &again, 401).await;
    assert!(took < PROMISED + Duration::from_secs(1), "{took:?}");
    assert_eq!(get(&server, &scraper, "/metrics").await.status(), 401);
    // The last key is gone, and the door stays shut, also after a restart.
    assert_eq!(get(&server, "", "/usage").await.status(), 401);
    let dir = server.kill();
    let server = Server::start_in(dir, &OFFLINE, &[]);
    assert_eq!(get(&server, "", "/usage").await.status(), 401);

    let listed = keys(&data(&server), &["list"]).unwrap();
    let text = listed.to_string() + &fs::read_to_string(data(&server).join("keys.toml")).unwrap();
    for secret in [alice, fresh, again.as_str(), scraper.as_str()] {
        assert!(!text.contains(secret) && !text.contains(&secret[4..]));
    }
    let states: Vec<&str> = listed["keys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| key["state"].as_str().unwrap())
        .collect();
    assert_eq!(states, ["revoked", "revoked"]);
}

#[tokio::test]
async fn a_hangup_has_the_keys_read_at_once_and_a_broken_file_changes_nothing() {
    let server = Server::start(&OFFLINE, &[]);
    let dir = data(&server);
    let alice = keys(&dir, &["add", "alice"]).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    server.signal("HUP");
    until(&server, "", 401).await;
    let file = dir.join("keys.toml");
    let good = fs::read_to_string(&file).unwrap();
    for broken in [
        "keys = 7",
        "[[keys]]\nname = \"x\"",
        "\u{0}",
        &good.replace("tenant = \"local\"", "tenant = \"a/b\""),
    ] {
        let refusals = || {
            server
                .log()
                .matches("the file of keys is not taken")
                .count()
        };
        let before = refusals();
        fs::write(&file, broken).unwrap();
        server.signal("HUP");
        let refused = support::until(async || refusals(), |seen| *seen > before).await;
        assert!(refused > before, "nobody is told of {broken:?}");
        assert_eq!(
            get(&server, &alice, "/usage").await.status(),
            200,
            "{broken}"
        );
        assert_eq!(get(&server, "", "/usage").await.status(), 401);
    }
    fs::remove_file(&file).unwrap();
    server.signal("HUP");
    until(&server, &alice, 401).await;
    assert_eq!(
        get(&server, "", "/usage").await.status(),
        401,
        "nobody is let in by that"
    );
    server.signal("TERM");
    let (code, errors, _) = server.wait();
    assert_eq!(code, Some(0));
    assert!(errors.contains("the file of keys is not taken"), "{errors}");
    assert!(!errors.contains(&alice));
}

#[test]
fn two_commands_at_once_lose_no_key_and_mistakes_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let adding: Vec<_> = (0..12)
        .map(|n| {
            let mut command = lyceum();
            command
                .args(["keys", "add", &format!("k{n}"), "--data-dir"])
                .arg(dir.path());
            command.stdout(Stdio::null()).spawn().unwrap()
        })
        .collect();
    for mut one in adding {
        assert!(one.wait().unwrap().success());
    }
    let listed = keys(dir.path(), &["list"]).unwrap();
    assert_eq!(listed["keys"].as_array().unwrap().len(), 12);
    for (args, said) in [
        (&["add", "k1"] as &[&str], "rotate k1"),
        (&["add", "a/b"], "a/b"),
        (&["add", "x", "--tenant", "a b"], "only letters"),
        (&["add", "x", "--expires", "yesterday"], "90d"),
        (&["add", "x", "--expires", "2020-01-01"], "over already"),
        (&["add", "x", "--daily-usd", "nan"], "daily_usd"),
        (&["add", "x", "--requests-per-minute", "0"], "0"),
        (&["add", "x", "--scope", "everything"], "operator"),
        (&["revoke", "k1", "k99"], "k99"),
        (&["rotate", "kk1"], "did you mean"),
    ] {
        let error = keys(dir.path(), args).unwrap_err();
        assert!(error.contains(said), "{args:?}: {error}");
    }
    // All were revoked or none.
    let listed = keys(dir.path(), &["list"]).unwrap().to_string();
    assert!(
        !listed.contains("revoked\"}") && listed.matches("\"active\"").count() == 12,
        "{listed}"
    );
    let table = run(
        &["keys", "list", "--data-dir", dir.path().to_str().unwrap()],
        &[],
    );
    let table = String::from_utf8(table.stdout).unwrap();
    assert!(
        table.starts_with("NAME") && table.lines().count() == 13,
        "{table}"
    );
    let help = String::from_utf8(run(&["keys", "add", "--help"], &[]).stdout).unwrap();
    for flag in [
        "--tenant",
        "--scope",
        "--model",
        "--expires",
        "--concurrent-requests",
        "--streams",
        "--daily-usd",
        "--json",
    ] {
        assert!(help.contains(flag), "{flag}: {help}");
    }
}

#[tokio::test]
async fn an_open_stream_ends_with_its_key() {
    let sim = Simulator::start(SimConfig {
        output: Some(Spread::Fixed(400)),
        per_token: Spread::Fixed(Duration::from_millis(100)),
        ..SimConfig::default()
    })
    .await
    .unwrap();
    let server = with_model(&sim.url(), "");
    let dir = data(&server);
    let key = keys(&dir, &["add", "alice"]).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    // Before it has seen the file it takes everybody on this machine, whatever key they name.
    until(&server, "nobody's", 401).await;
    until(&server, &key, 200).await;
    let post = Client::new()
        .post(format!("{}/v1/chat/completions", server.url))
        .bearer_auth(&key);
    let body = json!({"model": "gpt-4.1-mini", "stream": true, "messages": [{"role": "user", "content": "x"}]});
    let answer = post.json(&body).send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let mut parts = answer.bytes_stream();
    assert!(parts.next().await.unwrap().is_ok());
    keys(&dir, &["revoke", "alice"]).unwrap();
    let began = Instant::now();
    let mut cut = false;
    while let Some(part) = parts.next().await {
        cut |= part.is_err();
    }
    assert!(
        cut && began.elapsed() < PATIENCE,
        "{cut} {:?}",
        began.elapsed()
    );
}

/// A server with the model of a simulator.
fn with_model(url: &str, more: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    let text = format!(
        "[model]\nprovider = \"openai\"\nname = \"gpt-4.1-mini\"\nbase_url = \"{url}/v1\"\napi_key = \"sk-test\"\n{more}\n"
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    Server::start_in(dir, &["--config", &file], &[])
}

async fn complete(server: &Server, key: &str) -> Response {
    let post = Client::new()
        .post(format!("{}/v1/chat/completions", server.url))
        .bearer_auth(key);
    let body = json!({"model": "gpt-4.1-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "Why?"}]});
    post.json(&body).send().await.unwrap()
}

#[tokio::test]
async fn a_keys_budget_is_never_crossed_and_usage_tells_it_exactly_also_after_a_restart() {
    let sim = Simulator::start(SimConfig::default()).await.unwrap();
    let server = with_model(&sim.url(), "");
    let dir = data(&server);
    let add = |name: &str, dollars: &str| {
        let flags = ["add", name, "--tenant", "school", "--daily-usd", dollars];
        keys(&dir, &flags).unwrap()["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (alice, bob) = (add("alice", "0.001"), add("bob", "5"));
    let root = keys(&dir, &["add", "root", "--scope", "operator"]).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    until(&server, &root, 200).await;
    let all = futures_util::future::join_all((0..200).map(|_| complete(&server, &alice))).await;
    let passed = all.iter().filter(|answer| answer.status() == 200).count() as u64;
    assert!((1..200).contains(&passed), "{passed}");
    let refused = all
        .into_iter()
        .find(|answer| answer.status() != 200)
        .unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(complete(&server, &bob).await.status(), 200);

    let told = async |server: &Server, key: &str| -> Value {
        get(server, key, "/usage").await.json().await.unwrap()
    };
    let own = told(&server, &alice).await["own"].clone();
    assert_eq!(own["today"]["model_calls"], passed);
    assert_eq!(own["day_limit_usd"], "0.001");
    let pico = |text: &Value| {
        let (whole, rest) = text.as_str().unwrap().split_once('.').unwrap();
        format!("{whole}{rest:0<12}").parse::<u64>().unwrap()
    };
    let (spent, left) = (pico(&own["today"]["cost_usd"]), pico(&own["day_left_usd"]));
    assert!(
        spent <= 1_000_000_000 && spent + left == 1_000_000_000,
        "{own}"
    );
    // $0.40 and $1.60 a million tokens: to the last digit.
    let tokens = |name: &str| own["today"][name].as_u64().unwrap();
    assert_eq!(
        spent,
        tokens("input_tokens") * 400_000 + tokens("output_tokens") * 1_600_000
    );
    let tenant = told(&server, &bob).await["tenant_total"].clone();
    assert_eq!(tenant["today"]["model_calls"], passed + 1);

    let listed: Value = get(&server, &root, "/api/operator/usage")
        .await
        .json()
        .await
        .unwrap();
    let names: Vec<&str> = listed["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["local", "school"]);
    assert_eq!(
        get(&server, &alice, "/api/operator/usage").await.status(),
        403
    );
    let users: Value = get(&server, &root, "/api/operator/usage/school?limit=1")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&users["accounts"][0]["name"], &users["next"]),
        (&json!("alice"), &json!("alice"))
    );

    server.signal("TERM");
    let (_, _, dir) = server.wait();
    let file = dir.path().join("lyceum.toml");
    let file = file.to_str().unwrap().to_owned();
    let server = Server::start_in(dir, &["--config", &file], &[]);
    let after = told(&server, &alice).await["own"].clone();
    assert_eq!(after["today"]["cost_usd"], own["today"]["cost_usd"]);
    assert_eq!(after["month"]["model_calls"], passed);
}

#[tokio::test]
async fn tokens_of_the_configured_issuer_count_and_its_rotated_keys_are_followed() {
    let pair = |id: &str| {
        let made = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(&made.serialize_der());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let mut public = serde_json::to_value(public).unwrap();
        public["kid"] = json!(id);
        (key, json!({"keys": [public]}).to_string())
    };
    let token = |key: &EncodingKey, id: &str, tenant: &str| {
        let exp = time::OffsetDateTime::now_utc().unix_timestamp() + 600;
        let claims = json!({"iss": "https://i.example", "aud": "lyceum", "exp": exp, "sub": "auth0|1", "tenant": tenant});
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    };
    let ((one, set), (other, other_set)) = (pair("one"), pair("other"));
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    fs::write(&jwks, set).unwrap();
    let file = dir.path().join("lyceum.toml");
    let lines = format!(
        "[auth.jwt]\nissuer = \"https://i.example\"\naudience = [\"lyceum\"]\njwks_file = \"{}\"\nrequests_per_minute = 1000\n{}",
        jwks.display(),
        key_lines("bobs-key", "school", "bob", "")
    );
    fs::write(&file, lines).unwrap();
    let config = file.to_str().unwrap().to_owned();
    let server = Server::start_in(dir, &["--provider", "offline", "--config", &config], &[]);
    assert!(
        server
            .banner
            .contains("one key, tokens of https://i.example"),
        "{}",
        server.banner
    );
    let school = token(&one, "one", "school");
    let told: Value = get(&server, &school, "/usage").await.json().await.unwrap();
    assert_eq!(
        (&told["tenant"], &told["key"]),
        (&json!("school"), &json!("token"))
    );
    assert!(told["user"].as_str().unwrap().starts_with("sha256:"));
    // What one tenant has stored is not there for another, nor for another user.
    let post = Client::new()
        .post(format!("{}/chat", server.url))
        .bearer_auth(&school);
    let body =
        json!({"topic": "tides", "explanation": "The Moon pulls the sea.", "session_id": "s-1"});
    assert_eq!(post.json(&body).send().await.unwrap().status(), 200);
    let sessions = async |key: &str| get(&server, key, "/sessions").await.text().await.unwrap();
    assert!(sessions(&school).await.contains("s-1"));
    for stranger in [token(&one, "one", "club"), "bobs-key".to_owned()] {
        assert!(!sessions(&stranger).await.contains("s-1"));
        assert_eq!(get(&server, &stranger, "/sessions/s-1").await.status(), 404);
    }
    assert_eq!(get(&server, &school, "/api/operator").await.status(), 403);
    fs::write(&jwks, other_set).unwrap();
    until(&server, &token(&other, "other", "school"), 200).await;
    let refused = get(&server, &school, "/usage").await;
    assert_eq!(refused.status(), 401);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
}
