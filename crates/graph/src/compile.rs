//! From names to a checked topology.
//!
//! Invariant: what leaves here has no unknown name, every node can be reached from the
//! start, and the end can be reached from every node. Deliberately absent: run-time checks.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    END, Graph, GraphBuilder, NodeName, START, State,
    builder::{RouteFn, Setting},
    cache::NodeCache,
    error::{nearest, suggest},
    pause::Pauses,
    retry::NodeOptions,
    topology::{After, Join, NodeCode, NodeId, Takes, Topology},
    writers,
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
    /// A join waits for a node that only runs after it.
    #[error("compile the graph: the join into {target} never fires, as {from} only runs after it")]
    StuckJoin {
        /// The node after the join.
        target: NodeName,
        /// The source that never runs before.
        from: NodeName,
    },
    /// Two nodes that run in one step declare to write a field that takes one write a step.
    #[error(
        "compile the graph: {first} and {second} run in one step and both write {channel}; \
         give the field a reducer, e.g. #[state(append)]"
    )]
    TwoWriters {
        /// The field.
        channel: &'static str,
        /// The first writer.
        first: NodeName,
        /// The second writer.
        second: NodeName,
    },
    /// A node declares to write a field that the state does not have.
    #[error("compile the graph: {node} declares to write the unknown field {channel}{}", suggest(.near))]
    UnknownChannel {
        /// The node.
        node: NodeName,
        /// The unknown name.
        channel: String,
        /// A field of a similar name.
        near: Option<NodeName>,
    },
    /// The error handler of a node takes no payload, and so cannot be told of the failure.
    #[error("compile the graph: {handler}, the error handler of {node}, is not a worker")]
    HandlerIsNoWorker {
        /// The node.
        node: NodeName,
        /// Its handler.
        handler: NodeName,
    },
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

/// What follows the start and each node, as far as it is known.
struct Edges<S> {
    names: Names,
    start: After<S>,
    after: Vec<After<S>>,
    joins: Vec<Join>,
}

impl<S: State> Edges<S> {
    fn after(&mut self, place: Place) -> &mut After<S> {
        match place {
            Place::Node(id) => &mut self.after[id.index()],
            // Nothing starts at the end: `Names::edge` has refused it.
            Place::Start | Place::End => &mut self.start,
        }
    }

    fn edge(&mut self, from: &NodeName, to: &NodeName) -> Result<(), CompileError> {
        let (source, target) = self.names.edge(from, to)?;
        let after = self.after(source);
        match target {
            Some(target) => after.edges.push(target),
            None => after.always_ends = true,
        }
        Ok(())
    }

    fn declare(&mut self, from: &NodeName, to: &NodeName) -> Result<(), CompileError> {
        let (source, target) = self.names.edge(from, to)?;
        let after = self.after(source);
        match target {
            Some(target) => after.declared.push(target),
            None => after.may_end = true,
        }
        Ok(())
    }

    fn route(&mut self, from: &NodeName, route: RouteFn<S>) -> Result<(), CompileError> {
        let source = self.names.find(from, from)?;
        self.after(source).routes.push(route);
        Ok(())
    }

    fn join(&mut self, sources: &[NodeName], target: &NodeName) -> Result<(), CompileError> {
        let mut join = Vec::new();
        let mut to = None;
        for from in sources {
            let (Place::Node(source), target_id) = self.names.edge(from, target)? else {
                return Err(CompileError::WrongWay {
                    from: from.clone(),
                    to: target.clone(),
                });
            };
            if join.contains(&source) {
                let (target, from) = (target.clone(), from.clone());
                return Err(CompileError::DuplicateSource { target, from });
            }
            to = target_id;
            join.push(source);
        }
        if join.is_empty() {
            return Err(CompileError::EmptyJoin(target.clone()));
        }
        let Some(target) = to else {
            // Nothing waits for a join into the end.
            join.iter()
                .for_each(|source| self.after[source.index()].always_ends = true);
            return Ok(());
        };
        let is_same = |other: &Join| {
            let sources = &other.sources;
            other.target == target
                && sources.len() == join.len()
                && sources.iter().all(|source| join.contains(source))
        };
        // The same join twice fires as one; a checkpoint could not tell the two apart.
        if !self.joins.iter().any(is_same) {
            for (place, source) in join.iter().enumerate() {
                let joins = self.joins.len();
                self.after[source.index()].joins.push((joins, place));
            }
            self.joins.push(Join {
                sources: join,
                target,
            });
        }
        Ok(())
    }

    /// A node that a setting is for.
    fn node(&self, name: &NodeName) -> Result<NodeId, CompileError> {
        match self.names.find(name, name)? {
            Place::Node(id) => Ok(id),
            Place::Start | Place::End => Err(CompileError::ReservedName(name.clone())),
        }
    }

