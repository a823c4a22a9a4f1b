//! Sending to addresses that strangers give.
//!
//! Invariant: nothing is sent where [`Web`] would not read, a redirect is not followed, and nothing
//! of an answer but its status is looked at. Deliberately absent: trying again.

use std::sync::Arc;

use lyceum_core::ToolError;
use reqwest::header::CONTENT_TYPE;

use super::{Failure, NOT_PUBLIC, Resolver, Web, WebError, WebRules, denied, parse};

/// Sends JSON by POST.
#[derive(Debug)]
pub struct WebPost(Web);

impl WebPost {
    /// Sends where the rules allow, finding hosts with this resolver.
    ///
    /// # Errors
    ///
    /// [`WebError`] when no HTTP client can be made.
    pub fn new(rules: WebRules, resolver: Arc<dyn Resolver>) -> Result<Self, WebError> {
        Web::new(rules, resolver).map(Self)
    }

    /// Whether an address may be sent to, as far as can be seen without resolving its name.
    ///
    /// # Errors
    ///
    /// [`ToolError::Arguments`] for what is no address, [`ToolError::Denied`] for one that may not
    /// be reached.
    pub fn check(&self, address: &str) -> Result<(), ToolError> {
        self.0.check(&parse(address)?)
    }

    /// Sends a JSON text.
    ///
    /// # Errors
    ///
    /// As [`WebPost::check`], also where the receiver answers that it does not take it;
    /// [`ToolError::Transient`] where it cannot be reached, its host not being found included, or
    /// may take it later.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may have been received.
    pub async fn post(&self, address: &str, json: Vec<u8>) -> Result<(), ToolError> {
        let url = parse(address)?;
        self.0.check(&url)?;
        let request = self.0.client.post(url);
        let request = request.header(CONTENT_TYPE, "application/json").body(json);
        let response = request.send().await;
        let response = response.map_err(|error| unsent(&error))?;
        match response.status().as_u16() {
            200..=299 => Ok(()),
            status @ (408 | 425 | 429 | 500..=599) => Err(ToolError::Transient {
                detail: format!("the webhook's receiver answered with status {status}"),
            }),
            status => Err(ToolError::Arguments {
                detail: format!("the webhook's receiver answered with status {status}"),
            }),
        }
    }
}

fn unsent(error: &reqwest::Error) -> ToolError {
    let detail = match Failure::from(error) {
        Failure::Forbidden => return denied(NOT_PUBLIC),
        // The resolver may know the host later.
        Failure::Unknown => "the webhook cannot be sent: there is no such host",
        Failure::Slow => "the webhook's receiver took too long",
        Failure::Broken => "the connection to the webhook's receiver broke",
    };
    ToolError::Transient {
        detail: detail.to_owned(),
    }
}
