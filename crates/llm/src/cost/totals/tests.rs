//! Budgets of sessions, users and tenants, day by day.

use super::*;
use lyceum_core::{Scope, Tokens};

fn payer() -> Payer {
    let session = SessionId::random();
    Payer {
        tenant: Scope::local().tenant,
        user: Scope::local().user,
        session: Some(session),
        request: RequestId::random(),
    }
}

const NONE: Usage = Usage {
    input: Tokens(0),
    output: Tokens(0),
    cached_input: Tokens(0),
    cache_write: Tokens(0),
};

const LIMITS: Limits = Limits {
    day: None,
    user_day: None,
    tenant_day: Some(PicoUsd(100)),
    session: Some(PicoUsd(60)),
};

#[test]
fn what_is_set_aside_counts_until_it_is_settled() {
    let mut totals = Totals::new(1);
    let (a, b) = (payer(), payer());
    totals.reserve(&a, PicoUsd(50), &LIMITS, 1).unwrap();
    let short = totals.reserve(&a, PicoUsd(20), &LIMITS, 1).unwrap_err();
    assert_eq!((short.budget, short.left), ("session", PicoUsd(10)));
    assert_eq!(short.until, Until::Settled);
    totals.reserve(&b, PicoUsd(50), &LIMITS, 1).unwrap();
    assert!(totals.reserve(&payer(), PicoUsd(1), &LIMITS, 1).is_err());
    assert_eq!(
        totals.settle(&a, PicoUsd(50), PicoUsd(10), &NONE, 1).1,
        PicoUsd(10)
    );
    totals.reserve(&a, PicoUsd(40), &LIMITS, 1).unwrap();
}

#[test]
fn a_new_day_brings_the_days_budgets_back_but_not_the_sessions() {
    let mut totals = Totals::new(1);
    let a = payer();
    totals.reserve(&a, PicoUsd(60), &LIMITS, 1).unwrap();
    totals.settle(&a, PicoUsd(60), PicoUsd(60), &NONE, 1);
    let short = totals.reserve(&a, PicoUsd(1), &LIMITS, 2).unwrap_err();
    assert_eq!((short.budget, short.until), ("session", Until::Never));
    assert_eq!(totals.all(2).today.spent, PicoUsd(0));
    assert_eq!(
        totals.of_session(&a.tenant, a.session.as_ref().unwrap()),
        PicoUsd(60)
    );

    let b = payer();
    totals.reserve(&b, PicoUsd(50), &LIMITS, 2).unwrap();
    totals.settle(&b, PicoUsd(50), PicoUsd(50), &NONE, 2);
    let c = payer();
    let short = totals.reserve(&c, PicoUsd(51), &LIMITS, 2).unwrap_err();
    assert_eq!((short.budget, short.until), ("tenant_day", Until::Tomorrow));
}

#[test]
fn the_oldest_is_forgotten_first() {
    let mut recent: Recent<u32, u32> = Recent::new(2);
    for key in [1, 2, 1, 3] {
        *recent.entry(key) += 1;
    }
    assert_eq!(recent.get(&1), None);
    assert_eq!(recent.get(&2), Some(&1));
}

#[test]
fn each_user_has_a_budget_and_the_month_outlives_the_day() {
    let limits = Limits {
        user_day: Some(PicoUsd(10)),
        ..Limits::default()
    };
    // 31 January and 1 February 1970.
    let (mut totals, january) = (Totals::new(30), 30);
    let usage = Usage {
        input: Tokens(3),
        output: Tokens(2),
        ..NONE
    };
    let alice = payer();
    let bob = Payer {
        user: UserId::new("bob").unwrap(),
        ..payer()
    };
    totals
        .reserve(&alice, PicoUsd(10), &limits, january)
        .unwrap();
    let short = totals
        .reserve(&alice, PicoUsd(1), &limits, january)
        .unwrap_err();
    assert_eq!((short.budget, short.left), ("user_day", PicoUsd(0)));
    totals.reserve(&bob, PicoUsd(10), &limits, january).unwrap();
    for payer in [&alice, &bob] {
        totals.settle(payer, PicoUsd(10), PicoUsd(4), &usage, january);
        totals.asked(&payer.tenant, &payer.user, january);
    }
    let tenant = totals.tenant(&alice.tenant, january).statement(None);
    assert_eq!((tenant.today.requests, tenant.today.calls), (2, 2));
    assert_eq!(tenant.today.input + tenant.today.output, Tokens(10));
    assert_eq!(tenant.month.spent, PicoUsd(8));
    let users = totals.users_after(&alice.tenant, None, 9, |_| None, january);
    assert_eq!(users.len(), 2);
    let first = &users[0].0;
    let rest = totals.users_after(&alice.tenant, Some(first), 9, |_| None, january);
    assert_eq!(rest, users[1..]);
    let kept = totals.entries(january);
    let february = totals.tenant(&alice.tenant, 31).statement(None);
    assert_eq!(february, Statement::default());

    let mut again = Totals::new(january);
    for entry in kept {
        again.restore(entry);
    }
    let restored = again.user(&bob.tenant, &bob.user, january).statement(None);
    assert_eq!(
        (restored.today.spent, restored.today.calls),
        (PicoUsd(4), 1)
    );
    assert_eq!(again.all(january).today.spent, PicoUsd(8));
}
