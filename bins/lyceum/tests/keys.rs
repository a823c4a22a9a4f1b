//! API keys in the real program: made, changed and revoked while it runs.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/access.rs"]
mod access;
mod support;

use std::{
    fs,
    process::Stdio,
    time::{Duration, Instant},
};

use access::{PATIENCE, data, get, keys, until, with_model};
use futures_util::StreamExt;
use lyceum_sim::{SimConfig, Simulator, Spread};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use support::{Server, lyceum, run};

const OFFLINE: [&str; 2] = ["--provider", "offline"];

/// What the documentation promises.
const PROMISED: Duration = Duration::from_secs(2);

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
    let server = with_model(&sim.url());
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
