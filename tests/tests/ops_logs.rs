//! Holds `deploy/logs/patterns/lyceum`, the one file of grok patterns, against log lines of the
//! programs it is for: the samples in `deploy/logs/samples`, and with `OPS_LOG_LINES=FOLDER` every
//! line of that folder's files, which `cargo xtask ops-test` has real programs write.
//!
//! The engine is Oniguruma with named captures only, as in Logstash.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use grok::{Grok, Pattern};

fn logs() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap().join("deploy/logs")
}

/// The definitions of the file, in order.
fn definitions() -> Vec<(String, String)> {
    let text = fs::read_to_string(logs().join("patterns/lyceum")).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty());
    lines
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, pattern) = line.split_once(' ').unwrap();
            (name.to_owned(), pattern.to_owned())
        })
        .collect()
}

/// The patterns of whole lines, in the order in which Logstash tries them.
fn patterns() -> Vec<(String, Pattern)> {
    let mut grok = Grok::with_default_patterns();
    let all = definitions();
    for (name, pattern) in &all {
        grok.add_pattern(name.clone(), pattern.clone());
    }
    let whole = all.iter().filter(|(name, _)| name.starts_with("LINE_"));
    whole
        .map(|(name, _)| {
            let pattern = grok.compile(&format!("%{{{name}}}"), true);
            let pattern = pattern.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name.clone(), pattern)
        })
        .collect()
}

/// The first pattern that reads a line, and what it finds.
fn read<'a>(
    patterns: &'a [(String, Pattern)],
    line: &str,
) -> Option<(&'a str, BTreeMap<String, String>)> {
    patterns.iter().find_map(|(name, pattern)| {
        let found = pattern.match_against(line)?;
        let fields = found.iter().filter(|(_, value)| !value.is_empty());
        let fields = fields.map(|(name, value)| (name.to_owned(), value.to_owned()));
        Some((name.as_str(), fields.collect()))
    })
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|e| e == "log"));
    files.sort();
    files
}

#[test]
fn logstash_tries_every_pattern_of_the_file_in_its_order() {
    let pipeline = fs::read_to_string(logs().join("logstash.conf")).unwrap();
    let tried: Vec<&str> = pipeline
        .lines()
        .filter_map(|line| line.trim().strip_prefix("\"%{LINE_")?.split('}').next())
        .collect();
    let all = definitions();
    let defined: Vec<&str> = all
        .iter()
        .filter_map(|(name, _)| name.strip_prefix("LINE_"))
        .collect();
    assert_eq!(tried, defined);
    assert!(defined.len() >= 12, "{}", defined.len());
}

#[test]
fn every_sample_is_read_by_the_pattern_whose_name_it_has() {
    let patterns = patterns();
    let mut seen = Vec::new();
    for file in files(&logs().join("samples")) {
        let wanted = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for line in fs::read_to_string(&file).unwrap().lines() {
            let (name, fields) =
                read(&patterns, line).unwrap_or_else(|| panic!("{wanted}: unread: {line}"));
            assert_eq!(name, wanted, "{line}");
            assert!(!fields.is_empty(), "{wanted} finds nothing in {line}");
        }
        seen.push(wanted);
    }
    let mut names: Vec<String> = patterns.into_iter().map(|(name, _)| name).collect();
    names.sort();
    assert_eq!(seen, names, "each pattern has a file of samples");
}

