#![doc = include_str!("../README.md")]

mod engine;
mod error;
mod gguf;
mod llama;
mod model;
mod pipeline;
mod queue;
mod sampler;
mod template;
mod text;
mod tokenizer;
mod weights;

pub use error::OpenError;
pub use model::{LocalConfig, LocalCounters, LocalModel};

/// The number of threads that one answer uses, the inference thread included.
///
/// candle has one pool for the process and sizes it at its first use, from
/// `CANDLE_NUM_THREADS`, else `RAYON_NUM_THREADS`, else the number of physical cores.
/// Inside a container with a CPU quota, set the variable to the quota: threads beyond the
/// free cores slow every answer down many times.
#[must_use]
pub fn threads() -> usize {
    candle_core::utils::barrier_pool().n_workers() + 1
}
