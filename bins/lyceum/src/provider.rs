//! Chooses who answers: the first that is there.
//!
//! Order: the configuration; `ANTHROPIC_API_KEY`, `OPENAI_API_KEY` (with
//! `OPENAI_BASE_URL`), `ARK_API_KEY`; a GGUF file in the data directory's `models`; an
//! Ollama on this machine; else the offline student. Deliberately absent: opening
//! anything — `compose` does that.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use lyceum_llm::{Preset, Timeouts, ollama_models};
use secrecy::SecretString;

use crate::config::{self, Model, Resolved};

/// How long to look for an Ollama; on this machine it answers at once or is not there.
const OLLAMA_WAIT: Duration = Duration::from_millis(300);
/// The hosted providers looked for, in order.
const HOSTED: [&str; 3] = ["anthropic", "openai", "ark"];

/// Who answers.
#[derive(Debug, Clone)]
pub(crate) enum Choice {
    /// The offline student: rules and learnt weights.
    Offline,
    /// A model file run in this process.
    Local(PathBuf),
    /// A provider over HTTP.
    Hosted(Box<Hosted>),
}

/// Who answers, and who does when they cannot.
#[derive(Debug, Clone)]
pub(crate) struct Chosen {
    /// Who answers.
    pub main: Choice,
    /// Who is asked next, in order.
    pub fallbacks: Vec<Choice>,
}

/// A provider over HTTP.
#[derive(Debug, Clone)]
pub(crate) struct Hosted {
    /// What is known about it.
    pub preset: &'static Preset,
    /// The model's name.
    pub model: String,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// The keys and addresses it is reached by, at least one.
    pub ways: Vec<Way>,
}

/// One key and address of a provider.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    /// The address, where it is not the preset's.
    pub base_url: Option<String>,
    /// The key.
    pub key: Option<SecretString>,
    /// Its share compared with the others.
    pub weight: u32,
    /// Its price compared with the others.
    pub price: u64,
    /// Its quota.
    pub queue: config::Queue,
}

/// Why the provider asked for cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChoiceError {
    /// There is no such provider.
    #[error("there is no provider {name:?}; there are: auto, offline, local, {known}{hint}")]
    Unknown {
        /// The name given.
        name: String,
        /// The known presets.
        known: String,
        /// The nearest name, as a sentence.
        hint: String,
    },
    /// The provider needs a key.
    #[error(
        "the provider {name} needs a key: set {variable}, or model.api_key in the configuration"
    )]
    NoKey {
        /// The provider.
        name: &'static str,
        /// Its variable.
        variable: String,
    },
    /// The provider needs a model's name.
    #[error("the provider {0} needs a model: give --model NAME")]
    NoModel(&'static str),
    /// `local` without a file.
    #[error("the local provider needs a model file: give --model FILE.gguf, or put one into {0}")]
    NoFile(PathBuf),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline => f.write_str(
                "offline, the student of rules and learnt weights (for a model: set ANTHROPIC_API_KEY or OPENAI_API_KEY, or give --model FILE.gguf)",
            ),
            Self::Local(file) => write!(f, "{} in this process", file.display()),
            Self::Hosted(hosted) => {
                write!(f, "{} by {} at {}", hosted.model, hosted.preset.name, hosted.address(0))
            }
        }
    }
}

impl Hosted {
    /// The address of a way, fit for the screen.
    pub(crate) fn address(&self, way: usize) -> String {
        let url = self.ways.get(way).and_then(|way| way.base_url.as_deref());
        without_password(url.unwrap_or(self.preset.base_url))
    }

    /// A short name of a way for logs and metrics: the provider, with a number from the
    /// second way on, and the model.
    pub(crate) fn label(&self, way: usize) -> String {
        match way {
            0 => format!("{}/{}", self.preset.name, self.model),
            _ => format!("{}/{}#{}", self.preset.name, self.model, way + 1),
        }
    }
}

