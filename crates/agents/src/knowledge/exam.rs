//! The student answers a question with what it was taught, and says what it was not.
//!
//! Invariant: the rules alone decide what was taught, so a model is not even asked about
//! the rest; what it adds to the claims is left out and named.

use std::collections::BTreeSet;

use lyceum_core::{CallContext, ChatError, ExamAnswer, Knowledge, Tone, Verdict};
use serde_json::json;

use super::{grounded::ground, is_chinese, teach_back::ask_model};
use crate::{
    Mind,
    mind::OFFLINE,
    offline::{
        self,
        taught::{self, Statement},
    },
    prompts, tone,
};

/// Claims that an answer rests on.
const CLAIMS: usize = 3;
/// Words that ask, and say nothing of what is asked for.
const ASKING: &[&str] = &[
    "explain",
    "describe",
    "tell",
    "say",
    "give",
    "name",
    "define",
    "mean",
    "example",
    "reason",
    "happen",
    "work",
    "do",
    "does",
    "cause",
    "question",
    "answer",
    "know",
    "用",
    "为什么",
    "什么",
    "怎么",
    "怎样",
    "如何",
    "解释",
    "说明",
    "原因",
    "例子",
    "举",
    "请",
    "讲",
    "叫",
    "回答",
];

/// What a question wants beside its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Reason,
    Example,
    Meaning,
    Anything,
}

/// What was taught of a question's subject.
struct Taught {
    claims: Vec<u32>,
    missing: Vec<String>,
    verdict: Verdict,
}

/// Answers.
pub(crate) async fn exam(
    mind: &Mind,
    call: CallContext,
    knowledge: &Knowledge,
    question: &str,
    tone: Tone,
) -> Result<ExamAnswer, ChatError> {
    let taught = look_up(knowledge, question);
    let rules = by_rules(knowledge, question, &taught, tone);
    let model = match mind {
        Mind::Model(model) if !model.traits().small && taught.verdict != Verdict::NotTaught => {
            model
        }
        _ => return Ok(rules),
    };
    let claims: Vec<_> = taught
        .claims
        .iter()
        .filter_map(|id| knowledge.claim(*id))
        .collect();
    let prompt = prompts::rendered(
        "exam",
        json!({"question": question, "voice": tone::voice(tone), "claims": claims, "missing": taught.missing}),
    )?;
    let (text, provider) = ask_model(model, call.with_purpose("exam", 0), prompt).await?;
    let grounded = ground(&text, knowledge, question);
    if grounded.claims.is_empty() {
        return Ok(ExamAnswer {
            removed: grounded.removed,
            degraded: vec!["exam".to_owned()],
            ..rules
        });
    }
    Ok(ExamAnswer {
        text: grounded.text
            + &not_taught(&taught.missing, is_chinese_question(question, knowledge)),
        claims: grounded.claims,
        removed: grounded.removed,
        provider,
        ..rules
    })
}

fn look_up(knowledge: &Knowledge, question: &str) -> Taught {
    let mut asked = taught::words(question);
    asked.retain(|word| !ASKING.contains(&word.as_str()));
    let topic = taught::words(&knowledge.topic);
    let claims: Vec<(u32, BTreeSet<String>)> = knowledge
        .claims
        .iter()
        .map(|claim| (claim.id, taught::words(&claim.text)))
        .collect();
    let known: BTreeSet<&String> = claims.iter().flat_map(|(_, words)| words).collect();
    // The topic's own name is no part that could be untaught.
    let subject: BTreeSet<&String> = asked.iter().filter(|word| !topic.contains(*word)).collect();
    let unknown: BTreeSet<&String> = subject
        .iter()
        .copied()
        .filter(|word| !known.contains(word))
        .collect();
    let sought: BTreeSet<&String> = match subject.is_empty() {
        true => asked.iter().collect(),
        false => subject.clone(),
    };
    let mut hits: Vec<(usize, u32)> = claims
        .iter()
        .map(|(id, words)| {
            (
                sought.iter().filter(|word| words.contains(**word)).count(),
                *id,
            )
        })
        .filter(|(shared, _)| *shared > 0)
        .collect();
    hits.sort_by_key(|(shared, id)| (std::cmp::Reverse(*shared), *id));
    let best = hits.first().map_or(0, |(shared, _)| *shared);
    hits.retain(|(shared, _)| shared * 2 > best);
    let mut found: Vec<u32> = hits.iter().take(CLAIMS).map(|(_, id)| *id).collect();
    let mut missing = named(question, &unknown);
    let wish = wish(question);
    if !found.is_empty() && !grants(knowledge, &found, &sought, wish) {
        // What gives the reason may stand in the claim that goes on from the first.
        let after = knowledge
            .claims
            .iter()
            .find(|claim| claim.follows == found.first().copied());
        match after.filter(|claim| grants(knowledge, &[claim.id], &sought, wish)) {
            Some(claim) => found.push(claim.id),
            None => missing.extend(wished(wish, is_chinese_question(question, knowledge))),
        }
    }
    found.sort_unstable();
    let verdict = match (found.is_empty(), missing.is_empty()) {
        (true, _) => Verdict::NotTaught,
        (false, true) => Verdict::Answered,
        (false, false) => Verdict::Partly,
    };
    if found.is_empty() && missing.is_empty() {
        missing.push(question.trim().to_owned());
    }
    Taught {
        claims: found,
        missing,
        verdict,
    }
}

