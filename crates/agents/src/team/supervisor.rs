//! A lead that gives tasks, and members that do them.

use std::sync::Arc;

use lyceum_graph::{Command, CompileError, END, GraphBuilder, NodeError, START, Worker};
use serde_json::{Value, json};

use super::{Ctx, Known, Member, Team, TeamStateUpdate, TeamTurn};
use crate::{prompts, structured::extract_json};

/// A task for a member.
const WORK: Worker<TeamTurn> = Worker::new("work");
/// The most tasks of one step of the lead; more are left out, and it is told.
const MAX_TASKS: usize = 16;
/// Who speaks where a task cannot be given.
const TEAM: &str = "team";

/// The lead gives tasks to members, several at once if it likes, hears what they say, and goes on
/// so until it answers; after `steps` steps it has to. A task for somebody who is not there comes
/// back to it with the names of those who are.
///
/// # Errors
///
/// [`CompileError`], which only a change of this crate can cause.
pub fn supervisor(lead: Member, members: Vec<Member>, steps: u64) -> Result<Team, CompileError> {
    let names: Arc<[String]> = members.iter().map(|it| it.name.clone()).collect();
    let direct = move |team: Known, ctx: Ctx| {
        let (lead, names) = (lead.clone(), names.clone());
        async move {
            let last = team.rounds >= steps;
            let values = json!({
                "instructions": lead.instructions, "members": &*names, "last": last,
            });
            let instructions =
                prompts::render("team_lead", values).map_err(NodeError::permanent)?;
            let (turn, usage) = lead.say(&ctx, instructions, team.transcript()).await?;
            let update = TeamStateUpdate::new().usage(usage);
            let tasks = if last { Vec::new() } else { tasks(&turn.text) };
            if tasks.is_empty() {
                let update = update.answer(turn.text.clone()).said([turn]);
                return Ok::<_, NodeError>(Command::update(update));
            }
            let (known, unknown): (Vec<_>, Vec<_>) = tasks
                .into_iter()
                .partition(|task| names.contains(&task.member));
            let (given, left_out) = known.split_at(known.len().min(MAX_TASKS));
            let refused = refusals(&unknown, left_out, &names);
            let mut command = Command::update(update.rounds(1u64).said(refused));
            for task in given {
                command = command.and_send(WORK.send(task)?);
            }
            Ok(match given {
                [] => command.and_goto("lead"),
                _ => command,
            })
        }
    };
    let work = move |task: TeamTurn, _: Known, ctx: Ctx| {
        let member = members.iter().find(|it| it.name == task.member).cloned();
        async move {
            let Some(member) = member else {
                return Ok(TeamStateUpdate::new());
            };
            let said = member.say(&ctx, member.instructions.clone(), task.text);
            let (turn, usage) = said.await?;
            Ok::<_, NodeError>(TeamStateUpdate::new().said([turn]).usage(usage))
        }
    };
    GraphBuilder::new()
        .node("lead", direct)
        .worker(WORK, work)
        .edge(START, "lead")
        .destinations("lead", ["work", "lead", END])
        .edge("work", "lead")
        .compile()
}

/// The tasks in what a lead says: a list of them, or one; none in an answer.
fn tasks(said: &str) -> Vec<TeamTurn> {
    let task = |value: &Value| {
        let field = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
        let (member, text) = (field("member")?, field("task")?);
        Some(TeamTurn { member, text })
    };
    match extract_json(said) {
        Some(Value::Array(list)) => list.iter().filter_map(task).collect(),
        Some(value) => task(&value).into_iter().collect(),
        None => Vec::new(),
    }
}

/// What the lead is told of tasks that nobody does.
fn refusals(unknown: &[TeamTurn], left_out: &[TeamTurn], names: &[String]) -> Vec<TeamTurn> {
    let mut told = Vec::new();
    let mut tell = |text: String| {
        let member = TEAM.to_owned();
        told.push(TeamTurn { member, text });
    };
    for task in unknown {
        let (who, names) = (&task.member, names.join(", "));
        tell(format!("there is no {who:?}; the members are: {names}"));
    }
    if !left_out.is_empty() {
        let (count, most) = (left_out.len(), MAX_TASKS);
        tell(format!(
            "{count} tasks were left out: at most {most} at once"
        ));
    }
    told
}
