//! Drawings of a graph: Mermaid for a README, DOT for Graphviz.
//!
//! Invariant: every edge that a run can take is drawn, because a run cannot take another.
//! Deliberately absent: layout and the insides of subgraphs, which draw themselves.

use std::fmt::Write as _;

use crate::{
    END, Graph, NodeName, START, State,
    topology::{After, NodeId},
};

/// An edge of a graph, as a drawing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where it begins: a node, or [`START`].
    pub from: NodeName,
    /// Where it leads: a node, or [`END`].
    pub to: NodeName,
    /// How it is taken.
    pub kind: EdgeKind,
}

/// How an edge is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EdgeKind {
    /// After each run of the node.
    Always,
    /// When a route, a command or a failure says so.
    Chosen,
    /// Together with the other sources of a join.
    Joined,
}

impl<S, C, E> Graph<S, C, E>
where
    S: State,
    C: Send + Sync + 'static,
    E: Send + 'static,
{
    /// Draws the graph as a Mermaid flowchart; dotted edges are chosen at run time, thick
    /// ones are joined.
    #[must_use]
    pub fn to_mermaid(&self) -> String {
        let mut text = String::from("flowchart TD\n");
        text.push_str("    start([start])\n    finish([end])\n");
        for (index, name) in self.topology.names.iter().enumerate() {
            // Writing into a String cannot fail.
            let label = name.as_str().replace('&', "#amp;").replace('"', "#quot;");
            let _ = writeln!(text, "    n{index}[\"{label}\"]");
        }
        for (from, to, line) in self.lines() {
            let arrow = match line {
                EdgeKind::Always => "-->",
                EdgeKind::Chosen => "-.->",
                EdgeKind::Joined => "==>",
            };
            let _ = writeln!(text, "    {from} {arrow} {to}");
        }
        text
    }

    /// Draws the graph in Graphviz's DOT language; dashed edges are chosen at run time, bold
    /// ones are joined.
    #[must_use]
    pub fn to_dot(&self) -> String {
        let mut text = String::from("digraph {\n    start [shape=oval]\n");
        text.push_str("    finish [shape=oval label=\"end\"]\n");
        for (index, name) in self.topology.names.iter().enumerate() {
            let label = name.as_str().replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(text, "    n{index} [shape=box label=\"{label}\"]");
        }
        for (from, to, line) in self.lines() {
            let style = match line {
                EdgeKind::Always => "",
                EdgeKind::Chosen => " [style=dashed]",
                EdgeKind::Joined => " [style=bold]",
            };
            let _ = writeln!(text, "    {from} -> {to}{style}");
        }
        text.push_str("}\n");
        text
    }

    /// Every edge once, by source and in the order it was added: for drawings of your own.
    #[must_use]
    pub fn edges(&self) -> Vec<Edge> {
        let mut edges = Vec::new();
        let mut add = |from: &NodeName, after: &After<S>| {
            let name = |id: &NodeId| self.topology.name(*id).clone();
            let mut edge = |to: NodeName, kind| {
                let from = from.clone();
                let edge = Edge { from, to, kind };
                if !edges.contains(&edge) {
                    edges.push(edge);
                }
            };
            for id in &after.edges {
                edge(name(id), EdgeKind::Always);
            }
            for id in &after.declared {
                edge(name(id), EdgeKind::Chosen);
            }
            for (join, _) in &after.joins {
                edge(name(&self.topology.joins[*join].target), EdgeKind::Joined);
            }
            if after.always_ends {
                edge(END.into(), EdgeKind::Always);
            }
            if after.may_end {
                edge(END.into(), EdgeKind::Chosen);
            }
        };
        add(&START.into(), &self.topology.start);
        for (name, after) in self.topology.names.iter().zip(&self.topology.after) {
            add(name, after);
        }
        edges
    }

    /// The edges with the names that nodes have in a drawing.
    fn lines(&self) -> impl Iterator<Item = (String, String, EdgeKind)> {
        let drawn = |name: &NodeName| match self.topology.ids.get(name) {
            Some(id) => format!("n{}", id.index()),
            None if name.as_str() == START => "start".to_owned(),
            None => "finish".to_owned(),
        };
        let edges = self.edges().into_iter();
        edges.map(move |edge| (drawn(&edge.from), drawn(&edge.to), edge.kind))
    }
}
