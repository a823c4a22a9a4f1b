use lyceum_graph::State;

#[derive(State, Clone, Default)]
struct Essay {
    #[state(append, write = String)]
    notes: Vec<String>,
}

fn main() {}
