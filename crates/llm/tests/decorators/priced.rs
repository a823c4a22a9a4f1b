//! Calls that are paid for from a shared account.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use futures_util::{StreamExt, future::join_all};
use lyceum_core::{
    CallContext, ChatAnswer, ChatError, ChatEvent, ChatModel, ChatRequest, MicroUsd, Scope,
    SessionId, Tokens, Usage,
};
use lyceum_llm::{Book, Budgets, Ledger, PicoUsd, PriceTable, Priced, Queued, Used, UserBudgets};
use lyceum_queue::Quotas;

use crate::actor::{
    Actor, Do, SECOND, answer, ask, call, collect, hello, limited, queue, started, text, used,
};
use crate::recorder::Recorder;

/// $1 a token in, $2 a token out, with six zeros less: sums can be counted by hand.
fn prices() -> Arc<PriceTable> {
    let text = "[models]\n\"m\" = { input = \"1\", output = \"2\", cache_read = \"0.1\" }\n\
                \"dear\" = { input = \"1000\", output = \"2000\" }\n";
    Arc::new(PriceTable::parse(text).unwrap())
}

fn priced(actor: &Actor, ledger: &Ledger) -> Priced {
    Priced::new(actor.clone(), "m", prices(), ledger.clone())
}

fn ledger(budgets: Budgets) -> Ledger {
    Ledger::new(budgets)
}

/// What `used()` costs: 10 in, 5 out.
const ANSWER: PicoUsd = PicoUsd(20_000_000);

fn short(limit: u64) -> Arc<ChatRequest> {
    Arc::new(ChatRequest {
        max_output: Some(Tokens(limit)),
        ..(*hello()).clone()
    })
}

fn in_session(session: &SessionId) -> CallContext {
    CallContext::new(Scope::local().with_session(session.clone()))
}

