//! From names to a checked topology.
//!
//! Invariant: what leaves here has no unknown name, every node can be reached from the
//! start, and the end can be reached from every node. Deliberately absent: run-time checks.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    END, Graph, GraphBuilder, NodeName, START, State,
    builder::Setting,
    error::{nearest, suggest},
    retry::NodeOptions,
    topology::{After, Join, NodeCode, NodeId, Topology},
};

/// A mistake in a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// Two nodes have one name.
    #[error("compile the graph: two nodes are called {0}")]
    DuplicateNode(NodeName),
    /// A node is called like the start or the end.
    #[error("compile the graph: the name {0} is reserved")]
    ReservedName(NodeName),
    /// An edge, join or route names a node that was not added.
    #[error("compile the graph: {from} leads to or from the unknown node {name}{}", suggest(.near))]
    UnknownNode {
        /// The other end of the edge.
        from: NodeName,
        /// The unknown name.
        name: NodeName,
        /// A node of a similar name.
        near: Option<NodeName>,
    },
    /// An edge ends at the start or begins at the end.
    #[error("compile the graph: the edge from {from} to {to} is the wrong way round")]
    WrongWay {
        /// Where it begins.
        from: NodeName,
        /// Where it ends.
        to: NodeName,
    },
    /// Nothing follows the start.
    #[error("compile the graph: no edge leaves START")]
    NoEntry,
    /// A node has no way in.
    #[error("compile the graph: node {0} cannot be reached from START")]
    Unreachable(NodeName),
    /// No path leads from a node to the end.
    #[error("compile the graph: node {0} cannot reach END; add an edge from it")]
    NoEnd(NodeName),
    /// A join has no sources.
    #[error("compile the graph: the join into {0} has no sources, so it never fires")]
    EmptyJoin(NodeName),
    /// A join names a source twice.
    #[error("compile the graph: the join into {target} names {from} twice")]
    DuplicateSource {
        /// The node after the join.
        target: NodeName,
        /// The source.
        from: NodeName,
    },
}

/// A resolved end of an edge.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Node(NodeId),
    End,
}

struct Names {
    ids: BTreeMap<NodeName, NodeId>,
}

impl Names {
    fn find(&self, name: &NodeName, other: &NodeName) -> Result<Place, CompileError> {
        match name.as_str() {
            START => Ok(Place::Start),
            END => Ok(Place::End),
            text => self.ids.get(name).copied().map(Place::Node).ok_or_else(|| {
                CompileError::UnknownNode {
                    from: other.clone(),
                    name: name.clone(),
                    near: nearest(text, self.ids.keys()),
                }
            }),
        }
    }

    /// Resolves an edge; the second value is `None` for the end.
    fn edge(
        &self,
        from: &NodeName,
        to: &NodeName,
    ) -> Result<(Place, Option<NodeId>), CompileError> {
        match (self.find(from, to)?, self.find(to, from)?) {
            (Place::End, _) | (_, Place::Start) => Err(CompileError::WrongWay {
                from: from.clone(),
                to: to.clone(),
            }),
            (source, Place::Node(target)) => Ok((source, Some(target))),
            (source, Place::End) => Ok((source, None)),
        }
    }
}

