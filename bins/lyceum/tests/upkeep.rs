//! `lyceum memory`: what a server stored is checked, moved and forgotten; and what logs tell.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path, process::Output};

use serde_json::{Value, json};
use support::{Server, lyceum};

/// A word that nothing of the program says by itself.
const PLANTED: &str = "Quastenflosser";
const MAIL: &str = "ada.lovelace@example.org";

async fn chat(server: &Server, session: &str, text: &str) {
    let body = json!({"topic": "Fish", "explanation": text, "session_id": session});
    let response = reqwest::Client::new()
        .post(format!("{}/chat", server.url))
        .json(&body)
        .send();
    let response = response.await.unwrap();
    let status = response.status();
    assert!(
        status.is_success(),
        "{status}: {}",
        response.text().await.unwrap()
    );
}

/// Runs `lyceum memory …` over a data directory.
fn memory(data: &Path, kind: &str, arguments: &[&str]) -> Output {
    let mut command = lyceum();
    command
        .arg("memory")
        .args(arguments)
        .arg("--data-dir")
        .arg(data);
    command.env("LYCEUM_STORE__KIND", kind);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8(text).unwrap()
}

/// The files below a folder that hold a word.
fn holding(folder: &Path, word: &str) -> Vec<String> {
    let mut holding = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holding.extend(self::holding(&path, word));
        } else if fs::read(&path)
            .unwrap()
            .windows(word.len())
            .any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
        {
            holding.push(path.display().to_string());
        }
    }
    holding
}

async fn a_store_is_kept_up(kind: &str) {
    let env = [("LYCEUM_STORE__KIND", kind)];
    let server = Server::start(&["--provider", "offline"], &env);
    let text = format!("A {PLANTED} is a fish, because its fins are like legs.");
    chat(&server, "lesson", &text).await;
    chat(
        &server,
        "lesson",
        "It lives in the deep sea near the Comoros.",
    )
    .await;
    let data = server.dir.path().join("data");
    let refused = memory(&data, kind, &["verify"]);
    assert!(
        !refused.status.success(),
        "a server runs: {}",
        said(&refused)
    );
    server.signal("TERM");
    let (code, errors, dir) = server.wait();
    assert_eq!(code, Some(0), "{errors}");
    let data = dir.path().join("data");

    let verified = memory(&data, kind, &["verify"]);
    let text = said(&verified);
    assert!(
        verified.status.success() && text.contains("Sound."),
        "{text}"
    );
    assert!(
        text.contains("1 sessions, 4 messages, 2 memories"),
        "{text}"
    );
    assert!(memory(&data, kind, &["rebuild"]).status.success());

    let file = dir.path().join("export.jsonl");
    let file = file.to_str().unwrap();
    let exported = memory(&data, kind, &["export", file]);
    assert!(exported.status.success(), "{}", said(&exported));
    let lines = fs::read_to_string(file).unwrap();
    assert!(
        lines.contains(PLANTED) && lines.lines().count() == 7,
        "{lines}"
    );
    assert!(
        lines
            .lines()
            .all(|line| serde_json::from_str::<Value>(line).is_ok()),
        "{lines}"
    );
    let again = memory(&data, kind, &["export", file]);
    assert!(!again.status.success(), "a file that is there stays");

    assert!(!holding(&data, PLANTED).is_empty());
    let hesitant = memory(&data, kind, &["erase", "--tenant", "local"]);
    assert!(!hesitant.status.success() && said(&hesitant).contains("--yes"));
    let mistyped = memory(&data, kind, &["erase", "--tenant", "locl", "--yes"]);
    let text = said(&mistyped);
    assert!(
        !mistyped.status.success() && text.contains("nothing is stored of tenant locl"),
        "{text}"
    );
    let erase = ["erase", "--tenant", "local", "--user", "local", "--yes"];
    let erased = memory(&data, kind, &erase);
    let text = said(&erased);
    assert!(text.contains("Erased 1 sessions and 2 memories."), "{text}");
    assert_eq!(holding(&data, PLANTED), Vec::<String>::new());

    let imported = memory(&data, kind, &["import", file]);
    let text = said(&imported);
    assert!(
        text.contains("Imported 1 sessions of 4 messages and 2 memories"),
        "{text}"
    );
    assert!(!holding(&data, PLANTED).is_empty());
    assert!(said(&memory(&data, kind, &["verify"])).contains("Sound."));
    // The server goes on with what was imported.
    let server = Server::start_in(dir, &["--provider", "offline"], &env);
    chat(&server, "lesson", "It was thought to be extinct.").await;
    server.signal("TERM");
    let (_, _, dir) = server.wait();
    let verified = memory(&dir.path().join("data"), kind, &["verify"]);
    assert!(
        said(&verified).contains("1 sessions, 6 messages"),
        "{}",
        said(&verified)
    );
}

/// A file with a key, which only its owner may read.
fn key_file(folder: &Path, name: &str, digits: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, digits.repeat(32)).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.to_str().unwrap().to_owned()
}

/// Runs `lyceum memory …` with these keys, the newest first.
fn sealed(data: &Path, keys: &[&str], arguments: &[&str]) -> Output {
    let mut command = lyceum();
    command
        .arg("memory")
        .args(arguments)
        .arg("--data-dir")
        .arg(data);
    if let Some((newest, old)) = keys.split_first() {
        command.env("LYCEUM_PRIVACY__ENCRYPTION_KEY_FILE", newest);
        if !old.is_empty() {
            let old = serde_json::to_string(old).unwrap();
            command.env("LYCEUM_PRIVACY__ENCRYPTION_OLD_KEY_FILES", old);
        }
    }
    command.output().unwrap()
}

