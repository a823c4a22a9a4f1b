//! One tool of a server, as an agent calls it.

use std::sync::Arc;

use async_trait::async_trait;
use lyceum_core::{CallContext, Tool, ToolError, ToolOutput, ToolSpec};
use rmcp::model::{CallToolRequestParams, CallToolResponse};
use serde_json::{Map, Value};

use crate::{link::Link, result};

/// A tool of a server.
#[derive(Debug)]
pub(crate) struct Remote {
    link: Arc<Link>,
    remote: String,
    spec: ToolSpec,
}

impl Remote {
    pub(crate) fn new(link: Arc<Link>, remote: String, spec: ToolSpec) -> Self {
        Self { link, remote, spec }
    }
}

#[async_trait]
impl Tool for Remote {
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    async fn call(&self, call: &CallContext, arguments: Value) -> Result<ToolOutput, ToolError> {
        let arguments = match arguments {
            Value::Object(fields) => fields,
            Value::Null => Map::new(),
            _ => {
                return Err(ToolError::Arguments {
                    detail: "they are no JSON object".to_owned(),
                });
            }
        };
        let params = CallToolRequestParams::new(self.remote.clone()).with_arguments(arguments);
        let asked = self.link.ask(call.deadline, async |peer| {
            peer.call_tool_once(params).await
        });
        match asked.await? {
            CallToolResponse::Complete(done) => {
                result::output(done, self.link.limits().max_result_chars)
            }
            _ => Err(ToolError::Failed {
                detail: "the tool asks for something before it answers, which it may not"
                    .to_owned(),
            }),
        }
    }
}
