//! What the student thinks with.

use std::sync::Arc;

use lyceum_core::ChatModel;

/// The provider's name where no model answers.
pub(crate) const OFFLINE: &str = "offline";

/// What the student thinks with.
#[derive(Debug, Clone)]
pub enum Mind {
    /// The offline student: rules and learnt weights, without a model.
    Offline,
    /// A model.
    Model(Arc<dyn ChatModel>),
}

impl Mind {
    /// The provider's name, `offline` without a model.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Offline => OFFLINE,
            Self::Model(model) => model.name(),
        }
    }
}
