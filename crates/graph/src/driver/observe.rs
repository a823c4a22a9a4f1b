//! What a run's observers are told of its steps and checkpoints.
//!
//! Invariant: nothing here waits. Deliberately absent: runs and attempts, which are told
//! where they begin.

use super::Driver;
use crate::{Interrupt, Mode, MomentKind, State, saver::Checkpoint, task::TaskState};

impl<S, C, E> Driver<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    pub(super) fn wants_checkpoints(&self) -> bool {
        self.wants(Mode::Checkpoints) || self.run.is_observed()
    }

    pub(super) fn observe_step(&mut self) {
        if self.run.is_observed() {
            self.step_began = self.run.clock();
            let tasks = self.machine.tasks().len();
            let step = self.machine.merged() + 1;
            self.run.observe(step, MomentKind::StepStarted { tasks });
        }
    }

    pub(super) fn observe_merged(&mut self) {
        if let Some(began) = self.step_began.take() {
            let took = began.elapsed();
            let step = self.machine.merged();
            self.run.observe(step, MomentKind::StepEnded { took });
        }
    }

    pub(super) fn observe_interrupts(&self, task: &TaskState, interrupts: &[Interrupt]) {
        let node = &task.node;
        let kind = MomentKind::Interrupted { node, interrupts };
        self.run.observe(task.step, kind);
    }

    pub(super) fn observe_resumed(&self, checkpoint: &Checkpoint) {
        let kind = MomentKind::Resumed(checkpoint);
        self.run.observe(checkpoint.step, kind);
    }

    pub(super) fn observe_checkpoint(&self, stored: Option<&Checkpoint>) {
        if let Some(checkpoint) = stored {
            let kind = MomentKind::Checkpointed(checkpoint);
            self.run.observe(checkpoint.step, kind);
        }
    }

    /// Tells of a removal of old checkpoints that failed.
    pub(super) fn observe_pruning(&self) {
        let journal = self.journal.as_ref();
        if let Some(error) = journal.and_then(|journal| journal.take_prune_failure()) {
            let (step, kind) = (self.machine.merged(), MomentKind::PruneFailed(&error));
            self.run.observe(step, kind);
        }
    }
}
