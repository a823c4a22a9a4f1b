//! What callers used: `/usage`, and for operators `/api/operator/usage`.
//!
//! Invariant: whose account is told comes from the key or the token; only what is the
//! operator's names another's.

use axum::{
    extract::{Extension, Path, Query, State, rejection::PathRejection, rejection::QueryRejection},
    response::Response,
};
use lyceum_core::{TenantId, UserId};
use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use utoipa::{IntoParams, ToSchema};

use super::student::json;
use crate::{
    auth::Caller,
    dto::{ErrorOutput, refusals},
    error::ApiError,
    gateway::{App, Shared},
    usage::{AccountPart, Accounts},
};

/// The entries of a page, and the most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1_000;

/// What the caller used, and what is left.
#[derive(Debug, Serialize, ToSchema)]
struct UsageOutput {
    /// When this was written, RFC 3339.
    timestamp: String,
    /// The tenant.
    tenant: String,
    /// The user inside the tenant.
    user: String,
    /// The key's name; `token` for who came with a token; absent on a server without keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// What the user used, with all keys of theirs.
    own: AccountPart,
    /// What the tenant used, with all its users.
    tenant_total: AccountPart,
    /// Requests in any 60 seconds.
    rates: Vec<RateOutput>,
    /// What may be had at once.
    at_once: Vec<AtOnceOutput>,
}

/// A limit of requests in any 60 seconds.
#[derive(Debug, Serialize, ToSchema)]
struct RateOutput {
    /// Whose: `key` or `tenant`.
    limit_of: &'static str,
    /// How many.
    limit: u32,
    /// How many would be let through now.
    left: u32,
    /// Seconds until there are more.
    more_in_seconds: u64,
}

/// A limit of what is had at once.
#[derive(Debug, Serialize, ToSchema)]
struct AtOnceOutput {
    /// What: `requests` or `streams`.
    what: &'static str,
    /// How many.
    limit: u32,
    /// How many there are now.
    held: u32,
}

