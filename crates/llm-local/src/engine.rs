//! One answer: prompt, prefill, tokens, text.
//!
//! Owned by the inference thread, no locks. Invariant: `held` are exactly the tokens whose
//! keys the model has cached, so a conversation that continues, or shares its system
//! prompt with the last one, is read only from the first new token on. Deliberately
//! absent: batching of conversations, which CPU inference gains little from.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use lyceum_core::{ChatError, ChatEvent, ChatRequest, FinishReason, Tokens, ToolChoice, Usage};

use crate::{
    gguf::first_line,
    llama::Llama,
    queue::Events,
    sampler::Sampler,
    template::{ChatTemplate, has_images},
    text::{Scan, StopTexts, TextJoiner},
    tokenizer::Vocabulary,
};

/// Prompt tokens read between two looks at whether anybody still waits for the answer.
const PREFILL_CHUNK: usize = 64;

/// What the model did since it was opened; see [`LocalModel::counters`](crate::LocalModel::counters).
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) read: AtomicU64,
    pub(crate) reused: AtomicU64,
    pub(crate) written: AtomicU64,
    pub(crate) finished: AtomicU64,
    pub(crate) abandoned: AtomicU64,
}

/// How answers begin and end when the request does not say.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) max_output: usize,
    pub(crate) temperature: f32,
    pub(crate) top_p: f32,
}

/// How an answer ended, errors aside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The stream has had its `Finished`.
    Finished,
    /// Nobody listens any more.
    Abandoned,
}

/// The model with everything an answer needs.
pub(crate) struct Engine {
    llama: Llama,
    vocabulary: Vocabulary,
    template: ChatTemplate,
    defaults: Defaults,
    held: Vec<u32>,
    tally: Arc<Tally>,
    /// What [`ChatEvent::Started`] carries.
    provider: Arc<str>,
    model: Arc<str>,
}

impl Engine {
    pub(crate) fn new(
        llama: Llama,
        vocabulary: Vocabulary,
        template: ChatTemplate,
        defaults: Defaults,
        tally: Arc<Tally>,
        (provider, model): (Arc<str>, Arc<str>),
    ) -> Self {
        Self {
            llama,
            vocabulary,
            template,
            defaults,
            held: Vec::new(),
            tally,
            provider,
            model,
        }
    }

    /// Drops the cached conversation, e.g. after a panic left it in doubt.
    pub(crate) fn forget(&mut self) {
        self.llama.truncate(0);
        self.held.clear();
    }

    /// Counts an answer that nobody waited for, in line or under way.
    pub(crate) fn count_abandoned(&self) {
        self.tally.abandoned.fetch_add(1, Ordering::Relaxed);
    }

    /// Answers one request into its stream.
    pub(crate) fn answer(
        &mut self,
        request: &ChatRequest,
        events: &Events,
    ) -> Result<Outcome, ChatError> {
        let prompt = self.prompt(request)?;
        send(
            events,
            ChatEvent::Started {
                provider: Arc::clone(&self.provider),
                model: Arc::clone(&self.model),
            },
        );
        let Some((shared, logits)) = self.read(&prompt, events)? else {
            return Ok(Outcome::Abandoned);
        };
        let asked = request.max_output.map(|most| usize::try_from(most.0));
        let limit = asked
            .map_or(self.defaults.max_output, |most| most.unwrap_or(usize::MAX))
            .min(self.llama.context() - prompt.len());
        let Some((written, finish)) = self.write(request, limit, logits, events)? else {
            return Ok(Outcome::Abandoned);
        };
        let usage = Usage {
            input: Tokens(prompt.len() as u64),
            output: Tokens(written as u64),
            cached_input: Tokens(shared as u64),
            cache_write: Tokens(0),
        };
        send(events, ChatEvent::Usage(usage));
        // Counted first, so that who has seen the answer finds it counted.
        self.tally.finished.fetch_add(1, Ordering::Relaxed);
        send(events, ChatEvent::Finished(finish));
        Ok(Outcome::Finished)
    }

    /// Reads the prompt from where it differs from the cache. Gives the number of tokens
    /// that were cached and the logits after the last, or nothing when nobody listens.
    fn read(
        &mut self,
        prompt: &[u32],
        events: &Events,
    ) -> Result<Option<(usize, Vec<f32>)>, ChatError> {
        // At least one token has to be read again, for its logits.
        let shared = shared_prefix(&self.held, prompt).min(prompt.len() - 1);
        self.llama.truncate(shared);
        self.held.truncate(shared);
        self.tally
            .reused
            .fetch_add(shared as u64, Ordering::Relaxed);
        let mut logits = Vec::new();
        for chunk in prompt[shared..].chunks(PREFILL_CHUNK) {
            if events.is_closed() {
                return Ok(None);
            }
            logits = self.feed(chunk)?;
            self.tally
                .read
                .fetch_add(chunk.len() as u64, Ordering::Relaxed);
        }
        Ok(Some((shared, logits)))
    }

