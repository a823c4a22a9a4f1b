//! Members who answer each other, and one who decides.

use lyceum_graph::{Command, CompileError, END, GraphBuilder, NodeError, START, Worker};

use super::{Ctx, Known, Member, Team, TeamState, TeamStateUpdate};

/// Which speaker is asked.
const SPEAK: Worker<usize> = Worker::new("speak");

/// The speakers answer at once in each round, having heard the rounds before; after the last,
/// at least one, the judge makes the answer of it. Without speakers the judge answers alone.
///
/// # Errors
///
/// [`CompileError`], which only a change of this crate can cause.
pub fn debate(speakers: Vec<Member>, judge: Member, rounds: u64) -> Result<Team, CompileError> {
    let (rounds, count) = (rounds.max(1), speakers.len());
    let call = move |_: Known, _: Ctx| async move {
        let mut command = Command::update(TeamStateUpdate::new().rounds(1u64));
        for speaker in 0..count {
            command = command.and_send(SPEAK.send(&speaker)?);
        }
        Ok::<_, NodeError>(match count {
            0 => command.and_goto("judge"),
            _ => command,
        })
    };
    let speak = move |speaker: usize, team: Known, ctx: Ctx| {
        let member = speakers.get(speaker).cloned();
        async move {
            let Some(member) = member else {
                return Ok(TeamStateUpdate::new());
            };
            let said = member.say(&ctx, member.instructions.clone(), team.transcript());
            let (turn, usage) = said.await?;
            Ok::<_, NodeError>(TeamStateUpdate::new().said([turn]).usage(usage))
        }
    };
    let decide = move |team: Known, ctx: Ctx| {
        let judge = judge.clone();
        async move { judge.conclude(&team, &ctx).await }
    };
    GraphBuilder::new()
        .node("call", call)
        .worker(SPEAK, speak)
        .node("judge", decide)
        .edge(START, "call")
        .destinations("call", ["speak", "judge"])
        .route("speak", ["call", "judge"], move |team: &TeamState| {
            match team.rounds < rounds {
                true => "call",
                false => "judge",
            }
        })
        .edge("judge", END)
        .compile()
}
