use lyceum_graph::{Barrier, State};

#[derive(State, Clone, Default)]
struct Paper {
    #[state(barrier)]
    reviews: Barrier<String>,
}

fn main() {}
