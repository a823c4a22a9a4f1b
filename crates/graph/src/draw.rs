//! Drawings of a graph: Mermaid for a README, DOT for Graphviz.
//!
//! Invariant: every edge that a run can take is drawn, because a run cannot take another.
//! Deliberately absent: layout and the insides of subgraphs, which draw themselves.

use std::fmt::Write as _;

use crate::{
    Graph, State,
    topology::{After, NodeId},
};

/// How an edge is taken.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
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
                Line::Always => "-->",
                Line::Chosen => "-.->",
                Line::Joined => "==>",
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
                Line::Always => "",
                Line::Chosen => " [style=dashed]",
                Line::Joined => " [style=bold]",
            };
            let _ = writeln!(text, "    {from} -> {to}{style}");
        }
        text.push_str("}\n");
        text
    }

    /// Every edge once, by source and in the order it was added.
    fn lines(&self) -> Vec<(String, String, Line)> {
        let mut lines = Vec::new();
        let mut add = |from: &str, after: &After<S>| {
            let name = |id: &NodeId| format!("n{}", id.index());
            let mut line = |to: String, line| {
                let edge = (from.to_owned(), to, line);
                if !lines.contains(&edge) {
                    lines.push(edge);
                }
            };
            after
                .edges
                .iter()
                .for_each(|id| line(name(id), Line::Always));
            after
                .declared
                .iter()
                .for_each(|id| line(name(id), Line::Chosen));
            for (join, _) in &after.joins {
                line(name(&self.topology.joins[*join].target), Line::Joined);
            }
            if after.always_ends {
                line("finish".to_owned(), Line::Always);
            }
            if after.may_end {
                line("finish".to_owned(), Line::Chosen);
            }
        };
        add("start", &self.topology.start);
        for (index, after) in self.topology.after.iter().enumerate() {
            add(&format!("n{index}"), after);
        }
        lines
    }
}
