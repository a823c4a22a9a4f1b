//! Holds the level table of `docs/ARCHITECTURE.md` against `cargo metadata`.
//!
//! Rules: every workspace crate has one row; a dependency (not dev) points to a lower
//! level; crates of one level never depend on each other.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ is in the workspace")
}

/// Rows such as `| 1 | lyceum-queue | … |`.
fn table() -> BTreeMap<String, u32> {
    let text =
        std::fs::read_to_string(root().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md");
    let mut levels = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line
            .split('|')
            .map(|cell| cell.trim().trim_matches('`'))
            .collect();
        if let (Some(Ok(level)), Some(name)) = (cells.get(1).map(|cell| cell.parse()), cells.get(2))
        {
            let earlier = levels.insert((*name).to_owned(), level);
            assert_eq!(earlier, None, "{name} stands in the level table twice");
        }
    }
    levels
}

/// Every workspace package with the workspace packages it depends on, tests aside.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo metadata starts");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let metadata: Value =
        serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let name = |value: &Value| value["name"].as_str().expect("a name").to_owned();
    let names: Vec<String> = packages.iter().map(name).collect();
    let internal = |package: &Value| {
        let all = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter();
        let normal = all.filter(|dependency| dependency["kind"] != "dev");
        normal
            .map(name)
            .filter(|dependency| names.contains(dependency))
            .collect()
    };
    packages
        .iter()
        .map(|package| (name(package), internal(package)))
        .collect()
}

#[test]
fn every_crate_has_a_level_and_every_level_a_crate() {
    let mapped: Vec<String> = table().into_keys().collect();
    let real: Vec<String> = dependencies().into_keys().collect();
    assert_eq!(
        mapped, real,
        "docs/ARCHITECTURE.md and the workspace disagree"
    );
}

#[test]
fn dependencies_point_down() {
    let levels = table();
    let mut wrong = Vec::new();
    for (package, dependencies) in dependencies() {
        for dependency in dependencies {
            if levels[&dependency] >= levels[&package] {
                wrong.push(format!(
                    "{package} (level {}) depends on {dependency} (level {})",
                    levels[&package], levels[&dependency],
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
