//! The connections to stores: no redirects, no decompression, and plain http to this machine only.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
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
/// Bytes of an upload in a second, at least: as slow as an uplink of half a megabit that carries several parts at once.
const SLOWEST_UPLOAD: u64 = 16 << 10;
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
    client(url, true)
}

/// `stalls`: an answer that does not begin or go on within [`STALL`] is an error. That time runs from the start of a request and
/// goes on while its body is sent, so that a large one needs another limit.
fn client(url: &str, stalls: bool) -> Result<reqwest::Client, String> {
    static CLIENTS: [[OnceLock<reqwest::Client>; 4]; 2] = [const { [const { OnceLock::new() }; 4] }; 2];
    let to = Url::parse(url).map_err(|error| error.to_string())?;
    let peer = Peer::at(&to).ok_or_else(|| InClear.to_string())?;
    let kept = &CLIENTS[usize::from(stalls)][peer as usize];
    if let Some(client) = kept.get() {
        return Ok(client.clone());
    }
    let settings = settings(peer, &to);
    let settings = if stalls { settings.read_timeout(STALL) } else { settings };
    let client = settings.build().map_err(|error| error.to_string())?;
    Ok(kept.get_or_init(|| client).clone())
}

fn settings(peer: Peer, to: &Url) -> reqwest::ClientBuilder {
    let user_agent = concat!("llbatch/", env!("CARGO_PKG_VERSION"));
    let settings = store_connections(user_agent, to);
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
        // The body of a POST is a list of parts, and its answer may come slowly, byte by byte.
        let size = if request.method() == "PUT" { request.body().content_length() as u64 } else { 0 };
        let client = client(&uri, size == 0)
            .map_err(|why| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(why)))?;
        let answer = HttpService::call(&client, request);
        if peer == Peer::Metadata {
            return of_metadata(answer).await;
        }
        if size == 0 {
            return answer.await;
        }
        let whole = async {
            let (head, body) = answer.await?.into_parts();
            Ok(HttpResponse::from_parts(head, body.bytes().await?.into()))
        };
        let late = |late| Err(HttpError::new(HttpErrorKind::Timeout, late));
        tokio::time::timeout(upload_patience(size), whole).await.unwrap_or_else(late)
    }
}

/// Time in which an upload of `size` bytes must end.
const fn upload_patience(size: u64) -> Duration {
    Duration::from_secs(STALL.as_secs() + size / SLOWEST_UPLOAD)
}

/// True once a metadata service has given something.
static HAS_METADATA: AtomicBool = AtomicBool::new(false);

/// The error of a metadata service that does not answer.
#[derive(Debug, thiserror::Error)]
#[error("the metadata service does not answer")]
pub(super) struct NoMetadata {
    /// It has answered before.
    pub did: bool,
}

/// Waits for the answer of a metadata service.
async fn of_metadata(answer: impl Future<Output = Result<HttpResponse, HttpError>>) -> Result<HttpResponse, HttpError> {
    if let Ok(Ok(answer)) = tokio::time::timeout(METADATA_PATIENCE, answer).await {
        HAS_METADATA.fetch_or(answer.status().is_success(), Ordering::Relaxed);
        return Ok(answer);
    }
    // Not a time-out by its kind: a retry would only take longer.
    let did = HAS_METADATA.load(Ordering::Relaxed);
    Err(HttpError::new(HttpErrorKind::Unknown, NoMetadata { did }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_uplink_has_time_for_a_part_and_a_small_body_has_not_much() {
        assert_eq!(upload_patience(8 << 20), Duration::from_secs(60 + 512));
        assert_eq!(upload_patience(100), STALL);
    }

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
