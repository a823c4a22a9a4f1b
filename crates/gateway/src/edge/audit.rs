//! Who did what, for those who must know it later: log lines of the target `audit`.
//!
//! Invariant: one line for each refusal of a key or an origin, for each write with a key and
//! for each erasure; none holds a key, a body or a path. Who reads them is the operator's
//! choice, by the log filter.

use super::Passage;
use crate::auth::Caller;

/// A request whose answer is known.
pub(super) struct Audited<'a> {
    pub(super) method: &'static str,
    pub(super) endpoint: &'a str,
    pub(super) status: u16,
}

/// Writes the line of what was asked for over a connection that stays open.
pub(crate) fn frame(caller: &Caller, endpoint: &'static str) {
    let Some(key) = caller.key.as_deref() else {
        return;
    };
    let (tenant, user) = (caller.scope.tenant.as_str(), caller.scope.user.as_str());
    tracing::info!(target: "audit", event = "write", method = "FRAME", endpoint, key, tenant, user, "audit");
}

/// Writes the line of a request, where it has one. It stands in the request's span, which
/// names the request.
pub(super) fn note(audited: &Audited<'_>, passage: &Passage) {
    let Audited {
        method,
        endpoint,
        status,
    } = *audited;
    let caller = passage.caller.as_ref();
    let key = caller.and_then(|caller| caller.key.as_deref());
    let is_write = !matches!(method, "GET" | "HEAD" | "OPTIONS");
    let event = match status {
        401 | 403 => "refused",
        _ if method == "DELETE" => "erase",
        _ if is_write && key.is_some() => "write",
        _ => return,
    };
    let client = passage.client.map(|client| client.to_string());
    let tenant = caller.map(|Caller { scope, .. }| scope.tenant.as_str());
    let user = caller.map(|Caller { scope, .. }| scope.user.as_str());
    tracing::info!(
        target: "audit",
        event, method, endpoint, status, key, tenant, user, client, "audit"
    );
}
