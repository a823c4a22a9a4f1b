//! Keys that are wrong, missing or changed, and databases that are sealed by steps.

use super::*;

/// All rows of the tables that hold anything.
async fn dump(client: &Client) -> String {
    let mut all = String::new();
    for table in [
        "owner",
        "session",
        "message",
        "memory",
        "posting",
        "record",
        "tenant_key",
    ] {
        let rows =
            format!("SELECT string_agg(t::text, ' ' ORDER BY t::text) FROM lyceum.{table} t");
        let row = client.query_one(&rows, &[]).await.unwrap();
        all.extend(row.get::<_, Option<String>>(0));
    }
    all
}

#[tokio::test]
async fn a_wrong_or_missing_key_is_refused_and_nothing_is_written() {
    let address = SERVER.database().unwrap();
    fill(&sealed(&address).await, &scope("acme", "ada")).await;
    let client = by_hand(&address).await;
    let before = dump(&client).await;
    let wrong = with(Masters::new(&[8; 32]), Unsealed::Refuse);
    let wrong = PostgresStore::open(&address, wrong).await.unwrap_err();
    assert!(matches!(wrong, OpenError::WrongKey { .. }), "{wrong}");
    let none = PostgresStore::open(&address, crate::options()).await;
    let none = none.unwrap_err();
    assert!(matches!(none, OpenError::KeyNeeded { .. }), "{none}");
    assert_eq!(dump(&client).await, before);

    let address = SERVER.database().unwrap();
    let store = PostgresStore::open(&address, crate::options()).await;
    let store = store.unwrap();
    fill(&store, &scope("acme", "ada")).await;
    let client = by_hand(&address).await;
    let before = dump(&client).await;
    let clear = PostgresStore::open(&address, key(Unsealed::Refuse)).await;
    let clear = clear.unwrap_err();
    assert!(
        matches!(clear, OpenError::NotSealed { tenants: 1, .. }),
        "{clear}"
    );
    assert_eq!(dump(&client).await, before);
}

#[tokio::test]
async fn a_process_without_the_key_writes_nothing_once_the_database_is_encrypted() {
    let address = SERVER.database().unwrap();
    let clear = PostgresStore::open(&address, crate::options()).await;
    let (clear, whose) = (clear.unwrap(), scope("acme", "ada"));
    fill(&clear, &whose).await;
    let store = PostgresStore::open(&address, key(Unsealed::Open)).await;
    assert!(change(&store.unwrap(), usize::MAX).await);
    let client = by_hand(&address).await;
    let before = dump(&client).await;
    let refused = clear.append(&whose, &turn("three")).await.unwrap_err();
    assert_eq!(sealed_row::<Why>(&refused).0, "key");
    let note = NewMemory::new(MemoryKind::Fact, "gravity", "Mass attracts mass.");
    assert!(clear.put(&whose, &note).await.is_err());
    let write = RecordWrite::Put {
        kind: "answer",
        id: "b".into(),
        group: String::new(),
        body: "clear".into(),
        expect: Expect::Anything,
    };
    let written = RecordStore::write(&clear, &whose.tenant, vec![write]).await;
    assert!(written.is_err());
    assert_eq!(dump(&client).await, before);
}

#[tokio::test]
async fn a_clear_database_is_sealed_by_steps_that_may_be_cut_off() {
    let address = SERVER.database().unwrap();
    let store = PostgresStore::open(&address, crate::options()).await;
    let store = store.unwrap();
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
    let open = async || {
        let store = PostgresStore::open(&address, key(Unsealed::Open)).await;
        store.unwrap()
    };
    let then = async |_, has_ended: bool| {
        if !has_ended {
            let half = PostgresStore::open(&address, key(Unsealed::Refuse)).await;
            assert!(half.is_err(), "a half sealed database is no sealed one");
        }
    };
    // What is sealed and what is not yet are read alike.
    change_by_steps(&before, open, told, then).await;
    let client = by_hand(&address).await;
    assert_eq!(readable(&client).await, Vec::<&str>::new());
    let store = sealed(&address).await;
    assert_eq!(store.key_state().await.unwrap().unsealed, 0);
    let checked = store.verify().await.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
}

