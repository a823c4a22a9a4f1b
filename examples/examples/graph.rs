//! A workflow without a language model: two steps side by side, a join, and a route.
//!
//! ```console
//! cargo run -p lyceum-examples --example graph
//! ```
//!
//! ```text
//!            ┌─ postage ──┐            ┌─ ship ─────────┐
//!  START ────┤            ├─ total ────┤                ├─── END
//!            └─ insurance ┘            └─ ask_approval ─┘
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use futures::StreamExt;
use lyceum_graph::{
    Context, END, EventKind, Graph, GraphBuilder, NodeError, RunConfig, START, State,
};

/// The state that all nodes share. Its attributes say how writes of one step are merged.
#[derive(State, Clone, Debug, Default)]
struct Parcel {
    weight_kg: u64,
    value_eur: u64,
    #[state(add)]
    cost_cents: u64, // postage and insurance both add to it, in the same step
    #[state(append)]
    notes: Vec<String>, // kept in the nodes' order, whichever finished first
    outcome: String, // no attribute: one writer a step, the last value counts
}

impl Parcel {
    fn new(weight_kg: u64, value_eur: u64) -> Self {
        Self {
            weight_kg,
            value_eur,
            ..Self::default()
        }
    }

    fn show(&self) {
        println!("  {}, after: {}", self.outcome, self.notes.join("; "));
    }
}

/// A node reads a snapshot and returns what it writes.
async fn postage(parcel: Arc<Parcel>, _: Context) -> Result<ParcelUpdate, NodeError> {
    let cents = 500 + 120 * parcel.weight_kg;
    let note = format!("postage for {} kg: {cents} cents", parcel.weight_kg);
    Ok(ParcelUpdate::new().cost_cents(cents).notes([note]))
}

async fn insurance(parcel: Arc<Parcel>, _: Context) -> Result<ParcelUpdate, NodeError> {
    let cents = parcel.value_eur;
    let note = format!("insurance of {} €: {cents} cents", parcel.value_eur);
    Ok(ParcelUpdate::new().cost_cents(cents).notes([note]))
}

async fn total(parcel: Arc<Parcel>, _: Context) -> Result<ParcelUpdate, NodeError> {
    Ok(ParcelUpdate::new().notes([format!("total: {} cents", parcel.cost_cents)]))
}

async fn ship(_: Arc<Parcel>, _: Context) -> Result<ParcelUpdate, NodeError> {
    Ok(ParcelUpdate::new().outcome("shipped"))
}

async fn ask_approval(_: Arc<Parcel>, _: Context) -> Result<ParcelUpdate, NodeError> {
    Ok(ParcelUpdate::new().outcome("waits for approval"))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let graph: Graph<Parcel> = GraphBuilder::new()
        .node("postage", postage)
        .node("insurance", insurance)
        .node("total", total)
        .node("ship", ship)
        .node("ask_approval", ask_approval)
        .edge(START, "postage")
        .edge(START, "insurance")
        .join(["postage", "insurance"], "total") // once, after both
        .route("total", ["ship", "ask_approval"], |parcel: &Parcel| {
            match parcel.cost_cents {
                0..=2_000 => "ship",
                _ => "ask_approval",
            }
        })
        .edge("ship", END)
        .edge("ask_approval", END)
        .compile()?; // an unknown or unreachable node is found here, not while it runs

    println!("A cheap parcel, event by event:");
    let books = Parcel::new(4, 60);
    let mut events = graph.stream(books, RunConfig::default());
    while let Some(event) = events.next().await {
        let event = event?;
        match event.kind {
            EventKind::Started { node, .. } => println!("  step {}: {node} begins", event.step),
            EventKind::Finished(output) => {
                output.state.show();
                assert_eq!(output.state.cost_cents, 500 + 480 + 60);
                assert_eq!(output.state.outcome, "shipped");
            }
            _ => {}
        }
    }

    println!("A dear one, only its end:");
    let violin = Parcel::new(3, 9_000);
    let output = graph.run(violin, RunConfig::default()).await?;
    output.state.show();
    assert_eq!(output.state.outcome, "waits for approval");
    Ok(())
}
