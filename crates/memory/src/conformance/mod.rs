//! The suite that every store runs against its real engine.
//!
//! Each check works in tenants of its own, so the suite can run on a store in use and twice.
//! A broken rule is a [`Violation`] and not a panic: the caller's test prints it. Parts of
//! the tests of stores that seal are in [`sealed`].

mod beside;
mod checks;
mod jobs;
mod memories;
pub mod sealed;
mod sessions;
mod transfers;
mod validity;
mod vectors;

use std::{fmt, time::Duration};

use async_trait::async_trait;
use lyceum_core::{AgentId, Role, Scope, SessionId, TenantId, UserId};
use serde_json::json;

use crate::{
    JobStore, MemoryStore, NewJob, NewMessage, NewTurn, SessionArchive, SessionStore, StoreError,
    TurnId,
};

pub use checks::verify_checks;
pub use vectors::verify_vectors;

/// A store under test and its clock.
#[async_trait]
pub trait Subject: Send + Sync {
    /// The store of sessions.
    fn sessions(&self) -> &dyn SessionStore;
    /// The store of memories; the same database as the sessions'.
    fn memories(&self) -> &dyn MemoryStore;
    /// The archive of sessions; the same database as the sessions'.
    fn archive(&self) -> &dyn SessionArchive;
    /// The store of jobs; the same database as the sessions'.
    fn jobs(&self) -> &dyn JobStore;
    /// Moves the store's clock forward.
    async fn advance(&self, by: Duration);
}

/// A rule of the ports that the store broke.
#[derive(Debug, thiserror::Error)]
#[error("{rule}: {detail}")]
pub struct Violation {
    /// The rule.
    pub rule: &'static str,
    /// What happened instead.
    pub detail: String,
}

impl From<StoreError> for Violation {
    fn from(error: StoreError) -> Self {
        Self {
            rule: "a legal call succeeds",
            detail: format!("{error:?}"),
        }
    }
}

/// Checks all ports.
///
/// # Errors
///
/// The first rule found broken.
pub async fn verify(subject: &dyn Subject) -> Result<(), Violation> {
    sessions::verify(subject).await?;
    memories::verify(subject).await?;
    validity::verify(subject).await?;
    beside::verify(subject).await?;
    jobs::verify(subject).await?;
    transfers::verify(subject).await
}

/// Checks that a value is the expected one.
#[expect(clippy::needless_pass_by_value, reason = "calls read like assertions")]
fn same<T: PartialEq<U> + fmt::Debug, U: fmt::Debug>(
    rule: &'static str,
    got: T,
    want: U,
) -> Result<(), Violation> {
    match got == want {
        true => Ok(()),
        false => Err(Violation {
            rule,
            detail: format!("got {got:?}, want {want:?}"),
        }),
    }
}

/// Checks that a call fails with the error of this label.
fn refused<T: fmt::Debug>(
    rule: &'static str,
    got: Result<T, StoreError>,
    label: &str,
) -> Result<(), Violation> {
    same(rule, got.map_err(|error| error.label()).err(), Some(label))
}

fn id<T, E: fmt::Debug>(made: Result<T, E>) -> Result<T, Violation> {
    made.map_err(|error| Violation {
        rule: "the suite's own ids are valid",
        detail: format!("{error:?}"),
    })
}

/// A session of a tenant that nobody else has.
fn fresh_scope() -> Scope {
    Scope {
        tenant: TenantId::random(),
        ..Scope::local().with_session(SessionId::random())
    }
}

/// Scopes that differ from this one by one owner each, the session's id being the same.
/// All have stored something before, so that nothing is hidden by an unknown owner.
async fn strangers(subject: &dyn Subject, scope: &Scope) -> Result<[Scope; 3], Violation> {
    let (mut tenant, mut user, mut agent) = (scope.clone(), scope.clone(), scope.clone());
    tenant.tenant = TenantId::random();
    user.user = UserId::random();
    agent.agent = AgentId::random();
    let strangers = [tenant, user, agent];
    for stranger in &strangers {
        subject
            .sessions()
            .append(stranger, &turn("past", &["a"])?)
            .await?;
        subject.sessions().delete(stranger).await?;
    }
    Ok(strangers)
}

fn turn(name: &str, texts: &[&str]) -> Result<NewTurn, Violation> {
    let roles = [Role::User, Role::Assistant].into_iter().cycle();
    Ok(NewTurn {
        turn_id: id(TurnId::new(name))?,
        topic: format!("topic of {name}"),
        messages: roles
            .zip(texts)
            .map(|(role, &content)| NewMessage {
                role,
                content: content.to_owned(),
            })
            .collect(),
        memories: Vec::new(),
        jobs: Vec::new(),
    })
}

fn with_job(mut turn: NewTurn, kind: &str) -> NewTurn {
    turn.jobs.push(NewJob {
        kind: kind.to_owned(),
        payload: json!({ "turn": turn.turn_id.as_str(), "note": "π ≠ 3\u{0}" }),
    });
    turn
}

/// A kind of job that no other check claims.
fn fresh_kind() -> String {
    TurnId::random().to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{InMemory, ManualClock, Timestamp};

    struct Reference(InMemory, Arc<ManualClock>);

    #[async_trait]
    impl Subject for Reference {
        fn sessions(&self) -> &dyn SessionStore {
            &self.0
        }
        fn memories(&self) -> &dyn MemoryStore {
            &self.0
        }
        fn archive(&self) -> &dyn SessionArchive {
            &self.0
        }
        fn jobs(&self) -> &dyn JobStore {
            &self.0
        }
        async fn advance(&self, by: Duration) {
            self.1.advance(by);
        }
    }

    #[tokio::test]
    async fn the_reference_conforms() {
        let clock = Arc::new(ManualClock::at(Timestamp(1_700_000_000_000)));
        let subject = Reference(InMemory::with_clock(clock.clone()), clock);
        verify(&subject).await.unwrap();
        verify(&subject).await.unwrap();
        verify_vectors(&subject.0, &subject.0).await.unwrap();
        verify_checks(&subject, &subject.0, Some(&subject.0))
            .await
            .unwrap();
    }
}