async fn versions(client: &Client) -> Vec<(String, i64)> {
    let keys = "SELECT tenant, version FROM lyceum.tenant_key ORDER BY tenant, version";
    let rows = client.query(keys, &[]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

#[tokio::test]
async fn keys_are_changed_by_steps_that_may_be_cut_off() {
    let address = SERVER.database().unwrap();
    let store = sealed(&address).await;
    let whose = [scope("acme", "ada"), scope("umbrella", "bo")];
    let mut before = Vec::new();
    for one in whose {
        fill(&store, &one).await;
        let text = told(&store, &one).await.unwrap();
        before.push((one, text));
    }
    let client = by_hand(&address).await;
    let old_keys = versions(&client).await;
    let open = async || {
        let both = Masters::new(&[9; 32]).and_old(&KEY);
        let store = PostgresStore::open(&address, with(both, Unsealed::Refuse)).await;
        store.unwrap()
    };
    change_by_steps(&before, open, told, async |_, _| ()).await;
    let new_keys = versions(&client).await;
    assert_eq!(new_keys.len(), 2, "old keys are gone: {new_keys:?}");
    assert!(new_keys.iter().all(|key| !old_keys.contains(key)));
    // The old master key opens nothing any more, the new one all.
    let old = PostgresStore::open(&address, key(Unsealed::Refuse)).await;
    let old = old.unwrap_err();
    assert!(matches!(old, OpenError::WrongKey { .. }), "{old}");
    let options = with(Masters::new(&[9; 32]), Unsealed::Refuse);
    let store = PostgresStore::open(&address, options).await.unwrap();
    for (one, before) in &before {
        assert_eq!(&told(&store, one).await.unwrap(), before);
    }
    assert!(store.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn keys_are_changed_beside_servers_that_write() {
    let address = SERVER.database().unwrap();
    let both = || {
        let masters = Masters::new(&[9; 32]).and_old(&KEY);
        with(masters, Unsealed::Refuse)
    };
    let first = sealed(&address).await;
    let whose = [scope("acme", "ada"), scope("umbrella", "bo")];
    for one in &whose {
        fill(&first, one).await;
    }
    let changing = PostgresStore::open(&address, both()).await.unwrap();
    let server = Arc::new(PostgresStore::open(&address, both()).await.unwrap());
    let stop = tokio_util::sync::CancellationToken::new();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..4 {
        let (server, stop) = (Arc::clone(&server), stop.clone());
        let whose = scope(["acme", "umbrella"][writer % 2], &format!("user-{writer}"));
        writers.spawn(async move {
            let mut turns = 0_u64;
            while !stop.is_cancelled() || turns < 3 {
                turns += 1;
                let name = format!("turn-{turns}");
                server.append(&whose, &turn(&name)).await.unwrap();
                assert_eq!(
                    server.search(&whose, &name, 3).await.unwrap().len(),
                    usize::try_from(turns).unwrap_or(3).min(3)
                );
            }
            (whose, turns)
        });
    }
    // Three times, so that keys change under every kind of write.
    for _ in 0..3 {
        assert!(change(&changing, usize::MAX).await);
    }
    stop.cancel();
    while let Some(written) = writers.join_next().await {
        let (whose, turns) = written.unwrap();
        let session = server.session(&whose).await.unwrap().unwrap();
        assert_eq!(session.messages, 2 * turns);
    }
    let checked = server.verify().await.unwrap();
    assert!(checked.is_sound(), "{checked:?}");
    assert_eq!(versions(&by_hand(&address).await).await.len(), 2);
}

#[tokio::test]
async fn whoever_writes_waits_while_keys_change() {
    let address = SERVER.database().unwrap();
    let (store, whose) = (Arc::new(sealed(&address).await), scope("acme", "ada"));
    fill(&*store, &whose).await;
    let (changing, looking) = (by_hand(&address).await, by_hand(&address).await);
    let hold = "BEGIN; SELECT lyceum.hold_keys(NULL)";
    changing.batch_execute(hold).await.unwrap();
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move { writer.append(&whose, &turn("three")).await });
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let waits = async {
        while !writing.is_finished() {
            let row = looking.query_one(waiting, &[]).await.unwrap();
            if row.get::<_, i64>(0) > 0 {
                return true;
            }
        }
        false
    };
    let waits = tokio::time::timeout(PATIENCE, waits).await.unwrap();
    assert!(waits, "it wrote while keys were being changed");
    changing.batch_execute("COMMIT").await.unwrap();
    writing.await.unwrap().unwrap();
}
