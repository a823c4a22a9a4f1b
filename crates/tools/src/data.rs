//! Questions to tables: CSV and JSON files of a folder, filtered, grouped, summed, sorted.
//!
//! Invariants: only the files that were there when it was opened are asked, links are not
//! followed; a query takes time in the number of rows and gives a bounded number of them; no
//! code is run. Deliberately absent: joins, expressions, writing.

mod query;
mod table;

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use lyceum_core::{Audience, CallContext, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits};
use serde_json::Value;

use self::{query::Query, table::Table};
use crate::{arguments, text::cap, typed::schema};

/// The most bytes of all files together.
const MAX_TOTAL_BYTES: u64 = 64 << 20;
/// The most files.
const MAX_FILES: usize = 50;
/// Characters of the list of files and columns that the model is shown.
const LIST_CHARS: usize = 2_000;

/// Why a folder cannot be asked about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The folder or a file in it cannot be read.
    #[error("read the data in {path}")]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// A file is no table.
    #[error("read {path} as a table: {detail}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// There is more than is read.
    #[error("read {path}: it holds over {MAX_FILES} tables or {} MiB", MAX_TOTAL_BYTES >> 20)]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
}

/// Answers questions to tables.
#[derive(Debug)]
pub struct Data {
    spec: ToolSpec,
    tables: Arc<BTreeMap<String, Table>>,
}

impl Data {
    /// Reads the `.csv` files, whose first line names the columns, and the `.json` files,
    /// lists of objects, of a folder.
    ///
    /// # Errors
    ///
    /// [`DataError`] when something cannot be read, is no table, or is too large.
    pub async fn open(folder: &Path) -> Result<Self, DataError> {
        let root = folder.to_owned();
        let read = tokio::task::spawn_blocking(move || read_folder(&root)).await;
        let tables = read.map_err(|error| DataError::Read {
            path: folder.to_owned(),
            source: io::Error::other(error),
        })??;
        let described = tables
            .iter()
            .map(|(name, table)| format!("{name} ({})", table.columns().join(", ")));
        let list = cap(described.collect::<Vec<_>>().join("; "), LIST_CHARS);
        let description = format!(
            "Answers questions to tables: filters, groups, counts, sums, averages, sorts. Use \
             it to check what data say. Tables and their columns: {list}"
        );
        Ok(Self {
            spec: ToolSpec::new("query_data", description, schema::<Query>()),
            tables: Arc::new(tables),
        })
    }
}

#[async_trait]
impl Tool for Data {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let query: Query = arguments(value)?;
        let tables = self.tables.clone();
        let answered = tokio::task::spawn_blocking(move || {
            let Some(table) = tables.get(&query.table) else {
                let known: Vec<&str> = tables.keys().map(String::as_str).collect();
                let known = known.join(", ");
                return Err(format!("there is no such table; there are: {known}"));
            };
            let answer = query.ask(table)?;
            Ok((query.table, answer))
        });
        let answered = answered.await.map_err(|error| ToolError::Failed {
            detail: error.to_string(),
        })?;
        let (name, content) = answered.map_err(|detail| ToolError::Arguments { detail })?;
        Ok(ToolOutput {
            sources: vec![name],
            ..ToolOutput::text(content)
        })
    }
}

fn read_folder(root: &Path) -> Result<BTreeMap<String, Table>, DataError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| DataError::Read { path, source }
    };
    let mut tables = BTreeMap::new();
    let mut total = 0;
    for entry in std::fs::read_dir(root).map_err(failed(root))? {
        let entry = entry.map_err(failed(root))?;
        let path = entry.path();
        let kind = path.extension().and_then(|end| end.to_str());
        let is_file = entry.file_type().map_err(failed(&path))?.is_file();
        let (true, Some(kind @ ("csv" | "json"))) = (is_file, kind) else {
            continue;
        };
        total += entry.metadata().map_err(failed(&path))?.len();
        if total > MAX_TOTAL_BYTES || tables.len() == MAX_FILES {
            return Err(DataError::TooLarge {
                path: root.to_owned(),
            });
        }
        let bytes = std::fs::read(&path).map_err(failed(&path))?;
        let table = match kind {
            "csv" => Table::from_csv(&bytes),
            _ => Table::from_json(&bytes),
        };
        let table = table.map_err(|detail| DataError::Format {
            path: path.clone(),
            detail,
        })?;
        tables.insert(entry.file_name().to_string_lossy().into_owned(), table);
    }
    Ok(tables)
}
