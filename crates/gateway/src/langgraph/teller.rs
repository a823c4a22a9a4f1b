//! From what a graph says to the events of its thread's stream.
//!
//! Invariant: a message that is told to begin is told to end. Deliberately absent: which
//! events a reader wants.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use lyceum_core::TenantId;
use serde_json::{Map, Value, json};

use super::{
    board::Live,
    chronicle::Chronicle,
    erased::{Said, What},
    platform::Platform,
    resources::Run,
    states::{self, At},
    wire::{TOOL, Written, channels, piece_text},
};

/// A message that is being said: by whom, and what so far.
struct Open {
    namespace: Vec<String>,
    node: String,
    text: String,
}

/// Tells a thread's followers of one run.
pub(crate) struct Teller {
    platform: Platform,
    owner: TenantId,
    thread_id: String,
    run_id: String,
    graph: String,
    chronicle: Option<Arc<Chronicle>>,
    /// Where followers at other processes read it, where the run was started for them.
    taped: Option<Arc<Live>>,
    written: Written,
    open: BTreeMap<String, Open>,
    asked: BTreeSet<String>,
    inside: BTreeSet<Vec<String>>,
    /// The place of the end among what is taped.
    ended: Option<u64>,
}

impl Teller {
    pub(crate) fn new(platform: &Platform, owner: &TenantId, run: &Run, live: &Arc<Live>) -> Self {
        // Who starts a run by a command follows its thread, maybe elsewhere.
        let modes = run.asked.get("stream_mode").and_then(Value::as_array);
        let is_taped = platform.0.bell.is_shared() && modes.is_some_and(Vec::is_empty);
        Self {
            taped: is_taped.then(|| live.clone()),
            platform: platform.clone(),
            owner: owner.clone(),
            thread_id: run.thread_id.clone(),
            run_id: run.run_id.clone(),
            graph: String::new(),
            chronicle: None,
            written: Written::default(),
            open: BTreeMap::new(),
            asked: BTreeSet::new(),
            inside: BTreeSet::new(),
            ended: None,
        }
    }

    /// Whether somebody follows the thread; people may come while the run goes on.
    fn is_followed(&mut self) -> bool {
        if self.chronicle.is_none() {
            let chronicles = &self.platform.0.chronicles;
            self.chronicle = chronicles.find(&self.owner, &self.thread_id);
        }
        self.chronicle.is_some() || self.taped.is_some()
    }

    fn tell(&self, method: &str, namespace: &[String], data: &Value) {
        let place = self.tape(method, namespace, data);
        if let Some(chronicle) = &self.chronicle {
            let name = place.map(|place| chronicle.know(&self.run_id, place));
            chronicle.tell(method, namespace, data, name);
        }
    }

    /// Tells followers at other processes; gives the place of what is told.
    fn tape(&self, method: &str, namespace: &[String], data: &Value) -> Option<u64> {
        let live = self.taped.as_ref()?;
        let place = live.told.next_id();
        live.told.push(method.to_owned(), &json!([namespace, data]));
        Some(place)
    }

    fn lifecycle(&self, namespace: &[String], event: &str, graph: &str, error: Option<&str>) {
        let data = self.lifecycle_data(namespace, event, graph, error);
        self.tell("lifecycle", namespace, &data);
    }

    fn lifecycle_data(
        &self,
        namespace: &[String],
        event: &str,
        graph: &str,
        error: Option<&str>,
    ) -> Value {
        let mut data = json!({ "event": event, "graph_name": graph });
        if let Some(error) = error {
            data["error"] = error.into();
        }
        if namespace.is_empty() {
            data["run_id"] = self.run_id.as_str().into();
        }
        data
    }

    /// The run begins; these fields were written before.
    pub(crate) fn begin(&mut self, graph: &str, fields: &[String]) {
        graph.clone_into(&mut self.graph);
        self.written.add("", fields);
        if self.is_followed() {
            self.lifecycle(&[], "running", &self.graph, None);
        }
    }

    /// The run is over: followers elsewhere are told so by the write that stores its end.
    pub(crate) fn tape_end(&mut self, status: &str, is_open: bool, error: Option<&str>) {
        let data = self.end_data(status, is_open, error);
        self.ended = self.tape("lifecycle", &[], &data);
    }

    /// The run is over and its end is stored.
    pub(crate) fn end(&mut self, status: &str, is_open: bool, error: Option<&str>) {
        let data = self.end_data(status, is_open, error);
        if self.is_followed()
            && let Some(chronicle) = &self.chronicle
        {
            let name = self.ended.map(|place| chronicle.know(&self.run_id, place));
            chronicle.tell("lifecycle", &[], &data, name);
        }
    }

    fn end_data(&self, status: &str, is_open: bool, error: Option<&str>) -> Value {
        let event = match status {
            "success" => "completed",
            // What waits for an answer may go on; what was stopped does not.
            "interrupted" if is_open => "interrupted",
            _ => "failed",
        };
        let error = error.or((event == "failed").then_some("the run was cancelled"));
        let error = error.filter(|_| event == "failed");
        self.lifecycle_data(&[], event, &self.graph, error)
    }

