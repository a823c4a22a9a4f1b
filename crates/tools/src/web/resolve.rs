//! Names to addresses, for connections that may only go to the public web.

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use async_trait::async_trait;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::address::Networks;

/// Finds the addresses of a host.
#[async_trait]
pub trait Resolver: Send + Sync + fmt::Debug {
    /// The addresses of a host; asked once for every connection.
    ///
    /// # Errors
    ///
    /// When it cannot be found.
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>>;
}

/// The system's resolver.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn resolve(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        let found = tokio::net::lookup_host((host, 0)).await?;
        Ok(found.map(|address| address.ip()).collect())
    }
}

/// A host has an address that is not on the public web.
#[derive(Debug, thiserror::Error)]
#[error("connect to an address that is not on the public web")]
pub(super) struct Forbidden;

/// A host has no address.
#[derive(Debug, thiserror::Error)]
#[error("find the host")]
pub(super) struct Unknown;

/// A resolver whose answers were checked. What it answers is what is connected to.
#[derive(Debug)]
pub(super) struct Guarded {
    inner: Arc<dyn Resolver>,
    networks: Arc<Networks>,
}

impl Guarded {
    pub(super) fn new(inner: Arc<dyn Resolver>, networks: Arc<Networks>) -> Self {
        Self { inner, networks }
    }
}

impl Resolve for Guarded {
    fn resolve(&self, name: Name) -> Resolving {
        let (inner, networks) = (self.inner.clone(), self.networks.clone());
        Box::pin(async move {
            let found = inner.resolve(name.as_str()).await.map_err(|_| Unknown)?;
            if found.is_empty() {
                return Err(Unknown.into());
            }
            // One bad address spoils them all: a name that has both is an attack.
            if !found.iter().all(|address| networks.allow(*address)) {
                return Err(Forbidden.into());
            }
            // Port 0 stands for the port of the address that is read.
            let found = found.into_iter().map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(found) as Addrs)
        })
    }
}
