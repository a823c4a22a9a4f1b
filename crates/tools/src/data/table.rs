//! A table in memory: columns with names, rows of cells.

use std::cmp::Ordering;

use serde_json::{Map, Value};

/// The most columns.
const MAX_COLUMNS: usize = 500;

/// One cell. What looks like a number is one.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Cell {
    Empty,
    Number(f64),
    Text(Box<str>),
}

impl Cell {
    pub(super) fn read(text: &str) -> Self {
        let text = text.trim();
        match text.parse::<f64>() {
            _ if text.is_empty() => Self::Empty,
            // Codes such as 007 are texts, and so are `inf` and `nan`.
            Ok(number) if number.is_finite() && !is_code(text) => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }

    fn from_json(value: &Value) -> Self {
        match value {
            Value::Null => Self::Empty,
            Value::Number(number) => number.as_f64().map_or(Self::Empty, Self::Number),
            Value::String(text) => Self::read(text),
            other => Self::Text(other.to_string().into()),
        }
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Empty | Self::Text(_) => None,
        }
    }

    /// Numbers before texts, and nothing after everything.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Number(a), Self::Number(b)) => a.total_cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (a, b) => a.rank().cmp(&b.rank()),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Number(_) => 0,
            Self::Text(_) => 1,
            Self::Empty => 2,
        }
    }
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Empty => Ok(()),
            Self::Number(number) => write!(f, "{number}"),
            // A cell stays on its line and in its column.
            Self::Text(text) => f.write_str(&text.replace(['\n', '\r', '|'], " ")),
        }
    }
}

fn is_code(text: &str) -> bool {
    let digits = text.trim_start_matches(['-', '+']);
    digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.")
}

/// See the module's text.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<String>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(super) fn from_csv(bytes: &[u8]) -> Result<Self, String> {
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bytes);
        let wrong = |error: csv::Error| error.to_string();
        let names = reader.byte_headers().map_err(wrong)?;
        let columns: Vec<String> = names
            .iter()
            .map(|name| String::from_utf8_lossy(name).trim().to_owned())
            .collect();
        let mut rows = Vec::new();
        for record in reader.byte_records() {
            let record = record.map_err(wrong)?;
            let cell = |at| record.get(at).map(String::from_utf8_lossy);
            let row = (0..columns.len()).map(|at| cell(at).map_or(Cell::Empty, |c| Cell::read(&c)));
            rows.push(row.collect());
        }
        Self { columns, rows }.checked()
    }

    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, String> {
        let objects: Vec<Map<String, Value>> = serde_json::from_slice(bytes)
            .map_err(|error| format!("it is no list of objects: {error}"))?;
        let mut columns: Vec<String> = Vec::new();
        for name in objects.iter().flat_map(Map::keys) {
            if !columns.contains(name) {
                columns.push(name.clone());
            }
            if columns.len() > MAX_COLUMNS {
                break;
            }
        }
        let row = |object: &Map<String, Value>| {
            let cells = columns.iter().map(|name| object.get(name));
            cells
                .map(|value| value.map_or(Cell::Empty, Cell::from_json))
                .collect()
        };
        let rows = objects.iter().map(row).collect();
        Self { columns, rows }.checked()
    }

    fn checked(self) -> Result<Self, String> {
        match self.columns.len() {
            0 => Err("it has no columns".to_owned()),
            1..=MAX_COLUMNS => Ok(self),
            more => Err(format!("it has {more} columns, over {MAX_COLUMNS}")),
        }
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// The place of a column, by its name in any case.
    pub(super) fn column(&self, name: &str) -> Result<usize, String> {
        let same = |known: &String| known.to_lowercase() == name.trim().to_lowercase();
        self.columns.iter().position(same).ok_or_else(|| {
            let known = self.columns.join(", ");
            format!("there is no column {name:?}; there are: {known}")
        })
    }
}
