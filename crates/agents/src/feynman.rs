//! Feynman: the student that you teach, as a workflow graph.
//!
//! `user_input_handler → gap_identifier → question_generator`. The turn is stored in one
//! transaction with the memory of what was taught in it, after the questions are complete.
//!
//! Invariant: turns of one conversation never overlap; a turn that is dropped or fails
//! leaves nothing behind. Deliberately absent: HTTP, SQL, and which model it is.

mod grade;
mod graph;
mod learnt;
mod library;
mod pupil;
mod sieve;
mod think;
mod turns;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::StreamExt;
use lyceum_core::{
    CallContext, Conversation, Explanation, Lesson, Memorized, Role, Scope, Student, TeachError,
    TeachEvent, TeachStream, Tone, Tool, ToolSource, Turn,
};
use lyceum_graph::{MemorySaver, Saver};
use lyceum_memory::{
    Memory, MemoryError, MemoryId, MemoryKind, MemoryRecord, NewMemory, NewMessage, NewTurn, TurnId,
};

use crate::{
    Mind, ReActLimits, consolidate,
    knowledge::keeper::{Keeper, Savers},
    metrics::Watched,
    summarise::{Talk, summarise},
};
use graph::{LessonState, Progress, Workflow};
use turns::Turns;

/// Matches among which an earlier summary of the same conversation is looked for.
const EARLIER: usize = 50;

pub use graph::WorkflowError;

/// How the student works.
#[derive(Debug, Clone)]
pub struct FeynmanConfig {
    /// Messages of the conversation that the student sees: half of them always, the others
    /// while the context has room. Default 10.
    pub recent: usize,
    /// Memories that the student sees, of this conversation's past and of others. Default 3.
    pub recalled: usize,
    /// Whether turns are remembered, and long conversations summarised in the background, for
    /// which a [`Consolidator`](crate::Consolidator) has to run. Default true.
    pub consolidate: bool,
    /// What looking for gaps may spend.
    pub react: ReActLimits,
    /// In which role the student asks where an explanation does not say. Default: a
    /// curious child.
    pub tone: Tone,
    /// Whether a model's questions are judged by the model as well as by the rules: a call
    /// more a turn, and nothing is heard before all questions are there. A small model
    /// judges nothing. Default false.
    pub graded: bool,
}

impl Default for FeynmanConfig {
    fn default() -> Self {
        Self {
            recent: 10,
            recalled: 3,
            consolidate: true,
            react: ReActLimits::default(),
            tone: Tone::default(),
            graded: false,
        }
    }
}

/// The student. Clones share everything.
#[derive(Debug, Clone)]
pub struct Feynman(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    mind: Mind,
    memory: Memory,
    config: FeynmanConfig,
    workflow: Workflow,
    turns: Turns,
    keeper: Keeper,
}

impl Feynman {
    /// A student with a mind, the tools it may call and a memory. What it knows of each
    /// conversation stays in this process; see [`Feynman::kept`].
    ///
    /// # Errors
    ///
    /// [`WorkflowError`] when the workflow does not compile, which only a change of its
    /// code can cause.
    pub fn new(
        mind: Mind,
        tools: Vec<Arc<dyn Tool>>,
        memory: Memory,
        config: FeynmanConfig,
    ) -> Result<Self, WorkflowError> {
        let saver = Arc::new(MemorySaver::default());
        Self::kept(mind, tools, memory, config, saver)
    }

    /// The same student, whose knowledge of each conversation the saver keeps.
    ///
    /// # Errors
    ///
    /// As [`Feynman::new`].
    pub fn kept(
        mind: Mind,
        tools: Vec<Arc<dyn Tool>>,
        memory: Memory,
        config: FeynmanConfig,
        saver: Arc<dyn Saver>,
    ) -> Result<Self, WorkflowError> {
        Self::with_source(mind, Arc::new(tools), memory, config, saver)
    }

    /// The same student, whose tools may come and go: each turn has those there are when it
    /// looks for gaps.
    ///
    /// # Errors
    ///
    /// As [`Feynman::new`].
    pub fn with_source(
        mind: Mind,
        tools: Arc<dyn ToolSource>,
        memory: Memory,
        config: FeynmanConfig,
        savers: impl Into<Savers>,
    ) -> Result<Self, WorkflowError> {
        let keeper = Keeper::new(savers.into())?;
        let workflow = Workflow::new(
            mind.clone(),
            tools,
            memory.clone(),
            config.clone(),
            keeper.clone(),
        )?;
        Ok(Self(Arc::new(Inner {
            mind,
            memory,
            config,
            workflow,
            turns: Turns::default(),
            keeper,
        })))
    }
}

impl Inner {
    /// The summaries of the scope's conversation that hold at present, as far as a look at the
    /// best matches finds them.
    async fn earlier_summaries(
        &self,
        scope: &Scope,
        topic: &str,
    ) -> Result<Vec<MemoryId>, MemoryError> {
        if scope.session.is_none() {
            return Ok(Vec::new());
        }
        let memories = self.memory.memories();
        let hits = memories.search(scope, topic, EARLIER).await?;
        let ids: Vec<MemoryId> = hits.into_iter().map(|hit| hit.id).collect();
        let all = memories.get_many(scope, &ids).await?;
        let is_earlier = |one: &MemoryRecord| {
            one.kind == MemoryKind::Summary && one.session == scope.session && one.topic == topic
        };
        let earlier = all.into_iter().filter(is_earlier);
        Ok(earlier.map(|one| one.id).collect())
    }

