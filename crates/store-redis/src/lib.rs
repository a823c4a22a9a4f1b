#![doc = include_str!("../README.md")]

mod ledger;
mod server;

pub use ledger::RedisLedger;
pub use server::{AddressError, RedisServer};