/// An address fit for the screen: what stands before an `@` may be a password.
fn without_password(address: &str) -> String {
    match (address.find("://"), address.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => {
            format!("{}://{}", &address[..scheme], &address[at + 1..])
        }
        _ => address.to_owned(),
    }
}

/// The environment, read once.
pub(crate) trait Environment {
    /// A variable's value, where it is set and not empty.
    fn get(&self, name: &str) -> Option<String>;
}

/// The process's own environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<String> {
        std::env::var(name)
            .ok()
            .filter(|value| !value.trim().is_empty())
    }
}

/// Chooses the model and its fallbacks.
///
/// # Errors
///
/// [`ChoiceError`] when one asked for cannot be used; nothing else is tried then.
pub(crate) async fn choose(
    resolved: &Resolved,
    environment: &impl Environment,
) -> Result<Chosen, ChoiceError> {
    let config = &resolved.config;
    let main = choose_one(resolved, &config.model, environment).await?;
    let mut fallbacks = Vec::new();
    for model in &config.fallback.models {
        fallbacks.push(choose_one(resolved, model, environment).await?);
    }
    Ok(Chosen { main, fallbacks })
}

async fn choose_one(
    resolved: &Resolved,
    model: &Model,
    environment: &impl Environment,
) -> Result<Choice, ChoiceError> {
    let folder = resolved.data_dir.join("models");
    let queue = &resolved.config.queue;
    let named_file = model
        .name
        .as_deref()
        .filter(|name| Path::new(name).extension().is_some_and(|end| end == "gguf"));
    match model.provider.as_deref().unwrap_or("auto") {
        "auto" => match named_file {
            Some(file) => Ok(Choice::Local(file.into())),
            None => automatic(model, queue, &folder, environment).await,
        },
        "offline" => Ok(Choice::Offline),
        "local" => match model
            .name
            .clone()
            .map(PathBuf::from)
            .or_else(|| first_gguf(&folder))
        {
            Some(file) => Ok(Choice::Local(file)),
            None => Err(ChoiceError::NoFile(folder)),
        },
        name => match Preset::by_name(name) {
            Some(preset) => hosted(preset, model, queue, environment).await,
            None => Err(unknown(name)),
        },
    }
}

async fn automatic(
    model: &Model,
    queue: &config::Queue,
    folder: &Path,
    environment: &impl Environment,
) -> Result<Choice, ChoiceError> {
    for preset in HOSTED.iter().filter_map(|name| Preset::by_name(name)) {
        if preset
            .key_env
            .and_then(|variable| environment.get(variable))
            .is_some()
        {
            return hosted(preset, model, queue, environment).await;
        }
    }
    if let Some(file) = first_gguf(folder) {
        return Ok(Choice::Local(file));
    }
    if let Some(preset) = Preset::by_name("ollama")
        && let Ok(choice) = hosted(preset, model, queue, environment).await
    {
        return Ok(choice);
    }
    Ok(Choice::Offline)
}

