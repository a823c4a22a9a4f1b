//! What the two thinking nodes do: find the gaps, ask about them.
//!
//! Invariant: a model that answers in any form gives questions. Where its answer cannot
//! be used the rules step in, and the result says so in `degraded`. A model call that
//! fails is an error: the learner is told, and nothing is made up.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Gap, KnownGap, Message, Role,
    Tokens, Tone, Tool, ToolTrace, Turn, Usage,
};
use serde_json::{Value, json};

use crate::{
    Mind, ReAct, ReActEvent, ReActLimits, Watch,
    gaps::parse_gaps,
    mind::OFFLINE,
    offline::{self, Lecture},
    prompts,
    questions::parse_questions,
    react::watched,
    structured::extract_json,
    tone,
};

/// Questions asked about one explanation by a model.
const MAX_QUESTIONS: usize = 3;
/// Earlier questions that a model is asked to tick off.
const MAX_WAITING: usize = 10;
/// Characters of one earlier message that are shown to a model.
const HISTORY_CHARS: usize = 4_000;
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
    pub(crate) knowledge: &'a [String],
    /// The questions of this conversation that wait for an answer.
    pub(crate) waiting: Vec<&'a KnownGap>,
    /// In which role the student asks.
    pub(crate) tone: Tone,
}

impl Subject<'_> {
    fn lecture(&self) -> Lecture<'_> {
        Lecture {
            topic: self.topic,
            text: self.explanation,
            earlier: self.history,
        }
    }

    /// The student's earlier questions.
    fn asked(&self) -> Vec<String> {
        let mine = self
            .history
            .iter()
            .filter(|turn| turn.role == Role::Assistant);
        mine.flat_map(|turn| parse_questions(&turn.content))
            .map(|question| tone::bare(&question).to_owned())
            .collect()
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
    /// Ids of earlier gaps that a model says the explanation fills.
    pub(crate) answered: Vec<u32>,
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

/// Finds the gaps: by rules offline and for a small model, which follows no form; else by
/// the ReAct loop, one repair of its answer, then the rules.
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
                gaps: offline::analyse(&subject.lecture()),
                ..Found::default()
            });
        }
    };
    let prompt = render(
        "gap_identifier",
        json!({"topic": subject.topic, "asked": waiting(subject), "knowledge": subject.knowledge, "tools": !tools.is_empty()}),
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
    found.answered = answered(&outcome.answer.text);
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
    found.gaps = parse_gaps(&outcome.answer.text, subject.explanation).unwrap_or_else(|error| {
        tracing::warn!(error = %error, model = model.name(), "the model's gaps cannot be read; the rules find them");
        found.degraded = true;
        offline::analyse(&subject.lecture())
    });
    Ok(found)
}

/// The waiting questions as the prompt lists them.
fn waiting(subject: &Subject<'_>) -> Vec<Value> {
    let asked = subject.waiting.iter().filter_map(|gap| {
        let question = gap.question.as_ref()?;
        Some(json!({"id": gap.id, "text": question}))
    });
    asked.take(MAX_WAITING).collect()
}

/// The numbers of the questions that a model calls answered, as numbers or as texts.
fn answered(answer: &str) -> Vec<u32> {
    let value = extract_json(answer);
    let list = value.as_ref().and_then(|value| value.get("answered"));
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| match item {
        Value::String(text) => text.parse().ok(),
        item => item.as_u64().and_then(|id| u32::try_from(id).ok()),
    })
    .collect()
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

/// Asks about the gaps, streaming the words as they come.
pub(crate) async fn ask(
    mind: &Mind,
    call: &CallContext,
    subject: &Subject<'_>,
    gaps: &[Gap],
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
    let call = call.clone().with_purpose("questions", 0);
    let stream = model.stream(call, Arc::new(request));
    let answer = ChatAnswer::collect(watched(stream, watch)).await?;
    asked.usage = answer.usage.unwrap_or_default();
    if let Some(provider) = answer.provider {
        asked.provider = provider.as_ref().to_owned();
    }
    asked.model = answer.model.map(|model| model.as_ref().to_owned());
    asked.questions = parse_questions(&answer.text);
    asked.text = answer.text;
    if asked.questions.is_empty() {
        asked.degraded = true;
        let separator = if asked.text.is_empty() { "" } else { "\n\n" };
        watch.saw(ReActEvent::Text(separator.to_owned())).await;
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
    let values = json!({"topic": subject.topic, "voice": voice, "count": count, "gaps": gaps});
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
