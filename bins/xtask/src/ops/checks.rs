//! The checks, each a real program over the real files.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Result, bail, ensure};

use super::{
    alerts, kubernetes,
    programs::{Programs, finish},
    running,
};

/// One check.
pub(super) struct Check {
    pub(super) name: &'static str,
    /// Whether it reads files only, so that every test run has the time for it.
    pub(super) is_quick: bool,
    pub(super) run: fn(&Programs, &Path) -> Result<()>,
}

/// Checks that run by themselves when the others are done: one that needs the whole machine, and
/// one that reads what the others left.
pub(super) const LAST: [&str; 2] = ["rolling", "log-lines"];

/// All checks, the cheapest first.
pub(super) const ALL: &[Check] = &[
    Check {
        name: "generated-files",
        is_quick: true,
        run: generated,
    },
    Check {
        name: "yamllint",
        is_quick: true,
        run: yamllint,
    },
    Check {
        name: "promtool-config",
        is_quick: true,
        run: promtool_config,
    },
    Check {
        name: "promtool-rules",
        is_quick: true,
        run: promtool_rules,
    },
    Check {
        name: "promtool-tests",
        is_quick: true,
        run: promtool_tests,
    },
    Check {
        name: "amtool",
        is_quick: true,
        run: amtool,
    },
    Check {
        name: "gixy",
        is_quick: true,
        run: gixy,
    },
    Check {
        name: "hadolint",
        is_quick: true,
        run: hadolint,
    },
    Check {
        name: "shellcheck",
        is_quick: true,
        run: shellcheck,
    },
    Check {
        name: "compose",
        is_quick: true,
        run: running::compose,
    },
    Check {
        name: "kubernetes",
        is_quick: true,
        run: kubernetes::check,
    },
    Check {
        name: "log-pipeline",
        is_quick: true,
        run: running::log_pipeline,
    },
    Check {
        name: "alerts",
        is_quick: false,
        run: running::alerts,
    },
    Check {
        name: "nginx",
        is_quick: false,
        run: running::nginx,
    },
    Check {
        name: "traefik",
        is_quick: false,
        run: running::traefik,
    },
    Check {
        name: "panels",
        is_quick: false,
        run: running::panels,
    },
    Check {
        name: "scripts",
        is_quick: false,
        run: running::scripts,
    },
    Check {
        name: "rolling",
        is_quick: false,
        run: running::rolling,
    },
    Check {
        name: "log-lines",
        is_quick: false,
        run: running::log_lines,
    },
];

/// The files below a folder with one of these endings, in order.
pub(super) fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path.is_dir() {
            found.extend(files(&path, endings));
        } else if path
            .extension()
            .and_then(|e| e.to_str())
            .is_some_and(|e| endings.contains(&e))
        {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn generated(_: &Programs, deploy: &Path) -> Result<()> {
    for (file, wanted) in alerts::generated(deploy)? {
        let found = fs::read_to_string(deploy.join(&file)).unwrap_or_default();
        ensure!(
            found == wanted,
            "deploy/{file} is stale: run `cargo xtask ops-test --write`"
        );
    }
    Ok(())
}

fn yamllint(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("yamllint");
    command
        .arg("--strict")
        .arg("-c")
        .arg(deploy.join(".yamllint"));
    finish(command.args(files(deploy, &["yml", "yaml"])))?;
    Ok(())
}

fn promtool_config(programs: &Programs, deploy: &Path) -> Result<()> {
    // It wants the rules and the files of keys beside it.
    let home = tempfile::tempdir()?;
    fs::create_dir_all(home.path().join("secrets"))?;
    fs::create_dir_all(home.path().join("rules"))?;
    for name in ["lyceum_key", "qdrant_key"] {
        fs::write(home.path().join("secrets").join(name), "a key")?;
    }
    let from = deploy.join("prometheus");
    for file in files(&from.join("rules"), &["yml"]) {
        let name = file.file_name().unwrap_or_default();
        fs::copy(&file, home.path().join("rules").join(name))?;
    }
    let config = home.path().join("prometheus.yml");
    fs::copy(from.join("prometheus.yml"), &config)?;
    let mut command = programs.command("promtool");
    finish(command.args(["check", "config"]).arg(config))?;
    Ok(())
}

fn promtool_rules(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("promtool");
    command.args(["check", "rules", "--lint=all", "--lint-fatal"]);
    finish(command.args(files(&deploy.join("prometheus/rules"), &["yml"])))?;
    Ok(())
}

/// A process a file: each takes seconds of one core.
fn promtool_tests(programs: &Programs, deploy: &Path) -> Result<()> {
    let files = files(&deploy.join("prometheus/tests"), &["yml"]);
    let test = |file: &PathBuf| {
        let mut command = programs.command("promtool");
        finish(command.args(["test", "rules"]).arg(file)).map(drop)
    };
    thread::scope(|scope| {
        let running: Vec<_> = files
            .iter()
            .map(|file| scope.spawn(move || test(file)))
            .collect();
        let mut results = running.into_iter().map(|one| {
            one.join()
                .unwrap_or_else(|_| bail!("a test of rules panicked"))
        });
        results.try_for_each(|result| result)
    })
}

/// Labels of an alert and the receivers that must get it.
const ROUTES: [(&[&str], &str); 6] = [
    (&["severity=critical", "category=application"], "page,chat"),
    (&["severity=warning", "category=llm"], "chat"),
    (&["severity=critical", "category=sla"], "page,chat"),
    (&["severity=warning", "category=sla"], "mail"),
    (&["severity=info", "category=cache"], "mail"),
    (&["severity=none", "alertname=Watchdog"], "watchdog"),
];

fn amtool(programs: &Programs, deploy: &Path) -> Result<()> {
    let config = deploy.join("alertmanager/alertmanager.yml");
    finish(programs.command("amtool").arg("check-config").arg(&config))?;
    for (labels, wanted) in ROUTES {
        let mut command = programs.command("amtool");
        command.args(["config", "routes", "test"]);
        command.arg("--config.file").arg(&config).args(labels);
        let said = finish(&mut command)?;
        // The receivers stand in the first line; remarks follow on standard error.
        let found = said.lines().next().unwrap_or_default().trim();
        ensure!(found == wanted, "{labels:?} goes to {found}, not {wanted}");
    }
    let mut command = programs.command("amtool");
    command
        .args(["template", "render", "--template.glob"])
        .arg(deploy.join("alertmanager/templates/*.tmpl"))
        .args(["--template.text", r#"{{ template "lyceum.title" . }}"#]);
    let title = finish(&mut command)?;
    ensure!(title.contains('['), "the title is {title:?}");
    Ok(())
}

fn gixy(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("gixy");
    finish(command.arg(deploy.join("nginx/nginx.conf")))?;
    Ok(())
}

fn hadolint(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("hadolint");
    finish(command.arg(deploy.join("docker/Dockerfile")))?;
    Ok(())
}

fn shellcheck(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut scripts = files(deploy, &["sh"]);
    scripts.push(deploy.join("docker/healthcheck"));
    finish(programs.command("shellcheck").arg("-x").args(scripts))?;
    Ok(())
}
