//! The servers of the configuration, connected, and their tools beside the built-in ones.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use lyceum_core::{Tool, ToolSource};
use lyceum_mcp::{HttpConfig, ProcessConfig, Reach, ServerConfig, ServerLimits, Servers};
use lyceum_tools::{Limited, ToolPolicy};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    config::{Mcp, McpServer},
    provider::Environment,
    tools,
};

/// Between a server's name and its tool's.
pub(crate) const SEPARATOR: &str = "__";

/// Variables that programs need to run at all.
const INHERITED: [&str; 5] = ["PATH", "HOME", "LANG", "TZ", "TMPDIR"];
/// How long the start of this program waits for servers; who is later is there later.
const SETTLE: Duration = Duration::from_secs(2);
/// Calls that may wait for a turn at one tool.
const MAX_WAITING: usize = 1_000;

/// The built-in tools, and those of servers as they are there.
#[derive(Debug)]
pub(crate) struct Toolbox {
    own: Vec<Arc<dyn Tool>>,
    servers: Arc<Servers>,
    /// The only tools there are, by name; `None` for all.
    allowed: Option<BTreeSet<String>>,
}

impl ToolSource for Toolbox {
    fn tools(&self) -> Vec<Arc<dyn Tool>> {
        let mut tools = self.own.clone();
        let others = self.servers.tools().into_iter();
        tools.extend(others.filter(|tool| match &self.allowed {
            Some(names) => names.contains(&tool.spec().name),
            None => true,
        }));
        tools
    }
}

/// Checks the servers of a configuration, and reads the variables they name.
///
/// # Errors
///
/// What is wrong, with the server's name.
pub(crate) fn servers(config: &Mcp, environment: &impl Environment) -> Result<Vec<ServerConfig>> {
    let mut servers: Vec<ServerConfig> = Vec::new();
    for server in &config.servers {
        let wrong = || format!("mcp.servers: {:?}", server.name);
        let built = build(server, environment).with_context(wrong)?;
        if servers.iter().any(|other| other.name == built.name) {
            bail!("mcp.servers: two are named {:?}", server.name);
        }
        servers.push(built);
    }
    Ok(servers)
}

fn build(server: &McpServer, environment: &impl Environment) -> Result<ServerConfig> {
    let range = |key: &str, value: u64, most: u64| match (1..=most).contains(&value) {
        true => Ok(()),
        false => bail!("{key} is between 1 and {most}"),
    };
    range("timeout_seconds", server.timeout_seconds, 3_600)?;
    range("start_timeout_seconds", server.start_timeout_seconds, 600)?;
    range("max_concurrent", server.max_concurrent as u64, 1_000)?;
    range("max_tools", server.max_tools as u64, 1_000)?;
    let reach = match (&server.command, &server.url) {
        (Some(command), None) => {
            if !server.headers.is_empty() || server.unencrypted {
                bail!("headers and unencrypted are for a url");
            }
            Reach::Process(process(server, command, environment)?)
        }
        (None, Some(url)) => {
            let of_a_process = server.args.len() + server.env.len() + server.inherit.len();
            if of_a_process > 0 || server.directory.is_some() {
                bail!("args, env, inherit and directory are for a command");
            }
            let headers = server
                .headers
                .iter()
                .map(|(name, value)| Ok((name.clone(), expand(value, environment)?)))
                .collect::<Result<Vec<_>>>()?;
            Reach::Http(HttpConfig::new(url, &headers, server.unencrypted)?)
        }
        _ => bail!("it needs either a command or a url"),
    };
    Ok(ServerConfig {
        name: server.name.parse()?,
        reach,
        allow: server
            .allow
            .clone()
            .map(|names| names.into_iter().collect()),
        limits: ServerLimits {
            call: Duration::from_secs(server.timeout_seconds),
            start: Duration::from_secs(server.start_timeout_seconds),
            max_concurrent: server.max_concurrent,
            max_tools: server.max_tools,
            ..ServerLimits::default()
        },
    })
}

fn process(
    server: &McpServer,
    command: &str,
    environment: &impl Environment,
) -> Result<ProcessConfig> {
    let inherit = server.inherit.iter().map(String::as_str);
    let mut env: Vec<(String, SecretString)> = INHERITED
        .into_iter()
        .chain(inherit)
        .filter_map(|name| Some((name.to_owned(), environment.get(name)?.into())))
        .collect();
    for (name, value) in &server.env {
        env.push((name.clone(), expand(value, environment)?));
    }
    let process = ProcessConfig::new(command, server.args.clone(), env)?;
    Ok(match &server.directory {
        Some(directory) => process.in_directory(directory.clone()),
        None => process,
    })
}

/// A value with its `${NAME}`s replaced.
fn expand(value: &SecretString, environment: &impl Environment) -> Result<SecretString> {
    let mut rest = value.expose_secret();
    let mut whole = String::new();
    while let Some((before, after)) = rest.split_once("${") {
        let (name, after) = after.split_once('}').context("a `${` is not closed")?;
        let value = environment
            .get(name)
            .with_context(|| format!("the variable {name} is not set"))?;
        whole.push_str(before);
        whole.push_str(&value);
        rest = after;
    }
    whole.push_str(rest);
    Ok(whole.into())
}

