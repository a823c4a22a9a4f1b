//! Reads a server's list of tools, tolerantly and within bounds.
//!
//! One entry that is not understood costs that entry, not the list.

use std::time::Duration;

use rmcp::{
    RoleClient,
    model::{ClientRequest, ListToolsRequest, PaginatedRequestParams, ServerResult},
    service::{Peer, PeerRequestOptions, ServiceError},
};
use serde_json::Value;

use crate::catalog::Listed;

/// Pages of a list, and entries of all pages, that are read.
pub(crate) const MAX_PAGES: usize = 50;
const MAX_LISTED: usize = 10_000;

/// All tools the server lists, and how many entries could not be read.
pub(crate) async fn tools(
    peer: &Peer<RoleClient>,
    within: Duration,
) -> Result<(Vec<Listed>, usize), ServiceError> {
    let (mut tools, mut unread, mut cursor) = (Vec::new(), 0, None);
    for _ in 0..MAX_PAGES {
        let page = PaginatedRequestParams::default().with_cursor(cursor);
        let request = ClientRequest::ListToolsRequest(ListToolsRequest::with_param(page));
        let options = PeerRequestOptions::with_timeout(within);
        let asked = peer.send_request_with_option(request, options).await?;
        let (listed, next) = match asked.await_response().await? {
            ServerResult::ListToolsResult(page) => {
                let listed = page.tools.into_iter().map(|tool| {
                    let schema = tool.schema_as_json_value();
                    let words = tool.description.map(Into::into).or(tool.title);
                    Some(Listed {
                        name: tool.name.into_owned(),
                        description: words.unwrap_or_default(),
                        schema,
                    })
                });
                (listed.collect(), page.next_cursor)
            }
            // A page with an entry that breaks the protocol is not known as a list.
            ServerResult::CustomResult(page) => read(&page.0)?,
            _ => return Err(ServiceError::UnexpectedResponse),
        };
        let listed: Vec<Option<Listed>> = listed;
        unread += listed.iter().filter(|tool| tool.is_none()).count();
        tools.extend(listed.into_iter().flatten());
        cursor = next.filter(|_| tools.len() < MAX_LISTED);
        if cursor.is_none() {
            break;
        }
    }
    Ok((tools, unread))
}

type Page = (Vec<Option<Listed>>, Option<String>);

fn read(page: &Value) -> Result<Page, ServiceError> {
    let tools = page.get("tools").and_then(Value::as_array);
    let tools = tools.ok_or(ServiceError::UnexpectedResponse)?;
    let next = page.get("nextCursor").and_then(Value::as_str);
    Ok((
        tools.iter().map(Listed::read).collect(),
        next.map(str::to_owned),
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_bad_entry_is_one_entry_lost() {
        let page = json!({"tools": [{"name": "a", "inputSchema": 7}, {"name": 3}, "x"], "nextCursor": "n"});
        let (tools, next) = read(&page).unwrap();
        let names: Vec<Option<&str>> = tools
            .iter()
            .map(|tool| tool.as_ref().map(|tool| tool.name.as_str()))
            .collect();
        assert_eq!(names, [Some("a"), None, None]);
        assert_eq!(next.as_deref(), Some("n"));
        assert!(read(&json!({"tools": "none"})).is_err());
    }
}
