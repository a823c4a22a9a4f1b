//! What the program says when it cannot start: one clear message, exit code 1 or 2, no panic.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, net::TcpListener, os::unix::fs::PermissionsExt, path::Path};

use support::{Server, key_lines, lyceum, run};

/// Runs `serve` and gives what it wrote to standard error; it must fail.
fn refused(data: &Path, flags: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = lyceum();
    command.arg("serve").arg("--data-dir").arg(data).args(flags);
    if !flags.contains(&"--listen") {
        command.args(["--listen", "127.0.0.1:0"]);
    }
    let output = command.envs(env.iter().copied()).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        !output.status.success(),
        "it started: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!errors.contains("panicked"), "{errors}");
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{:?}: {errors}",
        output.status
    );
    errors
}

#[test]
fn an_unknown_key_names_itself_and_the_nearest_one() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    fs::write(
        &file,
        "[server]\nlisten_adress = \"127.0.0.1:1\"\n[model]\nnam = \"x\"\n",
    )
    .unwrap();
    let errors = refused(dir.path(), &["--config", file.to_str().unwrap()], &[]);
    assert!(
        errors.contains("server.listen_adress") || errors.contains("model.nam"),
        "{errors}"
    );
    assert!(errors.contains("did you mean"), "{errors}");
    let errors = refused(dir.path(), &[], &[("LYCEUM_MODEL__NAM", "secret-value")]);
    assert!(
        errors.contains("model.nam") && errors.contains("`model.name`"),
        "{errors}"
    );
    assert!(
        errors.contains("environment") && !errors.contains("secret-value"),
        "{errors}"
    );
}

#[test]
fn a_wrong_value_names_the_key_and_never_the_value() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    fs::write(&file, "[queue]\nmax_concurrent = \"sk-secret\"\n").unwrap();
    let errors = refused(dir.path(), &["--config", file.to_str().unwrap()], &[]);
    assert!(
        errors.contains("queue.max_concurrent") && errors.contains("whole number")
            || errors.contains("u64"),
        "{errors}"
    );
    assert!(!errors.contains("sk-secret"), "{errors}");
    fs::write(&file, "[model]\napi_key = sk-secret\n").unwrap();
    let errors = refused(dir.path(), &["--config", file.to_str().unwrap()], &[]);
    assert!(
        errors.contains("line 2") && !errors.contains("sk-secret"),
        "{errors}"
    );
    let errors = refused(dir.path(), &[], &[("LYCEUM_QUEUE__MAX_CONCURRENT", "0")]);
    assert!(
        errors.contains("queue.max_concurrent") && errors.contains('1'),
        "{errors}"
    );
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let errors = refused(
        dir.path(),
        &["--provider", "offline", "--listen", &address],
        &[],
    );
    assert!(
        errors.contains(&address) && errors.contains("--listen"),
        "{errors}"
    );
}

#[test]
fn an_open_address_needs_authentication() {
    let dir = tempfile::tempdir().unwrap();
    let errors = refused(
        dir.path(),
        &["--provider", "offline", "--listen", "0.0.0.0:0"],
        &[],
    );
    assert!(
        errors.contains("auth") && errors.contains("lyceum key"),
        "{errors}"
    );
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a-file");
    fs::write(&file, "not a directory").unwrap();
    let errors = refused(&file, &["--provider", "offline"], &[]);
    assert!(
        errors.contains("a-file") && errors.contains("--data-dir"),
        "{errors}"
    );
    // Root may write anywhere, so the permission only bites for others.
    let locked = dir.path().join("locked");
    fs::create_dir(&locked).unwrap();
    fs::set_permissions(&locked, fs::Permissions::from_mode(0o500)).unwrap();
    if fs::write(locked.join("probe"), "").is_err() {
        let errors = refused(&locked.join("data"), &["--provider", "offline"], &[]);
        assert!(
            errors.contains("locked") && errors.contains("--data-dir"),
            "{errors}"
        );
    }
}

#[test]
fn a_corrupt_database_is_named_and_left_alone() {
    let server = Server::offline();
    server.signal("TERM");
    let (code, errors, dir) = server.wait();
    assert_eq!(code, Some(0), "{errors}");
    let data = dir.path().join("data");
    let database = fs::read_dir(&data)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let database = database
        .into_iter()
        .find(|path| path.extension().is_some_and(|e| e == "db"))
        .unwrap();
    let garbage = vec![7_u8; 8192];
    fs::write(&database, &garbage).unwrap();
    let errors = refused(&data, &["--provider", "offline"], &[]);
    assert!(
        errors.contains(database.file_name().unwrap().to_str().unwrap()),
        "{errors}"
    );
    assert_eq!(
        fs::read(&database).unwrap(),
        garbage,
        "the file was changed"
    );
}

