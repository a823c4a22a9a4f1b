//! The real server as a server of the Model Context Protocol: under its keys, and by the
//! protocol's official SDK over both transports.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use lyceum_gateway::ApiKey;
use serde_json::{Value, json};
use support::{Server, javascript, lyceum, python, root};

const LESSON: &str = "Water freezes because it gets cold. Ice always floats.";

async fn call(server: &Server, key: Option<&str>, name: &str, arguments: Value) -> (u16, Value) {
    let body = json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call",
        "params": {"name": name, "arguments": arguments},
    });
    let mut request = reqwest::Client::new()
        .post(format!("{}/mcp", server.url))
        .header("accept", "application/json, text/event-stream")
        .header("mcp-protocol-version", "2025-06-18")
        .json(&body);
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    (status, serde_json::from_str(&text).unwrap_or_default())
}

#[tokio::test]
async fn each_key_reaches_its_own_lessons() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    let mut text = "[tools]\nstudent = [\"calculate\"]\n".to_owned();
    for name in ["alice", "bob"] {
        let digest = ApiKey::digest(&format!("{name}-key"));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!(
            "[[auth.keys]]\nname = \"{name}\"\ntenant = \"school\"\nuser = \"{name}\"\nsha256 = \"{digest}\"\n"
        ));
    }
    std::fs::write(&file, text).unwrap();
    let file = file.display().to_string();
    let server = Server::start_in(dir, &["--provider", "offline", "--config", &file], &[]);

    let lesson = || json!({"topic": "Ice", "explanation": LESSON});
    let (status, _) = call(&server, None, "teach", lesson()).await;
    assert_eq!(status, 401);
    let (status, taught) = call(&server, Some("alice-key"), "teach", lesson()).await;
    assert_eq!(status, 200, "{taught}");
    let session = taught["result"]["structuredContent"]["session"].clone();
    let of = || json!({"session": session});
    let (_, mine) = call(&server, Some("alice-key"), "notes", of()).await;
    assert_eq!(mine["result"]["isError"], false, "{mine}");
    let (_, other) = call(&server, Some("bob-key"), "notes", of()).await;
    assert_eq!(other["result"]["isError"], true, "{other}");
    // The list of tools that the student may call is also what others find.
    let (_, clock) = call(&server, Some("bob-key"), "date_time", json!({})).await;
    assert!(clock["error"].is_object(), "{clock}");
}

#[tokio::test]
async fn the_official_sdk_holds_a_lesson_over_both_transports() {
    let server = Server::offline();
    let data = tempfile::tempdir().unwrap();
    let mut client = Command::new(python());
    client
        .arg(root().join("bins/lyceum/tests/compat/mcp_sdk.py"))
        .arg(lyceum().get_program())
        .arg(data.path())
        .arg(&server.url);
    succeeds(client).await;
}

#[tokio::test]
async fn the_public_conformance_suite_finds_what_is_expected() {
    let server = Server::offline();
    let suite = javascript().join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let known = root().join("bins/lyceum/tests/compat/mcp_conformance.yml");
    let mut client = Command::new("node");
    client
        .arg(suite)
        .args(["server", "--url", &format!("{}/mcp", server.url)])
        .arg("--expected-failures")
        .arg(known)
        // What it notes down goes with the server's folder.
        .current_dir(server.dir.path());
    succeeds(client).await;
}

async fn succeeds(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = output.await.unwrap().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

/// An agent that goes away without closing what the server reads must not keep it alive.
#[test]
fn on_standard_input_it_ends_when_it_is_told_to() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = lyceum()
        .args(["mcp", "--provider", "offline", "--data-dir"])
        .arg(dir.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let hello = json!({
        "jsonrpc": "2.0", "id": 1, "method": "initialize",
        "params": {
            "protocolVersion": "2025-06-18", "capabilities": {},
            "clientInfo": {"name": "test", "version": "1"},
        },
    });
    writeln!(input, "{hello}").unwrap();
    let mut answer = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    output.read_line(&mut answer).unwrap();
    assert!(answer.contains("serverInfo"), "{answer}");
    let pid = child.id().to_string();
    let told = Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    assert!(told.success());
    // A server that does not end fails the test by the time it takes.
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait().unwrap().code()));
    assert_eq!(end.recv_timeout(Duration::from_secs(30)), Ok(Some(0)));
    drop(input);
}
