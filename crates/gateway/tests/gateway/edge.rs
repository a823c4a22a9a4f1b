//! What surrounds every route: limits of requests, what keys open, pages of other origins.

use std::num::NonZeroU32;

use lyceum_gateway::{
    ApiKey, AuthConfig, CorsOrigins, ForwardedHeader, GatewayConfig, KeyRules, KeyScope,
    RateLimits, ServerConfig, TrustedProxies,
};
use lyceum_observe::Health;
use time::{Duration, OffsetDateTime};

use crate::support::{EXPLANATION, Reply, Running, Scripted, gateway, listen, post, request};

async fn with(config: GatewayConfig) -> Running {
    let gateway = gateway(Scripted::thorough(), &config, Health::default());
    listen(gateway, ServerConfig::default()).await
}

fn key(name: &str, tenant: &str, rules: KeyRules) -> ApiKey {
    ApiKey {
        name: name.into(),
        tenant: tenant.parse().unwrap(),
        user: name.parse().unwrap(),
        sha256: ApiKey::digest(name),
        replaced: None,
        rules,
    }
}

async fn as_key(server: &Running, key: &str, path: &str) -> Reply {
    let headers = [("x-api-key", key)];
    server.send(request("GET", path, &headers, b"")).await
}

#[tokio::test]
async fn a_client_address_is_limited_and_told_when_to_come_back() {
    let rates = RateLimits {
        address_per_minute: NonZeroU32::new(3),
        ..RateLimits::default()
    };
    let server = with(GatewayConfig {
        rates,
        ..GatewayConfig::default()
    })
    .await;
    for left in ["2", "1", "0"] {
        let reply = server.post("/chat", EXPLANATION).await;
        assert_eq!(reply.status, 200);
        assert_eq!(
            reply.header("ratelimit-policy"),
            Some("\"address\";q=3;w=60")
        );
        let standing = reply.header("ratelimit").unwrap();
        assert!(
            standing.starts_with(&format!("\"address\";r={left};t=")),
            "{standing}"
        );
    }
    // Another path, an unknown one and a forged origin of the request make no difference.
    let forged = [
        ("X-Forwarded-For", "192.0.2.9"),
        ("Forwarded", "for=192.0.2.9"),
    ];
    for refused in [
        server.post("/chat", EXPLANATION).await,
        server.get("/nowhere").await,
        server.send(request("GET", "/docs", &forged, b"")).await,
    ] {
        assert_eq!(refused.status, 429);
        assert!(refused.detail().contains("more than 3 requests in 60 s"));
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=61).contains(&wait), "{wait}");
        assert!(refused.header("ratelimit").unwrap().contains("r=0"));
    }
    // A vendor's client gets the refusal in its own form.
    let refused = server.get("/v1/models").await;
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    for probe in [
        "/livez",
        "/readyz",
        "/startupz",
        "/health",
        "/api/health",
        "/metrics",
        "/api/metrics",
    ] {
        assert_eq!(server.get(probe).await.status, 200, "{probe}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_may_pass_connections_on() {
    let rates = RateLimits {
        address_per_minute: NonZeroU32::new(1),
        ..RateLimits::default()
    };
    let serve = async |proxy: &str| {
        let proxies = TrustedProxies::new([proxy], ForwardedHeader::default()).unwrap();
        let config = GatewayConfig {
            rates,
            proxies,
            ..GatewayConfig::default()
        };
        let gateway = gateway(Scripted::thorough(), &config, Health::default());
        let config = ServerConfig {
            proxy_protocol: true,
            ..ServerConfig::default()
        };
        listen(gateway, config).await
    };
    let asked = post("/chat", &[], EXPLANATION.as_bytes());
    let from = |client: &str| {
        let line = format!("PROXY TCP4 {client} 198.51.100.1 4711 443\r\n");
        [line.as_bytes(), &asked].concat()
    };
    let server = serve("127.0.0.0/8").await;
    for (client, status) in [("192.0.2.1", 200), ("192.0.2.1", 429), ("192.0.2.2", 200)] {
        assert_eq!(server.send(from(client)).await.status, status, "{client}");
    }
    // Nothing in the request gives it another name, though who it says it is comes from a
    // trusted network.
    let headers = [("X-Forwarded-For", "192.0.2.9")];
    let named = post("/chat", &headers, EXPLANATION.as_bytes());
    for status in [200, 429] {
        let line = b"PROXY UNKNOWN\r\n";
        let reply = server.send([&line[..], &named].concat()).await;
        assert_eq!(reply.status, status);
    }
    let unsaid = server.send(&asked).await;
    assert_eq!(unsaid.status, 0, "closed without a word: {unsaid:?}");
    // Whoever is not trusted cannot say anything.
    let server = serve("10.0.0.0/8").await;
    assert_eq!(server.send(&asked).await.status, 200);
    assert_eq!(server.send(from("192.0.2.2")).await.status, 400);
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_is_who_it_says() {
    let rates = RateLimits {
        address_per_minute: NonZeroU32::new(1),
        ..RateLimits::default()
    };
    let proxies = TrustedProxies::new(["127.0.0.0/8"], ForwardedHeader::default()).unwrap();
    let server = with(GatewayConfig {
        rates,
        proxies,
        ..GatewayConfig::default()
    })
    .await;
    let from = async |line: &str| {
        let headers = [("X-Forwarded-For", line)];
        server
            .send(request("GET", "/docs", &headers, b""))
            .await
            .status
    };
    assert_eq!(from("192.0.2.1").await, 200);
    assert_eq!(from("192.0.2.2").await, 200);
    assert_eq!(from("192.0.2.1").await, 429);
    // What the client wrote before its proxy did does not give it another name.
    assert_eq!(from("198.51.100.4, 192.0.2.1, 127.0.0.9").await, 429);
}

#[tokio::test]
async fn keys_and_tenants_have_limits_of_their_own() {
    let own = KeyRules {
        requests_per_minute: NonZeroU32::new(1),
        ..KeyRules::default()
    };
    let config = GatewayConfig {
        rates: RateLimits {
            key_per_minute: NonZeroU32::new(2),
            tenant_per_minute: NonZeroU32::new(3),
            ..RateLimits::default()
        },
        auth: AuthConfig {
            keys: vec![
                key("alice", "school", KeyRules::default()),
                key("bob", "school", KeyRules::default()),
                key("carol", "club", own),
            ],
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    let server = with(config).await;
    let status = async |key| as_key(&server, key, "/v1/models").await.status;
    assert_eq!([status("alice").await, status("alice").await], [200, 200]);
    let refused = as_key(&server, "alice", "/v1/models").await;
    assert_eq!(refused.status, 429);
    assert_eq!(refused.header("ratelimit-policy"), Some("\"key\";q=2;w=60"));
    // The tenant has one left, whatever Bob has.
    assert_eq!([status("bob").await, status("bob").await], [200, 429]);
    assert_eq!([status("carol").await, status("carol").await], [200, 429]);
    // A wrong key costs nobody anything.
    assert_eq!(status("mallory").await, 401);
    assert_eq!(as_key(&server, "carol", "/metrics").await.status, 200);
}

#[tokio::test]
async fn a_key_opens_what_its_rules_say_until_it_expires() {
    let now = OffsetDateTime::now_utc();
    let until = |expires| KeyRules {
        expires: Some(expires),
        ..KeyRules::default()
    };
    let only = |scope| KeyRules {
        scopes: vec![scope],
        ..KeyRules::default()
    };
    let models = KeyRules {
        models: vec!["other".into()],
        ..KeyRules::default()
    };
    let keys = vec![
        key("old", "t", until(now - Duration::SECOND)),
        key("new", "t", until(now + Duration::DAY)),
        key("scraper", "t", only(KeyScope::Metrics)),
        key("learner", "t", only(KeyScope::Student)),
        key("narrow", "t", models),
    ];
    let auth = AuthConfig {
        keys,
        ..AuthConfig::default()
    };
    let server = with(GatewayConfig {
        auth,
        ..GatewayConfig::default()
    })
    .await;
    let expired = as_key(&server, "old", "/metrics").await;
    assert_eq!(expired.status, 401);
    assert!(expired.detail().contains("expired"));
    assert_eq!(as_key(&server, "new", "/metrics").await.status, 200);
    assert_eq!(as_key(&server, "scraper", "/metrics").await.status, 200);
    assert_eq!(as_key(&server, "scraper", "/docs").await.status, 200);
    let teach = async |key| {
        let headers = [("x-api-key", key)];
        server
            .send(post("/chat", &headers, EXPLANATION.as_bytes()))
            .await
            .status
    };
    assert_eq!(teach("scraper").await, 403);
    assert_eq!(teach("learner").await, 200);
    let refused = as_key(&server, "learner", "/v1/models").await;
    assert_eq!(refused.status, 403);
    assert_eq!(refused.json()["error"]["type"], "permission_error");
    // A model that a key may not ask is not there for it.
    let listed = as_key(&server, "narrow", "/v1/models").await.json();
    assert_eq!(listed["data"].as_array().unwrap().len(), 0);
    assert_eq!(
        as_key(&server, "narrow", "/v1/models/feynman").await.status,
        404
    );
    let ask = br#"{"model":"feynman","messages":[{"role":"user","content":"x"}]}"#;
    for path in ["/v1/chat/completions", "/v1/messages/count_tokens"] {
        let reply = server
            .send(post(path, &[("x-api-key", "narrow")], ask))
            .await;
        assert_eq!(reply.status, 404, "{path}");
        let reply = server.send(post(path, &[("x-api-key", "new")], ask)).await;
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[tokio::test]
async fn pages_of_named_origins_may_call_and_no_others() {
    let origin = "https://app.example.org";
    let cors = CorsOrigins::new([origin]).unwrap();
    let keys = vec![key("alice", "t", KeyRules::default())];
    let server = with(GatewayConfig {
        cors,
        auth: AuthConfig {
            keys,
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    })
    .await;
    let ask = async |origin| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            (
                "Access-Control-Request-Headers",
                "authorization,x-stainless-os",
            ),
        ];
        server
            .send(request("OPTIONS", "/chat", &headers, b""))
            .await
    };
    let allowed = ask(origin).await;
    assert_eq!(allowed.status, 204);
    assert_eq!(allowed.header("access-control-allow-origin"), Some(origin));
    assert_eq!(
        allowed.header("access-control-allow-headers"),
        Some("authorization,x-stainless-os")
    );
    assert!(
        allowed
            .header("access-control-allow-methods")
            .unwrap()
            .contains("POST")
    );
    for other in [
        "https://evil.example",
        "null",
        "https://app.example.org.evil.example",
    ] {
        let refused = ask(other).await;
        assert_eq!(refused.status, 401, "{other}");
        assert_eq!(refused.header("access-control-allow-origin"), None);
        assert_eq!(refused.header("vary"), Some("origin"));
    }
    // An error can be read by the page too; a credential is never asked of the browser.
    let from = [("Origin", origin)];
    let refused = server
        .send(post("/chat", &from, EXPLANATION.as_bytes()))
        .await;
    assert_eq!(refused.status, 401);
    assert_eq!(refused.header("access-control-allow-origin"), Some(origin));
    assert_eq!(refused.header("access-control-allow-credentials"), None);
    assert!(
        refused
            .header("access-control-expose-headers")
            .unwrap()
            .contains("x-request-id")
    );
}

#[tokio::test]
async fn without_keys_a_named_origin_may_write_and_others_may_not() {
    let cors = CorsOrigins::new(["http://localhost:3000"]).unwrap();
    let server = with(GatewayConfig {
        cors,
        ..GatewayConfig::default()
    })
    .await;
    let teach = async |origin| {
        let headers = [("Origin", origin)];
        server
            .send(post("/chat", &headers, EXPLANATION.as_bytes()))
            .await
            .status
    };
    assert_eq!(teach("http://localhost:3000").await, 200);
    assert_eq!(teach("http://localhost:3001").await, 403);
    let rebound = [
        ("Origin", "http://localhost:3000"),
        ("Host", "evil.example"),
    ];
    let reply = server
        .send(post("/chat", &rebound, EXPLANATION.as_bytes()))
        .await;
    assert_eq!(reply.status, 403);
}