async fn hosted(
    preset: &'static Preset,
    model: &Model,
    queue: &config::Queue,
    environment: &impl Environment,
) -> Result<Choice, ChoiceError> {
    let named = |variable: &Option<String>| match variable {
        Some(variable) => match environment.get(variable) {
            Some(key) => Ok(Some(SecretString::from(key))),
            None => Err(ChoiceError::NoKey {
                name: preset.name,
                variable: variable.clone(),
            }),
        },
        None => Ok(None),
    };
    let custom = || {
        let variable = preset.key_env?;
        environment.get(variable).map(SecretString::from)
    };
    let key = match (&model.api_key, named(&model.api_key_env)?) {
        (Some(key), _) => Some(key.clone()),
        (None, Some(key)) => Some(key),
        (None, None) => custom(),
    };
    if let (None, false, Some(variable)) = (&key, preset.keyless, preset.key_env) {
        return Err(ChoiceError::NoKey {
            name: preset.name,
            variable: variable.to_owned(),
        });
    }
    let base_url = model
        .base_url
        .clone()
        .or_else(|| address_of(preset, environment));
    let name = match &model.name {
        Some(name) => name.clone(),
        None => match default_model(preset.name) {
            Some(name) => name,
            None if preset.name == "ollama" => {
                let address = base_url.as_deref().unwrap_or(preset.base_url);
                let found = ollama_models(address, OLLAMA_WAIT)
                    .await
                    .unwrap_or_default();
                let chat = found.into_iter().find(|model| !model.embeds_only);
                chat.ok_or(ChoiceError::NoModel(preset.name))?.name
            }
            None => return Err(ChoiceError::NoModel(preset.name)),
        },
    };
    let first = Way {
        base_url,
        key,
        weight: 1,
        price: 0,
        queue: model.queue.as_ref().unwrap_or(queue).clone(),
    };
    let mut ways = vec![first.clone()];
    for endpoint in &model.endpoints {
        let key = match (&endpoint.api_key, named(&endpoint.api_key_env)?) {
            (Some(key), _) => Some(key.clone()),
            (None, Some(key)) => Some(key),
            (None, None) => first.key.clone(),
        };
        ways.push(Way {
            base_url: endpoint.base_url.clone().or_else(|| first.base_url.clone()),
            key,
            weight: endpoint.weight,
            price: endpoint.price,
            queue: endpoint.queue.as_ref().unwrap_or(&first.queue).clone(),
        });
    }
    Ok(Choice::Hosted(Box::new(Hosted {
        preset,
        model: name,
        timeouts: timeouts(model),
        ways,
    })))
}

/// The address that the environment gives for a provider.
pub(crate) fn address_of(preset: &Preset, environment: &impl Environment) -> Option<String> {
    match preset.name {
        "openai" => environment.get("OPENAI_BASE_URL"),
        "anthropic" => environment.get("ANTHROPIC_BASE_URL"),
        "ollama" => environment
            .get("OLLAMA_HOST")
            .map(|host| ollama_address(&host)),
        _ => None,
    }
}

fn timeouts(model: &Model) -> Timeouts {
    let default = Timeouts::default();
    let or = |seconds: Option<u64>, default| seconds.map_or(default, Duration::from_secs);
    Timeouts {
        connect: or(model.connect_timeout_seconds, default.connect),
        first_token: or(model.first_token_timeout_seconds, default.first_token),
        between_chunks: or(model.chunk_timeout_seconds, default.between_chunks),
        total: or(model.total_timeout_seconds, default.total),
    }
}

/// `OLLAMA_HOST` is `host`, `host:port` or an address; the dialect's path is added.
fn ollama_address(host: &str) -> String {
    let host = host.trim_end_matches('/');
    let address = if host.contains("://") {
        host.to_owned()
    } else {
        format!("http://{host}")
    };
    let has_port = address
        .rsplit(':')
        .next()
        .is_some_and(|port| port.parse::<u16>().is_ok());
    if has_port {
        format!("{address}/v1")
    } else {
        format!("{address}:11434/v1")
    }
}

fn default_model(provider: &str) -> Option<String> {
    let models: BTreeMap<String, String> =
        toml::from_str(include_str!("models.toml")).unwrap_or_default();
    models.get(provider).cloned()
}

/// The first GGUF file of the folder by name.
fn first_gguf(folder: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?;
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    files
        .filter(|path| path.extension().is_some_and(|end| end == "gguf"))
        .min()
}

