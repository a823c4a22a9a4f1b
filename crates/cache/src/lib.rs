#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`Cache`] is what callers use. [`CacheTier`] and [`Announcer`] are the ports of the tier that
//! processes share, [`InMemoryTier`] is their reference, and the feature `conformance` holds
//! the suite that an implementation must pass.
//!
//! Invariant: every key belongs to a tenant, and nothing found under one tenant's key was put
//! under another's. Deliberately absent: anything that must not be lost.

mod cache;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod error;
mod flight;
mod gate;
mod glob;
mod in_memory;
mod key;
mod local;
mod metrics;
mod recent;
mod shared;
mod stats;
mod tier;

pub use cache::{Cache, Invalidated, Looked};
pub use config::{CacheConfig, ConfigError};
pub use error::LoadError;
pub use glob::Glob;
pub use in_memory::InMemoryTier;
pub use key::{Key, MAX_KEY_BYTES, Namespace, NamespaceError, Selection};
pub use metrics::describe;
pub use stats::CacheStats;
pub use tier::{
    Announcements, Announcer, CacheTier, Heard, Invalidation, Origin, Stored, TierError, TierStats,
};
