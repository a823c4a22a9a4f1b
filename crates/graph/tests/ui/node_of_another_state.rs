use std::sync::Arc;

use lyceum_graph::{Context, END, Graph, GraphBuilder, NodeError, START, State};

#[derive(State, Clone, Default)]
struct Essay {
    text: String,
}

#[derive(State, Clone, Default)]
struct Order {
    receipt: String,
}

async fn pay(_: Arc<Order>, _: Context) -> Result<OrderUpdate, NodeError> {
    Ok(OrderUpdate::new().receipt("r"))
}

fn main() {
    let _: Graph<Essay> = GraphBuilder::new()
        .node("pay", pay)
        .edge(START, "pay")
        .edge("pay", END)
        .compile()
        .unwrap();
}
