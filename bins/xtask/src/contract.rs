//! The HTTP API held against its own OpenAPI document, by schemathesis.
//!
//! Invariant: a run asks the same as the one before, of a server that knows nothing yet, so
//! what was found is found again. What is asked stands in `tests/contract/schemathesis.toml`.

use std::{fs, path::Path, process::Command};

use anyhow::{Result, bail};

use crate::{bench::process::Running, built, root, setup};

/// The server's settings: one key, which opens everything, so that what needs a key is asked
/// with and without one. The digest is that of [`KEY`].
const SETTINGS: &str = r#"
[[auth.keys]]
name = "contract"
tenant = "contract"
sha256 = "ddf0b3a9261477f12898b37116df008ce7998ee40e8526c24fca4d93aac59fd2"
scopes = ["student", "models", "graphs", "metrics", "operator"]
"#;
const KEY: &str = "contract-0123456789abcdef";

/// What is asked one behind the other: everything that leaves the server as it was, then what
/// takes away what others are asked about or has it say more than it should, then what makes it
/// refuse everything else.
const PARTS: [[&str; 2]; 3] = [
    [
        "--exclude-path-regex",
        "^/(export|api/operator/(maintenance|log))$",
    ],
    ["--include-path-regex", "^/(export|api/operator/log)$"],
    ["--include-path", "/api/operator/maintenance"],
];

/// Starts the server and has it asked; what does not fit is printed with the request.
pub(crate) fn run() -> Result<()> {
    setup::schemathesis()?;
    let home = tempfile::tempdir()?;
    let settings = home.path().join("lyceum.toml");
    fs::write(&settings, SETTINGS)?;
    let program = built("lyceum");
    if !program.is_file() {
        bail!(
            "there is no {}: build it with `cargo build -p lyceum`",
            program.display()
        );
    }
    let mut command = Command::new(program);
    command
        .args(["serve", "--provider", "offline", "--listen", "127.0.0.1:0"])
        .arg("--config")
        .arg(settings)
        .arg("--data-dir")
        .arg(home.path().join("data"));
    let log = home.path().join("server.log");
    let mut server = Running::start(&mut command, &[], &log)?;
    server.answers("/readyz")?;
    let url = server.url();
    for part in PARTS {
        if !ask(&url, home.path(), part)? {
            bail!("the server does not keep to its OpenAPI document: see above");
        }
    }
    server.stop()
}

/// Asks a part of the API; whether everything fitted.
fn ask(url: &str, home: &Path, part: [&str; 2]) -> Result<bool> {
    let status = Command::new(setup::schemathesis_path())
        .arg("--config-file")
        .arg(root().join("tests/contract/schemathesis.toml"))
        .args(["run", &format!("{url}/openapi.json"), "--no-color"])
        .args(["--header", &format!("Authorization: Bearer {KEY}")])
        .args(part)
        .current_dir(home)
        .status()?;
    Ok(status.success())
}