fn stop(server: Server) -> tempfile::TempDir {
    server.signal("TERM");
    let (code, errors, dir) = server.wait();
    assert_eq!(code, Some(0), "{errors}");
    dir
}

#[tokio::test]
async fn a_clear_store_is_encrypted_rotated_and_erased() {
    let keys = tempfile::tempdir().unwrap();
    let old = key_file(keys.path(), "old.key", "0a");
    let new = key_file(keys.path(), "new.key", "0b");
    let server = Server::start(&["--provider", "offline"], &[]);
    let text = format!("A {PLANTED} is a fish, because its fins are like legs.");
    chat(&server, "lesson", &text).await;
    let knowledge = known(&server, "lesson").await;
    let dir = stop(server);
    let data = dir.path().join("data");
    assert!(!holding(&data, PLANTED).is_empty());

    let early = sealed(&data, &[&old], &["verify"]);
    assert!(
        said(&early).contains("lyceum memory encrypt"),
        "{}",
        said(&early)
    );
    let done = sealed(&data, &[&old], &["encrypt"]);
    assert!(done.status.success(), "{}", said(&done));
    assert_eq!(holding(&data, PLANTED), Vec::<String>::new());
    let without = sealed(&data, &[], &["verify"]);
    assert!(
        said(&without).contains("encryption_key_file"),
        "{}",
        said(&without)
    );
    let wrong = sealed(&data, &[&new], &["verify"]);
    assert!(
        !wrong.status.success() && said(&wrong).contains("is not the one"),
        "{}",
        said(&wrong)
    );

    let env = [("LYCEUM_PRIVACY__ENCRYPTION_KEY_FILE", old.as_str())];
    let server = Server::start_in(dir, &["--provider", "offline"], &env);
    assert_eq!(
        known(&server, "lesson").await,
        knowledge,
        "what was taught is known"
    );
    chat(&server, "lesson", "It was thought to be extinct.").await;
    chat(&server, "second", &format!("The {PLANTED} lives deep.")).await;
    let knowledge = known(&server, "lesson").await;
    let dir = stop(server);
    let data = dir.path().join("data");
    assert_eq!(holding(&data, PLANTED), Vec::<String>::new());

    let done = sealed(&data, &[&new, &old], &["rotate-key"]);
    assert!(done.status.success(), "{}", said(&done));
    let gone = sealed(&data, &[&old], &["verify"]);
    assert!(!gone.status.success(), "the old key opens nothing");
    let verified = sealed(&data, &[&new], &["verify"]);
    assert!(said(&verified).contains("Sound."), "{}", said(&verified));
    let env = [("LYCEUM_PRIVACY__ENCRYPTION_KEY_FILE", new.as_str())];
    let server = Server::start_in(dir, &["--provider", "offline"], &env);
    assert_eq!(
        known(&server, "lesson").await,
        knowledge,
        "what was taught is known"
    );
    let dir = stop(server);
    let data = dir.path().join("data");

    let file = dir.path().join("export.jsonl");
    let file = file.to_str().unwrap();
    let exported = sealed(&data, &[&new], &["export", file]);
    assert!(exported.status.success(), "{}", said(&exported));
    assert!(fs::read_to_string(file).unwrap().contains(PLANTED));
    let erased = sealed(&data, &[&new], &["erase", "--tenant", "local", "--yes"]);
    assert!(
        said(&erased).contains("Erased 2 sessions"),
        "{}",
        said(&erased)
    );
    let again = sealed(&data, &[&new], &["erase", "--tenant", "local", "--yes"]);
    assert!(!again.status.success() && said(&again).contains("nothing is stored"));
    let imported = sealed(&data, &[&new], &["import", file]);
    assert!(imported.status.success(), "{}", said(&imported));
    assert_eq!(holding(&data, PLANTED), Vec::<String>::new());
    assert!(said(&sealed(&data, &[&new], &["verify"])).contains("Sound."));
}

/// What the student knows of a conversation.
async fn known(server: &Server, session: &str) -> Value {
    let url = format!("{}/sessions/{session}/knowledge", server.url);
    let response = reqwest::get(url).await.unwrap();
    assert!(response.status().is_success());
    response.json().await.unwrap()
}

#[tokio::test]
async fn a_key_that_others_may_read_is_refused() {
    let keys = tempfile::tempdir().unwrap();
    let key = key_file(keys.path(), "a.key", "0a");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = sealed(keys.path(), &[&key], &["verify"]);
    assert!(said(&refused).contains("chmod 600"), "{}", said(&refused));
}

#[tokio::test]
async fn a_file_is_kept_up() {
    a_store_is_kept_up("sqlite").await;
}

#[tokio::test]
async fn a_folder_is_kept_up() {
    a_store_is_kept_up("json").await;
}

#[tokio::test]
async fn logs_tell_nothing_personal_unless_they_are_told_to() {
    for (format, logs) in [("json", "true"), ("text", "true"), ("json", "false")] {
        let flags = [
            "--provider",
            "offline",
            "--log",
            "debug",
            "--log-format",
            format,
        ];
        let server = Server::start(&flags, &[("LYCEUM_PRIVACY__LOGS", logs)]);
        // A session's id may be somebody's address, and is in every line of its requests.
        chat(
            &server,
            MAIL,
            "Call 13800138000 or pay with 4111 1111 1111 1111.",
        )
        .await;
        server.signal("TERM");
        let (_, errors, _) = server.wait();
        let lines: Vec<&str> = errors.lines().collect();
        assert!(lines.len() > 2, "{errors}");
        let is_told = errors.contains(MAIL);
        assert_eq!(is_told, logs == "false", "{format}: {errors}");
        assert_eq!(
            errors.contains("[email]"),
            logs == "true",
            "{format}: {errors}"
        );
        assert!(!errors.contains("4111 1111"), "{errors}");
    }
}
