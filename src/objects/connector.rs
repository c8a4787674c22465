//! The connections to stores: no redirects, no decompression, and plain http to this machine only.

use std::sync::OnceLock;
use std::time::Duration;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use super::failure::usage;
use crate::api::{is_on_this_machine, store_connections};

/// Time in which the next bytes must come.
const STALL: Duration = Duration::from_mins(1);
/// The metadata services of clouds, which give credentials to their machines and speak plain http on links of those
/// machines alone.
const METADATA: [&str; 6] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "metadata.google.internal",
];
/// Time to connect to a metadata service. Elsewhere than in its cloud nothing answers there.
const METADATA_PATIENCE: Duration = Duration::from_secs(3);

/// The other ends of connections, which differ in what may stand between them and llbatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// This machine, unencrypted.
    Local,
    /// This machine, encrypted.
    LocalEncrypted,
    /// A server elsewhere, encrypted.
    Remote,
    /// A metadata service. What it answers are credentials in clear, which no proxy may see.
    Metadata,
}

impl Peer {
    /// The peer at `to`. `None`: plain http to another machine.
    fn at(to: &Url) -> Option<Self> {
        let encrypted = to.scheme() == "https";
        if is_on_this_machine(to.as_str()) {
            return Some(if encrypted { Self::LocalEncrypted } else { Self::Local });
        }
        if encrypted {
            return Some(Self::Remote);
        }
        to.host_str().filter(|host| is_metadata(host)).map(|_| Self::Metadata)
    }
}

/// Returns true for the host of a metadata service.
pub(super) fn is_metadata(host: &str) -> bool {
    METADATA.iter().any(|known| known.eq_ignore_ascii_case(host))
}

/// Refuses the address of a store that is a metadata service, to which objects would go in clear.
///
/// # Errors
/// 2 if `endpoint` is one.
pub(super) fn refuse_metadata(endpoint: Option<String>, shown: &str) -> crate::error::Result<()> {
    let host = endpoint.and_then(|text| Some(Url::parse(&text).ok()?.host_str()?.to_owned()));
    match host.filter(|host| is_metadata(host)) {
        None => Ok(()),
        Some(host) => Err(usage(
            &format!("{shown}: the endpoint {host} gives credentials to this machine; it is no store"),
            "set the endpoint to the address of the store, or unset it",
        )),
    }
}

/// A client for this URL. Clients are kept: each kind of peer has its own, with its own trust and its own proxies.
///
/// # Errors
/// A sentence if TLS cannot be set up, or the URL is plain http to another machine.
pub(super) fn client_for(url: &str) -> Result<reqwest::Client, String> {
    static CLIENTS: [OnceLock<reqwest::Client>; 4] = [const { OnceLock::new() }; 4];
    let to = Url::parse(url).map_err(|error| error.to_string())?;
    let peer = Peer::at(&to).ok_or_else(|| InClear.to_string())?;
    let kept = &CLIENTS[peer as usize];
    if let Some(client) = kept.get() {
        return Ok(client.clone());
    }
    let client = settings(peer, &to).build().map_err(|error| error.to_string())?;
    Ok(kept.get_or_init(|| client).clone())
}

fn settings(peer: Peer, to: &Url) -> reqwest::ClientBuilder {
    let user_agent = concat!("llbatch/", env!("CARGO_PKG_VERSION"));
    let settings = store_connections(user_agent, to).read_timeout(STALL);
    if peer == Peer::Metadata { settings.no_proxy() } else { settings }
}

/// Tries of one request: four, within some seconds.
pub(super) fn retries() -> RetryConfig {
    let backoff =
        BackoffConfig { init_backoff: Duration::from_millis(200), max_backoff: Duration::from_secs(3), base: 3.0 };
    RetryConfig { backoff, max_retries: 3, retry_timeout: Duration::from_mins(1) }
}

/// Makes the connections of a store.
#[derive(Debug)]
pub(super) struct StoreConnector;

impl HttpConnector for StoreConnector {
    fn connect(&self, _: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(StoreConnections))
    }
}

#[derive(Debug)]
struct StoreConnections;

/// The error of a request that would leave this machine unencrypted.
#[derive(Debug, thiserror::Error)]
#[error("plain http is allowed to this machine only")]
pub(super) struct InClear;

#[async_trait::async_trait]
impl HttpService for StoreConnections {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let uri = request.uri().to_string();
        let Some(peer) = Url::parse(&uri).ok().and_then(|uri| Peer::at(&uri)) else {
            return Err(HttpError::new(HttpErrorKind::Unknown, InClear));
        };
        let client =
            client_for(&uri).map_err(|why| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(why)))?;
        let answer = HttpService::call(&client, request);
        if peer != Peer::Metadata {
            return answer.await;
        }
        match tokio::time::timeout(METADATA_PATIENCE, answer).await {
            Ok(answer) => answer,
            // Not a time-out by its kind: a retry would only take longer.
            Err(late) => Err(HttpError::new(HttpErrorKind::Unknown, late)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_peer_has_its_own_connections() {
        let peer = |url: &str| Peer::at(&Url::parse(url).unwrap());
        for (url, expected) in [
            ("http://127.0.0.1:9000/b/k", Some(Peer::Local)),
            ("https://localhost/b/k", Some(Peer::LocalEncrypted)),
            ("https://b.s3.amazonaws.com/k", Some(Peer::Remote)),
            ("http://169.254.169.254/latest/api/token", Some(Peer::Metadata)),
            ("http://[fd00:ec2::23]/v1/credentials", Some(Peer::Metadata)),
            ("http://metadata.google.internal/x", Some(Peer::Metadata)),
            ("http://metadata:9000/b/k", None),
            ("http://10.1.2.3:9000/b/k", None),
        ] {
            assert_eq!(peer(url), expected, "{url}");
        }
        assert!(client_for("http://metadata:9000/").is_err());
    }
}
