//! The entry points over random bytes, and over valid ones that were changed a little.

use proptest::{
    collection::vec,
    prelude::*,
    sample::{Index, select},
};

use super::*;

/// One change: where, which and with which byte.
type Change = (Index, u8, u8);

fn changed(seed: &[u8], changes: Vec<Change>) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for (at, which, byte) in changes {
        if bytes.is_empty() {
            bytes.push(byte);
        }
        let at = at.index(bytes.len());
        match which {
            0 => bytes[at] = byte,
            1 => bytes.insert(at, byte),
            2 => drop(bytes.remove(at)),
            3 => bytes.truncate(at),
            4 => bytes.extend_from_within(at..),
            _ => bytes[at] ^= 1 << (byte % 8),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

/// Random bytes, or one of these with a few changes.
fn near(seeds: &'static [&'static [u8]]) -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<Index>(), 0_u8..6, any::<u8>());
    let changed =
        (select(seeds), vec(change, 0..6)).prop_map(|(seed, changes)| changed(seed, changes));
    prop_oneof![1 => vec(any::<u8>(), 0..256), 3 => changed]
}

const CONNECTIONS: &[&[u8]] = &[
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\nGET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
      Content-Length: 63\r\n\r\n{\"topic\":\"light\",\"explanation\":\"It is so.\",\"session_id\":\"s-1\"}\
      \r\nGET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    b"POST /memorize HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{} \r\n0\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x04\x01\x05\0\0\0\x01\x82\x86\x84\x01",
];

const PROXIES: &[&[u8]] = &[
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 443\r\nGET / HTTP/1.1\r\n",
    b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\xc6\x33\x64\x01\0\x50\x01\xbbGET /",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
];

const MESSAGES: &[&[u8]] = &[
    br#"{"type":"teach","ref":"1","topic":"light","explanation":"It is so."}"#,
    br#"{"type":"panel","topic":"light","explanation":"It is so.","durable":true}"#,
    br#"{"type":"resume","stream":"00000000-0000-4000-8000-000000000001","after":3}"#,
    br#"{"type":"cancel","stream":"00000000-0000-4000-8000-000000000001"}"#,
];

const FIELD_VALUES: &[&[u8]] = &[
    b"\x00\x00192.0.2.7, 10.2.3.4\n6.6.6.6",
    b"\x01\x00for=\"[2001:db8::7]:80\";proto=https, For=10.1.1.1",
    b"\x02\x02-7",
    b"\x02\x0318446744073709551615",
    b"\x03\x00key-1",
    b"\x04\x04lyceum.v1, lyceum.ticket.0123456789abcdef0123456789abcdef",
    b"\x05\x00Bearer eyJhbGciOiJFUzI1NiJ9.e30.AA",
    b"\x09\x00gzip, identity",
    b"\x0b\x01text/event-stream;q=0.5, */*",
    b"\x0f\x0000-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
];

const TOKENS: &[&[u8]] = &[
    b"eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2lzc3Vlci5leGFtcGxlIn0.AAAA",
    b"eyJhbGciOiJub25lIiwia2lkIjoiMSJ9.e30.",
    br#"{"keys":[{"kty":"EC","crv":"P-256","x":"MKBC","y":"4Etl"},{"kty":"RSA","n":"AQAB","e":"AQAB"}]}"#,
];

const WRITTEN: &[&[u8]] = &[
    br#"{"a":[1,-2.5e3,"\u00e4\n",null,{"b":{}}],"c":true}"#,
    br#"[[[[[[[[[[[[[[[["\u0000"]]]]]]]]]]]]]]]]"#,
    b"{\"a\":\"\\\\u0000\",\"a\":1}",
];

const POSTED: &[&[u8]] = &[
    br#"  {"topic":"light","explanation":"It is so.","session_id":"s-1","history":[]}"#,
    b"\x04\x00{\"model\":\"lyceum\",\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}]}",
    b"\x05\x00{\"model\":\"m\",\"input\":[\"a\",\"b\"],\"encoding_format\":\"base64\"}",
    b"\x06\x00{\"model\":\"lyceum\",\"max_tokens\":9,\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}",
    b"\x08\x00{\"model\":\"lyceum\",\"input\":[{\"role\":\"user\",\"content\":\"a\"}],\"stream\":true}",
    b"\x00\x03\x1f\x8b\x08\0\0\0\0\0\0\x03\xab\xae\x05\0\x43\xbf\xa6\xa3\x02\0\0\0",
];

const REQUESTED: &[&[u8]] = &[
    b"\x00\n{\"ttl\":{\"ttl\":1e30,\"strategy\":\"delete\"},\"metadata\":{\"a\":1},\"supersteps\":[]}",
    b"\x01limit=3&offset=1\n{\"extract\":{\"a\":\"values.messages[-1].content\"},\"sort_by\":\"status\"}",
    b"\x08checkpoint_ns=outer:1f|inner:2e\n{\"values\":{},\"as_node\":\"__start__\"}",
    b"\x09\n{\"checkpoint_id\":\"1f000000-0000-6000-8000-000000000003\"}",
    b"\x0b\n{\"id\":1,\"method\":\"subscription.subscribe\",\"params\":{\"channels\":[\"values\"]}}",
    b"\x0c\n{\"assistant_id\":\"agent\",\"input\":{},\"after_seconds\":1e30,\"stream_mode\":[\"values\"]}",
    b"\x0f*/5 0-3 1,15 * 1-5\n{\"assistant_id\":\"agent\",\"schedule\":\"0 0 29 2 *\",\"timezone\":\"Europe/Berlin\"}",
    b"\x12\n{\"namespace\":[\"a\",\"b\"],\"key\":\"k\",\"value\":{\"n\":1},\"ttl\":1e300}",
    b"\x13namespace=a.b&key=k&refresh_ttl=true\n",
    b"\x14\n{\"namespace_prefix\":[\"a\"],\"filter\":{\"n\":{\"$gt\":0}},\"query\":\"w\"}",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(96) })]

    #[test]
    fn a_connection_ends_whatever_is_said(bytes in near(CONNECTIONS)) {
        connection(&bytes);
    }

    #[test]
    fn a_message_is_answered_whatever_it_says(bytes in near(MESSAGES)) {
        web_socket(&bytes);
    }

    #[test]
    fn fields_say_whatever_they_like(bytes in near(FIELD_VALUES)) {
        field(&bytes);
    }

    #[test]
    fn bodies_hold_whatever_they_like(bytes in near(POSTED)) {
        body(&bytes);
    }

    #[test]
    fn the_langgraph_api_is_asked_for_anything(bytes in near(REQUESTED)) {
        langgraph(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn a_proxy_says_anything(bytes in near(PROXIES)) {
        proxy_header(&bytes);
    }

    #[test]
    fn a_token_that_nobody_signed_is_refused(bytes in near(TOKENS)) {
        token(&bytes);
        key_set(&bytes);
    }

    #[test]
    fn json_is_taken_as_far_as_it_is_no_danger(bytes in near(WRITTEN)) {
        json(&bytes);
    }
}

#[test]
fn the_bytes_that_are_changed_are_answered_as_they_are() {
    let first = |bytes: &[u8]| with(async |gateway| server::exchange(gateway, bytes, 1).await);
    for (bytes, expected) in CONNECTIONS.iter().zip(["200 OK", "422", "200 OK", "415"]) {
        let said = first(bytes);
        let said = String::from_utf8_lossy(&said);
        let line = said.lines().next().unwrap_or_default();
        assert!(line.contains(expected), "{line}");
    }
    let said = first(CONNECTIONS[2]);
    let said = String::from_utf8_lossy(&said);
    assert!(said.contains("text/event-stream"), "{said}");
    let posted = |path: &'static str, body: &'static str| {
        with(async |gateway| ask(gateway, Method::POST, path, json_of(body)).await)
    };
    assert_eq!(
        posted("/chat", EXPLANATION),
        Some(StatusCode::SERVICE_UNAVAILABLE)
    );
}
