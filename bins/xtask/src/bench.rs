//! The benchmarks, by name.

use anyhow::{Result, bail};

/// Runs one benchmark.
pub(crate) fn run(name: &str) -> Result<()> {
    bail!("there is no benchmark {name:?}; there is: smoke")
}
