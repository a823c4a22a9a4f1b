#![doc = include_str!("../README.md")]
//!
//! # Map
//!
//! [`KeyRing`] seals bytes at a [`place`]. [`Masters`] makes and opens the [`Wrapped`] keys of a
//! tenant; [`TenantKeys`] is what they open to. [`Texts`] are how the rows of a store keep what
//! belongs to a tenant, clear or sealed; [`OpenedKeys`] makes them; [`places`] are where they
//! stand. [`Rotation`] says which keys a change of keys makes, wraps anew and destroys.
//!
//! Invariant: no key is ever shown or left in freed memory by this crate's own types.
//! Deliberately absent: where keys are kept, and any decision when to change them.

mod masters;
pub mod places;
mod ring;
mod rotation;
mod rows;
mod tenant;

pub use masters::{Clear, Masters, Wrapped};
pub use ring::{KeyRing, OpenError, SealError, place};
pub use rotation::{Beginning, Ending, Keyed, Rotation};
pub use rows::{At, Encryption, OpenedKeys, SealedRow, Texts, Unsealed, Words};
pub use tenant::TenantKeys;