    fn set(
        &mut self,
        options: &mut [NodeOptions],
        node: &NodeName,
        setting: &Setting,
    ) -> Result<(), CompileError> {
        let options = &mut options[self.node(node)?.index()];
        match *setting {
            Setting::Retry(policy) => options.retry = Some(policy),
            Setting::TimeLimit(limit) => options.time_limit = Some(limit),
            Setting::IdleLimit(limit) => options.idle_limit = Some(limit),
            Setting::Rescue(handler) => {
                options.rescue = Some(handler);
                self.declare(node, &handler.into())?;
            }
        }
        Ok(())
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
    let count = builder.nodes.len();
    let mut edges = Edges {
        names: Names {
            ids: ids(&builder)?,
        },
        start: After::default(),
        after: (0..count).map(|_| After::default()).collect(),
        joins: Vec::new(),
    };
    for (from, to) in &builder.edges {
        edges.edge(from, to)?;
    }
    for (from, targets) in &builder.declared {
        targets.iter().try_for_each(|to| edges.declare(from, to))?;
    }
    for (from, route) in builder.routes {
        edges.route(&from, route)?;
    }
    for (sources, target) in &builder.joins {
        edges.join(sources, target)?;
    }
    let mut options = vec![NodeOptions::default(); count];
    for (node, setting) in &builder.settings {
        edges.set(&mut options, node, setting)?;
    }
    let mut caches: Vec<Option<NodeCache<S>>> = (0..count).map(|_| None).collect();
    for (node, cache) in builder.caches {
        caches[edges.node(&node)?.index()] = Some(cache);
    }
    let mut writes: Vec<Option<Vec<bool>>> = vec![None; count];
    for (node, fields) in &builder.writes {
        let declared = &mut writes[edges.node(node)?.index()];
        let declared = declared.get_or_insert_with(|| vec![false; S::CHANNELS.len()]);
        for field in fields {
            declared[channel::<S>(node, field)?] = true;
        }
    }
    let find = |names: &[NodeName]| -> Result<Vec<NodeId>, CompileError> {
        names.iter().map(|name| edges.node(name)).collect()
    };
    let pauses = Pauses {
        before: find(&builder.pauses.before)?,
        after: find(&builder.pauses.after)?,
    };
    let topology = Topology {
        writes,
        pauses,
        names: builder.nodes.iter().map(|node| node.name.clone()).collect(),
        ids: edges.names.ids,
        deferred: builder.nodes.iter().map(|node| node.deferred).collect(),
        takes: builder.nodes.iter().map(|node| node.takes).collect(),
        start: edges.start,
        after: edges.after,
        joins: edges.joins,
    };
    check_handlers(&topology, &builder.settings)?;
    check_paths(&topology)?;
    check_joins(&topology)?;
    writers::check(&topology)?;
    let nodes = builder.nodes.into_iter().zip(options).zip(caches);
    let nodes = nodes.map(|((node, options), cache)| NodeCode {
        run: node.run,
        options: options.into(),
        cache: cache.map(Arc::new),
        inner: node.inner,
    });
    Ok(Graph::new(Arc::new(topology), nodes.collect()))
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

/// The index of a field that a node declares to write.
fn channel<S: State>(node: &NodeName, field: &str) -> Result<usize, CompileError> {
    let known = S::CHANNELS.iter().position(|known| known.name == field);
    known.ok_or_else(|| {
        let names: Vec<_> = S::CHANNELS.iter().map(|known| known.name.into()).collect();
        CompileError::UnknownChannel {
            node: node.clone(),
            channel: field.to_owned(),
            near: nearest(field, &names),
        }
    })
}

/// Every error handler takes what it is told.
fn check_handlers<S: State>(
    topology: &Topology<S>,
    settings: &[(NodeName, Setting)],
) -> Result<(), CompileError> {
    for (node, setting) in settings {
        if let Setting::Rescue(handler) = setting
            && let Some(id) = topology.ids.get(&NodeName::from(handler))
            && topology.takes[id.index()] == Takes::State
        {
            let (node, handler) = (node.clone(), handler.into());
            return Err(CompileError::HandlerIsNoWorker { node, handler });
        }
    }
    Ok(())
}

/// Every source of every join can run before the join fires.
fn check_joins<S: State>(topology: &Topology<S>) -> Result<(), CompileError> {
    let follow = |after: &After<S>| -> Vec<NodeId> {
        let targets = after.edges.iter().chain(&after.declared);
        targets.copied().collect()
    };
    let edges: Vec<_> = topology.after.iter().map(follow).collect();
    let mut open = follow(&topology.start);
    let ready = loop {
        let reached = flood(open.clone(), &edges);
        let is_ready = |join: &&Join| join.sources.iter().all(|id| reached[id.index()]);
        let targets = topology
            .joins
            .iter()
            .filter(is_ready)
            .map(|join| join.target);
        let fired: Vec<_> = targets.filter(|id| !reached[id.index()]).collect();
        if fired.is_empty() {
            break reached;
        }
        open.extend(fired);
    };
    // Joins behind a stuck one are stuck too: the one to name has begun to wait.
    let missing = |join: &Join| {
        let waits = join.sources.iter().any(|id| ready[id.index()]);
        let missing = join.sources.iter().find(|id| !ready[id.index()]).copied();
        missing.filter(|_| waits).map(|from| (join.target, from))
    };
    match topology.joins.iter().find_map(missing) {
        Some((target, from)) => Err(CompileError::StuckJoin {
            target: topology.name(target).clone(),
            from: topology.name(from).clone(),
        }),
        None => Ok(()),
    }
}

/// Every node lies on a path from the start to the end.
fn check_paths<S: State>(topology: &Topology<S>) -> Result<(), CompileError> {
    let ends = |after: &After<S>| after.always_ends || after.may_end;
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
    if entries.is_empty() && !ends(&topology.start) {
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
    let ending = topology
        .after
        .iter()
        .zip(0..)
        .filter(|(after, _)| ends(after));
    let reaching = flood(ending.map(|(_, id)| NodeId(id)).collect(), &backward);
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
