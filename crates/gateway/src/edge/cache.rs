//! Answers to GET that are given again: to the same key, for the same address, for a while.
//!
//! Invariant: nobody gets an answer made for another key, and nobody gets one that was made
//! before their own last write ended. A write names what it may change by a pattern; while it
//! is under way its user's reads are neither answered from here nor kept. What changes without
//! a write through this process is seen once the time of an answer is over. Source of the
//! tags: RFC 9110, sections 8.8 and 13; of `Cache-Status`: RFC 9211.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{body::Body, extract::Request, middleware::Next, response::Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body::Body as _;
use lyceum_core::{TenantId, UserId};
use metrics::counter;
use moka::future::Cache;
use sha2::{Digest, Sha256};

use super::pattern::Pattern;
use crate::{
    auth::Caller,
    metrics::{CACHE, CACHE_INVALIDATIONS},
};

const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Clients keep an answer to themselves and ask whether it is current.
const REVALIDATE: HeaderValue = HeaderValue::from_static("private, no-cache");

/// Routes that are read often and change by writes alone.
const CACHED: [&str; 6] = [
    "/openapi.json",
    "/sessions/{id}/knowledge",
    "/sessions/{id}/notes",
    "/sessions/{id}/review",
    "/v1/models",
    "/v1/models/{model}",
];

/// The largest answer that is kept, in bytes.
const LARGEST: u64 = 1 << 20;

/// Writes of one user that are remembered one by one; older ones count for everything.
const MOST_WRITES: usize = 64;

/// How answers to GET are given again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseCacheConfig {
    /// How long; default 5 s. Zero keeps nothing; answers have their tags all the same.
    pub ttl: Duration,
    /// How much is kept, in bytes; default 32 MiB.
    pub bytes: u64,
}

impl Default for ResponseCacheConfig {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(5),
            bytes: 32 << 20,
        }
    }
}

/// Where an answer comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lookup {
    Hit,
    Miss,
    Bypass,
}

impl Lookup {
    pub(crate) const ALL: [Self; 3] = [Self::Hit, Self::Miss, Self::Bypass];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Bypass => "bypass",
        }
    }

    fn status(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Hit => "lyceum; hit",
            Self::Miss => "lyceum; fwd=miss",
            Self::Bypass => "lyceum; fwd=bypass",
        })
    }
}

/// A tenant and a user; nobody for what is open to all.
type Owner = Option<(TenantId, UserId)>;

/// What makes two requests the same. The number of the key is a part, because what a key may
/// see is its own.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Place {
    owner: Owner,
    key: usize,
    url: String,
    accept: Option<HeaderValue>,
}

/// An answer that is kept.
#[derive(Debug)]
struct Kept {
    /// When its making began, by the clock of its owner's writes.
    clock: u64,
    headers: HeaderMap,
    body: Bytes,
}

/// A GET that can be made more than once.
struct Read {
    parts: Parts,
    next: Next,
}

impl Read {
    fn run(&self) -> impl Future<Output = Response> + Send + use<> {
        let request = Request::from_parts(self.parts.clone(), Body::empty());
        self.next.clone().run(request)
    }
}

/// The answer was not one to keep.
#[derive(Debug)]
struct NotKept;

/// One owner's writes.
#[derive(Debug, Default)]
struct Writes {
    clock: u64,
    under_way: usize,
    ended: VecDeque<(u64, Pattern)>,
    /// What was made before is not current, whatever it is.
    floor: u64,
}

impl Writes {
    fn end(&mut self, pattern: Pattern) {
        self.under_way -= 1;
        self.clock += 1;
        self.ended.push_back((self.clock, pattern));
        if self.ended.len() > MOST_WRITES
            && let Some((clock, _)) = self.ended.pop_front()
        {
            self.floor = clock;
        }
    }

    fn is_current(&self, kept: &Kept, url: &str) -> bool {
        let newer = self.ended.iter().rev();
        let mut newer = newer.take_while(|(clock, _)| *clock > kept.clock);
        kept.clock >= self.floor && !newer.any(|(_, pattern)| pattern.matches(url))
    }
}

