//! The simulator as the vendors' own SDKs see it, so that it is no private dialect.
//!
//! Needs a Python with the packages of `tests/requirements.txt`: the one that
//! `LYCEUM_TEST_PYTHON` names, else `.cache/python` in the workspace, which
//! `cargo xtask test` creates. Without it these tests fail and say what to run.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use lyceum_sim::{Fault, FaultRule, Running, SimConfig, Simulator, quota::Quotas};

/// The simulators that the scripts know by name.
async fn providers() -> BTreeMap<&'static str, Running> {
    let limited = SimConfig {
        quotas: Quotas {
            requests: Some(1),
            input_tokens: Some(100_000),
            output_tokens: Some(100_000),
            total_tokens: Some(100_000),
            ..Quotas::default()
        },
        ..SimConfig::default()
    };
    let strict = SimConfig {
        models: vec!["known".into()],
        api_keys: vec!["sk-test".into(), "sk-ant-test".into()],
        ..SimConfig::default()
    };
    let faulty = |rule: FaultRule| SimConfig {
        faults: vec![rule],
        ..SimConfig::default()
    };
    let configs = [
        ("plain", SimConfig::default()),
        ("limited", limited),
        ("strict", strict),
        ("fault_429", faulty(FaultRule::always(Fault::RateLimited))),
        ("fault_500", faulty(FaultRule::always(Fault::ServerError))),
        ("fault_529", faulty(FaultRule::always(Fault::Overloaded))),
        ("fault_reset", faulty(FaultRule::always(Fault::Reset))),
        ("fault_truncate", faulty(FaultRule::always(Fault::Truncate))),
        (
            "fault_malformed",
            faulty(FaultRule::always(Fault::Malformed)),
        ),
        (
            "fault_error_event",
            faulty(FaultRule::always(Fault::ErrorEvent)),
        ),
    ];
    let mut running = BTreeMap::new();
    for (name, config) in configs {
        running.insert(name, Simulator::start(config).await.unwrap());
    }
    running
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .unwrap()
}

/// The Python to use, checked to have the package.
fn python(package: &str) -> PathBuf {
    let default = workspace().join(".cache/python/bin/python");
    let python = env::var_os("LYCEUM_TEST_PYTHON").map_or(default, PathBuf::from);
    let import = Command::new(&python)
        .args(["-c", &format!("import {package}")])
        .output();
    let found = import.as_ref().is_ok_and(|output| output.status.success());
    let requirements = workspace().join("tests/requirements.txt");
    let create = match env::var_os("LYCEUM_TEST_PYTHON") {
        Some(_) => String::new(),
        None => format!(
            "python3 -m venv {} && ",
            workspace().join(".cache/python").display()
        ),
    };
    assert!(
        found,
        "the Python {python} does not have the package {package}. Install it with:\n  \
         {create}{python} -m pip install -r {requirements}\n\
         or run `cargo xtask test`. ({import:?})",
        python = python.display(),
        requirements = requirements.display(),
    );
    python
}

async fn drive(package: &str, script: &str) {
    let python = python(package);
    let running = providers().await;
    let urls: BTreeMap<_, _> = running
        .iter()
        .map(|(name, sim)| (*name, sim.url()))
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/sdk")
        .join(script);
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg(serde_json::to_string(&urls).unwrap())
        .env_remove("OPENAI_BASE_URL")
        .env_remove("ANTHROPIC_BASE_URL");
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert_eq!(running["plain"].stats().active, 0);
    assert!(running["plain"].stats().answered > 5);
    assert_eq!(running["limited"].stats().rate_limited, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_sdk_agrees() {
    drive("openai", "openai_sdk.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_anthropic_sdk_agrees() {
    drive("anthropic", "anthropic_sdk.py").await;
}