/// What you used, and what is left.
///
/// Today and this month are those of UTC, and the figures those of one server process. Money is
/// exact, as a decimal text. Any key may ask, whatever its scopes.
#[utoipa::path(
    get,
    path = "/usage",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    responses(
        (status = 200, description = "What was used", body = UsageOutput),
        (status = 404, description = "The server keeps no accounts", body = ErrorOutput),
        refusals::Reading,
    )
)]
pub(crate) async fn usage(
    State(app): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<Response, ApiError> {
    let accounts = accounts(&app)?;
    let now = app.uptime();
    let rates = caller.allowances().iter().map(|allowance| {
        let (limit_of, limit, left) = allowance.standing(now);
        RateOutput {
            limit_of,
            limit,
            left: left.remaining,
            more_in_seconds: left.more_after.as_millis().div_ceil(1_000) as u64,
        }
    });
    let requests = caller.held().map(|held| ("requests", held.count()));
    let streams = app.streams.cap(caller.number);
    let streams = streams.map(|held| ("streams", held.count()));
    let at_once = [requests, streams].into_iter().flatten();
    let written = OffsetDateTime::now_utc().format(&Rfc3339);
    json(&UsageOutput {
        timestamp: written.unwrap_or_default(),
        own: accounts.user(&caller.scope),
        tenant_total: accounts.tenant(&caller.scope.tenant),
        rates: rates.collect(),
        at_once: at_once
            .map(|(what, (limit, held))| AtOnceOutput { what, limit, held })
            .collect(),
        tenant: caller.scope.tenant.as_str().to_owned(),
        user: caller.scope.user.as_str().to_owned(),
        key: caller.key.as_deref().map(str::to_owned),
    })
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// The last name of the page before, which is its `next`.
    #[param(min_length = 1, max_length = 128, pattern = "NAME", nullable = false)]
    after: Option<String>,
    /// The most entries of a page; 100 where nothing is said.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
}

impl Page {
    fn most(&self) -> Result<usize, ApiError> {
        match self.limit {
            None => Ok(PAGE),
            Some(limit) if (1..=LARGEST_PAGE).contains(&limit) => Ok(limit),
            Some(_) => Err(ApiError::Invalid {
                path: "limit".to_owned(),
                detail: format!("must be 1 to {LARGEST_PAGE}"),
            }),
        }
    }
}

/// A page of accounts, by name.
#[derive(Debug, Serialize, ToSchema)]
struct AccountsOutput {
    /// The accounts.
    accounts: Vec<NamedAccount>,
    /// What `after` must be for the next page; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// An account and whose it is.
#[derive(Debug, Serialize, ToSchema)]
struct NamedAccount {
    /// The tenant's or the user's name.
    name: String,
    #[serde(flatten)]
    account: AccountPart,
}

/// What tenants used, page by page, for operators.
#[utoipa::path(
    get,
    path = "/api/operator/usage",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(Page),
    responses(
        (status = 200, description = "Tenants that used something this month", body = AccountsOutput),
        (status = 400, description = "The query cannot be read", body = ErrorOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "The key is not an operator's", body = ErrorOutput),
        (status = 404, description = "The server keeps no accounts", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
    )
)]
pub(crate) async fn tenants(
    State(app): State<Shared>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let accounts = accounts(&app)?;
    let page = read(page)?;
    let after = after(page.after.as_deref(), str::parse::<TenantId>)?;
    let most = page.most()?;
    let found = accounts.tenants_after(after.as_ref(), most + 1);
    listed(
        found
            .into_iter()
            .map(|(name, account)| (name.to_string(), account)),
        most,
    )
}

/// What a tenant's users used, page by page, for operators.
#[utoipa::path(
    get,
    path = "/api/operator/usage/{tenant}",
    tag = "operation",
    security((), ("bearer" = []), ("x-api-key" = [])),
    params(("tenant" = String, Path, description = "The tenant's name", max_length = 128, pattern = "NAME"), Page),
    responses(
        (status = 200, description = "Users that used something this month", body = AccountsOutput),
        (status = 400, description = "The query cannot be read", body = ErrorOutput),
        (status = 401, description = "The key is missing or not known", body = ErrorOutput),
        (status = 403, description = "The key is not an operator's", body = ErrorOutput),
        (status = 404, description = "The server keeps no accounts", body = ErrorOutput),
        (status = 422, description = "A field is wrong; the detail begins with its path", body = ErrorOutput),
    )
)]
pub(crate) async fn users(
    State(app): State<Shared>,
    tenant: Result<Path<String>, PathRejection>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, ApiError> {
    let accounts = accounts(&app)?;
    let Path(tenant) = tenant.map_err(|_| invalid("tenant", "must be a tenant's name"))?;
    let tenant = TenantId::new(tenant).map_err(|error| invalid("tenant", &error.to_string()))?;
    let page = read(page)?;
    let after = after(page.after.as_deref(), str::parse::<UserId>)?;
    let most = page.most()?;
    let found = accounts.users_after(&tenant, after.as_ref(), most + 1);
    listed(
        found
            .into_iter()
            .map(|(name, account)| (name.to_string(), account)),
        most,
    )
}

fn accounts(app: &App) -> Result<&dyn Accounts, ApiError> {
    app.accounts
        .get()
        .map(AsRef::as_ref)
        .ok_or(ApiError::NoPart)
}

fn read(page: Result<Query<Page>, QueryRejection>) -> Result<Page, ApiError> {
    let Query(page) = page.map_err(|rejection| ApiError::Malformed {
        detail: format!("the query cannot be read: {}", rejection.body_text()),
    })?;
    Ok(page)
}

fn after<T, E: ToString>(
    text: Option<&str>,
    id: impl Fn(&str) -> Result<T, E>,
) -> Result<Option<T>, ApiError> {
    let wrong = |error: E| invalid("after", &error.to_string());
    text.map(id).transpose().map_err(wrong)
}

fn invalid(path: &str, detail: &str) -> ApiError {
    ApiError::Invalid {
        path: path.to_owned(),
        detail: detail.to_owned(),
    }
}

/// A page of what was found, one more of which says that there is a next one.
fn listed(
    found: impl Iterator<Item = (String, AccountPart)>,
    most: usize,
) -> Result<Response, ApiError> {
    let mut accounts: Vec<NamedAccount> = found
        .map(|(name, account)| NamedAccount { name, account })
        .collect();
    let is_more = accounts.len() > most;
    accounts.truncate(most);
    let last = accounts.last().map(|account| account.name.clone());
    json(&AccountsOutput {
        next: last.filter(|_| is_more),
        accounts,
    })
}
