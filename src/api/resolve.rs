//! Resolves host names to addresses. Names of this machine (`localhost` and below) are never looked up: a resolver with another
//! answer could send a key to another host unencrypted.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

use super::base_url::is_loopback;

type Addresses = std::vec::IntoIter<SocketAddr>;

/// The look-up of names for all connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Resolver;

async fn look_up(name: &str) -> io::Result<Addresses> {
    if is_loopback(name) {
        return Ok(vec![(Ipv4Addr::LOCALHOST, 0).into(), (Ipv6Addr::LOCALHOST, 0).into()].into_iter());
    }
    let found = tokio::net::lookup_host((name, 0)).await?;
    Ok(found.collect::<Vec<_>>().into_iter())
}

impl Service<Name> for Resolver {
    type Response = Addresses;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Addresses>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        Box::pin(async move { look_up(name.as_str()).await })
    }
}

impl reqwest::dns::Resolve for Resolver {
    fn resolve(&self, name: reqwest::dns::Name) -> reqwest::dns::Resolving {
        Box::pin(async move { Ok(Box::new(look_up(name.as_str()).await?) as reqwest::dns::Addrs) })
    }
}
