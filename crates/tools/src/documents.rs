//! A folder of text and Markdown files, searched by words: the library without a network.
//!
//! Invariant: only regular files inside the folder are read, links are not followed, and
//! at most [`MAX_TOTAL_BYTES`] are indexed. The index is made once, when it is opened.
//! It ranks as memories do: a document's paragraphs are memories of a scope of their own.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use lyceum_core::{
    Audience, CallContext, Scope, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits,
};
use lyceum_memory::{InMemory, MemoryKind, MemoryStore, NewMemory, StoreError};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{arguments, spec};

/// The most text indexed, in bytes.
const MAX_TOTAL_BYTES: u64 = 64 << 20;
/// Folders deep.
const MAX_DEPTH: usize = 8;
/// Characters of one indexed piece.
const PIECE_CHARS: usize = 1_000;
/// Pieces given to the model.
const MAX_FOUND: usize = 3;

/// Why a folder cannot be searched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentsError {
    /// The folder or a file in it cannot be read.
    #[error("read the documents in {path}")]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: io::Error,
    },
    /// There is more text than is indexed.
    #[error("index {path}: it holds over {} MiB of text; give a smaller folder", MAX_TOTAL_BYTES >> 20)]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
    /// The index failed.
    #[error("index the documents")]
    Index(#[from] StoreError),
}

/// Looks things up in a folder.
#[derive(Debug)]
pub struct Documents {
    spec: ToolSpec,
    index: Arc<InMemory>,
    pieces: usize,
}

#[derive(Deserialize)]
struct Arguments {
    query: String,
}

impl Documents {
    /// Reads and indexes the `.txt` and `.md` files of a folder.
    ///
    /// # Errors
    ///
    /// [`DocumentsError`] when something cannot be read or there is too much of it.
    pub async fn open(folder: &Path) -> Result<Self, DocumentsError> {
        let root = folder.to_owned();
        let read = tokio::task::spawn_blocking(move || read_folder(&root)).await;
        let files = read.map_err(|error| DocumentsError::Read {
            path: folder.to_owned(),
            source: io::Error::other(error),
        })??;
        let index = Arc::new(InMemory::default());
        let mut pieces = 0;
        for (name, text) in files {
            for piece in split(&text) {
                index
                    .put(
                        &Scope::local(),
                        &NewMemory::new(MemoryKind::Fact, name.clone(), piece),
                    )
                    .await?;
                pieces += 1;
            }
        }
        let parameters = json!({
            "type": "object",
            "properties": {"query": {"type": "string", "description": "a few keywords"}},
            "required": ["query"],
        });
        let description = "Looks something up in the school's library. Use it to check a fact of the explanation.";
        Ok(Self {
            spec: spec("look_up", description, parameters),
            index,
            pieces,
        })
    }

    /// How many pieces of text are indexed.
    #[must_use]
    pub fn pieces(&self) -> usize {
        self.pieces
    }
}

#[async_trait]
impl Tool for Documents {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        ToolTraits::reads(Audience::Public)
    }

    async fn call(&self, _call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        let Arguments { query } = arguments(value)?;
        let found = self.index.search(&Scope::local(), &query, MAX_FOUND).await;
        let found = found.map_err(|error| ToolError::Failed {
            detail: error.to_string(),
        })?;
        if found.is_empty() {
            return Ok(ToolOutput::text("nothing found"));
        }
        let mut sources: Vec<String> = found.iter().map(|piece| piece.topic.clone()).collect();
        sources.dedup();
        let texts: Vec<String> = found.into_iter().map(|piece| piece.text).collect();
        Ok(ToolOutput {
            content: texts.join("\n\n"),
            sources,
            degraded: false,
        })
    }
}

/// The text files of a folder with their paths relative to it, sorted by path.
fn read_folder(root: &Path) -> Result<Vec<(String, String)>, DocumentsError> {
    let mut files = Vec::new();
    let mut total = 0;
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let failed = |source| DocumentsError::Read {
            path: folder.clone(),
            source,
        };
        for entry in fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() && depth < MAX_DEPTH {
                folders.push((path, depth + 1));
            } else if kind.is_file()
                && path
                    .extension()
                    .is_some_and(|end| end == "txt" || end == "md")
            {
                total += entry.metadata().map_err(failed)?.len();
                if total > MAX_TOTAL_BYTES {
                    return Err(DocumentsError::TooLarge {
                        path: root.to_owned(),
                    });
                }
                let bytes = fs::read(&path).map_err(|source| DocumentsError::Read {
                    path: path.clone(),
                    source,
                })?;
                let name = path
                    .strip_prefix(root)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                files.push((name, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Paragraphs, joined while short and cut where long.
fn split(text: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    let mut open = String::new();
    for paragraph in text
        .split("\n\n")
        .map(str::trim)
        .filter(|paragraph| !paragraph.is_empty())
    {
        if !open.is_empty() && open.chars().count() + paragraph.chars().count() > PIECE_CHARS {
            pieces.push(std::mem::take(&mut open));
        }
        if !open.is_empty() {
            open.push_str("\n\n");
        }
        open.push_str(paragraph);
        while let Some((at, _)) = open.char_indices().nth(PIECE_CHARS) {
            let rest = open.split_off(at);
            pieces.push(std::mem::replace(&mut open, rest));
        }
    }
    if !open.is_empty() {
        pieces.push(open);
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_are_joined_while_short_and_cut_where_long() {
        assert_eq!(split("a\n\nb\n\n\n c "), ["a\n\nb\n\nc"]);
        let long = "字".repeat(2_500);
        let lengths: Vec<usize> = split(&long)
            .iter()
            .map(|piece| piece.chars().count())
            .collect();
        assert_eq!(lengths, [1_000, 1_000, 500]);
    }
}
