//! Tokens of an issuer: who they are, and the issuer's keys over HTTP and from a file.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use lyceum_gateway::{
    AuthConfig, ClaimScopes, ClaimTenant, Gateway, GatewayConfig, IssuerConfig, IssuerKeys,
    KeyRules, KeyScope, ServerConfig, TokenAlgorithm,
};
use lyceum_observe::Health;
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{EXPLANATION, Reply, Running, Scripted, gateway, listen, request};

/// A key that signs, and the set that holds its public half.
struct Pair(EncodingKey, &'static str, Value);

impl Pair {
    fn new(id: &'static str) -> Self {
        let made = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(&made.serialize_der());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let mut public = serde_json::to_value(public).unwrap();
        public["kid"] = json!(id);
        Self(key, id, public)
    }

    fn set(&self) -> String {
        json!({"keys": [self.2]}).to_string()
    }

    fn token(&self, changes: &Value) -> String {
        let exp = OffsetDateTime::now_utc().unix_timestamp() + 600;
        let mut claims = json!({
            "iss": "https://i.example", "aud": "lyceum", "exp": exp, "sub": "ada",
            "tenant": "acme", "scope": "openid student",
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.1.to_owned());
        jsonwebtoken::encode(&header, &claims, &self.0).unwrap()
    }
}

fn config(keys: IssuerKeys) -> IssuerConfig {
    IssuerConfig {
        issuer: "https://i.example".into(),
        audiences: vec!["lyceum".into()],
        keys,
        algorithms: vec![TokenAlgorithm::Es256],
        leeway: Duration::from_secs(0),
        required_claims: Vec::new(),
        tenant: ClaimTenant::Claim("tenant".into()),
        user_claim: "sub".into(),
        scopes: ClaimScopes::Claim {
            claim: "scope".into(),
            prefix: String::new(),
        },
        rules: KeyRules::default(),
    }
}

async fn serve(issuer: IssuerConfig, student: Arc<Scripted>) -> (Running, Gateway) {
    let config = GatewayConfig {
        auth: AuthConfig {
            issuer: Some(issuer),
            ..AuthConfig::default()
        },
        ..GatewayConfig::default()
    };
    let gateway = gateway(student, &config, Health::default());
    (
        listen(gateway.clone(), ServerConfig::default()).await,
        gateway,
    )
}

async fn teach(server: &Running, token: &str, more: &[(&str, &str)], body: &str) -> Reply {
    let bearer = format!("Bearer {token}");
    let mut headers = vec![
        ("authorization", bearer.as_str()),
        ("content-type", "application/json"),
    ];
    headers.extend_from_slice(more);
    server
        .send(request("POST", "/chat", &headers, body.as_bytes()))
        .await
}

/// An issuer's address that answers as it is told, and counts how often.
#[derive(Clone, Default)]
struct Address {
    answer: Arc<Mutex<Vec<u8>>>,
    asked: Arc<AtomicUsize>,
}

impl Address {
    async fn open(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let this = self.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let this = this.clone();
                tokio::spawn(async move {
                    let mut asked = [0; 2_048];
                    let _ = stream.read(&mut asked).await;
                    this.asked.fetch_add(1, Ordering::SeqCst);
                    let answer = this.answer.lock().unwrap().clone();
                    let _ = stream.write_all(&answer).await;
                });
            }
        });
        url
    }

    fn says(&self, status: &str, body: &str) {
        let length = body.len();
        *self.answer.lock().unwrap() = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
        .into_bytes();
    }
}

#[tokio::test]
async fn tenant_and_user_are_the_tokens_whatever_the_request_says() {
    let pair = Pair::new("one");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    fs::write(&file, pair.set()).unwrap();
    let student = Scripted::thorough();
    let (server, _) = serve(config(IssuerKeys::file(&file)), student.clone()).await;
    let body = r#"{"topic":"t","explanation":"e","session_id":"s","tenant":"other","user":"eve"}"#;
    let forged = [
        ("x-tenant", "other"),
        ("x-tenant-id", "other"),
        ("x-user", "eve"),
        ("x-api-key", "other"),
    ];
    let reply = teach(&server, &pair.token(&json!({})), &forged, body).await;
    assert!(matches!(reply.status, 200 | 422), "{reply:?}");
    assert_eq!(
        teach(&server, &pair.token(&json!({})), &forged, EXPLANATION)
            .await
            .status,
        200
    );
    for (call, _) in student.taught.lock().unwrap().iter() {
        let scope = &call.scope;
        assert_eq!(
            (scope.tenant.as_str(), scope.user.as_str()),
            ("acme", "ada")
        );
    }
    // What the claim names opens what it says and no more.
    let bearer = format!("Bearer {}", pair.token(&json!({})));
    let refused = server
        .send(request(
            "GET",
            "/v1/models",
            &[("authorization", &bearer)],
            b"",
        ))
        .await;
    assert_eq!(refused.status, 403);
    let nothing = pair.token(&json!({"scope": "openid"}));
    let refused = teach(&server, &nothing, &[], EXPLANATION).await;
    assert_eq!(refused.status, 403);
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .contains("error=\"insufficient_scope\"")
    );
    let own = server
        .send(request("GET", "/usage", &[("authorization", &bearer)], b""))
        .await;
    assert_eq!(
        own.status, 404,
        "it keeps no accounts, but the token opens it"
    );
}

