//! `[langgraph]`: the LangGraph server's API.

use serde::{Deserialize, Serialize};

/// `[langgraph]`: what clients of the LangGraph API find beside the student.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Langgraph {
    /// Graphs without a model to try clients with: `off` (default: a small `agent` alone),
    /// `classic` or `streaming`.
    pub samples: Samples,
    /// Which addresses may be told of the ends of runs.
    pub webhooks: Webhooks,
}

/// Which sample graphs there are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Samples {
    /// `agent`.
    #[default]
    Off,
    /// `agent`, and graphs with subgraphs, stops, failures, waits and factories.
    Classic,
    /// Graphs for a thread's stream: messages, tools, a question, a subgraph.
    Streaming,
}

/// `[langgraph.webhooks]`: which addresses may be told of the ends of runs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Webhooks {
    /// Whether any may. Default `true`.
    pub enabled: bool,
    /// The only hosts, subdomains included. Default: none named, every host of the public web, by
    /// https alone unless networks are named.
    pub hosts: Vec<String>,
    /// Networks that may be reached though they are not public, e.g. `10.1.0.0/16`. Default: none.
    /// With one named, http is sent too, to public hosts as well unless `hosts` are named.
    pub networks: Vec<String>,
    /// Ports. Default 80 and 443.
    pub ports: Vec<u16>,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            enabled: true,
            hosts: Vec::new(),
            networks: Vec::new(),
            ports: vec![80, 443],
        }
    }
}
