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
mod threads;
mod tokenizer;
mod weights;

pub use error::OpenError;
pub use model::{LocalConfig, LocalCounters, LocalModel};
pub use threads::{THREADS_VARIABLE, recommended_threads, threads};
