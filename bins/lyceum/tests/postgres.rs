//! The server on PostgreSQL: two processes share it, and outlive it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::path::Path;

use lyceum_store_postgres::test_server::TestServer;
use serde_json::{Value, json};
use support::{Server, lyceum, run, until};

fn start(address: &str) -> Server {
    let env = [
        ("LYCEUM_STORE__KIND", "postgres"),
        ("LYCEUM_STORE__URL", address),
    ];
    Server::start(&["--provider", "offline"], &env)
}

async fn explain(server: &Server, text: &str) -> reqwest::Response {
    let body = json!({"topic": "Gravity", "explanation": text, "session_id": "shared"});
    let url = format!("{}/chat", server.url);
    reqwest::Client::new()
        .post(url)
        .json(&body)
        .send()
        .await
        .unwrap()
}

async fn status(server: &Server, path: &str) -> u16 {
    let answer = reqwest::get(format!("{}/{path}", server.url))
        .await
        .unwrap();
    answer.status().as_u16()
}

async fn turns(answer: reqwest::Response) -> usize {
    let status = answer.status();
    let text = answer.text().await.unwrap();
    assert!(status.is_success(), "{status}: {text}");
    let answer: Value = serde_json::from_str(&text).unwrap();
    answer["short_term_memory"].as_array().unwrap().len()
}

#[tokio::test]
async fn two_servers_share_conversations_and_outlive_the_database() {
    let database = TestServer::start().unwrap();
    let address = database.database().unwrap();
    let (one, two) = (start(&address), start(&address));
    assert!(
        one.banner.contains("PostgreSQL at 127.0.0.1:"),
        "{}",
        one.banner
    );
    assert!(!one.banner.contains("lyceum@"), "{}", one.banner);
    assert_eq!(turns(explain(&one, "Mass attracts mass.").await).await, 2);
    assert_eq!(turns(explain(&two, "So apples fall.").await).await, 4);

    // What was answered is still there after a crash of the database, without a restart.
    database.crash().unwrap();
    let ready = until(|| status(&one, "readyz"), |&status| status == 503).await;
    assert_eq!(ready, 503, "it takes no more requests");
    assert_eq!(
        status(&one, "livez").await,
        200,
        "and need not be started anew"
    );
    database.restart().unwrap();
    assert_eq!(
        turns(explain(&one, "And the moon falls too.").await).await,
        6
    );

    two.signal("TERM");
    let (code, errors, _) = two.wait();
    assert_eq!(code, Some(0), "{errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    let dir = one.kill();
    let file = dir.path().join("data/lyceum.db");
    assert!(!file.exists(), "no conversation is kept in a file");
    assert_eq!(
        turns(explain(&start(&address), "Is that all?").await).await,
        8
    );
}

#[test]
fn what_cannot_work_is_said_before_anything_starts() {
    let refused = |env: &[(&str, &str)]| {
        let output = run(
            &["serve", "--provider", "offline", "--listen", "127.0.0.1:0"],
            env,
        );
        assert!(!output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let kind = ("LYCEUM_STORE__KIND", "postgres");
    let said = refused(&[kind]);
    assert!(said.contains("store.url"), "{said}");
    let nowhere = "postgresql://u:hunter2@127.0.0.1:1/x";
    let said = refused(&[kind, ("LYCEUM_STORE__URL", nowhere)]);
    assert!(
        said.contains("127.0.0.1:1") && !said.contains("hunter2"),
        "{said}"
    );
    let said = refused(&[("LYCEUM_STORE__URL", nowhere)]);
    assert!(
        said.contains("store.kind") && !said.contains("hunter2"),
        "{said}"
    );
}

/// Runs `lyceum memory …` on the database with this key, or none.
fn memory(address: &str, data: &Path, key: Option<&str>, arguments: &[&str]) -> (bool, String) {
    let mut command = lyceum();
    command.arg("memory").args(arguments).arg("--data-dir");
    command.arg(data).envs([
        ("LYCEUM_STORE__KIND", "postgres"),
        ("LYCEUM_STORE__URL", address),
    ]);
    command.envs(key.map(|key| ("LYCEUM_PRIVACY__ENCRYPTION_KEY", key)));
    let output = command.output().unwrap();
    let said = [&output.stdout[..], &output.stderr[..]].concat();
    let said = String::from_utf8(said).unwrap();
    (output.status.success(), said)
}

#[tokio::test]
async fn a_clear_database_is_encrypted_and_opens_with_its_key_alone() {
    let database = TestServer::start().unwrap();
    let address = database.database().unwrap();
    let (key, other) = ("0a".repeat(32), "0b".repeat(32));
    let server = start(&address);
    assert_eq!(
        turns(explain(&server, "Mass attracts mass.").await).await,
        2
    );
    server.signal("TERM");
    let (code, errors, dir) = server.wait();
    assert_eq!(code, Some(0), "{errors}");
    let data = dir.path().join("data");
    let early = memory(&address, &data, Some(&key), &["verify"]);
    assert!(
        !early.0 && early.1.contains("lyceum memory encrypt"),
        "{}",
        early.1
    );
    let done = memory(&address, &data, Some(&key), &["encrypt"]);
    assert!(done.0, "{}", done.1);
    let without = memory(&address, &data, None, &["verify"]);
    assert!(
        !without.0 && without.1.contains("encryption_key_file"),
        "{}",
        without.1
    );
    let wrong = memory(&address, &data, Some(&other), &["verify"]);
    assert!(
        !wrong.0 && wrong.1.contains("is not the one"),
        "{}",
        wrong.1
    );
    let rotated = memory(&address, &data, Some(&key), &["rotate-key"]);
    assert!(rotated.0, "{}", rotated.1);
    let env = [
        ("LYCEUM_STORE__KIND", "postgres"),
        ("LYCEUM_STORE__URL", address.as_str()),
        ("LYCEUM_PRIVACY__ENCRYPTION_KEY", key.as_str()),
    ];
    let server = Server::start(&["--provider", "offline"], &env);
    assert_eq!(turns(explain(&server, "So apples fall.").await).await, 4);
    let verified = memory(&address, &data, Some(&key), &["verify"]);
    assert!(verified.0, "{}", verified.1);
    let erase = ["erase", "--tenant", "local", "--yes"];
    let erased = memory(&address, &data, Some(&key), &erase);
    assert!(erased.0, "{}", erased.1);
    assert_eq!(turns(explain(&server, "Is that all?").await).await, 2);
}
