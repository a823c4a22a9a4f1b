//! Makes keys for a running server and asks with them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use reqwest::{Client, Response};
use serde_json::Value;

use crate::support::{Server, run};

/// What a busy machine may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `lyceum keys`: what it prints, or its complaint.
pub(crate) fn keys(data: &Path, args: &[&str]) -> Result<Value, String> {
    let data = data.to_str().unwrap();
    let all = [&["keys"], args, &["--data-dir", data, "--json"]].concat();
    let output = run(&all, &[]);
    match output.status.success() {
        true => Ok(serde_json::from_slice(&output.stdout).unwrap()),
        false => Err(String::from_utf8(output.stderr).unwrap()),
    }
}

/// The data directory.
pub(crate) fn data(server: &Server) -> PathBuf {
    server.dir.path().join("data")
}

/// Asks with a key.
pub(crate) async fn get(server: &Server, key: &str, path: &str) -> Response {
    let get = Client::new().get(format!("{}{path}", server.url));
    get.bearer_auth(key).send().await.unwrap()
}

/// How long it takes until a key is answered so.
pub(crate) async fn until(server: &Server, key: &str, status: u16) -> Duration {
    let began = Instant::now();
    while get(server, key, "/usage").await.status() != status {
        assert!(began.elapsed() < PATIENCE, "it is never {status}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    began.elapsed()
}

/// A server with the model of a simulator.
pub(crate) fn with_model(url: &str) -> Server {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    let text = format!(
        "[model]\nprovider = \"openai\"\nname = \"gpt-4.1-mini\"\nbase_url = \"{url}/v1\"\napi_key = \"sk-test\"\n"
    );
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap().to_owned();
    Server::start_in(dir, &["--config", &file], &[])
}
