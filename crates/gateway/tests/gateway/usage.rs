//! `/usage`: everybody their own, operators all.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use lyceum_core::{Scope, TenantId, UserId};
use lyceum_gateway::{AccountPart, Accounts, KeyRules, KeyScope, UsedPart};
use serde_json::json;

use crate::support::{Scripted, as_key, key, served, with_keys};

/// Accounts that count requests alone.
#[derive(Debug, Default)]
struct Counted(Mutex<Vec<Scope>>);

impl Counted {
    fn of(&self, wanted: impl Fn(&Scope) -> bool) -> AccountPart {
        let requests = self.0.lock().unwrap().iter().filter(|s| wanted(s)).count() as u64;
        let used = UsedPart {
            requests,
            cost_usd: "0.000000000001".into(),
            ..UsedPart::default()
        };
        AccountPart {
            today: used.clone(),
            month: used,
            held_usd: "0.00".into(),
            day_limit_usd: Some("1.00".into()),
            day_left_usd: Some("0.999999999999".into()),
        }
    }
}

impl Accounts for Counted {
    fn asked(&self, scope: &Scope) {
        self.0.lock().unwrap().push(scope.clone());
    }

    fn user(&self, scope: &Scope) -> AccountPart {
        self.of(|one| one == scope)
    }

    fn tenant(&self, tenant: &TenantId) -> AccountPart {
        self.of(|one| one.tenant == *tenant)
    }

    fn tenants_after(&self, after: Option<&TenantId>, most: usize) -> Vec<(TenantId, AccountPart)> {
        let all = ["acme", "club", "school"].map(|name| name.parse::<TenantId>().unwrap());
        let all = all
            .into_iter()
            .filter(|name| after.is_none_or(|after| name > after));
        all.take(most)
            .map(|name| (name.clone(), self.tenant(&name)))
            .collect()
    }

    fn users_after(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        most: usize,
    ) -> Vec<(UserId, AccountPart)> {
        let seen = self.0.lock().unwrap();
        let of = seen.iter().filter(|scope| scope.tenant == *tenant);
        let users: std::collections::BTreeSet<UserId> =
            of.map(|scope| scope.user.clone()).collect();
        drop(seen);
        let users = users
            .into_iter()
            .filter(|name| after.is_none_or(|after| name > after));
        users
            .take(most)
            .map(|name| (name, AccountPart::default()))
            .collect()
    }
}

#[tokio::test]
async fn everybody_sees_their_own_usage_and_operators_all_of_it_in_pages() {
    let limited = KeyRules {
        requests_per_minute: NonZeroU32::new(100),
        concurrent_requests: NonZeroU32::new(9),
        streams: NonZeroU32::new(3),
        scopes: vec![KeyScope::Metrics],
        ..KeyRules::default()
    };
    let operator = KeyRules {
        scopes: vec![KeyScope::Operator],
        ..KeyRules::default()
    };
    let keys = vec![
        key("alice", limited),
        key("bob", KeyRules::default()),
        key("root", operator),
    ];
    let gateway = with_keys(Scripted::thorough(), keys).with_accounts(Arc::new(Counted::default()));
    let server = served(&gateway).await;
    for _ in 0..3 {
        as_key(&server, "bob", "GET", "/v1/models", "").await;
    }
    // Probes are nobody's requests.
    as_key(&server, "alice", "GET", "/metrics", "").await;
    let own = as_key(&server, "alice", "GET", "/usage?tenant=club&user=bob", "").await;
    assert_eq!(own.status, 200);
    let own = own.json();
    assert_eq!(
        (&own["tenant"], &own["user"], &own["key"]),
        (&json!("acme"), &json!("alice"), &json!("alice"))
    );
    assert_eq!(own["own"]["today"]["requests"], 1);
    assert_eq!(own["tenant_total"]["month"]["requests"], 4);
    assert_eq!(own["own"]["today"]["cost_usd"], "0.000000000001");
    assert_eq!(own["own"]["day_left_usd"], "0.999999999999");
    assert_eq!(own["rates"][0]["limit"], 100);
    assert_eq!(own["rates"][0]["left"], 99);
    assert_eq!(
        own["at_once"],
        json!([{"what": "requests", "limit": 9, "held": 1}, {"what": "streams", "limit": 3, "held": 0}])
    );
    for path in ["/api/operator/usage", "/api/operator/usage/acme"] {
        assert_eq!(
            as_key(&server, "bob", "GET", path, "").await.status,
            403,
            "{path}"
        );
    }
    let page = async |path: &str| as_key(&server, "root", "GET", path, "").await;
    let first = page("/api/operator/usage?limit=2").await.json();
    assert_eq!(first["accounts"][0]["name"], "acme");
    assert_eq!(
        (first["accounts"].as_array().unwrap().len(), &first["next"]),
        (2, &json!("club"))
    );
    let last = page("/api/operator/usage?limit=2&after=club").await.json();
    assert_eq!(last["accounts"][0]["name"], "school");
    assert_eq!(last.get("next"), None);
    let users = page("/api/operator/usage/acme").await.json();
    let names: Vec<&str> = users["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["alice", "bob", "root"]);
    for (path, status) in [
        ("/api/operator/usage?limit=0", 422),
        ("/api/operator/usage?limit=1001", 422),
        ("/api/operator/usage?after=a/b", 422),
        ("/api/operator/usage?limit=x", 400),
        ("/api/operator/usage/a%2Fb", 422),
        ("/api/operator/usage/%FF", 422),
    ] {
        assert_eq!(page(path).await.status, status, "{path}");
    }
    let none = with_keys(Scripted::thorough(), Vec::new());
    let none = served(&none).await;
    assert_eq!(none.get("/usage").await.status, 404);
}
