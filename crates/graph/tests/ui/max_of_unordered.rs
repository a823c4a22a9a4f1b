use lyceum_graph::State;

#[derive(Clone, Default, serde::Serialize, serde::Deserialize)]
struct Mark(u8);

#[derive(State, Clone, Default)]
struct Essay {
    #[state(max)]
    mark: Mark,
}

fn main() {}
