#![doc = include_str!("../README.md")]

mod encoder;
mod error;
mod network;
mod worker;

pub use encoder::{BUNDLED, Encoder};
pub use error::OpenError;
