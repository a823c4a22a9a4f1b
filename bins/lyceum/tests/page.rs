//! The page in a real headless Chromium, against the real server.

mod support;

use std::process::Command;

use support::{Server, python, root};

#[test]
fn the_page_teaches_survives_reload_and_errors_in_both_languages() {
    assert!(
        std::path::Path::new("/usr/bin/chromium").exists(),
        "chromium is missing: run `cargo xtask setup`, or apt-get install chromium"
    );
    let server = Server::offline();
    // The pictures in the docs are renewed on purpose only: UPDATE_DOCS=1.
    let pictures = match std::env::var_os("UPDATE_DOCS") {
        Some(_) => root().join("docs/images"),
        None => server.dir.path().to_owned(),
    };
    let output = Command::new(python())
        .arg(root().join("bins/lyceum/tests/page/page.py"))
        .arg(&server.url)
        .arg(&pictures)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(pictures.join("page.png").is_file());
}
