//! The models that clients of the compatible APIs may name.
//!
//! Invariant: a name is listed exactly when it can be asked. Deliberately absent: what is
//! around a model (queue, retries, budgets): it comes ready to be called.

use std::{sync::Arc, time::SystemTime};

use lyceum_core::{ChatModel, Embedder, Panel, Student};

use crate::compat::agent::{PanelModel, StudentModel};

/// The name under which the student is asked.
pub(crate) const FEYNMAN: &str = "feynman";

/// The name under which the panel is asked.
pub(crate) const PANEL: &str = "panel";

/// The models and the embedders that the server lends to its clients. The student is
/// always among them, as `feynman`.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    models: Vec<Served>,
    embedders: Vec<Lent>,
}

/// One embedder on the list.
#[derive(Debug, Clone)]
pub(crate) struct Lent {
    pub(crate) embedder: Arc<dyn Embedder>,
    pub(crate) owner: Arc<str>,
    /// Whether the beginning of a vector is a vector too.
    pub(crate) shortens: bool,
}

/// One model on the list.
#[derive(Debug, Clone)]
pub(crate) struct Served {
    pub(crate) name: Arc<str>,
    pub(crate) owner: Arc<str>,
    pub(crate) model: Arc<dyn ChatModel>,
    pub(crate) kind: ServedKind,
}

/// What a name on the list stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServedKind {
    /// A configured model.
    Model,
    /// An agent, which has one voice and its own tools.
    Agent,
}

impl Catalog {
    /// Lends a model under a name. `owner` is shown on the list, e.g. the provider's name.
    /// A name that is taken keeps its first model.
    #[must_use]
    pub fn with_model(mut self, name: &str, owner: &str, model: Arc<dyn ChatModel>) -> Self {
        self.insert(name, owner, model, ServedKind::Model);
        self
    }

    /// Lends an embedder of the server's own under its model's id. A name that is taken
    /// keeps its first embedder.
    #[must_use]
    pub fn with_embedder(mut self, embedder: Arc<dyn Embedder>) -> Self {
        self.lend("lyceum", embedder, false);
        self
    }

    /// Lends a provider's embedder under its model's id. `owner` is shown on the list.
    /// `shortens` says that the model was trained so that the first numbers of a vector,
    /// scaled to length one, are a vector too (Kusupati et al., "Matryoshka Representation
    /// Learning", NeurIPS 2022): clients may then ask for fewer dimensions.
    #[must_use]
    pub fn with_embedder_of(
        mut self,
        owner: &str,
        embedder: Arc<dyn Embedder>,
        shortens: bool,
    ) -> Self {
        self.lend(owner, embedder, shortens);
        self
    }

    /// Lends a panel as the model `panel`: what its agents say is the model's reasoning, the
    /// report its answer.
    #[must_use]
    pub fn with_panel(mut self, panel: Arc<dyn Panel>) -> Self {
        let model = Arc::new(PanelModel::new(panel));
        self.insert(PANEL, "lyceum", model, ServedKind::Agent);
        self
    }

    /// Puts the student on the list.
    pub(crate) fn with_student(mut self, student: Arc<dyn Student>) -> Self {
        let model = Arc::new(StudentModel::new(student));
        self.insert(FEYNMAN, "lyceum", model, ServedKind::Agent);
        self
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Served> {
        self.models.iter().find(|served| &*served.name == name)
    }

    pub(crate) fn all(&self) -> &[Served] {
        &self.models
    }

    pub(crate) fn embedder(&self, name: &str) -> Option<&Lent> {
        let mut embedders = self.embedders.iter();
        embedders.find(|lent| lent.embedder.model() == name)
    }

    pub(crate) fn embedders(&self) -> &[Lent] {
        &self.embedders
    }

    fn lend(&mut self, owner: &str, embedder: Arc<dyn Embedder>, shortens: bool) {
        if self.embedder(embedder.model()).is_none() {
            self.embedders.push(Lent {
                embedder,
                owner: owner.into(),
                shortens,
            });
        }
    }

    fn insert(&mut self, name: &str, owner: &str, model: Arc<dyn ChatModel>, kind: ServedKind) {
        if self.get(name).is_none() {
            self.models.push(Served {
                name: name.into(),
                owner: owner.into(),
                model,
                kind,
            });
        }
    }
}

/// Seconds since 1970, as the compatible APIs write times.
pub(crate) fn unix_seconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
