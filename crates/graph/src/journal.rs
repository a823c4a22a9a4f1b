//! What a run stores as it goes, in the order and at the time its durability asks for.
//!
//! Invariant: nothing is stored before what came before it. Deliberately absent: decisions
//! about the run.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    Answers, Command, Interrupt, RunError, State,
    durable::{Durability, Durable},
    machine::Machine,
    outlet::now_ms,
    saver::{Batch, Checkpoint, CheckpointId, Record, Saved, SaverError, Source},
    task::{Effect, Memo},
};

const RESULT: &str = "result";
const INTERRUPT: &str = "interrupt:";
const ANSWER: &str = "answer:";
const EFFECT: &str = "effect:";
const ERROR: &str = "error";
const PAUSE: &str = "pause";

/// The writing side of one run.
pub(crate) struct Journal {
    pub(crate) durable: Arc<Durable>,
    /// The checkpoint whose plan is running.
    current: Option<CheckpointId>,
    /// The newest checkpoint that was given to the saver.
    parent: Option<CheckpointId>,
    /// With [`Durability::Exit`]: why the checkpoint at the end will have been made.
    unsaved: Option<Source>,
    /// With [`Durability::Sync`]: what is on its way to the saver, or did not get there.
    unstored: Option<Batch>,
}

impl Journal {
    pub(crate) fn new(durable: Arc<Durable>) -> Self {
        Self {
            durable,
            current: None,
            parent: None,
            unsaved: None,
            unstored: None,
        }
    }

    pub(crate) fn current(&self) -> CheckpointId {
        self.current.unwrap_or(CheckpointId(0))
    }

    /// Continues a stored checkpoint.
    pub(crate) fn continue_from(&mut self, id: CheckpointId) {
        self.current = Some(id);
        self.parent = Some(id);
    }

    /// Stores the state and the plan as a new checkpoint; gives its head, if the saver was
    /// given it and somebody listens.
    pub(crate) async fn checkpoint<S: State>(
        &mut self,
        machine: &mut Machine<S>,
        source: Source,
        is_told: bool,
    ) -> Result<Option<Checkpoint>, RunError> {
        let id = self.durable.next_id();
        self.current = Some(id);
        if self.durable.durability == Durability::Exit {
            self.unsaved = Some(source);
            self.durable.forget_staged(id);
            return Ok(None);
        }
        let batch = self.snapshot(machine, source)?;
        let told = is_told.then(|| batch.checkpoints.first().cloned());
        self.store(batch).await?;
        Ok(told.flatten())
    }

    /// The same, and stored when this returns, whatever the durability. The heads `around` it
    /// continue this graph from the new checkpoint.
    pub(crate) async fn checkpoint_now<S: State>(
        &mut self,
        machine: &mut Machine<S>,
        source: Source,
        around: Vec<Checkpoint>,
    ) -> Result<CheckpointId, RunError> {
        let id = self.durable.next_id();
        self.current = Some(id);
        let mut batch = self.snapshot(machine, source)?;
        for mut head in around {
            let namespace = self.durable.namespace.clone();
            head.children.insert(namespace, id);
            batch.checkpoints.push(head);
        }
        self.durable.commit(&batch).await?;
        self.durable.prune(id).await;
        Ok(id)
    }

    /// The state and the plan as the current checkpoint.
    fn snapshot<S: State>(
        &mut self,
        machine: &mut Machine<S>,
        source: Source,
    ) -> Result<Batch, RunError> {
        let (id, namespace) = (self.current(), &self.durable.namespace);
        let parent = self.parent.replace(id);
        let (mut head, values) = machine.checkpoint(id, parent, namespace, source, now_ms())?;
        head.metadata.clone_from(&self.durable.metadata);
        Ok(Batch {
            checkpoints: vec![head],
            values,
            records: Vec::new(),
        })
    }

    /// Records the results of tasks whose step goes on, in one transaction.
    pub(crate) async fn results<'a, S: State>(
        &mut self,
        results: impl IntoIterator<Item = (usize, &'a Command<S>)>,
    ) -> Result<(), RunError> {
        let records = results.into_iter().map(|(task, command)| {
            let bytes = serde_json::to_vec(command).map_err(|source| RunError::Encode {
                what: "a node's result".to_owned(),
                source,
            })?;
            Ok(self.record(task, RESULT.to_owned(), bytes))
        });
        let records = records.collect::<Result<Vec<_>, RunError>>()?;
        if records.is_empty() {
            return Ok(());
        }
        self.store_records(records).await
    }

    /// Records that the run stops before the planned step.
    pub(crate) async fn paused(&mut self) -> Result<(), RunError> {
        let record = self.record(0, PAUSE.to_owned(), Vec::new());
        let records = vec![record];
        self.store_records(records).await
    }

