//! A debate: two who disagree speak at once, hear each other, and a judge decides.
//!
//! ```console
//! cargo run -p lyceum-examples --example debate
//! ```
//!
//! The model is a script, to show what a team asks of any `ChatModel`. A debate is a graph, so it
//! can be streamed as here, drawn, or kept on a thread.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use futures::{StreamExt, stream};
use lyceum_agents::team::{Member, TeamEvent, TeamState, debate};
use lyceum_core::{
    CallContext, ChatEvent, ChatModel, ChatRequest, ChatStream, FinishReason, Scope,
};
use lyceum_graph::{EventKind, Mode, RunConfig};

/// Says what fits its role, and in the second round that it has listened.
#[derive(Debug)]
struct Scripted;

impl ChatModel for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn stream(&self, _: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let [role, heard] = [0, 1].map(|at| request.messages[at].content.text());
        let has_heard = heard.contains("against: ");
        let text = match (role.as_str(), has_heard) {
            ("Argue for it.", false) => "Types find mistakes before users do.",
            ("Argue for it.", true) => "Prototypes live longer than planned.",
            ("Argue against it.", false) => "Types slow a prototype down.",
            ("Argue against it.", true) => "Then add types when it lives.",
            _ => "Start untyped, and add types where others build on it.",
        };
        let events = [
            ChatEvent::Text(text.to_owned()),
            ChatEvent::Finished(FinishReason::Stop),
        ];
        Box::pin(stream::iter(events.map(Ok)))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let member = |name, role| Member::new(name, Arc::new(Scripted), role);
    let speakers = vec![
        member("for", "Argue for it."),
        member("against", "Argue against it."),
    ];
    let team = debate(speakers, member("judge", "Decide in one sentence."), 2)?;

    let config = RunConfig::new(CallContext::new(Scope::local())).modes([Mode::Custom]);
    let mut events = team.stream(TeamState::ask("Should a prototype have types?"), config);
    while let Some(event) = events.next().await {
        match event?.kind {
            EventKind::Custom {
                value: TeamEvent::Spoke(turn),
                ..
            } => println!("{}: {}", turn.member, turn.text),
            EventKind::Finished(output) => {
                assert_eq!((output.state.rounds, output.state.said.len()), (2, 5));
                assert!(output.state.answer.starts_with("Start untyped"));
            }
            _ => {}
        }
    }
    Ok(())
}
