//! What a graph looks like: its drawing, the schemas of its states, its subgraphs.
//!
//! Invariant: every node and edge of a drawing is one of the graph. Deliberately absent: the
//! types of fields that a graph was not served with.

use std::{collections::HashMap, sync::Arc};

use axum::{Json, extract::Path};
use lyceum_graph::{AnyGraph, END, Edge, EdgeKind, START};
use serde_json::{Map, Value, json};

use super::{
    assistants::get_one,
    refusal::Answer,
    request::Asked,
    resources::Assistant,
    served::{About, Served},
};

/// How messages are told apart in the schema of a field that holds them.
const MESSAGES: [&str; 8] = [
    "BaseMessageChunk",
    "ToolMessage",
    "AIMessage",
    "ChatMessage",
    "FunctionMessage",
    "HumanMessage",
    "SystemMessage",
    "RemoveMessage",
];
const DRAFT: &str = "http://json-schema.org/draft-07/schema#";
/// Subgraphs inside one another that are drawn.
const DEPTH: usize = 8;

fn served(asked: &Asked, assistant: &Assistant) -> Answer<(Served, Arc<dyn AnyGraph>)> {
    let served = asked.platform.graph(&assistant.graph_id)?;
    let null = Value::Null;
    let configurable = assistant.config.get("configurable").unwrap_or(&null);
    let graph = served.graph(configurable)?.any();
    Ok((served, graph))
}

/// Where an edge of an enclosing drawing meets a subgraph's.
fn end(prefix: &str, name: &str) -> String {
    match name {
        START => format!("{prefix}__start__"),
        END => format!("{prefix}__end__"),
        name => format!("{prefix}{name}"),
    }
}

fn drawn(edge: &Edge, source: &str, target: &str) -> Value {
    let mut shown = json!({ "source": source, "target": target });
    if edge.kind == EdgeKind::Chosen {
        shown["conditional"] = true.into();
    }
    shown
}

/// Draws a graph; `depth` levels of its subgraphs are drawn in place of their nodes.
fn draw(
    graph: &dyn AnyGraph,
    prefix: &str,
    depth: usize,
    (nodes, edges): (&mut Vec<Value>, &mut Vec<Value>),
) {
    let schema = |id: String| json!({ "id": id, "type": "schema", "data": id });
    nodes.push(schema(end(prefix, START)));
    let inner = graph.subgraphs();
    let inner = |name: &str| {
        let found = inner.iter().find(|(node, _)| node.as_str() == name);
        found.filter(|_| depth > 0)
    };
    for name in graph.node_names() {
        if let Some((name, graph)) = inner(name.as_str()) {
            draw(
                &**graph,
                &format!("{prefix}{name}:"),
                depth - 1,
                (nodes, edges),
            );
        } else {
            nodes.push(json!({
                "id": end(prefix, name.as_str()), "type": "runnable",
                "data": { "id": ["lyceum", "graph", "node"], "name": name.to_string() },
            }));
        }
    }
    nodes.push(schema(end(prefix, END)));
    for edge in graph.edges() {
        let (from, to) = (edge.from.as_str(), edge.to.as_str());
        let source = match inner(from) {
            Some(_) => end(&format!("{prefix}{from}:"), END),
            None => end(prefix, from),
        };
        let target = match inner(to) {
            Some(_) => end(&format!("{prefix}{to}:"), START),
            None => end(prefix, to),
        };
        edges.push(drawn(&edge, &source, &target));
    }
}

pub(crate) async fn graph(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let assistant = get_one(&asked, &id).await?;
    let (_, graph) = served(&asked, &assistant)?;
    let depth = match asked.value("xray") {
        Some(Value::Bool(true)) => asked
            .number("xray")
            .filter(|depth| *depth > 1)
            .unwrap_or(DEPTH),
        _ => asked.number("xray").unwrap_or(0),
    };
    let (mut nodes, mut edges) = (Vec::new(), Vec::new());
    draw(&*graph, "", depth.min(DEPTH), (&mut nodes, &mut edges));
    Ok(Json(json!({ "nodes": nodes, "edges": edges })))
}

