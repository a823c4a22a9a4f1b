//! A typed graph as clients see it: JSON in, JSON out.
//!
//! Invariant: what a client sends becomes the graph's own update type or is refused; fields
//! that the graph does not have are left out. Deliberately absent: HTTP, and who keeps threads.

use std::{collections::BTreeMap, fmt, sync::Arc};

use lyceum_core::Scope;
use lyceum_graph::{CompileError, Graph, State};
use serde_json::{Value, json};

use super::{
    erased::Erased,
    refusal::{Answer, Refusal},
    shelf::Shelf,
};

/// What the nodes of a served graph find in `Context::shared`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Invocation {
    /// Who calls.
    pub scope: Scope,
    /// The thread's id, as the client knows it.
    pub thread_id: String,
    /// What the client configured: `config.configurable`, with the ids of thread, run and
    /// assistant, and the request's headers that begin with `x-`, secrets aside.
    pub configurable: Value,
    /// The client's `context`, over the assistant's.
    pub context: Value,
    /// The caller's items, where the server keeps any.
    pub store: Option<Shelf>,
}

impl Default for Invocation {
    fn default() -> Self {
        Self {
            scope: Scope::local(),
            thread_id: String::new(),
            configurable: Value::Null,
            context: Value::Null,
            store: None,
        }
    }
}

type Make = dyn Fn(&Value) -> Result<Arc<dyn Erased>, CompileError> + Send + Sync;

/// What a server tells of a graph beside its shape.
#[derive(Debug, Clone, Default)]
pub(crate) struct About {
    pub(crate) config: Option<Value>,
    pub(crate) context: Option<Value>,
    pub(crate) context_schema: Option<Value>,
    /// By the path of nodes to a subgraph; the graph's own has the empty path.
    pub(crate) state_schemas: BTreeMap<String, Value>,
}

/// A graph under the name by which clients find it.
#[derive(Clone)]
pub struct Served {
    pub(crate) name: Arc<str>,
    make: Arc<Make>,
    pub(crate) about: About,
}

impl Served {
    /// Serves a graph. What its nodes emit and the pieces of their messages are JSON; a
    /// field named `messages` holds chat messages, see [`crate::langgraph::add_messages`].
    pub fn new<S: State>(name: &str, graph: Graph<S, Invocation, Value>) -> Self {
        let graph: Arc<dyn Erased> = Arc::new(graph);
        Self::from(name, move |_| Ok(graph.clone()))
    }

    /// Serves a graph that depends on what is configured: it is made of `config.configurable`
    /// for every call. A thread is read with the graph of its last run.
    pub fn made<S: State>(
        name: &str,
        make: impl Fn(&Value) -> Result<Graph<S, Invocation, Value>, CompileError>
        + Send
        + Sync
        + 'static,
    ) -> Self {
        Self::from(name, move |configurable| {
            make(configurable).map(|graph| Arc::new(graph) as Arc<dyn Erased>)
        })
    }

    fn from(
        name: &str,
        make: impl Fn(&Value) -> Result<Arc<dyn Erased>, CompileError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            make: Arc::new(make),
            about: About::default(),
        }
    }

    /// Gives the graph's own assistant this `config`.
    #[must_use]
    pub fn with_config(mut self, config: Value) -> Self {
        self.about.config = Some(config);
        self
    }

    /// Gives the graph's own assistant this `context`.
    #[must_use]
    pub fn with_context(mut self, context: Value) -> Self {
        self.about.context = Some(context);
        self
    }

    /// Says what may be configured: a JSON Schema of `configurable` and of `context`.
    #[must_use]
    pub fn with_context_schema(mut self, schema: Value) -> Self {
        self.about.context_schema = Some(schema);
        self
    }

    /// Says what the state looks like: a JSON Schema of the graph's state, or, with a path of
    /// nodes such as `outer|inner`, of the subgraph's there. Default: the names of the fields.
    #[must_use]
    pub fn with_state_schema(mut self, path: &str, schema: Value) -> Self {
        self.about.state_schemas.insert(path.to_owned(), schema);
        self
    }

    /// The graph for what is configured.
    pub(crate) fn graph(&self, configurable: &Value) -> Answer<Arc<dyn Erased>> {
        (self.make)(configurable).map_err(|error| Refusal::invalid(error.to_string()))
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Served").field(&self.name).finish()
    }
}

/// A field that was never written and has no value is no part of what clients see.
pub(crate) fn without_unset(mut state: Value, is_written: impl Fn(&str) -> bool) -> Value {
    if let Some(fields) = state.as_object_mut() {
        fields.retain(|name, value| !value.is_null() || is_written(name));
    }
    state
}

/// Why a node failed, under a name that clients see.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Raised {
    /// The failure's name, e.g. `ValueError`.
    pub error: String,
    /// What it says.
    pub message: String,
}

impl Raised {
    /// A failure of this name.
    #[must_use]
    pub fn new(error: &str, message: &str) -> Self {
        Self {
            error: error.to_owned(),
            message: message.to_owned(),
        }
    }

    pub(crate) fn shown(&self) -> Value {
        json!({ "error": self.error, "message": self.message })
    }
}