#[derive(Debug, Default)]
struct Owners(Mutex<HashMap<Owner, Writes>>);

impl Owners {
    fn lock(&self) -> MutexGuard<'_, HashMap<Owner, Writes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The route of a turn.
const TURN: &str = "/chat/stream";

/// A write under way; dropping it is its end.
#[derive(Debug)]
pub(crate) struct Write {
    owner: Owner,
    pattern: Option<Pattern>,
    owners: Arc<Owners>,
}

impl Drop for Write {
    fn drop(&mut self) {
        counter!(CACHE_INVALIDATIONS).increment(1);
        let mut owners = self.owners.lock();
        if let (Some(writes), Some(pattern)) = (owners.get_mut(&self.owner), self.pattern.take()) {
            writes.end(pattern);
        }
    }
}

/// The answers.
#[derive(Debug)]
pub(crate) struct ResponseCache {
    kept: Option<Cache<Place, Arc<Kept>>>,
    owners: Arc<Owners>,
}

impl ResponseCache {
    pub(crate) fn new(config: ResponseCacheConfig) -> Self {
        let weigh = |place: &Place, kept: &Arc<Kept>| {
            let headers = kept.headers.len() * 64;
            u32::try_from(place.url.len() + headers + kept.body.len() + 256).unwrap_or(u32::MAX)
        };
        let cache = || {
            Cache::builder()
                .max_capacity(config.bytes)
                .weigher(weigh)
                .time_to_live(config.ttl)
                .build()
        };
        Self {
            kept: (!config.ttl.is_zero()).then(cache),
            owners: Arc::default(),
        }
    }

    /// Notes that a request may change what its user sees, until it is dropped.
    pub(super) fn write(&self, request: &Request, endpoint: &str) -> Option<Write> {
        let pattern = Pattern::of_write(request.method(), endpoint, request.uri().path())?;
        self.begin(owner(request.extensions().get::<Caller>()), pattern)
    }

    /// The same of a turn that goes on after its request.
    pub(crate) fn turn(&self, caller: &Caller) -> Option<Write> {
        let pattern = Pattern::of_write(&Method::POST, TURN, TURN)?;
        self.begin(owner(Some(caller)), pattern)
    }

    fn begin(&self, owner: Owner, pattern: Pattern) -> Option<Write> {
        self.kept.as_ref()?;
        let mut owners = self.owners.lock();
        owners.entry(owner.clone()).or_default().under_way += 1;
        Some(Write {
            owner,
            pattern: Some(pattern),
            owners: Arc::clone(&self.owners),
        })
    }

    /// Answers a GET of a route that is kept, from here where that is right.
    pub(super) async fn answer(&self, request: Request, next: Next) -> Response {
        let (mut parts, _no_body) = request.into_parts();
        let known = parts.headers.remove(header::IF_NONE_MATCH);
        let caller = parts.extensions.get::<Caller>();
        let place = Place {
            owner: owner(caller),
            key: caller.map_or(0, |caller| caller.number),
            url: parts.uri.to_string(),
            accept: parts.headers.get(header::ACCEPT).cloned(),
        };
        let read = Read { parts, next };
        let found = match &self.kept {
            Some(cache) => self.look(cache, &place, &read).await,
            None => None,
        };
        let (mut response, lookup) = match found {
            Some(found) => found,
            None => (read.run().await, Lookup::Bypass),
        };
        counter!(CACHE, "result" => lookup.label()).increment(1);
        if response.status() == StatusCode::OK {
            response = tagged(response, known.as_ref()).await;
            response.headers_mut().insert(CACHE_STATUS, lookup.status());
        }
        response
    }

