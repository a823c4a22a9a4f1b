//! Names of servers, and the names their tools get here.
//!
//! Invariant: the server's name can be read off a tool's name, so tools of two servers
//! never share one; every name follows [`lyceum_core::ToolSpec::name`].

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

/// The longest name of a tool.
const MAX_TOOL: usize = 64;
/// The longest name of a server.
const MAX_SERVER: usize = 24;
/// Between the server's name and its tool's.
const SEPARATOR: &str = "__";

/// Why a server's name is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "use {name:?} as a server's name: 1 to {MAX_SERVER} of A-Z a-z 0-9 _ -, beginning and ending with a letter or digit, without \"__\""
)]
pub struct NameError {
    /// The name that was given, cut after 40 characters.
    pub name: String,
}

/// The name of a server: 1 to 24 of `A-Z a-z 0-9 _ -`, with a letter or digit at both ends
/// and without `__`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerName(String);

impl ServerName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name under which an agent knows a tool of this server: `SERVER__tool`. What is not
    /// allowed in a name becomes `_`; a name that would be longer than 64 characters ends in
    /// eight digits of its SHA-256 instead.
    #[must_use]
    pub fn tool(&self, tool: &str) -> String {
        let fit = |c: char| match c {
            'A'..='Z' | 'a'..='z' | '0'..='9' | '_' | '-' => c,
            _ => '_',
        };
        let mut name = format!("{}{SEPARATOR}", self.0);
        name.extend(tool.chars().map(fit).take(MAX_TOOL + 1));
        if name.len() > MAX_TOOL {
            let digest = Sha256::digest(tool.as_bytes());
            name.truncate(MAX_TOOL - 9);
            name.push('_');
            name.extend(digest[..4].iter().map(|byte| format!("{byte:02x}")));
        }
        name
    }
}

impl FromStr for ServerName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        let edges = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let fits = name.len() <= MAX_SERVER
            && name.chars().all(allowed)
            && edges(name.chars().next())
            && edges(name.chars().next_back())
            && !name.contains(SEPARATOR);
        match fits {
            true => Ok(Self(name.to_owned())),
            false => Err(NameError {
                name: name.chars().take(40).collect(),
            }),
        }
    }
}

impl fmt::Display for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ServerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_s_name_is_plain() {
        for good in ["a", "git", "my-server_2", "A1"] {
            assert_eq!(good.parse::<ServerName>().unwrap().as_str(), good);
        }
        let long = "x".repeat(25);
        for bad in ["", "a__b", "_a", "a_", "-", "a b", "ä", "a/b", &long] {
            assert!(bad.parse::<ServerName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_tool_s_name_is_bounded_and_tells_its_server() {
        let server: ServerName = "files".parse().unwrap();
        assert_eq!(server.tool("read"), "files__read");
        assert_eq!(server.tool("read file/ä"), "files__read_file__");
        let (one, two) = (server.tool(&"a".repeat(100)), server.tool(&"a".repeat(101)));
        assert_eq!((one.len(), two.len()), (64, 64));
        assert_ne!(one, two);
        assert_eq!(
            server.tool(&"b".repeat(57)),
            format!("files__{}", "b".repeat(57))
        );
    }
}