    /// Records what a task asks.
    pub(crate) async fn interrupts(
        &mut self,
        task: usize,
        interrupts: &[Interrupt],
    ) -> Result<(), RunError> {
        let checkpoint = self.current();
        let records = interrupts
            .iter()
            .map(|interrupt| Self::question(checkpoint, task, interrupt));
        let records = records.collect::<Result<_, RunError>>()?;
        self.store_records(records).await
    }

    /// Records why a task failed; it will be tried again when the thread is resumed.
    pub(crate) async fn error(&mut self, task: usize, message: &str) -> Result<(), RunError> {
        let record = self.record(task, ERROR.to_owned(), message.as_bytes().to_vec());
        self.store_records(vec![record]).await
    }

    /// The record of a question.
    pub(crate) fn question(
        checkpoint: CheckpointId,
        task: usize,
        interrupt: &Interrupt,
    ) -> Result<Record, RunError> {
        let bytes = serde_json::to_vec(interrupt).map_err(|source| RunError::Encode {
            what: "an interrupt".to_owned(),
            source,
        })?;
        Ok(Record {
            checkpoint,
            task: u32::try_from(task).unwrap_or(u32::MAX),
            key: format!("{INTERRUPT}{}", interrupt.id),
            bytes,
        })
    }

    /// Records the answers that a resumed task was given.
    pub(crate) async fn answers(
        &mut self,
        answers: &[(usize, String, serde_json::Value)],
    ) -> Result<(), RunError> {
        if answers.is_empty() {
            return Ok(());
        }
        let records = answers.iter().map(|(task, id, value)| {
            self.record(*task, format!("{ANSWER}{id}"), value.to_string().into())
        });
        let records = records.collect();
        self.store_records(records).await
    }

    fn record(&self, task: usize, key: String, bytes: Vec<u8>) -> Record {
        let task = u32::try_from(task).unwrap_or(u32::MAX);
        Record {
            checkpoint: self.current(),
            task,
            key,
            bytes,
        }
    }

    async fn store_records(&mut self, records: Vec<Record>) -> Result<(), RunError> {
        let batch = Batch {
            records,
            ..Batch::default()
        };
        self.store(batch).await
    }

    async fn store(&mut self, batch: Batch) -> Result<(), RunError> {
        match self.durable.durability {
            Durability::Sync => {
                let unstored = self.unstored.get_or_insert_default();
                unstored.append(batch);
                self.catch_up().await?;
            }
            Durability::Async => {
                let outbox = &self.durable.held.outbox;
                outbox.put(batch);
                outbox.nudge().await?;
            }
            Durability::Exit => self.durable.stage(batch.records),
        }
        Ok(())
    }

    /// Stores what did not get to the saver.
    pub(crate) async fn catch_up(&mut self) -> Result<(), SaverError> {
        let Some(batch) = &self.unstored else {
            return Ok(());
        };
        self.durable.commit(batch).await?;
        let last = batch.last();
        self.unstored = None;
        if let Some(id) = last {
            self.durable.prune(id).await;
        }
        Ok(())
    }

    /// Whether something waits to be stored while the run goes on.
    pub(crate) fn has_background(&self) -> bool {
        self.durable.durability == Durability::Async && !self.durable.held.outbox.is_empty()
    }

    /// Waits until everything that was put into the outbox is stored.
    pub(crate) async fn flush(&self) -> Result<(), SaverError> {
        let outbox = &self.durable.held.outbox;
        outbox.flush(outbox.end()).await
    }

    /// Extends the lease of a run that has nothing to store for a while.
    pub(crate) async fn renew(&mut self) -> Result<(), SaverError> {
        self.durable.commit(&Batch::default()).await
    }

    /// Stores what is still unsaved, however the run ended; gives the head of a checkpoint
    /// as [`Journal::checkpoint`] does.
    pub(crate) async fn close<S: State>(
        &mut self,
        machine: &mut Machine<S>,
        is_told: bool,
    ) -> Result<Option<Checkpoint>, RunError> {
        let told = self.leave(machine)?.filter(|_| is_told);
        let outbox = &self.durable.held.outbox;
        // What a subgraph leaves is stored with, or before, what comes of it around it.
        match (self.durable.durability, self.durable.namespace.is_empty()) {
            (Durability::Exit, false) => outbox.relieve().await?,
            (_, false) => {}
            (_, true) => self.flush().await?,
        }
        Ok(told)
    }

