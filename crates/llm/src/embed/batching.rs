//! Gathers the texts of many callers into one call of an embedder.
//!
//! Invariant: every caller gets the vectors of its own texts or its own error. A batch
//! that the model refuses is halved until only the texts at fault fail. Texts of searched
//! and of searching kind never share a call.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{
    CallContext, ChatError, EmbedError, EmbedKind, Embedder, Embeddings, TimeoutStage, Tokens,
    Usage, Vector,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep_until, timeout_at},
};

use super::batch::Batch;

/// When a batch goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchingConfig {
    /// So many texts go at once, at least 1. Default 10.
    pub max_items: usize,
    /// The longest wait of a text that will be searched; zero for none. Default 1 s.
    pub max_wait: Duration,
    /// The longest wait of a text that is searched for: somebody waits for the answer.
    /// Zero for none. Default 5 ms.
    pub max_wait_query: Duration,
    /// The most calls under way, at least 1. Default 8.
    pub max_in_flight: usize,
    /// The most texts that wait for a batch; further callers wait before they may add
    /// theirs. At least 1. Default 1,024.
    pub max_waiting: usize,
}

impl Default for BatchingConfig {
    fn default() -> Self {
        Self {
            max_items: 10,
            max_wait: Duration::from_secs(1),
            max_wait_query: Duration::from_millis(5),
            max_in_flight: 8,
            max_waiting: 1024,
        }
    }
}

/// See the module's text. Clones share their batches.
///
/// A call is made with the scope of one of its callers, the highest of their priorities
/// and the latest of their deadlines; each caller still gives up at its own. Usage is
/// divided by the texts' lengths, exactly.
#[derive(Debug, Clone)]
pub struct BatchingEmbedder {
    embedder: Arc<dyn Embedder>,
    config: BatchingConfig,
    /// The way to the task that owns the batches, which starts with the first text.
    texts: Arc<OnceLock<mpsc::Sender<Item>>>,
}

/// One text on its way.
#[derive(Debug)]
struct Item {
    text: Arc<str>,
    kind: EmbedKind,
    call: Arc<CallContext>,
    reply: oneshot::Sender<Result<(Vector, Usage), EmbedError>>,
}

impl BatchingEmbedder {
    /// Batches calls of `embedder`.
    #[must_use]
    pub fn new(embedder: impl Embedder + 'static, config: BatchingConfig) -> Self {
        Self {
            embedder: Arc::new(embedder),
            config,
            texts: Arc::default(),
        }
    }

    fn sender(&self) -> &mpsc::Sender<Item> {
        self.texts.get_or_init(|| {
            let (sender, receiver) = mpsc::channel(self.config.max_waiting.max(1));
            tokio::spawn(drive(Arc::clone(&self.embedder), self.config, receiver));
            sender
        })
    }

    async fn gather(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let call = Arc::new(call.clone());
        let mut replies = Vec::with_capacity(texts.len());
        for text in texts {
            let (reply, answer) = oneshot::channel();
            let item = Item {
                text: Arc::clone(text),
                kind,
                call: Arc::clone(&call),
                reply,
            };
            let sent = self.sender().send(item).await;
            sent.map_err(|_| EmbedError::Closed)?;
            replies.push(answer);
        }
        let mut all = Embeddings {
            vectors: Vec::with_capacity(texts.len()),
            usage: Usage::default(),
        };
        for answer in replies {
            let (vector, usage) = answer.await.map_err(|_| EmbedError::Closed)??;
            all.vectors.push(vector);
            all.usage += usage;
        }
        Ok(all)
    }
}

#[async_trait]
impl Embedder for BatchingEmbedder {
    fn model(&self) -> &str {
        self.embedder.model()
    }

    fn dimensions(&self) -> usize {
        self.embedder.dimensions()
    }

    async fn embed(
        &self,
        call: &CallContext,
        kind: EmbedKind,
        texts: &[Arc<str>],
    ) -> Result<Embeddings, EmbedError> {
        let gathered = self.gather(call, kind, texts);
        let Some(deadline) = call.deadline else {
            return gathered.await;
        };
        let started = Instant::now();
        let deadline = Instant::from_std(deadline);
        let in_time = timeout_at(deadline, gathered).await;
        in_time.map_err(|_| ChatError::Timeout {
            stage: TimeoutStage::Total,
            after: deadline.saturating_duration_since(started),
        })?
    }
}

