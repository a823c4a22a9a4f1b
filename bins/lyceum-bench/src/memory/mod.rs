//! `bench memory`: whether what was said is found again, and what finding costs.
//!
//! Conversations are saved and searched as an application does it, over the embedded store; no
//! model judges. A figure of finding is the mean share of a question's evidence that was found;
//! what encryption costs, and finding by meaning in PostgreSQL, is measured beside it.

mod conversations;
mod encryption;
mod locomo;
mod vectors;

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::{
    Options,
    machine::Machine,
    report::{Figures, say},
};

/// Where the conversations are looked for, from this crate's folder.
const LOCOMO: &str = "../../../shared/data/locomo-dev.json";

/// What else this benchmark is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Conversations in the form of LoCoMo. Default `../shared/data/locomo-dev.json`, from the
    /// workspace's root.
    #[arg(long)]
    locomo: Option<PathBuf>,
}

/// Runs the benchmark.
///
/// # Errors
///
/// When a file that was named is absent or has another form, or the store fails.
pub fn run(options: &Options, args: &Args) -> Result<()> {
    let figures = Figures::of("memory");
    figures.machine(&Machine::look(&options.data)?)?;
    encryption::run(figures, options)?;
    vectors::run(figures)?;
    let default = Path::new(env!("CARGO_MANIFEST_DIR")).join(LOCOMO);
    let file = args.locomo.as_ref().unwrap_or(&default);
    match (file.is_file(), &args.locomo) {
        (true, _) => locomo::run(figures, options, file)?,
        (false, Some(file)) => bail!("there is no file {}", file.display()),
        (false, None) => say("no conversations: name a file in LoCoMo's form with --locomo FILE"),
    }
    Ok(())
}
