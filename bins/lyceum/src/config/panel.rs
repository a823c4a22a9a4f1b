//! `[panel]`: how the panel discusses.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// `[panel]`: how the panel discusses.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Panel {
    /// The most rounds. Default 3; 1 to 3.
    pub rounds: u32,
    /// After how many of the planner's claims the critic begins. Default 3; 0: when the
    /// planner is done, as all others then wait for those before them.
    pub overlap: usize,
    /// Works out the position.
    pub planner: PanelSeat,
    /// Objects to claims.
    pub critic: PanelSeat,
    /// Rules on objections.
    pub host: PanelSeat,
    /// Writes the report.
    pub reporter: PanelSeat,
}

/// `[panel.planner]` and its like: who sits there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PanelSeat {
    /// A model's name at the provider. Default: the model that answers.
    pub model: Option<String>,
    /// A file with its instructions, a template as the built-in ones. Default: those.
    pub prompt: Option<PathBuf>,
}

impl Default for Panel {
    fn default() -> Self {
        let seat = PanelSeat::default;
        Self {
            rounds: 3,
            overlap: 3,
            planner: seat(),
            critic: seat(),
            host: seat(),
            reporter: seat(),
        }
    }
}