#[test]
fn a_model_that_is_not_a_model_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    fs::write(&file, "this is no model").unwrap();
    let errors = refused(dir.path(), &["--model", file.to_str().unwrap()], &[]);
    assert!(
        errors.contains("model.gguf") && errors.contains("GGUF"),
        "{errors}"
    );
    let errors = refused(dir.path(), &["--model", "/nowhere/model.gguf"], &[]);
    assert!(errors.contains("/nowhere/model.gguf"), "{errors}");
}

#[test]
fn a_provider_without_its_key_says_which_variable_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let errors = refused(dir.path(), &["--provider", "openai"], &[]);
    assert!(errors.contains("OPENAI_API_KEY"), "{errors}");
    let errors = refused(dir.path(), &["--provider", "opnai"], &[]);
    assert!(errors.contains("openai"), "{errors}");
}

#[test]
fn check_masks_secrets_and_help_reads_well() {
    let output = run(
        &["check"],
        &[
            ("HOME", "/tmp"),
            ("LYCEUM_MODEL__API_KEY", "sk-very-secret"),
            ("OLLAMA_HOST", "127.0.0.1:9"),
        ],
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(
        text.contains("listen = \"127.0.0.1:8080\"") && text.contains("********"),
        "{text}"
    );
    assert!(!text.contains("sk-very-secret"), "{text}");
    assert!(text.contains("provider = \"offline\""), "{text}");
    let output = run(
        &["check"],
        &[
            ("HOME", "/tmp"),
            ("OPENAI_API_KEY", "sk-hidden"),
            ("OPENAI_BASE_URL", "http://me:sk-hidden@127.0.0.1:9/v1"),
        ],
    );
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("base_url = \"http://127.0.0.1:9/v1\"")
            && text.contains("first_token_timeout_seconds = 60"),
        "{text}"
    );
    assert!(!text.contains("sk-hidden"), "{text}");
    let help = String::from_utf8(run(&["--help"], &[]).stdout).unwrap();
    for word in ["serve", "check", "key"] {
        assert!(help.contains(word), "{help}");
    }
}

#[test]
fn a_new_key_is_stored_as_a_digest_only() {
    let output = run(&["key", "alice", "--tenant", "school"], &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("sha256") && text.contains("tenant = \"school\""),
        "{text}"
    );
}

#[test]
fn check_names_what_a_server_would_not_take() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("lyceum.toml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        let flags = [
            "check",
            "--provider",
            "offline",
            "--config",
            file.to_str().unwrap(),
            "--data-dir",
            dir.path().to_str().unwrap(),
        ];
        let output = run(&flags, &[]);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.success(), errors.is_empty(), "{errors}");
        errors
    };
    assert_eq!(check(""), "");
    let git = "[[mcp.servers]]\nname = \"git\"\ncommand = \"true\"\n";
    for (text, said) in [
        ("[panel]\nrounds = 0", "`panel.rounds`: 0 is outside 1 to 3"),
        ("[panel]\nrounds = 4", "`panel.rounds`"),
        (
            "[privacy]\naudit_key = \"sk-secret\"",
            "`privacy.audit_key`",
        ),
        ("[student]\nturn_usd = 0", "`student.turn_usd`"),
        ("[student]\nturn_usd = -1.5", "`student.turn_usd`"),
        ("[student]\nturn_usd = nan", "`student.turn_usd`"),
        ("[student]\nturn_usd = 1001.0", "`student.turn_usd`"),
        ("[tools]\nstudent = [\"x__y\"]", "`tools.student`"),
        (
            &format!("[tools]\nstudent = [\"gti__log\"]\n{git}"),
            "did you mean `git__log`?",
        ),
        (
            &key_lines("a", "school", "b", "daily_usd = -1.0"),
            "daily_usd",
        ),
        (&key_lines("a", "school", "b", "streams = 0"), "streams"),
        (
            "[auth.jwt]\nissuer = \"i\"\naudience = []\njwks_file = \"/k\"",
            "audience",
        ),
        (
            "[auth.jwt]\nissuer = \"i\"\naudience = [\"l\"]\njwks_url = \"http://10.0.0.1/k\"",
            "https",
        ),
        (
            "[auth.jwt]\nissuer = \"i\"\naudience = [\"l\"]\njwks_file = \"/k\"\nalgorithms = [\"none\"]",
            "none",
        ),
        ("[limits]\nkey_streams = 0", "`limits.key_streams`"),
    ] {
        let error = check(text);
        assert!(error.contains(said), "{text}: {error}");
        assert!(!error.contains("sk-secret"), "{error}");
    }
}
