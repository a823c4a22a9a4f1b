//! Reads the three sources into one [`Config`] and explains what does not fit.
//!
//! Invariant: an error names the key, where it stands and the nearest known key, and
//! never the value, which may be a secret.

use std::path::{Path, PathBuf};

use figment::{
    Figment,
    error::{Actual, Kind},
    providers::{Env, Format, Serialized, Toml},
    value::Dict,
};

use super::Config;

/// The prefix of the variables; `__` separates section and key: `LYCEUM_SERVER__LISTEN`.
const PREFIX: &str = "LYCEUM_";

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file given does not exist or cannot be read.
    #[error("cannot read the configuration file {path}: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What failed.
        #[source]
        source: std::io::Error,
    },
    /// A key that does not exist.
    #[error("unknown key `{key}` in {origin}{}", hint(nearest.as_deref()))]
    UnknownKey {
        /// The key with its section.
        key: String,
        /// Where it stands.
        origin: String,
        /// The nearest known key.
        nearest: Option<String>,
    },
    /// A value of the wrong kind, or a file that is not TOML.
    #[error("{}{detail} in {origin}", key.as_ref().map(|k| format!("`{k}`: ")).unwrap_or_default())]
    Value {
        /// The key, where one is known.
        key: Option<String>,
        /// What is wrong.
        detail: String,
        /// Where it stands.
        origin: String,
    },
    /// A value outside its range or a combination that cannot work.
    #[error("`{key}`: {detail}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// What is wrong and what is allowed.
        detail: String,
    },
}

fn hint(nearest: Option<&str>) -> String {
    match nearest {
        Some(known) => format!("; did you mean `{known}`?"),
        None => "; `lyceum check` prints the known ones".to_owned(),
    }
}

/// Reads the file (when given), the environment and the flags, later ones winning.
///
/// # Errors
///
/// [`ConfigError`] when the file cannot be read, a key is unknown or a value does not fit.
pub(crate) fn load(file: Option<&Path>, flags: Dict) -> Result<Config, ConfigError> {
    let mut figment = Figment::new();
    if let Some(path) = file {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
            path: path.to_owned(),
            source,
        })?;
        check_syntax(path, &text)?;
        figment = figment.merge(Toml::file_exact(path));
    }
    let known_elsewhere =
        |key: &figment::value::UncasedStr| key == "config" || key.starts_with("test_");
    figment = figment
        .merge(
            Env::prefixed(PREFIX)
                .filter(move |key| !known_elsewhere(key))
                .split("__"),
        )
        .merge(Serialized::globals(flags));
    figment.extract().map_err(explain)
}

/// Figment would print the offending line, which may hold a key; say only where it is.
fn check_syntax(path: &Path, text: &str) -> Result<(), ConfigError> {
    match text.parse::<toml::Table>() {
        Ok(_) => Ok(()),
        Err(error) => {
            let line = error.span().map_or(0, |span| {
                text.get(..span.start)
                    .unwrap_or_default()
                    .matches('\n')
                    .count()
                    + 1
            });
            Err(ConfigError::Value {
                key: None,
                detail: format!("not valid TOML at line {line}: {}", error.message()),
                origin: path.display().to_string(),
            })
        }
    }
}

fn explain(error: figment::Error) -> ConfigError {
    let origin = match &error.metadata {
        Some(metadata) if metadata.name.contains("environment") => "the environment".to_owned(),
        Some(metadata) => match &metadata.source {
            Some(figment::Source::File(path)) => path.display().to_string(),
            _ => "the command line".to_owned(),
        },
        None => "the configuration".to_owned(),
    };
    let path = error.path.join(".");
    match error.kind {
        Kind::UnknownField(field, known) => {
            // Figment's path may or may not end with the field itself.
            let section = match error.path.split_last() {
                Some((last, rest)) if *last == field => rest.join("."),
                _ => path,
            };
            let full = |name: &str| match section.as_str() {
                "" => name.to_owned(),
                section => format!("{section}.{name}"),
            };
            let nearest = nearest(&field, known.iter().copied()).map(full);
            ConfigError::UnknownKey {
                key: full(&field),
                origin,
                nearest,
            }
        }
        kind => ConfigError::Value {
            key: (!path.is_empty()).then_some(path),
            detail: describe(&kind),
            origin,
        },
    }
}

/// The known key with the smallest edit distance, if it is near enough to be a slip.
pub(crate) fn nearest<'a>(
    field: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let near = |name: &'a str| (strsim::damerau_levenshtein(field, name), name);
    let (distance, name) = known.into_iter().map(near).min()?;
    (distance <= field.len().max(3) / 2).then_some(name)
}

/// Figment's own words would repeat the value.
fn describe(kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(actual, expected) => {
            format!("found {}, expected {expected}", type_of(actual))
        }
        Kind::InvalidValue(actual, expected) => {
            format!("found {}, expected {expected}", type_of(actual))
        }
        Kind::MissingField(field) => format!("`{field}` is missing"),
        Kind::UnknownVariant(_, known) => format!("expected one of {}", known.join(", ")),
        Kind::InvalidLength(length, expected) => {
            format!("found {length} items, expected {expected}")
        }
        _ => "the value does not fit".to_owned(),
    }
}

fn type_of(actual: &Actual) -> &'static str {
    match actual {
        Actual::Bool(_) => "a boolean",
        Actual::Unsigned(_) | Actual::Signed(_) => "a whole number",
        Actual::Float(_) => "a fraction",
        Actual::Char(_) | Actual::Str(_) | Actual::Bytes(_) => "a text",
        Actual::Seq => "a list",
        Actual::Map => "a section",
        _ => "a value of another kind",
    }
}
