//! The command line, and its conversion into settings.

mod load;
mod serve;

use clap::{Parser, Subcommand};

pub(crate) use load::Load;
pub(crate) use serve::Serve;

/// A provider simulator and a load generator for Lyceum.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Pretend to be OpenAI and Anthropic until Ctrl-C, then print what was counted.
    Serve(Box<Serve>),
    /// Be many users who check that every answer is their own.
    Load(Box<Load>),
}
