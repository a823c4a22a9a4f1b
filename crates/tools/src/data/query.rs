//! A question to a table, and its answer.

use std::{cmp::Ordering, collections::BTreeMap};

use schemars::JsonSchema;
use serde::Deserialize;

use super::table::{Cell, Table};

/// The most rows of an answer.
const MAX_ROWS: usize = 50;
/// The most groups that are kept while rows are read.
const MAX_GROUPS: usize = 100_000;

/// A question to a table.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Query {
    /// The table's name.
    pub(super) table: String,
    /// The columns wanted; all where none are named.
    #[serde(default)]
    columns: Vec<String>,
    /// Conditions that rows must all fulfil.
    #[serde(default)]
    filter: Vec<Condition>,
    /// Columns whose equal values make one row of the answer; needs `measures`.
    #[serde(default)]
    group_by: Vec<String>,
    /// What is computed of all rows, or of each group.
    #[serde(default)]
    measures: Vec<Measure>,
    /// The column of the answer to sort by, e.g. `price` or `mean(price)`.
    sort_by: Option<String>,
    /// Whether the largest comes first.
    #[serde(default)]
    descending: bool,
    /// The most rows wanted, up to 50. Default 20.
    #[serde(default = "twenty")]
    limit: usize,
}

fn twenty() -> usize {
    20
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Condition {
    column: String,
    is: Comparison,
    /// The value to compare with; not needed for `empty`.
    #[serde(default)]
    value: serde_json::Value,
}

#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    AtMost,
    More,
    AtLeast,
    Contains,
    Empty,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Measure {
    what: Kind,
    /// The column of numbers; not needed for `count`.
    column: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Count,
    Sum,
    Mean,
    Least,
    Most,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Mean => "mean",
            Self::Least => "least",
            Self::Most => "most",
        }
    }
}

/// The numbers of a column seen so far.
#[derive(Debug, Clone, Default)]
struct Tally {
    rows: u64,
    numbers: u64,
    sum: f64,
    least: Option<f64>,
    most: Option<f64>,
}

impl Tally {
    fn add(&mut self, number: Option<f64>) {
        self.rows += 1;
        if let Some(number) = number {
            self.numbers += 1;
            self.sum += number;
            self.least = Some(self.least.map_or(number, |least| least.min(number)));
            self.most = Some(self.most.map_or(number, |most| most.max(number)));
        }
    }

    fn value(&self, kind: Kind) -> Cell {
        let any = self.numbers > 0;
        match kind {
            Kind::Count => Some(self.rows as f64),
            Kind::Sum => any.then_some(self.sum),
            Kind::Mean => any.then(|| self.sum / self.numbers as f64),
            Kind::Least => self.least,
            Kind::Most => self.most,
        }
        .map_or(Cell::Empty, Cell::Number)
    }
}

impl Query {
    /// The answer as a table of text, in words of the model's where it cannot be given.
    pub(super) fn ask(&self, table: &Table) -> Result<String, String> {
        let matching = self.matching(table)?;
        let (names, mut rows) = match (self.measures.is_empty(), self.group_by.is_empty()) {
            (false, _) => self.measured(table, &matching)?,
            (true, false) => return Err("group_by needs measures".to_owned()),
            (true, true) => self.picked(table, &matching)?,
        };
        if let Some(column) = &self.sort_by {
            let wanted = column.trim().to_lowercase();
            let at = names.iter().position(|name| name.to_lowercase() == wanted);
            let at = at.ok_or_else(|| {
                let names = names.join(", ");
                format!("the answer has no column {column:?}; it has: {names}")
            })?;
            rows.sort_by(|a, b| match self.descending {
                // What is empty stays last.
                true if a[at] != Cell::Empty && b[at] != Cell::Empty => b[at].order(&a[at]),
                _ => a[at].order(&b[at]),
            });
        }
        let all = rows.len();
        rows.truncate(self.limit.clamp(1, MAX_ROWS));
        let mut text = names.join(" | ");
        for row in &rows {
            let cells: Vec<String> = row.iter().map(Cell::to_string).collect();
            text.push('\n');
            text.push_str(&cells.join(" | "));
        }
        text.push_str(&format!("\n({} of {all} rows)", rows.len()));
        Ok(text)
    }

