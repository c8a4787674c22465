//! The connections to stores: no redirects, no decompression, and plain http to this machine only.

use std::sync::OnceLock;
use std::time::Duration;

use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{BackoffConfig, ClientOptions, RetryConfig};
use url::Url;

use crate::api::{is_on_this_machine, store_connections};

/// Time in which the next bytes must come.
const STALL: Duration = Duration::from_mins(1);
/// The metadata services of clouds, which give credentials to their machines and speak plain http on links of those
/// machines alone.
const METADATA: [&str; 7] = [
    "169.254.169.254",
    "169.254.170.2",
    "169.254.170.23",
    "[fd00:ec2::254]",
    "[fd00:ec2::23]",
    "metadata.google.internal",
    "metadata",
];
/// Time to connect to a metadata service. Elsewhere than in its cloud nothing answers there.
const METADATA_PATIENCE: Duration = Duration::from_secs(3);

/// A client for this URL.
///
/// # Errors
/// A sentence if TLS cannot be set up.
pub(super) fn client_for(url: &str) -> Result<reqwest::Client, String> {
    /// Connections to this machine, plain and encrypted, and to others.
    static CLIENTS: [OnceLock<reqwest::Client>; 3] = [const { OnceLock::new() }; 3];
    let to = Url::parse(url).map_err(|error| error.to_string())?;
    let kind = if is_on_this_machine(url) { usize::from(to.scheme() == "https") } else { 2 };
    if let Some(client) = CLIENTS[kind].get() {
        return Ok(client.clone());
    }
    let user_agent = concat!("llbatch/", env!("CARGO_PKG_VERSION"));
    let client = store_connections(user_agent, &to).read_timeout(STALL).build().map_err(|error| error.to_string())?;
    Ok(CLIENTS[kind].get_or_init(|| client).clone())
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
        let metadata = request.uri().host().is_some_and(|host| METADATA.contains(&host));
        if request.uri().scheme_str() != Some("https") && !metadata && !is_on_this_machine(&uri) {
            return Err(HttpError::new(HttpErrorKind::Unknown, InClear));
        }
        let client =
            client_for(&uri).map_err(|why| HttpError::new(HttpErrorKind::Unknown, std::io::Error::other(why)))?;
        let answer = HttpService::call(&client, request);
        if !metadata {
            return answer.await;
        }
        match tokio::time::timeout(METADATA_PATIENCE, answer).await {
            Ok(answer) => answer,
            // Not a time-out by its kind: a retry would only take longer.
            Err(late) => Err(HttpError::new(HttpErrorKind::Unknown, late)),
        }
    }
}
