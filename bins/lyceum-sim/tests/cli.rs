//! The two commands as a user runs them.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use serde_json::Value;

const PROGRAM: &str = env!("CARGO_BIN_EXE_lyceum-sim");

/// A simulator that is killed when the test ends.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
}

impl Server {
    fn start(options: &[&str]) -> Self {
        let mut child = Command::new(PROGRAM)
            .arg("serve")
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("lyceum-sim listens on ").unwrap();
        Self {
            url: url.to_owned(),
            child,
            stdout,
        }
    }

    /// Ends it as a user would, and reads what it counted.
    fn end(mut self, signal: &str) -> Value {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args([signal, &pid]).status().unwrap();
        assert!(killed.success());
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(self.child.wait().unwrap().success());
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone when the test passed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn load(server: &Server, endpoint: &str) -> (bool, Vec<Value>) {
    let arguments = [
        "load",
        "--target",
        &server.url,
        "--endpoint",
        endpoint,
        "--users",
        "3",
        "--requests",
        "30",
    ];
    let output = run(&arguments);
    let lines = String::from_utf8(output.stdout).unwrap();
    let metrics = lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap());
    (output.status.success(), metrics.collect())
}

#[test]
fn a_clean_run_ends_with_success_and_figures() {
    let server = Server::start(&[]);
    let (clean, metrics) = load(&server, "openai-stream");
    assert!(clean, "{metrics:?}");
    let value = |name: &str| {
        let metric = metrics
            .iter()
            .find(|metric| metric["metric"] == name)
            .unwrap();
        let mut keys: Vec<&String> = metric.as_object().unwrap().keys().collect();
        keys.sort();
        assert_eq!(keys, ["bench", "case", "metric", "target", "unit", "value"]);
        assert_eq!(metric["case"], "openai-stream-3-users");
        metric["value"].as_f64().unwrap()
    };
    assert!((value("answers") - 30.0).abs() < f64::EPSILON);
    assert!(value("rate") > 0.0 && value("latency_p99") >= value("first_byte_p50"));
    assert!(value("mixed_up") + value("errors") < f64::EPSILON);
    assert_eq!(server.end("-INT")["answered"], 30);
}

#[test]
fn a_run_with_failures_ends_with_status_1_and_says_which() {
    let server = Server::start(&["--fault", "500@3,7", "--fault", "truncate@9"]);
    let (clean, metrics) = load(&server, "anthropic-stream");
    assert!(!clean);
    let count = |name: &str| {
        let metric = metrics.iter().find(|metric| metric["metric"] == name);
        metric.unwrap()["value"].as_f64().unwrap() as u64
    };
    assert_eq!(
        (count("errors_status_500"), count("errors_truncated")),
        (2, 1)
    );
    assert_eq!(count("answers"), 27);
    assert_eq!(server.end("-TERM")["answered"], 27);
}

#[test]
fn scripts_are_read_and_mistakes_are_explained() {
    let folder = std::env::temp_dir().join(format!("lyceum-sim-cli-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let script = folder.join("script.json");
    let path = script.to_str().unwrap();
    std::fs::write(&script, r#"[{"text": "About {{marker}}, in short."}]"#).unwrap();
    let server = Server::start(&["--script", path]);
    assert!(load(&server, "openai").0);
    server.end("-INT");

    std::fs::write(&script, r#"[{"usr": "x", "text": "y"}]"#).unwrap();
    let cases: [(&[&str], &str); 5] = [
        (&["serve", "--script", path], "unknown field `usr`"),
        (&["serve", "--fault", "fire=1%"], "expected FAULT=5%"),
        (&["serve", "--tool-use", "2"], "expected 0 to 1"),
        (
            &["load", "--target", "localhost"],
            "expected http://HOST:PORT",
        ),
        (
            &["serve", "--listen", "203.0.113.1:1"],
            "listen on 203.0.113.1:1",
        ),
    ];
    for (arguments, expected) in cases {
        let output = run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(error.contains(expected), "{arguments:?}: {error}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
