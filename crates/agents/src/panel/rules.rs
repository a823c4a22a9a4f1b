//! The panel that needs no model: the person's own claims, the offline student's gaps as
//! objections, and what follows from both.
//!
//! Deliberately absent: knowledge of any subject. The rules never resolve an objection; the
//! person does.

use std::fmt::Write;

use super::claims;
use crate::offline::{self, Lecture};

/// The most claims that are listed.
const MAX_CLAIMS: usize = 12;

/// The person's claims, numbered.
pub(super) fn plan(text: &str) -> String {
    numbered(claims::claims(text, true).into_iter().take(MAX_CLAIMS))
}

/// An objection for each gap.
pub(super) fn criticise(topic: &str, text: &str) -> String {
    let lecture = Lecture {
        topic,
        text,
        earlier: &[],
        recalled: &[],
    };
    let gaps = offline::skim(&lecture);
    if gaps.is_empty() {
        return "NONE\n".to_owned();
    }
    // A quote may hold line breaks, and an objection is one line.
    let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let chinese = is_chinese(text);
    let objection = |gap: &lyceum_core::Gap| match chinese {
        true => format!("“{}”：{}", line(&gap.quote), line(&gap.reason)),
        false => format!("\"{}\": {}", line(&gap.quote), line(&gap.reason)),
    };
    numbered(gaps.iter().map(objection))
}

/// Leaves every objection to the person.
pub(super) fn moderate(text: &str, objections: &[String]) -> String {
    if objections.is_empty() {
        return match is_chinese(text) {
            true => "没有异议。\n".to_owned(),
            false => "There is no objection.\n".to_owned(),
        };
    }
    let ruling = match is_chinese(text) {
        true => "OPEN：这一点只有你能回答。",
        false => "OPEN: only you can answer this.",
    };
    numbered(objections.iter().map(|_| ruling))
}

/// What stands and what is objected to, in figures.
pub(super) fn report(text: &str, claims: &[&str], objections: &[String]) -> String {
    let (claims, objections) = (claims.len(), objections.len());
    match (is_chinese(text), objections) {
        (true, 0) => {
            format!("{claims} 个论点，按规则检查没有发现异议。没有模型参与，内容本身未经核实。")
        }
        (true, _) => {
            format!("{claims} 个论点，{objections} 条异议。没有模型参与，内容本身未经核实。")
        }
        (false, 0) => format!(
            "Claims: {claims}. The rules found nothing to object to. No model took part, so the content itself is not checked."
        ),
        (false, _) => format!(
            "Claims: {claims}. Objections: {objections}. No model took part, so the content itself is not checked."
        ),
    }
}

/// The objections that are not resolved, word for word, for the end of a report.
pub(super) fn dissent(text: &str, open: &[String]) -> String {
    let mut dissent = match is_chinese(text) {
        true => "仍有异议：\n".to_owned(),
        false => "Still open:\n".to_owned(),
    };
    for objection in open {
        let _ = writeln!(dissent, "- {objection}");
    }
    dissent.trim_end().to_owned()
}

fn numbered<T: std::fmt::Display>(lines: impl Iterator<Item = T>) -> String {
    let mut text = String::new();
    for (at, line) in lines.enumerate() {
        let _ = writeln!(text, "{}. {line}", at + 1);
    }
    text
}

fn is_chinese(text: &str) -> bool {
    offline::is_chinese_text(text)
}
