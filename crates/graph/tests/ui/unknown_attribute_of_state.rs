//! A state knows one attribute of its own.

use lyceum_graph::State;

#[derive(State, Clone, Default)]
#[state(json)]
struct Essay {
    text: String,
}

fn main() {}
