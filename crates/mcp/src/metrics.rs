//! The metrics of MCP servers. Labels are bounded: servers' names come from configuration.
//! Calls are counted by whoever puts the tools under limits.

use metrics::{Unit, counter, describe_counter, describe_gauge, gauge};

/// Counter. Attempts to connect by `server` and `status`: `ok`, or an error's label.
pub const CONNECTS: &str = "mcp_connects_total";
/// Gauge. Whether the `server` can be called: 1 or 0.
pub const UP: &str = "mcp_server_up";
/// Gauge. Tools taken from the `server`.
pub const TOOLS: &str = "mcp_server_tools";

/// Describes the metrics to the installed recorder.
pub fn describe() {
    describe_counter!(
        CONNECTS,
        Unit::Count,
        "Attempts to connect to MCP servers by server and status."
    );
    describe_gauge!(UP, Unit::Count, "Whether the MCP server can be called.");
    describe_gauge!(TOOLS, Unit::Count, "Tools taken from the MCP server.");
}

pub(crate) fn connected(server: &str, status: &'static str) {
    counter!(CONNECTS, "server" => server.to_owned(), "status" => status).increment(1);
}

pub(crate) fn up(server: &str, up: bool) {
    gauge!(UP, "server" => server.to_owned()).set(f64::from(u8::from(up)));
}

pub(crate) fn tools(server: &str, tools: usize) {
    gauge!(TOOLS, "server" => server.to_owned()).set(tools as f64);
}
