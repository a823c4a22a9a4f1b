//! Lets a model's words through to the learner as they come, but for questions that are
//! rejected: the rules' question about the same gap takes their place.
//!
//! Words are held back until a line ends, or a sentence of a line that is no list item.
//! Invariant: nothing is passed on before it was judged, and at most [`MAX_QUESTIONS`]
//! questions are. Deliberately absent: the model.

use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use lyceum_core::Gap;

use super::think::Subject;
use crate::{
    ReActEvent, Watch,
    check::{Fault, Heard, Judge},
    gaps::list_item,
    metrics,
    offline::{self, MAX_QUESTIONS},
    questions::parse_questions,
    tone,
};

/// Stands between a model and whoever watches it.
pub(super) struct Sieve<'a> {
    subject: &'a Subject<'a>,
    gaps: &'a [Gap],
    watch: &'a dyn Watch,
    state: Mutex<State>,
}

/// What came through.
#[derive(Debug, Default)]
pub(super) struct Sifted {
    pub(super) text: String,
    pub(super) questions: Vec<String>,
    /// How many of the questions are the model's own.
    pub(super) own: usize,
}

#[derive(Debug)]
struct State {
    judge: Judge,
    /// What is not judged yet.
    held: String,
    /// What of the line was passed on since its last question.
    lead: String,
    /// The questions asked before, then those of this turn.
    asked: Vec<String>,
    out: Sifted,
}

impl<'a> Sieve<'a> {
    pub(super) fn new(subject: &'a Subject<'a>, gaps: &'a [Gap], watch: &'a dyn Watch) -> Self {
        let asked = subject.asked();
        let heard = Heard {
            topic: subject.topic,
            explanation: subject.explanation,
            earlier: &subject.taught(),
            asked: &asked,
        };
        Self {
            subject,
            gaps,
            watch,
            state: Mutex::new(State {
                judge: Judge::new(&heard),
                held: String::new(),
                lead: String::new(),
                asked,
                out: Sifted::default(),
            }),
        }
    }

    /// Judges what is left.
    pub(super) async fn finish(self) -> Sifted {
        let rest = self.judge("", true);
        self.pass_on(rest).await;
        let state = self.state.into_inner();
        state.unwrap_or_else(PoisonError::into_inner).out
    }

    async fn pass_on(&self, words: String) {
        if !words.is_empty() {
            self.watch.saw(ReActEvent::Text(words)).await;
        }
    }

    /// Takes in more words; gives those that may be heard now.
    fn judge(&self, words: &str, complete: bool) -> String {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.held.push_str(words);
        let mut heard = String::new();
        while let Some(end) = unit(&state.held, &state.lead, complete) {
            let unit: String = state.held.drain(..end).collect();
            heard.push_str(&self.sift(&mut state, &unit));
        }
        state.out.text.push_str(&heard);
        heard
    }

    /// What becomes of a line or a sentence.
    fn sift(&self, state: &mut State, unit: &str) -> String {
        let ended = unit.ends_with('\n');
        let kept = match parse_questions(&format!("{}{unit}", state.lead)).pop() {
            None if state.judge.is_lecture(unit) => {
                metrics::rejected(Fault::Leak);
                String::new()
            }
            None => {
                state.lead.push_str(unit);
                unit.to_owned()
            }
            Some(question) => {
                state.lead.clear();
                self.questioned(state, unit, question)
            }
        };
        if ended {
            state.lead.clear();
        }
        kept
    }

    fn questioned(&self, state: &mut State, unit: &str, question: String) -> String {
        if state.out.questions.len() >= MAX_QUESTIONS {
            return String::new();
        }
        let judged = state.judge.review(&question);
        let (question, words) = match judged {
            Ok(()) => {
                state.out.own += 1;
                (question, unit.to_owned())
            }
            Err(fault) => {
                metrics::rejected(fault);
                tracing::debug!(fault = fault.label(), "a model's question is replaced");
                let at = state.out.questions.len();
                let instead = instead(self.subject, self.gaps, &state.asked, at, &question);
                let Some(instead) = instead else {
                    return String::new();
                };
                let body = list_item(unit).unwrap_or_else(|| unit.trim());
                let words = unit.replacen(body, &instead, 1);
                (instead, words)
            }
        };
        state.judge.asked(&question);
        state.asked.push(tone::bare(&question).to_owned());
        state.out.questions.push(question);
        words
    }
}

#[async_trait]
impl Watch for Sieve<'_> {
    async fn saw(&self, event: ReActEvent) {
        match event {
            ReActEvent::Text(words) => {
                let words = self.judge(&words, false);
                self.pass_on(words).await;
            }
            other => self.watch.saw(other).await,
        }
    }
}

/// The rules' question about the gap that a question is about, else about the one `at` its
/// place.
pub(super) fn instead(
    subject: &Subject<'_>,
    gaps: &[Gap],
    asked: &[String],
    at: usize,
    question: &str,
) -> Option<String> {
    let quoted = gaps.iter().position(|gap| question.contains(&gap.quote));
    let about = gaps.get(quoted.unwrap_or(at));
    let about = about.map(std::slice::from_ref).unwrap_or_default();
    let mut own = offline::questions(&subject.lecture(), about, asked).into_iter();
    let instead = own.next()?;
    let chinese = offline::is_chinese_text(&instead);
    Some(tone::toned(instead, subject.tone, at, chinese))
}

/// Where the next piece that can be judged ends; `lead` is what stands before it in its line.
fn unit(held: &str, lead: &str, complete: bool) -> Option<usize> {
    let line = held.find('\n').map(|at| at + 1);
    let whole = line.or((complete && !held.is_empty()).then_some(held.len()));
    let piece = &held[..whole.unwrap_or(held.len())];
    // A list item is one question, however many sentences it has.
    if lead.is_empty() && begins_item(piece) {
        return whole;
    }
    sentence_end(piece).or(whole)
}

/// Whether a line is a list item, or may still become one.
fn begins_item(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty()
        || line.starts_with(['-', '*', '•'])
        || line.starts_with(|c: char| c.is_ascii_digit())
}

/// Where the first sentence ends, if more follows: outside quotes, at a mark and a space.
fn sentence_end(text: &str) -> Option<usize> {
    let mut is_quoted = false;
    let mut chars = text.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '“' | '「' => is_quoted = true,
            '”' | '」' => is_quoted = false,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        let next = chars.peek().map(|(_, next)| *next);
        let ends = match c {
            '。' | '！' | '？' => next.is_some(),
            '.' | '!' | '?' => next.is_some_and(char::is_whitespace),
            _ => false,
        };
        if ends && !is_quoted {
            return Some(at + c.len_utf8());
        }
    }
    None
}