    /// Stores the turn. The words were said already, so a store that fails does not take
    /// them back: the result says that they were not kept.
    async fn keep(&self, call: &CallContext, state: &mut LessonState) {
        let turn_id = TurnId::random();
        let message = |turn: &Turn| NewMessage {
            role: turn.role,
            content: turn.content.clone(),
        };
        let mut messages: Vec<NewMessage> = state.unsaved.iter().map(message).collect();
        messages.push(NewMessage {
            role: Role::User,
            content: state.explanation.clone(),
        });
        messages.push(NewMessage {
            role: Role::Assistant,
            content: state.answer.clone(),
        });
        let total = state.stored + messages.len() as u64;
        let due = || consolidate::due(total, state.summarised);
        let jobs = match self.config.consolidate {
            true => due().into_iter().collect(),
            false => Vec::new(),
        };
        let turn = NewTurn {
            turn_id,
            topic: state.topic.clone(),
            messages,
            memories: Vec::new(),
            jobs,
        };
        let saved = match self.config.consolidate {
            true => self.memory.save_heard(&call.scope, turn, None).await,
            false => self.memory.save_turn(&call.scope, turn).await,
        };
        match saved {
            Ok(saved) => {
                let mut learnt = std::mem::take(&mut state.learnt);
                learnt.messages = saved.last_seq;
                if let Err(error) = self.keeper.save(&call.scope, learnt).await {
                    tracing::error!(error = %error, "what was taught could not be kept");
                    state.degraded.push("knowledge_not_saved".to_owned());
                }
            }
            Err(error) => {
                tracing::error!(error = %error, label = error.label(), "a turn could not be stored");
                state.degraded.push("conversation_not_saved".to_owned());
            }
        }
    }

    /// Keeps a turn and tells what came of it.
    async fn finish(
        &self,
        call: &CallContext,
        explanation: Explanation,
        state: Arc<LessonState>,
    ) -> Box<Lesson> {
        let mut state = Arc::unwrap_or_clone(state);
        self.keep(call, &mut state).await;
        Box::new(Self::lesson(explanation, state))
    }

    fn lesson(explanation: Explanation, state: LessonState) -> Lesson {
        let mut memory = state.short_term_memory;
        memory.push(Turn {
            role: Role::User,
            content: state.explanation,
        });
        memory.push(Turn {
            role: Role::Assistant,
            content: state.answer,
        });
        Lesson {
            session: explanation.session,
            questions: state.question_queue,
            gaps: state.unclear_points,
            short_term_memory: memory,
            provider: state.provider,
            model: state.model,
            degraded: state.degraded,
            tools: state.tools,
            usage: state.usage,
        }
    }
}

#[async_trait]
impl Student for Feynman {
    fn teach(&self, call: CallContext, explanation: Explanation) -> TeachStream {
        let inner = self.0.clone();
        let scope = call.scope.with_session(explanation.session.clone());
        let call = CallContext { scope, ..call };
        Box::pin(async_stream::try_stream! {
            let mut watched = Watched::begin("teach");
            let _turn = inner.turns.begin(&call.scope).await;
            let mut state = None;
            let mut events = inner.workflow.stream(call.clone(), &explanation);
            while let Some(event) = events.next().await {
                match event.inspect_err(|error| watched.failed(error))? {
                    Progress::Event(event) => yield event,
                    Progress::Done(done) => state = Some(done),
                }
            }
            // The workflow's stream ends with its state or with an error.
            if let Some(state) = state {
                // Boxed, because a turn waits longest for the model.
                let lesson = Box::pin(inner.finish(&call, explanation, state)).await;
                watched.answered(&lesson);
                yield TeachEvent::Finished(lesson);
            }
        })
    }

    async fn memorize(
        &self,
        call: CallContext,
        conversation: Conversation,
    ) -> Result<Memorized, TeachError> {
        let mut watched = Watched::begin("memorize");
        let inner = &self.0;
        let Conversation {
            topic,
            history,
            session,
        } = conversation;
        let call = match session {
            Some(session) => CallContext {
                scope: call.scope.with_session(session),
                ..call
            },
            None => call,
        };
        let scope = call.scope.clone();
        let talk = Talk::new(&topic, &history);
        let summary = summarise(&inner.mind, call, talk).await;
        let earlier = inner.earlier_summaries(&scope, &topic).await;
        let memory = NewMemory {
            supersedes: earlier.map_err(storage)?,
            ..NewMemory::new(MemoryKind::Summary, topic, summary.text.clone())
        };
        let id = inner.memory.remember(&scope, memory).await.map_err(storage);
        let id = id.inspect_err(|error| watched.failed(error))?;
        // What is memorised is over, until another turn opens it again: once it was idle for a
        // while the clean-up takes it. A conversation that stays longer for a failure harms nobody.
        if scope.session.is_some()
            && let Err(error) = inner.memory.sessions().complete(&scope).await
        {
            let label = error.label();
            tracing::warn!(label, error = %error, "a memorised conversation stays open");
        }
        watched.stored();
        Ok(Memorized {
            id: id.to_string(),
            summary: summary.text,
            provider: summary.provider,
        })
    }
}

fn storage(error: MemoryError) -> TeachError {
    TeachError::Storage {
        retryable: error.is_retryable(),
        source: error.into(),
    }
}
