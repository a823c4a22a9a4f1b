//! Responses that are kept, so that a later one can go on from them.
//!
//! Invariant: a response is kept before its last event is told, and reaches only the user
//! who made it. One whose place in the store cannot be written is told as not stored.
//! The oldest are forgotten when [`KEPT`] newer documents stand in the same store.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures_util::StreamExt;
use lyceum_core::{
    ChatEvent, ChatStream, Expect, RecordError, RecordList, RecordStore, RecordWrite, Scope,
    SessionId, TeachError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Reply;
use crate::{compat::invalid, error::ApiError};

/// The kind of record.
const KIND: &str = "openai_response";

/// How many newer documents of any kind may stand in the store before a response is
/// forgotten.
const KEPT: u64 = 100_000;

/// How many are forgotten at once: more than are added.
const FORGOTTEN: usize = 4;

/// One response and what led to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// As it was answered.
    pub(crate) response: Value,
    /// What was said, without what came before.
    pub(crate) input: Vec<Value>,
    /// The response that it goes on from.
    pub(crate) previous: Option<String>,
    /// The conversation.
    pub(crate) session: Option<SessionId>,
}

/// Where one user's responses are.
#[derive(Debug, Clone)]
pub(crate) struct Keeper {
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) scope: Scope,
}

impl Keeper {
    /// One response; `None` where there is none of this user's.
    pub(crate) async fn find(&self, id: &str) -> Result<Option<Kept>, ApiError> {
        let found = self.records.read(&self.scope.tenant, KIND, id).await;
        let found = found.map_err(failed)?;
        let mine = found.filter(|record| record.group == self.scope.user.as_str());
        let kept = mine.map(|record| serde_json::from_str(&record.body));
        kept.transpose().map_err(|_| ApiError::Internal {
            what: "kept_response",
        })
    }

    /// Everything that was said up to a response, at most `most` items, and its conversation.
    pub(crate) async fn history(
        &self,
        id: &str,
        most: usize,
    ) -> Result<(Vec<Value>, Option<SessionId>), ApiError> {
        let (mut items, mut session) = (VecDeque::new(), None);
        let mut next = Some(id.to_owned());
        while let Some(id) = next {
            let Some(kept) = self.find(&id).await? else {
                let id: String = id.chars().take(100).collect();
                let detail = format!("there is no response {id:?} here");
                return Err(invalid("previous_response_id", &detail));
            };
            session = session.or(kept.session);
            let output = kept.response["output"].as_array().into_iter().flatten();
            for item in kept.input.iter().chain(output).rev() {
                items.push_front(item.clone());
            }
            if items.len() > most {
                let detail = format!("it goes back over more than {most} items: begin anew");
                return Err(invalid("previous_response_id", &detail));
            }
            next = kept.previous;
        }
        Ok((items.into(), session))
    }

    /// Removes a response of this user.
    pub(crate) async fn forget(&self, id: &str) -> Result<bool, ApiError> {
        if self.find(id).await?.is_none() {
            return Ok(false);
        }
        let delete = vec![delete(id.to_owned())];
        let deleted = self.records.write(&self.scope.tenant, delete).await;
        deleted.map(|_| true).map_err(failed)
    }

    async fn keep(&self, id: String, kept: &Kept) -> Result<(), RecordError> {
        let put = RecordWrite::Put {
            kind: KIND,
            id,
            group: self.scope.user.as_str().to_owned(),
            // Values made of strings, numbers and maps by strings always serialise.
            body: serde_json::to_string(kept).unwrap_or_default(),
            expect: Expect::Anything,
        };
        let list = |before, limit| RecordList {
            kind: KIND,
            group: None,
            before,
            limit,
        };
        let tenant = &self.scope.tenant;
        let newest = self.records.list(tenant, list(None, 1)).await?;
        let newest = newest.first().map_or(0, |record| record.seq);
        let mut writes = vec![put];
        if let Some(before) = newest.checked_sub(KEPT).filter(|before| *before > 0) {
            let old = self.records.list(tenant, list(Some(before), FORGOTTEN));
            writes.extend(old.await?.into_iter().map(|record| delete(record.id)));
        }
        self.records.write(tenant, writes).await.map(|_| ())
    }
}

fn delete(id: String) -> RecordWrite {
    RecordWrite::Delete { kind: KIND, id }
}

fn failed(error: RecordError) -> ApiError {
    ApiError::Student(TeachError::Storage {
        retryable: error.is_retryable(),
        source: Box::new(error),
    })
}

/// Keeps a response when its last event comes, before it is passed on. `reply` grows beside
/// the one that is told; `stored` is cleared when it cannot be kept.
pub(crate) fn keeping(
    mut events: ChatStream,
    keeper: Keeper,
    id: String,
    mut kept: Kept,
    mut reply: Reply,
    stored: Arc<AtomicBool>,
) -> ChatStream {
    Box::pin(async_stream::stream! {
        while let Some(event) = events.next().await {
            if let Ok(event) = &event {
                reply.push(event, &mut |_, _| {});
                if matches!(event, ChatEvent::Finished(_)) {
                    kept.response = reply.response(None);
                    if let Err(error) = keeper.keep(id.clone(), &kept).await {
                        let error = &error as &(dyn std::error::Error + 'static);
                        tracing::warn!(error, "a response is not kept");
                        stored.store(false, Relaxed);
                    }
                }
            }
            yield event;
        }
    })
}
