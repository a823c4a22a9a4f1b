//! Tells clients' addresses of the ends of their runs, as configured.

use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use lyceum_core::ToolError;
use lyceum_gateway::langgraph::{WebhookError, WebhookSender};
use lyceum_tools::{SystemResolver, WebPost, WebRules};

use crate::config::Webhooks;

#[derive(Debug)]
struct Sender(WebPost);

impl WebhookSender for Sender {
    fn check(&self, address: &str) -> Result<(), WebhookError> {
        self.0.check(address).map_err(of)
    }

    fn send<'a>(
        &'a self,
        address: &'a str,
        body: Bytes,
    ) -> BoxFuture<'a, Result<(), WebhookError>> {
        Box::pin(async move { self.0.post(address, body.into()).await.map_err(of) })
    }
}

fn of(error: ToolError) -> WebhookError {
    match error {
        ToolError::Denied { detail } | ToolError::Arguments { detail } => {
            WebhookError::Refused(detail)
        }
        error => WebhookError::Failed(error.to_string()),
    }
}

/// What sends, where anything does.
///
/// # Errors
///
/// What is no network, under its key; when no HTTP client can be made.
pub(crate) fn sender(config: &Webhooks) -> Result<Option<Arc<dyn WebhookSender>>> {
    if !config.enabled {
        return Ok(None);
    }
    let networks = config.networks.iter().map(|net| {
        net.parse().with_context(|| {
            format!("langgraph.webhooks.networks: {net:?} is no network such as 10.1.0.0/16")
        })
    });
    let rules = WebRules {
        ports: config.ports.clone(),
        https_only: config.hosts.is_empty() && config.networks.is_empty(),
        networks: networks.collect::<Result<_>>()?,
        hosts: config.hosts.clone(),
        ..WebRules::default()
    };
    let post = WebPost::new(rules, Arc::new(SystemResolver)).context("langgraph.webhooks")?;
    Ok(Some(Arc::new(Sender(post))))
}
