//! One event for every call of a tool: who, what, how it ended.
//!
//! The target is `audit`, at the level INFO, so a log filter such as `audit=info` keeps the
//! trail alone. Arguments are told by their fingerprint and length only: they may hold what
//! a person wrote.

use std::time::Duration;

use lyceum_core::CallContext;
use serde_json::Value;

use crate::cache::fingerprint;

/// A call that ended.
#[derive(Debug)]
pub(crate) struct Ended<'a> {
    pub(crate) tool: &'a str,
    pub(crate) call: &'a CallContext,
    pub(crate) arguments: &'a Value,
    /// `ok`, `degraded` or an error's label.
    pub(crate) status: &'static str,
    /// Where the result came from: `tool`, `cache`, `shared`, `stale` or `default`.
    pub(crate) from: &'static str,
    pub(crate) chars: usize,
    pub(crate) took: Duration,
}

impl Ended<'_> {
    pub(crate) fn tell(&self) {
        if !tracing::enabled!(target: "audit", tracing::Level::INFO) {
            return;
        }
        let scope = &self.call.scope;
        tracing::info!(
            target: "audit",
            tool = self.tool,
            tenant = %scope.tenant,
            user = %scope.user,
            session = scope.session.as_ref().map(tracing::field::display),
            request_id = %self.call.request,
            arguments_sha256 = fingerprint(self.arguments),
            status = self.status,
            from = self.from,
            chars = self.chars,
            milliseconds = u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX),
            "tool called"
        );
    }
}
