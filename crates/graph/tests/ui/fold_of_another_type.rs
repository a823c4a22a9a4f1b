use lyceum_graph::State;

#[derive(State, Clone, Default)]
struct Essay {
    #[state(fold = longest, write = String)]
    words: usize,
}

fn longest(words: &mut usize, write: u8) {
    *words = (*words).max(write.into());
}

fn main() {}
