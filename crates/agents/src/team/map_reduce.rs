//! One member's work on many things at once, and another's answer made of all.

use lyceum_graph::{Command, CompileError, END, GraphBuilder, NodeError, START, Worker};

use super::{Ctx, Known, Member, Team, TeamState, TeamStateUpdate};

/// One thing to work on.
const MAP: Worker<String> = Worker::new("map");

/// The worker answers each of the state's `items`, or each line of the question where there are
/// none, as many at once as the run's `max_concurrency` lets; the reducer makes one answer of
/// all, which it reads in the order of the items.
///
/// # Errors
///
/// [`CompileError`], which only a change of this crate can cause.
pub fn map_reduce(worker: Member, reducer: Member) -> Result<Team, CompileError> {
    let split = |team: Known, _: Ctx| async move {
        let mut command = Command::from(());
        for item in items(&team) {
            command = command.and_send(MAP.send(&item)?);
        }
        Ok::<_, NodeError>(match items(&team).next() {
            None => command.and_goto("reduce"),
            Some(_) => command,
        })
    };
    let map = move |item: String, _: Known, ctx: Ctx| {
        let worker = worker.clone();
        async move {
            let said = worker.say(&ctx, worker.instructions.clone(), item);
            let (turn, usage) = said.await?;
            Ok::<_, NodeError>(TeamStateUpdate::new().said([turn]).usage(usage))
        }
    };
    let reduce = move |team: Known, ctx: Ctx| {
        let reducer = reducer.clone();
        async move { reducer.conclude(&team, &ctx).await }
    };
    GraphBuilder::new()
        .node("split", split)
        .worker(MAP, map)
        .node("reduce", reduce)
        .edge(START, "split")
        .destinations("split", ["map", "reduce"])
        .edge("map", "reduce")
        .edge("reduce", END)
        .compile()
}

fn items(team: &TeamState) -> impl Iterator<Item = String> {
    let lines = team.question.lines().map(str::trim);
    let lines = lines.filter(|line| !line.is_empty() && team.items.is_empty());
    team.items
        .iter()
        .map(String::as_str)
        .chain(lines)
        .map(str::to_owned)
}
