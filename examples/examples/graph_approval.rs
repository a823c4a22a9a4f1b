//! A workflow that waits for a person, in a file, while no process runs.
//!
//! ```console
//! cargo run -p lyceum-examples --example graph_approval
//! ```
//!
//! One process asks and ends. Another one, started later, reads the question from the file,
//! answers it, and the workflow goes on where it stopped. By hand, with a file of your own:
//!
//! ```console
//! cargo run -p lyceum-examples --example graph_approval -- ask /tmp/orders.db
//! cargo run -p lyceum-examples --example graph_approval -- answer /tmp/orders.db yes
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::{path::Path, process::Command, sync::Arc};

use anyhow::{Context as _, bail, ensure};
use lyceum_graph::{
    Answers, Context, END, GraphBuilder, NodeError, RunConfig, START, State, Status, Thread,
    ThreadId,
};
use lyceum_store_sqlite::{SqliteOptions, SqliteStore};

#[derive(State, Clone, Debug, Default)]
struct Order {
    item: String,
    price_eur: u32,
    receipt: String,
}

async fn price(order: Arc<Order>, _: Context) -> Result<OrderUpdate, NodeError> {
    println!("  looking up the price of {}", order.item);
    Ok(OrderUpdate::new().price_eur(30u32))
}

async fn pay(order: Arc<Order>, ctx: Context) -> Result<OrderUpdate, NodeError> {
    let question = format!("pay {} € for {}?", order.price_eur, order.item);
    // The first time, the run ends here. With an answer the node starts again from its top
    // and this line returns.
    let answer: String = ctx.interrupt("approve", question).await?;
    if answer != "yes" {
        return Ok(OrderUpdate::new().receipt("declined"));
    }
    // Recorded as soon as it is done, so that a crash after it does not pay twice; the id is
    // the bank's idempotency key for a crash during it.
    let receipt = ctx.once("charge", async |id| Ok(format!("paid, {}", id.as_str())));
    Ok(OrderUpdate::new().receipt(receipt.await?))
}

fn thread(file: &Path) -> anyhow::Result<Thread<Order>> {
    let graph = GraphBuilder::new()
        .node("price", price)
        .node("pay", pay)
        .edge(START, "price")
        .edge("price", "pay")
        .edge("pay", END)
        .compile()?;
    let store = SqliteStore::open(file, SqliteOptions::default())?;
    Ok(graph.thread(Arc::new(store), ThreadId::new("order-7")?))
}

async fn ask(file: &Path) -> anyhow::Result<()> {
    let order = OrderUpdate::new().item("tea");
    let output = thread(file)?.run(order, RunConfig::default()).await?;
    ensure!(output.status == Status::Interrupted);
    println!("  it asks: {}", output.interrupts[0].payload);
    Ok(())
}

async fn answer(file: &Path, words: &str) -> anyhow::Result<()> {
    let thread = thread(file)?;
    let waiting = thread.snapshot(None).await?.context("no such order")?;
    for asked in &waiting.interrupts {
        println!("  {} still asks: {}", asked.node, asked.payload);
    }
    let answers = Answers::Only(words.into());
    let output = thread.resume(answers, RunConfig::default()).await?;
    println!("  receipt: {}", output.state.receipt);
    ensure!(output.status == Status::Done && output.steps == 1);
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["ask", file] => ask(Path::new(file)).await,
        ["answer", file, words] => answer(Path::new(file), words).await,
        [] => {
            let folder = tempfile::tempdir()?;
            let file = folder.path().join("orders.db");
            let this = std::env::current_exe()?;
            for (what, words) in [("ask", None), ("answer", Some("yes"))] {
                println!("A process of its own: {what}");
                let mut process = Command::new(&this);
                process.arg(what).arg(&file).args(words);
                ensure!(process.status()?.success(), "{what} failed");
            }
            Ok(())
        }
        _ => bail!("usage: graph_approval [ask FILE | answer FILE WORDS]"),
    }
}
