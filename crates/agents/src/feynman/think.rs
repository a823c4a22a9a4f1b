//! What the two thinking nodes do: find the gaps, ask about them.
//!
//! Invariant: a model that answers in any form gives questions. Where its answer cannot
//! be used the offline student steps in, and the result says so in `degraded`. A model call that
//! fails is an error: the learner is told, and nothing is made up.

use std::{
    collections::HashSet,
    panic,
    sync::{Arc, LazyLock},
    thread,
};

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Gap, GapStatus, Knowledge,
    KnownGap, Message, Role, Tokens, Tone, Tool, ToolTrace, Turn, Usage,
};
use serde_json::{Value, json};
use tokio::{
    sync::Semaphore,
    task::{self, JoinError},
};

use super::{grade::grade, sieve::Sieve};
use crate::{
    Mind, ReAct, ReActEvent, ReActLimits, Watch,
    gaps::parse_gaps,
    knowledge::Ruling,
    mind::OFFLINE,
    offline::{self, Lecture, MAX_QUESTIONS},
    prompts,
    questions::said_questions,
    react::{observation::one_line, watched},
    structured::extract_json,
    tone,
};

/// Earlier questions that a model is asked to tick off.
const MAX_WAITING: usize = 10;
/// Characters of one earlier message that are shown to a model.
const HISTORY_CHARS: usize = 4_000;
/// Characters of somebody's words in a prompt: a topic, a quote, a memory.
const TOPIC_CHARS: usize = 300;
const QUOTE_CHARS: usize = 600;
const MEMORY_CHARS: usize = 4_000;
/// Output tokens for the questions, with room for models that reason first.
const QUESTION_TOKENS: Tokens = Tokens(3_000);
/// The same for a small model, which rambles.
const SMALL_QUESTION_TOKENS: Tokens = Tokens(120);
/// Characters of the explanation that a small model reads.
const SMALL_EXPLANATION_CHARS: usize = 800;
/// Little randomness: a small model has no good second choice.
const SMALL_TEMPERATURE: f32 = 0.2;

/// What there is to think about.
#[derive(Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) topic: &'a str,
    pub(crate) explanation: &'a str,
    /// The conversation before the explanation.
    pub(crate) history: &'a [Turn],
    /// What was taught in other conversations.
    pub(crate) recalled: &'a [String],
    /// What was taught in this one.
    pub(crate) learnt: &'a Knowledge,
    /// In which role the student asks.
    pub(crate) tone: Tone,
}

impl Subject<'_> {
    pub(super) fn lecture(&self) -> Lecture<'_> {
        Lecture {
            topic: self.topic,
            text: self.explanation,
            earlier: self.history,
            recalled: self.recalled,
        }
    }

    /// The student's earlier questions: those that it remembers and those in sight.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut asked = self.learnt.asked.clone();
        let about = self.learnt.gaps.iter();
        asked.extend(about.filter_map(|gap| gap.question.clone()));
        let mine = self
            .history
            .iter()
            .filter(|turn| turn.role == Role::Assistant);
        asked.extend(mine.flat_map(|turn| said_questions(&turn.content)));
        let mut seen = HashSet::new();
        asked
            .iter()
            .map(|question| tone::bare(question).to_owned())
            .filter(|question| seen.insert(question.clone()))
            .collect()
    }

    /// What the learner said before, here and elsewhere.
    pub(super) fn taught(&self) -> Vec<String> {
        let here = self.learnt.claims.iter().map(|claim| claim.text.clone());
        let said = self.history.iter().filter(|turn| turn.role == Role::User);
        here.chain(said.map(|turn| turn.content.clone()))
            .chain(self.recalled.iter().cloned())
            .collect()
    }

    /// The gaps whose questions wait for an answer, the newest first.
    fn waiting(&self) -> impl Iterator<Item = (&KnownGap, &str)> {
        let asked = self.learnt.gaps.iter().rev();
        asked
            .filter(|gap| gap.status == GapStatus::Asked)
            .filter_map(|gap| Some((gap, gap.question.as_deref()?)))
            .take(MAX_WAITING)
    }

    fn messages(&self, prompt: String) -> Vec<Message> {
        let mut messages = vec![Message::system(prompt)];
        for turn in self.history {
            let content: String = turn.content.chars().take(HISTORY_CHARS).collect();
            messages.push(Message::new(turn.role, content));
        }
        messages.push(Message::user(format!(
            "{}: {}",
            self.topic, self.explanation
        )));
        messages
    }
}

/// The gaps found, and at what cost.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) gaps: Vec<Gap>,
    /// What a model says of earlier gaps.
    pub(crate) ruling: Option<Ruling>,
    pub(crate) tools: Vec<ToolTrace>,
    pub(crate) usage: Usage,
    pub(crate) degraded: bool,
}

/// The questions asked, and at what cost.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) text: String,
    pub(crate) questions: Vec<String>,
    pub(crate) provider: String,
    pub(crate) model: Option<String>,
    pub(crate) usage: Usage,
    pub(crate) degraded: bool,
}

