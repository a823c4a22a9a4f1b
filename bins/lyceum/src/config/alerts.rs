//! The configuration of the server's own alerts.

use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{ConfigError, masked};

/// `[alerts]`: what the server watches of itself, and who is told. Without a channel alerts
/// are logged and counted only.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Alerts {
    /// How often readings are taken, in seconds. Default 15; 1 to 3600.
    pub interval_seconds: u64,
    /// After how long what lasts is told again, in minutes. Default 240; 1 to 10,080.
    pub repeat_minutes: u64,
    /// How long averages and rates must stay bad first, in seconds. Default 300; 0 to 86,400.
    pub hold_seconds: u64,
    /// Bad when the day's model calls cost more, in dollars. Default 10; 0 watches nothing.
    pub daily_cost_usd: f64,
    /// Bad when a smaller share of lookups is served by the answer cache, of at least 20 in
    /// ten minutes. Default 0.5; 0 watches nothing.
    pub cache_hit_rate: f64,
    /// Bad when the average answer of the last ten minutes took longer, in seconds. Default 5;
    /// 0 watches nothing.
    pub average_response_seconds: f64,
    /// Whether single requests beyond 150,000 tokens or `cost.alert_request_usd` are told.
    /// Default true.
    pub large_requests: bool,
    /// A Slack incoming webhook. Better kept in `LYCEUM_ALERTS__SLACK_URL`.
    #[serde(serialize_with = "masked")]
    pub slack_url: Option<SecretString>,
    /// A PagerDuty integration key. Better kept in `LYCEUM_ALERTS__PAGERDUTY_KEY`.
    #[serde(serialize_with = "masked")]
    pub pagerduty_key: Option<SecretString>,
    /// PagerDuty's address, if not its own for the USA.
    pub pagerduty_url: Option<String>,
    /// An address that takes alerts as JSON.
    #[serde(serialize_with = "masked")]
    pub webhook_url: Option<SecretString>,
    /// The bearer token for it.
    #[serde(serialize_with = "masked")]
    pub webhook_key: Option<SecretString>,
    /// A mail server, `smtps://user:password@host`. Better kept in `LYCEUM_ALERTS__SMTP_URL`.
    #[serde(serialize_with = "masked")]
    pub smtp_url: Option<SecretString>,
    /// The sender of mails.
    pub mail_from: Option<String>,
    /// The receivers of mails.
    pub mail_to: Vec<String>,
}

impl Default for Alerts {
    fn default() -> Self {
        Self {
            interval_seconds: 15,
            repeat_minutes: 240,
            hold_seconds: 300,
            daily_cost_usd: 10.0,
            cache_hit_rate: 0.5,
            average_response_seconds: 5.0,
            large_requests: true,
            slack_url: None,
            pagerduty_key: None,
            pagerduty_url: None,
            webhook_url: None,
            webhook_key: None,
            smtp_url: None,
            mail_from: None,
            mail_to: Vec::new(),
        }
    }
}

impl Alerts {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (key, value, least, most) in [
            ("alerts.interval_seconds", self.interval_seconds, 1, 3_600),
            ("alerts.repeat_minutes", self.repeat_minutes, 1, 10_080),
            ("alerts.hold_seconds", self.hold_seconds, 0, 86_400),
        ] {
            super::resolve::range(key, value, least, most)?;
        }
        let numbers = [
            ("alerts.daily_cost_usd", self.daily_cost_usd),
            ("alerts.cache_hit_rate", self.cache_hit_rate),
            (
                "alerts.average_response_seconds",
                self.average_response_seconds,
            ),
        ];
        for (key, value) in numbers {
            if !(value >= 0.0 && value.is_finite()) {
                return Err(invalid(key, "is a number from 0"));
            }
        }
        let mail = self.mail_from.is_some() && !self.mail_to.is_empty();
        match (&self.smtp_url, mail) {
            (Some(_), false) => Err(invalid(
                "alerts.smtp_url",
                "needs alerts.mail_from and alerts.mail_to",
            )),
            (None, true) => Err(invalid("alerts.mail_to", "needs alerts.smtp_url")),
            _ => Ok(()),
        }
    }
}

fn invalid(key: &'static str, detail: &str) -> ConfigError {
    ConfigError::Invalid {
        key,
        detail: detail.to_owned(),
    }
}
