//! What people open: the page, its parts, the documentation.

use axum::{
    body::Body,
    extract::{Path, Request, State},
    response::{IntoResponse, Response},
};
use http::header;

use crate::gateway::Shared;

/// The description of this API, in OpenAPI.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "pages",
    responses((status = 200, description = "The document", content_type = "application/json"))
)]
pub(crate) async fn openapi(State(app): State<Shared>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, Body::from(app.openapi.clone())).into_response()
}

/// This API for people.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "pages",
    responses((status = 200, description = "The page", content_type = "text/html"))
)]
pub(crate) async fn docs(State(app): State<Shared>, request: Request) -> Response {
    app.assets.page("docs.html", request.headers())
}

/// The page where the student is taught.
#[utoipa::path(
    get,
    path = "/",
    tag = "pages",
    responses((status = 200, description = "The page", content_type = "text/html"))
)]
pub(crate) async fn index(State(app): State<Shared>, request: Request) -> Response {
    app.assets.page("index.html", request.headers())
}

/// The page where the server is watched.
#[utoipa::path(
    get,
    path = "/operator",
    tag = "pages",
    responses((status = 200, description = "The page; its figures need a key where the server has keys", content_type = "text/html"))
)]
pub(crate) async fn operator(State(app): State<Shared>, request: Request) -> Response {
    app.assets.page("operator.html", request.headers())
}

/// A part of a page: script or style.
#[utoipa::path(
    get,
    path = "/assets/{file}",
    tag = "pages",
    params(("file" = String, Path, description = "The file's name")),
    responses(
        (status = 200, description = "The file"),
        (status = 304, description = "The file the client has is current"),
        (status = 404, description = "There is no such file", body = crate::dto::ErrorOutput),
    )
)]
pub(crate) async fn asset(
    State(app): State<Shared>,
    Path(file): Path<String>,
    request: Request,
) -> Response {
    let version = request
        .uri()
        .query()
        .and_then(|query| query.strip_prefix("v="));
    app.assets.part(&file, version, request.headers())
}