fn open() -> Value {
    json!({ "$schema": DRAFT, "type": "object", "properties": {} })
}

fn state(graph: &dyn AnyGraph, about: &About, path: &str, title: &str) -> Value {
    let fields = graph.channels().iter().map(|channel| {
        let schema = match channel.name {
            "messages" => json!({
                "title": "Messages", "type": "array",
                "items": { "$ref": "#/definitions/BaseMessage" },
            }),
            name => json!({ "title": name }),
        };
        (channel.name.to_owned(), schema)
    });
    let properties: Map<_, _> = fields.collect();
    let message = json!({
        "type": "object", "required": ["type", "content"],
        "properties": {
            "id": { "type": "string" }, "type": { "type": "string" }, "content": {},
        },
    });
    let mut definitions = Map::new();
    let kinds = MESSAGES
        .iter()
        .map(|kind| json!({ "$ref": format!("#/definitions/{kind}") }));
    let kinds: Vec<_> = kinds.collect();
    definitions.insert("BaseMessage".to_owned(), json!({ "oneOf": kinds }));
    for kind in MESSAGES {
        definitions.insert(kind.to_owned(), message.clone());
    }
    let mut schema = json!({
        "$schema": DRAFT, "type": "object", "title": title, "properties": properties,
        "definitions": definitions,
    });
    if let Some(Value::Object(given)) = about.state_schemas.get(path) {
        for (name, value) in given {
            match (schema.get_mut(name), value) {
                (Some(Value::Object(fields)), Value::Object(more)) => fields.extend(more.clone()),
                _ => schema[name] = value.clone(),
            }
        }
    }
    schema
}

pub(crate) async fn schemas(Path(id): Path<String>, asked: Asked) -> Answer<Json<Value>> {
    let assistant = get_one(&asked, &id).await?;
    let (served, graph) = served(&asked, &assistant)?;
    let title = format!("{}State", assistant.graph_id);
    let state = state(&*graph, &served.about, "", &title);
    let mut context = open();
    if let Some(Value::Object(given)) = &served.about.context_schema {
        for (name, value) in given {
            context[name] = value.clone();
        }
    }
    Ok(Json(json!({
        "graph_id": assistant.graph_id, "input_schema": state, "output_schema": state,
        "state_schema": state, "config_schema": context, "context_schema": context,
    })))
}

pub(crate) async fn subgraphs(
    path: Path<HashMap<String, String>>,
    asked: Asked,
) -> Answer<Json<Value>> {
    let id = path.get("id").map(String::as_str).unwrap_or_default();
    let assistant = get_one(&asked, id).await?;
    let (served, graph) = served(&asked, &assistant)?;
    let wanted = path.get("namespace").map(String::as_str);
    let recurses = asked.is("recurse") || wanted.is_some();
    let mut found = Map::new();
    let mut graphs = vec![(String::new(), graph, 0)];
    while let Some((path, graph, depth)) = graphs.pop() {
        for (name, inner) in graph.subgraphs() {
            let path = match path.as_str() {
                "" => name.to_string(),
                path => format!("{path}|{name}"),
            };
            if wanted.is_none_or(|wanted| wanted == path) {
                let state = state(&*inner, &served.about, &path, &format!("{name}State"));
                found.insert(
                    path.clone(),
                    json!({
                        "state": state, "input": state, "output": state,
                        "config": open(), "context": open(),
                        "graph_id": assistant.graph_id, "state_schema": state,
                        "input_schema": state, "output_schema": state,
                        "config_schema": open(), "context_schema": open(),
                    }),
                );
            }
            if recurses && depth < DEPTH {
                graphs.push((path, inner, depth + 1));
            }
        }
    }
    Ok(Json(Value::Object(found)))
}
