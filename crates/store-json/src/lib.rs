#![doc = include_str!("../README.md")]

mod files;
mod store;

pub use files::OpenError;
pub use store::JsonStore;
