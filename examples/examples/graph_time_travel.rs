//! Time travel: look at every step of a run, go back to one, and take another way.
//!
//! ```console
//! cargo run -p lyceum-examples --example graph_time_travel
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use anyhow::Context as _;
use lyceum_graph::{
    Answers, Context, END, Graph, GraphBuilder, HistoryQuery, MemorySaver, Metadata, NodeError,
    RunConfig, START, Snapshot, State, ThreadId,
};
use serde_json::json;

#[derive(State, Clone, Debug, Default)]
struct Story {
    hero: String,
    #[state(append)]
    lines: Vec<String>,
}

async fn begin(story: Arc<Story>, _: Context) -> Result<StoryUpdate, NodeError> {
    Ok(StoryUpdate::new().lines([format!("{} sets out", story.hero)]))
}

async fn meet(story: Arc<Story>, _: Context) -> Result<StoryUpdate, NodeError> {
    Ok(StoryUpdate::new().lines([format!("{} meets a dragon", story.hero)]))
}

async fn end(story: Arc<Story>, _: Context) -> Result<StoryUpdate, NodeError> {
    Ok(StoryUpdate::new().lines([format!("{} comes home", story.hero)]))
}

fn show(snapshots: &[Snapshot<Story>]) {
    for Snapshot {
        checkpoint,
        state,
        next,
        ..
    } in snapshots
    {
        let parent = checkpoint.parent.map_or(0, |parent| parent.0);
        let last = state.lines.last().map_or("(nothing yet)", String::as_str);
        println!(
            "  checkpoint {} after {parent}, step {}: {last}; next: {next:?}",
            checkpoint.id, checkpoint.step
        );
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let graph: Graph<Story> = GraphBuilder::new()
        .node("begin", begin)
        .node("meet", meet)
        .node("end", end)
        .edge(START, "begin")
        .edge("begin", "meet")
        .edge("meet", "end")
        .edge("end", END)
        .compile()?;
    let thread = graph.thread(Arc::new(MemorySaver::new()), ThreadId::new("story")?);
    // Whatever is attached to a run's checkpoints can be searched for.
    let label = |name: &str| Metadata::from_iter([("version".to_owned(), json!(name))]);

    let first = RunConfig::default().metadata(label("first"));
    let input = StoryUpdate::new().hero("Ada");
    let told = thread.run(input, first).await?;
    println!("The first version:");
    show(&thread.snapshots(&HistoryQuery::new()).await?);

    // The checkpoint after which the dragon is met.
    let all = thread.search(&HistoryQuery::new()).await?;
    let before = all.iter().find(|head| head.step == 1);
    let before = before.context("no such step")?.id;

    // Go back there, change the state as if `begin` had written it, and run on.
    let back = thread.at(before).metadata(label("second"));
    let update = StoryUpdate::new().hero("Grace");
    back.update(update, Some(&"begin".into())).await?;
    let second = RunConfig::default().metadata(label("second"));
    let retold = thread.resume(Answers::None, second).await?;
    println!("Another way, from checkpoint {before}:");
    let branch = HistoryQuery::new().metadata("version", "second");
    show(&thread.snapshots(&branch).await?);

    assert_eq!(
        told.state.lines.last().map(String::as_str),
        Some("Ada comes home")
    );
    let lines = ["Ada sets out", "Grace meets a dragon", "Grace comes home"];
    assert_eq!(retold.state.lines, lines);
    // The first version is still there.
    let old = thread.snapshot(Some(all[0].id)).await?.context("kept")?;
    assert_eq!(old.state.lines, told.state.lines);
    Ok(())
}
