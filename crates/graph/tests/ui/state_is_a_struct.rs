use lyceum_graph::State;

#[derive(State, Clone, Default)]
enum Choice {
    #[default]
    A,
}

fn main() {}