/// Begins to connect, and gives the tools of all servers, under limits, beside these; of
/// both only those `allowed`, where that is said.
///
/// # Errors
///
/// As [`servers`], and what is out of range in a policy.
pub(crate) async fn toolbox(
    config: &Mcp,
    environment: &impl Environment,
    own: Vec<Arc<dyn Tool>>,
    allowed: Option<&[String]>,
) -> Result<(Arc<Toolbox>, Arc<Servers>)> {
    let policies = policies(config)?;
    let dress = move |tool: Arc<dyn Tool>| -> Arc<dyn Tool> {
        let (server, _) = tool.spec().name.split_once(SEPARATOR).unwrap_or_default();
        let policy = policies.get(server).cloned().unwrap_or_default();
        Arc::new(Limited::new(tool, policy))
    };
    let servers = Arc::new(Servers::start(servers(config, environment)?, dress)?);
    servers.settled(SETTLE).await;
    let toolbox = Arc::new(Toolbox {
        own,
        servers: Arc::clone(&servers),
        allowed: allowed.map(|names| names.iter().cloned().collect()),
    });
    Ok((toolbox, servers))
}

/// How each server's tools are called.
fn policies(config: &Mcp) -> Result<HashMap<String, ToolPolicy>> {
    let policy = |server: &McpServer| {
        let policy = ToolPolicy {
            // The server ends its own calls before.
            timeout: Duration::from_secs(server.timeout_seconds + 1),
            max_waiting: MAX_WAITING,
            // A server that is away says when to come back.
            breaker: None,
            ..ToolPolicy::default()
        };
        let wrong = || format!("mcp.servers: {:?}: policy", server.name);
        let policy = tools::applied(policy, &server.policy).with_context(wrong)?;
        Ok((server.name.clone(), policy))
    };
    config.servers.iter().map(policy).collect()
}

/// What `lyceum check` says of the servers: each is connected once, and closed again.
///
/// # Errors
///
/// As [`servers`].
pub(crate) async fn report(config: &Mcp, environment: &impl Environment) -> Result<String> {
    let configs = servers(config, environment)?;
    if configs.is_empty() {
        return Ok(String::new());
    }
    let most = configs.iter().map(|server| server.limits.start).max();
    let servers = Servers::start(configs, |tool| tool)?;
    servers.settled(most.unwrap_or_default() + SETTLE).await;
    let mut text = String::from("\n# Tools of MCP servers:");
    for server in servers.servers() {
        let status = server.status();
        let line = match status.why {
            None => {
                let tools = server.tools();
                let names: Vec<&str> = tools.iter().map(|tool| tool.spec().name.as_str()).collect();
                format!("{} tools: {}", names.len(), names.join(", "))
            }
            Some(why) => format!("not there: {why}"),
        };
        text.push_str(&format!("\n#   {}: {line}", status.name));
    }
    servers.close().await;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    impl Environment for HashMap<&str, &str> {
        fn get(&self, name: &str) -> Option<String> {
            HashMap::get(self, name).map(|value| (*value).to_owned())
        }
    }

    fn read(toml: &str) -> Result<Vec<ServerConfig>> {
        let environment = HashMap::from([("PATH", "/bin"), ("TOKEN", "s3cret")]);
        servers(&toml::from_str(toml)?, &environment)
    }

    #[test]
    fn a_server_is_a_command_or_an_address() {
        let both = "[[servers]]\nname = \"a\"\ncommand = \"x\"\nurl = \"https://x\"";
        let neither = "[[servers]]\nname = \"a\"";
        for wrong in [both, neither] {
            assert!(format!("{:#}", read(wrong).unwrap_err()).contains("either"));
        }
        let mixed = "[[servers]]\nname = \"a\"\nurl = \"https://x\"\nargs = [\"b\"]";
        assert!(read(mixed).is_err());
        let twice = "[[servers]]\nname = \"a\"\ncommand = \"x\"\n[[servers]]\nname = \"a\"\ncommand = \"y\"";
        assert!(
            read(twice)
                .unwrap_err()
                .to_string()
                .contains("two are named")
        );
    }

    #[test]
    fn a_server_has_a_policy_of_its_own() {
        let toml = "[[servers]]\nname = \"a\"\ncommand = \"x\"\ntimeout_seconds = 7\n\
                    [servers.policy]\nmax_per_minute = 5\napproval = true\n\
                    [[servers]]\nname = \"b\"\ncommand = \"y\"";
        let config: Mcp = toml::from_str(toml).unwrap();
        let policies = policies(&config).unwrap();
        let (a, b) = (&policies["a"], &policies["b"]);
        assert_eq!(a.timeout, Duration::from_secs(8));
        assert_eq!((a.max_per_minute, b.max_per_minute), (Some(5), None));
        assert_eq!(a.approval, lyceum_core::Approval::Needed);
        let wrong = toml.replace("max_per_minute = 5", "timeout_seconds = 0");
        let error = super::policies(&toml::from_str(&wrong).unwrap()).unwrap_err();
        assert!(format!("{error:#}").contains("\"a\": policy: timeout_seconds"));
    }

    #[test]
    fn variables_are_read_and_never_shown() {
        let toml = "[[servers]]\nname = \"a\"\nurl = \"https://x\"\n\
                    headers = { Authorization = \"Bearer ${TOKEN}\" }";
        let servers = read(toml).unwrap();
        assert!(!format!("{servers:?}").contains("s3cret"));
        let missing = toml.replace("TOKEN", "NONE");
        let error = format!("{:#}", read(&missing).unwrap_err());
        assert!(error.contains("the variable NONE is not set"), "{error}");
        let config: Mcp = toml::from_str(&toml.replace("${TOKEN}", "written")).unwrap();
        assert!(!toml::to_string(&config).unwrap().contains("written"));
        let config: Mcp = toml::from_str(toml).unwrap();
        assert!(toml::to_string(&config).unwrap().contains("${TOKEN}"));
    }
}
