//! Rows that somebody changed, or put in another's place.

use super::*;

/// Does something to the rows, looks at them through a store, and undoes it.
async fn changed<T>(client: &Client, sql: &str, back: &str, look: impl Future<Output = T>) -> T {
    client.batch_execute(sql).await.unwrap();
    let seen = look.await;
    client.batch_execute(back).await.unwrap();
    seen
}

#[tokio::test]
async fn changed_and_exchanged_rows_are_refused_by_name() {
    let address = SERVER.database().unwrap();
    let store = sealed(&address).await;
    let (ada, bo) = (scope("acme", "ada"), scope("umbrella", "bo"));
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    let client = by_hand(&address).await;
    let keep = "CREATE TABLE kept_memory AS TABLE lyceum.memory; \
        CREATE TABLE kept_message AS TABLE lyceum.message; \
        CREATE TABLE kept_session AS TABLE lyceum.session;";
    client.batch_execute(keep).await.unwrap();
    let back = "UPDATE lyceum.memory m SET sealed = k.sealed, text = k.text, kind = k.kind, \
            importance = k.importance, created_at = k.created_at \
            FROM kept_memory k WHERE k.id = m.id; \
        UPDATE lyceum.message m SET sealed = k.sealed, content = k.content, role = k.role \
            FROM kept_message k WHERE k.session = m.session AND k.seq = m.seq; \
        UPDATE lyceum.session s SET sealed_topic = k.sealed_topic, \
            summary_upto = k.summary_upto FROM kept_session k WHERE k.id = s.id;";
    let of = |what: &str, tenant: &str, name: &str| {
        format!("(SELECT {what} FROM kept_memory WHERE tenant = '{tenant}' AND name = '{name}')")
    };
    let one = of("id", "acme", "memory-one");
    let two = of("sealed", "acme", "memory-two");
    let others = of("sealed", "umbrella", "memory-one");
    let memory = ("memory", "ada/feynman/memory-one");
    let message = "WHERE tenant = 'acme' AND seq";
    let changes: Vec<(String, (&str, &str))> = vec![
        // Another row's, another tenant's, another column's.
        (
            format!("UPDATE lyceum.memory SET sealed = {two} WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE lyceum.memory SET sealed = {others} WHERE id = {one}"),
            memory,
        ),
        (
            format!(
                "UPDATE lyceum.memory SET sealed = (SELECT sealed_topic FROM kept_session LIMIT 1) \
                 WHERE id = {one}"
            ),
            memory,
        ),
        // A bit, a cut, clear text in its place.
        (
            format!(
                "UPDATE lyceum.memory SET sealed = set_bit(sealed, 8 * 40, \
                 1 - get_bit(sealed, 8 * 40)) WHERE id = {one}"
            ),
            memory,
        ),
        (
            format!("UPDATE lyceum.memory SET sealed = substr(sealed, 1, 20) WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE lyceum.memory SET sealed = NULL, text = 'forged' WHERE id = {one}"),
            memory,
        ),
        // What stands beside the text.
        (
            format!("UPDATE lyceum.memory SET kind = 'fact' WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE lyceum.memory SET importance = 1.0 WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE lyceum.memory SET created_at = created_at + 1 WHERE id = {one}"),
            memory,
        ),
        (
            format!("UPDATE lyceum.message SET role = 'system' {message} = 1"),
            ("message", "ada/feynman/s/1"),
        ),
        (
            format!(
                "UPDATE lyceum.message SET sealed = (SELECT sealed FROM kept_message {message} = 3) \
                 {message} = 1"
            ),
            ("message", "ada/feynman/s/1"),
        ),
        (
            format!("UPDATE lyceum.message SET sealed = NULL, content = 'forged' {message} = 2"),
            ("message", "ada/feynman/s/2"),
        ),
        (
            "UPDATE lyceum.session SET sealed_topic = sealed_summary WHERE tenant = 'acme'"
                .to_owned(),
            ("session", "ada/feynman/s"),
        ),
        (
            "UPDATE lyceum.session SET summary_upto = 1 WHERE tenant = 'acme'".to_owned(),
            ("session", "ada/feynman/s"),
        ),
    ];
    let sound = told(&store, &ada).await.unwrap();
    for (sql, (table, row)) in changes {
        let look = async {
            let error = told(&store, &ada).await.unwrap_err();
            assert_eq!(sealed_row::<Why>(&error), (table, row.to_owned()), "{sql}");
            let found = store.verify().await.unwrap();
            let sealed = found
                .described
                .iter()
                .filter(|fault| fault.what == "sealed");
            assert!(sealed.count() > 0, "{sql}: {found:?}");
        };
        changed(&client, &sql, back, look).await;
        assert_eq!(told(&store, &ada).await.unwrap(), sound, "{sql}");
    }
    // One bad row is one bad row: others are read, and it can be got rid of.
    let spoil = format!("UPDATE lyceum.memory SET sealed = '\\x00' WHERE id = {one}");
    client.batch_execute(&spoil).await.unwrap();
    one_does_not_open(&store, (&ada, &bo), told).await;
}

#[tokio::test]
async fn a_record_from_elsewhere_is_refused_and_hides_no_others() {
    let address = SERVER.database().unwrap();
    let (store, ada, bo) = (
        sealed(&address).await,
        scope("acme", "ada"),
        scope("umbrella", "bo"),
    );
    fill(&store, &ada).await;
    fill(&store, &bo).await;
    let client = by_hand(&address).await;
    for (change, back, name) in [
        ("name = 'b'", "name = 'a'", "b"),
        ("grouped = 'eve'", "grouped = ''", "a"),
    ] {
        let set = |what| format!("UPDATE lyceum.record SET {what} WHERE tenant = 'acme'");
        let look = async {
            refuses_an_answer::<Why>(&store, (&ada.tenant, name), &bo.tenant).await;
            assert!(!store.verify().await.unwrap().is_sound());
        };
        changed(&client, &set(change), &set(back), look).await;
    }
    assert!(store.verify().await.unwrap().is_sound());
}

#[tokio::test]
async fn a_job_that_does_not_open_is_given_up_and_the_others_go_on() {
    let address = SERVER.database().unwrap();
    let (store, ada, bo) = (
        sealed(&address).await,
        scope("acme", "ada"),
        scope("umbrella", "bo"),
    );
    store.append(&ada, &turn("one")).await.unwrap();
    store.append(&bo, &turn("one")).await.unwrap();
    let cut = "UPDATE lyceum.job SET sealed = substr(sealed, 1, length(sealed) - 1) \
        WHERE tenant = 'acme'";
    let client = by_hand(&address).await;
    assert_eq!(client.execute(cut, &[]).await.unwrap(), 1);
    gives_up_a_job(&store, &ada, &bo).await;
    let buried = "SELECT phase, reason FROM lyceum.job WHERE tenant = 'acme'";
    let buried = client.query_one(buried, &[]).await.unwrap();
    let (phase, reason): (i16, &str) = (buried.get(0), buried.get(1));
    assert_eq!((phase, reason), (2, "it does not open"));
}

#[tokio::test]
async fn rows_of_fixed_bytes_open() {
    let address = SERVER.database().unwrap();
    let (store, whose) = (sealed(&address).await, scope("acme", "ada"));
    let client = by_hand(&address).await;
    let stored = include_str!("stored.sql");
    client.batch_execute(stored).await.unwrap();
    // The rows are here without the index of their words.
    store.rebuild().await.unwrap();
    let text = told(&store, &whose).await.unwrap();
    keeps(&store, &whose, &text, told).await;
    has_a_job(&store).await;
}
