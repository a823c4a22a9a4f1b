//! Starting servers and asking their tools.

use std::{sync::Arc, time::Duration};

use lyceum_core::{CallContext, Scope, Tool, ToolError, ToolOutput};
use lyceum_mcp::{ProcessConfig, Reach, ServerConfig, ServerLimits, Servers};
use serde_json::Value;

/// How long anything in these tests may take before it counts as never.
const NEVER: Duration = Duration::from_secs(30);

/// The fixture with these arguments.
pub(crate) fn with(name: &str, args: &[&str]) -> ServerConfig {
    let process = ProcessConfig::new(
        env!("CARGO_BIN_EXE_lyceum-mcp-fixture"),
        args.iter().map(|arg| (*arg).to_owned()).collect(),
        vec![("GIVEN".to_owned(), "1".into())],
    )
    .unwrap();
    ServerConfig {
        name: name.parse().unwrap(),
        reach: Reach::Process(process),
        allow: None,
        limits: ServerLimits {
            retry_first: Duration::from_millis(50),
            ..ServerLimits::default()
        },
    }
}

pub(crate) fn honest(name: &str) -> ServerConfig {
    with(name, &["honest"])
}

/// Started servers, each reached or failed once.
pub(crate) async fn settled(configs: Vec<ServerConfig>) -> Servers {
    let servers = Servers::start(configs, |tool| tool).unwrap();
    servers.settled(NEVER).await;
    servers
}

pub(crate) fn has(servers: &Servers, name: &str) -> bool {
    servers.tools().iter().any(|tool| tool.spec().name == name)
}

pub(crate) fn tool(servers: &Servers, name: &str) -> Arc<dyn Tool> {
    let found = servers
        .tools()
        .into_iter()
        .find(|tool| tool.spec().name == name);
    found.unwrap_or_else(|| panic!("no tool {name}: {:?}", servers.servers()[0].status()))
}

pub(crate) async fn call_of(
    tool: &Arc<dyn Tool>,
    arguments: Value,
) -> Result<ToolOutput, ToolError> {
    tool.call(&CallContext::new(Scope::local()), arguments)
        .await
}

pub(crate) async fn call(
    servers: &Servers,
    name: &str,
    arguments: Value,
) -> Result<ToolOutput, ToolError> {
    call_of(&tool(servers, name), arguments).await
}

/// Waits for a condition.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let poll = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(NEVER, poll)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"));
}
