#![doc = include_str!("../README.md")]

pub mod check;
mod consolidate;
mod feynman;
mod gaps;
mod knowledge;
pub mod metrics;
mod mind;
pub mod offline;
pub mod panel;
mod prompts;
mod questions;
mod react;
mod structured;
mod summarise;
pub mod team;
mod tone;

pub use consolidate::Consolidator;
pub use feynman::{Feynman, FeynmanConfig, WorkflowError};
pub use gaps::{GapError, parse_gaps};
pub use knowledge::keeper::{
    ForgetError, Savers, forget_knowledge, knowledge_thread, reseal_knowledge, sweep_knowledge,
};
pub use mind::Mind;
pub use questions::parse_questions;
pub use react::{
    MaxCost, ReAct, ReActEvent, ReActLimits, ReActOutcome, TokenRates, Watch,
    durable::{ApprovalRequest, ReActState, ReActStateUpdate, Said, react_graph},
};
pub use structured::extract_json;
