//! Keys that are wrong, missing or changed, and files that are sealed by steps.

use super::*;

#[tokio::test]
async fn a_wrong_or_missing_key_is_refused_and_nothing_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = sealed(&path);
    fill(&store, &scope("acme", "ada")).await;
    store.close().await;
    let before = fs::read(&path).unwrap();
    let wrong = SqliteStore::open(&path, options([8; 32], Unsealed::Refuse)).unwrap_err();
    assert!(matches!(wrong, OpenError::WrongKey { .. }), "{wrong}");
    let none = SqliteStore::open(&path, SqliteOptions::default()).unwrap_err();
    assert!(matches!(none, OpenError::KeyNeeded { .. }), "{none}");
    assert_eq!(fs::read(&path).unwrap(), before);

    let path = directory.path().join("clear.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    fill(&store, &scope("acme", "ada")).await;
    store.close().await;
    let before = fs::read(&path).unwrap();
    let clear = SqliteStore::open(&path, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(
        matches!(clear, OpenError::NotSealed { tenants: 1, .. }),
        "{clear}"
    );
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn a_clear_file_is_sealed_by_steps_that_may_be_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = SqliteStore::open(&path, SqliteOptions::default()).unwrap();
    let whose = [
        scope("acme", "ada"),
        scope("acme", "bo"),
        scope("umbrella", "bo"),
    ];
    for one in &whose {
        fill(&store, one).await;
    }
    let mut before = Vec::new();
    for one in whose {
        let text = told(&store, &one).await.unwrap();
        before.push((one, text));
    }
    store.close().await;
    assert!(!readable(&path).is_empty());
    let open = async || SqliteStore::open(&path, options(KEY, Unsealed::Open)).unwrap();
    let then = async |store: SqliteStore, has_ended: bool| {
        store.close().await;
        if !has_ended {
            let half = SqliteStore::open(&path, options(KEY, Unsealed::Refuse));
            assert!(half.is_err(), "a half sealed file is no sealed one");
        }
    };
    // What is sealed and what is not yet are read alike.
    sealed::change_by_steps(&before, open, told, then).await;
    assert_eq!(readable(&path), Vec::<&str>::new());
    let store = sealed(&path);
    assert_eq!(store.key_state().await.unwrap().unsealed, 0);
    assert!(store.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn keys_are_changed_by_steps_that_may_be_cut_off() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = sealed(&path);
    let whose = [scope("acme", "ada"), scope("umbrella", "bo")];
    let mut before = Vec::new();
    for one in whose {
        fill(&store, &one).await;
        let text = told(&store, &one).await.unwrap();
        before.push((one, text));
    }
    let keys = |path: &Path| -> Vec<(String, u32)> {
        let file = Connection::open(path).unwrap();
        let mut all = file
            .prepare("SELECT tenant, version FROM tenant_key")
            .unwrap();
        let all = all
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))
            .unwrap();
        all.collect::<Result<_, _>>().unwrap()
    };
    store.close().await;
    let old_keys = keys(&path);
    let both = || Masters::new(&[9; 32]).and_old(&KEY);
    let open = |masters| {
        let encryption = Some(Encryption {
            masters,
            unsealed: Unsealed::Refuse,
        });
        let options = SqliteOptions {
            encryption,
            ..SqliteOptions::default()
        };
        SqliteStore::open(&path, options).unwrap()
    };
    let then = async |store: SqliteStore, _| store.close().await;
    sealed::change_by_steps(&before, async || open(both()), told, then).await;
    let new_keys = keys(&path);
    assert_eq!(new_keys.len(), 2, "old keys are gone: {new_keys:?}");
    assert!(new_keys.iter().all(|key| !old_keys.contains(key)));
    // The old master key opens nothing any more, the new one all.
    let old = SqliteStore::open(&path, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(matches!(old, OpenError::WrongKey { .. }), "{old}");
    let store = open(Masters::new(&[9; 32]));
    for (one, before) in &before {
        assert_eq!(&told(&store, one).await.unwrap(), before);
    }
    assert!(store.verify().await.unwrap().is_sound());
}
