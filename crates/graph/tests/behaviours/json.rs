//! Graphs as somebody sees and writes them who does not know their types.

use std::sync::Arc;

use futures_util::StreamExt as _;
use lyceum_graph::{
    Answers, AnyGraph, Command, Context, END, EventKind, Graph, GraphBuilder, MemorySaver,
    Metadata, Mode, Namespace, NodeName, Part, RunConfig, RunError, START, Scope, State, Status,
    ThreadId,
};
use serde_json::{Value, json};

#[derive(State, Clone, Debug, Default)]
struct Trip {
    #[state(append)]
    log: Vec<String>,
    city: Option<String>,
}

fn said(text: &str) -> TripUpdate {
    TripUpdate::new().log([text.to_owned()])
}

/// `plan` → `go`, which stops before `visit`, as a node of an outer graph.
fn graph() -> Graph<Trip> {
    let inner = GraphBuilder::<Trip>::new()
        .node("plan", async |_, _| {
            Ok(TripUpdate::new().city(Some("Bern".to_owned())))
        })
        .node("visit", async |trip: Arc<Trip>, _| {
            Ok(said(trip.city.as_deref().unwrap_or_default()))
        })
        .edge(START, "plan")
        .edge("plan", "visit")
        .edge("visit", END)
        .interrupt_before("visit")
        .compile();
    let graph = GraphBuilder::<Trip>::new()
        .subgraph(
            "go",
            inner.unwrap(),
            |_: &Trip| TripUpdate::new(),
            |inner: &Trip| TripUpdate::new().log(inner.log.clone()),
        )
        .node("ask", async |_: Arc<Trip>, ctx: Context| {
            let answer: String = ctx.interrupt("ask", "more?").await?;
            Ok(said(&answer))
        })
        .edge(START, "go")
        .edge("go", "ask")
        .edge("ask", END)
        .compile();
    graph.unwrap()
}

fn part(saver: &Arc<MemorySaver>, namespace: Namespace) -> Part {
    Part {
        saver: saver.clone(),
        thread: ThreadId::new("t").unwrap(),
        namespace,
    }
}

#[tokio::test]
async fn the_state_of_a_subgraph_is_read_and_corrected_while_it_stops() {
    let (graph, saver) = (graph(), Arc::new(MemorySaver::new()));
    let thread = graph.thread(saver.clone(), ThreadId::new("t").unwrap());
    let config = RunConfig::<()>::default;
    let output = thread.run(TripUpdate::new(), config()).await.unwrap();
    assert_eq!(output.status, Status::Paused);
    let root = part(&saver, Namespace::default());
    let outer = graph.read(root.clone(), None).await.unwrap().unwrap();
    let scope = Scope {
        node: "go".into(),
        sent: None,
        task: outer.tasks[0].id,
    };
    let inside = part(&saver, Namespace::of([scope]));
    let (name, inner) = graph.subgraphs().remove(0);
    assert_eq!(name, NodeName::from("go"));
    let seen = inner.read(inside.clone(), None).await.unwrap().unwrap();
    assert_eq!(seen.state, json!({ "log": [], "city": "Bern" }));
    assert_eq!(seen.tasks[0].node, NodeName::from("visit"));
    let update = json!({ "city": "Basel" });
    let written = inner.write(inside.clone(), None, update, None, Metadata::new());
    written.await.unwrap();
    let history = inner.history(inside, None, 10).await.unwrap();
    assert_eq!(history.len(), 3, "{history:?}");
    // Another call of the subgraph has nothing there.
    let other = Scope {
        node: "go".into(),
        sent: None,
        task: "0".repeat(32).parse().unwrap(),
    };
    let other = part(&saver, Namespace::of([other]));
    assert!(inner.read(other, None).await.unwrap().is_none());
    let output = thread.resume(Answers::None, config()).await.unwrap();
    assert_eq!(output.status, Status::Interrupted);
    assert_eq!(output.state.log, ["Basel"]);
    let refused = graph.write(root, None, json!({ "nonsense": 1 }), None, Metadata::new());
    assert!(matches!(refused.await, Err(RunError::Refused { .. })));
}

#[tokio::test]
async fn a_resumed_run_tells_where_it_goes_on_and_may_write_and_go_elsewhere() {
    let (graph, saver) = (graph(), Arc::new(MemorySaver::new()));
    let thread = graph.thread(saver, ThreadId::new("t").unwrap());
    let config = RunConfig::<()>::default;
    thread.run(TripUpdate::new(), config()).await.unwrap();
    let modes = config().modes([Mode::Resumed]);
    let events: Vec<_> = thread.resume_stream(Answers::None, modes).collect().await;
    let resumed = events.iter().filter_map(|event| {
        let event = event.as_ref().unwrap();
        match &event.kind {
            EventKind::Resumed(stored) => {
                let next = stored.next.iter().map(|task| task.node.to_string());
                Some((event.namespace.to_string(), next.collect::<Vec<_>>()))
            }
            _ => None,
        }
    });
    let resumed: Vec<_> = resumed.collect();
    let (outer, inner) = (vec!["go".to_owned()], vec!["visit".to_owned()]);
    assert_eq!(resumed, [(String::new(), outer), ("go".to_owned(), inner)]);
    let command = Command::update(said("packed")).and_goto("ask");
    let answers = Answers::Only("yes".into());
    let events = thread.command_stream(answers, command, config());
    let last = events.collect::<Vec<_>>().await.pop().unwrap().unwrap();
    let EventKind::Finished(output) = last.kind else {
        panic!("{last:?}");
    };
    // The node is planned already: it runs once.
    assert_eq!(output.state.log, ["Bern", "packed", "yes"]);
    let outside = Command::update(said("left")).and_goto("go");
    thread.command(outside).await.unwrap();
    let snapshot = thread.snapshot(None).await.unwrap().unwrap();
    assert_eq!(snapshot.next, [NodeName::from("go")]);
    let unknown = Command::<Trip>::goto("nowhere");
    let unknown = thread.command(unknown).await;
    assert!(matches!(unknown, Err(RunError::UnknownInPlan { .. })));
    let read: Value = AnyGraph::empty(&graph);
    assert_eq!(read, json!({ "log": [], "city": null }));
}
