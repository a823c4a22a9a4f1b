//! Questions that a run waits on, and the answers that let it continue.
//!
//! Invariant: an interrupt's id stays the same however often its node is started again.
//! Deliberately absent: who answers, and how long that takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{NodeName, RunError};

/// A node waits for an answer from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Interrupt {
    /// Unique in its thread; an answer names it.
    pub id: String,
    /// The node that waits.
    pub node: NodeName,
    /// What the node called it.
    pub key: String,
    /// What the node wants to be answered.
    pub payload: serde_json::Value,
}

/// Answers to pending interrupts.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Answers {
    /// None: continue after a crash, a cancellation or a drain.
    #[default]
    None,
    /// To the only pending interrupt.
    Only(serde_json::Value),
    /// By interrupt id; interrupts without an answer stay pending.
    ById(BTreeMap<String, serde_json::Value>),
}

impl Answers {
    /// Resolves the answers against what is pending.
    pub(crate) fn resolve(
        self,
        pending: &[String],
    ) -> Result<BTreeMap<String, serde_json::Value>, RunError> {
        match self {
            Self::None => Ok(BTreeMap::new()),
            Self::Only(value) => match pending {
                [id] => Ok(BTreeMap::from([(id.clone(), value)])),
                _ => Err(RunError::AmbiguousAnswer {
                    pending: pending.to_vec(),
                }),
            },
            Self::ById(answers) => match answers.keys().find(|id| !pending.contains(id)) {
                Some(id) => Err(RunError::UnknownInterrupt { id: id.clone() }),
                None => Ok(answers),
            },
        }
    }
}
