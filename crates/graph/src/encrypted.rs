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

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD_NO_PAD as BASE64};
use futures_util::{FutureExt as _, future::BoxFuture};
pub use lyceum_vault::{KeyRing, OpenError};
use lyceum_vault::{SealError, place};

use crate::saver::{
    Batch, Checkpoint, CheckpointId, Claim, Keep, Lease, Record, Saved, Saver, SaverError,
    ThreadId, Value, ValueRef,
};

/// What becomes of bytes that were never sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unsealed {
    Refuse,
    Read,
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
    unsealed: Unsealed,
}

impl<S: Saver> Encrypted<S> {
    /// Seals what goes into a saver, with these keys.
    #[must_use]
    pub fn new(saver: S, keys: KeyRing) -> Self {
        Self {
            saver,
            keys: Arc::new(keys),
            unsealed: Unsealed::Refuse,
        }
    }

    /// Reads what was stored before there were keys, too. Whoever can write to the saver can then
    /// put clear values in the place of sealed ones: for a change-over, not for good.
    #[must_use]
    pub fn reading_unsealed(self) -> Self {
        Self {
            unsealed: Unsealed::Read,
            ..self
        }
    }

    fn opened(&self, place: &[u8], bytes: &[u8]) -> Result<Vec<u8>, OpenError> {
        match self.keys.open(place, bytes) {
            Err(OpenError::Form) if self.unsealed == Unsealed::Read => Ok(bytes.to_vec()),
            opened => opened,
        }
    }

    /// A batch as the saver below is given it.
    ///
    /// # Errors
    ///
    /// [`SaverError::Backend`] where the system fails.
    pub fn seal(&self, thread: &ThreadId, batch: &Batch) -> Result<Batch, SaverError> {
        let values = batch.values.iter().map(|value| {
            Ok(Value {
                key: value.key.clone(),
                bytes: self
                    .keys
                    .seal(&place_of_value(thread, &value.key), &value.bytes)
                    .map_err(unsealable)?,
            })
        });
        let records = batch.records.iter().map(|record| {
            Ok(Record {
                key: record.key.clone(),
                bytes: self
                    .keys
                    .seal(&place_of_record(thread, record), &record.bytes)
                    .map_err(unsealable)?,
                ..*record
            })
        });
        let heads = batch.checkpoints.iter().map(|head| {
            let sealed = self
                .keys
                .seal(&place_of_head(thread, head), head.plan.as_bytes())
                .map_err(unsealable)?;
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
        // What is no Base64 was never sealed, and its first byte says so too.
        let sealed = BASE64.decode(&head.plan);
        let sealed = sealed.unwrap_or_else(|_not_base64| head.plan.clone().into_bytes());
        let opened = self.opened(&place, &sealed);
        let opened =
            opened.and_then(|plan| String::from_utf8(plan).map_err(|_not_text| OpenError::Form));
        head.plan = opened.map_err(|error| corrupt(thread, error))?;
        Ok(())
    }

    fn open(&self, thread: &ThreadId, saved: &mut Saved) -> Result<(), SaverError> {
        for Value { key, bytes } in &mut saved.values {
            let opened = self.opened(&place_of_value(thread, key), bytes);
            *bytes = opened.map_err(|error| corrupt(thread, error))?;
        }
        for record in &mut saved.records {
            let opened = self.opened(&place_of_record(thread, record), &record.bytes);
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

fn unsealable(error: SealError) -> SaverError {
    SaverError::Backend {
        source: error.into(),
    }
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
