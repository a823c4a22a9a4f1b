use lyceum_graph::State;

#[derive(State, Clone, Default)]
struct Essay {
    #[state(append, merge)]
    notes: Vec<String>,
}

fn main() {}