/// Finds the gaps: by rules and learnt weights offline and for a small model, which follows no
/// form; else by the ReAct loop, one repair of its answer, then as offline.
pub(crate) async fn find_gaps(
    mind: &Mind,
    tools: &[Arc<dyn Tool>],
    limits: ReActLimits,
    call: &CallContext,
    subject: &Subject<'_>,
    watch: &dyn Watch,
) -> Result<Found, ChatError> {
    let model = match mind {
        Mind::Model(model) if !model.traits().small => model,
        Mind::Model(_) | Mind::Offline => {
            return Ok(Found {
                gaps: offline_gaps(subject).await,
                ..Found::default()
            });
        }
    };
    let recalled = subject.recalled.iter();
    let recalled: Vec<String> = recalled.map(|text| one_line(text, MEMORY_CHARS)).collect();
    let prompt = render(
        "gap_identifier",
        json!({"topic": one_line(subject.topic, TOPIC_CHARS), "asked": waiting(subject), "knowledge": recalled, "tools": !tools.is_empty()}),
    )?;
    let mut messages = subject.messages(prompt);
    let react = ReAct::new(model.clone(), tools.to_vec(), limits);
    // The answer's text is JSON for us, not words for the learner.
    let watch = &Silent(watch);
    let outcome = react
        .run(
            &call.clone().with_purpose("gaps", 1),
            messages.clone(),
            watch,
        )
        .await?;
    let mut found = Found {
        tools: outcome.tools,
        usage: outcome.usage,
        ..Found::default()
    };
    found.ruling = ruling(&outcome.answer.text, subject);
    if let Ok(gaps) = parse_gaps(&outcome.answer.text, subject.explanation) {
        found.gaps = gaps;
        return Ok(found);
    }
    // Providers refuse an empty message.
    if !outcome.answer.text.trim().is_empty() {
        messages.push(Message::assistant(outcome.answer.text));
    }
    messages.push(Message::user(render("gap_repair", json!({}))?));
    let repair = ReAct::new(
        model.clone(),
        Vec::new(),
        ReActLimits {
            max_steps: 1,
            ..limits
        },
    );
    let repair_call = call.clone().with_purpose("gap_repair", 1);
    let outcome = repair.run(&repair_call, messages, watch).await?;
    found.usage += outcome.usage;
    found.gaps = match parse_gaps(&outcome.answer.text, subject.explanation) {
        Ok(gaps) => gaps,
        Err(error) => {
            tracing::warn!(error = %error, model = model.name(), "the model's gaps cannot be read; they are found offline");
            found.degraded = true;
            offline_gaps(subject).await
        }
    };
    Ok(found)
}

/// How many texts are read at once: a reading keeps a core busy and takes megabytes.
static READINGS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Arc::new(Semaphore::new(cores))
});

/// Finds the gaps offline, on a thread that may be held up: the encoder computes for tens of
/// milliseconds.
async fn offline_gaps(subject: &Subject<'_>) -> Vec<Gap> {
    let reading = READINGS.clone().acquire_owned().await;
    let topic = subject.topic.to_owned();
    let text = subject.explanation.to_owned();
    let earlier = subject.history.to_vec();
    let recalled = subject.recalled.to_vec();
    let found = task::spawn_blocking(move || {
        // Held to the end, whoever still waits.
        let _reading = reading;
        offline::analyse(&Lecture {
            topic: &topic,
            text: &text,
            earlier: &earlier,
            recalled: &recalled,
        })
    });
    match found.await.map_err(JoinError::try_into_panic) {
        Ok(gaps) => gaps,
        Err(Ok(panic)) => panic::resume_unwind(panic),
        // The runtime is ending, and nobody waits.
        Err(Err(_)) => Vec::new(),
    }
}

/// The waiting questions as the prompt lists them.
fn waiting(subject: &Subject<'_>) -> Vec<Value> {
    let asked = subject.waiting();
    asked
        .map(|(gap, question)| json!({"id": gap.id, "text": one_line(question, QUOTE_CHARS)}))
        .collect()
}

/// What a model says of the waiting questions: numbers, or texts with numbers. `None` where
/// it does not say.
fn ruling(answer: &str, subject: &Subject<'_>) -> Option<Ruling> {
    let value = extract_json(answer)?;
    let list = value.get("answered")?.as_array()?;
    let named = list.iter().filter_map(|item| match item {
        Value::String(text) => text.parse().ok(),
        item => item.as_u64().and_then(|id| u32::try_from(id).ok()),
    });
    Some(Ruling {
        answered: named.collect(),
        shown: subject.waiting().map(|(gap, _)| gap.id).collect(),
    })
}

/// Passes on everything but the text.
struct Silent<'a>(&'a dyn Watch);

#[async_trait]
impl Watch for Silent<'_> {
    async fn saw(&self, event: ReActEvent) {
        if !matches!(event, ReActEvent::Text(_)) {
            self.0.saw(event).await;
        }
    }
}

