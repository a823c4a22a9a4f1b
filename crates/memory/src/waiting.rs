//! The background work that gives memories their vectors.
//!
//! Invariant: no text keeps others from their vectors. One that the model refuses is found by
//! halving and settled without a vector, once the model has shown that it takes another text: a
//! model that refuses everything settles nothing. Each user's texts are a call of their own, on
//! that user's account. Deliberately absent: when to look, and how long to rest after a failure.

use std::sync::Arc;

use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Finding, Priority, Scope, Vector,
};

use crate::{Meaning, Memory, MemoryError, NewVector, Unembedded};

/// A text that every model takes.
const HARMLESS: &str = "memory";

impl Memory {
    /// Gives up to `batch` waiting memories their vectors and says how many it settled; zero
    /// when none waits. Repeating it after a failure is safe: what was not settled waits on.
    ///
    /// # Errors
    ///
    /// [`MemoryError::Embed`] when the model failed for a user, or the store's failure. What the
    /// model gave for others is kept all the same.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have kept its vectors; calling it again is safe.
    pub async fn embed_waiting(&self, batch: usize) -> Result<usize, MemoryError> {
        let Some(meaning) = self.meaning() else {
            return Ok(0);
        };
        let waiting = meaning.store().unembedded(meaning.space(), batch).await?;
        let (served, rest): (Vec<Unembedded>, Vec<Unembedded>) = waiting
            .into_iter()
            .partition(|memory| meaning.serves(&memory.text));
        let mut settled: Vec<NewVector> = rest
            .into_iter()
            .map(|memory| settle(memory, None))
            .collect();
        let mut failure = None;
        for (scope, memories) in by_scope(served) {
            let call = CallContext::new(scope).with_purpose("embed", 0);
            let call = call.with_priority(Priority::Low);
            let mut work = Work {
                meaning,
                call,
                takes_others: false,
            };
            let texts: Vec<Arc<str>> = memories.iter().map(|m| self.may_leave(m)).collect();
            match work.embed(&texts).await {
                Ok(vectors) => {
                    let all = memories.into_iter().zip(vectors);
                    settled.extend(all.map(|(memory, vector)| settle(memory, vector)));
                }
                Err(error) => failure = Some(error),
            }
        }
        if !settled.is_empty() {
            let (store, space) = (meaning.store(), meaning.space());
            store.set_vectors(space, &settled).await?;
        }
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(settled.len()),
        }
    }
}

impl Memory {
    /// What the model gets to see of a memory. What it does not is noted for the audit, by keyed
    /// digests: whoever has the key can tell later whether a certain number was among it.
    fn may_leave(&self, memory: &Unembedded) -> Arc<str> {
        let Some(scrubber) = &self.scrubber else {
            return memory.text.as_str().into();
        };
        let scrubbed = scrubber.scrub(&memory.text);
        for Finding { kind, digest } in &scrubbed.found {
            let Scope { tenant, user, .. } = &memory.scope;
            let digest = digest.as_deref().unwrap_or_default();
            tracing::info!(
                target: "audit",
                event = "kept_from_embedding",
                %tenant, %user, memory = %memory.id, kind, digest,
                "audit"
            );
        }
        Arc::from(&*scrubbed.text)
    }
}

fn settle(memory: Unembedded, vector: Option<Vector>) -> NewVector {
    let Unembedded { scope, id, .. } = memory;
    NewVector { scope, id, vector }
}

/// The memories of each owner, in the order of their first.
fn by_scope(memories: Vec<Unembedded>) -> Vec<(Scope, Vec<Unembedded>)> {
    let mut all: Vec<(Scope, Vec<Unembedded>)> = Vec::new();
    for memory in memories {
        match all.iter_mut().find(|(scope, _)| *scope == memory.scope) {
            Some((_, of)) => of.push(memory),
            None => all.push((memory.scope.clone(), vec![memory])),
        }
    }
    all
}

/// The texts of one user.
struct Work<'a> {
    meaning: &'a Meaning,
    call: CallContext,
    /// Whether the model took a text of this call.
    takes_others: bool,
}

impl Work<'_> {
    /// A vector for each text; none for one that the model refuses.
    async fn embed(&mut self, texts: &[Arc<str>]) -> Result<Vec<Option<Vector>>, EmbedError> {
        let (mut vectors, mut left) = (Vec::with_capacity(texts.len()), vec![texts]);
        while let Some(texts) = left.pop() {
            match self.ask(texts).await {
                Ok(found) => vectors.extend(found.into_iter().map(Some)),
                Err(error) if !is_of_the_text(&error) => return Err(error),
                Err(_) if texts.len() > 1 => {
                    let (first, second) = texts.split_at(texts.len() / 2);
                    left.extend([second, first]);
                }
                Err(error) => {
                    if !self.takes_others {
                        self.ask(&[HARMLESS.into()]).await.map_err(|_| error)?;
                    }
                    tracing::warn!("the model refuses a memory, which stays without a vector");
                    vectors.push(None);
                }
            }
        }
        Ok(vectors)
    }

    async fn ask(&mut self, texts: &[Arc<str>]) -> Result<Vec<Vector>, EmbedError> {
        let kind = EmbedKind::Document;
        let vectors = self.meaning.embed(&self.call, kind, texts).await?;
        self.takes_others |= !vectors.is_empty();
        Ok(vectors)
    }
}

/// Whether another text may do where this one failed.
fn is_of_the_text(error: &EmbedError) -> bool {
    match error {
        EmbedError::Call(error) => matches!(
            **error,
            ChatError::Rejected {
                status: 400 | 413 | 422,
                ..
            } | ChatError::ContextTooLong { .. }
        ),
        EmbedError::NotFinite => true,
        _ => false,
    }
}
