//! What nodes keep beside the state: JSON by namespace and key, found from every thread.
//!
//! Invariant: what has expired is never given. Deliberately absent: making vectors, which
//! takes a model; and an index over words: a search reads what lies below its prefix.

use std::{cmp::Ordering, collections::BTreeSet, fmt, time::Duration};

use futures_util::future::BoxFuture;
use serde_json::{Map, Value};

/// Ends each part of a namespace where it is kept as one text; no part holds it.
const END: char = '\u{1f}';

/// Where items are kept: a path, from the widest part, e.g. a tenant, a user, a topic.
#[derive(Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Shelf(String);

/// A part of a path is empty or holds a control character.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("accept the namespace: give parts that are not empty and hold no control characters")]
pub struct ShelfError;

impl Shelf {
    /// The path of these parts; none is the path above all others.
    ///
    /// # Errors
    ///
    /// [`ShelfError`] when a part is empty or holds a control character.
    pub fn new<P: AsRef<str>>(parts: impl IntoIterator<Item = P>) -> Result<Self, ShelfError> {
        let mut path = String::new();
        for part in parts {
            let part = part.as_ref();
            if part.is_empty() || part.chars().any(char::is_control) {
                return Err(ShelfError);
            }
            path.push_str(part);
            path.push(END);
        }
        Ok(Self(path))
    }

    /// The parts.
    pub fn parts(&self) -> impl Iterator<Item = &str> {
        self.0.split_terminator(END)
    }

    /// The path as a store keeps it: paths below it begin with it.
    #[must_use]
    pub fn as_text(&self) -> &str {
        &self.0
    }

    /// Reads what [`Shelf::as_text`] gave.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The first text, by code points, that is behind all paths below this one.
    #[must_use]
    pub fn text_behind(&self) -> String {
        match self.0.strip_suffix(END) {
            Some(path) => format!("{path}\u{20}"),
            None => char::MAX.to_string(),
        }
    }

    /// Whether it is this path or below it.
    #[must_use]
    pub fn starts_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }
}

impl fmt::Debug for Shelf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.parts()).finish()
    }
}

/// Something to keep.
#[derive(Debug, Clone, PartialEq)]
pub struct NewItem {
    /// Where.
    pub shelf: Shelf,
    /// Its name there; an item of the same name is replaced.
    pub key: String,
    /// What.
    pub value: Value,
    /// What it means, as a model's vector, to be found by; `None` for words alone.
    pub vector: Option<Vec<f32>>,
    /// How long it is kept; `None` for ever.
    pub ttl: Option<Duration>,
}

impl NewItem {
    /// An item that is kept for ever and has no vector.
    #[must_use]
    pub fn new(shelf: Shelf, key: impl Into<String>, value: impl Into<Value>) -> Self {
        Self {
            shelf,
            key: key.into(),
            value: value.into(),
            vector: None,
            ttl: None,
        }
    }

    /// The same, forgotten after this time.
    #[must_use]
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// The same, found by this vector.
    #[must_use]
    pub fn vector(mut self, vector: Vec<f32>) -> Self {
        self.vector = Some(vector);
        self
    }
}

/// Something kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    /// Where.
    pub shelf: Shelf,
    /// Its name there.
    pub key: String,
    /// What.
    pub value: Value,
    /// When it was last put, in milliseconds since 1970 by the store's clock.
    pub updated_at_ms: u64,
    /// How well it fits a search, from 0 to 1; 1 where nothing was searched for.
    pub score: f32,
}

/// What a search looks for.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Near {
    /// Everything, the newest first.
    #[default]
    All,
    /// Items that hold some of these words, those with most of them first.
    Words(String),
    /// Items that have a vector, those of the smallest angle to this one first.
    Vector(Vec<f32>),
}

/// A search.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// Below which path.
    pub prefix: Shelf,
    /// Members that the value must have, with these values.
    pub filter: Map<String, Value>,
    /// What is looked for.
    pub near: Near,
    /// The most items.
    pub limit: usize,
    /// How many of the best are passed over.
    pub offset: usize,
}

impl Search {
    /// The newest ten items below a path.
    #[must_use]
    pub fn below(prefix: Shelf) -> Self {
        Self {
            prefix,
            filter: Map::new(),
            near: Near::All,
            limit: 10,
            offset: 0,
        }
    }

