//! Writing a thread from outside a run: updates, branches, removal of what is old.
//!
//! Invariant: each holds the thread's lease while it writes. Deliberately absent: runs.

use std::sync::Arc;

use crate::{
    Answers, Checkpoint, CheckpointId, Command, Input, Keep, Namespace, NodeName, RunError, START,
    SaverError, State, Thread,
    durable::{Durability, Durable},
    journal::{Journal, asked, has_paused},
    machine::Machine,
    saver::{Batch, Source},
};

impl<S, C, E> Thread<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// Writes the state from outside. With `as_node` the thread continues after that node
    /// ([`START`] plans the first nodes); without, what was planned stays planned.
    ///
    /// # Errors
    ///
    /// As [`Thread::run`]; [`RunError::UnknownInPlan`] when the graph has no such node.
    pub async fn update(
        &self,
        update: S::Update,
        as_node: Option<&NodeName>,
    ) -> Result<CheckpointId, RunError> {
        self.update_from(Source::Update, update, as_node).await
    }

    /// The same; an update as [`START`] counts as an input.
    pub(crate) async fn written(
        &self,
        update: S::Update,
        as_node: Option<&NodeName>,
    ) -> Result<CheckpointId, RunError> {
        let source = match as_node {
            Some(name) if name.as_str() == START => Source::Input,
            _ => Source::Update,
        };
        self.update_from(source, update, as_node).await
    }

    async fn update_from(
        &self,
        source: Source,
        update: S::Update,
        as_node: Option<&NodeName>,
    ) -> Result<CheckpointId, RunError> {
        let from = self.base.checkpoint();
        self.rewrite(from, source, |machine| match as_node {
            Some(name) if name.as_str() == START => {
                machine.begin(Input::Update(update)).map(|_planned| ())
            }
            Some(name) => {
                let id = machine.known(name)?;
                machine.write(update, Some(id))
            }
            None => machine.write(update, None),
        })
        .await
    }

    /// Writes what a command says, and plans where it goes beside what was planned.
    ///
    /// # Errors
    ///
    /// As [`Thread::update`].
    pub async fn command(&self, command: Command<S>) -> Result<CheckpointId, RunError> {
        let from = self.base.checkpoint();
        self.rewrite(from, Source::Update, |machine| {
            machine.command(command).map(|_planned| ())
        })
        .await
    }

    /// Makes an older checkpoint the newest again: the next resume runs on from there, and
    /// its interrupts ask again. The branch that is left stays in the history.
    ///
    /// # Errors
    ///
    /// As [`Thread::run`]; [`RunError::NoCheckpoint`] when there is no such checkpoint.
    pub async fn fork(&self, checkpoint: CheckpointId) -> Result<CheckpointId, RunError> {
        self.rewrite(Some(checkpoint), Source::Fork, |_| Ok(()))
            .await
    }

    async fn rewrite(
        &self,
        from: Option<CheckpointId>,
        source: Source,
        write: impl FnOnce(&mut Machine<S>) -> Result<(), RunError>,
    ) -> Result<CheckpointId, RunError> {
        let metadata = self.metadata.clone();
        let durable = Arc::new(self.acquire(Durability::Sync, metadata, None).await?);
        let held = durable.held.clone();
        let written = self.write_checkpoint(durable, from, source, write).await;
        held.release().await;
        written
    }

    async fn write_checkpoint(
        &self,
        durable: Arc<Durable>,
        from: Option<CheckpointId>,
        source: Source,
        write: impl FnOnce(&mut Machine<S>) -> Result<(), RunError>,
    ) -> Result<CheckpointId, RunError> {
        let place = self.namespace.place();
        let saved = self.saver.load(&self.id, &place, from).await?;
        let mut machine = self.machine();
        let mut journal = Journal::new(durable);
        match &saved {
            Some(saved) => {
                machine.restore(saved)?;
                // A correction made at a stop does not make the run stop again; a fork does.
                if source == Source::Update && has_paused(saved) {
                    machine.pass_pause(true);
                }
                journal.continue_from(saved.checkpoint.id);
            }
            None if from.is_some() => return Err(RunError::NoCheckpoint),
            None => {}
        }
        write(&mut machine)?;
        let around = self.remembering().await?;
        journal.checkpoint_now(&mut machine, source, around).await
    }

    /// The newest checkpoints of the enclosing graphs, those that continue this subgraph from
    /// its newest checkpoint. While a run of it has stopped half-way they do not, and what is
    /// written belongs to that run.
    async fn remembering(&self) -> Result<Vec<Checkpoint>, SaverError> {
        let place = self.namespace.place();
        let newest = async |place: &str| {
            let heads = self.saver.history(&self.id, place, None, 1).await?;
            Ok::<_, SaverError>(heads.into_iter().next())
        };
        let mut around = Vec::new();
        let mut enclosing = self.namespace.scopes();
        let stands = match enclosing.is_empty() {
            true => return Ok(around),
            false => newest(&place).await?.map(|head| head.id),
        };
        while let Some((_, outer)) = enclosing.split_last() {
            enclosing = outer;
            let place_around = Namespace::of(outer.iter().cloned()).place();
            let head = newest(&place_around).await?;
            let same = |head: &Checkpoint| head.children.get(&place).copied() == stands;
            around.extend(head.filter(same));
        }
        Ok(around)
    }

    /// Makes an older checkpoint the newest again, for a run that resumes it: gives the
    /// answers the names of the new branch's questions.
    pub(crate) async fn branch(
        &self,
        durable: &Arc<Durable>,
        from: CheckpointId,
        answers: Answers,
    ) -> Result<Answers, RunError> {
        let saved = self.saver.load(&self.id, "", Some(from)).await?;
        let asked = asked(&saved.ok_or(RunError::NoCheckpoint)?)?;
        let ids: Vec<_> = asked.iter().map(|(_, asked)| asked.id.clone()).collect();
        let given = answers.resolve(&ids)?;
        let durable = durable.clone();
        let fork = self.write_checkpoint(durable.clone(), Some(from), Source::Fork, |_| Ok(()));
        let fork = fork.await?;
        let mut renamed = Vec::new();
        let mut records = Vec::new();
        for (id, value) in given {
            // A question of a subgraph belongs to a checkpoint of its own.
            let Some(rest) = id.strip_prefix(&format!("@{from}:")) else {
                return Err(RunError::UnknownInterrupt { id });
            };
            let new = format!("@{fork}:{rest}");
            let asked = asked.iter().find(|(_, asked)| asked.id == id);
            if let Some((task, interrupt)) = asked {
                let mut interrupt = interrupt.clone();
                interrupt.id.clone_from(&new);
                records.push(Journal::question(fork, *task, &interrupt)?);
            }
            renamed.push((new, value));
        }
        if records.is_empty() {
            return Ok(Answers::None);
        }
        let batch = Batch {
            records,
            ..Batch::default()
        };
        durable.commit(&batch).await?;
        Ok(Answers::ById(renamed.into_iter().collect()))
    }

    /// Removes old checkpoints, and says how many.
    ///
    /// # Errors
    ///
    /// [`SaverError::Busy`] while a run writes the thread.
    pub async fn prune(&self, keep: Keep) -> Result<u64, SaverError> {
        let durable = self.acquire(Durability::Sync, Arc::default(), None).await?;
        let removed = self.saver.prune(&durable.held.lease, keep).await;
        durable.held.release().await;
        removed
    }

    pub(crate) fn machine(&self) -> Machine<S> {
        let mut machine = Machine::new(self.graph.topology.clone(), u64::MAX);
        machine.keep_writes();
        machine
    }
}
