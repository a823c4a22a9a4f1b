//! The student between lessons.
//!
//! Invariant: a conversation is found by the caller's whole scope, so nobody reads another's.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ExamAnswer, GapStatus, Knowledge, Paper, Pupil, ReviewItem, Scope, SessionId,
    TeachBack, TeachError, Tone, Turn,
};
use lyceum_graph::RunError;
use lyceum_memory::ContextLimits;

use super::{Feynman, Inner, learnt, storage};
use crate::{
    knowledge::{exam::exam, markdown, recalled, schedule, teach_back::teach_back},
    metrics::Watched,
};

/// Messages that notes are made from, the newest.
const NOTED: usize = 200;

impl Inner {
    /// What is known of a conversation; `None` where there is none.
    async fn known(&self, scope: &Scope) -> Result<Option<Knowledge>, TeachError> {
        let mut learnt = self.keeper.load(scope).await.map_err(kept)?;
        learnt::catch_up(&self.keeper, &mut learnt, &self.memory, scope)
            .await
            .map_err(storage)?;
        Ok((learnt.turns > 0).then_some(learnt))
    }

    /// What was taught elsewhere that a question may be about; nothing where the memory fails.
    async fn recalled(&self, scope: &Scope, query: &str) -> Vec<String> {
        let limits = ContextLimits {
            recent: 0,
            knowledge: self.config.recalled,
        };
        match self.memory.context(scope, query, limits).await {
            Ok(known) => known.knowledge.into_iter().map(|it| it.text).collect(),
            Err(error) => {
                tracing::warn!(error = %error, label = error.label(), "other conversations cannot be recalled");
                Vec::new()
            }
        }
    }
}

impl Feynman {
    /// Removes a conversation and what is known of it; says whether there was one. `scope`
    /// names its session.
    ///
    /// # Errors
    ///
    /// [`TeachError::Storage`] when a store failed; it may be called again.
    pub async fn forget(&self, scope: &Scope) -> Result<bool, TeachError> {
        let _turn = self.0.turns.begin(scope).await;
        // In this order a call that broke off finds the conversation again when it is repeated.
        let forgotten = self.0.keeper.forget(scope).await;
        forgotten.map_err(|error| TeachError::Storage {
            retryable: error.is_retryable(),
            source: error.into(),
        })?;
        let existed = self.0.memory.sessions().delete(scope).await;
        existed.map_err(|error| storage(error.into()))
    }
}

fn narrowed(call: CallContext, session: SessionId) -> CallContext {
    let scope = call.scope.clone().with_session(session);
    CallContext { scope, ..call }
}

fn kept(error: RunError) -> TeachError {
    TeachError::Storage {
        retryable: error.is_retryable(),
        source: error.into(),
    }
}

#[async_trait]
impl Pupil for Feynman {
    async fn knowledge(
        &self,
        call: CallContext,
        session: SessionId,
    ) -> Result<Option<Knowledge>, TeachError> {
        self.0.known(&narrowed(call, session).scope).await
    }

    async fn review(
        &self,
        call: CallContext,
        session: SessionId,
    ) -> Result<Option<Vec<ReviewItem>>, TeachError> {
        let known = self.0.known(&narrowed(call, session).scope).await?;
        Ok(known.map(|known| schedule::items(&known, learnt::now_ms())))
    }

    async fn paper(
        &self,
        call: CallContext,
        session: SessionId,
        paper: Paper,
    ) -> Result<Option<String>, TeachError> {
        let scope = narrowed(call, session).scope;
        let Some(known) = self.0.known(&scope).await? else {
            return Ok(None);
        };
        if paper == Paper::Knowledge {
            return Ok(Some(markdown::knowledge(&known)));
        }
        let sessions = self.0.memory.sessions();
        let messages = sessions.messages(&scope, None, NOTED).await;
        let messages = messages.map_err(|error| storage(error.into()))?;
        let turns = messages.into_iter().map(|message| Turn {
            role: message.role,
            content: message.content,
        });
        let turns: Vec<Turn> = turns.collect();
        Ok(Some(markdown::notes(&known, &turns, learnt::now_ms())))
    }

    async fn teach_back(
        &self,
        call: CallContext,
        session: SessionId,
        tone: Option<Tone>,
    ) -> Result<Option<TeachBack>, TeachError> {
        let call = narrowed(call, session);
        let Some(known) = self.0.known(&call.scope).await? else {
            return Ok(None);
        };
        let tone = tone.unwrap_or(self.0.config.tone);
        let mut watched = Watched::begin("teach_back");
        let recalled = self.0.recalled(&call.scope, &known.topic).await;
        let all = recalled::with(&known, &recalled, &known.topic);
        let told = teach_back(&self.0.mind, call, &all, tone).await;
        let told = told.map_err(TeachError::Model).map(|mut told| {
            told.claims.retain(|id| known.claim(*id).is_some());
            told
        });
        let told = told.inspect_err(|error| watched.failed(error))?;
        watched.stored();
        Ok(Some(told))
    }

    async fn exam(
        &self,
        call: CallContext,
        session: SessionId,
        question: String,
        tone: Option<Tone>,
    ) -> Result<Option<ExamAnswer>, TeachError> {
        let call = narrowed(call, session);
        let Some(known) = self.0.known(&call.scope).await? else {
            return Ok(None);
        };
        let tone = tone.unwrap_or(self.0.config.tone);
        let mut watched = Watched::begin("exam");
        let recalled = self.0.recalled(&call.scope, &question).await;
        let all = recalled::with(&known, &recalled, &question);
        let answer = exam(&self.0.mind, call, &all, &question, tone).await;
        let answer = answer.map_err(TeachError::Model).map(|mut answer| {
            answer.claims.retain(|id| known.claim(*id).is_some());
            answer
        });
        let answer = answer.inspect_err(|error| watched.failed(error))?;
        watched.stored();
        Ok(Some(answer))
    }

    async fn dismiss(
        &self,
        call: CallContext,
        session: SessionId,
        gap: u32,
    ) -> Result<Option<Knowledge>, TeachError> {
        let inner = Arc::clone(&self.0);
        let scope = narrowed(call, session).scope;
        let _turn = inner.turns.begin(&scope).await;
        let Some(mut known) = inner.known(&scope).await? else {
            return Ok(None);
        };
        let Some(found) = known.gaps.iter_mut().find(|known| known.id == gap) else {
            return Ok(None);
        };
        if found.status.is_open() {
            found.status = GapStatus::Dismissed;
            let saved = inner.keeper.save(&scope, known.clone()).await;
            saved.map_err(kept)?;
        }
        Ok(Some(known))
    }
}
