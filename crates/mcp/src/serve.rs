//! Lyceum as a server: the student, the panel and the tools, for other agents.
//!
//! Invariants: a caller reaches its own conversations only; a tool that needs a person's
//! approval is not offered, because nobody is here to give it; a failed call says what kind
//! of failure it was and nothing of the inside. Over HTTP every request stands alone, so any
//! of several processes may answer it. Deliberately absent: sampling, elicitation, roots,
//! subscriptions, and who a caller is: the [`Scope`] in the request's extensions says so.

mod act;
mod offer;

use std::{convert::Infallible, fmt, sync::Arc};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use lyceum_core::{
    Approval, CallContext, Panel, Pupil, Scope, SessionId, Student, Tool, ToolSource,
};
use rmcp::{
    ErrorData, RoleServer, ServerHandler, ServiceExt,
    model::{
        CallToolRequestParams, CallToolResponse, Implementation, ListResourceTemplatesResult,
        ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
        ReadResourceResult, ResourceContents, ResourceTemplate, ServerCapabilities, ServerConfig,
    },
    service::RequestContext,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::never::NeverSessionManager,
    },
};
use tokio_util::sync::CancellationToken;
use tower::Service;

/// Around the id of a conversation in the address of its notes.
const NOTES: (&str, &str) = ("lyceum://sessions/", "/notes");
/// The largest request.
const MAX_REQUEST_BYTES: usize = 2 << 20;
const INSTRUCTIONS: &str = "An AI student that you teach: `teach` it a topic and it asks about the gaps in your \
explanation. Keep the `session` that it answers with to go on with a lesson, and to see what it knows (`knowledge`), \
examine it (`exam`), have it teach back (`teach_back`), see what to explain again (`review`) and read notes (`notes`). \
`discuss` has a panel discuss a position.";

/// What is served.
#[derive(Clone)]
pub struct Served {
    student: Arc<dyn Student>,
    pupil: Arc<dyn Pupil>,
    panel: Arc<dyn Panel>,
    tools: Arc<dyn ToolSource>,
    local: Option<Scope>,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").finish_non_exhaustive()
    }
}

/// A conversation over standard input and output could not begin or ended badly.
#[derive(Debug, thiserror::Error)]
#[error("speak the Model Context Protocol")]
pub struct ServeError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl Served {
    /// The student, what it knows between lessons, the panel, and tools beside them.
    #[must_use]
    pub fn new(
        student: Arc<dyn Student>,
        pupil: Arc<dyn Pupil>,
        panel: Arc<dyn Panel>,
        tools: Arc<dyn ToolSource>,
    ) -> Self {
        Self {
            student,
            pupil,
            panel,
            tools,
            local: None,
        }
    }

    /// Serves one client over a pair of streams, as the local user, until it leaves or `stop`.
    ///
    /// # Errors
    ///
    /// [`ServeError`] when the client does not speak the protocol.
    pub async fn over(
        mut self,
        input: impl tokio::io::AsyncRead + Send + Unpin + 'static,
        output: impl tokio::io::AsyncWrite + Send + Unpin + 'static,
        stop: CancellationToken,
    ) -> Result<(), ServeError> {
        self.local = Some(Scope::local());
        let begun = stop.run_until_cancelled(self.serve((input, output))).await;
        let Some(begun) = begun else {
            return Ok(());
        };
        let running = begun.map_err(|error| ServeError(error.into()))?;
        let ended = stop.run_until_cancelled(running.waiting()).await;
        match ended {
            Some(Err(error)) => Err(ServeError(error.into())),
            _ => Ok(()),
        }
    }

    /// A service that answers streamable HTTP. Each request's extensions have to hold the
    /// [`Scope`] of whoever calls, or it is refused; the caller checks hosts and origins.
    #[must_use]
    pub fn over_http<B>(
        self,
    ) -> impl Service<
        http::Request<B>,
        Response = http::Response<BoxBody<Bytes, Infallible>>,
        Error = Infallible,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
    where
        B: http_body::Body<Data: Send + 'static, Error: fmt::Display> + Send + 'static,
    {
        let mut config = StreamableHttpServerConfig::default().disable_allowed_hosts();
        config.legacy_session_mode = false;
        config.json_response = true;
        config.max_request_body_bytes = MAX_REQUEST_BYTES;
        let sessions = Arc::new(NeverSessionManager::default());
        StreamableHttpService::new(move || Ok(self.clone()), sessions, config)
    }

    /// Whose request it is.
    fn call(&self, context: &RequestContext<RoleServer>) -> Result<CallContext, ErrorData> {
        let parts = context.extensions.get::<http::request::Parts>();
        let scope = parts.and_then(|parts| parts.extensions.get::<Scope>());
        match scope.or(self.local.as_ref()) {
            Some(scope) => Ok(CallContext::new(scope.clone())),
            None => Err(ErrorData::internal_error("nobody says who calls", None)),
        }
    }

    /// The tools beside the student's own that may be called without a person.
    fn others(&self) -> Vec<Arc<dyn Tool>> {
        let mut tools = self.tools.tools();
        tools.retain(|tool| {
            let is_free = tool.traits().approval == Approval::NotNeeded;
            is_free && !offer::is_own(&tool.spec().name)
        });
        tools
    }
}

impl ServerHandler for Served {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_resources()
            .build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("lyceum", env!("CARGO_PKG_VERSION")))
            .with_instructions(INSTRUCTIONS)
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut tools = offer::own();
        tools.extend(self.others().iter().map(|tool| offer::other(tool.as_ref())));
        Ok(ListToolsResult::with_all_items(tools))
    }

    async fn call_tool(
        &self,
        asked: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let call = self.call(&context)?;
        let gone = context.ct.clone();
        let work = act::call(self, call, asked);
        match gone.run_until_cancelled(work).await {
            Some(result) => result.map(Into::into),
            None => Err(ErrorData::internal_error("the call was cancelled", None)),
        }
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        let address = format!("{}{{session}}{}", NOTES.0, NOTES.1);
        let notes = ResourceTemplate::new(address, "notes")
            .with_description(
                "Notes of a lesson: what was taught, asked and is to be explained again.",
            )
            .with_mime_type("text/markdown");
        Ok(ListResourceTemplatesResult::with_all_items(vec![notes]))
    }

    async fn read_resource(
        &self,
        asked: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let unknown = || ErrorData::resource_not_found("there is no such lesson of yours", None);
        let call = self.call(&context)?;
        let id = asked.uri.strip_prefix(NOTES.0);
        let id = id.and_then(|rest| rest.strip_suffix(NOTES.1));
        let session = id
            .and_then(|id| SessionId::new(id).ok())
            .ok_or_else(unknown)?;
        let notes = self
            .pupil
            .paper(call, session, lyceum_core::Paper::Notes)
            .await;
        let notes = notes.map_err(|error| {
            tracing::error!(error = %error, label = error.label(), "notes cannot be read");
            ErrorData::internal_error(error.label(), None)
        })?;
        let text = ResourceContents::text(notes.ok_or_else(unknown)?, asked.uri);
        Ok(ReadResourceResult::new(vec![text.with_mime_type("text/markdown")]).into())
    }
}
