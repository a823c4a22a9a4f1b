//! Where an agent finds its tools each time it works.

use std::{fmt, sync::Arc};

use crate::Tool;

/// Tools that may come and go, e.g. those of other programs. A list of tools is one whose
/// tools stay.
pub trait ToolSource: Send + Sync + fmt::Debug {
    /// The tools there are now, each under a name of its own. Must not block.
    fn tools(&self) -> Vec<Arc<dyn Tool>>;
}

impl ToolSource for Vec<Arc<dyn Tool>> {
    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        self.clone()
    }
}
