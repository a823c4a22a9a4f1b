//! What a memory's vector is called in Qdrant, what stands beside it, and the filter that
//! every call carries.
//!
//! Invariant: nothing of a memory's words is in Qdrant, only whose it is, its id and a digest
//! that tells one content under this id from another.

use std::collections::HashMap;

use lyceum_core::{AgentId, Scope, TenantId, UserId};
use lyceum_memory::{MemoryId, MemoryRecord, VectorSpace, Whose};
use qdrant_client::qdrant::{Condition, Filter, PointId, Value};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::failure::Malformed;

pub(crate) const TENANT: &str = "tenant";
pub(crate) const USER: &str = "user";
pub(crate) const AGENT: &str = "agent";
const MEMORY: &str = "memory";
const CONTENT: &str = "content";

/// The name space of point ids (RFC 9562, version 5): a UUID made once for this purpose.
const POINTS: Uuid = Uuid::from_u128(0x6a3b_6e0e_52c4_4b1e_9d0b_1f1c_7f0d_2a45);

/// The point of a memory in a space: the same whoever computes it, and never another's.
pub(crate) fn id(scope: &Scope, memory: &MemoryId, space: &VectorSpace) -> PointId {
    let mut name = Vec::new();
    for part in [
        scope.tenant.as_str(),
        scope.user.as_str(),
        scope.agent.as_str(),
        memory.as_str(),
        &space.model,
    ] {
        // Lengths keep neighbours apart.
        name.extend_from_slice(&(part.len() as u64).to_le_bytes());
        name.extend_from_slice(part.as_bytes());
    }
    Uuid::new_v5(&POINTS, &name).to_string().into()
}

/// Tells a memory's content from another's under the same id.
pub(crate) fn content(record: &MemoryRecord) -> String {
    let mut hash = Sha256::new();
    for part in [&record.topic, &record.text, &record.context] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.update(record.created_at.0.to_le_bytes());
    let digest = hash.finalize();
    digest[..8]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

pub(crate) fn payload(scope: &Scope, record: &MemoryRecord) -> HashMap<String, Value> {
    [
        (TENANT, scope.tenant.as_str().to_owned()),
        (USER, scope.user.as_str().to_owned()),
        (AGENT, scope.agent.as_str().to_owned()),
        (MEMORY, record.id.as_str().to_owned()),
        (CONTENT, content(record)),
    ]
    .map(|(name, text)| (name.to_owned(), Value::from(text)))
    .into()
}

/// Only what belongs to the scope's owner.
pub(crate) fn owned_by(scope: &Scope) -> Filter {
    Filter::must([
        Condition::matches(TENANT, scope.tenant.as_str().to_owned()),
        Condition::matches(USER, scope.user.as_str().to_owned()),
        Condition::matches(AGENT, scope.agent.as_str().to_owned()),
    ])
}

/// Only what belongs to a tenant, or to one of its users.
pub(crate) fn of(whose: &Whose) -> Filter {
    let tenant = Condition::matches(TENANT, whose.tenant.as_str().to_owned());
    let user = whose.user.iter();
    let user = user.map(|user| Condition::matches(USER, user.as_str().to_owned()));
    Filter::must(std::iter::once(tenant).chain(user))
}

/// Only this memory of the scope's owner, whatever its space.
pub(crate) fn of_memory(scope: &Scope, memory: &MemoryId) -> Filter {
    let mut filter = owned_by(scope);
    let condition = Condition::matches(MEMORY, memory.as_str().to_owned());
    filter.must.push(condition);
    filter
}

/// What stands beside a point.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Beside {
    pub(crate) scope: Scope,
    pub(crate) memory: MemoryId,
    pub(crate) content: String,
}

impl Beside {
    pub(crate) fn read(payload: &HashMap<String, Value>) -> Result<Self, Malformed> {
        let text = |name: &'static str| {
            let value = payload.get(name).and_then(Value::as_str);
            value.map(String::as_str).ok_or(Malformed(name))
        };
        Ok(Self {
            scope: Scope {
                tenant: TenantId::new(text(TENANT)?).map_err(|_| Malformed(TENANT))?,
                user: UserId::new(text(USER)?).map_err(|_| Malformed(USER))?,
                agent: AgentId::new(text(AGENT)?).map_err(|_| Malformed(AGENT))?,
                session: None,
            },
            memory: MemoryId::new(text(MEMORY)?).map_err(|_| Malformed(MEMORY))?,
            content: text(CONTENT)?.to_owned(),
        })
    }

    /// Whether it stands beside a vector of this owner.
    pub(crate) fn is_of(&self, scope: &Scope) -> bool {
        let Scope {
            tenant,
            user,
            agent,
            ..
        } = &self.scope;
        *tenant == scope.tenant && *user == scope.user && *agent == scope.agent
    }
}