/// The unknown words as they stand in the question: whole terms where they are one.
fn named(question: &str, unknown: &BTreeSet<&String>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut covered: BTreeSet<String> = BTreeSet::new();
    for term in taught::terms_of(question) {
        let words = taught::words(&term.name);
        let is_unknown = words.iter().any(|word| unknown.contains(word));
        if is_unknown && !words.is_subset(&covered) {
            covered.extend(words);
            names.push(term.name);
        }
    }
    let left = unknown.iter().filter(|word| !covered.contains(**word));
    names.extend(left.map(|word| (*word).clone()));
    names
}

fn wish(question: &str) -> Wish {
    let lower = question.to_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    match () {
        () if has(&["why", "为什么", "为何", "how come", "原因"]) => Wish::Reason,
        () if has(&["example", "for instance", "举例", "例子"]) => Wish::Example,
        () if has(&[
            "what is ",
            "what are ",
            "what does ",
            "define",
            "什么是",
            "是什么",
            "什么叫",
        ]) =>
        {
            Wish::Meaning
        }
        () => Wish::Anything,
    }
}

fn grants(knowledge: &Knowledge, claims: &[u32], sought: &BTreeSet<&String>, wish: Wish) -> bool {
    let grants = |statement: &Statement| match wish {
        Wish::Reason => statement.gives_reason || statement.gives_means,
        Wish::Example => statement.gives_example,
        Wish::Meaning => sought.iter().any(|word| statement.defines(word)),
        Wish::Anything => true,
    };
    claims
        .iter()
        .filter_map(|id| knowledge.claim(*id))
        .flat_map(|claim| taught::statements(&claim.text))
        .any(|statement| grants(&statement))
}

fn wished(wish: Wish, chinese: bool) -> Option<String> {
    let name = match (wish, chinese) {
        (Wish::Reason, false) => "the reason",
        (Wish::Reason, true) => "原因",
        (Wish::Example, false) => "an example",
        (Wish::Example, true) => "例子",
        (Wish::Meaning, false) => "what it is",
        (Wish::Meaning, true) => "它是什么",
        (Wish::Anything, _) => return None,
    };
    Some(name.to_owned())
}

fn by_rules(knowledge: &Knowledge, question: &str, taught: &Taught, tone: Tone) -> ExamAnswer {
    let chinese = is_chinese_question(question, knowledge);
    let mut text = match taught.claims.is_empty() {
        true => String::new(),
        false => tone::recalling(tone, chinese).to_owned(),
    };
    for claim in taught.claims.iter().filter_map(|id| knowledge.claim(*id)) {
        text.push_str(&format!("\n- {} [{}]", claim.text, claim.id));
    }
    text.push_str(&not_taught(&taught.missing, chinese));
    ExamAnswer {
        verdict: taught.verdict,
        text: text.trim_start().to_owned(),
        claims: taught.claims.clone(),
        not_taught: taught.missing.clone(),
        removed: Vec::new(),
        provider: OFFLINE.to_owned(),
        degraded: Vec::new(),
    }
}

fn not_taught(missing: &[String], chinese: bool) -> String {
    if missing.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = missing.iter().map(|name| format!("“{name}”")).collect();
    match chinese {
        true => format!("\n这一部分没有人教过我：{}。", quoted.join("、")),
        false => format!("\nNobody taught me this part: {}.", quoted.join(", ")),
    }
}

fn is_chinese_question(question: &str, knowledge: &Knowledge) -> bool {
    match question.chars().any(char::is_alphabetic) {
        true => offline::is_chinese_text(question),
        false => is_chinese(knowledge),
    }
}
