//! Answers kept for their `Idempotency-Key`, in records.
//!
//! Invariant: an answer and its entry in the list are written together; an answer is kept for
//! a day at most, and a tenant's answers within a bound, its oldest making room. One tenant
//! never pushes out another's.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{body::Body, response::Response};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode, header};
use lyceum_core::{Expect, Record, RecordError, RecordStore, RecordWrite, Scope, TenantId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::OnceCell;

use crate::fenced::remove_at;

/// How long an answer is kept, in seconds.
const KEPT_SECONDS: u64 = 24 * 60 * 60;

/// The most answers kept for one tenant, and their bytes together.
const MOST: usize = 20_000;
const MOST_BYTES: u64 = 64 << 20;

/// The list: small, and read as a whole at the first use.
const LISTED: &str = "idempotency";
/// The answers themselves.
const ANSWER: &str = "idempotency_answer";

/// A key of a user on a route. It is a digest: what clients choose as keys is not stored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Name {
    pub(super) tenant: TenantId,
    pub(super) user: String,
    pub(super) digest: String,
}

impl Name {
    pub(super) fn new(scope: &Scope, route: &str, key: &str) -> Self {
        let mut digest = Sha256::new();
        // None of them holds a NUL.
        for part in [scope.user.as_str(), route, key] {
            digest.update(part);
            digest.update([0]);
        }
        Self {
            tenant: scope.tenant.clone(),
            user: scope.user.as_str().to_owned(),
            digest: hex(&digest.finalize()),
        }
    }
}

/// What is known of a key.
pub(super) enum Found {
    /// The fingerprint of its request, and the answer.
    Answer([u8; 32], Response),
}

#[derive(Serialize, Deserialize)]
struct Listed {
    expires: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    expires: u64,
    fingerprint: String,
    status: u16,
    headers: Vec<(String, String)>,
    /// The body, in base64 where it is no text.
    body: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    encoded: bool,
}

impl Answer {
    fn new(expires: u64, fingerprint: [u8; 32], response: &Response<Bytes>) -> Self {
        let headers = response.headers().iter();
        let headers = headers.filter(|(name, _)| *name != header::CONTENT_LENGTH);
        let text = std::str::from_utf8(response.body());
        Self {
            expires,
            fingerprint: hex(&fingerprint),
            status: response.status().as_u16(),
            headers: headers
                .filter_map(|(name, value)| {
                    Some((name.as_str().to_owned(), value.to_str().ok()?.to_owned()))
                })
                .collect(),
            body: text.map_or_else(|_| STANDARD.encode(response.body()), str::to_owned),
            encoded: text.is_err(),
        }
    }

    fn found(self) -> Option<Found> {
        let mut fingerprint = [0; 32];
        for (at, byte) in fingerprint.iter_mut().enumerate() {
            let digits = self.fingerprint.get(at * 2..at * 2 + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        let body = match self.encoded {
            true => STANDARD.decode(self.body).ok()?,
            false => self.body.into_bytes(),
        };
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::from_u16(self.status).ok()?;
        for (name, value) in self.headers {
            let name = HeaderName::try_from(name).ok()?;
            let value = HeaderValue::try_from(value).ok()?;
            response.headers_mut().append(name, value);
        }
        Some(Found::Answer(fingerprint, response))
    }
}

/// One tenant's answers, oldest first.
#[derive(Debug, Default)]
struct Shelf {
    kept: VecDeque<(String, Listed)>,
    bytes: u64,
}

impl std::fmt::Debug for Listed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes until {}", self.bytes, self.expires)
    }
}

impl Shelf {
    fn push(&mut self, digest: String, listed: Listed) {
        self.bytes += listed.bytes;
        self.kept.push_back((digest, listed));
    }

    /// Takes out what is too old or too much.
    fn over(&mut self, now: u64) -> Vec<(String, Listed)> {
        let mut out = Vec::new();
        while let Some((_, oldest)) = self.kept.front()
            && (oldest.expires <= now || self.kept.len() > MOST || self.bytes > MOST_BYTES)
            && let Some((digest, listed)) = self.kept.pop_front()
        {
            self.bytes -= listed.bytes;
            out.push((digest, listed));
        }
        out
    }
}

