//! Holds `deploy/` against the catalogue of metrics, without any foreign program.
//!
//! `cargo xtask ops-test` runs the real programs over the same files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use lyceum_observe::metric;

fn deploy() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().join("deploy")
}

fn read(path: &str) -> String {
    fs::read_to_string(deploy().join(path)).unwrap()
}

/// All rule files in one text.
fn rules() -> String {
    let folder = deploy().join("prometheus/rules");
    let files = fs::read_dir(folder).unwrap().flatten();
    files
        .map(|file| fs::read_to_string(file.path()).unwrap())
        .collect()
}

/// The values of `key: value` lines.
fn values<'a>(text: &'a str, key: &str) -> Vec<&'a str> {
    text.lines()
        .filter_map(|line| {
            let line = line.trim().trim_start_matches("- ");
            line.strip_prefix(key)?.strip_prefix(": ")
        })
        .collect()
}

/// The text without what stands between these two marks.
fn without(text: &str, open: char, close: char) -> String {
    let (mut out, mut inside) = (String::new(), false);
    for c in text.chars() {
        match (inside, c) {
            (false, c) if c == open => inside = true,
            (true, c) if c == close => {
                inside = false;
                out.push(' ');
            }
            (false, c) => out.push(c),
            (true, _) => {}
        }
    }
    out
}

/// The names of metrics in a PromQL expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let bare = without(&without(&without(expression, '"', '"'), '{', '}'), '[', ']');
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut names = BTreeSet::new();
    let mut rest = bare.as_str();
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let word = &rest[..end];
        rest = &rest[end..];
        let next = rest.trim_start();
        // `sum by (le) (…)` and `sum(…)` are operators.
        let opens = ["(", "by (", "without ("]
            .iter()
            .any(|o| next.starts_with(o));
        if matches!(word, "by" | "without" | "on" | "ignoring") && opens {
            rest = rest.split_once(')').unwrap().1;
        } else if !opens
            && !word.starts_with(|c: char| c.is_ascii_digit())
            && !matches!(word, "and" | "or" | "unless" | "bool" | "offset")
        {
            names.insert(word.to_owned());
        }
    }
    names
}

/// The expressions of the rule files: `expr: |-` and the deeper lines after it.
fn expressions(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        if line.trim() != "expr: |-" {
            continue;
        }
        let mut expression = String::new();
        while let Some(line) = lines.next_if(|line| line.starts_with("          ")) {
            expression.push_str(line);
            expression.push('\n');
        }
        found.push(expression);
    }
    found
}

#[test]
fn metrics_are_found_in_an_expression() {
    let found = metrics(r#"sum by (le, a) (rate(x_total{b=~"c_d"}[5m])) / y > bool 2e3 and z"#);
    let wanted = ["x_total", "y", "z"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(wanted));
}

#[test]
fn every_metric_of_the_rules_is_known() {
    let text = rules();
    let recorded: BTreeSet<&str> = values(&text, "record").into_iter().collect();
    let foreign = read("prometheus/foreign-metrics.txt");
    let foreign: BTreeSet<&str> = foreign
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let expressions = expressions(&text);
    assert!(expressions.len() > 100, "{}", expressions.len());
    let mut used = BTreeSet::new();
    for expression in expressions {
        for name in metrics(&expression) {
            assert!(
                metric(&name).is_some()
                    || recorded.contains(name.as_str())
                    || foreign.contains(name.as_str()),
                "{name} in {expression} is neither in the catalogue, nor recorded, nor foreign"
            );
            used.insert(name);
        }
    }
    for name in foreign {
        assert!(used.contains(name), "no rule uses the foreign {name}");
    }
}

#[test]
fn the_kit_has_as_many_alerts_categories_and_targets_as_it_says() {
    let text = rules();
    let alerts = values(&text, "alert");
    let categories: BTreeSet<&str> = values(&text, "category").into_iter().collect();
    assert!(alerts.len() >= 47, "{}", alerts.len());
    assert_eq!(categories.len(), 7, "{categories:?}");
    let jobs = read("prometheus/prometheus.yml");
    assert_eq!(values(&jobs, "job_name").len(), 15);
}

#[test]
fn every_panel_is_complete_and_asks_for_known_metrics() {
    let text = rules();
    let recorded: BTreeSet<&str> = values(&text, "record").into_iter().collect();
    let mut panels_of = Vec::new();
    for name in ["lyceum-overview", "lyceum-layers"] {
        let board: serde_json::Value =
            serde_json::from_str(&read(&format!("grafana/dashboards/{name}.json"))).unwrap();
        let panels = board["panels"].as_array().unwrap();
        panels_of.push(panels.len());
        for panel in panels {
            let title = panel["title"].as_str().unwrap();
            assert!(
                !panel["description"].as_str().unwrap().is_empty(),
                "{title}"
            );
            assert!(
                panel["fieldConfig"]["defaults"]["unit"].is_string(),
                "{title}"
            );
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
            for target in panel["targets"].as_array().unwrap() {
                let expression = target["expr"].as_str().unwrap();
                let legend = target["legendFormat"].as_str();
                assert!(legend.is_some_and(|l| !l.is_empty()), "{title}");
                assert!(!expression.contains("job=\"lyceum\""), "{title} has $job");
                let rates = expression.matches("rate(").count();
                let intervals = expression.matches("[$__rate_interval]").count();
                assert_eq!(rates, intervals, "{expression}");
                for metric_name in metrics(expression) {
                    assert!(
                        metric_name == "up"
                            || metric(&metric_name).is_some()
                            || recorded.contains(metric_name.as_str()),
                        "{title} asks for {metric_name}"
                    );
                }
            }
        }
    }
    assert_eq!(panels_of, [17, 14]);
}

#[test]
fn every_alert_has_its_runbook_and_every_link_in_one_leads_somewhere() {
    let text = rules();
    let root = deploy();
    let pages = values(&text, "runbook_url");
    assert_eq!(pages.len(), values(&text, "alert").len());
    for page in pages {
        assert!(page.starts_with("http"), "{page} is no link");
        let name = page.rsplit('/').next().unwrap();
        let file = root.join("runbooks").join(name);
        assert!(file.is_file(), "{page} is missing");
    }
    for page in fs::read_dir(root.join("runbooks")).unwrap().flatten() {
        let text = fs::read_to_string(page.path()).unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap();
            let file = root.join("runbooks").join(link);
            assert!(file.is_file(), "{} links to {link}", page.path().display());
        }
    }
}

#[test]
fn no_secret_stands_in_the_notifications() {
    for line in read("alertmanager/alertmanager.yml").lines() {
        let Some((key, value)) = line.trim().split_once(": ") else {
            continue;
        };
        let secret = ["password", "routing_key", "slack_api_url"];
        if secret.iter().any(|word| key.contains(word)) {
            assert!(key.ends_with("_file"), "{key}: {value}");
        }
    }
}
