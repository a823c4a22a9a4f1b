//! Writes knowledge and notes as Markdown, in the teacher's language.
//!
//! Invariant: the teacher's words stay words: what would be read as markup is escaped.

use std::fmt::Write;

use lyceum_core::{GapStatus, Knowledge, KnownGap, Turn};

use super::{is_chinese, schedule};
use crate::offline;

/// The headings and words of one language.
struct Words {
    knowledge: &'static str,
    notes: &'static str,
    summary: &'static str,
    concepts: &'static str,
    claims: &'static str,
    open: &'static str,
    answered: &'static str,
    wrong: &'static str,
    again: &'static str,
    turn: &'static str,
    because: &'static str,
    answer: &'static str,
    resolved: &'static str,
    nothing: &'static str,
    due: &'static str,
    days: &'static str,
}

const ENGLISH: Words = Words {
    knowledge: "What the student knows",
    notes: "Notes",
    summary: "Summary",
    concepts: "Concepts and how well they were explained",
    claims: "What was taught",
    open: "Open questions",
    answered: "Answered questions",
    wrong: "Contradictions",
    again: "Explain again",
    turn: "explanation",
    because: "support",
    answer: "answer",
    resolved: "set right",
    nothing: "Nothing yet.",
    due: "now",
    days: "day(s) after the last explanation",
};

const CHINESE: Words = Words {
    knowledge: "学生知道什么",
    notes: "笔记",
    summary: "摘要",
    concepts: "概念与掌握程度",
    claims: "教过的内容",
    open: "还没回答的问题",
    answered: "已经回答的问题",
    wrong: "矛盾之处",
    again: "需要再讲",
    turn: "第几次讲解：",
    because: "依据",
    answer: "回答",
    resolved: "已经改正",
    nothing: "还没有。",
    due: "现在",
    days: "天（从上次讲解算起）",
};

/// The knowledge alone.
pub(crate) fn knowledge(knowledge: &Knowledge) -> String {
    let words = words(knowledge);
    let mut out = format!("# {}: {}\n", words.knowledge, escaped(&knowledge.topic));
    concepts(&mut out, knowledge, words);
    claims(&mut out, knowledge, words);
    gaps(&mut out, knowledge, words);
    wrong(&mut out, knowledge, words);
    out
}

/// Notes of the conversation.
pub(crate) fn notes(knowledge: &Knowledge, turns: &[Turn], now_ms: u64) -> String {
    let words = words(knowledge);
    let mut out = format!("# {}: {}\n", words.notes, escaped(&knowledge.topic));
    let _ = write!(out, "\n## {}\n\n", words.summary);
    for line in offline::summary(&knowledge.topic, turns).lines() {
        match line.strip_prefix("- ") {
            Some(point) => out.push_str(&format!("- {}\n", escaped(point))),
            None => out.push_str(&format!("{}\n\n", escaped(line))),
        }
    }
    claims(&mut out, knowledge, words);
    gaps(&mut out, knowledge, words);
    wrong(&mut out, knowledge, words);
    let _ = write!(out, "\n## {}\n\n", words.again);
    for item in schedule::items(knowledge, now_ms) {
        let days = item.review.interval_days;
        let when = match item.is_due {
            true => words.due.to_owned(),
            false => format!("{days} {}", words.days),
        };
        let task = escaped(&item.task);
        let _ = writeln!(out, "- **{}** ({when}): {task}", escaped(&item.name));
    }
    out
}

fn words(knowledge: &Knowledge) -> &'static Words {
    if is_chinese(knowledge) {
        &CHINESE
    } else {
        &ENGLISH
    }
}

fn concepts(out: &mut String, knowledge: &Knowledge, words: &Words) {
    let _ = write!(out, "\n## {}\n\n", words.concepts);
    for concept in &knowledge.concepts {
        let mastery = (knowledge.mastery(concept.id) * 100.0).round();
        let _ = writeln!(out, "- {}: {mastery} %", escaped(&concept.name));
    }
}

fn claims(out: &mut String, knowledge: &Knowledge, words: &Words) {
    let _ = write!(out, "\n## {}\n\n", words.claims);
    if knowledge.claims.is_empty() {
        let _ = writeln!(out, "{}", words.nothing);
    }
    for claim in &knowledge.claims {
        let text = escaped(&claim.text);
        let _ = writeln!(
            out,
            "- [{}] {text} ({} {})",
            claim.id, words.turn, claim.turn
        );
        if let Some(support) = claim.support.as_ref().filter(|it| **it != claim.text) {
            let _ = writeln!(out, "  - {}: {}", words.because, escaped(support));
        }
    }
}

fn gaps(out: &mut String, knowledge: &Knowledge, words: &Words) {
    let _ = write!(out, "\n## {}\n\n", words.open);
    let open = knowledge.open_gaps();
    if open.is_empty() {
        let _ = writeln!(out, "{}", words.nothing);
    }
    for gap in open {
        let _ = writeln!(out, "- {}", question(gap));
    }
    let settled = |gap: &&KnownGap| gap.status == GapStatus::Answered;
    let mut answered = knowledge.gaps.iter().filter(settled).peekable();
    if answered.peek().is_some() {
        let _ = write!(out, "\n## {}\n\n", words.answered);
    }
    for gap in answered {
        let _ = writeln!(out, "- {}", question(gap));
        for claim in gap.answers.iter().filter_map(|id| knowledge.claim(*id)) {
            let text = escaped(&claim.text);
            let _ = writeln!(out, "  - {}: {text} [{}]", words.answer, claim.id);
        }
    }
}

fn question(gap: &KnownGap) -> String {
    match &gap.question {
        Some(question) => escaped(question),
        None => format!(
            "“{}”: {}",
            escaped(&gap.gap.quote),
            escaped(&gap.gap.reason)
        ),
    }
}

fn wrong(out: &mut String, knowledge: &Knowledge, words: &Words) {
    if knowledge.misconceptions.is_empty() {
        return;
    }
    let _ = write!(out, "\n## {}\n\n", words.wrong);
    for wrong in &knowledge.misconceptions {
        let (quote, reason) = (escaped(&wrong.quote), escaped(&wrong.reason));
        let mark = if wrong.resolved {
            format!(" ({})", words.resolved)
        } else {
            String::new()
        };
        let _ = writeln!(out, "- “{quote}”: {reason}{mark}");
    }
}

/// The text on one line, without anything that Markdown or HTML would act on.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.trim().chars() {
        match c {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '<' | '>' | '#' | '|' | '!' | '&' => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}