#[tokio::test]
async fn a_wrong_token_is_told_why_and_how_to_come_again() {
    let pair = Pair::new("one");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    fs::write(&file, pair.set()).unwrap();
    let (server, _) = serve(config(IssuerKeys::file(&file)), Scripted::thorough()).await;
    let now = OffsetDateTime::now_utc().unix_timestamp();
    for (changes, said) in [
        (json!({"exp": now - 1}), "expired"),
        (json!({"nbf": now + 100}), "not valid yet"),
        (json!({"aud": "elsewhere"}), "audience"),
        (json!({"iss": "https://evil.example"}), "another issuer"),
        (json!({"tenant": "../acme"}), "tenant"),
        (json!({"tenant": null}), "tenant"),
    ] {
        let refused = teach(&server, &pair.token(&changes), &[], EXPLANATION).await;
        assert_eq!(refused.status, 401, "{changes}");
        assert!(
            refused.detail().contains(said),
            "{changes}: {}",
            refused.detail()
        );
        let challenge = refused.header("www-authenticate").unwrap();
        assert!(
            challenge.contains("error=\"invalid_token\", error_description="),
            "{challenge}"
        );
        assert_eq!(challenge.matches('"').count(), 6, "{challenge}");
    }
    // The vendors' clients get it in their form.
    let headers = [("authorization", "Bearer eyJhbGciOiJub25lIn0.e30.")];
    let refused = server
        .send(request("GET", "/v1/models", &headers, b""))
        .await;
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (401, &json!("invalid_api_key"))
    );
    // Keys of this server and tokens are told apart.
    assert_eq!(
        teach(&server, "lyc-unknown", &[], EXPLANATION).await.status,
        401
    );
    assert_eq!(server.get("/livez").await.status, 200);
}

#[tokio::test]
async fn keys_that_are_rotated_are_asked_for_once_however_many_tokens_name_them() {
    let (old, new) = (Pair::new("old"), Pair::new("new"));
    let address = Address::default();
    address.says("200 OK", &old.set());
    let url = address.open().await;
    let keys = IssuerKeys::address(&url, Duration::from_secs(3_600)).unwrap();
    let (server, _) = serve(config(keys), Scripted::thorough()).await;
    // The first token has the keys fetched.
    let (old_token, new_token) = (old.token(&json!({})), new.token(&json!({})));
    let all = join_all((0..50).map(|_| teach(&server, &old_token, &[], EXPLANATION))).await;
    assert!(all.iter().all(|reply| reply.status == 200));
    assert_eq!(address.asked.load(Ordering::SeqCst), 1);
    // Within ten seconds nobody makes the server ask again.
    address.says("200 OK", &new.set());
    let all = join_all((0..50).map(|_| teach(&server, &new_token, &[], EXPLANATION))).await;
    assert!(all.iter().all(|reply| reply.status == 401));
    assert_eq!(address.asked.load(Ordering::SeqCst), 1);
    assert!(all[0].detail().contains("not one of the issuer's"));
}