/// Owns the batches until the last embedder is gone.
async fn drive(
    embedder: Arc<dyn Embedder>,
    config: BatchingConfig,
    mut items: mpsc::Receiver<Item>,
) {
    let mut documents = Batch::new(config.max_items);
    let mut queries = Batch::new(config.max_items);
    let mut calls = JoinSet::new();
    loop {
        let due = documents.due().into_iter().chain(queries.due()).min();
        let free = calls.len() < config.max_in_flight.max(1);
        let full = tokio::select! {
            Some(_) = calls.join_next(), if !calls.is_empty() => continue,
            item = items.recv(), if free => {
                let Some(item) = item else { return };
                let now = Instant::now();
                match item.kind {
                    EmbedKind::Document => documents.push(item, config.max_wait, now),
                    EmbedKind::Query => queries.push(item, config.max_wait_query, now),
                }
            }
            () = sleep_until(due.unwrap_or_else(Instant::now)), if free && due.is_some() => {
                let now = Instant::now();
                queries.ready(now).or_else(|| documents.ready(now))
            }
        };
        if let Some(batch) = full {
            calls.spawn(serve(Arc::clone(&embedder), batch));
        }
    }
}

/// Makes the call of one batch, and smaller ones where the model refuses it.
async fn serve(embedder: Arc<dyn Embedder>, batch: Vec<Item>) {
    let mut groups = vec![batch];
    while let Some(mut group) = groups.pop() {
        group.retain(|item| !item.reply.is_closed());
        let Some(first) = group.first() else { continue };
        let kind = first.kind;
        let call = joint_call(&group, &first.call);
        let texts: Vec<Arc<str>> = group.iter().map(|item| Arc::clone(&item.text)).collect();
        let answer = tokio::select! {
            answer = embedder.embed(&call, kind, &texts) => answer,
            () = all_gone(&mut group) => continue,
        };
        let answer = answer.and_then(|all| {
            all.check(texts.len(), embedder.dimensions())?;
            Ok(all)
        });
        match answer {
            Ok(all) => share(group, all),
            Err(error) if group.len() > 1 && may_be_one_texts_fault(&error) => {
                let second = group.split_off(group.len() / 2);
                groups.extend([second, group]);
            }
            Err(error) => {
                for item in group {
                    let _ = item.reply.send(Err(error.clone()));
                }
            }
        }
    }
}

fn joint_call(group: &[Item], first: &CallContext) -> CallContext {
    let mut joint = first.clone();
    for item in group {
        joint.priority = joint.priority.max(item.call.priority);
        // `None` never ends, so it is the latest.
        joint.deadline = match (joint.deadline, item.call.deadline) {
            (Some(one), Some(other)) => Some(one.max(other)),
            _ => None,
        };
    }
    joint
}

/// Whether smaller batches may do better: one text is too long, or all together are.
fn may_be_one_texts_fault(error: &EmbedError) -> bool {
    match error {
        EmbedError::Call(error) => matches!(
            **error,
            ChatError::ContextTooLong { .. }
                | ChatError::Rejected {
                    status: 400 | 413 | 422,
                    ..
                }
        ),
        _ => false,
    }
}

/// Waits until nobody waits for any of these texts.
async fn all_gone(group: &mut [Item]) {
    for item in group {
        item.reply.closed().await;
    }
}

/// Gives each text its vector and its share of the usage.
fn share(group: Vec<Item>, all: Embeddings) {
    let weigh = |item: &Item| item.text.len() as u128 + 1;
    let whole: u128 = group.iter().map(weigh).sum();
    let input = u128::from(all.usage.input.0);
    let mut weight = 0;
    for (item, vector) in group.into_iter().zip(all.vectors) {
        let before = input * weight / whole;
        weight += weigh(&item);
        let tokens = input * weight / whole - before;
        let usage = Usage {
            input: Tokens(u64::try_from(tokens).unwrap_or(u64::MAX)),
            ..Usage::default()
        };
        let _ = item.reply.send(Ok((vector, usage)));
    }
}
