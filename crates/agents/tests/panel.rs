//! The panel: its order, its overlap, its dissent, with and without a model.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::StreamExt;
use lyceum_agents::{
    Mind,
    panel::{Overlap, Panel, PanelConfig, Seats},
};
use lyceum_core::{
    CallContext, ChatError, ChatEvent, ChatModel, ChatRequest, ChatStream, Discussion,
    FinishReason, Panel as _, PanelEvent, PanelReport, Priority, Scope, SessionId,
};
use tokio::time::{Instant, sleep};

/// Before the first line, and for each line, of every answer.
const FIRST: Duration = Duration::from_millis(300);
const LINE: Duration = Duration::from_millis(200);
/// Of all lines.
const LINES: u32 = 8;

/// Says eight lines in each role, as slowly as a model.
#[derive(Debug, Default)]
struct Slow {
    calls: Mutex<Vec<(&'static str, Priority, String)>>,
    resolves: bool,
    broken: Option<&'static str>,
    /// A purpose, and from which of its calls on they fail.
    broken_from: Option<(&'static str, usize)>,
}

impl ChatModel for Slow {
    fn name(&self) -> &str {
        "slow"
    }

    fn stream(&self, call: CallContext, request: Arc<ChatRequest>) -> ChatStream {
        let system = request.messages[0].content.text();
        let mut calls = self.calls.lock().unwrap();
        calls.push((call.purpose, call.priority, system));
        let times = calls.iter().filter(|known| known.0 == call.purpose).count();
        let broken = self.broken == Some(call.purpose)
            || self
                .broken_from
                .is_some_and(|(purpose, from)| purpose == call.purpose && times >= from);
        let line = match call.purpose {
            "panel_host" if self.resolves => "RESOLVED, it is answered.",
            "panel_host" => "OPEN, it has to change.",
            "panel_critic" => "This claim has no reason.",
            _ => "Water is warm.",
        };
        Box::pin(async_stream::try_stream! {
            if broken {
                Err(ChatError::BreakerOpen {
                    provider: "slow".into(),
                    retry_after: Duration::from_secs(1),
                })?;
            }
            sleep(FIRST).await;
            for at in 1..=LINES {
                sleep(LINE).await;
                yield ChatEvent::Text(format!("{at}. {line}\n"));
            }
            yield ChatEvent::Finished(FinishReason::Stop);
        })
    }
}

fn panel(model: Arc<Slow>, overlap: Overlap) -> Panel {
    let config = PanelConfig {
        overlap,
        ..PanelConfig::default()
    };
    Panel::new(Seats::all(&Mind::Model(model)), config).unwrap()
}

fn discussion(text: &str, rounds: u32) -> Discussion {
    Discussion {
        topic: "water".into(),
        text: text.into(),
        session: SessionId::new("p-1").unwrap(),
        rounds: Some(rounds),
    }
}

async fn run(panel: &Panel, text: &str, rounds: u32) -> (Vec<PanelEvent>, PanelReport) {
    let call = CallContext::new(Scope::local());
    let events = panel.discuss(call, discussion(text, rounds));
    let mut events: Vec<PanelEvent> = events.map(Result::unwrap).collect().await;
    match events.pop() {
        Some(PanelEvent::Finished(report)) => (events, *report),
        other => panic!("{other:?}"),
    }
}

async fn timed(overlap: Overlap) -> Duration {
    let start = Instant::now();
    run(&panel(Arc::default(), overlap), "Water is warm.", 1).await;
    start.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_round_takes_at_most_60_percent_of_the_sequential_time() {
    let sequential = timed(Overlap::None).await;
    assert!(sequential >= 4 * (FIRST + LINE * LINES), "{sequential:?}");
    let overlapped = timed(PanelConfig::default().overlap).await;
    assert!(
        overlapped <= sequential * 6 / 10,
        "{overlapped:?} of {sequential:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_critic_speaks_while_the_planner_does() {
    let model = Arc::new(Slow::default());
    let (events, report) = run(&panel(Arc::clone(&model), Overlap::AfterClaims(2)), "W.", 1).await;
    let first = events.iter().position(
        |event| matches!(event, PanelEvent::Text(turn) if turn.agent.as_ref() == "critic"),
    );
    let planned = events.iter().position(
        |event| matches!(event, PanelEvent::Spoke(turn) if turn.agent.as_ref() == "planner"),
    );
    assert!(first.unwrap() < planned.unwrap());
    let calls = model.calls.lock().unwrap();
    assert_eq!(calls.len(), 5, "the critic twice");
    for (purpose, priority, _) in calls.iter() {
        assert_eq!(*priority == Priority::High, *purpose == "panel_host");
    }
    let critic = &calls
        .iter()
        .find(|call| call.0 == "panel_critic")
        .unwrap()
        .2;
    assert_eq!(critic.matches("Water is warm.").count(), 2, "{critic}");
    let later = calls.iter().rfind(|call| call.0 == "panel_critic");
    let later = &later.unwrap().2;
    assert!(
        later.contains("3. Water is warm.") && later.contains("8. "),
        "{later}"
    );
    assert!(!later.contains("2. Water"), "{later}");
    assert_eq!(report.dissent.len(), 16);
    assert!(report.report.contains("- This claim has no reason."));
    assert!(!report.consensus);
}

#[tokio::test(start_paused = true)]
async fn consensus_ends_the_discussion_early() {
    let model = Arc::new(Slow {
        resolves: true,
        ..Slow::default()
    });
    let (_, report) = run(&panel(Arc::clone(&model), Overlap::None), "W.", 3).await;
    assert!(report.consensus, "{report:?}");
    assert_eq!((report.rounds, report.turns.len()), (1, 4));
    assert_eq!(report.dissent, [""; 0]);
    let calls = model.calls.lock().unwrap();
    let last = calls.last().unwrap();
    assert_eq!(last.0, "panel_reporter");
    assert_eq!(
        last.2.matches("RESOLVED, it is answered.").count(),
        8,
        "all rulings"
    );
}

#[tokio::test(start_paused = true)]
async fn the_report_is_written_once() {
    let model = Arc::new(Slow::default());
    let (_, report) = run(&panel(Arc::clone(&model), Overlap::AfterClaims(3)), "W.", 3).await;
    assert_eq!(report.rounds, 2);
    let calls = model.calls.lock().unwrap();
    let reports = calls.iter().filter(|call| call.0 == "panel_reporter");
    assert_eq!(reports.count(), 1);
    let roles: Vec<&str> = report
        .turns
        .iter()
        .map(|turn| turn.agent.as_ref())
        .collect();
    let round = ["planner", "critic", "host"];
    assert_eq!(roles, [&round[..], &round[..], &["reporter"]].concat());
}

#[tokio::test(start_paused = true)]
async fn a_planner_that_fails_later_ends_the_discussion_with_what_there_is() {
    let model = Arc::new(Slow {
        broken_from: Some(("panel_planner", 2)),
        ..Slow::default()
    });
    let (_, report) = run(&panel(Arc::clone(&model), Overlap::AfterClaims(3)), "W.", 3).await;
    assert_eq!(report.degraded, ["planner"]);
    assert_eq!((report.rounds, report.turns.len()), (1, 4));
    assert!(report.report.contains("Still open:"), "{}", report.report);
    let calls = model.calls.lock().unwrap();
    let hosts = calls.iter().filter(|call| call.0 == "panel_host");
    assert_eq!(
        hosts.count(),
        1,
        "nobody discusses a plan that is not there"
    );
}

#[tokio::test(start_paused = true)]
async fn there_is_no_consensus_while_claims_are_not_reviewed() {
    let model = Arc::new(Slow {
        resolves: true,
        broken_from: Some(("panel_critic", 2)),
        ..Slow::default()
    });
    let (_, report) = run(&panel(Arc::clone(&model), Overlap::AfterClaims(3)), "W.", 1).await;
    assert!(!report.consensus);
}

#[tokio::test(start_paused = true)]
async fn a_round_that_changes_nothing_is_the_last() {
    let model = Arc::new(Slow::default());
    let (_, report) = run(&panel(Arc::clone(&model), Overlap::None), "W.", 3).await;
    assert_eq!(report.rounds, 2);
    let calls = model.calls.lock().unwrap();
    let planner = calls.iter().rfind(|call| call.0 == "panel_planner");
    assert!(planner.unwrap().2.contains("- This claim has no reason."));
}

#[tokio::test(start_paused = true)]
async fn the_rules_speak_for_an_agent_whose_model_fails_but_not_for_the_planner() {
    let text = "Plants turn light into sugar. This always works.";
    let broken = |purpose| {
        Arc::new(Slow {
            broken: Some(purpose),
            ..Slow::default()
        })
    };
    let (_, report) = run(
        &panel(broken("panel_critic"), Overlap::AfterClaims(2)),
        text,
        1,
    )
    .await;
    assert_eq!(report.degraded, ["critic"]);
    assert_eq!(report.turns.len(), 4);
    let call = CallContext::new(Scope::local());
    let panel = panel(broken("panel_planner"), Overlap::AfterClaims(2));
    let mut events = panel.discuss(call, discussion(text, 1));
    let mut failed = false;
    while let Some(event) = events.next().await {
        failed |= event.is_err();
    }
    assert!(failed);
}

#[tokio::test]
async fn without_a_model_the_rules_discuss_in_the_persons_language() {
    let panel = Panel::new(Seats::all(&Mind::Offline), PanelConfig::default()).unwrap();
    let text = "Vaccines train the immune system. They always work for everybody. Mitochondria need ATP synthase.";
    let (events, report) = run(&panel, text, 3).await;
    assert_eq!((report.rounds, report.provider.as_str()), (1, "offline"));
    assert!(
        report.turns[0]
            .text
            .starts_with("1. Vaccines train the immune system.\n2. ")
    );
    assert!(!report.dissent.is_empty());
    for dissent in &report.dissent {
        assert!(report.report.contains(dissent.as_str()), "{report:?}");
    }
    let said: String = events
        .iter()
        .filter_map(|event| match event {
            PanelEvent::Text(turn) if turn.agent.as_ref() == "reporter" => Some(turn.text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(said, report.report, "what was streamed is the report");
    let (_, chinese) = run(&panel, "疫苗训练免疫系统。它对所有人永远有效。", 1).await;
    assert!(chinese.report.contains("没有模型参与"), "{chinese:?}");
}
