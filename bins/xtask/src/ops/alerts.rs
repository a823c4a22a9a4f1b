//! Makes the alert rules, their unit tests and the runbooks from one table,
//! `deploy/prometheus/alerts.toml`.
//!
//! Invariant: what lies in the repository is what the table says; a test of this file
//! compares, and `cargo xtask ops-test --write` writes. Deliberately absent: PromQL; whether
//! an expression is right is for `promtool` to say.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

/// The labels of a replica in a unit test's series.
const REPLICA: &str = r#"job="lyceum",instance="a:8080""#;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The address under which people find the runbooks.
    runbooks: String,
    vars: BTreeMap<String, String>,
    alert: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    name: String,
    group: String,
    severity: String,
    r#for: String,
    expr: String,
    summary: String,
    series: Vec<String>,
    fire: String,
    /// Further values that must fire.
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    under: String,
    quiet: Option<Vec<String>>,
    #[serde(default = "default_at")]
    at: String,
    look: Vec<String>,
    r#do: Vec<String>,
    /// Labels of the alert that fires, beside its name, severity and category.
    #[serde(default)]
    labels: BTreeMap<String, String>,
    /// Its summary, as people read it then.
    #[serde(default)]
    says: String,
    /// A page of `deploy/runbooks` that says more.
    emergency: Option<String>,
    /// It fires whatever happens.
    #[serde(default)]
    always: bool,
}

fn default_at() -> String {
    "40m".to_owned()
}

/// Every generated file below `deploy/`, with its content.
pub(super) fn generated(deploy: &Path) -> Result<BTreeMap<String, String>> {
    let file = deploy.join("prometheus/alerts.toml");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let mut table: Table = toml::from_str(&text).context("deploy/prometheus/alerts.toml")?;
    for alert in &mut table.alert {
        for (name, value) in &table.vars {
            alert.expr = alert.expr.replace(&format!("${{{name}}}"), value);
        }
        alert.expr = alert.expr.trim().to_owned();
    }
    let mut files = BTreeMap::new();
    for group in groups(&table) {
        files.insert(
            format!("prometheus/rules/{group}.yml"),
            rules(&table, group)?,
        );
        files.insert(
            format!("prometheus/tests/{group}.yml"),
            tests(&table, group)?,
        );
    }
    for alert in &table.alert {
        files.insert(format!("runbooks/{}.md", alert.name), runbook(alert)?);
    }
    files.insert("runbooks/README.md".to_owned(), index(&table)?);
    Ok(files)
}

const HEAD: &str = "# Made from deploy/prometheus/alerts.toml by `cargo xtask ops-test --write`.\n";

/// A text in YAML's double quotes, which are those of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn groups(table: &Table) -> Vec<&str> {
    let mut groups: Vec<&str> = Vec::new();
    for alert in &table.alert {
        if !groups.contains(&alert.group.as_str()) {
            groups.push(&alert.group);
        }
    }
    groups
}

fn rules(table: &Table, group: &str) -> Result<String> {
    let mut out = format!("---\n{HEAD}groups:\n  - name: {group}\n    rules:\n");
    for alert in table.alert.iter().filter(|alert| alert.group == group) {
        writeln!(out, "      - alert: {}\n        expr: |-", alert.name)?;
        for line in alert.expr.lines() {
            writeln!(out, "          {line}")?;
        }
        writeln!(out, "        for: {}", alert.r#for)?;
        writeln!(out, "        labels:")?;
        writeln!(out, "          severity: {}", quoted(&alert.severity))?;
        writeln!(out, "          category: {group}")?;
        writeln!(out, "        annotations:")?;
        writeln!(out, "          summary: {}", quoted(&alert.summary))?;
        writeln!(out, "          runbook_url: {}", page(table, alert))?;
    }
    Ok(out)
}

/// Where the runbook of an alert is.
fn page(table: &Table, alert: &Alert) -> String {
    format!("{}/{}.md", table.runbooks.trim_end_matches('/'), alert.name)
}

/// The series of one case; in the quiet one every value is zero unless the table says more.
fn series(alert: &Alert, value: Option<&str>) -> Vec<String> {
    let templates = match (value, &alert.quiet) {
        (None, Some(quiet)) => quiet,
        _ => &alert.series,
    };
    let filled = templates.iter().map(|template| {
        let whole = template.replace("$L", REPLICA);
        match value {
            Some(value) => whole.replace("$v", value),
            None if alert.quiet.is_some() => whole,
            None => {
                let labels = whole.rfind('}').map_or(0, |end| end + 1);
                format!("{} 0x100", &whole[..labels])
            }
        }
    });
    filled.collect()
}

/// What a case expects of its alert.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Silence,
    /// It fires, whatever it says.
    Firing,
    /// It fires with just these labels and annotations.
    Saying,
}