fn unknown(name: &str) -> ChoiceError {
    let known: Vec<&str> = Preset::ALL.iter().map(|preset| preset.name).collect();
    let near = known.iter().copied().chain(["auto", "offline", "local"]);
    let nearest = near.min_by_key(|candidate| strsim::damerau_levenshtein(name, candidate));
    let hint = nearest.filter(|nearest| strsim::damerau_levenshtein(name, nearest) <= 3);
    ChoiceError::Unknown {
        name: name.to_owned(),
        known: known.join(", "),
        hint: hint
            .map(|nearest| format!("; did you mean {nearest}?"))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, resolve};

    impl Environment for BTreeMap<&str, &str> {
        fn get(&self, name: &str) -> Option<String> {
            // No Ollama of the machine that runs the tests: nothing listens on port 9.
            let value = BTreeMap::get(self, name)
                .copied()
                .or((name == "OLLAMA_HOST").then_some("127.0.0.1:9"));
            value.map(str::to_owned)
        }
    }

    async fn chosen(
        config: Config,
        environment: &[(&'static str, &'static str)],
    ) -> Result<Choice, ChoiceError> {
        let environment: BTreeMap<&str, &str> = environment.iter().copied().collect();
        let chosen = choose(&resolve(config).unwrap(), &environment).await;
        chosen.map(|chosen| chosen.main)
    }

    fn config(dir: &Path, provider: Option<&str>, name: Option<&str>) -> Config {
        let mut config = Config::default();
        config.data.dir = Some(dir.to_owned());
        config.model.provider = provider.map(str::to_owned);
        config.model.name = name.map(str::to_owned);
        config
    }

    fn name_of(choice: &Choice) -> &str {
        match choice {
            Choice::Offline => "offline",
            Choice::Local(_) => "local",
            Choice::Hosted(hosted) => hosted.preset.name,
        }
    }

    #[tokio::test]
    async fn the_first_that_is_there_answers() {
        let dir = tempfile::tempdir().unwrap();
        let auto = || config(dir.path(), None, None);
        let keys = [
            ("ANTHROPIC_API_KEY", "a"),
            ("OPENAI_API_KEY", "o"),
            ("ARK_API_KEY", "r"),
        ];
        assert_eq!(name_of(&chosen(auto(), &keys).await.unwrap()), "anthropic");
        assert_eq!(
            name_of(&chosen(auto(), &keys[1..]).await.unwrap()),
            "openai"
        );
        assert_eq!(name_of(&chosen(auto(), &keys[2..]).await.unwrap()), "ark");
        assert_eq!(name_of(&chosen(auto(), &[]).await.unwrap()), "offline");
        fs::create_dir(dir.path().join("models")).unwrap();
        fs::write(dir.path().join("models/a.gguf"), "").unwrap();
        assert_eq!(name_of(&chosen(auto(), &[]).await.unwrap()), "local");
        let file = config(dir.path(), None, Some("b.gguf"));
        assert_eq!(name_of(&chosen(file, &keys).await.unwrap()), "local");
        let offline = config(dir.path(), Some("offline"), None);
        assert_eq!(name_of(&chosen(offline, &keys).await.unwrap()), "offline");
    }

    #[tokio::test]
    async fn addresses_and_models_come_from_where_users_put_them() {
        let dir = tempfile::tempdir().unwrap();
        let environment = [
            ("OPENAI_API_KEY", "o"),
            ("OPENAI_BASE_URL", "http://user:pass@127.0.0.1:1/v1"),
        ];
        let choice = chosen(config(dir.path(), None, Some("m")), &environment)
            .await
            .unwrap();
        assert_eq!(choice.to_string(), "m by openai at http://127.0.0.1:1/v1");
        assert_eq!(ollama_address("box"), "http://box:11434/v1");
        assert_eq!(ollama_address("http://box:1/"), "http://box:1/v1");
    }

    #[tokio::test]
    async fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        for (provider, words) in [
            ("opnai", "did you mean openai?"),
            ("openai", "OPENAI_API_KEY"),
            ("local", "models"),
            ("vllm", "--model"),
        ] {
            let error = chosen(config(dir.path(), Some(provider), None), &[])
                .await
                .unwrap_err();
            assert!(error.to_string().contains(words), "{error}");
        }
    }
}
