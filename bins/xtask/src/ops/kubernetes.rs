//! The overlays of Kubernetes, rendered by kubectl's Kustomize.
//!
//! Invariant: `all-in-one.yaml` is what its overlay renders to, and every overlay's resources
//! pass the schemas and fit together (`deploy/tests/kubernetes.py`). Deliberately absent: a cluster.

use std::{fs, path::Path};

use anyhow::{Result, ensure};

use super::programs::{Programs, finish};

/// The version whose schemas the resources must pass.
const VERSION: &str = "1.33";

const OVERLAYS: [&str; 3] = ["all-in-one", "dev", "production"];

const HEAD: &str = "---\n# Made from overlays/all-in-one by `cargo xtask ops-test --write`. \
    Make the secret first: secret.example.yaml.\n";

fn rendered(programs: &Programs, deploy: &Path, overlay: &str) -> Result<String> {
    let mut command = programs.command("kubectl");
    let folder = deploy.join("kubernetes/overlays").join(overlay);
    finish(command.arg("kustomize").arg(folder))
}

/// Writes the file that needs no Kustomize.
pub(super) fn write(programs: &Programs, deploy: &Path) -> Result<()> {
    let text = rendered(programs, deploy, "all-in-one")?;
    fs::write(
        deploy.join("kubernetes/all-in-one.yaml"),
        format!("{HEAD}{text}"),
    )?;
    Ok(())
}

/// Renders, validates and asserts.
pub(super) fn check(programs: &Programs, deploy: &Path) -> Result<()> {
    let home = tempfile::tempdir()?;
    let mut files = Vec::new();
    for overlay in OVERLAYS {
        let text = rendered(programs, deploy, overlay)?;
        if overlay == "all-in-one" {
            let found = fs::read_to_string(deploy.join("kubernetes/all-in-one.yaml"))?;
            ensure!(
                found == format!("{HEAD}{text}"),
                "deploy/kubernetes/all-in-one.yaml is stale: run `cargo xtask ops-test --write`"
            );
        }
        let file = home.path().join(format!("{overlay}.yaml"));
        fs::write(&file, text)?;
        files.push(file);
    }
    let mut command = programs.command("kubernetes-validate");
    command.args(["--strict", "-k", VERSION]).args(&files);
    let said = finish(command.arg(deploy.join("kubernetes/secret.example.yaml")))?;
    // An unknown kind is only a warning there; here it is a failure.
    ensure!(!said.contains("WARN"), "{said}");
    let mut command = programs.command("python");
    command.arg(deploy.join("tests/kubernetes.py")).args(&files);
    finish(&mut command)?;
    Ok(())
}
