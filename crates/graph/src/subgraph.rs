//! A graph as a node of another.
//!
//! Invariant: a task that is started again continues the subgraph run it began; it never
//! begins a second one. Deliberately absent: shared channels; states are mapped explicitly.

use std::{future::pending, sync::Arc};

use crate::{
    Command, Graph, Input, NodeError, State, Status,
    context::RunContext,
    driver::{Begin, drive},
    node::{Call, NodeFn, NodeResult},
    outlet::Events,
};

/// The inner graph and how states cross its border.
pub(crate) struct Subgraph<T: State, C, E, I, O> {
    pub(crate) graph: Graph<T, C, E>,
    pub(crate) enter: I,
    pub(crate) leave: O,
    pub(crate) keep_state: bool,
}

/// The code of the node.
pub(crate) fn subgraph<S, T, C, E, I, In, O, Out>(inner: Subgraph<T, C, E, I, O>) -> NodeFn<S, C, E>
where
    S: State,
    T: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
    I: Fn(&S) -> In + Send + Sync + 'static,
    In: Into<Input<T>>,
    O: Fn(&T) -> Out + Send + Sync + 'static,
    Out: Into<Command<S>>,
{
    let inner = Arc::new(inner);
    Arc::new(move |call| {
        let inner = inner.clone();
        Box::pin(async move { inner.run(call).await })
    })
}

impl<T, C, E, I, O> Subgraph<T, C, E, I, O>
where
    T: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    async fn run<S, In, Out>(&self, call: Call<S, C, E>) -> NodeResult<S>
    where
        S: State,
        I: Fn(&S) -> In,
        In: Into<Input<T>>,
        O: Fn(&T) -> Out,
        Out: Into<Command<S>>,
    {
        let (outer, task) = (&call.context.run, &call.context.task);
        let namespace = outer
            .namespace
            .child(task.node.clone(), outer.task_id(task));
        let begin = Begin::Nested {
            origin: format!("{}:{}", task.checkpoint, task.index),
            input: (self.enter)(&call.state).into(),
            answers: task.memo().answers.clone(),
            keep_state: self.keep_state,
        };
        let events = outer.outlet.clone().map(|outer| {
            Arc::new(Events::<T, E>::Nested {
                outermost: outer,
                namespace: namespace.clone(),
            })
        });
        let run = RunContext {
            config: outer.config.clone(),
            outlet: events.clone().map(|events| events as _),
            durable: outer
                .durable
                .as_ref()
                .map(|durable| Arc::new(durable.nested(task.node.as_str()))),
            namespace,
        };
        let output = drive(self.graph.clone(), begin, Arc::new(run), events)
            .await
            .map_err(NodeError::from_run)?;
        match output.status {
            Status::Done => {}
            Status::Interrupted => {
                task.memo().interrupts.extend(output.interrupts);
                return pending().await;
            }
            Status::Drained => {
                task.memo().drained = true;
                return pending().await;
            }
            Status::Paused => {
                task.memo().paused = true;
                return pending().await;
            }
            // The run around it is being cancelled too.
            Status::Cancelled => return pending().await,
        }
        let mut command = (self.leave)(&output.state).into();
        command.goto.extend(output.left_to);
        Ok(command)
    }
}
