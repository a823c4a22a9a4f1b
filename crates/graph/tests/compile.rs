//! Mistakes that `compile` finds, and how it words them.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]

use std::sync::Arc;

use lyceum_graph::{
    CompileError, Context, END, Graph, GraphBuilder, NodeError, RunConfig, START, State,
};

#[derive(State, Clone, Default)]
struct Empty {}

async fn idle(_: Arc<Empty>, _: Context) -> Result<(), NodeError> {
    Ok(())
}

/// A graph of idle nodes.
fn nodes<const N: usize>(names: [&str; N]) -> GraphBuilder<Empty> {
    names
        .into_iter()
        .fold(GraphBuilder::new(), |builder, name| {
            builder.node(name, idle)
        })
}

fn error(builder: GraphBuilder<Empty>) -> String {
    builder.compile().unwrap_err().to_string()
}

#[test]
fn names_are_checked_and_a_near_one_is_suggested() {
    let builder = nodes(["critic"]).edge(START, "critc").edge("critic", END);
    assert_eq!(
        error(builder),
        "compile the graph: __start__ leads to or from the unknown node critc; did you mean critic?"
    );
    let builder = nodes(["critic"]).edge(START, "xyz").edge("critic", END);
    assert!(error(builder).ends_with("the unknown node xyz"));
    let builder = nodes(["a", "a"]).edge(START, "a").edge("a", END);
    assert_eq!(error(builder), "compile the graph: two nodes are called a");
    assert!(error(nodes([END])).ends_with("the name __end__ is reserved"));
    let routed = |target| {
        nodes(["a"])
            .edge(START, "a")
            .edge("a", END)
            .route("a", [target], |_: &Empty| END)
    };
    assert!(error(routed("b")).contains("unknown node b"));
    assert!(routed("a").compile().is_ok());
}

#[test]
fn every_node_lies_on_a_path_from_start_to_end() {
    assert!(error(nodes(["a"]).edge("a", END)).ends_with("no edge leaves START"));
    let builder = nodes(["a", "b"])
        .edge(START, "a")
        .edge("a", END)
        .edge("b", "a");
    assert!(error(builder).contains("node b cannot be reached"));
    let builder = nodes(["a", "b"])
        .edge(START, "a")
        .edge("a", "b")
        .edge("b", "a");
    assert!(error(builder).contains("node a cannot reach END"));
    let builder = nodes(["a", "b"])
        .edge(START, "a")
        .edge(START, "b")
        .edge("a", END);
    assert!(error(builder).contains("node b cannot reach END"));
    assert!(error(nodes(["a"]).edge(START, "a").edge(END, "a")).contains("wrong way round"));
}

#[test]
fn a_join_has_distinct_sources() {
    let graph = || {
        nodes(["a", "b"])
            .edge(START, "a")
            .edge(START, "b")
            .edge("b", END)
    };
    let none: [&str; 0] = [];
    assert!(error(graph().join(none, "b")).contains("has no sources"));
    assert!(error(graph().join(["a", "a"], "b")).contains("names a twice"));
    assert!(error(graph().join([START], "b")).contains("wrong way round"));
    assert!(matches!(
        graph().join(["a", "c"], "b").compile().unwrap_err(),
        CompileError::UnknownNode { .. }
    ));
    assert!(graph().join(["a"], END).compile().is_ok());
}

#[test]
fn a_drawing_shows_every_edge_a_run_can_take() {
    let graph = nodes(["a", "b \"q\"", "c"])
        .edge(START, "a")
        .edge(START, "c")
        .route("a", ["b \"q\"", END], |_: &Empty| END)
        .join(["a", "b \"q\""], "c")
        .edge("c", END)
        .compile()
        .unwrap();
    assert_eq!(
        graph.to_mermaid(),
        "flowchart TD\n    start([start])\n    finish([end])\n    n0[\"a\"]\n    \
         n1[\"b #quot;q#quot;\"]\n    n2[\"c\"]\n    start --> n0\n    start --> n2\n    \
         n0 -.-> n1\n    n0 ==> n2\n    n0 -.-> finish\n    n1 ==> n2\n    n2 --> finish\n"
    );
    let edges = graph.edges();
    let ends = |edge: &lyceum_graph::Edge| edge.from.as_str() == "a" && edge.to.as_str() == END;
    let end = edges.iter().find(|edge| ends(edge)).unwrap();
    assert_eq!((edges.len(), end.kind), (7, lyceum_graph::EdgeKind::Chosen));
    let dot = graph.to_dot();
    assert!(
        dot.contains("n1 [shape=box label=\"b \\\"q\\\"\"]"),
        "{dot}"
    );
    assert!(
        dot.contains("n0 -> n2 [style=bold]\n    n0 -> finish [style=dashed]"),
        "{dot}"
    );
}

