//! What users may spend and what they used, in the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "support/access.rs"]
mod access;
mod support;

use access::{data, get, keys, until, with_model};
use lyceum_sim::{SimConfig, Simulator};
use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use support::Server;

async fn complete(server: &Server, key: &str) -> Response {
    let post = Client::new()
        .post(format!("{}/v1/chat/completions", server.url))
        .bearer_auth(key);
    let body = json!({"model": "gpt-4.1-mini", "max_tokens": 100, "messages": [{"role": "user", "content": "Why?"}]});
    post.json(&body).send().await.unwrap()
}

#[tokio::test]
async fn a_keys_budget_is_never_crossed_and_usage_tells_it_exactly_also_after_a_restart() {
    let sim = Simulator::start(SimConfig::default()).await.unwrap();
    let server = with_model(&sim.url());
    let dir = data(&server);
    let add = |name: &str, dollars: &str| {
        let flags = ["add", name, "--tenant", "school", "--daily-usd", dollars];
        keys(&dir, &flags).unwrap()["key"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let (alice, bob) = (add("alice", "0.001"), add("bob", "5"));
    let root = keys(&dir, &["add", "root", "--scope", "operator"]).unwrap()["key"]
        .as_str()
        .unwrap()
        .to_owned();
    until(&server, &root, 200).await;
    let all = futures_util::future::join_all((0..200).map(|_| complete(&server, &alice))).await;
    let passed = all.iter().filter(|answer| answer.status() == 200).count() as u64;
    assert!((1..200).contains(&passed), "{passed}");
    let refused = all
        .into_iter()
        .find(|answer| answer.status() != 200)
        .unwrap();
    assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(refused.headers().contains_key("retry-after"));
    assert_eq!(complete(&server, &bob).await.status(), 200);

    let told = async |server: &Server, key: &str| -> Value {
        get(server, key, "/usage").await.json().await.unwrap()
    };
    let own = told(&server, &alice).await["own"].clone();
    assert_eq!(own["today"]["model_calls"], passed);
    assert_eq!(own["day_limit_usd"], "0.001");
    let pico = |text: &Value| {
        let (whole, rest) = text.as_str().unwrap().split_once('.').unwrap();
        format!("{whole}{rest:0<12}").parse::<u64>().unwrap()
    };
    let (spent, left) = (pico(&own["today"]["cost_usd"]), pico(&own["day_left_usd"]));
    assert!(
        spent <= 1_000_000_000 && spent + left == 1_000_000_000,
        "{own}"
    );
    // $0.40 and $1.60 a million tokens: to the last digit.
    let tokens = |name: &str| own["today"][name].as_u64().unwrap();
    assert_eq!(
        spent,
        tokens("input_tokens") * 400_000 + tokens("output_tokens") * 1_600_000
    );
    let tenant = told(&server, &bob).await["tenant_total"].clone();
    assert_eq!(tenant["today"]["model_calls"], passed + 1);

    let listed: Value = get(&server, &root, "/api/operator/usage")
        .await
        .json()
        .await
        .unwrap();
    let names: Vec<&str> = listed["accounts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["local", "school"]);
    assert_eq!(
        get(&server, &alice, "/api/operator/usage").await.status(),
        403
    );
    let users: Value = get(&server, &root, "/api/operator/usage/school?limit=1")
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(
        (&users["accounts"][0]["name"], &users["next"]),
        (&json!("alice"), &json!("alice"))
    );

    server.signal("TERM");
    let (_, _, dir) = server.wait();
    let file = dir.path().join("lyceum.toml");
    let file = file.to_str().unwrap().to_owned();
    let server = Server::start_in(dir, &["--config", &file], &[]);
    let after = told(&server, &alice).await["own"].clone();
    assert_eq!(after["today"]["cost_usd"], own["today"]["cost_usd"]);
    assert_eq!(after["month"]["model_calls"], passed);
}
