//! The thin driver: polls node futures and feeds their results to the machine.
//!
//! Invariant: dropping the driver drops every running node; nothing outlives a run.
//! Deliberately absent: decisions, which are the machine's.

use std::{any::Any, panic::AssertUnwindSafe, sync::Arc};

use futures_util::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};

use crate::{
    Context, EventKind, Input, Mode, Output, RunConfig, RunError, State, Status,
    context::RunContext,
    graph::Graph,
    machine::{Machine, Progress},
    node::Call,
    outlet::{EventSender, Outlet},
};

/// Drives one run to its end.
pub(crate) async fn drive<S, C, E>(
    graph: Graph<S, C, E>,
    input: Input<S>,
    config: RunConfig<C>,
    events: Option<Arc<EventSender<S, E>>>,
) -> Result<Output<S>, RunError>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    let mut machine = Machine::new(graph.topology.clone(), config.step_limit);
    let run = Arc::new(RunContext {
        shared: config.shared,
        cancel: config.cancel,
        outlet: events.clone().map(|events| events as Arc<dyn Outlet<E>>),
    });
    let mut running = FuturesUnordered::new();
    let mut progress = machine.begin(input)?;
    let mut started = 0;
    loop {
        match progress {
            Progress::Done => break,
            Progress::Planned => started = 0,
            Progress::Waiting => {}
        }
        while running.len() < config.max_concurrency.get()
            && let Some(task) = machine.tasks().get(started)
        {
            let node = graph.topology.name(task.node).clone();
            if let Some(events) = events.as_ref().filter(|events| events.wants(Mode::Tasks)) {
                events
                    .send(machine.step(), EventKind::Started { node: node.clone() })
                    .await;
            }
            let context = Context {
                run: run.clone(),
                node,
                step: machine.step(),
            };
            let state = machine.state().clone();
            let call = Call {
                state,
                context,
                payload: task.payload.clone(),
            };
            let code = graph.nodes[task.node.index()].clone();
            let index = started;
            // The node's function itself runs inside the guard: it may panic before its
            // first await, and it must not run before the run is polled.
            let guarded = AssertUnwindSafe(async move { code(call).await }).catch_unwind();
            running.push(async move { (index, guarded.await) });
            started += 1;
        }
        let Some(Some((index, result))) = run.cancel.run_until_cancelled(running.next()).await
        else {
            let steps = machine.step() - 1;
            return Ok(Output {
                state: machine.state().clone(),
                status: Status::Cancelled,
                steps,
            });
        };
        let name = || graph.topology.name(machine.tasks()[index].node).clone();
        let command = match result {
            Ok(Ok(command)) => command,
            Ok(Err(source)) => {
                return Err(RunError::Node {
                    node: name(),
                    source,
                });
            }
            Err(panic) => {
                return Err(RunError::Panicked {
                    node: name(),
                    message: message(&*panic),
                });
            }
        };
        if let Some(events) = events.as_ref().filter(|events| events.wants(Mode::Updates)) {
            let kind = EventKind::Updated {
                node: name(),
                update: command.update.clone(),
            };
            events.send(machine.step(), kind).await;
        }
        let step = machine.step();
        progress = machine.finish(index, command)?;
        if progress != Progress::Waiting
            && let Some(events) = events.as_ref().filter(|events| events.wants(Mode::States))
        {
            events
                .send(step, EventKind::State(machine.state().clone()))
                .await;
        }
    }
    let (state, steps) = (machine.state().clone(), machine.step());
    Ok(Output {
        state,
        status: Status::Done,
        steps,
    })
}

/// What a panic said, as far as it was text.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
