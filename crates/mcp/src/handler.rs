//! What a server may ask of us and tell us: next to nothing.
#![expect(
    deprecated,
    reason = "the logging of servers of older versions is heard"
)]

use std::sync::Arc;

use rmcp::{
    ClientHandler, RoleClient,
    model::{ClientCapabilities, ClientConfig, Implementation, LoggingMessageNotificationParam},
    service::NotificationContext,
};

use crate::{link::Link, plain::line};

/// The most characters of a server's log message that are kept.
const MAX_LOG: usize = 1_000;

/// Answers a server's requests. Those it does not name are refused or answered with nothing.
#[derive(Debug, Clone)]
pub(crate) struct Handler(pub(crate) Arc<Link>);

impl ClientHandler for Handler {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("lyceum", env!("CARGO_PKG_VERSION"));
        ClientConfig::new(ClientCapabilities::default(), us)
    }

    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        self.0.tools_changed();
    }

    async fn on_logging_message(
        &self,
        message: LoggingMessageNotificationParam,
        _context: NotificationContext<RoleClient>,
    ) {
        let words = line(&message.data.to_string(), MAX_LOG);
        tracing::debug!(server = %self.0.name(), words, "the server logs");
    }
}