    fn matching<'a>(&self, table: &'a Table) -> Result<Vec<&'a Vec<Cell>>, String> {
        let mut conditions = Vec::new();
        for condition in &self.filter {
            let value = match &condition.value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
            let at = table.column(&condition.column)?;
            let lower = value.to_lowercase();
            conditions.push((at, condition.is, Cell::read(&value), lower));
        }
        let fits = |row: &&Vec<Cell>| {
            conditions
                .iter()
                .all(|(at, is, value, lower)| compare(&row[*at], *is, value, lower))
        };
        Ok(table.rows().iter().filter(fits).collect())
    }

    fn picked(
        &self,
        table: &Table,
        rows: &[&Vec<Cell>],
    ) -> Result<(Vec<String>, Vec<Vec<Cell>>), String> {
        let places = match self.columns.is_empty() {
            true => (0..table.columns().len()).collect(),
            false => places(table, &self.columns)?,
        };
        let names = places.iter().map(|at| table.columns()[*at].clone());
        let pick = |row: &&Vec<Cell>| places.iter().map(|at| row[*at].clone()).collect();
        Ok((names.collect(), rows.iter().map(pick).collect()))
    }

    fn measured(
        &self,
        table: &Table,
        rows: &[&Vec<Cell>],
    ) -> Result<(Vec<String>, Vec<Vec<Cell>>), String> {
        let by = places(table, &self.group_by)?;
        let mut measured = Vec::new();
        let mut names: Vec<String> = by.iter().map(|at| table.columns()[*at].clone()).collect();
        for Measure { what, column } in &self.measures {
            let name = what.name();
            let at = match (what, column) {
                (Kind::Count, None) => None,
                (_, Some(column)) => Some(table.column(column)?),
                (_, None) => return Err(format!("{name} needs a column")),
            };
            names.push(match at {
                Some(at) => format!("{name}({})", table.columns()[at]),
                None => name.to_owned(),
            });
            measured.push((*what, at));
        }
        let mut groups: BTreeMap<Vec<String>, (Vec<Cell>, Vec<Tally>)> = BTreeMap::new();
        if by.is_empty() {
            groups.insert(
                Vec::new(),
                (Vec::new(), vec![Tally::default(); measured.len()]),
            );
        }
        for row in rows {
            let key: Vec<String> = by.iter().map(|at| row[*at].to_string()).collect();
            if groups.len() >= MAX_GROUPS && !groups.contains_key(&key) {
                return Err(format!("there are over {MAX_GROUPS} groups: filter first"));
            }
            let (_, tallies) = groups.entry(key).or_insert_with(|| {
                let cells = by.iter().map(|at| row[*at].clone()).collect();
                (cells, vec![Tally::default(); measured.len()])
            });
            for (tally, (_, at)) in tallies.iter_mut().zip(&measured) {
                tally.add(at.and_then(|at| row[at].number()));
            }
        }
        let rows = groups.into_values().map(|(mut cells, tallies)| {
            let values = tallies.iter().zip(&measured);
            cells.extend(values.map(|(tally, (kind, _))| tally.value(*kind)));
            cells
        });
        Ok((names, rows.collect()))
    }
}

fn places(table: &Table, names: &[String]) -> Result<Vec<usize>, String> {
    names.iter().map(|name| table.column(name)).collect()
}

/// Texts are compared without regard to case; only likes are ordered.
fn compare(cell: &Cell, is: Comparison, value: &Cell, lower: &str) -> bool {
    let text = || cell.to_string().to_lowercase();
    let equal = || match (cell, value) {
        (Cell::Number(a), Cell::Number(b)) => a == b,
        _ => text() == lower,
    };
    let order = || match (cell, value) {
        (Cell::Number(_), Cell::Number(_)) => Some(cell.order(value)),
        (Cell::Text(_), Cell::Text(_)) => Some(text().as_str().cmp(lower)),
        _ => None,
    };
    match is {
        Comparison::Equal => equal(),
        Comparison::NotEqual => !equal(),
        Comparison::Less => order() == Some(Ordering::Less),
        Comparison::AtMost => order().is_some_and(Ordering::is_le),
        Comparison::More => order() == Some(Ordering::Greater),
        Comparison::AtLeast => order().is_some_and(Ordering::is_ge),
        Comparison::Contains => text().contains(lower),
        Comparison::Empty => *cell == Cell::Empty,
    }
}
