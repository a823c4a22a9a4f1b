//! What the student knows: built from explanations, one after the other.
//!
//! Pure: the caller passes `now`. Invariant: it holds the teacher's own words and what was
//! found in them, never anything else, and stays within the bounds below however long the
//! conversation becomes. Deliberately absent: where it is kept ([`keeper`]).

mod closing;
pub(crate) mod exam;
mod grounded;
pub(crate) mod keeper;
pub(crate) mod markdown;
pub(crate) mod recalled;
mod same;
pub(crate) mod schedule;
pub(crate) mod teach_back;

pub(crate) use same::is_same;

use std::collections::BTreeSet;

use lyceum_core::{
    Claim, Concept, Gap, GapKind, GapStatus, Knowledge, KnownGap, Misconception, Role, Severity,
    Turn,
};

use crate::{
    offline::{
        self, Lecture,
        taught::{self, Statement},
    },
    questions::said_questions,
};

/// The most of each kept.
const CONCEPTS: usize = 40;
const CLAIMS: usize = 120;
const GAPS: usize = 60;
const MISCONCEPTIONS: usize = 20;
const ASKED: usize = 100;
/// New concepts of one explanation.
const NEW_CONCEPTS: usize = 8;
/// How technical a phrase has to look to be a concept, 0–1.
const TECHNICAL: f32 = 0.45;
/// Bytes kept of one quote, reason or question.
const TEXT_BYTES: usize = 600;

/// Takes in an explanation: its claims, what they are about, and which gaps they fill.
/// Gives the ids of the gaps filled.
pub(crate) fn hear(knowledge: &mut Knowledge, topic: &str, text: &str, now_ms: u64) -> Vec<u32> {
    if knowledge.topic.is_empty() {
        knowledge.topic = short(topic.trim());
    }
    knowledge.turns += 1;
    let turn = knowledge.turns;
    let statements = taught::statements(text);
    name_concepts(knowledge, &statements, now_ms);
    let mut ids = Vec::new();
    for statement in &statements {
        let claim = claim(knowledge, statement, turn, ids.last().copied());
        ids.push(claim);
    }
    let closed = closing::close(knowledge, &statements, &ids);
    bound(knowledge);
    closed
}

/// Takes in what was found missing in the explanation heard last.
pub(crate) fn find(knowledge: &mut Knowledge, gaps: &[Gap], now_ms: u64) {
    for gap in gaps {
        if position(knowledge, gap).is_some() {
            continue;
        }
        let id = next(knowledge);
        let concepts = concepts_of_gap(knowledge, gap, now_ms);
        if gap.kind == GapKind::Contradiction {
            knowledge.misconceptions.push(Misconception {
                id: id + 1,
                quote: short(&gap.quote),
                reason: short(&gap.reason),
                gap: id,
                resolved: false,
            });
            knowledge.last_id += 1;
        }
        knowledge.gaps.push(KnownGap {
            id,
            gap: Gap {
                kind: gap.kind,
                quote: short(&gap.quote),
                reason: short(&gap.reason),
                severity: gap.severity,
                confidence: gap.confidence,
            },
            status: GapStatus::Open,
            question: None,
            turn: knowledge.turns,
            answers: Vec::new(),
            concepts,
        });
    }
    review(knowledge, now_ms);
    bound(knowledge);
}

/// The gaps of an explanation that are worth a question: not those that were filled before
/// or that the teacher does not want to be asked.
pub(crate) fn worth_asking(knowledge: &Knowledge, gaps: Vec<Gap>) -> Vec<Gap> {
    let is_settled = |gap: &Gap| {
        let known = position(knowledge, gap).map(|at| &knowledge.gaps[at]);
        let is_unwanted = |known: &KnownGap| {
            known.status == GapStatus::Dismissed && same::quotes_same(&known.gap, gap)
        };
        known.is_some_and(|known| !known.status.is_open()) || knowledge.gaps.iter().any(is_unwanted)
    };
    gaps.into_iter().filter(|gap| !is_settled(gap)).collect()
}

/// Takes in what was asked: a question belongs to the open gap it quotes.
pub(crate) fn ask(knowledge: &mut Knowledge, questions: &[String]) {
    for question in questions {
        let quoting = knowledge.gaps.iter_mut().filter(|gap| {
            gap.status.is_open()
                && gap.question.is_none()
                && same::holds(question, quoted(&gap.gap.quote))
        });
        // Of several that a question quotes it means the one with the most words.
        if let Some(gap) = quoting.max_by_key(|gap| gap.gap.quote.len()) {
            gap.status = GapStatus::Asked;
            gap.question = Some(short(question));
        }
        knowledge.asked.push(short(question));
    }
    let asked = &mut knowledge.asked;
    asked.drain(..asked.len().saturating_sub(ASKED));
}

