//! The workflow `user_input_handler → gap_identifier → question_generator → END` on the
//! graph runtime: state, nodes, and how their errors come back.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::{Stream, StreamExt, future::ready};
use lyceum_core::{
    CallContext, ChatError, Explanation, Gap, Knowledge, TeachError, TeachEvent, Tone, ToolSource,
    ToolTrace, Turn, Usage,
};
use lyceum_graph::{
    CompileError, Context, END, Event, EventKind, Graph, GraphBuilder, Mode, NodeError, RunConfig,
    RunError, START, State,
};
use lyceum_memory::{Budget, Memory, MemoryError};

use super::learnt;
use super::{
    FeynmanConfig,
    think::{self, Subject},
};
use crate::{
    Mind, ReActEvent, Watch,
    knowledge::{self, keeper::Keeper},
    metrics,
};

const LISTEN: &str = "user_input_handler";
const FIND: &str = "gap_identifier";
const ASK: &str = "question_generator";

/// A message shorter than this tells nothing by itself.
const TELLING_CHARS: usize = 12;
/// Characters of a memory that the student sees.
const SHOWN_CHARS: usize = 4_000;
/// Memories that are looked at beyond those wanted.
const LOOKED_AT: usize = 20;

/// The workflow does not compile, which only a change of its code can cause.
#[derive(Debug, thiserror::Error)]
#[error("compile the student's workflow")]
pub struct WorkflowError(#[from] CompileError);

/// What a lesson knows; each node fills in its part.
#[derive(State, Debug, Clone, Default)]
pub(super) struct LessonState {
    pub(super) topic: String,
    pub(super) explanation: String,
    /// The conversation before the explanation, as the client will get it back.
    pub(super) short_term_memory: Vec<Turn>,
    /// How many messages of the conversation the store has.
    pub(super) stored: u64,
    /// How many of them its summary covers.
    pub(super) summarised: u64,
    /// The part of the conversation that the store does not have yet.
    pub(super) unsaved: Vec<Turn>,
    /// What was taught before: this conversation's summary, then memories.
    pub(super) knowledge: Vec<String>,
    /// What was taught in this one.
    pub(super) learnt: Knowledge,
    pub(super) tone: Tone,
    pub(super) unclear_points: Vec<Gap>,
    pub(super) question_queue: Vec<String>,
    /// The student's words, as they were streamed.
    pub(super) answer: String,
    #[state(append)]
    pub(super) tools: Vec<ToolTrace>,
    #[state(add)]
    pub(super) usage: Usage,
    pub(super) provider: String,
    pub(super) model: Option<String>,
    #[state(append)]
    pub(super) degraded: Vec<String>,
}

/// What the nodes of one run share.
#[derive(Debug)]
struct Shared {
    parts: Parts,
    call: CallContext,
}

#[derive(Debug, Clone)]
struct Parts {
    mind: Mind,
    tools: Arc<dyn ToolSource>,
    memory: Memory,
    config: FeynmanConfig,
    keeper: Keeper,
}

type Ctx = Context<Shared, TeachEvent>;
type Lesson = Arc<LessonState>;

/// An event of a run, or its end.
#[derive(Debug)]
pub(super) enum Progress {
    Event(TeachEvent),
    Done(Lesson),
}

/// The compiled workflow.
#[derive(Debug, Clone)]
pub(super) struct Workflow {
    graph: Graph<LessonState, Shared, TeachEvent>,
    parts: Parts,
}

impl Workflow {
    pub(super) fn new(
        mind: Mind,
        tools: Arc<dyn ToolSource>,
        memory: Memory,
        config: FeynmanConfig,
        keeper: Keeper,
    ) -> Result<Self, WorkflowError> {
        let graph = GraphBuilder::new()
            .node(LISTEN, listen)
            .node(FIND, find)
            .node(ASK, ask)
            .edge(START, LISTEN)
            .edge(LISTEN, FIND)
            .edge(FIND, ASK)
            .edge(ASK, END)
            .compile()?;
        Ok(Self {
            graph,
            parts: Parts {
                mind,
                tools,
                memory,
                config,
                keeper,
            },
        })
    }

    /// Runs the workflow. It proceeds while the stream is polled; dropping it cancels the nodes.
    pub(super) fn stream(
        &self,
        call: CallContext,
        explanation: &Explanation,
    ) -> impl Stream<Item = Result<Progress, TeachError>> + Send + Unpin + use<> {
        let lesson = LessonState {
            topic: explanation.topic.clone(),
            explanation: explanation.text.clone(),
            short_term_memory: explanation.short_term_memory.clone(),
            tone: explanation.tone.unwrap_or(self.parts.config.tone),
            ..LessonState::default()
        };
        let shared = Shared {
            parts: self.parts.clone(),
            call,
        };
        let config = RunConfig::new(shared).modes([Mode::Tasks, Mode::Custom]);
        let events = self.graph.stream(lesson, config);
        events.filter_map(|event| ready(event.map(progress).map_err(teach_error).transpose()))
    }
}

fn progress(event: Event<LessonState, TeachEvent>) -> Option<Progress> {
    match event.kind {
        EventKind::Started { node, .. } => {
            let known = [LISTEN, FIND, ASK]
                .into_iter()
                .find(|name| *name == node.as_str());
            known.map(|name| Progress::Event(TeachEvent::Node(name)))
        }
        EventKind::Custom { value, .. } => Some(Progress::Event(value)),
        EventKind::Finished(output) => Some(Progress::Done(output.state)),
        _ => None,
    }
}

/// Reads the conversation and what was taught before.
async fn listen(lesson: Lesson, ctx: Ctx) -> Result<LessonStateUpdate, NodeError> {
    let Shared { parts, call } = &**ctx.shared();
    let budget = budget(parts);
    let query = format!("{}\n{}", lesson.topic, lesson.explanation);
    let known = parts
        .memory
        .assemble(&call.scope, &query, &budget)
        .await
        .map_err(NodeError::permanent)?;
    metrics::context(known.tokens);
    let count = known.messages.last().map_or(0, |message| message.seq);
    let covered = known.summary.as_ref().map_or(0, |summary| summary.upto_seq);
    let stored = known.messages.into_iter().map(|message| Turn {
        role: message.role,
        content: message.content,
    });
    let stored: Vec<Turn> = stored.collect();
    let degraded: Vec<String> = known
        .degraded
        .iter()
        .map(|part| format!("memory.{part}"))
        .collect();
    let told = |text: &str| text.chars().count() >= TELLING_CHARS;
    let memories = known.knowledge.into_iter().map(|memory| memory.text);
    let memories = memories.filter(|text| told(text));
    let memories = memories.map(|text| text.chars().take(SHOWN_CHARS).collect());
    let summary = known.summary.map(|summary| summary.text);
    let taught: Vec<String> = summary.into_iter().chain(memories).collect();
    // The store's view of the conversation counts; the client's where the store has none.
    let heard: &[Turn] = if count == 0 {
        &lesson.short_term_memory
    } else {
        &[]
    };
    let (learnt, kept) = learnt::load(
        &parts.keeper,
        &parts.memory,
        &call.scope,
        &lesson.topic,
        heard,
    )
    .await;
    let degraded: Vec<String> = degraded.into_iter().chain(kept).collect();
    let update = LessonStateUpdate::new()
        .learnt(learnt)
        .stored(count)
        .summarised(covered)
        .knowledge(taught)
        .degraded(degraded);
    // What the client remembers is its own view of the conversation and is used as it is;
    // it is kept as well where the store has nothing of this conversation.
    Ok(
        match (lesson.short_term_memory.is_empty(), stored.is_empty()) {
            (true, _) => update.short_term_memory(stored),
            (false, true) => update.unsaved(lesson.short_term_memory.clone()),
            (false, false) => update,
        },
    )
}

/// How a turn's context is made up.
fn budget(parts: &Parts) -> Budget {
    let usual = Budget::default();
    let room = match &parts.mind {
        Mind::Offline => usual.tokens,
        Mind::Model(model) => usize::try_from(model.traits().context.0 / 2).unwrap_or(usize::MAX),
    };
    let FeynmanConfig {
        recent, recalled, ..
    } = parts.config;
    Budget {
        tokens: usual.tokens.min(room),
        recent: recent.div_ceil(2),
        messages: recent,
        memories: recalled,
        // Those that the conversation itself shows are left out, so more are looked at.
        candidates: match recalled {
            0 => 0,
            _ => recalled + LOOKED_AT,
        },
        ..usual
    }
}

/// Finds the gaps.
async fn find(lesson: Lesson, ctx: Ctx) -> Result<LessonStateUpdate, NodeError> {
    let Shared { parts, call } = &**ctx.shared();
    let (tools, limits) = (parts.tools.tools(), parts.config.react);
    let found = think::find_gaps(
        &parts.mind,
        &tools,
        limits,
        call,
        &subject(&lesson),
        &Audience(&ctx),
    )
    .await;
    let found = found.map_err(NodeError::permanent)?;
    let mut learnt = lesson.learnt.clone();
    let now_ms = learnt::now_ms();
    let closed = knowledge::hear(&mut learnt, &lesson.topic, &lesson.explanation, now_ms);
    if let Some(ruling) = &found.ruling {
        knowledge::ruled(&mut learnt, ruling, &closed);
    }
    let gaps = knowledge::worth_asking(&learnt, found.gaps);
    knowledge::find(&mut learnt, &gaps, now_ms);
    ctx.emit(TeachEvent::Gaps(gaps.clone())).await;
    let update = LessonStateUpdate::new()
        .learnt(learnt)
        .unclear_points(gaps)
        .tools(found.tools)
        .usage(found.usage);
    Ok(if found.degraded {
        update.degraded([FIND.to_owned()])
    } else {
        update
    })
}

/// Asks about them.
async fn ask(lesson: Lesson, ctx: Ctx) -> Result<LessonStateUpdate, NodeError> {
    let Shared { parts, call } = &**ctx.shared();
    let asked = think::ask(
        &parts.mind,
        call,
        &subject(&lesson),
        &lesson.unclear_points,
        parts.config.graded,
        &Audience(&ctx),
    )
    .await;
    let asked = asked.map_err(NodeError::permanent)?;
    let mut learnt = lesson.learnt.clone();
    knowledge::ask(&mut learnt, &asked.questions);
    let update = LessonStateUpdate::new()
        .learnt(learnt)
        .question_queue(asked.questions)
        .answer(asked.text.trim())
        .usage(asked.usage)
        .provider(asked.provider)
        .model(asked.model);
    Ok(if asked.degraded {
        update.degraded([ASK.to_owned()])
    } else {
        update
    })
}

fn subject(lesson: &LessonState) -> Subject<'_> {
    Subject {
        topic: &lesson.topic,
        explanation: &lesson.explanation,
        history: &lesson.short_term_memory,
        recalled: &lesson.knowledge,
        learnt: &lesson.learnt,
        tone: lesson.tone,
    }
}

/// Whoever follows the run hears what a node sees.
struct Audience<'a>(&'a Ctx);

#[async_trait]
impl Watch for Audience<'_> {
    async fn saw(&self, event: ReActEvent) {
        let event = match event {
            ReActEvent::Queued(position) => TeachEvent::Queued(position),
            ReActEvent::Text(text) => TeachEvent::Text(text),
            ReActEvent::Tool(trace) => TeachEvent::Tool(trace),
        };
        self.0.emit(event).await;
    }
}

/// The error that the node met, as it was.
fn teach_error(error: RunError) -> TeachError {
    match error {
        RunError::Node { source, .. } => match source.into_inner().downcast::<ChatError>() {
            Ok(error) => TeachError::Model(*error),
            Err(other) => match other.downcast::<MemoryError>() {
                Ok(error) => super::storage(*error),
                Err(source) => TeachError::Workflow { source },
            },
        },
        other => TeachError::Workflow {
            source: other.into(),
        },
    }
}