    /// Writes at most `limit` tokens. Gives their number, the end of the turn not counted,
    /// and why they ended, or nothing when nobody listens.
    fn write(
        &mut self,
        request: &ChatRequest,
        limit: usize,
        mut logits: Vec<f32>,
        events: &Events,
    ) -> Result<Option<(usize, FinishReason)>, ChatError> {
        let mut sampler = Sampler::new(
            request.temperature.unwrap_or(self.defaults.temperature),
            request.top_p.unwrap_or(self.defaults.top_p),
            request.seed,
        );
        let mut joiner = TextJoiner::default();
        let mut stops = StopTexts::new(&request.stop);
        let mut written = 0;
        let finish = loop {
            if written == limit {
                break FinishReason::Length;
            }
            let token = sampler.next(&logits).ok_or_else(|| ChatError::Local {
                detail: "the model's output is not a number; its file may be damaged".into(),
            })?;
            if self.vocabulary.ends_turn(token) {
                break FinishReason::Stop;
            }
            written += 1;
            self.tally.written.fetch_add(1, Ordering::Relaxed);
            match stops.push(&joiner.push(self.vocabulary.bytes(token))) {
                Scan::Clear(text) => send_text(events, text),
                Scan::Stopped(text) => {
                    send_text(events, text);
                    return Ok(Some((written, FinishReason::Stop)));
                }
            }
            if events.is_closed() {
                return Ok(None);
            }
            if written < limit {
                logits = self.feed(&[token])?;
            }
        };
        match stops.push(&joiner.finish()) {
            Scan::Clear(text) => send_text(events, text + &stops.finish()),
            Scan::Stopped(text) => send_text(events, text),
        }
        Ok(Some((written, finish)))
    }

    fn feed(&mut self, tokens: &[u32]) -> Result<Vec<f32>, ChatError> {
        let logits = self
            .llama
            .forward(tokens)
            .map_err(|error| ChatError::Local {
                detail: first_line(&error),
            })?;
        self.held.extend_from_slice(tokens);
        Ok(logits)
    }

    /// The tokens of the conversation, fewer than the context holds.
    fn prompt(&self, request: &ChatRequest) -> Result<Vec<u32>, ChatError> {
        let context = self.llama.context();
        let too_long = |tokens: &str| {
            rejected(format!(
                "the conversation has {tokens} tokens and the local model's context holds \
                 {context}, the answer included; shorten it or open the model with a longer context"
            ))
        };
        if request.messages.is_empty() {
            return Err(rejected("there is no message to answer".into()));
        }
        if matches!(
            request.tool_choice,
            ToolChoice::Required | ToolChoice::Named(_)
        ) {
            return Err(rejected(
                "the local model cannot be made to call a tool".into(),
            ));
        }
        if request.messages.iter().any(has_images) {
            return Err(rejected("the local model reads text only".into()));
        }
        // Rejects a huge text before spending seconds on its tokens.
        let texts = request
            .messages
            .iter()
            .map(|message| message.content.text());
        let fewest: usize = texts.map(|text| self.vocabulary.fewest_tokens(&text)).sum();
        if fewest >= context {
            return Err(too_long(&format!("at least {fewest}")));
        }
        let text = self
            .template
            .render(&request.messages, |text| self.vocabulary.disarm(text))
            .map_err(|error| {
                rejected(format!(
                    "the model's chat template refuses this conversation: {error}"
                ))
            })?;
        let prompt = self
            .vocabulary
            .encode(&text)
            .map_err(|error| ChatError::Local {
                detail: format!("cannot tokenise the prompt: {error}"),
            })?;
        match prompt.len() {
            0 => Err(rejected("there is nothing to answer".into())),
            tokens if tokens >= context => Err(too_long(&tokens.to_string())),
            _ => Ok(prompt),
        }
    }
}

/// Sends an event; a reader that left is noticed by [`Events::is_closed`].
fn send(events: &Events, event: ChatEvent) {
    let _ = events.try_send(Ok(event));
}

fn send_text(events: &Events, text: String) {
    if !text.is_empty() {
        send(events, ChatEvent::Text(text));
    }
}

/// A refusal in the form that hosted providers use for bad requests.
fn rejected(message: String) -> ChatError {
    ChatError::Rejected {
        status: 400,
        message,
    }
}

fn shared_prefix(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
