//! The workflow `user_input_handler → gap_identifier → question_generator → END`.

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::stream::BoxStream;
use lyceum_core::{
    CallContext, Explanation, Gap, TeachError, TeachEvent, Tool, ToolTrace, Turn, Usage,
};
use lyceum_memory::{ContextLimits, Memory};
use tokio::sync::mpsc;

use super::{
    FeynmanConfig,
    think::{self, Subject},
};
use crate::{Mind, ReActEvent, ReActLimits, Watch};

#[derive(Debug, Clone, Default)]
pub(super) struct LessonState {
    pub(super) topic: String,
    pub(super) explanation: String,
    pub(super) short_term_memory: Vec<Turn>,
    pub(super) imported: Vec<Turn>,
    pub(super) knowledge: Vec<String>,
    pub(super) unclear_points: Vec<Gap>,
    pub(super) question_queue: Vec<String>,
    pub(super) answer: String,
    pub(super) tools: Vec<ToolTrace>,
    pub(super) usage: Usage,
    pub(super) provider: String,
    pub(super) model: Option<String>,
    pub(super) degraded: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
#[error("compile")]
pub struct WorkflowError;

pub(super) enum Progress {
    Event(TeachEvent),
    Done(Box<LessonState>),
}

#[derive(Debug, Clone)]
pub(super) struct Workflow {
    mind: Mind,
    tools: Vec<Arc<dyn Tool>>,
    memory: Memory,
    recent: usize,
    recalled: usize,
    react: ReActLimits,
}

struct Sender(mpsc::Sender<Result<Progress, TeachError>>);

#[async_trait]
impl Watch for Sender {
    async fn saw(&self, event: ReActEvent) {
        let event = match event {
            ReActEvent::Queued(p) => TeachEvent::Queued(p),
            ReActEvent::Text(t) => TeachEvent::Text(t),
            ReActEvent::Tool(t) => TeachEvent::Tool(t),
        };
        let _ = self.0.send(Ok(Progress::Event(event))).await;
    }
}

impl Workflow {
    pub(super) fn new(
        mind: Mind,
        tools: Vec<Arc<dyn Tool>>,
        memory: Memory,
        config: &FeynmanConfig,
    ) -> Result<Self, WorkflowError> {
        Ok(Self {
            mind,
            tools,
            memory,
            recent: config.recent,
            recalled: config.recalled,
            react: config.react,
        })
    }

    pub(super) fn stream(
        &self,
        call: &CallContext,
        e: &Explanation,
    ) -> BoxStream<'static, Result<Progress, TeachError>> {
        let (this, call, e) = (self.clone(), call.clone(), e.clone());
        Box::pin(async_stream::stream! {
            let (s, mut r) = mpsc::channel(16);
            let run = this.run(call, e, Sender(s));
            tokio::pin!(run);
            let mut result = None;
            loop {
                tokio::select! {
                    biased;
                    event = r.recv() => match event { Some(e) => yield e, None => break },
                    out = &mut run, if result.is_none() => result = Some(out),
                }
                if result.is_some() { while let Ok(e) = r.try_recv() { yield e; } break; }
            }
            match result { Some(Ok(s)) => yield Ok(Progress::Done(Box::new(s))), Some(Err(e)) => yield Err(e), None => {} }
        })
    }

    async fn run(
        self,
        call: CallContext,
        e: Explanation,
        out: Sender,
    ) -> Result<LessonState, TeachError> {
        let mut s = LessonState {
            topic: e.topic,
            explanation: e.text,
            ..Default::default()
        };
        let ctx = self
            .memory
            .context(
                &call.scope,
                &format!("{} {}", s.topic, s.explanation),
                ContextLimits {
                    recent: self.recent,
                    knowledge: self.recalled,
                },
            )
            .await
            .map_err(super::storage)?;
        let stored: Vec<Turn> = ctx
            .recent
            .iter()
            .map(|m| Turn {
                role: m.role,
                content: m.content.clone(),
            })
            .collect();
        s.degraded = ctx.degraded.iter().map(|d| format!("memory.{d}")).collect();
        s.imported = if stored.is_empty() {
            e.short_term_memory.clone()
        } else {
            vec![]
        };
        s.short_term_memory = if e.short_term_memory.is_empty() {
            stored
        } else {
            e.short_term_memory
        };
        s.knowledge = ctx.knowledge.into_iter().map(|k| k.text).collect();
        let subject = Subject {
            topic: &s.topic,
            explanation: &s.explanation,
            history: &s.short_term_memory,
            knowledge: &s.knowledge,
        };
        let _ = out
            .0
            .send(Ok(Progress::Event(TeachEvent::Node("gap_identifier"))))
            .await;
        let found =
            think::find_gaps(&self.mind, &self.tools, self.react, &call, &subject, &out).await?;
        let _ = out
            .0
            .send(Ok(Progress::Event(TeachEvent::Gaps(found.gaps.clone()))))
            .await;
        let _ = out
            .0
            .send(Ok(Progress::Event(TeachEvent::Node("question_generator"))))
            .await;
        let asked = think::ask(&self.mind, &call, &subject, &found.gaps, &out).await?;
        s.unclear_points = found.gaps;
        s.tools = found.tools;
        s.usage = found.usage + asked.usage;
        s.question_queue = asked.questions;
        s.answer = asked.text.trim().to_owned();
        s.provider = asked.provider;
        s.model = asked.model;
        if found.degraded {
            s.degraded.push("gap_identifier".into());
        }
        if asked.degraded {
            s.degraded.push("question_generator".into());
        }
        Ok(s)
    }
}
