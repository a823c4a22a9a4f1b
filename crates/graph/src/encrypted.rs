//! A saver that keeps what it is given where others can read it, sealed.
//!
//! XChaCha20-Poly1305 (draft-irtf-cfrg-xchacha-03) with a random nonce for each piece. The
//! place of a piece is its associated data, so that bytes which were changed, or moved to
//! another thread, channel, checkpoint, task or key, are refused as
//! [`SaverError::Corrupt`]. The head of a checkpoint seals its plan and vouches for the rest
//! of itself: its namespace, its parent and the values that make up the state.
//!
//! Invariant: nothing a node wrote, asked or was sent leaves in the clear. Deliberately
//! absent: hiding names (threads, channels, keys of effects), numbers and metadata, which a
//! backend needs; and knowing that a whole record or a newest checkpoint was taken away, or
//! replaced by an older one of the same place, which needs a memory outside the backend.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use chacha20poly1305::{
    Key, KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, OsRng, Payload, rand_core::RngCore as _},
};
use futures_util::{FutureExt as _, future::BoxFuture};

use crate::saver::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Record, Saved, Saver, SaverError,
    ThreadId, Value, ValueRef,
};

/// The form of what is stored: this byte, the key's id, the nonce, the sealed bytes.
const FORM: u8 = 1;
const ID_BYTES: usize = size_of::<u32>();
const NONCE_BYTES: usize = 24;

/// The keys of an [`Encrypted`] saver: it writes with the newest, and reads with all.
///
/// To rotate, make a ring of a new key with the old ones behind it. A key may go when no
/// checkpoint that was written with it is left.
#[derive(Clone)]
pub struct KeyRing {
    newest: (u32, XChaCha20Poly1305),
    old: BTreeMap<u32, XChaCha20Poly1305>,
}

impl KeyRing {
    /// A ring of one key of 32 random bytes. The id is stored in the clear; it is never
    /// given to another key.
    #[must_use]
    pub fn new(id: u32, key: &[u8; 32]) -> Self {
        Self {
            newest: (id, XChaCha20Poly1305::new(Key::from_slice(key))),
            old: BTreeMap::new(),
        }
    }

    /// Adds a key to read with.
    #[must_use]
    pub fn and_old(mut self, id: u32, key: &[u8; 32]) -> Self {
        let cipher = XChaCha20Poly1305::new(Key::from_slice(key));
        self.old.insert(id, cipher);
        self
    }

    fn get(&self, id: u32) -> Option<&XChaCha20Poly1305> {
        let (newest, cipher) = &self.newest;
        Some(cipher)
            .filter(|_| *newest == id)
            .or_else(|| self.old.get(&id))
    }

    fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SaverError> {
        let (id, cipher) = &self.newest;
        let mut nonce = [0; NONCE_BYTES];
        OsRng
            .try_fill_bytes(&mut nonce)
            .map_err(|source| SaverError::Backend {
                source: source.to_string().into(),
            })?;
        let payload = Payload {
            msg: plain,
            aad: place,
        };
        let sealed = cipher
            .encrypt(XNonce::from_slice(&nonce), payload)
            .map_err(|_opaque| SaverError::Backend {
                source: OpenError::Refused.into(),
            })?;
        let mut bytes = Vec::with_capacity(1 + ID_BYTES + NONCE_BYTES + sealed.len());
        bytes.push(FORM);
        bytes.extend(id.to_le_bytes());
        bytes.extend(nonce);
        bytes.extend(sealed);
        Ok(bytes)
    }

    fn open(&self, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        let (FORM, rest) = bytes
            .split_first()
            .ok_or(OpenError::Form)
            .map(|(f, r)| (*f, r))?
        else {
            return Err(OpenError::Form);
        };
        let (id, rest) = rest.split_first_chunk().ok_or(OpenError::Form)?;
        let (nonce, sealed) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or(OpenError::Form)?;
        let id = u32::from_le_bytes(*id);
        let cipher = self.get(id).ok_or(OpenError::UnknownKey { id })?;
        let payload = Payload {
            msg: sealed,
            aad: place,
        };
        cipher
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_opaque| OpenError::Refused)
    }
}

/// Shows which keys there are, not the keys.
impl fmt::Debug for KeyRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRing")
            .field("newest", &self.newest.0)
            .field("old", &self.old.keys())
            .finish()
    }
}

/// Why stored bytes were refused; the source of [`SaverError::Corrupt`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// They were sealed with a key that the ring does not have.
    #[error("open what key {id} has sealed: the ring has no such key")]
    UnknownKey {
        /// The key's id.
        id: u32,
    },
    /// They were changed, or moved from another place.
    #[error("open sealed bytes: they were changed or moved")]
    Refused,
    /// They were not written by this saver.
    #[error("open stored bytes: they were never sealed")]
    Form,
}

/// Seals what another saver keeps.
///
/// ```
/// # use std::sync::Arc;
/// # use lyceum_graph::{Encrypted, KeyRing, MemorySaver};
/// # let (new, old) = ([1; 32], [2; 32]);
/// let keys = KeyRing::new(2, &new).and_old(1, &old);
/// let saver = Arc::new(Encrypted::new(MemorySaver::new(), keys));
/// ```
#[derive(Debug)]
pub struct Encrypted<S> {
    saver: S,
    keys: Arc<KeyRing>,
}

impl<S: Saver> Encrypted<S> {
    /// Seals what goes into a saver, with these keys.
    #[must_use]
    pub fn new(saver: S, keys: KeyRing) -> Self {
        let keys = Arc::new(keys);
        Self { saver, keys }
    }

