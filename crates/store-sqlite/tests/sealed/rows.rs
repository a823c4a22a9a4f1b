//! Rows that somebody changed, or put in another's place.

use super::*;

#[tokio::test]
async fn changed_and_exchanged_rows_are_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let store = sealed(&path);
    let (ada, bo) = (scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    store.close().await;
    let whole = fs::read(&path).unwrap();
    let of = |what: &str, name: &str| {
        format!(
            "(SELECT {what} FROM memory WHERE name = '{name}' AND owner = \
             (SELECT id FROM owner WHERE user = 'ada'))"
        )
    };
    let bo_memory = "(SELECT sealed FROM memory WHERE name = 'memory-one' AND owner = \
                     (SELECT id FROM owner WHERE user = 'bo'))";
    let one = of("id", "memory-one");
    let memory = ("memory", "ada/feynman/memory-one");
    let changes: Vec<(String, (&str, &str))> = vec![
        // Another row's, another tenant's, another column's.
        (
            format!(
                "UPDATE memory SET sealed = {} WHERE id = {one}",
                of("sealed", "memory-two")
            ),
            memory,
        ),
        (
            format!("UPDATE memory SET sealed = {bo_memory} WHERE id = {one}"),
            memory,
        ),
        (
            format!(
                "UPDATE memory SET sealed = (SELECT sealed_topic FROM session LIMIT 1) WHERE id = {one}"
            ),
            memory,
        ),
        // A bit, a cut, clear text in its place.
        (
            format!(
                "UPDATE memory SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) || x'00' AS BLOB) WHERE id = {one}"
            ),
            memory,
        ),
        (
            format!("UPDATE memory SET sealed = substr(sealed, 1, 20) WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE memory SET sealed = NULL, text = 'forged' WHERE id = {one}"),
            memory,
        ),
        // What stands beside the text.
        (
            format!("UPDATE memory SET kind = 'fact' WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE memory SET importance = 1.0 WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE memory SET created_at = created_at + 1 WHERE id = {one}"),
            memory,
        ),
        (
            "UPDATE message SET role = 'system' WHERE seq = 1".to_owned(),
            ("message", "ada/feynman/s/1"),
        ),
        (
            "UPDATE message SET sealed = (SELECT sealed FROM message WHERE seq = 3 LIMIT 1) \
             WHERE seq = 1"
                .to_owned(),
            ("message", "ada/feynman/s/1"),
        ),
        (
            "UPDATE message SET sealed = NULL, content = 'forged' WHERE seq = 2".to_owned(),
            ("message", "ada/feynman/s/2"),
        ),
        (
            "UPDATE session SET sealed_topic = sealed_summary".to_owned(),
            ("session", "ada/feynman/s"),
        ),
        (
            "UPDATE session SET summary_upto = 1".to_owned(),
            ("session", "ada/feynman/s"),
        ),
    ];
    for (sql, (table, row)) in changes {
        fs::write(&path, &whole).unwrap();
        let changed = Connection::open(&path).unwrap().execute_batch(&sql);
        changed.unwrap();
        let store = sealed(&path);
        let error = told(&store, &ada).await.unwrap_err();
        assert_eq!(sealed_row(&error), (table, row.to_owned()), "{sql}");
        let found = store.verify().await.unwrap();
        assert!(!found.is_sound(), "{sql}");
        store.close().await;
    }
    // One bad row is one bad row: others are read, and it can be got rid of.
    fs::write(&path, &whole).unwrap();
    let sql = format!("UPDATE memory SET sealed = x'00' WHERE id = {one}");
    Connection::open(&path)
        .unwrap()
        .execute_batch(&sql)
        .unwrap();
    let store = sealed(&path);
    sealed::one_does_not_open(&store, (&ada, &bo), told).await;
}

#[tokio::test]
async fn a_vector_or_record_from_elsewhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let (store, ada) = (sealed(&path), scope("acme", "ada"));
    fill(&store, &ada).await;
    store.close().await;
    let file = Connection::open(&path).unwrap();
    file.execute_batch(
        "UPDATE vector SET data = (SELECT data FROM vector ORDER BY id DESC LIMIT 1); \
         UPDATE record SET name = 'b';",
    )
    .unwrap();
    drop(file);
    let store = sealed(&path);
    let found = store.verify().await.unwrap();
    let of = |table: &str| {
        let described = found.described.iter();
        described
            .filter(|fault| fault.detail.contains(table))
            .count()
    };
    assert_eq!((of("open vector"), of("open record")), (1, 1), "{found:?}");
    let near = store.nearest(&ada, &space(), &[1.0, 0.0], 9, &[]).await;
    assert_eq!(sealed_row(&near.unwrap_err()).0, "vector");
    let moved = RecordStore::read(&store, &ada.tenant, "answer", "b").await;
    let source = moved.unwrap_err().source;
    let error = source.downcast_ref::<StoreError>().unwrap();
    assert_eq!(sealed_row(error), ("record", "answer/b".to_owned()));
}

#[tokio::test]
async fn a_record_that_is_given_to_somebody_else_is_refused_and_hides_no_others() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let (store, ada, bo) = (sealed(&path), scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    store.close().await;
    let file = Connection::open(&path).unwrap();
    file.execute(
        "UPDATE record SET grouped = 'eve' WHERE tenant = 'acme'",
        [],
    )
    .unwrap();
    drop(file);
    let store = sealed(&path);
    sealed::refuses_an_answer::<Why>(&store, (&ada.tenant, "a"), &bo.tenant).await;
}

#[tokio::test]
async fn a_job_that_does_not_open_is_given_up_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    let (store, ada, bo) = (sealed(&path), scope("acme", "ada"), scope("umbrella", "bo"));
    store.append(&ada, &turn("one")).await.unwrap();
    store.append(&bo, &turn("one")).await.unwrap();
    store.close().await;
    let file = Connection::open(&path).unwrap();
    let cut = "UPDATE job SET sealed = substr(sealed, 1, length(sealed) - 1) \
               WHERE id = (SELECT min(id) FROM job)";
    assert_eq!(file.execute(cut, []).unwrap(), 1);
    drop(file);
    let store = sealed(&path);
    sealed::gives_up_a_job(&store, &ada, &bo).await;
    store.close().await;
    let buried = "SELECT phase, reason FROM job WHERE id = (SELECT min(id) FROM job)";
    let file = Connection::open(&path).unwrap();
    let buried = file.query_row(buried, [], |row| Ok((row.get(0)?, row.get(1)?)));
    assert_eq!(buried.unwrap(), (2, "it does not open".to_owned()));
}

#[tokio::test]
async fn rows_of_fixed_bytes_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    sealed(&path).close().await;
    let file = Connection::open(&path).unwrap();
    file.execute_batch(include_str!("stored.sql")).unwrap();
    drop(file);
    let (store, whose) = (sealed(&path), scope("acme", "ada"));
    // The rows are here without the index of their words.
    store.rebuild().await.unwrap();
    let text = told(&store, &whose).await.unwrap();
    sealed::keeps(&store, &whose, &text, told).await;
    sealed::has_a_job(&store).await;
}
