//! The checks, each a real program over the real files.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};

use super::{
    alerts,
    programs::{Programs, finish},
};

/// One check.
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) run: fn(&Programs, &Path) -> Result<()>,
}

/// All checks, the cheapest first.
pub(super) const ALL: &[Check] = &[
    Check {
        name: "generated-files",
        run: generated,
    },
    Check {
        name: "yamllint",
        run: yamllint,
    },
    Check {
        name: "promtool-config",
        run: promtool_config,
    },
    Check {
        name: "promtool-rules",
        run: promtool_rules,
    },
    Check {
        name: "promtool-tests",
        run: promtool_tests,
    },
    Check {
        name: "amtool",
        run: amtool,
    },
    Check {
        name: "nginx",
        run: nginx,
    },
    Check {
        name: "gixy",
        run: gixy,
    },
    Check {
        name: "kubernetes",
        run: kubernetes,
    },
];

/// The files below a folder with one of these endings, in order.
fn files(folder: &Path, endings: &[&str]) -> Vec<PathBuf> {
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
    let mut command = programs.command("promtool");
    let config = deploy.join("prometheus/prometheus.yml");
    finish(command.args(["check", "config"]).arg(config))?;
    Ok(())
}

fn promtool_rules(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("promtool");
    command.args(["check", "rules", "--lint=all", "--lint-fatal"]);
    finish(command.args(files(&deploy.join("prometheus/rules"), &["yml"])))?;
    Ok(())
}

fn promtool_tests(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("promtool");
    command.args(["test", "rules"]);
    finish(command.args(files(&deploy.join("prometheus/tests"), &["yml"])))?;
    Ok(())
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

/// Nginx reads the real file, with addresses and folders that exist here.
fn nginx(programs: &Programs, deploy: &Path) -> Result<()> {
    let home = tempfile::tempdir()?;
    let here = home.path().display().to_string();
    let mut text = fs::read_to_string(deploy.join("nginx/nginx.conf"))?;
    for replica in ["lyceum-1", "lyceum-2", "lyceum-3"] {
        text = text.replace(replica, "127.0.0.1");
    }
    let text = text
        .replace("/etc/nginx/mime.types", &format!("{here}/mime.types"))
        .replace("/var/run/nginx.pid", &format!("{here}/pid"));
    fs::write(
        home.path().join("mime.types"),
        "types { text/html html; }\n",
    )?;
    let config = home.path().join("nginx.conf");
    fs::write(&config, text)?;
    let mut command = programs.command("nginx");
    command
        .args(["-t", "-q", "-e", "stderr", "-p"])
        .arg(home.path());
    finish(command.arg("-c").arg(config))?;
    Ok(())
}

fn gixy(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("gixy");
    finish(command.arg(deploy.join("nginx/nginx.conf")))?;
    Ok(())
}

fn kubernetes(programs: &Programs, deploy: &Path) -> Result<()> {
    let mut command = programs.command("kubernetes-validate");
    command.args(["--strict", "-k", "1.33"]);
    let said = finish(command.args(files(&deploy.join("kubernetes"), &["yaml"])))?;
    // An unknown kind is only a warning there; here it is a failure.
    ensure!(!said.contains("WARN"), "{said}");
    Ok(())
}
