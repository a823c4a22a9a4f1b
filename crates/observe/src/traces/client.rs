//! The HTTP client of the exporter: its thread has no runtime of its own, so requests run
//! on the one of the process.
//!
//! Invariant: every batch is counted once; a collector that goes away or comes back is
//! logged once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use metrics::counter;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use secrecy::{ExposeSecret, SecretString};
use tokio::runtime::Handle;

use super::TracesError;
use crate::metrics::EXPORTS;

/// The most of an answer that is read.
const MOST: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(super) struct Client {
    client: reqwest::Client,
    runtime: Handle,
    is_down: Arc<AtomicBool>,
}

impl Client {
    pub(super) fn new(
        headers: &[(String, SecretString)],
        patience: Duration,
    ) -> Result<Self, TracesError> {
        let mut given = HeaderMap::new();
        for (name, value) in headers {
            let wrong = || TracesError::Header { name: name.clone() };
            let mut value = HeaderValue::from_str(value.expose_secret()).map_err(|_| wrong())?;
            value.set_sensitive(true);
            let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            given.insert(key, value);
        }
        let client = reqwest::Client::builder()
            .default_headers(given)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(patience)
            .build()
            .map_err(|error| TracesError::Setup {
                detail: error.to_string(),
            })?;
        Ok(Self {
            client,
            runtime: Handle::try_current().map_err(|_| TracesError::Runtime)?,
            is_down: Arc::default(),
        })
    }

    fn note(&self, status: &'static str, detail: &str) {
        counter!(EXPORTS, "status" => status).increment(1);
        let is_down = status != "ok";
        if self.is_down.swap(is_down, Ordering::Relaxed) != is_down {
            match is_down {
                true => tracing::warn!(status, detail, "the collector takes no spans"),
                false => tracing::info!("the collector takes spans again"),
            }
        }
    }
}

#[async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let request = reqwest::Request::try_from(request)?;
        let client = self.client.clone();
        let sent = self.runtime.spawn(async move {
            let mut answer = client.execute(request).await?;
            let mut body = Vec::new();
            while let Some(chunk) = answer.chunk().await? {
                if body.len() + chunk.len() > MOST {
                    break;
                }
                body.extend_from_slice(&chunk);
            }
            let mut response = Response::new(Bytes::from(body));
            *response.status_mut() = answer.status();
            *response.headers_mut() = std::mem::take(answer.headers_mut());
            Ok::<_, reqwest::Error>(response)
        });
        match sent.await {
            Ok(Ok(response)) => {
                match response.status().is_success() {
                    true => self.note("ok", ""),
                    false => self.note("refused", response.status().as_str()),
                }
                Ok(response)
            }
            // The address may hold a password.
            Ok(Err(error)) => {
                let error = error.without_url();
                self.note("failed", &error.to_string());
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
