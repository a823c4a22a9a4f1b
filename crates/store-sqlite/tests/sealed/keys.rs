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

/// Changes the keys, or stops after so many portions.
async fn change(store: &SqliteStore, portions: usize) -> bool {
    store.wrap_keys().await.unwrap();
    store.begin_keys().await.unwrap();
    let mut progress = Progress::default();
    for _ in 0..portions {
        match store.reseal(progress).await.unwrap() {
            Some(next) => progress = next,
            None => {
                store.end_keys().await.unwrap();
                return true;
            }
        }
    }
    false
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
    let mut before = Vec::new();
    for one in &whose {
        fill(&store, one).await;
    }
    for one in &whose {
        before.push(told(&store, one).await.unwrap());
    }
    store.close().await;
    assert!(!readable(&path).is_empty());
    let mut portions = 0;
    loop {
        let store = SqliteStore::open(&path, options(KEY, Unsealed::Open)).unwrap();
        let is_done = change(&store, portions).await;
        // What is sealed and what is not yet are read alike.
        for (one, before) in whose.iter().zip(&before) {
            assert_eq!(
                &told(&store, one).await.unwrap(),
                before,
                "after {portions}"
            );
        }
        store.close().await;
        if is_done {
            break;
        }
        let half = SqliteStore::open(&path, options(KEY, Unsealed::Refuse));
        assert!(half.is_err(), "a half sealed file is no sealed one");
        portions += 1;
    }
    assert!(portions > 5, "{portions}");
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
    for one in &whose {
        fill(&store, one).await;
        before.push(told(&store, one).await.unwrap());
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
    for portions in 0.. {
        let store = open(both());
        let is_done = change(&store, portions).await;
        for (one, before) in whose.iter().zip(&before) {
            assert_eq!(
                &told(&store, one).await.unwrap(),
                before,
                "after {portions}"
            );
            // Writing goes on meanwhile.
            let name = format!("turn-{portions}");
            let extra = scope(one.tenant.as_str(), "carol");
            store.append(&extra, &turn(&name)).await.unwrap();
        }
        store.close().await;
        if is_done {
            assert!(portions > 5, "{portions}");
            break;
        }
    }
    let new_keys = keys(&path);
    assert_eq!(new_keys.len(), 2, "old keys are gone: {new_keys:?}");
    assert!(new_keys.iter().all(|key| !old_keys.contains(key)));
    // The old master key opens nothing any more, the new one all.
    let old = SqliteStore::open(&path, options(KEY, Unsealed::Refuse)).unwrap_err();
    assert!(matches!(old, OpenError::WrongKey { .. }), "{old}");
    let store = open(Masters::new(&[9; 32]));
    for (one, before) in whose.iter().zip(&before) {
        assert_eq!(&told(&store, one).await.unwrap(), before);
    }
    assert!(store.verify().await.unwrap().is_sound());
}