/// Asks about the gaps; the words are judged as they come and heard once they were.
pub(crate) async fn ask(
    mind: &Mind,
    call: &CallContext,
    subject: &Subject<'_>,
    gaps: &[Gap],
    graded: bool,
    watch: &dyn Watch,
) -> Result<Asked, ChatError> {
    let Mind::Model(model) = mind else {
        return Ok(by_rules(subject, gaps, watch).await);
    };
    let request = question_request(model, subject, gaps)?;
    let mut asked = Asked {
        provider: model.name().to_owned(),
        ..Asked::default()
    };
    let graded = graded && !model.traits().small;
    let silent = Silent(watch);
    let hearing: &dyn Watch = if graded { &silent } else { watch };
    let sieve = Sieve::new(subject, gaps, hearing);
    let questions = call.clone().with_purpose("questions", 0);
    let stream = model.stream(questions, Arc::new(request));
    let answer = ChatAnswer::collect(watched(stream, &sieve)).await?;
    let mut sifted = sieve.finish().await;
    asked.usage = answer.usage.unwrap_or_default();
    if graded {
        asked.usage += grade(model, call, subject, gaps, &mut sifted).await?;
        watch.saw(ReActEvent::Text(sifted.text.clone())).await;
    }
    if let Some(provider) = answer.provider {
        asked.provider = provider.as_ref().to_owned();
    }
    asked.model = answer.model.map(|model| model.as_ref().to_owned());
    asked.degraded = sifted.own == 0;
    asked.questions = sifted.questions;
    asked.text = sifted.text;
    if asked.questions.is_empty() {
        let separator = if asked.text.is_empty() { "" } else { "\n\n" };
        if !separator.is_empty() {
            watch.saw(ReActEvent::Text(separator.to_owned())).await;
        }
        let rules = by_rules(subject, gaps, watch).await;
        asked.text = format!("{}{separator}{}", asked.text, rules.text);
        asked.questions = rules.questions;
    }
    Ok(asked)
}

fn question_request(
    model: &Arc<dyn ChatModel>,
    subject: &Subject<'_>,
    gaps: &[Gap],
) -> Result<ChatRequest, ChatError> {
    if model.traits().small {
        return small_question_request(subject, gaps);
    }
    let gaps: Vec<_> = gaps.iter().take(MAX_QUESTIONS).collect();
    let count = match gaps.len() {
        0 | 1 => "one question".to_owned(),
        more => format!("{more} questions"),
    };
    let voice = tone::voice(subject.tone);
    let gaps: Vec<Value> = gaps
        .iter()
        .map(|gap| {
            let (quote, reason) = (
                one_line(&gap.quote, QUOTE_CHARS),
                one_line(&gap.reason, QUOTE_CHARS),
            );
            json!({"kind": gap.kind, "quote": quote, "reason": reason})
        })
        .collect();
    let topic = one_line(subject.topic, TOPIC_CHARS);
    let values = json!({"topic": topic, "voice": voice, "count": count, "gaps": gaps});
    let prompt = render("question_generator", values)?;
    // Hosted reasoning models refuse any temperature but their own, so none is set.
    Ok(ChatRequest {
        max_output: Some(QUESTION_TOKENS),
        ..ChatRequest::new(subject.messages(prompt))
    })
}

/// A small model follows one short instruction about one thing, and loses a longer one.
fn small_question_request(subject: &Subject<'_>, gaps: &[Gap]) -> Result<ChatRequest, ChatError> {
    let explanation: String = subject
        .explanation
        .chars()
        .take(SMALL_EXPLANATION_CHARS)
        .collect();
    let quote = gaps.first().map(|gap| &gap.quote);
    let voice = tone::voice(subject.tone);
    let values =
        json!({"topic": subject.topic, "voice": voice, "explanation": explanation, "quote": quote});
    let prompt = render("question_generator_small", values)?;
    Ok(ChatRequest {
        max_output: Some(SMALL_QUESTION_TOKENS),
        temperature: Some(SMALL_TEMPERATURE),
        ..ChatRequest::new([Message::user(prompt)])
    })
}

async fn by_rules(subject: &Subject<'_>, gaps: &[Gap], watch: &dyn Watch) -> Asked {
    let questions = offline::questions(&subject.lecture(), gaps, &subject.asked());
    let questions: Vec<String> = questions
        .into_iter()
        .enumerate()
        .map(|(at, question)| {
            let chinese = offline::is_chinese_text(&question);
            tone::toned(question, subject.tone, at, chinese)
        })
        .collect();
    let mut text = String::new();
    for (at, question) in questions.iter().enumerate() {
        let line = if questions.len() == 1 {
            question.clone()
        } else {
            format!("{}. {question}\n", at + 1)
        };
        watch.saw(ReActEvent::Text(line.clone())).await;
        text.push_str(&line);
    }
    Asked {
        text,
        questions,
        provider: OFFLINE.to_owned(),
        ..Asked::default()
    }
}

fn render(name: &'static str, values: Value) -> Result<String, ChatError> {
    prompts::rendered(name, values)
}
