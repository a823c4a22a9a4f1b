//! `docs/CAPACITY.md` shows what `lyceum capacity` says.
//!
//! `UPDATE_DOCS=1` writes the blocks anew. Numbers may differ a little: another machine's
//! mathematics may draw other callers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

/// What a block begins with, up to the arguments.
const BEGIN: &str = "```console\n$ lyceum capacity ";
const END: &str = "\n```";

fn said(arguments: &str) -> String {
    let mut all = vec!["capacity"];
    all.extend(arguments.split_whitespace());
    let output = support::run(&all, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments}: {errors}");
    String::from_utf8(output.stdout)
        .unwrap()
        .trim_end()
        .to_owned()
}

/// The text without its numbers, and the numbers.
fn parts(text: &str) -> (String, Vec<f64>) {
    let is_number = |c: char| c.is_ascii_digit() || c == ',' || c == '.';
    let (mut words, mut numbers) = (String::new(), Vec::new());
    for token in text.split_whitespace() {
        let digits = token.trim_matches(|c: char| !c.is_ascii_digit());
        if digits.chars().all(is_number) && !digits.is_empty() {
            numbers.push(digits.replace(',', "").parse().unwrap());
            words.push_str(&token.replace(digits, "#"));
        } else {
            words.push_str(token);
        }
        words.push(' ');
    }
    (words, numbers)
}

fn is_near(one: f64, other: f64) -> bool {
    (one - other).abs() <= 0.05 + 0.15 * one.abs().max(other.abs())
}

#[test]
fn the_page_shows_what_the_program_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/CAPACITY.md");
    let page = fs::read_to_string(&file).unwrap();
    let (mut written, mut rest) = (String::new(), page.as_str());
    let mut blocks = 0;
    while let Some(at) = rest.find(BEGIN) {
        blocks += 1;
        let (before, block) = rest.split_at(at + BEGIN.len());
        let end = block.find(END).unwrap();
        let (arguments, shown) = block[..end].split_once('\n').unwrap_or((&block[..end], ""));
        let said = said(arguments);
        if std::env::var_os("UPDATE_DOCS").is_none() {
            let ((words, numbers), (shown_words, shown_numbers)) = (parts(&said), parts(shown));
            let advice = "run `UPDATE_DOCS=1 cargo test -p lyceum --test capacity`";
            assert_eq!(words, shown_words, "{arguments}: {advice}");
            for (now, then) in numbers.iter().zip(&shown_numbers) {
                assert!(
                    is_near(*now, *then),
                    "{arguments}: {now}, shown is {then}: {advice}"
                );
            }
        }
        written.push_str(before);
        written.push_str(arguments);
        written.push('\n');
        written.push_str(&said);
        rest = &block[end..];
    }
    written.push_str(rest);
    assert!(blocks >= 4, "{blocks}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&file, written).unwrap();
    }
}

#[test]
fn the_plan_as_json_meets_the_targets_and_one_key_less_does_not() {
    let plan = |keys: &str| -> serde_json::Value {
        let output = said(&format!("--users 60 --json {keys}"));
        serde_json::from_str(&output).unwrap()
    };
    let found = plan("");
    assert_eq!(found["holds"], true, "{found}");
    assert_eq!(found["plan"]["beyond_quota"], 0, "{found}");
    let keys = found["plan"]["keys"].as_u64().unwrap();
    assert!(keys >= 2, "{found}");
    let fewer = plan(&format!("--keys {}", keys - 1));
    assert_eq!(fewer["holds"], false, "{fewer}");
    let month = found["models"][0]["month_usd"].as_f64().unwrap();
    assert!(month > 0.0, "{found}");
}

#[test]
fn what_cannot_be_planned_says_which_flag() {
    for (arguments, named) in [
        (vec!["--users", "0"], "--users"),
        (
            vec!["--users", "5", "--cache-hit-rate", "2"],
            "--cache-hit-rate",
        ),
        (vec!["--users", "5", "--think=-1"], "--think"),
        (vec!["--users", "5", "--model", "nobody"], "nobody"),
        (vec!["--users", "5", "--keys", "0"], "--keys"),
        // Three parts, of which none can have one key more than another.
        (vec!["--users", "1200", "--keys", "4"], "multiple of 3"),
    ] {
        let all = [&["capacity"], arguments.as_slice()].concat();
        let output = support::run(&all, &[]);
        assert!(!output.status.success(), "{arguments:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(named), "{said}");
    }
}
