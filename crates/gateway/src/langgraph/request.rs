//! What a request says: who, what body, which filters.
//!
//! Invariant: a body is read under the gateway's limits. Deliberately absent: a type per
//! body; clients of many versions send fields that mean nothing here.

use axum::{
    Extension, Json, RequestPartsExt,
    extract::{FromRequest, Query, Request},
    response::IntoResponse,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Body as _;
use lyceum_core::{Scope, TenantId};
use serde_json::{Map, Value};

use super::{
    extract::EXTRACTED,
    owner,
    platform::Platform,
    refusal::{Answer, Refusal},
};
use crate::{
    auth::Caller,
    body,
    edge::address::{Client, Peer},
    error::ApiError,
    gateway::Shared,
    streams::Asker,
};

/// The largest page of a list.
const MOST: usize = 1_000;

/// The most things that one request may name to be worked through.
const NAMED: usize = 100;

/// How many of a list there are in all, and where its next page begins.
const TOTAL: HeaderName = HeaderName::from_static("x-pagination-total");
const NEXT: HeaderName = HeaderName::from_static("x-pagination-next");

/// What is true or false in a query.
const FLAGS: [&str; 11] = [
    "assistants",
    "cancel_on_disconnect",
    "delete_threads",
    "recurse",
    "refresh_ttl",
    "store",
    "stream_subgraphs",
    "subgraphs",
    "threads",
    "wait",
    "xray",
];

/// Headers that are not for graphs.
const HIDDEN: [&str; 8] = [
    "x-api-key",
    "x-auth-scheme",
    "x-csrf-token",
    "x-real-ip",
    "x-request-id",
    "x-service-key",
    "x-tenant-id",
    "x-user-id",
];
/// The most headers of a client's own that are read, and the longest value, in bytes.
const HEADERS: usize = 32;
const HEADER_BYTES: usize = 1_024;

/// Who asks, and the service.
pub(crate) struct Asked {
    pub(crate) platform: Platform,
    /// As whom, and with what it came.
    pub(crate) caller: Caller,
    pub(crate) client: Client,
    owner: TenantId,
    /// The query and the body, in one.
    pub(crate) body: Map<String, Value>,
    /// A body that is a list.
    pub(crate) list: Vec<Value>,
    pub(crate) last_event: Option<String>,
    pub(crate) asker: Asker,
    /// What the headers configure.
    pub(crate) headers: Map<String, Value>,
    pub(crate) app: Shared,
}

impl FromRequest<Shared> for Asked {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
        let asker = Asker::of_sdk(&request);
        let peer = request.extensions().get::<Peer>().copied();
        let peer = peer.unwrap_or(Peer::Local);
        let client = app.proxies.client(peer, request.headers()).into();
        let (mut parts, body) = request.into_parts();
        let missing = || Refusal::Api(ApiError::Internal { what: "extension" });
        let Extension(platform) = parts
            .extract::<Extension<Platform>>()
            .await
            .map_err(|_| missing())?;
        let Extension(caller) = parts
            .extract::<Extension<Caller>>()
            .await
            .map_err(|_| Refusal::Api(ApiError::KeyMissing))?;
        let query = parts.extract::<Query<Vec<(String, String)>>>().await;
        let Query(query) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
        let last_event = parts.headers.get("last-event-id");
        let last_event = last_event
            .and_then(|id| id.to_str().ok())
            .map(str::to_owned);
        let headers = configured(&parts.headers);
        let mut all = queried(query);
        let mut list = Vec::new();
        if body.size_hint().exact() != Some(0) {
            let request = Request::from_parts(parts, body);
            match body::json::<Value>(request, &app.limits).await? {
                Value::Object(fields) => all.extend(fields),
                Value::Array(many) => list = many,
                Value::Null => {}
                _ => return Err(Refusal::invalid("the body must be an object")),
            }
        }
        Ok(Self {
            platform,
            owner: owner::owner(&caller.scope)?,
            caller,
            client,
            body: all,
            list,
            last_event,
            asker,
            headers,
            app: app.clone(),
        })
    }
}

