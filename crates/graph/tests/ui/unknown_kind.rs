use lyceum_graph::State;

#[derive(State, Clone, Default)]
struct Essay {
    #[state(apend)]
    notes: Vec<String>,
}

fn main() {}
