//! What the simulated model answers.
//!
//! Invariant: the answer follows from the request, the script, the seed and the
//! request's number alone, and repeats the last mark of the user's words, so that a
//! checker can tell whose answer it is. Deliberately absent: sense.

use serde_json::{Value, json};

use crate::{
    SimConfig,
    ask::{Ask, JsonForm, ToolChoice},
    example, marker,
    random::{self, Purpose},
    script::{Reply, RuleIndex, Script},
    tokens,
};

/// A whole answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) calls: Vec<Call>,
    pub(crate) finish: Finish,
    pub(crate) tokens: u64,
}

/// A tool call; `arguments` is JSON text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Finish {
    Stop,
    Length,
    ToolCalls,
    StopSequence(String),
}

/// Answers a request; says which rule of the script it was, if any.
pub(crate) fn compose(
    ask: &Ask,
    config: &SimConfig,
    script: &Script,
    request: u64,
) -> (Answer, Option<RuleIndex>) {
    match script.reply(ask) {
        Some((reply, rule)) => (scripted(ask, reply), Some(rule)),
        None => (invent(ask, config, request), None),
    }
}

fn scripted(ask: &Ask, reply: &Reply) -> Answer {
    match reply {
        Reply::Text(text) => written(ask, fill(text, ask)),
        Reply::ToolCalls(calls) => called(calls.iter().map(|(name, arguments)| Call {
            name: name.clone(),
            arguments: fill(&arguments.to_string(), ask),
        })),
    }
}

fn invent(ask: &Ask, config: &SimConfig, request: u64) -> Answer {
    if let Some(call) = tool_call(ask, config, request) {
        return called([call]);
    }
    let words = quote(&ask.user);
    let text = match &ask.json {
        Some(JsonForm::Schema(schema)) => example::of_schema(schema, words).to_string(),
        Some(JsonForm::Object) => default_object(words).to_string(),
        None if ask.system.contains("JSON") || ask.user.contains("JSON") => {
            default_object(words).to_string()
        }
        None => {
            let length = config.output.map_or(0, |spread| {
                spread.sample(config.seed, request, Purpose::Length)
            });
            speech(words, length)
        }
    };
    written(ask, text)
}

fn tool_call(ask: &Ask, config: &SimConfig, request: u64) -> Option<Call> {
    let offer = match &ask.tool_choice {
        ToolChoice::None => None,
        ToolChoice::Required => ask.tools.first(),
        ToolChoice::Named(name) => ask.tools.iter().find(|tool| tool.name == *name),
        // A conversation that ends in a result is answered, else the loop never ends.
        ToolChoice::Auto => ask.tools.first().filter(|_| {
            ask.tool_result.is_none()
                && random::unit(config.seed, request, Purpose::ToolUse) < config.tool_use
        }),
    }?;
    Some(Call {
        name: offer.name.clone(),
        arguments: example::of_schema(&offer.schema, quote(&ask.user)).to_string(),
    })
}

fn called(calls: impl IntoIterator<Item = Call>) -> Answer {
    let calls: Vec<Call> = calls.into_iter().collect();
    let tokens = calls
        .iter()
        .map(|call| tokens::count(&call.name) + tokens::count(&call.arguments))
        .sum();
    Answer {
        text: String::new(),
        calls,
        finish: Finish::ToolCalls,
        tokens,
    }
}

/// A text within the request's stop sequences and length.
fn written(ask: &Ask, mut text: String) -> Answer {
    let mut finish = Finish::Stop;
    let stops = ask.stop.iter().filter(|stop| !stop.is_empty());
    let found = stops.filter_map(|stop| Some((text.find(stop.as_str())?, stop)));
    if let Some((at, stop)) = found.min_by_key(|(at, _)| *at) {
        finish = Finish::StopSequence(stop.clone());
        text.truncate(at);
    }
    if let Some(limit) = ask.max_output {
        let (kept, cut) = tokens::truncate(&text, limit);
        if cut {
            finish = Finish::Length;
            text.truncate(kept.len());
        }
    }
    Answer {
        tokens: tokens::count(&text),
        text,
        calls: Vec::new(),
        finish,
    }
}

fn question(words: &str) -> String {
    format!("What do you mean by \"{words}\"?")
}

/// A question that quotes the user's words, on a line of its own, and as much more as
/// makes a length in tokens.
fn speech(words: &str, length: u64) -> String {
    /// Its 48 bytes are 12 tokens.
    const PADDING: &str = "This follows from what was said above, I think. ";
    let mut text = question(words);
    let missing = length.saturating_sub(tokens::count(&text));
    if missing > 0 {
        text.push('\n');
        let times = missing.div_ceil(PADDING.len() as u64 / 4) + 1;
        text.push_str(&PADDING.repeat(usize::try_from(times).unwrap_or(0)));
        let (kept, _) = tokens::truncate(&text, length);
        text.truncate(kept.len());
    }
    text.truncate(text.trim_end().len());
    text
}

/// What a prompt that asks for JSON without a schema gets: the shapes Lyceum's own agents
/// ask for, together in one object.
fn default_object(words: &str) -> Value {
    let question = question(words);
    json!({
        "answer": question,
        "gaps": [{
            "kind": "missing_mechanism",
            "quote": words,
            "reason": "how this happens is not said",
            "severity": "high",
        }],
        "questions": [question],
        "summary": words,
    })
}

fn fill(template: &str, ask: &Ask) -> String {
    const SLOT: &str = "{{marker}}";
    if !template.contains(SLOT) {
        return template.to_owned();
    }
    template.replace(SLOT, marker::find(&ask.user).last().unwrap_or("no-marker"))
}

/// An exact part of the user's words, within a sentence: from the last mark on, else from
/// the beginning.
fn quote(text: &str) -> &str {
    const MOST_BYTES: usize = 60;
    let start = marker::find(text)
        .last()
        .and_then(|mark| text.rfind(mark))
        .unwrap_or(0);
    let tail = text[start..].trim_start();
    let ends = ['\n', '"', '\\', '.', '!', '?', '。', '！', '？'];
    let end = tail.find(ends).unwrap_or(tail.len());
    tail[..tail.floor_char_boundary(end.min(MOST_BYTES))].trim_end()
}

#[cfg(test)]
#[path = "answer/tests.rs"]
mod tests;