/// What a query says: flags as booleans, what is named several times as a list, the rest as
/// text.
fn queried(query: Vec<(String, String)>) -> Map<String, Value> {
    let mut all = Map::new();
    for (name, text) in query {
        let value = match text.as_str() {
            "true" | "True" | "1" if FLAGS.contains(&&*name) => true.into(),
            "false" | "False" | "0" if FLAGS.contains(&&*name) => false.into(),
            _ => Value::String(text),
        };
        match all.get_mut(&name) {
            None => {
                all.insert(name, value);
            }
            Some(Value::Array(many)) => many.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    all
}

/// Headers of a client's own, `x-…`, for the graphs. Those that say who calls, or that
/// proxies add, are none.
fn configured(headers: &HeaderMap) -> Map<String, Value> {
    let is_own = |name: &str| {
        name.starts_with("x-")
            && !HIDDEN.contains(&name)
            && !name.starts_with("x-forwarded-")
            && !name.starts_with("x-amz")
    };
    headers
        .iter()
        .filter(|(name, value)| is_own(name.as_str()) && value.len() <= HEADER_BYTES)
        .filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.into())))
        .take(HEADERS)
        .collect()
}

impl Asked {
    /// Refuses a list of more than [`NAMED`].
    pub(crate) fn at_most(&self, named: usize) -> Answer<()> {
        if named > NAMED {
            let text =
                format!("the list names {named}, of which at most {NAMED} are taken at once");
            return Err(Refusal::invalid(text));
        }
        Ok(())
    }

    /// In whose name the request is answered.
    pub(crate) fn scope(&self) -> &Scope {
        &self.caller.scope
    }

    /// Whose records the request reaches.
    pub(crate) fn owner(&self) -> &TenantId {
        &self.owner
    }

    pub(crate) fn value(&self, name: &str) -> Option<&Value> {
        self.body.get(name).filter(|value| !value.is_null())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.value(name)?.as_str()
    }

    pub(crate) fn object(&self, name: &str) -> Map<String, Value> {
        let value = self.value(name).and_then(Value::as_object);
        value.cloned().unwrap_or_default()
    }

    pub(crate) fn is(&self, name: &str) -> bool {
        self.value(name) == Some(&Value::Bool(true))
    }

    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        let value = self.value(name)?;
        let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
        usize::try_from(number).ok()
    }

    /// Where a page of a list begins, and how much it holds.
    fn window(&self) -> Answer<(usize, usize)> {
        let named = |name: &str, otherwise: usize| match self.value(name) {
            None => Ok(otherwise),
            Some(_) => {
                let number = self.number(name);
                number.ok_or_else(|| Refusal::invalid(format!("{name} must be a whole number")))
            }
        };
        let (offset, limit) = (named("offset", 0)?, named("limit", 10)?);
        if !(1..=MOST).contains(&limit) {
            return Err(Refusal::invalid(format!("limit must be 1 to {MOST}")));
        }
        Ok((offset, limit))
    }

    /// How much a page holds.
    pub(crate) fn limit(&self) -> Answer<usize> {
        self.window().map(|(_, limit)| limit)
    }

    /// A page of a list.
    pub(crate) fn page<T>(&self, all: impl IntoIterator<Item = T>) -> Answer<Vec<T>> {
        let (offset, limit) = self.window()?;
        Ok(all.into_iter().skip(offset).take(limit).collect())
    }

    /// A page of what was found, as an answer that says what is beyond it.
    pub(crate) fn listed(
        &self,
        mut all: Vec<Value>,
        also: impl FnOnce(&mut [Value]) -> Answer<()>,
    ) -> Answer {
        let (offset, limit) = self.window()?;
        self.sort(&mut all);
        let total = all.len();
        let mut page: Vec<_> = all.into_iter().skip(offset).take(limit).collect();
        also(&mut page)?;
        let mut response = Json(self.select(page)).into_response();
        let next = offset.saturating_add(limit);
        let headers = response.headers_mut();
        headers.insert(TOTAL, HeaderValue::from(total));
        if next < total {
            headers.insert(NEXT, HeaderValue::from(next));
        }
        Ok(response)
    }

    /// The order that was asked for; lists come newest first. An order by what things do not
    /// have is none.
    pub(crate) fn sort(&self, all: &mut [Value]) {
        let (by, order) = match (self.text("sort_by"), self.text("order_by")) {
            (Some(by), _) => (Some(by), self.text("sort_order").unwrap_or("desc")),
            (None, Some(both)) => {
                let (by, order) = both.split_once(' ').unwrap_or((both, "desc"));
                (Some(by), order)
            }
            (None, None) => (None, self.text("sort_order").unwrap_or("desc")),
        };
        if let Some(by) = by {
            if all.iter().any(|value| value.get(by).is_none()) {
                return;
            }
            let key = |value: &Value| value.get(by).map(ToString::to_string).unwrap_or_default();
            all.sort_by_key(|value| std::cmp::Reverse(key(value)));
        }
        if order.trim().eq_ignore_ascii_case("asc") {
            all.reverse();
        }
    }

    /// Only the fields that were asked for, where some were; `values.name` is one of the values.
    pub(crate) fn select(&self, mut all: Vec<Value>) -> Vec<Value> {
        let wanted = match self.value("select") {
            Some(Value::Array(wanted)) => wanted.as_slice(),
            Some(wanted @ Value::String(_)) => std::slice::from_ref(wanted),
            _ => return all,
        };
        let wanted: Vec<&str> = wanted.iter().filter_map(Value::as_str).collect();
        let inner = wanted
            .iter()
            .filter_map(|name| name.strip_prefix("values."));
        let inner: Vec<&str> = inner.collect();
        for fields in all.iter_mut().filter_map(Value::as_object_mut) {
            fields.retain(|name, value| {
                if wanted.contains(&name.as_str()) || name == EXTRACTED {
                    return true;
                }
                let is_part = name == "values" && !inner.is_empty();
                if let Some(values) = value.as_object_mut().filter(|_| is_part) {
                    values.retain(|name, _| inner.contains(&name.as_str()));
                }
                is_part
            });
        }
        all
    }
}

