//! What callers use and may still spend, told by whatever keeps the accounts.
//!
//! Deliberately absent: how it is counted. Money comes as text, because it is exact.

use std::fmt;

use lyceum_core::{Scope, TenantId, UserId};
use serde::Serialize;
use utoipa::ToSchema;

/// Keeps the accounts of what is used. It must not block.
pub trait Accounts: fmt::Debug + Send + Sync {
    /// Counts a request of a client.
    fn asked(&self, scope: &Scope);

    /// What a user used.
    fn user(&self, scope: &Scope) -> AccountPart;

    /// What a tenant used, with all its users.
    fn tenant(&self, tenant: &TenantId) -> AccountPart;

    /// What at most `most` tenants used whose names come after one, by name.
    fn tenants_after(&self, after: Option<&TenantId>, most: usize) -> Vec<(TenantId, AccountPart)>;

    /// What at most `most` users of a tenant used whose names come after one, by name.
    fn users_after(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        most: usize,
    ) -> Vec<(UserId, AccountPart)>;
}

/// What somebody used. Days and months are those of UTC.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct AccountPart {
    /// Since midnight.
    pub today: UsedPart,
    /// Since the first of the month.
    pub month: UsedPart,
    /// Set aside for calls under way, at most, in US dollars.
    #[schema(examples("0.00"))]
    pub held_usd: String,
    /// What may be spent in a day, in US dollars; absent where that is not limited.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_limit_usd: Option<String>,
    /// What is left of it, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day_left_usd: Option<String>,
}

/// What was used in a time.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct UsedPart {
    /// Requests, those of health and metrics aside.
    pub requests: u64,
    /// Calls of models that used tokens; an answer from a cache is none.
    pub model_calls: u64,
    /// All input tokens, cached ones included.
    pub input_tokens: u64,
    /// All output tokens.
    pub output_tokens: u64,
    /// The part of `input_tokens` that was read from the provider's prompt cache.
    pub cached_input_tokens: u64,
    /// What the calls cost, in US dollars, exactly.
    #[schema(examples("0.01665"))]
    pub cost_usd: String,
}
