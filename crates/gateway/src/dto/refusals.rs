//! The refusals that many routes share, as the OpenAPI document lists them.
//!
//! Deliberately absent: routes that refuse in another vendor's form.

use utoipa::IntoResponses;

use super::ErrorOutput;

/// What every route may answer that reads what a caller has.
#[expect(dead_code, reason = "it describes answers that are made elsewhere")]
#[derive(IntoResponses)]
pub(crate) enum Reading {
    /// The key is missing or not known
    #[response(status = 401)]
    Key(ErrorOutput),
    /// More requests than the key or the address may send; see Retry-After
    #[response(status = 429)]
    TooMany(ErrorOutput),
    /// Not now; see Retry-After
    #[response(status = 503)]
    NotNow(ErrorOutput),
}

/// What every route may answer that changes what a caller has.
#[expect(dead_code, reason = "it describes answers that are made elsewhere")]
#[derive(IntoResponses)]
pub(crate) enum Writing {
    /// The key is missing or not known
    #[response(status = 401)]
    Key(ErrorOutput),
    /// Another site sent the request to a server without keys, or the key is not for this
    #[response(status = 403)]
    Foreign(ErrorOutput),
    /// More requests than the key or the address may send; see Retry-After
    #[response(status = 429)]
    TooMany(ErrorOutput),
    /// Not now; see Retry-After
    #[response(status = 503)]
    NotNow(ErrorOutput),
}

/// What every route may answer that takes a body in JSON.
#[expect(dead_code, reason = "it describes answers that are made elsewhere")]
#[derive(IntoResponses)]
pub(crate) enum Body {
    /// The body is no JSON
    #[response(status = 400)]
    Malformed(ErrorOutput),
    /// The body did not arrive in time
    #[response(status = 408)]
    Slow(ErrorOutput),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(ErrorOutput),
    /// The body is not declared as JSON
    #[response(status = 415)]
    MediaType(ErrorOutput),
    /// A field is wrong; the detail begins with its path
    #[response(status = 422)]
    Invalid(ErrorOutput),
}
