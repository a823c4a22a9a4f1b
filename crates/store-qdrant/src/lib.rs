#![doc = include_str!("../README.md")]

mod collection;
mod failure;
mod memories;
mod options;
mod point;
mod vectors;

pub use memories::QdrantMemories;
pub use options::{AddressError, QdrantOptions};
pub use vectors::{QdrantVectors, Reconciled};
