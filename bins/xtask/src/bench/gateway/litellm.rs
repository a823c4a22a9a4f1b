//! The same load on LiteLLM's proxy, where it is installed.

use std::{
    fs,
    process::{Command, Stdio},
};

use anyhow::Result;
use serde_json::json;

use super::{Cost, Users};
use crate::bench::{
    Figures,
    build::Programs,
    process::Running,
    say,
    users::{MODEL, home},
};

/// The program, as `pip install 'litellm[proxy]'` names it.
const PROGRAM: &str = "litellm";

/// Lets the users talk to the proxy before a provider of its own, and prints its cost and how many times ours it is.
pub(super) fn beside(
    figures: &Figures,
    programs: &Programs,
    users: &Users,
    ours: f64,
) -> Result<()> {
    let version = Command::new(PROGRAM)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    if !version.is_ok_and(|output| output.status.success()) {
        say(
            "litellm is not installed (pip install 'litellm[proxy]'), so nothing is measured beside",
        );
        return Ok(());
    }
    let name = "litellm-1-kib";
    say(name);
    let home = home(programs)?;
    let mut command = Command::new(&programs.sim);
    let log = home.path().join("provider.log");
    let provider = Running::start(command.arg("serve"), &[], &log)?;
    let config = home.path().join("litellm.yaml");
    let model = json!({
        "model_name": MODEL,
        "litellm_params": {
            "model": format!("openai/{MODEL}"),
            "api_base": format!("{}/v1", provider.url()),
            "api_key": "x",
        },
    });
    // JSON is YAML.
    fs::write(&config, json!({ "model_list": [model] }).to_string())?;
    let port = std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port();
    let mut command = Command::new(PROGRAM);
    command.arg("--config").arg(&config);
    command.args(["--host", "127.0.0.1", "--port", &port.to_string()]);
    let path = std::env::var("PATH").unwrap_or_default();
    let environment = [("PATH", path.as_str()), ("HOME", "/nonexistent")];
    let log = home.path().join("litellm.log");
    let mut proxy = Running::start_at(&mut command, &environment, &log, port)?;
    proxy.answers("/health/liveliness")?;
    let cost = Cost::of(users, programs, &proxy, &provider)?;
    figures.print(name, "errors", cost.errors, "1", None)?;
    figures.print(name, "rate", cost.rate, "1/s", None)?;
    figures.print(name, "server_cpu", cost.server, "us", None)?;
    figures.print(name, "times_ours", cost.server / ours, "1", None)
}