#[test]
fn a_join_whose_source_runs_only_after_it_is_found() {
    let builder = nodes(["a", "b", "c"])
        .edge(START, "a")
        .join(["a", "b"], "c")
        .edge("c", "b")
        .edge("b", END);
    assert_eq!(
        error(builder),
        "compile the graph: the join into c never fires, as b only runs after it"
    );
    let builder = nodes(["a", "b", "c", "d"])
        .edge(START, "a")
        .edge(START, "b")
        .join(["a", "b"], "c")
        .join(["c", "a"], "d")
        .edge("d", END)
        .edge("c", "a");
    assert!(builder.compile().is_ok(), "joins in a row fire");
}

#[derive(State, Clone, Default)]
struct Essay {
    text: String,
    #[state(append)]
    notes: Vec<String>,
}

fn essay<const N: usize>(names: [&str; N]) -> GraphBuilder<Essay> {
    async fn idle(_: Arc<Essay>, _: Context) -> Result<(), NodeError> {
        Ok(())
    }
    let builder = GraphBuilder::new();
    names
        .into_iter()
        .fold(builder, |builder, name| builder.node(name, idle))
}

#[test]
fn two_declared_writers_of_one_step_are_found() {
    let fork = || {
        essay(["a", "b", "c", "d"])
            .edge(START, "a")
            .edge("a", "b")
            .edge("a", "c")
            .edge("c", "d")
            .join(["b", "d"], END)
    };
    let compile = |builder: GraphBuilder<Essay>| builder.compile().map_err(|e| e.to_string());
    let builder = fork().writes("b", ["text"]).writes("c", ["text", "notes"]);
    assert_eq!(
        compile(builder).unwrap_err(),
        "compile the graph: b and c run in one step and both write text; \
         give the field a reducer, e.g. #[state(append)]"
    );
    let notes = fork().writes("b", ["notes"]).writes("c", ["notes"]);
    assert!(compile(notes).is_ok(), "a reducer takes both");
    let later = fork().writes("b", ["text"]).writes("d", ["text"]);
    assert!(compile(later).is_ok(), "d runs a step later");
    let longer = essay(["a", "b", "c", "d"])
        .edge(START, "a")
        .edge(START, "b")
        .edge("a", "c")
        .edge("b", "d")
        .edge("c", END)
        .edge("d", END)
        .writes("c", ["text"])
        .writes("d", ["text"]);
    assert!(
        compile(longer)
            .unwrap_err()
            .contains("c and d run in one step")
    );
    let misspelt = fork().writes("b", ["txt"]);
    assert_eq!(
        compile(misspelt).unwrap_err(),
        "compile the graph: b declares to write the unknown field txt; did you mean text?"
    );
}

#[tokio::test]
async fn a_node_is_held_to_what_it_declares() {
    async fn write(_: Arc<Essay>, _: Context) -> Result<EssayUpdate, NodeError> {
        Ok(EssayUpdate::new().text("x").notes(["y".to_owned()]))
    }
    let run = async |fields: &[&str]| {
        let builder = GraphBuilder::new().node("write", write);
        let builder = builder.edge(START, "write").edge("write", END);
        let builder = builder.writes("write", fields.iter().copied());
        let graph: Graph<Essay> = builder.compile().unwrap();
        graph.run(Essay::default(), RunConfig::default()).await
    };
    assert_eq!(run(&["text", "notes"]).await.unwrap().state.text, "x");
    assert_eq!(
        run(&["text"]).await.unwrap_err().to_string(),
        "merge step 1: write wrote notes, which it does not declare to write"
    );
}
