//! The server's own alerts: which rules, which readings, which channels.

mod readings;

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use lyceum_alert::{
    Alerts, Bound, Channel, Dispatcher, Email, EmailConfig, PagerDuty, Rule, Severity, Slack,
    Webhook, watch,
};
use lyceum_observe::Telemetry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    alerts::readings::Readings,
    compose::service_id,
    config::{self, Resolved},
};

/// Watches until it is cancelled.
///
/// # Errors
///
/// A channel that cannot be built as configured.
pub(crate) fn start(
    resolved: &Resolved,
    telemetry: &Telemetry,
    stop: CancellationToken,
) -> Result<JoinHandle<()>> {
    let config = &resolved.config.alerts;
    lyceum_alert::metrics::describe();
    let dispatcher = Dispatcher::start(channels(config)?);
    let repeat = Duration::from_secs(config.repeat_minutes * 60);
    let alerts = Alerts::new(service_id(&resolved.listen), rules(config), repeat);
    let every = Duration::from_secs(config.interval_seconds);
    let telemetry = telemetry.clone();
    let mut readings = Readings::default();
    let read = move || {
        let now = tokio::time::Instant::now().into_std();
        readings.take(now, &telemetry.render())
    };
    Ok(tokio::spawn(watch(alerts, dispatcher, every, read, stop)))
}

fn rules(config: &config::Alerts) -> Vec<Rule> {
    let hold = Duration::from_secs(config.hold_seconds);
    let rule = |name: &str, summary: &str, severity, bound, hold, unit: &str| Rule {
        name: name.to_owned(),
        summary: summary.to_owned(),
        severity,
        bound,
        hold,
        unit: unit.to_owned(),
    };
    let mut rules = Vec::new();
    if config.daily_cost_usd > 0.0 {
        rules.push(rule(
            readings::DAILY_COST,
            "the model calls of this day (UTC) cost more than planned",
            Severity::Critical,
            Bound::Above(config.daily_cost_usd),
            Duration::ZERO,
            "USD",
        ));
    }
    if config.cache_hit_rate > 0.0 {
        rules.push(rule(
            readings::CACHE_HIT_RATE,
            "the answer cache serves few of the requests that it may serve",
            Severity::Warning,
            Bound::Below(config.cache_hit_rate),
            hold,
            "",
        ));
    }
    if config.average_response_seconds > 0.0 {
        rules.push(rule(
            readings::AVERAGE_RESPONSE,
            "answers take long on average",
            Severity::Warning,
            Bound::Above(config.average_response_seconds),
            hold,
            "s",
        ));
    }
    if config.large_requests {
        rules.push(rule(
            readings::LARGE_REQUESTS,
            "model calls of the last minutes used more than 150,000 tokens each",
            Severity::Warning,
            Bound::Above(0.0),
            Duration::ZERO,
            "calls",
        ));
        rules.push(rule(
            readings::COSTLY_REQUESTS,
            "requests of the last minutes cost more than cost.alert_request_usd each",
            Severity::Warning,
            Bound::Above(0.0),
            Duration::ZERO,
            "requests",
        ));
    }
    rules
}

fn channels(config: &config::Alerts) -> Result<Vec<Arc<dyn Channel>>> {
    let mut channels: Vec<Arc<dyn Channel>> = Vec::new();
    if let Some(url) = &config.slack_url {
        channels.push(Arc::new(Slack::new(url).context("alerts.slack_url")?));
    }
    if let Some(key) = &config.pagerduty_key {
        let pager = match &config.pagerduty_url {
            Some(url) => PagerDuty::at(&url.clone().into(), key.clone()),
            None => PagerDuty::new(key.clone()),
        };
        channels.push(Arc::new(pager.context("alerts.pagerduty_url")?));
    }
    if let Some(url) = &config.webhook_url {
        let hook = Webhook::new(url, config.webhook_key.clone());
        channels.push(Arc::new(hook.context("alerts.webhook_url")?));
    }
    if let (Some(server), Some(from)) = (&config.smtp_url, &config.mail_from) {
        let email = Email::new(&EmailConfig {
            server: server.clone(),
            from: from.clone(),
            to: config.mail_to.clone(),
        });
        channels.push(Arc::new(email.context("alerts.smtp_url")?));
    }
    Ok(channels)
}
