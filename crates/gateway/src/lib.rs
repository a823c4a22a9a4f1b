#![doc = include_str!("../README.md")]
//!
//! Invariant: HTTP is spoken here and nowhere else; a status and a public text are
//! decided here and nowhere else. Deliberately absent: which student, which store,
//! which model, configuration files, the PROXY protocol, HTTP/3.

mod auth;
mod bell;
mod body;
mod catalog;
mod compat;
mod config;
mod dto;
mod edge;
mod error;
mod fenced;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
mod gateway;
pub mod langgraph;
mod metrics;
mod operator;
mod page;
mod routes;
mod server;
mod socket;
mod sse;
mod streams;
mod traffic;
mod usage;
mod whole;

pub use auth::{
    ApiKey, AuthConfig, ClaimScopes, ClaimTenant, IssuerConfig, IssuerError, IssuerKeys, KeyRules,
    KeyScope, TokenAlgorithm,
};
pub use catalog::Catalog;
pub use config::{GatewayConfig, Limits, ServerConfig};
pub use edge::{
    address::{ForwardedHeader, ProxyError, TrustedProxies},
    cache::ResponseCacheConfig,
    cors::{CorsOrigins, OriginError},
    rate::RateLimits,
};
pub use gateway::{Gateway, Info, Services};
pub use operator::{BandPart, BreakerPart, CostPart, Operator, Parts, QueuePart, QuotaPart};
pub use server::{
    Address, BindError, Bound, Server, Stopped,
    tls::{Tls, TlsError},
};
pub use usage::{AccountPart, Accounts, UsedPart};