    fn seal(&self, thread: &ThreadId, batch: &Batch) -> Result<Batch, SaverError> {
        let values = batch.values.iter().map(|value| {
            Ok(Value {
                key: value.key.clone(),
                bytes: self
                    .keys
                    .seal(&place_of_value(thread, &value.key), &value.bytes)?,
            })
        });
        let records = batch.records.iter().map(|record| {
            Ok(Record {
                key: record.key.clone(),
                bytes: self
                    .keys
                    .seal(&place_of_record(thread, record), &record.bytes)?,
                ..*record
            })
        });
        let heads = batch.checkpoints.iter().map(|head| {
            let sealed = self
                .keys
                .seal(&place_of_head(thread, head), head.plan.as_bytes())?;
            let plan = BASE64.encode(sealed);
            Ok(Checkpoint {
                plan,
                ..head.clone()
            })
        });
        Ok(Batch {
            values: values.collect::<Result<_, SaverError>>()?,
            records: records.collect::<Result<_, SaverError>>()?,
            checkpoints: heads.collect::<Result<_, SaverError>>()?,
        })
    }

    fn open_head(&self, thread: &ThreadId, head: &mut Checkpoint) -> Result<(), SaverError> {
        let place = place_of_head(thread, head);
        let opened = BASE64
            .decode(&head.plan)
            .map_err(|_not_base64| OpenError::Form)
            .and_then(|sealed| self.keys.open(&place, &sealed))
            .and_then(|plan| String::from_utf8(plan).map_err(|_not_text| OpenError::Form));
        head.plan = opened.map_err(|error| corrupt(thread, error))?;
        Ok(())
    }

    fn open(&self, thread: &ThreadId, saved: &mut Saved) -> Result<(), SaverError> {
        for Value { key, bytes } in &mut saved.values {
            let opened = self.keys.open(&place_of_value(thread, key), bytes);
            *bytes = opened.map_err(|error| corrupt(thread, error))?;
        }
        for record in &mut saved.records {
            let opened = self
                .keys
                .open(&place_of_record(thread, record), &record.bytes);
            record.bytes = opened.map_err(|error| corrupt(thread, error))?;
        }
        self.open_head(thread, &mut saved.checkpoint)
    }
}

fn corrupt(thread: &ThreadId, error: OpenError) -> SaverError {
    SaverError::Corrupt {
        thread: thread.clone(),
        source: error.into(),
    }
}

/// Spells a place without two places spelt alike: each part comes after its length.
fn place(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut place = vec![kind];
    for part in parts {
        place.extend((part.len() as u64).to_le_bytes());
        place.extend(*part);
    }
    place
}

fn place_of_value(thread: &ThreadId, key: &ValueRef) -> Vec<u8> {
    let written_by = key.written_by.0.to_le_bytes();
    let parts = [
        thread.as_str().as_bytes(),
        key.channel.as_bytes(),
        &written_by,
    ];
    place(b'v', &parts)
}

fn place_of_record(thread: &ThreadId, record: &Record) -> Vec<u8> {
    let (checkpoint, task) = (record.checkpoint.0.to_le_bytes(), record.task.to_le_bytes());
    let thread = thread.as_str().as_bytes();
    place(b'r', &[thread, &checkpoint, &task, record.key.as_bytes()])
}

/// The thread and all of the head but its plan.
fn place_of_head(thread: &ThreadId, head: &Checkpoint) -> Vec<u8> {
    let mut parts: Vec<Vec<u8>> = vec![
        thread.as_str().into(),
        head.id.0.to_le_bytes().into(),
        head.namespace.as_str().into(),
        format!("{:?}", head.parent.map(|id| id.0)).into(),
        head.step.to_le_bytes().into(),
        format!("{:?}", head.source).into(),
        head.created_at_ms.to_le_bytes().into(),
    ];
    for key in &head.values {
        parts.push(key.channel.as_str().into());
        parts.push(key.written_by.0.to_le_bytes().into());
    }
    // Sorted: a backend may give an object's keys back in another order.
    let metadata: BTreeMap<_, _> = head.metadata.iter().collect();
    for (key, value) in metadata {
        parts.push(key.as_str().into());
        parts.push(value.to_string().into());
    }
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    place(b'h', &parts)
}

impl<S: Saver> Saver for Encrypted<S> {
    fn acquire<'a>(
        &'a self,
        thread: &'a ThreadId,
        ttl: Duration,
        claim: Claim,
    ) -> BoxFuture<'a, Result<Lease, SaverError>> {
        self.saver.acquire(thread, ttl, claim)
    }

    fn release<'a>(&'a self, lease: &'a Lease) -> BoxFuture<'a, Result<(), SaverError>> {
        self.saver.release(lease)
    }

    fn commit<'a>(
        &'a self,
        lease: &'a Lease,
        batch: &'a Batch,
    ) -> BoxFuture<'a, Result<(), SaverError>> {
        async move {
            let sealed = self.seal(&lease.thread, batch)?;
            self.saver.commit(lease, &sealed).await
        }
        .boxed()
    }

    fn load<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        id: Option<CheckpointId>,
    ) -> BoxFuture<'a, Result<Option<Saved>, SaverError>> {
        async move {
            let mut saved = self.saver.load(thread, namespace, id).await?;
            if let Some(saved) = &mut saved {
                self.open(thread, saved)?;
            }
            Ok(saved)
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        thread: &'a ThreadId,
        namespace: &'a str,
        before: Option<CheckpointId>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Checkpoint>, SaverError>> {
        async move {
            let mut heads = self.saver.history(thread, namespace, before, limit).await?;
            for head in &mut heads {
                self.open_head(thread, head)?;
            }
            Ok(heads)
        }
        .boxed()
    }

    fn prune<'a>(&'a self, lease: &'a Lease, keep: Keep) -> BoxFuture<'a, Result<u64, SaverError>> {
        self.saver.prune(lease, keep)
    }
}
