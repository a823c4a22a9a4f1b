//! What a browser may be tricked into sending to a server without keys.
//!
//! Invariant: without keys only names of this machine are served, and only this server's own
//! pages, or allowed ones, write. Deliberately absent: servers with keys: a browser sends none
//! by itself, so a foreign page has none to send.

use std::net::IpAddr;

use http::{Method, Request, header, uri::Authority};

use crate::error::ApiError;

/// Refuses what a browser was tricked into sending to a server without keys: requests
/// under a foreign name (DNS rebinding) and writes from a foreign page.
pub(crate) fn refuse_foreign<B>(
    request: &Request<B>,
    is_allowed_origin: bool,
) -> Result<(), ApiError> {
    let host = request.headers().get(header::HOST);
    let host = host.map(|host| host.to_str().unwrap_or_default());
    let target = request.uri().authority().map(Authority::as_str);
    if ![host, target].into_iter().flatten().all(is_loopback) {
        return Err(ApiError::ForeignHost);
    }
    // A WebSocket is opened by a GET, from any page, and then writes.
    let only_reads = matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(header::UPGRADE);
    if is_allowed_origin || only_reads {
        return Ok(());
    }
    let Some(origin) = request.headers().get(header::ORIGIN) else {
        return match request.headers().get("sec-fetch-site") {
            Some(site) if site != "same-origin" && site != "none" => Err(ApiError::ForeignOrigin),
            _ => Ok(()),
        };
    };
    let origin = origin.to_str().unwrap_or_default();
    let origin = origin
        .strip_prefix("http://")
        .or_else(|| origin.strip_prefix("https://"));
    // HTTP/2 names the host in the target.
    match (origin, host.or(target)) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(ApiError::ForeignOrigin),
    }
}

fn is_loopback(authority: &str) -> bool {
    let Ok(authority) = authority.parse::<Authority>() else {
        return false;
    };
    let host = authority.host();
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost")
        || address
            .parse::<IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_machine_are_loopback() {
        for host in [
            "localhost",
            "LOCALHOST:80",
            "127.0.0.1:8080",
            "[::1]:1",
            "127.9.9.9",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil",
            "10.0.0.1",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
