//! The LangGraph API as its official SDK sees it: a real server with the offline student.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::Command,
};

use lyceum_store_postgres::test_server::TestServer;
use serde_json::Value;
use support::{Server, python, root, run};

/// Runs the script with its arguments to its end.
fn drive(arguments: &[&str]) {
    drive_with("langgraph_api.py", arguments);
}

fn drive_with(script: &str, arguments: &[&str]) {
    let output = Command::new(python())
        .arg(root().join("bins/lyceum/tests/compat").join(script))
        .args(arguments)
        .output()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
}

/// A new key of a tenant: its secret, and the lines that let the server know it.
fn key(name: &str, tenant: &str) -> (String, String) {
    let output = run(&["key", name, "--tenant", tenant], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    let mut words = text.split_whitespace();
    let secret = words.find(|word| word.starts_with("lyc-")).unwrap();
    let lines = text.find("[[auth.keys]]").unwrap();
    (secret.to_owned(), text[lines..].to_owned())
}

#[test]
fn the_langgraph_sdk_agrees() {
    let server = Server::offline();
    drive(&["all", &server.url]);
}

/// With the sample graphs of this name.
fn samples(name: &str) {
    let samples = [("LYCEUM_LANGGRAPH__SAMPLES", name)];
    let server = Server::start(&["--provider", "offline"], &samples);
    drive_with("langgraph_samples.py", &[name, &server.url]);
}

#[test]
fn subgraphs_commands_crons_and_factories_agree_with_the_sdk() {
    samples("classic");
}

#[test]
fn the_stream_of_a_thread_agrees_with_the_sdk() {
    samples("streaming");
}

/// In a network that the operator opened.
#[test]
fn the_end_of_a_run_is_told_to_the_address_that_its_client_gave() {
    let receiver = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = receiver.local_addr().unwrap().port();
    let ports = format!("[{port}]");
    let env = [
        ("LYCEUM_LANGGRAPH__WEBHOOKS__NETWORKS", "[\"127.0.0.1/32\"]"),
        ("LYCEUM_LANGGRAPH__WEBHOOKS__PORTS", ports.as_str()),
    ];
    let server = Server::start(&["--provider", "offline"], &env);
    let address = format!("http://127.0.0.1:{port}/hook?token=secret");
    drive(&["webhook", &server.url, &address]);
    let (mut stream, _) = receiver.accept().unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        reader.read_line(&mut head).unwrap();
    }
    assert!(head.starts_with("POST /hook?token=secret "), "{head}");
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.unwrap().parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    stream
        .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
        .unwrap();
    let told: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(told["status"], "success", "{told}");
    assert_eq!(told["values"]["messages"][3]["content"], "end", "{told}");
}

/// On a database that other servers may share.
#[test]
fn the_same_holds_on_postgresql() {
    let database = TestServer::start().unwrap();
    for name in ["off", "classic", "streaming"] {
        let address = database.database().unwrap();
        let env = [
            ("LYCEUM_STORE__KIND", "postgres"),
            ("LYCEUM_STORE__URL", address.as_str()),
            ("LYCEUM_LANGGRAPH__SAMPLES", name),
        ];
        let server = Server::start(&["--provider", "offline"], &env);
        match name {
            "off" => drive(&["all", &server.url]),
            name => drive_with("langgraph_samples.py", &[name, &server.url]),
        }
    }
}

#[test]
fn a_thread_belongs_to_the_tenant_of_its_key() {
    let (ours, first) = key("alice", "school");
    let (theirs, second) = key("bob", "college");
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("lyceum.toml");
    fs::write(&config, first + "\n" + &second).unwrap();
    let path = config.to_str().unwrap().to_owned();
    let flags = ["--provider", "offline", "--config", &path];
    let server = Server::start_in(dir, &flags, &[]);
    drive(&["tenants", &server.url, &ours, &theirs]);
}
