//! What a request says: who, what body, which filters.
//!
//! Invariant: a body is read under the gateway's limits. Deliberately absent: a type per
//! body; clients of many versions send fields that mean nothing here.

use axum::{
    Extension, RequestPartsExt,
    extract::{FromRequest, Query, Request},
};
use http_body::Body as _;
use lyceum_core::{Scope, TenantId};
use serde_json::{Map, Value};

use super::{
    owner,
    platform::Platform,
    refusal::{Answer, Refusal},
};
use crate::{auth::Caller, body, error::ApiError, gateway::Shared};

/// The largest page of a list.
const MOST: usize = 1_000;

/// The most things that one request may name to be worked through.
const NAMED: usize = 100;

/// Who asks, and the service.
pub(crate) struct Asked {
    pub(crate) platform: Platform,
    pub(crate) scope: Scope,
    owner: TenantId,
    /// The query and the body, in one.
    pub(crate) body: Map<String, Value>,
    /// A body that is a list.
    pub(crate) list: Vec<Value>,
    pub(crate) last_event: Option<String>,
    pub(crate) app: Shared,
}

impl FromRequest<Shared> for Asked {
    type Rejection = Refusal;

    async fn from_request(request: Request, app: &Shared) -> Result<Self, Refusal> {
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
        let mut all = Map::new();
        for (name, value) in query {
            let value = match value.as_str() {
                "true" | "True" | "1" => true.into(),
                "false" | "False" => false.into(),
                _ => value.into(),
            };
            all.insert(name, value);
        }
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
            scope: caller.scope,
            body: all,
            list,
            last_event,
            app: app.clone(),
        })
    }
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
        let number = value.as_u64();
        let number = number.or_else(|| value.as_bool().map(u64::from));
        let number = number.or_else(|| value.as_str()?.parse().ok())?;
        usize::try_from(number).ok()
    }

    /// A page of a list.
    pub(crate) fn page<T>(&self, all: impl IntoIterator<Item = T>) -> Vec<T> {
        let limit = self.number("limit").unwrap_or(10).min(MOST);
        let offset = self.number("offset").unwrap_or(0);
        all.into_iter().skip(offset).take(limit).collect()
    }

    /// The order that was asked for; lists come newest first.
    pub(crate) fn sort(&self, all: &mut [Value]) {
        let by = self.text("sort_by").unwrap_or("created_at").to_owned();
        if self.value("sort_by").is_some() {
            let key = |value: &Value| value.get(&by).map(ToString::to_string).unwrap_or_default();
            all.sort_by_key(|value| std::cmp::Reverse(key(value)));
        }
        let order = self.text("sort_order").unwrap_or("desc");
        if order.eq_ignore_ascii_case("asc") {
            all.reverse();
        }
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

/// An id that a client chose.
pub(crate) fn uuid(text: &str) -> Answer<String> {
    uuid::Uuid::parse_str(text)
        .map(|id| id.to_string())
        .map_err(|_| Refusal::invalid(format!("Invalid UUID: {text:?}")))
}
