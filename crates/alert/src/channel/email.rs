//! E-mail over SMTP.

use async_trait::async_trait;
use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor, message::Mailbox,
    transport::smtp::Error,
};
use secrecy::{ExposeSecret, SecretString};

use super::{BuildError, Channel, SendError};
use crate::Notice;

/// Who is written to, and through which server.
#[derive(Debug, Clone)]
pub struct EmailConfig {
    /// The server: `smtps://user:password@host` (TLS from the start),
    /// `smtp://user:password@host:587?tls=required` (STARTTLS), or `smtp://host:25` without
    /// encryption, for a relay on this machine.
    pub server: SecretString,
    /// The sender, e.g. `Lyceum <lyceum@example.org>`.
    pub from: String,
    /// The receivers; at least one.
    pub to: Vec<String>,
}

/// An e-mail for every notice.
pub struct Email {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl std::fmt::Debug for Email {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Email")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

impl Email {
    /// Checks the addresses; nothing is sent.
    ///
    /// # Errors
    ///
    /// [`BuildError::Address`].
    pub fn new(config: &EmailConfig) -> Result<Self, BuildError> {
        let refuse = |reason: String| BuildError::Address {
            channel: "email",
            reason,
        };
        let mailbox = |text: &String| -> Result<Mailbox, BuildError> {
            text.parse()
                .map_err(|error| refuse(format!("{text:?}: {error}")))
        };
        if config.to.is_empty() {
            return Err(refuse("there is no receiver".to_owned()));
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(config.server.expose_secret())
            // The error may repeat the password.
            .map_err(|_| refuse("write it as smtps://user:password@host".to_owned()))?
            .build();
        Ok(Self {
            transport,
            from: mailbox(&config.from)?,
            to: config.to.iter().map(mailbox).collect::<Result<_, _>>()?,
        })
    }

    fn message(&self, notice: &Notice) -> Result<Message, lettre::error::Error> {
        let mut message = Message::builder().from(self.from.clone());
        for to in &self.to {
            message = message.to(to.clone());
        }
        let body = format!(
            "{}\n\nsince:    {}\nseverity: {}\nalert:    {}\n",
            notice.line(),
            notice.since,
            notice.severity.label(),
            notice.key,
        );
        let subject = format!(
            "[{}] {} on {}",
            notice.state.label(),
            notice.alert,
            notice.instance
        );
        message.subject(subject).body(body)
    }
}

#[async_trait]
impl Channel for Email {
    fn name(&self) -> &'static str {
        "email"
    }

    async fn send(&self, notice: &Notice) -> Result<(), SendError> {
        let message = self.message(notice).map_err(|error| SendError::Message {
            detail: error.to_string(),
        })?;
        let sent = self.transport.send(message).await;
        sent.map(drop).map_err(|error| refusal(&error))
    }
}

fn refusal(error: &Error) -> SendError {
    match error.status() {
        Some(code) => SendError::Refused {
            status: code.into(),
            is_retryable: error.is_transient(),
        },
        None => SendError::Unreachable {
            detail: error.to_string(),
        },
    }
}
