//! Who sits at the table: a role, what it thinks with and what it is told.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatRequest, Message, PanelEvent, PanelTurn, Priority,
    Tokens, Usage,
};
use lyceum_graph::Context;
use serde_json::Value;

use super::{graph::Shared, speech::Speaking};
use crate::{
    Mind, ReActEvent, Watch,
    mind::OFFLINE,
    prompts,
    react::{observation::one_line, watched},
};

/// The most output of one call, with room for models that reason first.
const OUTPUT: Tokens = Tokens(3_000);
/// Characters of one line that somebody said.
const MAX_LINE: usize = 2_000;

/// One agent of the panel.
#[derive(Debug, Clone)]
pub struct Seat {
    /// What it thinks with; the rules need no model.
    pub mind: Mind,
    /// The model's name at the provider, instead of the mind's own.
    pub model: Option<String>,
    /// Its instructions as a template, instead of the built-in ones. It sees the same
    /// values: `topic`, and by role `round`, `plan`, `open`, `claims`, `from` (how many claims
    /// the critic saw before), `all`, `objections`, `unreviewed`, `rulings`.
    pub prompt: Option<String>,
}

impl Seat {
    /// A seat with the built-in instructions.
    #[must_use]
    pub fn new(mind: Mind) -> Self {
        Self {
            mind,
            model: None,
            prompt: None,
        }
    }
}

/// The four roles, in the order in which they build on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Planner,
    Critic,
    Host,
    Reporter,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Planner, Self::Critic, Self::Host, Self::Reporter];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Planner => "planner",
            Self::Critic => "critic",
            Self::Host => "host",
            Self::Reporter => "reporter",
        }
    }

    fn prompt(self) -> &'static str {
        match self {
            Self::Planner => "panel_planner",
            Self::Critic => "panel_critic",
            Self::Host => "panel_host",
            Self::Reporter => "panel_reporter",
        }
    }

    /// The call of this role: everybody waits for the host, and for each role those after it.
    fn call(self, call: &CallContext) -> CallContext {
        let priority = match self {
            Self::Host => Priority::High,
            _ => call.priority,
        };
        let waiting = Self::ALL.len() - 1 - self as usize;
        let waiting = u32::try_from(waiting).unwrap_or_default();
        call.clone()
            .with_priority(priority)
            .with_purpose(self.prompt(), waiting)
    }
}

/// What a role said, and at what cost.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    pub(super) text: String,
    pub(super) provider: String,
    pub(super) model: Option<String>,
    pub(super) usage: Usage,
    pub(super) degraded: bool,
}

/// Has a role speak, streaming its words; by the rules where it has no model, or where its
/// model fails before its first word. A planner that fails is an error: there is nothing to
/// discuss then.
pub(super) async fn speak(
    role: Role,
    round: u32,
    ctx: &Context<Shared, PanelEvent>,
    speaking: &Speaking<'_>,
    values: Value,
    user: &str,
    rules: impl FnOnce() -> String,
) -> Result<Spoken, ChatError> {
    let shared = ctx.shared();
    let voice = Voice {
        ctx,
        speaking,
        agent: role.name().into(),
        round,
    };
    let spoken = match ask(role, shared, Some(&voice), values, user).await {
        Some(Ok(spoken)) => spoken,
        Some(Err(error)) if role == Role::Planner => return Err(error),
        answered => {
            let degraded = answered.is_some();
            if let Some(Err(error)) = answered {
                tracing::warn!(error = %error, label = error.label(), role = role.name(), "the rules speak for a panel's agent");
            }
            let gap = if speaking.text().is_empty() { "" } else { "\n" };
            voice.text(format!("{gap}{}", rules())).await;
            Spoken {
                text: speaking.text(),
                provider: OFFLINE.to_owned(),
                degraded,
                ..Spoken::default()
            }
        }
    };
    ctx.emit(PanelEvent::Spoke(voice.turn(spoken.text.clone())))
        .await;
    Ok(spoken)
}

/// What a role's model answers, unheard; `None` as for [`ask`].
pub(super) async fn listen(
    role: Role,
    shared: &Shared,
    values: Value,
    user: &str,
) -> Option<Result<Spoken, ChatError>> {
    ask(role, shared, None, values, user).await
}

/// The model's answer; `None` where there is no model, or one too small to keep a form.
async fn ask(
    role: Role,
    shared: &Shared,
    voice: Option<&Voice<'_>>,
    values: Value,
    user: &str,
) -> Option<Result<Spoken, ChatError>> {
    let seat = shared.seats.of(role);
    let Mind::Model(model) = &seat.mind else {
        return None;
    };
    if model.traits().small {
        return None;
    }
    let mut values = values;
    // What a person or another agent said is one line each, whatever is in it.
    contain(&mut values);
    let prompt = match &seat.prompt {
        Some(own) => prompts::render_own(role.prompt(), own, values),
        None => prompts::render(role.prompt(), values),
    };
    let prompt = match prompt {
        Ok(prompt) => prompt,
        Err(error) => {
            let detail = error.to_string();
            return Some(Err(ChatError::Protocol { detail }));
        }
    };
    let request = ChatRequest {
        model: seat.model.clone(),
        max_output: Some(OUTPUT),
        ..ChatRequest::new([Message::system(prompt), Message::user(user)])
    };
    let stream = model.stream(role.call(&shared.call), Arc::new(request));
    let answer = match voice {
        Some(voice) => ChatAnswer::collect(watched(stream, voice)).await,
        None => ChatAnswer::collect(stream).await,
    };
    Some(answer.map(|answer| Spoken {
        text: answer.text,
        provider: match answer.provider {
            Some(provider) => provider.as_ref().to_owned(),
            None => model.name().to_owned(),
        },
        model: answer.model.map(|model| model.as_ref().to_owned()),
        usage: answer.usage.unwrap_or_default(),
        degraded: false,
    }))
}

/// Makes every text of a prompt's values one line; the plan alone keeps its lines.
fn contain(values: &mut Value) {
    match values {
        Value::String(text) => *text = one_line(text, MAX_LINE),
        Value::Array(items) => items.iter_mut().for_each(contain),
        Value::Object(fields) => {
            for (_, value) in fields.iter_mut().filter(|(name, _)| *name != "plan") {
                contain(value);
            }
        }
        _ => {}
    }
}

/// Takes an agent's words to the other agents and to the client.
struct Voice<'a> {
    ctx: &'a Context<Shared, PanelEvent>,
    speaking: &'a Speaking<'a>,
    agent: Arc<str>,
    round: u32,
}

impl Voice<'_> {
    fn turn(&self, text: String) -> PanelTurn {
        PanelTurn {
            agent: Arc::clone(&self.agent),
            round: self.round,
            text,
        }
    }

    async fn text(&self, text: String) {
        if !text.is_empty() {
            self.speaking.say(&text);
            self.ctx.emit(PanelEvent::Text(self.turn(text))).await;
        }
    }
}

#[async_trait]
impl Watch for Voice<'_> {
    async fn saw(&self, event: ReActEvent) {
        match event {
            ReActEvent::Text(text) => self.text(text).await,
            ReActEvent::Queued(position) => {
                let agent = Arc::clone(&self.agent);
                self.ctx.emit(PanelEvent::Queued { agent, position }).await;
            }
            ReActEvent::Tool(_) => {}
        }
    }
}