/// What a model says of the questions that waited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruling {
    /// The gaps it was shown.
    pub(crate) shown: Vec<u32>,
    /// Those of them that it says are filled.
    pub(crate) answered: Vec<u32>,
}

/// Lets a model have the last word on what it was shown: `closed` are the gaps that the
/// rules closed when they heard the last explanation.
pub(crate) fn ruled(knowledge: &mut Knowledge, ruling: &Ruling, closed: &[u32]) {
    let turn = knowledge.turns;
    let said = knowledge.claims.iter().filter(|claim| claim.turn == turn);
    let said: Vec<u32> = said.map(|claim| claim.id).collect();
    for gap in &mut knowledge.gaps {
        let is_filled = ruling.answered.contains(&gap.id);
        if is_filled && gap.status.is_open() && gap.turn < turn && !said.is_empty() {
            gap.status = GapStatus::Answered;
            gap.answers.clone_from(&said);
        }
        if !is_filled && ruling.shown.contains(&gap.id) && closed.contains(&gap.id) {
            gap.status = GapStatus::Asked;
            gap.answers.clear();
        }
    }
    closing::resolve(knowledge);
}

/// Takes in a conversation that was not followed while it happened, by rules. Many turns are
/// skimmed in the time in which one would be read.
pub(crate) fn replay(knowledge: &mut Knowledge, topic: &str, turns: &[Turn], now_ms: u64) {
    for (at, turn) in turns.iter().enumerate() {
        match turn.role {
            Role::User => {
                hear(knowledge, topic, &turn.content, now_ms);
                let gaps = offline::skim(&Lecture {
                    topic,
                    text: &turn.content,
                    earlier: &turns[..at],
                    recalled: &[],
                });
                find(knowledge, &gaps, now_ms);
            }
            Role::Assistant => ask(knowledge, &said_questions(&turn.content)),
            Role::System | Role::Tool => {}
        }
    }
}

/// Whether the learner is answered in Chinese.
pub(crate) fn is_chinese(knowledge: &Knowledge) -> bool {
    let said = knowledge.claims.iter().map(|claim| claim.text.as_str());
    let all: String = said.take(20).collect();
    offline::is_chinese_text(if all.is_empty() {
        &knowledge.topic
    } else {
        &all
    })
}

/// A long quote is shortened in a question; its beginning is there.
fn quoted(quote: &str) -> &str {
    let end = quote
        .char_indices()
        .nth(40)
        .map_or(quote.len(), |(at, _)| at);
    quote[..end].trim_end()
}

/// Where a gap is known already: the same kind at the same words.
fn position(knowledge: &Knowledge, gap: &Gap) -> Option<usize> {
    let mut known = knowledge.gaps.iter();
    known.position(|known| is_same(&known.gap, gap))
}

fn name_concepts(knowledge: &mut Knowledge, statements: &[Statement], now_ms: u64) {
    if knowledge.concepts.is_empty() && !knowledge.topic.is_empty() {
        let name = knowledge.topic.clone();
        let key = name.to_lowercase();
        concept(knowledge, &name, key, now_ms);
    }
    let mut counts: Vec<(&taught::Term, usize)> = Vec::new();
    for term in statements.iter().flat_map(|statement| &statement.terms) {
        match counts.iter_mut().find(|(known, _)| known.key == term.key) {
            Some((_, count)) => *count += 1,
            None => counts.push((term, 1)),
        }
    }
    let mut named = 0;
    for (term, count) in counts {
        let is_known = knowledge.concepts.iter().any(|known| known.key == term.key);
        let is_topic = knowledge.topic.to_lowercase() == term.name.to_lowercase();
        let matters = term.score >= TECHNICAL || count > 1;
        if matters && !is_known && !is_topic && named < NEW_CONCEPTS {
            concept(knowledge, &term.name, term.key.clone(), now_ms);
            named += 1;
        }
    }
}

fn concept(knowledge: &mut Knowledge, name: &str, key: String, now_ms: u64) -> u32 {
    let id = next(knowledge);
    knowledge.concepts.push(Concept {
        id,
        name: short(name),
        key,
        review: schedule::fresh(now_ms),
    });
    id
}

fn claim(knowledge: &mut Knowledge, statement: &Statement, turn: u32, before: Option<u32>) -> u32 {
    let same = |known: &&Claim| known.text.to_lowercase() == statement.text.to_lowercase();
    if let Some(known) = knowledge.claims.iter().find(same) {
        return known.id;
    }
    let mut concepts: Vec<u32> = knowledge
        .concepts
        .iter()
        .filter(|concept| mentions(statement, concept))
        .map(|concept| concept.id)
        .collect();
    if concepts.is_empty() {
        // What names nothing is about the topic.
        concepts.extend(knowledge.concepts.first().map(|concept| concept.id));
    }
    let id = next(knowledge);
    knowledge.claims.push(Claim {
        id,
        text: statement.text.clone(),
        support: statement.support.clone(),
        follows: before.filter(|_| statement.follows),
        turn,
        concepts,
    });
    id
}