    async fn look(
        &self,
        cache: &Cache<Place, Arc<Kept>>,
        place: &Place,
        read: &Read,
    ) -> Option<(Response, Lookup)> {
        let clock = {
            let mut owners = self.owners.lock();
            let writes = owners.entry(place.owner.clone()).or_default();
            if writes.under_way > 0 {
                return None;
            }
            writes.clock
        };
        // Whoever joins a making that began before a write of theirs ended, makes another.
        for _ in 0..2 {
            let mut other = None;
            let mut lookup = Lookup::Hit;
            let made = cache.try_get_with(place.clone(), async {
                lookup = Lookup::Miss;
                let response = read.run().await;
                match keep(response, clock).await {
                    Ok(kept) => Ok(Arc::new(kept)),
                    Err(response) => {
                        other = Some(response);
                        Err(NotKept)
                    }
                }
            });
            let made = made.await;
            if let Some(response) = other {
                return Some((*response, Lookup::Miss));
            }
            let kept = made.ok()?;
            let is_current = {
                let owners = self.owners.lock();
                let writes = owners.get(&place.owner);
                writes.is_none_or(|writes| writes.is_current(&kept, &place.url))
            };
            if is_current || lookup == Lookup::Miss {
                let mut response = Response::new(Body::from(kept.body.clone()));
                *response.headers_mut() = kept.headers.clone();
                return Some((response, lookup));
            }
            cache.invalidate(place).await;
        }
        None
    }
}

/// Whether a request is for a route that is kept.
pub(super) fn is_cached(request: &Request, endpoint: &str) -> bool {
    request.method() == Method::GET && CACHED.contains(&endpoint)
}

fn owner(caller: Option<&Caller>) -> Owner {
    caller.map(|caller| (caller.scope.tenant.clone(), caller.scope.user.clone()))
}

async fn keep(response: Response, clock: u64) -> Result<Kept, Box<Response>> {
    let size = response.body().size_hint().exact();
    if response.status() != StatusCode::OK || size.is_none_or(|size| size > LARGEST) {
        return Err(Box::new(response));
    }
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, LARGEST as usize).await;
    Ok(Kept {
        clock,
        headers: parts.headers,
        // A body of known size is in memory: reading it does not fail.
        body: body.unwrap_or_default(),
    })
}

/// Gives an answer its tag, or says that the client has it.
async fn tagged(response: Response, known: Option<&HeaderValue>) -> Response {
    let size = response.body().size_hint().exact();
    if size.is_none_or(|size| size > LARGEST) {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, LARGEST as usize).await;
    let body = body.unwrap_or_default();
    let digest = Sha256::digest(&body);
    let hex: String = digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let tag = format!("\"{hex}\"");
    let is_known = known
        .and_then(|known| known.to_str().ok())
        .is_some_and(|known| {
            let bare = |one: &str| one.trim().trim_start_matches("W/") == tag;
            known.trim() == "*" || known.split(',').any(bare)
        });
    if let Ok(tag) = HeaderValue::try_from(tag) {
        parts.headers.insert(header::ETAG, tag);
    }
    parts.headers.insert(header::CACHE_CONTROL, REVALIDATE);
    if is_known {
        parts.status = StatusCode::NOT_MODIFIED;
        parts.headers.remove(header::CONTENT_LENGTH);
        return Response::from_parts(parts, Body::empty());
    }
    Response::from_parts(parts, Body::from(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(clock: u64) -> Kept {
        Kept {
            clock,
            headers: HeaderMap::new(),
            body: Bytes::new(),
        }
    }

    #[test]
    fn a_write_ends_what_it_names_and_was_made_before() {
        let mut writes = Writes::default();
        let end = |writes: &mut Writes, pattern| {
            writes.under_way += 1;
            writes.end(pattern);
        };
        end(&mut writes, Pattern::Glob("/sessions/a/*".into()));
        assert!(!writes.is_current(&kept(0), "/sessions/a/notes"));
        assert!(writes.is_current(&kept(0), "/sessions/b/notes"));
        assert!(writes.is_current(&kept(1), "/sessions/a/notes"));
        for _ in 0..MOST_WRITES {
            end(&mut writes, Pattern::Keyword("nothing".into()));
        }
        assert!(
            !writes.is_current(&kept(0), "/sessions/b/notes"),
            "forgotten writes count"
        );
        assert!(writes.is_current(&kept(1), "/sessions/b/notes"));
        assert_eq!(writes.ended.len(), MOST_WRITES);
    }
}