pub(crate) fn compile<S, C, E>(
    mut builder: GraphBuilder<S, C, E>,
) -> Result<Graph<S, C, E>, CompileError>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    builder.nodes.sort_by(|a, b| a.name.cmp(&b.name));
    let names = Names {
        ids: ids(&builder)?,
    };
    let count = builder.nodes.len();
    let mut start = After::default();
    let mut after: Vec<After<S>> = (0..count).map(|_| After::default()).collect();
    let mut ends = vec![false; count];
    let mut starts_at_end = false;

    fn place<'a, S>(
        place: Place,
        start: &'a mut After<S>,
        after: &'a mut [After<S>],
    ) -> &'a mut After<S> {
        match place {
            Place::Node(id) => &mut after[id.index()],
            Place::Start | Place::End => start,
        }
    }
    let mut end_of = |source: Place| match source {
        Place::Node(id) => ends[id.index()] = true,
        Place::Start | Place::End => starts_at_end = true,
    };

    for (from, to) in &builder.edges {
        match names.edge(from, to)? {
            (source, Some(target)) => place(source, &mut start, &mut after).edges.push(target),
            (source, None) => end_of(source),
        }
    }
    for (from, targets) in &builder.declared {
        for to in targets {
            match names.edge(from, to)? {
                (source, Some(target)) => {
                    place(source, &mut start, &mut after).declared.push(target);
                }
                (source, None) => end_of(source),
            }
        }
    }
    for (from, route) in &builder.routes {
        let source = names.find(from, from)?;
        place(source, &mut start, &mut after)
            .routes
            .push(route.clone());
    }
    let mut joins = Vec::new();
    for (sources, target) in &builder.joins {
        let mut join = Vec::new();
        let mut to = None;
        for from in sources {
            let (Place::Node(source), target_id) = names.edge(from, target)? else {
                return Err(CompileError::WrongWay {
                    from: from.clone(),
                    to: target.clone(),
                });
            };
            if join.contains(&source) {
                let (target, from) = (target.clone(), from.clone());
                return Err(CompileError::DuplicateSource { target, from });
            }
            match target_id {
                Some(id) => {
                    to = Some(id);
                    after[source.index()].joins.push((joins.len(), join.len()));
                }
                None => end_of(Place::Node(source)),
            }
            join.push(source);
        }
        if join.is_empty() {
            return Err(CompileError::EmptyJoin(target.clone()));
        }
        if let Some(target) = to {
            joins.push(Join {
                sources: join,
                target,
            });
        }
    }

    let mut options = vec![NodeOptions::default(); count];
    for (name, setting) in builder.settings {
        let Place::Node(id) = names.find(&name, &name)? else {
            return Err(CompileError::ReservedName(name));
        };
        let options = &mut options[id.index()];
        match setting {
            Setting::Retry(policy) => options.retry = Some(policy),
            Setting::TimeLimit(limit) => options.time_limit = Some(limit),
            Setting::IdleLimit(limit) => options.idle_limit = Some(limit),
            Setting::Rescue(handler) => {
                options.rescue = Some(handler);
                if let (source, Some(target)) = names.edge(&name, &handler.into())? {
                    place(source, &mut start, &mut after).declared.push(target);
                }
            }
        }
    }

    let topology = Topology {
        names: builder.nodes.iter().map(|node| node.name.clone()).collect(),
        ids: names.ids,
        deferred: builder.nodes.iter().map(|node| node.deferred).collect(),
        start,
        after,
        joins,
    };
    check_paths(&topology, &ends, starts_at_end)?;
    let nodes = builder
        .nodes
        .into_iter()
        .zip(options)
        .map(|(node, options)| NodeCode {
            run: node.run,
            options: Arc::new(options),
        });
    let nodes = nodes.collect();
    Ok(Graph::new(Arc::new(topology), nodes))
}

fn ids<S: State, C, E>(
    builder: &GraphBuilder<S, C, E>,
) -> Result<BTreeMap<NodeName, NodeId>, CompileError> {
    let mut ids = BTreeMap::new();
    for (node, id) in builder.nodes.iter().zip(0..) {
        if matches!(node.name.as_str(), START | END) {
            return Err(CompileError::ReservedName(node.name.clone()));
        }
        if ids.insert(node.name.clone(), NodeId(id)).is_some() {
            return Err(CompileError::DuplicateNode(node.name.clone()));
        }
    }
    Ok(ids)
}

/// Every node lies on a path from the start to the end.
fn check_paths<S: State>(
    topology: &Topology<S>,
    ends: &[bool],
    starts_at_end: bool,
) -> Result<(), CompileError> {
    let targets = |after: &After<S>| -> Vec<NodeId> {
        let joined = after
            .joins
            .iter()
            .map(|(join, _)| topology.joins[*join].target);
        after
            .edges
            .iter()
            .chain(&after.declared)
            .copied()
            .chain(joined)
            .collect()
    };
    let entries = targets(&topology.start);
    if entries.is_empty() && !starts_at_end {
        return Err(CompileError::NoEntry);
    }
    let forward: Vec<Vec<NodeId>> = topology.after.iter().map(targets).collect();
    let mut backward = vec![Vec::new(); forward.len()];
    for (targets, source) in forward.iter().zip(0..) {
        for target in targets {
            backward[target.index()].push(NodeId(source));
        }
    }
    let reached = flood(entries, &forward);
    if let Some(node) = reached.iter().position(|reached| !reached) {
        return Err(CompileError::Unreachable(topology.names[node].clone()));
    }
    let ending = ends
        .iter()
        .zip(0..)
        .filter(|(ends, _)| **ends)
        .map(|(_, id)| NodeId(id));
    let reaching = flood(ending.collect(), &backward);
    match reaching.iter().position(|reaches| !reaches) {
        Some(node) => Err(CompileError::NoEnd(topology.names[node].clone())),
        None => Ok(()),
    }
}

/// Marks what can be reached from the given nodes.
fn flood(mut open: Vec<NodeId>, edges: &[Vec<NodeId>]) -> Vec<bool> {
    let mut reached = vec![false; edges.len()];
    while let Some(node) = open.pop() {
        if !std::mem::replace(&mut reached[node.index()], true) {
            open.extend(&edges[node.index()]);
        }
    }
    reached
}
