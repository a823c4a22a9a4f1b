#![doc = include_str!("../README.md")]

mod ledger;
mod listener;
mod server;
mod tier;

pub use ledger::RedisLedger;
pub use server::{AddressError, RedisServer};
pub use tier::{PrefixError, RedisTier};
