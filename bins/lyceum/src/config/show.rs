//! Prints the resolved configuration for `lyceum check`, secrets masked.

use lyceum_llm::Timeouts;

use super::Resolved;
use crate::provider::Choice;

/// The configuration as TOML, with the model that was chosen and every default filled in. It
/// could be put into a file again, secrets aside.
///
/// # Errors
///
/// Only if a value cannot be written as TOML, which the types rule out.
pub(crate) fn show(resolved: &Resolved, choice: &Choice) -> Result<String, toml::ser::Error> {
    let mut config = resolved.config.clone();
    config.server.listen = resolved.listen.to_string();
    config.data.dir = Some(resolved.data_dir.clone());
    let model = &mut config.model;
    let (provider, name) = match choice {
        Choice::Offline => ("offline", None),
        Choice::Local(file) => ("local", Some(file.display().to_string())),
        Choice::Hosted(hosted) => (hosted.preset.name, Some(hosted.model.clone())),
    };
    model.provider = Some(provider.to_owned());
    model.name = name;
    if let Choice::Hosted(hosted) = choice {
        model.base_url = Some(hosted.address(0));
        let default = Timeouts::default();
        for (field, default) in [
            (&mut model.connect_timeout_seconds, default.connect),
            (&mut model.first_token_timeout_seconds, default.first_token),
            (&mut model.chunk_timeout_seconds, default.between_chunks),
            (&mut model.total_timeout_seconds, default.total),
        ] {
            field.get_or_insert(default.as_secs());
        }
    }
    toml::to_string(&config)
}