fn mentions(statement: &Statement, concept: &Concept) -> bool {
    statement.terms.iter().any(|term| term.key == concept.key)
        || contains(&statement.text, &statement.words, concept)
}

fn contains(text: &str, words: &BTreeSet<String>, concept: &Concept) -> bool {
    text.to_lowercase().contains(&concept.name.to_lowercase())
        || concept.key.split(' ').all(|word| words.contains(word))
}

fn concepts_of_gap(knowledge: &mut Knowledge, gap: &Gap, now_ms: u64) -> Vec<u32> {
    let words = taught::words(&gap.quote);
    let named = knowledge
        .concepts
        .iter()
        .filter(|concept| contains(&gap.quote, &words, concept));
    let mut found: Vec<u32> = named.map(|concept| concept.id).collect();
    if gap.kind == GapKind::UndefinedTerm && found.is_empty() {
        let key = gap.quote.to_lowercase();
        found.push(concept(knowledge, &gap.quote, key, now_ms));
    }
    if found.is_empty() {
        let said = knowledge
            .claims
            .iter()
            .rfind(|claim| claim.text.contains(&gap.quote));
        found = said.map(|claim| claim.concepts.clone()).unwrap_or_default();
    }
    if found.is_empty() {
        found.extend(knowledge.concepts.first().map(|concept| concept.id));
    }
    found
}

/// Grades how the last explanation told each concept that it speaks of.
fn review(knowledge: &mut Knowledge, now_ms: u64) {
    let turn = knowledge.turns;
    let spoken: BTreeSet<u32> = knowledge
        .claims
        .iter()
        .filter(|claim| claim.turn == turn)
        .flat_map(|claim| claim.concepts.iter().copied())
        .collect();
    for concept in &mut knowledge.concepts {
        if !spoken.contains(&concept.id) {
            continue;
        }
        let about = || {
            knowledge
                .gaps
                .iter()
                .filter(|gap| gap.concepts.contains(&concept.id))
        };
        let worst = about()
            .filter(|gap| gap.turn == turn && gap.status.is_open())
            .map(|gap| gap.gap.severity)
            .max();
        let filled = about().any(|gap| gap.status == GapStatus::Answered);
        let quality = match worst {
            Some(Severity::High) => 2,
            Some(Severity::Medium) => 3,
            Some(Severity::Low) => 4,
            None if filled => 5,
            None => 4,
        };
        concept.review = schedule::graded(concept.review, quality, now_ms);
    }
}

/// Drops the least useful where there is too much: settled gaps first, then the oldest.
fn bound(knowledge: &mut Knowledge) {
    let before = size(knowledge);
    let claims = &mut knowledge.claims;
    claims.drain(..claims.len().saturating_sub(CLAIMS));
    while knowledge.gaps.len() > GAPS {
        let settled = knowledge
            .gaps
            .iter()
            .position(|gap| gap.status == GapStatus::Answered);
        knowledge.gaps.remove(settled.unwrap_or(0));
    }
    // The first concept is the topic.
    while knowledge.concepts.len() > CONCEPTS {
        knowledge.concepts.remove(1);
    }
    let wrong = &mut knowledge.misconceptions;
    wrong.drain(..wrong.len().saturating_sub(MISCONCEPTIONS));
    let dropped = before - size(knowledge);
    if dropped == 0 {
        return;
    }
    knowledge.dropped += dropped as u32;
    // What is left names only what is there.
    let claims: BTreeSet<u32> = knowledge.claims.iter().map(|claim| claim.id).collect();
    let concepts: BTreeSet<u32> = knowledge.concepts.iter().map(|it| it.id).collect();
    for claim in &mut knowledge.claims {
        claim.follows = claim.follows.filter(|id| claims.contains(id));
        claim.concepts.retain(|id| concepts.contains(id));
    }
    for gap in &mut knowledge.gaps {
        gap.answers.retain(|id| claims.contains(id));
        gap.concepts.retain(|id| concepts.contains(id));
    }
    let gaps: BTreeSet<u32> = knowledge.gaps.iter().map(|gap| gap.id).collect();
    knowledge
        .misconceptions
        .retain(|wrong| gaps.contains(&wrong.gap));
}

fn size(knowledge: &Knowledge) -> usize {
    knowledge.claims.len()
        + knowledge.gaps.len()
        + knowledge.concepts.len()
        + knowledge.misconceptions.len()
}

fn next(knowledge: &mut Knowledge) -> u32 {
    knowledge.last_id += 1;
    knowledge.last_id
}

fn short(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES)].to_owned()
}

#[cfg(test)]
mod tests;