/// Only the rules of one group and what they read, or every case would evaluate all of them.
fn tests(table: &Table, group: &str) -> Result<String> {
    let mut out = format!("---\n{HEAD}rule_files:\n");
    let alerts = || table.alert.iter().filter(|alert| alert.group == group);
    for (prefix, file) in [("lyceum:slo", "slo"), ("lyceum:replicas", "recording")] {
        if alerts().any(|alert| alert.expr.contains(prefix)) {
            writeln!(out, "  - ../rules/{file}.yml")?;
        }
    }
    write!(
        out,
        "  - ../rules/{group}.yml\nevaluation_interval: 1m\ntests:\n"
    )?;
    for alert in alerts() {
        let mut cases = vec![("fires", Some(&alert.fire), Expected::Saying)];
        cases.extend(
            alert
                .also
                .iter()
                .map(|value| ("fires too", Some(value), Expected::Firing)),
        );
        if !alert.always {
            cases.push((
                "does not fire just under",
                Some(&alert.under),
                Expected::Silence,
            ));
            cases.push(("is silent without traffic", None, Expected::Silence));
        }
        for (case, value, expected) in cases {
            writeln!(out, "  - name: {} {case}", alert.name)?;
            writeln!(out, "    interval: 1m\n    input_series:")?;
            for line in series(alert, value.map(String::as_str)) {
                let end = line.rfind('}').map_or(0, |end| end + 1);
                let (series, values) = line.split_at(end);
                // Single quotes: a series holds double ones and never single ones.
                writeln!(out, "      - series: '{series}'")?;
                writeln!(out, "        values: '{}'", values.trim())?;
            }
            match expected {
                Expected::Saying => out.push_str(&saying(table, alert)?),
                _ => {
                    let firing = u8::from(expected == Expected::Firing);
                    out.push_str(&counting(alert, firing)?);
                }
            }
        }
    }
    Ok(out)
}

/// Expects the alert with all of its labels and annotations.
fn saying(table: &Table, alert: &Alert) -> Result<String> {
    let (name, severity, group) = (&alert.name, &alert.severity, &alert.group);
    let mut out = String::from("    alert_rule_test:\n");
    writeln!(out, "      - eval_time: {}", alert.at)?;
    writeln!(out, "        alertname: {name}\n        exp_alerts:")?;
    writeln!(out, "          - exp_labels:")?;
    writeln!(out, "              severity: {}", quoted(severity))?;
    writeln!(out, "              category: {group}")?;
    for (label, value) in &alert.labels {
        writeln!(out, "              {label}: {}", quoted(value))?;
    }
    writeln!(out, "            exp_annotations:")?;
    writeln!(out, "              summary: {}", quoted(&alert.says))?;
    writeln!(out, "              runbook_url: {}", page(table, alert))?;
    Ok(out)
}

/// Expects that the alert fires so often, whatever it says.
fn counting(alert: &Alert, firing: u8) -> Result<String> {
    let mut out = String::from("    promql_expr_test:\n");
    writeln!(
        out,
        "      - expr: count(ALERTS{{alertname=\"{}\",alertstate=\"firing\"}}) > bool 0 or vector(0)",
        alert.name
    )?;
    writeln!(out, "        eval_time: {}", alert.at)?;
    writeln!(out, "        exp_samples:")?;
    writeln!(
        out,
        "          - labels: '{{}}'\n            value: {firing}"
    )?;
    Ok(out)
}

fn runbook(alert: &Alert) -> Result<String> {
    let mut out = format!("# {}\n\n", alert.name);
    let summary = &alert.summary;
    writeln!(out, "> {summary}\n")?;
    writeln!(
        out,
        "Category {}, severity {}, after {}.\n",
        alert.group, alert.severity, alert.r#for
    )?;
    writeln!(out, "```promql\n{}\n```\n", alert.expr)?;
    writeln!(out, "## Look\n")?;
    for line in &alert.look {
        writeln!(out, "- {line}")?;
    }
    writeln!(out, "\n## Do\n")?;
    for line in &alert.r#do {
        writeln!(out, "- {line}")?;
    }
    if let Some(page) = &alert.emergency {
        writeln!(out, "\nMore: [emergency: {page}](emergency-{page}.md).")?;
    }
    Ok(out)
}

fn index(table: &Table) -> Result<String> {
    let mut out = String::from(
        "# Runbooks\n\n\
         One page an alert, made from `deploy/prometheus/alerts.toml`; the emergency pages are written by hand.\n\n\
         Emergencies: [the provider answers 429](emergency-provider-429.md),\n\
         [the provider is out](emergency-provider-outage.md),\n\
         [the queue is full](emergency-queue-saturated.md),\n\
         [the database is slow or away](emergency-slow-database.md),\n\
         [memory runs out](emergency-memory-pressure.md).\n",
    );
    for group in groups(table) {
        writeln!(
            out,
            "\n## {group}\n\n| alert | severity | after |\n|---|---|---|"
        )?;
        for alert in table.alert.iter().filter(|alert| alert.group == group) {
            let (name, severity) = (&alert.name, &alert.severity);
            writeln!(
                out,
                "| [{name}]({name}.md) | {severity} | {} |",
                alert.r#for
            )?;
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_holds_what_the_table_says() {
        let deploy = crate::root().join("deploy");
        for (file, wanted) in generated(&deploy).unwrap() {
            let found = fs::read_to_string(deploy.join(&file)).unwrap_or_default();
            assert!(
                found == wanted,
                "deploy/{file} is stale: run `cargo xtask ops-test --write`"
            );
        }
    }

    #[test]
    fn a_quiet_case_keeps_the_series_and_drops_their_values() {
        let text = r#"
            runbooks = "http://localhost/"
            [vars]
            [[alert]]
            name = "A"
            group = "g"
            severity = "warning"
            for = "1m"
            expr = "x > 1"
            summary = "s"
            series = ['x{$L} $v']
            fire = "2x9"
            under = "1x9"
            look = []
            do = []
        "#;
        let table: Table = toml::from_str(text).unwrap();
        let alert = &table.alert[0];
        assert_eq!(
            series(alert, Some("2x9")),
            [r#"x{job="lyceum",instance="a:8080"} 2x9"#]
        );
        assert_eq!(
            series(alert, None),
            [r#"x{job="lyceum",instance="a:8080"} 0x100"#]
        );
    }
}
