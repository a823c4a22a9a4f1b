//! Starts the real `lyceum` program on a free port with a data directory of its own.
//!
//! Every test binary compiles this module and uses a part of it.
#![expect(
    dead_code,
    clippy::unwrap_used,
    clippy::panic,
    reason = "each test binary uses a part, and fails by panicking"
)]

use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use tempfile::TempDir;

/// A running server; dropping it kills the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
    pub(crate) banner: String,
    pub(crate) dir: TempDir,
    errors: Option<std::thread::JoinHandle<()>>,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts with the offline student.
    pub(crate) fn offline() -> Self {
        Self::start(&["--provider", "offline"], &[])
    }

    pub(crate) fn start(flags: &[&str], env: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), flags, env)
    }

    pub(crate) fn start_in(dir: TempDir, flags: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = lyceum();
        command
            .arg("serve")
            .arg("--data-dir")
            .arg(dir.path().join("data"));
        if !flags.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(flags).envs(env.iter().copied());
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let told = log.clone();
        let errors = std::thread::spawn(move || {
            let mut line = Vec::new();
            while errors
                .read_until(b'\n', &mut line)
                .is_ok_and(|read| read > 0)
            {
                told.lock()
                    .unwrap()
                    .push_str(&String::from_utf8_lossy(&line));
                line.clear();
            }
        });
        let mut banner = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let url = loop {
            let start = banner.len();
            if lines.read_line(&mut banner).unwrap() == 0 {
                errors.join().unwrap();
                panic!("the server stopped: {banner}{}", log.lock().unwrap());
            }
            if let Some(address) = banner[start..].trim().strip_prefix("page") {
                break address.trim().to_owned();
            }
        };
        Self {
            child,
            url,
            banner,
            dir,
            errors: Some(errors),
            log,
        }
    }

    /// What was written to standard error so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by its name, e.g. `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args(["-s", name, &self.pid().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the end: the exit code and what was written to standard error.
    pub(crate) fn wait(mut self) -> (Option<i32>, String, TempDir) {
        let status = self.child.wait().unwrap();
        self.errors.take().unwrap().join().unwrap();
        let errors = self.log();
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().unwrap());
        (status.code(), errors, dir)
    }

    pub(crate) fn kill(mut self) -> TempDir {
        self.child.kill().unwrap();
        self.wait().2
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program with an environment that holds no key and no setting of this machine.
pub(crate) fn lyceum() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lyceum"));
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    // No Ollama of this machine: a port where nothing listens.
    command.env("OLLAMA_HOST", "127.0.0.1:9");
    command.stdin(Stdio::null());
    command
}

/// Runs the program to its end.
pub(crate) fn run(args: &[&str], env: &[(&str, &str)]) -> Output {
    lyceum()
        .args(args)
        .envs(env.iter().copied())
        .output()
        .unwrap()
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
        .to_owned()
}

/// The Python with the packages of `tests/requirements.txt`.
pub(crate) fn python() -> PathBuf {
    let python = match std::env::var_os("LYCEUM_TEST_PYTHON") {
        Some(path) => PathBuf::from(path),
        None => root().join(".cache/python/bin/python"),
    };
    assert!(
        python.is_file(),
        "{} is missing: run `cargo xtask setup`",
        python.display()
    );
    python
}

/// The folder with the npm packages of `tests/package.json`.
pub(crate) fn javascript() -> PathBuf {
    let folder = match std::env::var_os("LYCEUM_TEST_JS") {
        Some(path) => PathBuf::from(path),
        None => root().join(".cache/js"),
    };
    assert!(
        folder.join("node_modules/openai").is_dir(),
        "{} has no packages: run `cargo xtask setup`",
        folder.display()
    );
    folder
}

/// A small real model.
pub(crate) fn model() -> PathBuf {
    let model = match std::env::var_os("LYCEUM_TEST_GGUF") {
        Some(path) => PathBuf::from(path),
        None => root().join(".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"),
    };
    assert!(
        model.is_file(),
        "{} is missing: run `cargo xtask setup`",
        model.display()
    );
    model
}

/// An answer: its status and its text.
pub(crate) struct Reply {
    pub(crate) status: reqwest::StatusCode,
    pub(crate) text: String,
}

impl Reply {
    /// The JSON of an answer that must be 200.
    pub(crate) fn json(&self) -> serde_json::Value {
        assert_eq!(self.status, reqwest::StatusCode::OK, "{}", self.text);
        serde_json::from_str(&self.text).unwrap()
    }
}

/// Sends a request with a key, and with a body unless that is null.
pub(crate) async fn send(
    server: &Server,
    key: &str,
    method: reqwest::Method,
    path: &str,
    body: serde_json::Value,
) -> Reply {
    let url = format!("{}/{path}", server.url);
    let mut request = reqwest::Client::new().request(method, url).bearer_auth(key);
    if !body.is_null() {
        request = request.json(&body);
    }
    let answer = request.send().await.unwrap();
    Reply {
        status: answer.status(),
        text: answer.text().await.unwrap(),
    }
}

/// The lines that configure a key, which is its own name.
pub(crate) fn key_lines(key: &str, tenant: &str, user: &str, more: &str) -> String {
    let digest = lyceum_gateway::ApiKey::digest(key);
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "[[auth.keys]]\nname = \"{user}-{tenant}\"\ntenant = \"{tenant}\"\nuser = \"{user}\"\nsha256 = \"{digest}\"\n{more}\n"
    )
}

/// Asks until the answer is as wanted, and gives the last one. What a health check found is told
/// again for two seconds.
pub(crate) async fn until<T, F: Future<Output = T>>(
    ask: impl Fn() -> F,
    wanted: impl Fn(&T) -> bool,
) -> T {
    for _ in 0..100 {
        let answer = ask().await;
        if wanted(&answer) {
            return answer;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ask().await
}
