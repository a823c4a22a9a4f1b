//! The record port and the hints on a server that several processes share.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, future::join_all};
use lyceum_core::{
    Expect, Hints as _, RecordList, RecordStore, RecordWrite, TenantId, record_conformance,
};
use lyceum_memory::{StoreCheck as _, Whose};
use lyceum_store_postgres::PostgresStore;

use crate::{SERVER, options, proxy::Proxy, store};

const KIND: &str = "count";

fn tenant() -> TenantId {
    TenantId::new("one").unwrap()
}

fn put(id: &str, body: &str, expect: Expect) -> RecordWrite {
    RecordWrite::Put {
        kind: KIND,
        id: id.to_owned(),
        group: "g\0".to_owned(),
        body: body.to_owned(),
        expect,
    }
}

async fn body(store: &PostgresStore, id: &str) -> Option<(String, u64)> {
    let found = RecordStore::read(store, &tenant(), KIND, id).await;
    found.unwrap().map(|found| (found.body, found.revision))
}

#[tokio::test]
async fn a_server_keeps_records_as_the_port_says() {
    record_conformance::check(&store().await).await;
}

#[tokio::test]
async fn a_body_may_hold_any_character_and_an_erased_tenant_leaves_none() {
    let store = store().await;
    let odd = "a\0\u{F5C0}\u{10FFFF}";
    let write = vec![put(odd, odd, Expect::Absent)];
    assert!(RecordStore::write(&store, &tenant(), write).await.unwrap());
    assert_eq!(body(&store, odd).await, Some((odd.to_owned(), 1)));
    let list = RecordList {
        kind: KIND,
        group: Some("g\0"),
        before: None,
        limit: 9,
    };
    let tenant = tenant();
    assert_eq!(store.list(&tenant, list).await.unwrap()[0].id, odd);
    let whose = Whose { tenant, user: None };
    store.erase(&whose).await.unwrap();
    assert_eq!(body(&store, odd).await, None);
}

#[tokio::test]
async fn of_those_who_expect_the_same_exactly_one_writes() {
    let address = SERVER.database().unwrap();
    let stores = [
        PostgresStore::open(&address, options()).await.unwrap(),
        PostgresStore::open(&address, options()).await.unwrap(),
    ];
    // Creating: one of all. The losers have not done their other write either.
    let created = (0..20).map(|n| {
        let store = &stores[n % 2];
        let beside = put(&format!("beside {n}"), "", Expect::Anything);
        // In both orders, so that two calls could wait for each other.
        let mut writes = vec![put("a", "0", Expect::Absent), put("b", "0", Expect::Absent)];
        writes.rotate_left(n % 2);
        writes.push(beside);
        async move { store.write(&tenant(), writes).await.unwrap() }
    });
    let created = join_all(created).await;
    assert_eq!(created.iter().filter(|created| **created).count(), 1);
    let all = stores[0].every(KIND).await.unwrap();
    assert_eq!(all.len(), 3, "{all:?}");
    // Counting: none is lost.
    let counted = (0..20).map(|n| {
        let store = &stores[n % 2];
        async move {
            loop {
                let (count, revision) = body(store, "a").await.unwrap();
                let next = (count.parse::<u64>().unwrap() + 1).to_string();
                let write = vec![put("a", &next, Expect::Revision(revision))];
                if store.write(&tenant(), write).await.unwrap() {
                    return;
                }
            }
        }
    });
    join_all(counted).await;
    assert_eq!(body(&stores[0], "a").await, Some(("20".to_owned(), 21)));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_done_once_and_told_as_done() {
    let address = SERVER.database().unwrap();
    let proxy = Proxy::before(SERVER.port()).await;
    let through = proxy.through(&address, SERVER.port());
    let store = PostgresStore::open(&through, options()).await.unwrap();
    let mut lost = 0;
    for n in 1..=20 {
        let expect = match n {
            1 => Expect::Absent,
            n => Expect::Revision(n - 1),
        };
        // A new connection prepares the statements first.
        proxy.lose_after(i64::try_from(n % 3).unwrap());
        let write = vec![put("a", &n.to_string(), expect)];
        let written = RecordStore::write(&store, &tenant(), write).await;
        assert!(written.unwrap(), "{n}");
        lost += u32::from(proxy.has_lost());
        proxy.lose_after(i64::from(u32::MAX));
        assert_eq!(body(&store, "a").await, Some((n.to_string(), n)));
    }
    assert!(lost >= 5, "{lost}");
}

#[tokio::test]
async fn a_hint_reaches_the_other_process_and_finds_it_after_a_lost_connection() {
    let address = SERVER.database().unwrap();
    let (one, other) = (
        Arc::new(PostgresStore::open(&address, options()).await.unwrap()),
        PostgresStore::open(&address, options()).await.unwrap(),
    );
    let mut heard = other.hear();
    let teller = one.clone();
    // Until the other listens, hints are lost.
    let telling = tokio::spawn(async move {
        loop {
            teller.tell("run/1").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let next = async |heard: &mut (dyn futures_util::Stream<Item = String> + Send + Unpin)| {
        let heard = tokio::time::timeout(Duration::from_secs(30), heard.next());
        heard.await.unwrap().unwrap()
    };
    assert_eq!(next(&mut heard).await, "run/1");
    let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
               WHERE query LIKE 'LISTEN%' AND state = 'idle'";
    SERVER.psql(cut).unwrap();
    // What was told before the cut may still wait here.
    for _ in 0..100 {
        assert_eq!(next(&mut heard).await, "run/1");
    }
    telling.abort();
}
