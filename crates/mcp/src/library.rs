//! What a server offers to read beside its tools: resources and prompts.
//!
//! Nothing of it reaches a model by itself; whoever asks decides.

use lyceum_core::{Message, ToolOutput};
use rmcp::model::{GetPromptRequestParams, PaginatedRequestParams, ReadResourceRequestParams};
use serde_json::{Map, Value};

use crate::{
    Server, ServerError,
    list::MAX_PAGES,
    plain::{line, plain},
    result,
};

/// The most entries of a list.
const MAX_ENTRIES: usize = 1_000;
const MAX_DESCRIPTION: usize = 1_024;
const MAX_NAME: usize = 500;

/// Something that can be read from a server. Texts are the server's words, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResourceInfo {
    /// Its address, as [`Server::read_resource`] takes it.
    pub uri: String,
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Its media type, where the server says.
    pub mime_type: Option<String>,
}

/// A prompt that a server keeps. Texts are the server's words, bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptInfo {
    /// Its name, as [`Server::prompt`] takes it.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// What it can be given.
    pub arguments: Vec<PromptArgument>,
}

/// Something a prompt can be given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptArgument {
    /// Its name.
    pub name: String,
    /// What it is.
    pub description: String,
    /// Whether the prompt cannot be had without it.
    pub required: bool,
}

impl Server {
    /// Lists what can be read: at most 1,000 entries.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub async fn resources(&self) -> Result<Vec<ResourceInfo>, ServerError> {
        let list = async |peer: rmcp::Peer<rmcp::RoleClient>| {
            let (mut all, mut cursor) = (Vec::new(), None);
            for _ in 0..MAX_PAGES {
                let page = PaginatedRequestParams::default().with_cursor(cursor);
                let page = peer.list_resources(Some(page)).await?;
                all.extend(page.resources);
                cursor = page.next_cursor.filter(|_| all.len() < MAX_ENTRIES);
                if cursor.is_none() {
                    break;
                }
            }
            all.truncate(MAX_ENTRIES);
            Ok(all)
        };
        let all = self.link().ask(None, list).await?;
        let info = |found: rmcp::model::Resource| ResourceInfo {
            uri: found.uri.chars().take(MAX_NAME * 4).collect(),
            name: line(&found.name, MAX_NAME),
            description: plain(&found.description.unwrap_or_default(), MAX_DESCRIPTION),
            mime_type: found.mime_type.map(|kind| line(&kind, 100)),
        };
        Ok(all.into_iter().map(info).collect())
    }

    /// Reads a resource's text; what is no text is named only.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; [`ServerError::Refused`] where there is no such resource.
    pub async fn read_resource(&self, uri: &str) -> Result<ToolOutput, ServerError> {
        let params = ReadResourceRequestParams::new(uri);
        let read = self
            .link()
            .ask(None, async |peer| peer.read_resource(params).await)
            .await?;
        Ok(result::resource(
            read,
            self.link().limits().max_result_chars,
        ))
    }

    /// Lists the prompts: at most 1,000.
    ///
    /// # Errors
    ///
    /// [`ServerError`].
    pub async fn prompts(&self) -> Result<Vec<PromptInfo>, ServerError> {
        let list = async |peer: rmcp::Peer<rmcp::RoleClient>| {
            let (mut all, mut cursor) = (Vec::new(), None);
            for _ in 0..MAX_PAGES {
                let page = PaginatedRequestParams::default().with_cursor(cursor);
                let page = peer.list_prompts(Some(page)).await?;
                all.extend(page.prompts);
                cursor = page.next_cursor.filter(|_| all.len() < MAX_ENTRIES);
                if cursor.is_none() {
                    break;
                }
            }
            all.truncate(MAX_ENTRIES);
            Ok(all)
        };
        let all = self.link().ask(None, list).await?;
        let argument = |found: rmcp::model::PromptArgument| PromptArgument {
            name: line(&found.name, MAX_NAME),
            description: plain(&found.description.unwrap_or_default(), MAX_DESCRIPTION),
            required: found.required.unwrap_or(false),
        };
        let info = |found: rmcp::model::Prompt| PromptInfo {
            name: line(&found.name, MAX_NAME),
            description: plain(&found.description.unwrap_or_default(), MAX_DESCRIPTION),
            arguments: found
                .arguments
                .unwrap_or_default()
                .into_iter()
                .take(50)
                .map(argument)
                .collect(),
        };
        Ok(all.into_iter().map(info).collect())
    }

    /// The messages of a prompt, given its arguments: at most 100.
    ///
    /// # Errors
    ///
    /// [`ServerError`]; [`ServerError::Refused`] where there is no such prompt or an argument
    /// is missing.
    pub async fn prompt(
        &self,
        name: &str,
        arguments: Map<String, Value>,
    ) -> Result<Vec<Message>, ServerError> {
        let params = GetPromptRequestParams::new(name).with_arguments(arguments);
        let got = self
            .link()
            .ask(None, async |peer| peer.get_prompt(params).await)
            .await?;
        Ok(result::prompt(got, self.link().limits().max_result_chars))
    }
}
