#![doc = include_str!("../README.md")]

mod encoder;
mod error;
mod network;
mod reader;
mod worker;

pub use encoder::{BUNDLED, Encoder};
pub use error::OpenError;
pub use reader::{Read, ReadError, Reader};
