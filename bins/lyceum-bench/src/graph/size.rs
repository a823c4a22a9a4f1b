//! What a superstep writes to disk: it should follow what changed, not what there is.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result};
use lyceum_graph::{Context, END, GraphBuilder, NodeError, RunConfig, START, State, ThreadId};
use tempfile::TempDir;

use super::savers::{Kind, Opened};
use crate::{
    Options,
    report::{Figures, say},
};

/// Steps of a run.
const STEPS: u64 = 200;

/// A large field that never changes beside a small one that does.
#[derive(State, Clone, Debug, Default)]
struct Book {
    page: u64,
    text: String,
}

async fn turn(book: Arc<Book>, _: Context) -> Result<BookUpdate, NodeError> {
    Ok(BookUpdate::new().page(book.page + 1))
}

/// Measures steps beside 100 bytes and beside 100 kilobytes that stay as they are.
pub(super) fn run(figures: Figures, options: &Options, home: &TempDir) -> Result<()> {
    for (name, bytes) in [
        ("change-beside-100-b", 100),
        ("change-beside-100-kb", 100_000),
    ] {
        if options.wants(name) {
            say(name);
            one(figures, home, name, bytes)?;
        }
    }
    Ok(())
}

fn one(figures: Figures, home: &TempDir, name: &str, bytes: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let graph = GraphBuilder::new()
        .node("turn", turn)
        .edge(START, "turn")
        .route("turn", ["turn", END], |book: &Book| match book.page {
            0..STEPS => "turn",
            _ => END,
        })
        .compile()?;
    let opened = runtime.block_on(Opened::open(Kind::Sqlite, home))?;
    let saver = opened.saver().context("a saver")?;
    let thread = graph.thread(saver, ThreadId::new("book")?);
    let text = "x".repeat(bytes);
    let before = written_bytes()?;
    let config = RunConfig::default().step_limit(STEPS);
    runtime.block_on(thread.run(Book { page: 0, text }, config))?;
    let written = written_bytes()?.saturating_sub(before);
    let file = runtime.block_on(opened.close());
    let per_step = |total: u64| total as f64 / STEPS as f64;
    figures.print(name, "written_per_step", per_step(written), "bytes", None)?;
    let kept = file.saturating_sub(bytes as u64);
    figures.print(name, "kept_per_step", per_step(kept), "bytes", None)
}

/// Bytes that this process has given to write calls.
fn written_bytes() -> Result<u64> {
    let text = fs::read_to_string("/proc/self/io").context("read /proc/self/io (Linux only)")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    Ok(line.context("find wchar in /proc/self/io")?.parse()?)
}
