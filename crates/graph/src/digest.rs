//! Stable hashes: the ids of tasks and the fingerprints of what they were given.
//!
//! Invariant: the same input gives the same hash in every process and version, so an id
//! may be stored. FNV-1a with 128 bits (draft-eastlake-fnv): a few lines, fast on short
//! texts. Deliberately absent: any defence against chosen collisions.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{Checkpoint, CheckpointId, Namespace, NodeName, ThreadId};

const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;

/// A fingerprint of 128 bits, shown as 32 hexadecimal digits. It tells accidental changes
/// apart, not malicious ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(u128);

impl Digest {
    /// The fingerprint of some parts; their boundaries count.
    pub(crate) fn of<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hash = OFFSET;
        let mut mix = |byte: u8| hash = (hash ^ u128::from(byte)).wrapping_mul(PRIME);
        for part in parts {
            part.iter().for_each(|byte| mix(*byte));
            (part.len() as u64)
                .to_le_bytes()
                .into_iter()
                .for_each(&mut mix);
        }
        Self(hash)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Names one task: one planned call of a node. It is a hash of thread, namespace,
/// checkpoint, step, node and place in the step, so a task that is started again, even in
/// another process, has the same id.
///
/// It is unique among all threads of a saver. Runs without a thread share their ids with
/// other runs of the same graph.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TaskId(Digest);

/// What a task's id is made of.
pub(crate) struct TaskKey<'a> {
    pub(crate) thread: &'a str,
    pub(crate) namespace: &'a Namespace,
    pub(crate) checkpoint: CheckpointId,
    pub(crate) step: u64,
    pub(crate) node: &'a NodeName,
    pub(crate) index: usize,
}

impl TaskKey<'_> {
    pub(crate) fn id(&self) -> TaskId {
        // The innermost scope's task id stands for the whole path to it.
        let scope = self.namespace.scopes().last();
        let scope = scope.map_or([0; 16], |scope| scope.task.0.0.to_le_bytes());
        TaskId(Digest::of([
            self.thread.as_bytes(),
            &scope,
            &self.checkpoint.0.to_le_bytes(),
            &self.step.to_le_bytes(),
            self.node.as_str().as_bytes(),
            &(self.index as u64).to_le_bytes(),
        ]))
    }
}

impl TaskId {
    /// The id of a task of a checkpoint of the outermost graph, in this thread: `index` is its place
    /// among the tasks that the checkpoint plans. What was copied to another thread is named there
    /// as it was here with this.
    #[must_use]
    pub fn planned(thread: &ThreadId, head: &Checkpoint, node: &NodeName, index: usize) -> Self {
        TaskKey {
            thread: thread.as_str(),
            namespace: &Namespace::default(),
            checkpoint: head.id,
            step: head.step + 1,
            node,
            index,
        }
        .id()
    }
}

/// A text is not the id of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("read a task's id: give 32 hexadecimal digits")]
pub struct TaskIdError;

impl std::str::FromStr for TaskId {
    type Err = TaskIdError;

    fn from_str(text: &str) -> Result<Self, TaskIdError> {
        let is_plain = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16);
        let number = number.ok().filter(|_| is_plain).ok_or(TaskIdError)?;
        Ok(Self(Digest(number)))
    }
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_stable_and_sees_boundaries() {
        // Stored ids rely on this very value.
        let digest = Digest::of([b"tea".as_slice()]);
        assert_eq!(
            digest.to_string(),
            Digest::of([b"tea".as_slice()]).to_string()
        );
        assert_eq!(
            Digest::of([]).to_string(),
            "6c62272e07bb014262b821756295c58d"
        );
        assert_ne!(
            Digest::of([b"ab".as_slice(), b"c"]),
            Digest::of([b"a".as_slice(), b"bc"])
        );
    }
}
