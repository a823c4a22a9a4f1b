//! What only the inside can check: query plans, settings, formats.

use lyceum_core::Scope;
use lyceum_memory::{MemoryKind, MemoryStore, NewMemory};
use rusqlite::{Connection, StatementStatus, params};
use tempfile::TempDir;

use super::*;
use crate::error::Failure;

fn open(directory: &TempDir) -> SqliteStore {
    SqliteStore::open(directory.path().join("l.db"), SqliteOptions::default()).unwrap()
}

fn plan(connection: &Connection, sql: &str) -> String {
    let mut explain = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let mut lines = Vec::new();
    let mut rows = explain.raw_query();
    while let Some(row) = rows.next().unwrap() {
        lines.push(row.get::<_, String>(3).unwrap());
    }
    lines.join("\n")
}

#[tokio::test]
async fn hot_queries_use_their_indexes() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let plans = store
        .read("plans", |connection| {
            Ok([
                (sessions::MESSAGES, "message_by_seq"),
                (sessions::SESSIONS, "session_by_age"),
                (sessions::EXPIRE, "session_by_idleness"),
                (sessions::EXPIRE, "job_by_session"),
                (memories::LIST, "memory_by_age"),
                (search::PAST, "memory_bounded"),
                (search::BEFORE, "memory_by_session"),
                (search::AFTER, "memory_by_session"),
                (postings::OF_TERM, "PRIMARY KEY (owner=? AND term=?)"),
                (jobs::NEXT, "job_due"),
                (jobs::DEAD, "job_dead"),
                (
                    checkpoints::NEWEST,
                    "PRIMARY KEY (thread=? AND namespace=? AND id<?)",
                ),
                (
                    checkpoints::VALUE,
                    "(thread=? AND channel=? AND written_by=?)",
                ),
                (
                    checkpoints::RECORDS,
                    "PRIMARY KEY (thread=? AND checkpoint=?)",
                ),
            ]
            .map(|(sql, index)| (plan(connection, sql), index)))
        })
        .await
        .unwrap();
    for (plan, index) in plans {
        assert!(plan.contains(index), "{index} is not used:\n{plan}");
        assert!(!plan.contains("TEMP B-TREE"), "it sorts:\n{plan}");
        assert!(!plan.contains("SCAN "), "it scans:\n{plan}");
    }
}

#[tokio::test]
async fn a_bound_limit_does_not_plan_a_statement_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let planned = store
        .read("limits", |connection| {
            let mut list = connection.prepare(memories::LIST)?;
            for limit in 1..=3 {
                let of_nobody = params!["t", "u", "a", 0, "", limit];
                assert!(list.query(of_nobody)?.next()?.is_none());
            }
            Ok(list.get_status(StatementStatus::RePrepare))
        })
        .await
        .unwrap();
    assert_eq!(planned, 0);
}

#[tokio::test]
async fn commits_are_durable_and_keys_enforced() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let settings = store
        .write("settings", |connection, _| {
            let number = |name| connection.pragma_query_value(None, name, |row| row.get(0));
            let mode: String =
                connection.pragma_query_value(None, "journal_mode", |row| row.get(0))?;
            let (sync, keys): (i64, i64) = (number("synchronous")?, number("foreign_keys")?);
            Ok((mode, sync, keys))
        })
        .await
        .unwrap();
    assert_eq!(settings, ("wal".to_owned(), 2, 1));
}

