//! Against a stand-in that speaks Qdrant's gRPC, and against the server that `QDRANT_URL`
//! names, where it does.

mod failures;
mod refused;
mod rules;
mod stand_in;
