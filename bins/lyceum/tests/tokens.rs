//! Tokens of an issuer in the real program.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[expect(dead_code, reason = "these tests make no keys")]
#[path = "support/access.rs"]
mod access;
mod support;

use std::fs;

use access::{get, until};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::Jwk};
use reqwest::Client;
use serde_json::{Value, json};
use support::{Server, key_lines};

#[tokio::test]
async fn tokens_of_the_configured_issuer_count_and_its_rotated_keys_are_followed() {
    let pair = |id: &str| {
        let made = rcgen::KeyPair::generate().unwrap();
        let key = EncodingKey::from_ec_der(&made.serialize_der());
        let public = Jwk::from_encoding_key(&key, Algorithm::ES256).unwrap();
        let mut public = serde_json::to_value(public).unwrap();
        public["kid"] = json!(id);
        (key, json!({"keys": [public]}).to_string())
    };
    let token = |key: &EncodingKey, id: &str, tenant: &str| {
        let exp = time::OffsetDateTime::now_utc().unix_timestamp() + 600;
        let claims = json!({"iss": "https://i.example", "aud": "lyceum", "exp": exp, "sub": "auth0|1", "tenant": tenant});
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(id.to_owned());
        jsonwebtoken::encode(&header, &claims, key).unwrap()
    };
    let ((one, set), (other, other_set)) = (pair("one"), pair("other"));
    let dir = tempfile::tempdir().unwrap();
    let jwks = dir.path().join("jwks.json");
    fs::write(&jwks, set).unwrap();
    let file = dir.path().join("lyceum.toml");
    let lines = format!(
        "[auth.jwt]\nissuer = \"https://i.example\"\naudience = [\"lyceum\"]\njwks_file = \"{}\"\nrequests_per_minute = 1000\n{}",
        jwks.display(),
        key_lines("bobs-key", "school", "bob", "")
    );
    fs::write(&file, lines).unwrap();
    let config = file.to_str().unwrap().to_owned();
    let server = Server::start_in(dir, &["--provider", "offline", "--config", &config], &[]);
    assert!(
        server
            .banner
            .contains("one key, tokens of https://i.example"),
        "{}",
        server.banner
    );
    let school = token(&one, "one", "school");
    let told: Value = get(&server, &school, "/usage").await.json().await.unwrap();
    assert_eq!(
        (&told["tenant"], &told["key"]),
        (&json!("school"), &json!("token"))
    );
    assert!(told["user"].as_str().unwrap().starts_with("sha256:"));
    // What one tenant has stored is not there for another, nor for another user.
    let post = Client::new()
        .post(format!("{}/chat", server.url))
        .bearer_auth(&school);
    let body =
        json!({"topic": "tides", "explanation": "The Moon pulls the sea.", "session_id": "s-1"});
    assert_eq!(post.json(&body).send().await.unwrap().status(), 200);
    let sessions = async |key: &str| get(&server, key, "/sessions").await.text().await.unwrap();
    assert!(sessions(&school).await.contains("s-1"));
    for stranger in [token(&one, "one", "club"), "bobs-key".to_owned()] {
        assert!(!sessions(&stranger).await.contains("s-1"));
        assert_eq!(get(&server, &stranger, "/sessions/s-1").await.status(), 404);
    }
    assert_eq!(get(&server, &school, "/api/operator").await.status(), 403);
    fs::write(&jwks, other_set).unwrap();
    until(&server, &token(&other, "other", "school"), 200).await;
    let refused = get(&server, &school, "/usage").await;
    assert_eq!(refused.status(), 401);
    let challenge = refused.headers()["www-authenticate"].to_str().unwrap();
    assert!(challenge.contains("invalid_token"), "{challenge}");
}