/// What must be found in the first sample of a pattern.
const FOUND: &[(&str, &[(&str, &str)])] = &[
    (
        "LINE_SERVER_REQUEST",
        &[
            ("level", "INFO"),
            ("method", "POST"),
            ("endpoint", "/chat"),
            ("status", "503"),
            ("message", "request"),
            ("outcome", "complete"),
        ],
    ),
    (
        "LINE_SERVER_SLOW_STORE",
        &[
            ("level", "WARN"),
            ("message", "the database is slow"),
            ("target", "lyceum_store_postgres::store"),
        ],
    ),
    (
        "LINE_SERVER_AUDIT",
        &[("event", "write"), ("method", "POST"), ("target", "audit")],
    ),
    ("LINE_SERVER_LIFECYCLE", &[("lifecycle", "ready")]),
    (
        "LINE_SERVER_BREAKER",
        &[("endpoint", "openai/gpt-4.1-mini"), ("level", "WARN")],
    ),
    (
        "LINE_SERVER_REPEATED",
        &[
            ("provider", "openai"),
            ("reason", "connect"),
            ("failed", "1"),
            ("delay", "1s"),
        ],
    ),
    (
        "LINE_SERVER_PANIC",
        &[
            ("thread", "tokio-rt-worker"),
            ("source", "crates/example/src/lib.rs"),
            ("line", "1"),
        ],
    ),
    (
        "LINE_NGINX_ACCESS",
        &[
            ("method", "GET"),
            ("status", "101"),
            ("client", "127.0.0.1"),
        ],
    ),
    ("LINE_NGINX_ERROR", &[("severity", "error")]),
    (
        "LINE_TRAEFIK_ACCESS",
        &[("status", "200"), ("router", "rest@file")],
    ),
    (
        "LINE_POSTGRES_SLOW",
        &[
            ("latency_ms", "193.167"),
            ("operation", "statement"),
            ("user", "lyceum"),
        ],
    ),
    ("LINE_REDIS", &[("role", "M"), ("severity", "*")]),
    (
        "LINE_KERNEL_OOM",
        &[("pid", "17069"), ("process", "lyceum")],
    ),
];

#[test]
fn fields_have_the_values_of_the_line() {
    let patterns = patterns();
    for (name, wanted) in FOUND {
        let file = logs().join(format!("samples/{name}.log"));
        let text = fs::read_to_string(file).unwrap();
        let line = text.lines().next().unwrap();
        let (_, fields) = read(&patterns, line).unwrap();
        for (field, value) in *wanted {
            let found = fields.get(*field).map(String::as_str);
            assert_eq!(found, Some(*value), "{field} of {name} in {line}");
        }
    }
}

/// Lines that belong to the one before them: filebeat.yml joins what begins otherwise.
fn begins_a_line(line: &str) -> bool {
    // As in a kernel's `Nov 30 12:14:07`.
    let is_dated = line.len() > 6
        && line.bytes().zip(b"Aaa 00").all(|(found, kind)| match kind {
            b'A' => found.is_ascii_uppercase(),
            b'a' => found.is_ascii_lowercase(),
            b'0' => found.is_ascii_digit() || found == b' ',
            _ => found == *kind,
        });
    line.starts_with(|c: char| c == '{' || c == '[' || c.is_ascii_digit())
        || ["thread ", "error: ", "Lyceum ", "stopp", "Stopp"]
            .iter()
            .any(|start| line.starts_with(start))
        || is_dated
}

#[test]
fn every_line_that_the_programs_wrote_is_read() {
    let Some(folder) = env::var_os("OPS_LOG_LINES") else {
        return; // `cargo xtask ops-test` sets it.
    };
    let patterns = patterns();
    let mut read_by: BTreeMap<String, usize> = BTreeMap::new();
    for file in files(Path::new(&folder)) {
        let text = fs::read_to_string(&file).unwrap();
        for line in text.lines().filter(|line| begins_a_line(line)) {
            let name = if line.starts_with('{') {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                for field in ["timestamp", "level", "target", "message"] {
                    assert!(event[field].is_string(), "no {field} in {line}");
                }
                "JSON".to_owned()
            } else {
                let found = read(&patterns, line);
                let (name, _) =
                    found.unwrap_or_else(|| panic!("{}: unread: {line}", file.display()));
                name.to_owned()
            };
            *read_by.entry(name).or_default() += 1;
        }
    }
    for name in env::var("OPS_LOG_PATTERNS").unwrap().split_whitespace() {
        assert!(
            read_by.contains_key(name),
            "no line of {name} in {read_by:?}"
        );
    }
}