#[tokio::test(start_paused = true)]
async fn every_sum_is_exact() {
    let account = ledger(Budgets::default());
    let model = priced(&Actor::new("a", (0..3).map(|_| answer("hi"))), &account);
    let session = SessionId::random();
    let context = in_session(&session);
    for _ in 0..2 {
        let stream = model.stream(context.clone(), hello());
        ChatAnswer::collect(stream).await.unwrap();
    }
    collect(&model).await.unwrap();
    let tenant = Scope::local().tenant;
    assert_eq!(
        account.request(&context.request),
        Some(PicoUsd(2 * ANSWER.0))
    );
    assert_eq!(account.session(&tenant, &session), PicoUsd(2 * ANSWER.0));
    assert_eq!(account.tenant_today(&tenant).spent, PicoUsd(3 * ANSWER.0));
    assert_eq!(account.today().held, PicoUsd(0));

    tokio::time::advance(24 * 3_600 * SECOND).await;
    assert_eq!(account.today().spent, PicoUsd(0), "a new day");
    assert_eq!(account.session(&tenant, &session), PicoUsd(2 * ANSWER.0));
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_at_once_do_not_overspend() {
    let budgets = Budgets {
        tenant_day: Some(MicroUsd(1_000)),
        ..Budgets::default()
    };
    let account = ledger(budgets);
    let slow = |_| {
        let mut script = vec![Do::Take(SECOND)];
        script.extend(answer("hi"));
        script
    };
    let actor = Actor::new("a", (0..1_000).map(slow));
    let model = priced(&actor, &account);
    let request = short(5);
    let calls = (0..1_000).map(|_| ChatAnswer::collect(model.stream(call(), Arc::clone(&request))));
    let outcomes = join_all(calls).await;
    let refused: Vec<&ChatError> = outcomes
        .iter()
        .filter_map(|one| one.as_ref().err())
        .collect();
    let answered = outcomes.len() - refused.len();
    assert_eq!(answered, actor.calls(), "what was refused was not sent");
    // 22 set aside for each, 20 used: 45 fit at once.
    assert_eq!(answered, 45);
    assert!(account.today().spent <= PicoUsd::from(MicroUsd(1_000)));
    for error in refused {
        assert_eq!(error.label(), "over_budget");
        assert_eq!(
            error.retry_after(),
            Some(SECOND),
            "calls under way may cost less"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_error_says_which_budget_and_until_when() {
    let budgets = Budgets {
        tenant_day: Some(MicroUsd(100)),
        session: Some(MicroUsd(30)),
        ..Budgets::default()
    };
    let account = ledger(budgets);
    let actor = Actor::new("a", (0..10).map(|_| answer("hi")));
    let model = priced(&actor, &account);
    let session = SessionId::random();
    let first = model.stream(in_session(&session), short(5));
    ChatAnswer::collect(first).await.unwrap();
    let stream = model.stream(in_session(&session), short(5));
    match ChatAnswer::collect(stream).await.unwrap_err() {
        ChatError::OverBudget {
            budget,
            left,
            retry_after,
            ..
        } => {
            assert_eq!((budget, left), ("session", MicroUsd(10)));
            assert_eq!(retry_after, None);
        }
        other => panic!("{other:?}"),
    }
    let mut last = None;
    for _ in 0..10 {
        let stream = model.stream(call(), short(5));
        last = ChatAnswer::collect(stream).await.err().or(last);
    }
    let error = last.unwrap();
    assert!(error.to_string().contains("tenant_day budget"), "{error}");
    let tomorrow = error.retry_after().unwrap();
    assert!(tomorrow > SECOND && tomorrow <= 24 * 3_600 * SECOND);
    tokio::time::advance(tomorrow).await;
    let stream = model.stream(call(), short(5));
    ChatAnswer::collect(stream).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn refused_calls_are_free_and_broken_ones_are_not() {
    let account = ledger(Budgets::default());
    let down = || {
        Do::Fail(ChatError::Unavailable {
            status: 500,
            retry_after: None,
            message: String::new(),
        })
    };
    let broken = vec![
        started(),
        text("twelve words"),
        Do::Fail(ChatError::Truncated),
    ];
    let scripts = [
        limited(None),
        vec![down()],
        broken,
        vec![text("x"), Do::Hang],
    ];
    let model = priced(&Actor::new("a", scripts), &account);
    for _ in 0..2 {
        assert!(collect(&model).await.is_err());
        assert_eq!(account.today().spent, PicoUsd(0));
    }
    assert!(collect(&model).await.is_err());
    // 8 in as estimated, 4 out as seen.
    assert_eq!(account.today().spent, PicoUsd(16_000_000));
    let mut left = ask(&model);
    left.next().await;
    drop(left);
    assert_eq!(account.today().spent, PicoUsd(26_000_000));
    assert_eq!(account.today().held, PicoUsd(0));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_of_its_own_a_request_gets_one_under_a_budget() {
    for (budget, limit) in [
        (None, None),
        (Some(MicroUsd(1_000_000)), Some(Tokens(16_384))),
    ] {
        let account = ledger(Budgets {
            day: budget,
            ..Budgets::default()
        });
        let actor = Actor::new("a", [answer("hi")]);
        collect(&priced(&actor, &account)).await.unwrap();
        assert_eq!(actor.calls.lock().unwrap()[0].1.max_output, limit);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_budget_refuses_costs_the_queue_nothing() {
    let account = ledger(Budgets {
        day: Some(MicroUsd(0)),
        ..Budgets::default()
    });
    let quotas = Quotas {
        tokens: Some(100_000),
        ..Quotas::default()
    };
    let gate = queue(quotas);
    let model = Queued::new(priced(&Actor::new("a", []), &account), gate.clone());
    assert_eq!(collect(&model).await.unwrap_err().label(), "over_budget");
    assert_eq!(gate.snapshot().tokens.unwrap().used, 0);
}

#[tokio::test(start_paused = true)]
async fn the_model_asked_for_decides_the_price_and_cached_input_is_cheaper() {
    let account = ledger(Budgets::default());
    let cached = Usage {
        cached_input: Tokens(10),
        ..used()
    };
    let script = |usage| {
        vec![
            text("hi"),
            Do::Say(ChatEvent::Usage(usage)),
            Do::Say(ChatEvent::Finished(lyceum_core::FinishReason::Stop)),
        ]
    };
    let model = priced(&Actor::new("a", [script(cached), script(used())]), &account);
    collect(&model).await.unwrap();
    assert_eq!(account.today().spent, PicoUsd(11_000_000));
    let dear = Arc::new(ChatRequest {
        model: Some("dear".into()),
        ..(*hello()).clone()
    });
    ChatAnswer::collect(model.stream(call(), dear))
        .await
        .unwrap();
    assert_eq!(
        account.today().spent,
        PicoUsd(11_000_000 + 1_000 * ANSWER.0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_days_sums_survive_a_restart_and_older_ones_do_not() {
    let account = ledger(Budgets::default());
    collect(&priced(&Actor::new("a", [answer("hi")]), &account))
        .await
        .unwrap();
    let book = account.book();
    let again = ledger(Budgets::default());
    again.restore(book.clone());
    assert_eq!(again.today().spent, ANSWER);
    let scope = Scope::local();
    assert_eq!(again.user(&scope), account.user(&scope));
    assert_eq!(again.tenant(&scope.tenant).month.calls, 1);
    // Tests may run on the first of a month: of another month nothing counts.
    let years_ago = ledger(Budgets::default());
    years_ago.restore(Book {
        day: book.day - 800,
        ..book
    });
    assert_eq!(years_ago.today().spent, PicoUsd(0));
    assert_eq!(years_ago.user(&scope).month, Used::default());
}

#[tokio::test(start_paused = true)]
async fn a_users_budget_is_not_crossed_by_many_calls_at_once_and_changes_while_it_runs() {
    let account = ledger(Budgets::default());
    let scope = Scope::local();
    let owner = || (scope.tenant.clone(), scope.user.clone());
    let limit = |dollars| UserBudgets {
        named: [(owner(), Some(dollars))].into(),
        others: None,
    };
    account.limit_users(limit(PicoUsd(4 * ANSWER.0)));
    assert!(account.has_budgets());
    let at_most = PicoUsd(ANSWER.0);
    let holds: Vec<_> = (0..200)
        .map(|_| account.reserve(&call(), at_most))
        .collect();
    assert_eq!(holds.iter().filter(|hold| hold.is_ok()).count(), 4);
    let refused = holds.into_iter().find_map(Result::err).unwrap();
    let ChatError::OverBudget {
        budget,
        retry_after,
        ..
    } = refused
    else {
        panic!("{refused}");
    };
    assert_eq!(budget, "user_day");
    assert!(retry_after.is_some());
    // Another user of the same tenant has a budget of its own.
    let mut other = call();
    other.scope.user = "somebody".parse().unwrap();
    account.reserve(&other, at_most).unwrap().settle(at_most);
    account.limit_users(UserBudgets::default());
    account.reserve(&call(), at_most).unwrap().settle(at_most);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_counted_with_a_price_and_without() {
    let account = ledger(Budgets::default());
    let actor = Actor::new("a", [answer("hi"), answer("hi")]);
    let unknown = Priced::new(actor.clone(), "unheard-of", prices(), account.clone());
    collect(&unknown).await.unwrap();
    let told = account.user(&Scope::local()).today;
    assert_eq!(
        (told.calls, told.input, told.output),
        (1, Tokens(10), Tokens(5))
    );
    assert_eq!(told.spent, PicoUsd(0));
    collect(&priced(&actor, &account)).await.unwrap();
    let told = account.user(&Scope::local()).today;
    assert_eq!(
        (told.calls, told.input, told.spent),
        (2, Tokens(20), ANSWER)
    );
}

#[test]
fn a_new_day_costs_nothing_yet_although_nobody_has_asked() {
    let recorder = Recorder::default();
    metrics::with_local_recorder(&recorder, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let ledger = ledger(Budgets::default());
            let model = priced(&Actor::new("a", [answer("hi")]), &ledger);
            collect(&model).await.unwrap();
            ledger.publish();
            assert!(recorder.seen()["llm_cost_today_dollars{}"] > 0.0);
            tokio::time::sleep(SECOND * 24 * 60 * 60).await;
            ledger.publish();
        });
    });
    assert_eq!(recorder.seen()["llm_cost_today_dollars{}"], 0.0);
}
