//! The store against a real server: one for this binary, one database per test.

#![expect(clippy::unwrap_used, reason = "helpers of tests may fail the test")]
#![expect(clippy::print_stdout, reason = "a child tells its parent")]

mod ambiguous;
mod checkpoints;
mod limits;
mod memory;
mod processes;
mod proxy;
mod records;
mod restart;
mod sealed;
mod spaces;
mod vectors;

use std::{sync::LazyLock, time::Duration};

use lyceum_store_postgres::{PostgresOptions, PostgresStore, test_server::TestServer};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

static SERVER: LazyLock<TestServer> = LazyLock::new(|| TestServer::start().unwrap());

fn options() -> PostgresOptions {
    PostgresOptions {
        min_connections: 1,
        max_connections: 20,
        ..PostgresOptions::default()
    }
}

/// A store on an empty database of the shared server.
async fn store() -> PostgresStore {
    let address = SERVER.database().unwrap();
    PostgresStore::open(&address, options()).await.unwrap()
}