/// The answers.
#[derive(Debug)]
pub(super) struct Remembered {
    records: std::sync::Arc<dyn RecordStore>,
    /// Whether what was kept by an earlier process has been counted.
    counted: OnceCell<()>,
    shelves: Mutex<HashMap<TenantId, Shelf>>,
}

impl Remembered {
    pub(super) fn new(records: std::sync::Arc<dyn RecordStore>) -> Self {
        Self {
            records,
            counted: OnceCell::new(),
            shelves: Mutex::default(),
        }
    }

    pub(super) fn records(&self) -> std::sync::Arc<dyn RecordStore> {
        self.records.clone()
    }

    /// Looks for the answer of a key.
    pub(super) async fn find(&self, name: &Name, now: u64) -> Result<Option<Found>, RecordError> {
        let record = self
            .records
            .read(&name.tenant, ANSWER, &name.digest)
            .await?;
        let answer = record.and_then(|record| serde_json::from_str::<Answer>(&record.body).ok());
        let answer = answer.filter(|answer| answer.expires > now);
        Ok(answer.and_then(Answer::found))
    }

    /// Keeps an answer together with what `also` writes, or neither; removes what is over the
    /// bounds.
    pub(super) async fn keep(
        &self,
        name: &Name,
        fingerprint: [u8; 32],
        response: &Response<Bytes>,
        now: u64,
        also: Vec<RecordWrite>,
    ) -> Result<(), RecordError> {
        self.count().await?;
        let expires = now.saturating_add(KEPT_SECONDS);
        let body = written(&Answer::new(expires, fingerprint, response))?;
        let listed = Listed {
            expires,
            bytes: body.len() as u64,
        };
        let put = |kind, body| RecordWrite::Put {
            kind,
            id: name.digest.clone(),
            group: name.user.clone(),
            body,
            expect: Expect::Anything,
        };
        let mut writes = vec![put(LISTED, written(&listed)?), put(ANSWER, body)];
        writes.extend(also);
        if !self.records.write(&name.tenant, writes).await? {
            tracing::warn!("another process took a run for gone: its answer is the one kept");
            return Ok(());
        }
        let over = {
            let mut shelves = self.shelves();
            let shelf = shelves.entry(name.tenant.clone()).or_default();
            let mut over = shelf.over(now);
            shelf.push(name.digest.clone(), listed);
            over.extend(shelf.over(now));
            // A key may be used again once its first answer has expired.
            over.retain(|(digest, _)| *digest != name.digest);
            over
        };
        self.remove(&name.tenant, over).await
    }

    /// Removes answers whose time is over, and with others that share the records those that
    /// are too many together.
    pub(super) async fn forget_expired(
        &self,
        now: u64,
        is_shared: bool,
    ) -> Result<(), RecordError> {
        match is_shared {
            // The others have kept and removed answers meanwhile.
            true => self.recount().await?,
            false => self.count().await?,
        }
        let over: Vec<_> = {
            let mut shelves = self.shelves();
            let shelves = shelves.iter_mut();
            shelves
                .map(|(tenant, shelf)| (tenant.clone(), shelf.over(now)))
                .collect()
        };
        for (tenant, over) in over {
            self.remove(&tenant, over).await?;
        }
        Ok(())
    }

    /// Removes answers, but those that another process has kept anew under their keys.
    async fn remove(
        &self,
        tenant: &TenantId,
        over: Vec<(String, Listed)>,
    ) -> Result<(), RecordError> {
        for (digest, listed) in over {
            let Some(found) = self.records.read(tenant, LISTED, &digest).await? else {
                continue;
            };
            if listed_of(&found).expires > listed.expires {
                continue;
            }
            let mut writes = remove_at(LISTED, digest.clone(), found.revision).to_vec();
            writes.push(RecordWrite::Delete {
                kind: ANSWER,
                id: digest,
            });
            self.records.write(tenant, writes).await?;
        }
        Ok(())
    }

    async fn count(&self) -> Result<(), RecordError> {
        let counted = self.counted.get_or_try_init(|| self.recount());
        counted.await.copied()
    }

    async fn recount(&self) -> Result<(), RecordError> {
        let kept = self.records.every(LISTED).await?;
        let mut shelves = HashMap::<TenantId, Shelf>::new();
        for (tenant, record) in kept {
            let listed = listed_of(&record);
            let shelf = shelves.entry(tenant).or_default();
            shelf.push(record.id, listed);
        }
        *self.shelves() = shelves;
        Ok(())
    }

