//! A server that is a process of ours, in a process group of its own.
//!
//! Invariant: when the transport is gone, so is the process with all that it started and
//! that stayed in its group.

use std::{io, process::Stdio, time::Duration};

use rmcp::{
    RoleClient,
    service::{RxJsonRpcMessage, TxJsonRpcMessage},
    transport::{Transport, async_rw::AsyncRwTransport},
};
use rustix::process::{Pid, Signal, kill_process_group};
use secrecy::ExposeSecret;
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::stderr;
use crate::{ProcessConfig, ServerLimits, ServerName, paced::Paced};

/// How long a process may take to end by itself after its input was closed, and again after
/// it was asked to. The protocol's order: close the input, then SIGTERM, then SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct ProcessTransport {
    // Dropped first, so that the process sees the end of its input.
    io: Io,
    group: Group,
}

struct Io(AsyncRwTransport<RoleClient, Paced<ChildStdout>, ChildStdin>);

impl std::fmt::Debug for Io {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Io")
    }
}

/// The process and its group.
#[derive(Debug)]
struct Group {
    child: Child,
    leader: Option<Pid>,
}

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(leader) = self.leader {
            // It fails when nobody is left in the group, which is what is wanted.
            let _ = kill_process_group(leader, signal);
        }
    }

    async fn end(&mut self) {
        if tokio::time::timeout(GRACE, self.child.wait())
            .await
            .is_err()
        {
            self.signal(Signal::TERM);
            let _ = tokio::time::timeout(GRACE, self.child.wait()).await;
        }
        self.signal(Signal::KILL);
        self.leader = None;
        let _ = self.child.wait().await;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

impl ProcessTransport {
    /// Starts the process. Needs a runtime.
    pub(crate) fn start(
        name: &ServerName,
        config: &ProcessConfig,
        limits: &ServerLimits,
    ) -> io::Result<Self> {
        let mut command = Command::new(&config.command);
        command
            .args(&config.args)
            .env_clear()
            .envs(
                config
                    .env
                    .iter()
                    .map(|(name, value)| (name, value.expose_secret())),
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(directory) = &config.directory {
            command.current_dir(directory);
        }
        let mut child = command.spawn()?;
        let leader = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let group = Group { child, leader };
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("the process has no pipes"));
        };
        tokio::spawn(stderr::log(name.clone(), stderr));
        let io = AsyncRwTransport::new_client(Paced::new(stdout), stdin)
            .with_max_line_length(limits.max_message_bytes);
        Ok(Self { io: Io(io), group })
    }
}

impl Transport<RoleClient> for ProcessTransport {
    type Error = io::Error;

    fn send(
        &mut self,
        message: TxJsonRpcMessage<RoleClient>,
    ) -> impl Future<Output = io::Result<()>> + Send + 'static {
        self.io.0.send(message)
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleClient>> {
        self.io.0.receive().await
    }

    async fn close(&mut self) -> io::Result<()> {
        // A process that does not read must not keep us from ending it.
        let closed = tokio::time::timeout(GRACE, self.io.0.close()).await;
        self.group.end().await;
        closed.unwrap_or(Ok(()))
    }
}
