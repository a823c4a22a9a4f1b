//! A model judges questions before the learner hears them.
//!
//! Invariant: what it rejects is replaced by the rules' question, so its verdict never
//! leaves the learner without one. A verdict that cannot be read rejects nothing.

use std::sync::Arc;

use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Gap, Message, Tokens, Usage,
};
use serde_json::{Value, json};

use super::{
    sieve::{Sifted, instead},
    think::Subject,
};
use crate::{
    check::Fault, metrics, prompts, react::observation::one_line, structured::extract_json, tone,
};

/// Characters of the explanation that are read.
const MAX_CHARS: usize = 12_000;
/// Output tokens, with room for models that reason first.
const OUTPUT: Tokens = Tokens(2_000);

/// Has the questions judged, and the text written anew without those rejected.
pub(super) async fn grade(
    model: &Arc<dyn ChatModel>,
    call: &CallContext,
    subject: &Subject<'_>,
    gaps: &[Gap],
    sifted: &mut Sifted,
) -> Result<Usage, ChatError> {
    if sifted.questions.is_empty() {
        return Ok(Usage::default());
    }
    let mut asked = subject.asked();
    let prompt = prompts::rendered(
        "question_grader",
        json!({"topic": one_line(subject.topic, 300), "explanation": one_line(subject.explanation, MAX_CHARS), "asked": asked, "questions": sifted.questions}),
    )?;
    let request = ChatRequest {
        max_output: Some(OUTPUT),
        ..ChatRequest::new([Message::user(prompt)])
    };
    let call = call.clone().with_purpose("question_grader", 0);
    let answer = ChatAnswer::collect(model.stream(call, Arc::new(request))).await?;
    let rejected = rejected(&answer.text);
    for (at, question) in sifted.questions.iter_mut().enumerate() {
        if let Some((_, fault)) = rejected.iter().find(|(number, _)| *number == at + 1) {
            metrics::rejected(*fault);
            if let Some(other) = instead(subject, gaps, &asked, at, question) {
                *question = other;
                sifted.own = sifted.own.saturating_sub(1);
            }
        }
        asked.push(tone::bare(question).to_owned());
    }
    let lines = sifted.questions.iter().enumerate();
    let lines = lines.map(|(at, question)| format!("{}. {question}\n", at + 1));
    sifted.text = match sifted.questions.as_slice() {
        [only] => only.clone(),
        _ => lines.collect(),
    };
    Ok(answer.usage.unwrap_or_default())
}

/// The numbers of the questions that a model rejects, and what for.
fn rejected(answer: &str) -> Vec<(usize, Fault)> {
    let value = extract_json(answer);
    let list = value.as_ref().and_then(|value| value.get("rejected"));
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|item| {
        let number = item.get("number")?.as_u64()?;
        let fault = match item.get("fault").and_then(Value::as_str) {
            Some("leak") => Fault::Leak,
            Some("repeat") => Fault::Repeat,
            _ => Fault::Generic,
        };
        Some((usize::try_from(number).ok()?, fault))
    })
    .collect()
}
