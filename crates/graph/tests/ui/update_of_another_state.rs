use std::sync::Arc;

use lyceum_graph::{Context, GraphBuilder, NodeError, State};

#[derive(State, Clone, Default)]
struct Essay {
    text: String,
}

async fn write(_: Arc<Essay>, _: Context) -> Result<String, NodeError> {
    Ok("text".to_owned())
}

fn main() {
    let _ = GraphBuilder::<Essay>::new().node("write", write);
}