#[tokio::test]
async fn only_what_dies_with_the_process_is_not_synced() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let level = |connection: &sealed::Db<'_>, _| {
        Ok(connection.pragma_query_value(None, "synchronous", |row| row.get::<_, i64>(0))?)
    };
    assert_eq!(store.write_for_now("light", level).await.unwrap(), 1);
    assert_eq!(store.write("full", level).await.unwrap(), 2);
    assert_eq!(store.write_for_now("light", level).await.unwrap(), 1);
    // The writer is held until both others wait.
    let (both_wait, waits) = std::sync::mpsc::channel();
    let (first, light, full, ()) = tokio::join!(
        store.write("held", move |_, _| {
            let () = waits.recv().unwrap();
            Ok(())
        }),
        store.write_for_now("light", level),
        store.write("full", level),
        async { both_wait.send(()).unwrap() },
    );
    first.unwrap();
    assert_eq!(
        (light.unwrap(), full.unwrap()),
        (2, 2),
        "they share a commit"
    );
}

#[tokio::test]
async fn a_file_of_the_second_format_keeps_its_checkpoints() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("l.db");
    {
        let old = Connection::open(&path).unwrap();
        let formats = [
            include_str!("migrations/0001.sql"),
            include_str!("migrations/0002.sql"),
        ];
        for format in formats {
            old.execute_batch(format).unwrap();
        }
        old.execute_batch(
            "PRAGMA application_id = 0x4C796365; PRAGMA user_version = 2;
             INSERT INTO thread VALUES (1, 't', 3, 0, 2);
             INSERT INTO channel_value VALUES (1, 'a', 1, x'31'), (1, 'b', 2, x'32');",
        )
        .unwrap();
    }
    let store = open(&directory);
    let values: Vec<(String, Vec<u8>)> = store
        .read("values", |connection| {
            let mut all = connection.prepare("SELECT channel, bytes FROM channel_value")?;
            let all = all.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok(all.collect::<Result<_, _>>()?)
        })
        .await
        .unwrap();
    let expected = [("a", b"1"), ("b", b"2")];
    let expected = expected.map(|(channel, bytes)| (channel.to_owned(), bytes.to_vec()));
    assert_eq!(values, expected);
}

#[tokio::test]
async fn a_failed_write_takes_no_other_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(&directory);
    let put = |key: &'static str, fails: bool| {
        store.write("put", move |connection, _| {
            connection.execute("INSERT INTO meta VALUES (?1, '')", [key])?;
            match fails {
                true => Err(Failure::Store(lyceum_memory::StoreError::Closed)),
                false => Ok(()),
            }
        })
    };
    let (first, second, third) = tokio::join!(put("a", false), put("b", true), put("c", false));
    assert!(first.is_ok() && second.is_err() && third.is_ok());
    let keys: Vec<String> = store
        .read("keys", |connection| {
            let mut all =
                connection.prepare("SELECT key FROM meta WHERE value = '' ORDER BY key")?;
            let keys = all
                .query_map([], |row| row.get(0))?
                .collect::<Result<_, _>>()?;
            Ok(keys)
        })
        .await
        .unwrap();
    assert_eq!(keys, ["a", "c"]);
}

#[tokio::test]
async fn the_index_is_rebuilt_when_its_rules_change() {
    let directory = tempfile::tempdir().unwrap();
    let (store, scope) = (open(&directory), Scope::local());
    for text in ["apples fall", "植物需要光"] {
        let memory = NewMemory {
            context: "said on 8 May".into(),
            ..NewMemory::new(MemoryKind::Fact, "topic", text)
        };
        store.put(&scope, &memory).await.unwrap();
    }
    let before = store.search(&scope, "apple May 光", 9).await.unwrap();
    store
        .write("outdate", |connection, _| {
            connection.execute_batch(
                "UPDATE meta SET value = '0' WHERE key = 'lexical';
                 UPDATE posting SET term = 'old ' || term;
                 UPDATE owner SET documents = 7;",
            )?;
            Ok(())
        })
        .await
        .unwrap();
    assert!(
        store
            .search(&scope, "apple May 光", 9)
            .await
            .unwrap()
            .is_empty()
    );
    store.close().await;
    let store = open(&directory);
    let after = store.search(&scope, "apple May 光", 9).await.unwrap();
    assert_eq!((after.len(), after), (2, before));
}
