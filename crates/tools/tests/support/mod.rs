//! A tool that does as it is told, for the tests of policies.
#![expect(
    dead_code,
    clippy::expect_used,
    clippy::panic,
    reason = "each test file uses some of it; a test fails by panicking"
)]

pub(crate) mod web;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use lyceum_core::{
    Approval, Audience, CallContext, Effect, Scope, Tool, ToolError, ToolOutput, ToolSpec,
    ToolTraits,
};
use serde_json::{Value, json};
use tokio::time::Instant;

pub(crate) fn call() -> CallContext {
    CallContext::new(Scope::local())
}

pub(crate) fn call_of(tenant: &str) -> CallContext {
    let mut call = call();
    call.scope.tenant = tenant.parse().expect("a tenant's name");
    call
}

/// What a [`Puppet`] does next.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    Answer,
    Fail(ToolError),
    Hang,
    Panic,
}

/// Answers with its arguments and the number of the call, after `takes`.
#[derive(Debug)]
pub(crate) struct Puppet {
    spec: ToolSpec,
    traits: ToolTraits,
    pub(crate) takes: Duration,
    act: Mutex<Act>,
    pub(crate) calls: AtomicUsize,
    pub(crate) started: Mutex<Vec<Instant>>,
}

impl Puppet {
    pub(crate) fn new(effect: Effect, audience: Audience) -> Arc<Self> {
        Self::taking(effect, audience, Duration::ZERO)
    }

    pub(crate) fn public() -> Arc<Self> {
        Self::new(Effect::Reads, Audience::Public)
    }

    pub(crate) fn taking(effect: Effect, audience: Audience, takes: Duration) -> Arc<Self> {
        Arc::new(Self {
            spec: ToolSpec::new("puppet", "", json!({"type": "object"})),
            traits: ToolTraits {
                effect,
                audience,
                approval: Approval::NotNeeded,
            },
            takes,
            act: Mutex::new(Act::Answer),
            calls: AtomicUsize::new(0),
            started: Mutex::default(),
        })
    }

    pub(crate) fn act(&self, act: Act) {
        *self.act.lock().expect("no panic under the lock") = act;
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

pub(crate) fn broken() -> Act {
    Act::Fail(ToolError::Failed {
        detail: "broken".to_owned(),
    })
}

#[async_trait]
impl Tool for Puppet {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        self.traits
    }

    async fn call(&self, _call: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        self.started
            .lock()
            .expect("no panic under the lock")
            .push(Instant::now());
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        let act = self.act.lock().expect("no panic under the lock").clone();
        match act {
            Act::Answer => Ok(ToolOutput::text(format!("{arguments} {number}"))),
            Act::Fail(error) => Err(error),
            Act::Hang => std::future::pending().await,
            Act::Panic => panic!("the tool breaks"),
        }
    }
}
