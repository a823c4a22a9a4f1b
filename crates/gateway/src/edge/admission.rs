//! Who calls, and whether they may now.
//!
//! Invariant: a request that comes without a valid key or token reaches open routes only, and
//! what it may do was decided before its body is read.

use std::sync::{Arc, atomic::Ordering};

use axum::extract::Request;
use http::{HeaderMap, Method, header};
use time::OffsetDateTime;
use tracing::Span;

use super::{Passage, address::Peer, endpoint, rate};
use crate::{
    auth::{Caller, refuse_foreign},
    error::ApiError,
    gateway::App,
    routes::{self, Family},
};

/// Finds out who calls and leaves the [`Caller`] in the request's extensions, on open routes
/// too where a valid key came along; and whether it may call now. What machines ask every few
/// seconds is not limited.
pub(super) async fn admit(
    app: &App,
    request: &mut Request,
    is_allowed_origin: bool,
    passage: &mut Passage,
) -> Result<(), ApiError> {
    let (is_probe, family) = {
        let endpoint = endpoint(request);
        (routes::is_probe(endpoint), routes::family(endpoint))
    };
    let now = app.uptime();
    let peer = request.extensions().get::<Peer>().copied();
    let client = app
        .proxies
        .client(peer.unwrap_or(Peer::Local), request.headers());
    passage.client = Some(client);
    if !is_probe {
        app.addresses
            .take(client.into(), now, &mut passage.standings)?;
    }
    if app.keys.is_anonymous() {
        refuse_foreign(request, is_allowed_origin)?;
    }
    let may_have_ticket = endpoint(request) == SOCKET;
    match identify(app, request.headers(), may_have_ticket).await {
        Ok(caller) => {
            if let Some(key) = &caller.key {
                Span::current().record("key", &**key);
            }
            passage.caller = Some(caller.clone());
            caller.may_enter(family)?;
            if is_work(request.method(), family, endpoint(request))
                && app.maintenance.load(Ordering::Relaxed)
            {
                return Err(ApiError::Maintenance);
            }
            if !is_probe {
                rate::take(caller.allowances(), now, &mut passage.standings)?;
                passage.held = caller.begin(&mut passage.standings)?.map(Arc::new);
                if let Some(held) = &passage.held {
                    // For work that goes on after its answer.
                    request.extensions_mut().insert(Arc::clone(held));
                }
                if let Some(accounts) = app.accounts.get() {
                    accounts.asked(&caller.scope);
                }
            }
            request.extensions_mut().insert(caller);
            Ok(())
        }
        Err(_) if family == Family::Open => Ok(()),
        Err(refusal) => Err(refusal),
    }
}

/// Who calls: by a ticket where a WebSocket brings one, else by key or token. The issuer is
/// asked for its keys where a token names one that is not known.
async fn identify(
    app: &App,
    headers: &HeaderMap,
    may_have_ticket: bool,
) -> Result<Caller, ApiError> {
    let now = OffsetDateTime::now_utc();
    if may_have_ticket
        && headers.contains_key(header::UPGRADE)
        && let Some(caller) = app.tickets.redeem(headers, app.uptime())
    {
        let caller = caller?;
        app.check_valid(&caller, now)?;
        return Ok(caller);
    }
    let identified = app.keys.identify(headers, now);
    match (&identified, app.keys.issuer()) {
        (Err(ApiError::TokenKey | ApiError::IssuerKeys), Some(issuer)) => {
            match issuer.ask().await {
                true => app.keys.identify(headers, now),
                false => identified,
            }
        }
        _ => identified,
    }
}

/// The route that tickets open.
const SOCKET: &str = "/ws";

/// The ends of routes that are asked with a POST and begin nothing, or end something.
const READS: [&str; 8] = [
    "/search",
    "/count",
    "/count_tokens",
    "/cancel",
    "/history",
    "/namespaces",
    "/state/checkpoint",
    "/ticket",
];

/// Whether a request begins something, which maintenance refuses. A WebSocket does not yet:
/// what it asks for is refused by itself.
fn is_work(method: &Method, family: Family, endpoint: &str) -> bool {
    matches!(family, Family::Student | Family::Models | Family::Graphs)
        && matches!(*method, Method::POST | Method::PUT | Method::PATCH)
        && !READS.iter().any(|read| endpoint.ends_with(read))
}