#[tokio::test]
async fn an_issuer_that_is_down_or_talks_nonsense_takes_no_keys_away() {
    let (one, other) = (Pair::new("one"), Pair::new("other"));
    let address = Address::default();
    address.says("500 Internal Server Error", "");
    let url = address.open().await;
    let keys = IssuerKeys::address(&url, Duration::from_millis(20)).unwrap();
    let (server, gateway) = serve(config(keys), Scripted::thorough()).await;
    let (right, wrong) = (one.token(&json!({})), other.token(&json!({})));
    // Without any keys nothing can be said about a token.
    let early = teach(&server, &right, &[], EXPLANATION).await;
    assert_eq!(
        (early.status, early.header("retry-after")),
        (503, Some("5"))
    );
    let follow = gateway.clone();
    let follow = tokio::spawn(async move { follow.follow_issuer().await });
    address.says("200 OK", &one.set());
    let until = async |token: &str, status: u16| {
        while teach(&server, token, &[], EXPLANATION).await.status != status {
            tokio::task::yield_now().await;
        }
    };
    crate::support::soon(until(&right, 200)).await;
    let huge = format!("{{\"keys\": [{}]}}", " ".repeat(300_000));
    let moved = "{}";
    for (status, body) in [
        ("500 Internal Server Error", "down"),
        ("200 OK", "<html>"),
        ("200 OK", "{\"keys\": []}"),
        ("200 OK", huge.as_str()),
        ("302 Found\r\nLocation: http://127.0.0.1:1/", moved),
    ] {
        address.says(status, body);
        let before = address.asked.load(Ordering::SeqCst);
        crate::support::soon(async {
            while address.asked.load(Ordering::SeqCst) < before + 2 {
                assert_eq!(
                    teach(&server, &right, &[], EXPLANATION).await.status,
                    200,
                    "{status}"
                );
            }
        })
        .await;
    }
    // When it is there again, what it says counts: also that a key is gone.
    address.says("200 OK", &other.set());
    crate::support::soon(until(&wrong, 200)).await;
    assert_eq!(teach(&server, &right, &[], EXPLANATION).await.status, 401);
    follow.abort();
}

#[tokio::test]
async fn the_issuers_document_leads_to_its_keys() {
    let pair = Pair::new("one");
    let (document, keys) = (Address::default(), Address::default());
    keys.says("200 OK", &pair.set());
    let jwks = keys.open().await;
    let issuer = document.open().await.replace("/keys", "/realm");
    let named = |issuer: &str| json!({"issuer": issuer, "jwks_uri": jwks}).to_string();
    document.says("200 OK", &named(&issuer));
    let every = Duration::from_millis(20);
    let config = IssuerConfig {
        issuer: issuer.clone(),
        ..config(IssuerKeys::discovered(&issuer, every).unwrap())
    };
    let (server, gateway) = serve(config, Scripted::thorough()).await;
    let follow = tokio::spawn(async move { gateway.follow_issuer().await });
    let token = pair.token(&json!({"iss": issuer}));
    crate::support::soon(async {
        while teach(&server, &token, &[], EXPLANATION).await.status != 200 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    // What another issuer says of itself leads nowhere.
    document.says("200 OK", &named("https://other.example"));
    let before = document.asked.load(Ordering::SeqCst);
    crate::support::soon(async {
        while document.asked.load(Ordering::SeqCst) < before + 2 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let asked = keys.asked.load(Ordering::SeqCst);
    crate::support::soon(async {
        while document.asked.load(Ordering::SeqCst) < before + 3 {
            assert_eq!(teach(&server, &token, &[], EXPLANATION).await.status, 200);
        }
    })
    .await;
    assert_eq!(keys.asked.load(Ordering::SeqCst), asked);
    follow.abort();
}

#[tokio::test]
async fn a_file_of_keys_is_followed_and_users_have_limits_of_their_own() {
    let (one, other) = (Pair::new("one"), Pair::new("other"));
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    fs::write(&file, one.set()).unwrap();
    let mut issuer = config(IssuerKeys::file(&file));
    issuer.rules.requests_per_minute = std::num::NonZeroU32::new(3);
    issuer.scopes = ClaimScopes::Always(vec![KeyScope::Student]);
    let (server, gateway) = serve(issuer, Scripted::thorough()).await;
    let follow = tokio::spawn(async move { gateway.follow_issuer().await });
    // Different tokens of one user share the user's limit, however many come at once.
    let now = OffsetDateTime::now_utc().unix_timestamp();
    let tokens: Vec<String> = (0..60)
        .map(|n| one.token(&json!({"exp": now + 600 + n})))
        .collect();
    let all = join_all(
        tokens
            .iter()
            .map(|token| teach(&server, token, &[], EXPLANATION)),
    )
    .await;
    assert_eq!(all.iter().filter(|reply| reply.status == 200).count(), 3);
    let eve = one.token(&json!({"sub": "eve"}));
    assert_eq!(teach(&server, &eve, &[], EXPLANATION).await.status, 200);
    fs::write(&file, other.set()).unwrap();
    let token = other.token(&json!({"sub": "bob"}));
    crate::support::soon(async {
        while teach(&server, &token, &[], EXPLANATION).await.status == 401 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(teach(&server, &eve, &[], EXPLANATION).await.status, 401);
    follow.abort();
}
