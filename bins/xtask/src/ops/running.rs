//! Checks that run what the kit configures: compose files read, balancers driven, scripts used as
//! an operator uses them, and the lines that all of them wrote read by the patterns.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

use super::programs::{Programs, finish};
use crate::root;

/// Ports of this machine that the monitoring must have.
const PORTS: [(&str, &str); 8] = [
    ("prometheus", "9090"),
    ("grafana", "3001"),
    ("elasticsearch", "9200"),
    ("logstash", "5044"),
    ("kibana", "5601"),
    ("alertmanager", "9093"),
    ("node-exporter", "9100"),
    ("cadvisor", "8080"),
];

/// Patterns that the lines of the scripts' processes and of the balancers must show.
const SEEN: &str = "JSON LINE_SERVER_REQUEST LINE_SERVER_SLOW_STORE LINE_SERVER_AUDIT \
    LINE_SERVER_LIFECYCLE LINE_SERVER_START LINE_NGINX_ACCESS LINE_NGINX_ERROR LINE_TRAEFIK_ACCESS \
    LINE_TRAEFIK_EVENT LINE_POSTGRES LINE_REDIS";

/// Both compose files, alone and together, with secrets that the scripts make.
pub(super) fn compose(programs: &Programs, deploy: &Path) -> Result<()> {
    let home = tempfile::tempdir()?;
    let secrets = home.path().join("secrets");
    let mut make = Command::new("bash");
    make.args(["-c", "source \"$0\"; make_secrets \"$1\""]);
    finish(make.arg(deploy.join("scripts/common.sh")).arg(&secrets))?;
    let read = |files: &[&str], secrets: &Path| -> Result<String> {
        let mut command = programs.compose()?;
        for file in files {
            command.arg("-f").arg(deploy.join("compose").join(file));
        }
        command.args(["config", "--format", "json"]);
        finish(command.env("KIT_SECRETS", secrets))
    };
    read(&["ha.yaml"], &secrets)?;
    read(&["monitoring.yaml"], &secrets)?;
    let text = read(&["ha.yaml", "monitoring.yaml"], &secrets)?;
    let all: serde_json::Value = serde_json::from_str(&text)?;
    let services = all["services"].as_object().context("no services")?;
    for (service, port) in PORTS {
        let ports = services[service]["ports"].as_array();
        let is_there = ports.is_some_and(|ports| ports.iter().any(|p| p["published"] == port));
        ensure!(is_there, "{service} has no port {port}");
    }
    for (name, service) in services {
        let image = service["image"].as_str().unwrap_or_default();
        let tag = image.rsplit_once(':').map_or("", |(_, tag)| tag);
        ensure!(
            tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'),
            "{name}: {image}"
        );
        ensure!(
            service["restart"].is_string(),
            "{name} is not started again"
        );
    }
    for name in ["lyceum-1", "lyceum-2", "lyceum-3"] {
        let replica = &services[name];
        let limits = &replica["deploy"]["resources"]["limits"];
        ensure!(
            limits["cpus"] == 2.0 || limits["cpus"] == 2,
            "{name}: {limits}"
        );
        ensure!(limits["memory"] == "2147483648", "{name}: {limits}");
        ensure!(replica["healthcheck"]["interval"] == "10s", "{name}");
        ensure!(replica["stop_grace_period"] == "1m0s", "{name}");
    }
    // Without secrets there is nothing to fall back to.
    let empty = home.path().join("none");
    ensure!(
        read(&["ha.yaml"], &empty).is_err(),
        "ha.yaml needs no secrets"
    );
    Ok(())
}

pub(super) fn log_pipeline(programs: &Programs, deploy: &Path) -> Result<()> {
    finish(programs.command("python").arg(deploy.join("tests/logs.py")))?;
    Ok(())
}

/// Trouble from its first figure to Slack, PagerDuty and mail, and that it is told as over.
pub(super) fn alerts(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("python");
    command.arg(deploy.join("tests/alerts.py"));
    for program in ["prometheus", "prometheus-alertmanager"] {
        command.arg(programs.command(program).get_program());
    }
    finish(&mut command)?;
    Ok(())
}

pub(super) fn nginx(programs: &Programs, deploy: &Path) -> Result<()> {
    edge(programs, deploy, "nginx")
}

pub(super) fn traefik(programs: &Programs, deploy: &Path) -> Result<()> {
    edge(programs, deploy, "traefik")
}

/// Boots a balancer with its real files and drives it; its lines are kept for [`log_lines`].
fn edge(programs: &Programs, deploy: &Path, kind: &str) -> Result<()> {
    let program = programs.command(kind).get_program().to_owned();
    let lines = programs.lines()?.join(format!("edge-{kind}.log"));
    let mut command = programs.command("python");
    command.arg(deploy.join("tests/edge.py")).arg(kind);
    finish(command.arg(program).arg("--keep-logs").arg(lines))?;
    Ok(())
}

/// Every expression of the dashboards against a real server and a real Prometheus.
pub(super) fn panels(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("python");
    command
        .arg(deploy.join("tests/panels.py"))
        .args([programs.server()?, programs.simulator()?]);
    for program in ["prometheus", "redis-server"] {
        command.arg(programs.command(program).get_program());
    }
    finish(&mut command)?;
    Ok(())
}

/// The scripts with real processes, whose lines are kept for [`log_lines`].
pub(super) fn scripts(programs: &Programs, deploy: &Path) -> Result<()> {
    let lines = programs.lines()?;
    let mut command = Command::new("bash");
    command
        .arg(deploy.join("tests/local.sh"))
        .arg(&lines)
        .env("LYCEUM", programs.server()?)
        .env("SIM", programs.simulator()?)
        .env("TRAEFIK", programs.command("traefik").get_program());
    finish(&mut command)?;
    // What initdb says is no line of the running kit.
    fs::remove_file(lines.join("initdb.log"))?;
    Ok(())
}

/// Replicas, Redis and PostgreSQL end and come back under load, and nobody loses anything. Give
/// `--server` an optimised server for the whole load.
pub(super) fn rolling(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("python");
    command
        .arg(deploy.join("tests/rolling.py"))
        .args([programs.server()?, programs.simulator()?])
        .arg(programs.command("traefik").get_program());
    if programs.builds_server() {
        // Without optimisation it bears far less than 200 streams and 250 requests a second.
        command.args(["--streams", "24", "--people", "18"]);
    }
    finish(&mut command)?;
    Ok(())
}

/// Every line that the programs of the other checks wrote is read by the patterns.
pub(super) fn log_lines(programs: &Programs, deploy: &Path) -> Result<()> {
    let lines = programs.lines()?;
    for (file, run) in [
        (
            "edge-nginx.log",
            nginx as fn(&Programs, &Path) -> Result<()>,
        ),
        ("edge-traefik.log", traefik),
        ("postgres.log", scripts),
    ] {
        if !lines.join(file).is_file() {
            run(programs, deploy)?;
        }
    }
    let mut command = Command::new("cargo");
    command
        .args([
            "test",
            "--quiet",
            "-p",
            "lyceum-tests",
            "--test",
            "ops_logs",
        ])
        .current_dir(root())
        .env("OPS_LOG_LINES", &lines)
        .env("OPS_LOG_PATTERNS", SEEN);
    finish(&mut command)?;
    Ok(())
}
