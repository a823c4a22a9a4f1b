//! The learner's and the operator's page in a real headless Chromium, against the real server.

mod support;

use std::process::Command;

use support::{Server, javascript, python, root};

#[test]
fn the_pages_work_in_both_languages_by_keyboard_on_a_phone_and_over_a_bad_line() {
    assert!(
        std::path::Path::new("/usr/bin/chromium").exists(),
        "chromium is missing: run `cargo xtask setup`, or apt-get install chromium"
    );
    let axe = javascript().join("node_modules/axe-core/axe.min.js");
    assert!(
        axe.is_file(),
        "{} is missing: run `cargo xtask setup`",
        axe.display()
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
        .arg(&axe)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    for picture in ["page", "map", "panel", "phone", "operator"] {
        let picture = pictures.join(picture).with_extension("png");
        assert!(picture.is_file(), "{}", picture.display());
    }
}
