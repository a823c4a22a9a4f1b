//! What is sealed opens where it stands, for who may, and nowhere else.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use lyceum_vault::{Clear, Masters, OpenError, TenantKeys, place};
use proptest::prelude::*;

fn here(row: &str, column: &str) -> Vec<u8> {
    place(b't', &[b"acme", row.as_bytes(), column.as_bytes()])
}

fn keys(masters: &Masters, tenant: &str) -> TenantKeys {
    let wrapped = masters.make(tenant, None, Clear::Refused).unwrap();
    masters.open(tenant, &[wrapped]).unwrap()
}

#[test]
fn a_wrapped_key_is_of_its_tenant_version_and_master() {
    let masters = Masters::new(&[1; 32]);
    let wrapped = masters.make("acme", None, Clear::Refused).unwrap();
    let refused = masters.open("other", std::slice::from_ref(&wrapped));
    assert_eq!(refused.unwrap_err(), OpenError::Refused);
    let mut later = wrapped.clone();
    later.version += 1;
    let refused = masters.open("acme", &[later]);
    assert_eq!(refused.unwrap_err(), OpenError::Refused);
    let stranger = Masters::new(&[2; 32]).open("acme", &[wrapped]);
    assert!(
        matches!(stranger, Err(OpenError::UnknownKey { .. })),
        "{stranger:?}"
    );
    assert_eq!(masters.open("acme", &[]).unwrap_err(), OpenError::Form);
}

#[test]
fn a_new_version_seals_and_the_old_one_still_opens() {
    let masters = Masters::new(&[1; 32]);
    let first = masters.make("acme", None, Clear::Refused).unwrap();
    let old = masters.open("acme", std::slice::from_ref(&first)).unwrap();
    let place = here("1", "content");
    let sealed = old.seal_texts(&place, &["words", ""]).unwrap();
    let second = masters.make("acme", Some(first.version), Clear::Refused);
    let both = masters.open("acme", &[second.unwrap(), first]).unwrap();
    assert_eq!(both.newest(), old.newest() + 1);
    assert_eq!(both.open_texts(&place, &sealed).unwrap(), ["words", ""]);
    let anew = both.seal_texts(&place, &["words", ""]).unwrap();
    assert_eq!(
        old.open(&place, &anew).unwrap_err(),
        OpenError::UnknownKey { id: both.newest() }
    );
    assert_ne!(
        old.term(old.newest(), 1, "word"),
        both.term(both.newest(), 1, "word")
    );
    assert_eq!(
        old.term(old.newest(), 1, "word"),
        both.term(old.newest(), 1, "word")
    );
}

#[test]
fn a_new_master_wraps_the_same_key() {
    let (old, new) = ([1; 32], [2; 32]);
    let before = Masters::new(&old);
    let wrapped = before.make("acme", None, Clear::Accepted).unwrap();
    let keys = before.open("acme", std::slice::from_ref(&wrapped)).unwrap();
    assert_eq!(keys.clear(), Clear::Accepted);
    let sealed = keys.seal(b"x", b"words").unwrap();
    let both = Masters::new(&new).and_old(&old);
    let again = both.rewrap("acme", &wrapped, Clear::Refused).unwrap();
    let again = again.unwrap();
    assert_eq!(both.rewrap("acme", &again, Clear::Refused), Ok(None));
    let keys = Masters::new(&new).open("acme", &[again]).unwrap();
    assert_eq!(keys.open(b"x", &sealed).unwrap(), b"words");
    assert_eq!(keys.clear(), Clear::Refused);
}

#[test]
fn words_are_told_apart_by_tenant_and_part() {
    let masters = Masters::new(&[1; 32]);
    let (one, other) = (keys(&masters, "acme"), keys(&masters, "umbrella"));
    let term = one.term(one.newest(), 7, "photosynthesis").unwrap();
    assert_eq!(term.len(), 22);
    assert_ne!(
        Some(&term),
        one.term(one.newest(), 8, "photosynthesis").as_ref()
    );
    assert_ne!(
        Some(&term),
        other.term(other.newest(), 7, "photosynthesis").as_ref()
    );
    assert_eq!(one.term(one.newest() + 1, 7, "photosynthesis"), None);
}

#[test]
fn nothing_shows_a_key() {
    let masters = Masters::new(&[0xAB; 32]).and_old(&[0xCD; 32]);
    let shown = format!("{masters:?} {:?}", keys(&masters, "acme"));
    assert!(
        !shown.contains("171") && !shown.contains("ab, ab"),
        "{shown}"
    );
}

proptest! {
    #[test]
    fn whatever_is_changed_is_refused(
        texts in proptest::array::uniform3(".{0,40}"),
        at in any::<proptest::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let keys = keys(&Masters::new(&[3; 32]), "acme");
        let place = here("1", "content");
        let parts = texts.each_ref().map(String::as_str);
        let sealed = keys.seal_texts(&place, &parts).unwrap();
        prop_assert_eq!(&keys.open_texts::<3>(&place, &sealed).unwrap(), &texts);
        for other in [here("2", "content"), here("1", "topic")] {
            prop_assert_eq!(keys.open(&other, &sealed).unwrap_err(), OpenError::Refused);
        }
        let mut changed = sealed.clone();
        changed[at.index(sealed.len())] ^= 1 << bit;
        prop_assert!(keys.open_texts::<3>(&place, &changed).is_err());
        prop_assert!(keys.open_texts::<3>(&place, &sealed[..at.index(sealed.len())]).is_err());
    }
}