    /// The same for what is near this.
    #[must_use]
    pub fn near(mut self, near: Near) -> Self {
        self.near = near;
        self
    }

    /// Only values with this member.
    #[must_use]
    pub fn filter(mut self, member: &str, value: impl Into<Value>) -> Self {
        self.filter.insert(member.to_owned(), value.into());
        self
    }

    /// Chooses among the items below the prefix, for a store to call.
    #[must_use]
    pub fn choose(&self, items: impl IntoIterator<Item = (Item, Option<Vec<f32>>)>) -> Vec<Item> {
        let wanted = match &self.near {
            Near::Words(text) => words(text).collect(),
            Near::All | Near::Vector(_) => BTreeSet::new(),
        };
        let fits = |item: &Item| {
            let mut members = self.filter.iter();
            members.all(|(member, value)| item.value.get(member) == Some(value))
        };
        let scored = items.into_iter().filter_map(|(mut item, vector)| {
            item.score = match &self.near {
                Near::All => 1.0,
                Near::Words(_) => share(&wanted, &item.value),
                Near::Vector(to) => closeness(to, &vector?)?,
            };
            let is_found = fits(&item) && (self.near == Near::All || item.score > 0.0);
            is_found.then_some(item)
        });
        let mut found: Vec<Item> = scored.collect();
        found.sort_by(|a, b| {
            let by_age = || b.updated_at_ms.cmp(&a.updated_at_ms);
            let by_name = || (&a.shelf, &a.key).cmp(&(&b.shelf, &b.key));
            let by_score = b.score.partial_cmp(&a.score).unwrap_or(Ordering::Equal);
            by_score.then_with(by_age).then_with(by_name)
        });
        found
            .into_iter()
            .skip(self.offset)
            .take(self.limit)
            .collect()
    }
}

/// Words in lower case; a character of a script without spaces is a word.
fn words(text: &str) -> impl Iterator<Item = String> {
    let lower = text.to_lowercase();
    let mut words = Vec::new();
    let mut word = String::new();
    for c in lower.chars() {
        let stands_alone = matches!(c, '\u{2e80}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}');
        if c.is_alphanumeric() && !stands_alone {
            word.push(c);
            continue;
        }
        words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()));
        words.extend(stands_alone.then(|| c.to_string()));
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    words.into_iter()
}

/// How many of the wanted words a value holds.
fn share(wanted: &BTreeSet<String>, value: &Value) -> f32 {
    let held: BTreeSet<String> = words(&value.to_string()).collect();
    let both = wanted.intersection(&held).count();
    #[expect(clippy::cast_precision_loss, reason = "few words")]
    let share = both as f32 / wanted.len().max(1) as f32;
    share
}

/// The cosine of the angle, from 0 for opposite to 1; `None` where there is no angle.
fn closeness(a: &[f32], b: &[f32]) -> Option<f32> {
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let lengths = (product(a, a) * product(b, b)).sqrt();
    let has_angle = a.len() == b.len() && lengths.is_normal();
    has_angle.then(|| f32::midpoint(product(a, b) / lengths, 1.0).clamp(0.0, 1.0))
}

/// Keeps items for nodes: `RunConfig::store`, `Context::store`.
///
/// Every method may be called again after an error. A put is seen by every call after it.
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Keeps an item, in place of the one of its name.
    fn put(&self, item: NewItem) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Reads an item.
    fn get<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Option<Item>, StoreError>>;

    /// Forgets an item, and says whether there was one.
    fn delete<'a>(
        &'a self,
        shelf: &'a Shelf,
        key: &'a str,
    ) -> BoxFuture<'a, Result<bool, StoreError>>;

    /// Finds items, the best first.
    fn search(&self, search: Search) -> BoxFuture<'_, Result<Vec<Item>, StoreError>>;

    /// Lists the paths below one that have items, in order, behind `after`.
    fn shelves<'a>(
        &'a self,
        prefix: &'a Shelf,
        after: Option<&'a Shelf>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<Shelf>, StoreError>>;
}

/// Why a store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The backend failed; whether something was put is unknown.
    #[error("reach the store")]
    Backend {
        /// What the backend said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl StoreError {
    /// Wraps what a backend said.
    pub fn backend(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        let source = source.into();
        Self::Backend { source }
    }
}
