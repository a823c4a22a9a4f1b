//! Other arrangements of agents than the panel, in a few lines each: a [`debate`], a
//! [`supervisor`] with workers, a [`map_reduce`]. Each is a graph, to be run, streamed or kept on
//! a thread as any other: on a thread, what a member said before a crash is not asked again.
//!
//! Invariant: every arrangement ends, because rounds and steps are bounded, and what one member
//! says reaches another as one line of data. Deliberately absent: tools and memory, which a
//! member brings as its `ChatModel`; and answers in the place of a member that fails, whose error
//! ends the run.

mod debate;
mod map_reduce;
mod supervisor;

use std::{fmt::Write as _, sync::Arc};

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatModel, ChatRequest, Message, QueuePosition, Usage,
};
use lyceum_graph::{Context, Graph, NodeError, RunConfig, RunError, State};
use serde::{Deserialize, Serialize};

use crate::{
    ReActEvent, Watch,
    react::{observation::one_line, watched},
};

pub use debate::debate;
pub use map_reduce::map_reduce;
pub use supervisor::supervisor;

/// Characters of what one member says that another reads.
const MAX_CHARS: usize = 8_000;

/// An agent of a team.
#[derive(Debug, Clone)]
pub struct Member {
    /// What the others call it.
    pub name: String,
    /// What it thinks with.
    pub model: Arc<dyn ChatModel>,
    /// Who it is and what it does, as its system message.
    pub instructions: String,
}

/// What one member said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TeamTurn {
    /// Its name.
    pub member: String,
    /// Its words.
    pub text: String,
}

/// What a team tells while it works. Members speak at once, so each event names its own.
#[derive(Debug, Clone, PartialEq)]
pub enum TeamEvent {
    /// A piece of what a member says.
    Text(TeamTurn),
    /// All that a member said.
    Spoke(TeamTurn),
    /// A member waits for its model.
    Queued {
        /// Its name.
        member: String,
        /// How many are before it, and for how long.
        position: QueuePosition,
    },
}

/// What a team knows: `question` and `items` are its input, `answer` its result.
#[derive(State, Debug, Clone, Default)]
pub struct TeamState {
    /// What is asked.
    pub question: String,
    /// The parts of a [`map_reduce`]; the question's lines where there are none.
    pub items: Vec<String>,
    /// Everything that was said, in the order of the members of a round, not of their speed.
    #[state(append)]
    pub said: Vec<TeamTurn>,
    /// Rounds, or steps of a lead, that began.
    #[state(add)]
    pub rounds: u64,
    /// The result.
    pub answer: String,
    /// All model calls together.
    #[state(add)]
    pub usage: Usage,
}

impl TeamState {
    /// A team that is asked this.
    #[must_use]
    pub fn ask(question: impl Into<String>) -> Self {
        Self {
            question: question.into(),
            ..Self::default()
        }
    }

    /// The question and what was said of it, one line a turn.
    fn transcript(&self) -> String {
        let mut text = self.question.clone();
        for turn in &self.said {
            let said = one_line(&turn.text, MAX_CHARS);
            // Writing to a string cannot fail.
            let _ = write!(text, "\n\n{}: {said}", turn.member);
        }
        text
    }
}

/// A team at work, see [`debate`], [`supervisor`] and [`map_reduce`].
pub type Team = Graph<TeamState, CallContext, TeamEvent>;

type Ctx = Context<CallContext, TeamEvent>;
type Known = Arc<TeamState>;

/// Has a team answer a question; to hear the members meanwhile, stream the graph instead.
///
/// # Errors
///
/// [`RunError::Node`] with the [`ChatError`] of the member that failed.
///
/// # Cancel safety
///
/// Dropping it ends all calls of models.
pub async fn answer(
    team: &Team,
    call: CallContext,
    question: impl Into<String>,
) -> Result<TeamState, RunError> {
    let output = team
        .run(TeamState::ask(question), RunConfig::new(call))
        .await?;
    Ok(Arc::unwrap_or_clone(output.state))
}

impl Member {
    /// An agent.
    #[must_use]
    pub fn new(
        name: impl Into<String>,
        model: Arc<dyn ChatModel>,
        instructions: impl Into<String>,
    ) -> Self {
        Self {
            name: name.into(),
            model,
            instructions: instructions.into(),
        }
    }

    /// Has it speak with these instructions.
    async fn say(
        &self,
        ctx: &Ctx,
        instructions: String,
        words: String,
    ) -> Result<(TeamTurn, Usage), NodeError> {
        let request = ChatRequest::new([Message::system(instructions), Message::user(words)]);
        let stream = self
            .model
            .stream((**ctx.shared()).clone(), Arc::new(request));
        let voice = Voice { ctx, member: self };
        let answer: Result<_, ChatError> = ChatAnswer::collect(watched(stream, &voice)).await;
        let answer = answer.map_err(NodeError::permanent)?;
        let turn = self.turn(answer.text);
        ctx.emit(TeamEvent::Spoke(turn.clone())).await;
        Ok((turn, answer.usage.unwrap_or_default()))
    }

    /// Has it make the answer of all that was said.
    async fn conclude(&self, team: &TeamState, ctx: &Ctx) -> Result<TeamStateUpdate, NodeError> {
        let said = self.say(ctx, self.instructions.clone(), team.transcript());
        let (turn, usage) = said.await?;
        let update = TeamStateUpdate::new().answer(turn.text.clone());
        Ok(update.said([turn]).usage(usage))
    }

    fn turn(&self, text: String) -> TeamTurn {
        TeamTurn {
            member: self.name.clone(),
            text,
        }
    }
}

/// Takes a member's words to whoever streams the graph.
struct Voice<'a> {
    ctx: &'a Ctx,
    member: &'a Member,
}

#[async_trait]
impl Watch for Voice<'_> {
    async fn saw(&self, event: ReActEvent) {
        let event = match event {
            ReActEvent::Text(text) => TeamEvent::Text(self.member.turn(text)),
            ReActEvent::Queued(position) => TeamEvent::Queued {
                member: self.member.name.clone(),
                position,
            },
            ReActEvent::Tool(_) => return,
        };
        self.ctx.emit(event).await;
    }
}
