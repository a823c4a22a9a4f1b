//! What keeps personal data and secrets out of logs and away from models that make vectors, and
//! the keys that what is stored is encrypted with.

use std::sync::Arc;

use anyhow::{Context, Result};
use lyceum_core::Scrubber;
use lyceum_redact::{AuditKey, Redactor};
use lyceum_vault::Masters;
use secrecy::ExposeSecret as _;

use crate::{config::Resolved, secret_file};

/// The key's file inside the data directory.
const KEY_FILE: &str = "audit.key";

/// For log lines, where `privacy.logs` says so. It leaves no digests: a log of what was kept out
/// of the log would tell it all the same.
pub(crate) fn for_logs(resolved: &Resolved) -> Option<Arc<dyn Scrubber>> {
    resolved
        .config
        .privacy
        .logs
        .then(|| Arc::new(Redactor::new()) as Arc<dyn Scrubber>)
}

/// For texts on their way to a model that makes vectors, where `privacy.embedding` says so.
///
/// # Errors
///
/// When the key of the audit's digests cannot be read or made.
pub(crate) fn for_embedding(resolved: &Resolved) -> Result<Option<Arc<dyn Scrubber>>> {
    if !resolved.config.privacy.embedding {
        return Ok(None);
    }
    let key = match &resolved.config.privacy.audit_key {
        Some(key) => secret_file::key_of(key.expose_secret()).context("privacy.audit_key")?,
        None => secret_file::key_in(&resolved.data_dir.join(KEY_FILE))?,
    };
    Ok(Some(Arc::new(Redactor::with_audit(AuditKey::new(&key)))))
}

/// The master keys that what is stored is encrypted with, where it is.
///
/// # Errors
///
/// When a key's file is absent, can be read by others, or holds something else.
pub(crate) fn masters(resolved: &Resolved) -> Result<Option<Masters>> {
    let privacy = &resolved.config.privacy;
    let newest = match (&privacy.encryption_key_file, &privacy.encryption_key) {
        (Some(file), _) => secret_file::key_at(file)?,
        (None, Some(key)) => {
            secret_file::key_of(key.expose_secret()).context("privacy.encryption_key")?
        }
        (None, None) => return Ok(None),
    };
    let mut masters = Masters::new(&newest);
    for file in &privacy.encryption_old_key_files {
        masters = masters.and_old(&secret_file::key_at(file)?);
    }
    Ok(Some(masters))
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use lyceum_core::{
        CallContext, EmbedError, EmbedKind, Embedder, Embeddings, Scope, Usage, Vector,
    };
    use lyceum_memory::{
        InMemory, Languages, Meaning, Memory, MemoryConfig, MemoryKind, NewMemory,
    };

    use super::*;

    /// Remembers what it is shown.
    #[derive(Debug, Default)]
    struct Curious(Mutex<Vec<String>>);

    #[async_trait]
    impl Embedder for Curious {
        fn model(&self) -> &str {
            "curious"
        }

        fn dimensions(&self) -> usize {
            1
        }

        async fn embed(
            &self,
            _: &CallContext,
            _: EmbedKind,
            texts: &[Arc<str>],
        ) -> Result<Embeddings, EmbedError> {
            let shown = texts.iter().map(|text| text.to_string());
            self.0.lock().unwrap().extend(shown);
            Ok(Embeddings {
                vectors: vec![Vector::from([1.0]); texts.len()],
                usage: Usage::default(),
            })
        }
    }

    #[tokio::test]
    async fn nothing_personal_reaches_the_embedder() {
        let planted = [
            "ada@example.org",
            "13800138000",
            "4111 1111 1111 1111",
            "123-45-6789",
            "11010519491231002X",
            "DE89370400440532013000",
            "192.168.1.10",
            "sk-proj-abcDEF1234567890abcDEF",
        ];
        let (store, model) = (Arc::new(InMemory::default()), Arc::new(Curious::default()));
        let meaning = Meaning::new(store.clone(), model.clone(), Languages::All);
        let memory = Memory::new(store.clone(), store.clone(), store, MemoryConfig::default())
            .with_meaning(meaning)
            .with_scrubber(Arc::new(Redactor::with_audit(AuditKey::new(&[7; 32]))));
        let scope = Scope::local();
        for original in planted {
            let text = format!("My number is {original}, keep it.");
            let new = NewMemory::new(MemoryKind::Fact, "", text);
            memory.remember(&scope, new).await.unwrap();
            let query = format!("whose is {original} ?");
            memory.find(&scope, &query, 3).await.unwrap();
        }
        while memory.embed_waiting(3).await.unwrap() > 0 {}
        let shown = model.0.lock().unwrap().join("\n");
        assert_eq!(shown.lines().count(), 2 * planted.len());
        for original in planted {
            assert!(!shown.contains(original), "{original} in {shown}");
            // The store keeps what was said, and finds it by its words.
            let found = memory.memories().search(&scope, original, 9).await.unwrap();
            assert!(
                found.iter().any(|hit| hit.text.contains(original)),
                "{original}"
            );
        }
    }
}
