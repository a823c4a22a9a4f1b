//! What every store of items must do.

use std::time::Duration;

use serde_json::json;

use crate::store::{Item, Near, NewItem, Search, Shelf, Store};

fn shelf(parts: &[&str]) -> Shelf {
    Shelf::new(parts).expect("a valid path")
}

async fn put(store: &dyn Store, item: NewItem) {
    store.put(item).await.expect("the store keeps");
}

async fn find(store: &dyn Store, search: Search) -> Vec<Item> {
    store.search(search).await.expect("the store searches")
}

fn keys(items: &[Item]) -> Vec<&str> {
    items.iter().map(|item| item.key.as_str()).collect()
}

/// Runs every case of [`Store`] against an empty store.
///
/// # Panics
///
/// When the store breaks the contract of [`Store`]; the message says how.
pub async fn check_store(store: &dyn Store) {
    items_are_kept_replaced_and_forgotten(store).await;
    what_has_expired_is_not_given(store).await;
    searches_find_below_a_path(store).await;
    shelves_are_listed_in_order(store).await;
}

async fn items_are_kept_replaced_and_forgotten(store: &dyn Store) {
    let (one, other) = (shelf(&["kept", "a"]), shelf(&["kept", "ab"]));
    let get = async |shelf: &Shelf, key: &str| {
        let item = store.get(shelf, key).await.expect("the store reads");
        item.map(|item| item.value)
    };
    put(store, NewItem::new(one.clone(), "k", json!({"n": 1}))).await;
    put(
        store,
        NewItem::new(other.clone(), "k", json!("\u{8336}\u{0}'")),
    )
    .await;
    assert_eq!(get(&one, "k").await, Some(json!({"n": 1})));
    assert_eq!(get(&other, "k").await, Some(json!("\u{8336}\u{0}'")));
    assert_eq!(get(&one, "K").await, None);
    put(store, NewItem::new(one.clone(), "k", json!(2))).await;
    assert_eq!(get(&one, "k").await, Some(json!(2)), "the last counts");
    let delete = async |key: &str| store.delete(&one, key).await.expect("the store deletes");
    assert!(delete("k").await);
    assert!(!delete("k").await, "it was there once");
    assert_eq!(get(&one, "k").await, None);
    assert_eq!(get(&other, "k").await, Some(json!("\u{8336}\u{0}'")));
}

async fn what_has_expired_is_not_given(store: &dyn Store) {
    let here = shelf(&["expires"]);
    let brief = |key: &str| NewItem::new(here.clone(), key, json!("tea")).ttl(Duration::ZERO);
    put(store, brief("gone")).await;
    let long = Duration::from_secs(3600);
    put(
        store,
        NewItem::new(here.clone(), "stays", json!("tea")).ttl(long),
    )
    .await;
    let gone = store.get(&here, "gone").await.expect("the store reads");
    assert_eq!(gone, None);
    let found = find(store, Search::below(here.clone())).await;
    assert_eq!(keys(&found), ["stays"]);
    assert!(
        !store
            .delete(&here, "gone")
            .await
            .expect("the store deletes")
    );
    // Put again without a limit, it stays.
    put(store, brief("stays")).await;
    put(store, NewItem::new(here.clone(), "stays", json!("tea"))).await;
    let stays = store.get(&here, "stays").await.expect("the store reads");
    assert!(stays.is_some());
}

async fn searches_find_below_a_path(store: &dyn Store) {
    let top = shelf(&["search"]);
    let (ann, bob) = (shelf(&["search", "ann"]), shelf(&["search", "bob"]));
    let texts = [
        (&ann, "a", "green tea from Uji", [1.0, 0.0]),
        (&ann, "b", "black tea", [0.8, 0.6]),
        (&bob, "c", "green apples", [0.0, 1.0]),
        (&bob, "d", "\u{7eff}\u{8336}", [-1.0, 0.0]),
    ];
    for (shelf, key, text, vector) in texts {
        let value = json!({"text": text, "who": shelf.parts().last()});
        put(
            store,
            NewItem::new(shelf.clone(), key, value).vector(vector.to_vec()),
        )
        .await;
    }
    // Not below, though its name begins alike.
    put(
        store,
        NewItem::new(shelf(&["searches"]), "x", json!("green tea")),
    )
    .await;
    let words = |text: &str| Search::below(top.clone()).near(Near::Words(text.to_owned()));
    let found = find(store, words("Green TEA!")).await;
    assert_eq!(found[0].key, "a", "most words first");
    let mut rest = keys(&found[1..]);
    rest.sort_unstable();
    assert_eq!(rest, ["b", "c"]);
    assert_eq!(keys(&find(store, words("\u{8336}")).await), ["d"]);
    assert_eq!(
        keys(&find(store, words("green").filter("who", "bob")).await),
        ["c"]
    );
    let near = Search::below(top.clone()).near(Near::Vector(vec![2.0, 0.0]));
    let found = find(store, near.clone()).await;
    assert_eq!(
        keys(&found),
        ["a", "b", "c"],
        "what is opposite is not near"
    );
    assert!((found[0].score - 1.0).abs() < 1e-3, "{found:?}");
    let second = Search {
        limit: 1,
        offset: 1,
        ..near
    };
    assert_eq!(keys(&find(store, second).await), ["b"]);
    assert_eq!(find(store, Search::below(top)).await.len(), 4);
    assert_eq!(find(store, Search::below(ann)).await.len(), 2);
}

async fn shelves_are_listed_in_order(store: &dyn Store) {
    let paths = [&["list", "a"][..], &["list", "a", "x"], &["list", "b"]];
    let paths = paths.map(shelf);
    for path in paths.iter().rev() {
        for key in ["1", "2"] {
            put(store, NewItem::new(path.clone(), key, json!(null))).await;
        }
    }
    let list = async |prefix: &[&str], after: Option<&Shelf>, limit| {
        let listed = store.shelves(&shelf(prefix), after, limit).await;
        listed.expect("the store lists")
    };
    assert_eq!(list(&["list"], None, 9).await, paths);
    assert_eq!(list(&["list"], None, 2).await, paths[..2]);
    assert_eq!(list(&["list"], Some(&paths[0]), 9).await, paths[1..]);
    assert_eq!(list(&["list", "a"], None, 9).await, paths[..2]);
    assert!(list(&[], None, 99).await.len() >= 3);
}
