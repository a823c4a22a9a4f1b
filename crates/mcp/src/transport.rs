//! The two ways to a server: a process of ours, and HTTP.

mod process;
mod stderr;

use std::{collections::HashMap, io, sync::Arc, time::Duration};

use rmcp::transport::{
    StreamableHttpClientTransport, common::client_side_sse::ExponentialBackoff,
    streamable_http_client::StreamableHttpClientTransportConfig,
};

use crate::{HttpConfig, ServerLimits};

pub(crate) use process::ProcessTransport;

/// How long reaching an address may take.
const CONNECT: Duration = Duration::from_secs(5);

/// A transport over streamable HTTP. Redirects are not followed: an address that was checked
/// cannot lead to one that was not, nor headers with secrets go elsewhere.
pub(crate) fn http(
    config: &HttpConfig,
    limits: &ServerLimits,
) -> io::Result<StreamableHttpClientTransport<reqwest::Client>> {
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT)
        .build()
        .map_err(io::Error::other)?;
    let headers: HashMap<_, _> = config.headers.iter().cloned().collect();
    let uri: Arc<str> = config.url.as_str().into();
    let mut settings = StreamableHttpClientTransportConfig::with_uri(uri)
        .custom_headers(headers)
        .max_concurrent_requests(limits.max_concurrent)
        .max_sse_event_size(limits.max_message_bytes)
        .max_json_response_size(limits.max_message_bytes)
        .reinit_on_expired_session(true);
    let mut again = ExponentialBackoff::default();
    again.max_delay = Some(limits.retry_most);
    settings.retry_config = Arc::new(again);
    Ok(StreamableHttpClientTransport::with_client(client, settings))
}
