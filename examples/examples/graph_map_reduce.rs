//! Map-reduce: one task per part, as many as there are, and an observer that times them.
//!
//! ```console
//! cargo run -p lyceum-examples --example graph_map_reduce
//! ```
//!
//! ```text
//!                     ┌─ count ─┐
//!  START ── split ────┼─ count ─┼──── total ── END
//!                     └─ count ─┘
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{
    collections::BTreeMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use lyceum_graph::{
    Command, Context, END, Graph, GraphBuilder, Moment, MomentKind, NodeError, Observer, RunConfig,
    START, State, Worker,
};

#[derive(State, Clone, Debug, Default)]
struct Text {
    pages: Vec<String>,
    #[state(fold = count_up, write = Vec<String>)]
    counts: BTreeMap<String, u32>, // every task writes its words; the fold counts them
    commonest: String,
}

fn count_up(counts: &mut BTreeMap<String, u32>, words: Vec<String>) {
    for word in words {
        *counts.entry(word).or_default() += 1;
    }
}

/// Names the node and the type of what it is sent, so that both ends agree.
const COUNT: Worker<usize> = Worker::new("count");

/// One task of `count` for each page, in one step.
async fn split(text: Arc<Text>, _: Context) -> Result<Command<Text>, NodeError> {
    let sends = (0..text.pages.len()).map(|page| COUNT.send(&page));
    Ok(sends.collect::<Result<Vec<_>, _>>()?.into())
}

async fn count(page: usize, text: Arc<Text>, _: Context) -> Result<TextUpdate, NodeError> {
    // A later page is shorter work: the result does not depend on who is done first.
    let work = Duration::from_millis(5 * (text.pages.len() - page) as u64);
    tokio::time::sleep(work).await;
    let words = text.pages[page].split_whitespace().map(str::to_owned);
    Ok(TextUpdate::new().counts(words.collect::<Vec<_>>()))
}

async fn total(text: Arc<Text>, _: Context) -> Result<TextUpdate, NodeError> {
    let commonest = text.counts.iter().max_by_key(|(_, count)| **count);
    let word = commonest.map(|(word, _)| word.clone()).unwrap_or_default();
    Ok(TextUpdate::new().commonest(word))
}

/// Adds up where the time goes. It is told by the run itself, so it must be quick.
#[derive(Default)]
struct Times(Mutex<BTreeMap<String, (u32, Duration)>>);

impl Observer for Times {
    fn observe(&self, moment: &Moment<'_>) {
        if let MomentKind::NodeEnded { attempt, took } = moment.kind {
            let mut times = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (calls, total) = times.entry(attempt.node.to_string()).or_default();
            *calls += 1;
            *total += took;
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let graph: Graph<Text> = GraphBuilder::new()
        .node("split", split)
        .worker(COUNT, count)
        .node("total", total)
        .edge(START, "split")
        .destinations("split", ["count"]) // checked: a send elsewhere is an error
        .edge("count", "total") // once, after all of the step's tasks
        .edge("total", END)
        .compile()?;

    let pages = ["tea is old", "tea is bitter", "old tea", "is tea green"];
    let text = Text {
        pages: pages.map(str::to_owned).to_vec(),
        ..Text::default()
    };
    let times = Arc::new(Times::default());
    let config = RunConfig::default()
        .max_concurrency(NonZeroUsize::MIN.saturating_add(2)) // three at once
        .observe(times.clone());
    let output = graph.run(text, config).await?;

    println!("{:?}", output.state.counts);
    assert_eq!(output.state.commonest, "tea");
    assert_eq!((output.state.counts["tea"], output.steps), (4, 3));
    for (node, (calls, took)) in &*times.0.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("{node:>6}: {calls} calls, {took:?}");
    }
    Ok(())
}