    pub(crate) fn say(&mut self, said: &Said) {
        let path = said.namespace.join("|");
        match &said.what {
            What::Updates {
                update: Value::Object(fields),
                ..
            } => self.written.add(&path, fields.keys()),
            What::Resumed(stored) => self.written.add(&path, &channels(stored)),
            _ => {}
        }
        if !self.is_followed() {
            return;
        }
        let namespace = &said.namespace;
        if let Some(last) = namespace.last()
            && self.inside.insert(namespace.clone())
        {
            let name = last.split(':').next().unwrap_or_default();
            self.lifecycle(namespace, "started", name, None);
        }
        match &said.what {
            What::Values(values) => {
                let values = self.written.without_unset(&path, values.clone());
                self.tell("values", namespace, &values);
            }
            What::Updates { node, update } => {
                self.close(namespace, node);
                let data = json!({ "node": node, "values": update });
                self.tell("updates", namespace, &data);
            }
            What::Asked { interrupts, .. } => {
                for one in interrupts {
                    if self.asked.insert(one.id.clone()) {
                        let data = json!({
                            "interrupt_id": one.id, "payload": one.payload, "value": one.payload,
                        });
                        self.tell("input.requested", namespace, &data);
                    }
                }
            }
            What::Message {
                node,
                id,
                index,
                piece,
            } => self.piece(namespace, node, id, *index, piece_text(piece)),
            What::Custom(value) => match value.get(TOOL) {
                Some(news) => self.tell("tools", namespace, news),
                None if value.is_object() => self.tell("custom", namespace, value),
                None => self.tell("custom", namespace, &json!({ "payload": value })),
            },
            What::Started(task) => self.tell("tasks", namespace, task),
            What::Ended(task) => {
                self.tell("tasks", namespace, task);
                self.left(namespace, task);
            }
            What::Checkpoint(stored) => {
                let head = &stored.head;
                let input = (head.source == lyceum_graph::Source::Input).then_some(At {
                    id: head.id,
                    is_input: true,
                });
                for at in input.into_iter().chain([head.id.into()]) {
                    let about = states::metadata(&self.thread_id, path.is_empty(), head, at);
                    let parent = match at.is_input {
                        true => head.parent.map(At::from),
                        false => states::parent(head),
                    };
                    let mut data = Map::new();
                    data.insert("id".to_owned(), states::checkpoint_id(at).into());
                    if let Some(parent) = parent {
                        data.insert("parent_id".to_owned(), states::checkpoint_id(parent).into());
                    }
                    for name in ["step", "source"] {
                        data.insert(name.to_owned(), about[name].clone());
                    }
                    self.tell("checkpoints", namespace, &Value::Object(data));
                }
            }
            What::Resumed(stored) => {
                let values = self.written.without_unset(&path, stored.state.clone());
                self.tell("values", namespace, &values);
            }
            What::Finished { .. } => {}
        }
    }

    /// A task is done; if it was a subgraph, that is over.
    fn left(&self, namespace: &[String], task: &Value) {
        let text = |name: &str| task.get(name).and_then(Value::as_str).unwrap_or_default();
        let scope = format!("{}:{}", text("name"), text("id"));
        let inner: Vec<_> = namespace.iter().cloned().chain([scope]).collect();
        if !self.inside.contains(&inner) {
            return;
        }
        let error = task.get("error").and_then(Value::as_str);
        let asks = task.get("interrupts").and_then(Value::as_array);
        let event = match (error, asks) {
            (Some(_), _) => "failed",
            (None, Some(asks)) if !asks.is_empty() => "interrupted",
            _ => "completed",
        };
        self.lifecycle(&inner, event, text("name"), error);
    }

    fn piece(&mut self, namespace: &[String], node: &str, id: &str, index: u32, text: &str) {
        let is_new = !self.open.contains_key(id);
        if is_new || index == 0 {
            // A later attempt says the message again from its start.
            let start = json!({
                "event": "message-start", "id": id, "message_id": id, "role": "ai",
                "metadata": {
                    "langgraph_node": node, "run_id": self.run_id, "thread_id": self.thread_id,
                },
            });
            self.tell("messages", namespace, &start);
            let block = json!({
                "event": "content-block-start", "message_id": id, "index": 0,
                "content": { "type": "text", "text": "" },
            });
            self.tell("messages", namespace, &block);
            let open = Open {
                namespace: namespace.to_vec(),
                node: node.to_owned(),
                text: String::new(),
            };
            self.open.insert(id.to_owned(), open);
        }
        let delta = json!({
            "event": "content-block-delta", "message_id": id, "index": 0,
            "delta": { "type": "text-delta", "text": text },
        });
        self.tell("messages", namespace, &delta);
        if let Some(open) = self.open.get_mut(id) {
            open.text.push_str(text);
        }
    }

    /// A node is done, and with it what it said.
    fn close(&mut self, namespace: &[String], node: &str) {
        let closed: Vec<_> = self
            .open
            .extract_if(.., |_, open| {
                open.namespace == namespace && open.node == node
            })
            .collect();
        for (id, open) in closed {
            let block = json!({
                "event": "content-block-finish", "message_id": id, "index": 0,
                "content": { "type": "text", "text": open.text },
            });
            self.tell("messages", namespace, &block);
            let finish = json!({ "event": "message-finish", "message_id": id });
            self.tell("messages", namespace, &finish);
        }
    }
}
