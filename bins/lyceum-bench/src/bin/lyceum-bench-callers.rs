//! One process of callers of `bench queue --real`: `ORDERS`, as JSON.

use std::env;

use anyhow::{Context, Result};

fn main() -> Result<()> {
    let orders = env::args().nth(1).context("ORDERS")?;
    lyceum_bench::queue::call(&orders)
}
