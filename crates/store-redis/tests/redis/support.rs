//! A Redis server of the test's own, on a free port, in a directory of its own.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use lyceum_store_redis::RedisServer;
use tempfile::TempDir;

/// A running server; dropping it kills the process.
pub(crate) struct Redis {
    child: Child,
    port: u16,
    dir: TempDir,
}

impl Redis {
    pub(crate) fn start() -> Self {
        for _ in 0..20 {
            // Another process may take the port in between: then try the next one.
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            drop(listener);
            let dir = tempfile::tempdir().unwrap();
            let mut child = spawn(port, &dir);
            if wait_until_ready(&mut child, port) {
                return Self { child, port, dir };
            }
        }
        panic!("redis-server found no free port");
    }

    pub(crate) fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A client with a connection of its own.
    pub(crate) fn server(&self) -> RedisServer {
        RedisServer::new(&self.address().into(), Duration::from_millis(100)).unwrap()
    }

    /// Sends a command in Redis's inline form and returns the answer's first bytes.
    pub(crate) fn command(&self, command: &str) -> String {
        ask(self.port, command).expect("the server answers")
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        assert!(status.unwrap().success());
    }

    /// Kills the server and starts an empty one on the same port.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn start_again(&mut self) {
        self.child = spawn(self.port, &self.dir);
        assert!(wait_until_ready(&mut self.child, self.port));
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &TempDir) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
        .args(["--save", "", "--appendonly", "no", "--dir"])
        .arg(dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is missing: run `cargo xtask setup`")
}

fn wait_until_ready(child: &mut Child, port: u16) -> bool {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(20) {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if ask(port, "PING").is_some_and(|answer| answer.starts_with("+PONG")) {
            return true;
        }
        std::thread::yield_now();
    }
    panic!("redis-server does not answer");
}

fn ask(port: u16, command: &str) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.write_all(format!("{command}\r\n").as_bytes()).ok()?;
    let mut answer = [0; 4096];
    let length = stream.read(&mut answer).ok()?;
    Some(String::from_utf8_lossy(&answer[..length]).into_owned())
}
