//! From a machine to a checkpoint and back.
//!
//! Invariant: only what was written since the last checkpoint is serialised, so a
//! checkpoint costs what changed. Names, not ids, are stored: a graph may gain nodes and
//! fields between two runs of a thread. Deliberately absent: storing, which is the saver's.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    NodeName, RunError, State,
    chain::{Stored, stored},
    changed::Mark,
    error::nearest,
    machine::{Machine, Progress, Task},
    pause::Pause,
    saver::{Checkpoint, CheckpointId, Metadata, Saved, Source, Value, ValueRef},
    topology::NodeId,
};

/// Where the subgraphs with memory of a graph stand, by namespace.
pub(crate) type Children = BTreeMap<String, CheckpointId>;

/// What a checkpoint says of the next step.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) tasks: Vec<PlannedTask>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    waiting: Vec<NodeName>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    joins: Vec<StartedJoin>,
    /// The task of the enclosing graph that began this run, in a subgraph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) origin: Option<String>,
    #[serde(default, skip_serializing_if = "Pause::is_none")]
    pause: Pause,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PlannedTask {
    pub(crate) node: NodeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) payload: Option<String>,
}

/// A join of which some sources have run; `sources` tells joins into one node apart.
#[derive(Debug, Serialize, Deserialize)]
struct StartedJoin {
    target: NodeName,
    sources: Vec<NodeName>,
    arrived: Vec<NodeName>,
}

impl Plan {
    pub(crate) fn read(checkpoint: &Checkpoint) -> Result<Self, RunError> {
        serde_json::from_str(&checkpoint.plan).map_err(|source| RunError::Decode {
            what: "plan".to_owned(),
            source,
        })
    }
}

impl<S: State> Machine<S> {
    /// Takes a checkpoint of the state and the plan; marks everything as saved.
    pub(crate) fn checkpoint(
        &mut self,
        id: CheckpointId,
        parent: Option<CheckpointId>,
        namespace: &str,
        source: Source,
        now_ms: u64,
    ) -> Result<(Checkpoint, Vec<Value>), RunError> {
        let mut values = Vec::new();
        for (index, channel) in S::CHANNELS.iter().enumerate() {
            let mark = self.changed.take(index);
            if !channel.kind.is_saved() {
                continue;
            }
            let stored = &mut self.stored[index];
            let writes = match mark {
                Mark::Same => continue,
                Mark::Cleared => {
                    stored.clear();
                    continue;
                }
                Mark::Writes(writes) => stored.add(id, writes),
                Mark::Whole => None,
            };
            let bytes = match writes {
                Some(writes) => writes,
                None => {
                    let what = || channel.name.to_owned();
                    let whole = self.state.save(index);
                    let whole = whole.map_err(|source| RunError::Encode {
                        what: what(),
                        source,
                    })?;
                    stored.replace(id, whole.len());
                    whole
                }
            };
            let key = ValueRef {
                channel: channel.name.to_owned(),
                written_by: id,
            };
            values.push(Value { key, bytes });
        }
        let plan =
            serde_json::to_string(&self.plan_by_name()).map_err(|source| RunError::Encode {
                what: "plan".to_owned(),
                source,
            })?;
        let named = S::CHANNELS.iter().zip(&self.stored);
        let head = Checkpoint {
            id,
            namespace: namespace.to_owned(),
            parent,
            step: self.merged,
            source,
            values: named
                .flat_map(|(channel, stored)| {
                    stored.written_by().map(|written_by| ValueRef {
                        channel: channel.name.to_owned(),
                        written_by,
                    })
                })
                .collect(),
            plan,
            created_at_ms: now_ms,
            children: (*self.children).clone(),
            metadata: Metadata::new(),
        };
        Ok((head, values))
    }

    fn plan_by_name(&self) -> Plan {
        let name = |id: &NodeId| self.topology.name(*id).clone();
        let started = self.topology.joins.iter().zip(&self.arrived);
        Plan {
            tasks: self
                .tasks
                .iter()
                .map(|task| PlannedTask {
                    node: name(&task.node),
                    payload: task.payload.as_deref().map(str::to_owned),
                })
                .collect(),
            waiting: self.waiting.iter().map(name).collect(),
            origin: self.origin.clone(),
            pause: self.pause,
            joins: started
                .filter(|(_, arrived)| arrived.contains(&true))
                .map(|(join, arrived)| StartedJoin {
                    target: name(&join.target),
                    sources: join.sources.iter().map(name).collect(),
                    arrived: join
                        .sources
                        .iter()
                        .zip(arrived)
                        .filter(|(_, arrived)| **arrived)
                        .map(|(source, _)| name(source))
                        .collect(),
                })
                .collect(),
        }
    }

    /// Becomes what the checkpoint was taken of. Channels that the state no longer has are
    /// left out; new ones have their default.
    pub(crate) fn restore(&mut self, saved: &Saved) -> Result<Progress, RunError> {
        let mut state = S::default();
        self.changed.forget();
        let values: BTreeMap<_, _> = saved.values.iter().map(|v| (&v.key, &v.bytes)).collect();
        // The head knows the order of a channel's pieces; a saver need not.
        for key in &saved.checkpoint.values {
            let index = S::CHANNELS
                .iter()
                .position(|channel| channel.name == key.channel);
            let (Some(index), Some(bytes)) = (index, values.get(key)) else {
                continue;
            };
            let piece = stored(bytes);
            let loaded = match piece {
                Stored::Whole(value) => state.load(index, value),
                Stored::Writes(writes) => state.replay(index, writes),
            };
            loaded.map_err(|source| RunError::Decode {
                what: key.channel.clone(),
                source,
            })?;
            self.stored[index].restore(key.written_by, &piece);
            self.changed.restored(index);
        }
        self.state = state.into();
        self.children = saved.checkpoint.children.clone().into();
        self.merged = saved.checkpoint.step;
        let plan = Plan::read(&saved.checkpoint)?;
        self.origin = plan.origin;
        self.pause = plan.pause;
        let tasks = plan.tasks.into_iter().map(|task| {
            let node = self.known(&task.node)?;
            Ok(Task {
                node,
                payload: task.payload.map(Into::into),
            })
        });
        let tasks = tasks.collect::<Result<Vec<_>, RunError>>()?;
        self.waiting = plan
            .waiting
            .iter()
            .map(|name| self.known(name))
            .collect::<Result<_, _>>()?;
        for started in &plan.joins {
            self.restore_join(started)?;
        }
        Ok(self.replan(tasks))
    }

    fn restore_join(&mut self, started: &StartedJoin) -> Result<(), RunError> {
        let topology = self.topology.clone();
        let same = topology.joins.iter().position(|join| {
            topology.name(join.target) == &started.target
                && join
                    .sources
                    .iter()
                    .map(|id| topology.name(*id))
                    .eq(&started.sources)
        });
        let Some(index) = same else {
            return Err(RunError::UnknownInPlan {
                node: started.target.clone(),
                near: None,
            });
        };
        for (source, arrived) in topology.joins[index]
            .sources
            .iter()
            .zip(&mut self.arrived[index])
        {
            *arrived = started.arrived.contains(topology.name(*source));
        }
        Ok(())
    }

    /// The id of a stored name.
    pub(crate) fn known(&self, name: &NodeName) -> Result<NodeId, RunError> {
        self.topology
            .ids
            .get(name)
            .copied()
            .ok_or_else(|| RunError::UnknownInPlan {
                node: name.clone(),
                near: nearest(name.as_str(), &self.topology.names),
            })
    }
}
