//! Holds the catalogue of metrics against the sources of the crates and `docs/METRICS.md`.
//!
//! `UPDATE_DOCS=1` writes the page anew.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use lyceum_observe::{CATALOGUE, Kind, MetricSpec};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn sources(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            into.push(path);
        }
    }
}

/// The first argument of every `counter!`, `gauge!` and `histogram!` of a file, tests aside.
fn emitted(text: &str) -> Vec<&str> {
    let text = text.split("#[cfg(test)]").next().unwrap_or(text);
    let mut found = Vec::new();
    for macro_name in ["counter!(", "gauge!(", "histogram!("] {
        for (at, _) in text.match_indices(macro_name) {
            if text[..at].ends_with("describe_") {
                continue;
            }
            let argument = &text[at + macro_name.len()..];
            let end = argument.find([',', ')']).unwrap();
            found.push(argument[..end].trim());
        }
    }
    found
}

/// The text of `const NAME: &str = "…";` in the sources of a crate.
fn constant(texts: &[String], name: &str) -> String {
    let name = name.rsplit("::").next().unwrap();
    let start = format!("const {name}: &str =");
    let after = texts
        .iter()
        .find_map(|text| text.split_once(&start))
        .unwrap_or_else(|| panic!("the name of the metric {name} is no constant of its crate"))
        .1;
    after.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn the_catalogue_lists_what_the_crates_emit_and_nothing_else() {
    for crate_folder in fs::read_dir(root().join("crates")).unwrap().flatten() {
        let package = format!("lyceum-{}", crate_folder.file_name().to_str().unwrap());
        let mut files = Vec::new();
        sources(&crate_folder.path().join("src"), &mut files);
        let texts: Vec<String> = files
            .iter()
            .map(|file| fs::read_to_string(file).unwrap())
            .collect();
        let emitted: BTreeSet<String> = texts
            .iter()
            .flat_map(|text| emitted(text))
            .map(|name| match name.strip_prefix('"') {
                Some(literal) => literal.trim_end_matches('"').to_owned(),
                None => constant(&texts, name),
            })
            .collect();
        let listed: BTreeSet<String> = CATALOGUE
            .iter()
            .filter(|group| group.package == package)
            .flat_map(|group| group.metrics)
            .map(|spec| spec.name.to_owned())
            .collect();
        assert_eq!(
            emitted, listed,
            "{package} emits the left, crates/observe/src/catalogue.rs lists the right; add the \
             row there and run `UPDATE_DOCS=1 cargo test -p lyceum-tests --test ops_catalogue`"
        );
    }
}

fn row(spec: &MetricSpec) -> String {
    let kind = match spec.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let unit = spec.unit.map_or("", |unit| unit.as_str());
    let labels: Vec<String> = spec.labels.iter().map(|l| format!("`{l}`")).collect();
    let labels = labels.join(", ");
    format!(
        "| `{}` | {kind} | {unit} | {labels} | {} |\n",
        spec.name, spec.help
    )
}

fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         What the server shows at `/metrics`, in the Prometheus text format. This page is written\n\
         from the catalogue in `crates/observe`, which tests hold against the crates' sources and\n\
         against a scrape of the running server. No label holds a session, a user or a text.\n\
         Histograms have the buckets that `lyceum-observe` gives to their unit.\n",
    );
    for group in CATALOGUE {
        writeln!(page, "\n## {}\n", group.package).unwrap();
        page.push_str("| name | kind | unit | labels | meaning |\n|---|---|---|---|---|\n");
        for spec in group.metrics {
            page.push_str(&row(spec));
        }
    }
    page
}

#[test]
fn the_page_says_what_the_catalogue_says() {
    let file = root().join("docs/METRICS.md");
    let wanted = page();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, &wanted).unwrap();
    }
    let found = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(
        found, wanted,
        "run `UPDATE_DOCS=1 cargo test -p lyceum-tests --test ops_catalogue`"
    );
}