/// Whether a value has everything that a filter names.
pub(crate) fn has(value: &Value, filter: &Map<String, Value>) -> bool {
    filter.iter().all(|(name, wanted)| {
        let found = value.get(name);
        match (found, wanted) {
            (Some(found @ Value::Object(_)), Value::Object(wanted)) => has(found, wanted),
            (found, wanted) => found == Some(wanted),
        }
    })
}

/// The same, with the comparisons that a store's filter knows, e.g. `{"$gt": 3}`.
pub(crate) fn has_matching(value: &Value, filter: &Map<String, Value>) -> bool {
    filter.iter().all(|(name, wanted)| {
        let found = value.get(name);
        match wanted.as_object().filter(|wanted| is_comparison(wanted)) {
            Some(comparison) => comparison
                .iter()
                .all(|(how, wanted)| compares(how, found.unwrap_or(&Value::Null), wanted)),
            None => has(value, &Map::from_iter([(name.clone(), wanted.clone())])),
        }
    })
}

fn is_comparison(wanted: &Map<String, Value>) -> bool {
    !wanted.is_empty() && wanted.keys().all(|name| name.starts_with('$'))
}

fn compares(how: &str, found: &Value, wanted: &Value) -> bool {
    let order = match (found, wanted) {
        (Value::String(found), Value::String(wanted)) => Some(found.cmp(wanted)),
        (found, wanted) => found
            .as_f64()
            .zip(wanted.as_f64())
            .and_then(|(found, wanted)| found.partial_cmp(&wanted)),
    };
    match how {
        "$eq" => found == wanted,
        "$ne" => found != wanted,
        "$gt" => order.is_some_and(std::cmp::Ordering::is_gt),
        "$gte" => order.is_some_and(std::cmp::Ordering::is_ge),
        "$lt" => order.is_some_and(std::cmp::Ordering::is_lt),
        "$lte" => order.is_some_and(std::cmp::Ordering::is_le),
        _ => false,
    }
}

/// An id that a client chose.
pub(crate) fn uuid(text: &str) -> Answer<String> {
    uuid::Uuid::parse_str(text)
        .map(|id| id.to_string())
        .map_err(|_| Refusal::invalid(format!("Invalid UUID: {text:?}")))
}
