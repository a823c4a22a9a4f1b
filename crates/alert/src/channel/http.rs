//! The channels that speak HTTP: Slack, PagerDuty, any webhook.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::{Client, redirect};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{BuildError, Channel, SendError};
use crate::{Notice, Severity, State};

/// PagerDuty's own address (<https://developer.pagerduty.com/docs/events-api-v2-overview>).
const PAGERDUTY: &str = "https://events.pagerduty.com/v2/enqueue";

#[derive(Debug)]
struct Post {
    client: Client,
    /// It may be a secret in itself, so it is not shown.
    url: SecretString,
}

impl Post {
    fn new(channel: &'static str, url: &SecretString) -> Result<Self, BuildError> {
        let refuse = |reason: String| BuildError::Address { channel, reason };
        let parsed = Url::parse(url.expose_secret()).map_err(|error| refuse(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(refuse("it begins with http:// or https://".to_owned()));
        }
        let client = Client::builder()
            .user_agent(concat!("lyceum/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .timeout(Duration::from_secs(10))
            .build()
            .map_err(|source| BuildError::Client { channel, source })?;
        Ok(Self {
            client,
            url: url.clone(),
        })
    }

    async fn send(&self, body: &Value, key: Option<&SecretString>) -> Result<(), SendError> {
        let mut request = self.client.post(self.url.expose_secret()).json(body);
        if let Some(key) = key {
            request = request.bearer_auth(key.expose_secret());
        }
        let answer = request
            .send()
            .await
            .map_err(|error| SendError::Unreachable {
                detail: error.without_url().to_string(),
            })?;
        let status = answer.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(SendError::Refused {
                status: status.as_u16(),
                is_retryable: status.is_server_error() || matches!(status.as_u16(), 408 | 429),
            }),
        }
    }
}

/// A Slack channel, by an incoming webhook (<https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks>).
#[derive(Debug)]
pub struct Slack(Post);

impl Slack {
    /// A channel at the address that Slack gave, which is a secret.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn new(url: &SecretString) -> Result<Self, BuildError> {
        Ok(Self(Post::new("slack", url)?))
    }
}

#[async_trait]
impl Channel for Slack {
    fn name(&self) -> &'static str {
        "slack"
    }

    async fn send(&self, notice: &Notice) -> Result<(), SendError> {
        let sign = match (notice.state, notice.severity) {
            (State::Resolved, _) => ":white_check_mark:",
            (State::Firing, Severity::Critical) => ":rotating_light:",
            (State::Firing, _) => ":warning:",
        };
        // Slack's own signs, so that no text of a rule becomes a link or a mention
        // (<https://docs.slack.dev/messaging/formatting-message-text#escaping>).
        let line = notice
            .line()
            .replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;");
        self.0
            .send(&json!({ "text": format!("{sign} {line}") }), None)
            .await
    }
}

/// A PagerDuty service, by the Events API v2.
#[derive(Debug)]
pub struct PagerDuty {
    post: Post,
    routing_key: SecretString,
}

impl PagerDuty {
    /// The service with this integration key.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn new(routing_key: SecretString) -> Result<Self, BuildError> {
        Self::at(&SecretString::from(PAGERDUTY), routing_key)
    }

    /// The same at another address, e.g. that of the EU region.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn at(url: &SecretString, routing_key: SecretString) -> Result<Self, BuildError> {
        Ok(Self {
            post: Post::new("pagerduty", url)?,
            routing_key,
        })
    }
}

#[async_trait]
impl Channel for PagerDuty {
    fn name(&self) -> &'static str {
        "pagerduty"
    }

    async fn send(&self, notice: &Notice) -> Result<(), SendError> {
        let action = match notice.state {
            State::Firing => "trigger",
            State::Resolved => "resolve",
        };
        let body = json!({
            "routing_key": self.routing_key.expose_secret(),
            "event_action": action,
            "dedup_key": notice.key,
            "payload": {
                "summary": notice.line(),
                "source": notice.instance,
                "severity": notice.severity.label(),
                "component": "lyceum",
                "class": notice.alert,
                "custom_details": notice,
            },
        });
        self.post.send(&body, None).await
    }
}

/// Any receiver that takes a [`Notice`] as JSON by POST.
#[derive(Debug)]
pub struct Webhook {
    post: Post,
    key: Option<SecretString>,
}

impl Webhook {
    /// A receiver; `key` is sent as a bearer token.
    ///
    /// # Errors
    ///
    /// [`BuildError`].
    pub fn new(url: &SecretString, key: Option<SecretString>) -> Result<Self, BuildError> {
        Ok(Self {
            post: Post::new("webhook", url)?,
            key,
        })
    }
}

#[async_trait]
impl Channel for Webhook {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn send(&self, notice: &Notice) -> Result<(), SendError> {
        self.post.send(&json!(notice), self.key.as_ref()).await
    }
}
