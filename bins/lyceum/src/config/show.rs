//! Prints the resolved configuration for `lyceum check`, secrets masked.

use super::Resolved;

/// The configuration as TOML that could be put into a file again, secrets aside.
///
/// # Errors
///
/// Only if a value cannot be written as TOML, which the types rule out.
pub(crate) fn show(resolved: &Resolved) -> Result<String, toml::ser::Error> {
    let mut config = resolved.config.clone();
    config.server.listen = resolved.listen.to_string();
    config.data.dir = Some(resolved.data_dir.clone());
    toml::to_string(&config)
}