    fn shelves(&self) -> MutexGuard<'_, HashMap<TenantId, Shelf>> {
        self.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a record of the list says.
fn listed_of(record: &Record) -> Listed {
    // What cannot be read is the first to go.
    serde_json::from_str(&record.body).unwrap_or(Listed {
        expires: 0,
        bytes: 0,
    })
}

fn written(value: &impl Serialize) -> Result<String, RecordError> {
    serde_json::to_string(value).map_err(|error| RecordError {
        retryable: false,
        source: error.into(),
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use lyceum_core::MemoryRecords;

    use super::*;

    fn answer(size: usize) -> Response<Bytes> {
        Response::new(Bytes::from(vec![b'x'; size]))
    }

    fn name(tenant: &str, key: &str) -> Name {
        let scope = Scope {
            tenant: tenant.parse().unwrap(),
            ..Scope::local()
        };
        Name::new(&scope, "/chat", key)
    }

    async fn is_kept(kept: &Remembered, name: &Name, now: u64) -> bool {
        kept.find(name, now).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_a_day_and_then_removed() {
        let records = Arc::new(MemoryRecords::new());
        let kept = Remembered::new(records.clone());
        let first = name("one", "a");
        kept.keep(&first, [1; 32], &answer(3), 1_000, Vec::new())
            .await
            .unwrap();
        assert!(is_kept(&kept, &first, 1_000 + KEPT_SECONDS - 1).await);
        assert!(!is_kept(&kept, &name("two", "a"), 1_000).await);
        assert!(!is_kept(&kept, &first, 1_000 + KEPT_SECONDS).await);
        // A new process counts what an old one kept.
        let kept = Remembered::new(records.clone());
        kept.forget_expired(1_000 + KEPT_SECONDS, false)
            .await
            .unwrap();
        for kind in [LISTED, ANSWER] {
            assert!(records.every(kind).await.unwrap().is_empty(), "{kind}");
        }
    }

    #[tokio::test]
    async fn what_another_process_kept_anew_is_not_removed() {
        let records = Arc::new(MemoryRecords::new());
        let (one, other) = (Remembered::new(records.clone()), Remembered::new(records));
        let (name, late) = (name("one", "a"), 1_000 + KEPT_SECONDS);
        one.keep(&name, [1; 32], &answer(3), 1_000, Vec::new())
            .await
            .unwrap();
        other
            .keep(&name, [1; 32], &answer(3), late, Vec::new())
            .await
            .unwrap();
        one.forget_expired(late, false).await.unwrap();
        assert!(is_kept(&one, &name, late).await);
    }

    #[tokio::test]
    async fn the_oldest_of_a_tenant_make_room_and_no_others() {
        let kept = Remembered::new(Arc::new(MemoryRecords::new()));
        let other = name("two", "a");
        kept.keep(&other, [1; 32], &answer(1), 0, Vec::new())
            .await
            .unwrap();
        let mib = 1 << 20;
        for n in 0..70 {
            let name = name("one", &n.to_string());
            kept.keep(&name, [1; 32], &answer(mib), n, Vec::new())
                .await
                .unwrap();
        }
        assert!(is_kept(&kept, &other, 1).await);
        assert!(!is_kept(&kept, &name("one", "0"), 1).await);
        assert!(is_kept(&kept, &name("one", "69"), 1).await);
        let bytes = kept.shelves()[&name("one", "").tenant].bytes;
        assert!(bytes <= MOST_BYTES, "{bytes}");
    }

    #[tokio::test]
    async fn an_answer_comes_back_as_it_was() {
        let kept = Remembered::new(Arc::new(MemoryRecords::new()));
        let mut response = Response::new(Bytes::from_static(b"\xff\x00text"));
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        response.headers_mut().insert("x-a", "1".parse().unwrap());
        let name = name("one", "a");
        kept.keep(&name, [7; 32], &response, 0, Vec::new())
            .await
            .unwrap();
        let Some(Found::Answer(fingerprint, back)) = kept.find(&name, 0).await.unwrap() else {
            panic!("it is not kept");
        };
        assert_eq!(fingerprint, [7; 32]);
        assert_eq!(back.status(), 422);
        assert_eq!(back.headers()["x-a"], "1");
        let body = axum::body::to_bytes(back.into_body(), 100).await.unwrap();
        assert_eq!(&body[..], b"\xff\x00text");
    }
}