    /// Puts what is still unsaved into the outbox, without waiting; gives the head of the
    /// checkpoint, if there was one to make.
    pub(crate) fn leave<S: State>(
        &mut self,
        machine: &mut Machine<S>,
    ) -> Result<Option<Checkpoint>, RunError> {
        if self.durable.durability != Durability::Exit {
            return Ok(None);
        }
        if machine.is_torn() {
            // Neither the state nor what was achieved since the last checkpoint has a place.
            self.durable.take_staged(None);
            return Ok(None);
        }
        let mut batch = match self.unsaved.take() {
            Some(source) => self.snapshot(machine, source)?,
            None => Batch::default(),
        };
        batch.records = self.durable.take_staged(self.current);
        let head = batch.checkpoints.first().cloned();
        if !batch.is_empty() {
            self.durable.held.outbox.put(batch);
        }
        Ok(head)
    }

    /// Why old checkpoints could not be removed, if that was not told yet.
    pub(crate) fn take_prune_failure(&self) -> Option<SaverError> {
        self.durable.held.pruning.take_failure()
    }
}

/// Whether a run has stopped before the step that the checkpoint plans.
pub(crate) fn has_paused(saved: &Saved) -> bool {
    saved.records.iter().any(|record| record.key == PAUSE)
}

/// What is recorded of one task.
pub(crate) struct Recorded<S: State> {
    pub(crate) result: Option<Command<S>>,
    pub(crate) memo: Memo,
    /// Interrupts without an answer.
    pub(crate) pending: Vec<Interrupt>,
    /// Why it failed last.
    pub(crate) error: Option<String>,
}

/// Reads the records of a checkpoint by task.
pub(crate) fn recorded<S: State>(saved: &Saved) -> Result<BTreeMap<usize, Recorded<S>>, RunError> {
    let decode = |what: &str| {
        let what = what.to_owned();
        move |source| RunError::Decode { what, source }
    };
    let mut tasks: BTreeMap<usize, Recorded<S>> = BTreeMap::new();
    for Record {
        task, key, bytes, ..
    } in &saved.records
    {
        let recorded = tasks.entry(*task as usize).or_insert_with(|| Recorded {
            result: None,
            memo: Memo::default(),
            pending: Vec::new(),
            error: None,
        });
        if key == RESULT {
            recorded.result = Some(serde_json::from_slice(bytes).map_err(decode("a result"))?);
        } else if key.starts_with(INTERRUPT) {
            let interrupt = serde_json::from_slice(bytes).map_err(decode("an interrupt"))?;
            recorded.pending.push(interrupt);
        } else if let Some(id) = key.strip_prefix(ANSWER) {
            let value = serde_json::from_slice(bytes).map_err(decode("an answer"))?;
            recorded.memo.answers.insert(id.to_owned(), value);
        } else if key == ERROR {
            recorded.error = Some(String::from_utf8_lossy(bytes).into_owned());
        } else if key.starts_with(EFFECT) {
            let effect = Effect {
                json: String::from_utf8_lossy(bytes).into_owned(),
                is_recorded: true,
            };
            recorded.memo.effects.insert(key.clone(), effect);
        }
    }
    for recorded in tasks.values_mut() {
        let Recorded {
            memo,
            pending,
            result,
            error: _,
        } = recorded;
        pending.retain(|asked| result.is_none() && !memo.answers.contains_key(&asked.id));
    }
    Ok(tasks)
}

/// Every question that a checkpoint's tasks have asked, answered or not, with the task.
pub(crate) fn asked(saved: &Saved) -> Result<Vec<(usize, Interrupt)>, RunError> {
    let asked = saved
        .records
        .iter()
        .filter(|record| record.key.starts_with(INTERRUPT));
    let asked = asked.map(|record| {
        let interrupt = serde_json::from_slice(&record.bytes);
        let interrupt = interrupt.map_err(|source| RunError::Decode {
            what: "an interrupt".to_owned(),
            source,
        })?;
        Ok((record.task as usize, interrupt))
    });
    asked.collect()
}

/// Distributes answers over the tasks that asked; says which task was given which.
pub(crate) fn distribute<S: State>(
    tasks: &mut BTreeMap<usize, Recorded<S>>,
    answers: Answers,
) -> Result<Vec<(usize, String, serde_json::Value)>, RunError> {
    let asked = tasks.values().flat_map(|recorded| &recorded.pending);
    let pending: Vec<_> = asked.map(|interrupt| interrupt.id.clone()).collect();
    let mut answers = answers.resolve(&pending)?;
    let mut given = Vec::new();
    for (task, recorded) in tasks {
        for interrupt in &recorded.pending {
            if let Some(value) = answers.remove(&interrupt.id) {
                recorded
                    .memo
                    .answers
                    .insert(interrupt.id.clone(), value.clone());
                given.push((*task, interrupt.id.clone(), value));
            }
        }
    }
    Ok(given)
}
