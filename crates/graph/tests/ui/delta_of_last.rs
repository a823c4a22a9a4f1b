use lyceum_graph::State;

#[derive(State, Clone, Default)]
struct Essay {
    #[state(delta)]
    notes: Vec<String>,
}

fn main() {}
