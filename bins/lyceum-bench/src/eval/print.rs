//! The figures of an evaluation, as JSON or as a table.
//!
//! Invariant: both forms show the same figures.

use std::io::{self, Write as _};

use anyhow::Result;
use lyceum_agents::offline::evaluation::Report;

use crate::report::Figures;

/// Where the figures go.
#[derive(Debug)]
pub(super) struct Sheet<'a> {
    student: &'a str,
    as_table: bool,
}

impl<'a> Sheet<'a> {
    /// Figures of the named student.
    pub(super) fn new(student: &'a str, as_table: bool) -> Self {
        Self { student, as_table }
    }

    /// Prints one language's figures, or those of all.
    pub(super) fn print(&mut self, language: &str, report: &Report) -> Result<()> {
        let whole = [
            ("hit_rate", report.hit_rate(), "", Some(0.7)),
            (
                "false_alarms_per_clean_text",
                report.false_alarms_per_clean_text(),
                "",
                Some(0.5),
            ),
            ("quote_rate", report.quote_rate(), "", Some(0.95)),
            ("leak_rate", report.leak_rate(), "", Some(0.0)),
            ("duplicate_rate", report.duplicate_rate(), "", Some(0.0)),
            ("flawed_texts", report.flawed as f64, "count", None),
            ("clean_texts", report.clean as f64, "count", None),
            ("planted", report.planted as f64, "count", None),
            ("hits", report.hits as f64, "count", None),
            ("asked", report.asked as f64, "count", None),
            ("false_alarms", report.false_alarms as f64, "count", None),
            ("questions", report.questions as f64, "count", None),
            ("judged_for_leaks", report.judged as f64, "count", None),
            ("unanswered", report.unanswered as f64, "count", Some(0.0)),
            ("misquotes", report.misquotes as f64, "count", Some(0.0)),
        ];
        for (metric, value, unit, target) in whole {
            self.figure(language, "all", metric, value, unit, target)?;
        }
        for (kind, count) in &report.kinds {
            let kind = kind.as_str();
            let alarms = count.false_alarms as f64;
            if count.planted > 0 {
                let rate = count.hits as f64 / count.planted as f64;
                self.figure(language, kind, "hit_rate", rate, "", None)?;
            }
            self.figure(
                language,
                kind,
                "planted",
                count.planted as f64,
                "count",
                None,
            )?;
            self.figure(language, kind, "false_alarms", alarms, "count", None)?;
        }
        Ok(())
    }

    fn figure(
        &self,
        language: &str,
        kind: &str,
        metric: &str,
        value: f64,
        unit: &str,
        target: Option<f64>,
    ) -> Result<()> {
        if !self.as_table {
            let case = format!("{}/{language}/{kind}", self.student);
            return Figures::of("feynman").print(&case, metric, value, unit, target);
        }
        let bar = target.map(|target| format!("  (bar {target})"));
        writeln!(
            io::stdout(),
            "{language:<4} {kind:<22} {metric:<28} {value:>8.3}{}",
            bar.unwrap_or_default()
        )?;
        Ok(())
    }
}

/// Names misses and false alarms to the user.
#[expect(
    clippy::print_stderr,
    reason = "a command line tool reports to its user"
)]
pub(super) fn notes(notes: &[String]) {
    for note in notes {
        eprintln!("{note}");
    }
}
