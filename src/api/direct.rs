//! Sends rows' requests with hyper and rustls, where no proxy stands in between.
//!
//! reqwest is built from the same parts, but it parses the URL again for every request and passes the request through layers
//! that do nothing here. llbatch uses reqwest behind a proxy, and for all other calls.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{HeaderMap, Method, Request, Response, Uri};
use hyper_rustls::builderstates::WantsSchemes;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest::header::{ACCEPT_ENCODING, HOST, HeaderValue, USER_AGENT};
use rustls::crypto::CryptoProvider;
use tower_service::Service;
use url::Url;

use super::proxy::proxy_of;
use super::resolve::Resolver;
use super::{CONNECT_TIMEOUT, DEAD_PEER, IDLE_TIMEOUT, PROBE};

/// The error of a request that got no response.
pub(super) type Error = hyper_util::client::legacy::Error;

type Pool = hyper_util::client::legacy::Client<InTime<HttpsConnector<HttpConnector<Resolver>>>, Full<Bytes>>;

/// A pool of connections to one service.
#[derive(Debug, Clone)]
pub(super) struct Direct {
    pool: Pool,
    headers: HeaderMap,
}

impl Direct {
    /// Makes the pool. `None`: a proxy stands before the service. `headers` are sent with every request.
    pub(super) fn to(base: &Url, user_agent: &str, mut headers: HeaderMap) -> Result<Option<Self>, String> {
        if proxy_of(base).is_some() {
            return Ok(None);
        }
        let agent = HeaderValue::from_str(user_agent).map_err(|e| format!("the user agent is invalid: {e}"))?;
        headers.insert(USER_AGENT, agent);
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip, zstd"));
        if let Some(host) = host_of(base) {
            headers.entry(HOST).or_insert(host);
        }
        let mut tcp = HttpConnector::new_with_resolver(Resolver);
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_keepalive(Some(PROBE));
        let connector = trust(base)?.https_or_http().enable_all_versions();
        let pool = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(usize::MAX)
            .http2_adaptive_window(true)
            .http2_keep_alive_interval(PROBE)
            .http2_keep_alive_timeout(DEAD_PEER)
            .build(InTime(connector.wrap_connector(tcp)));
        Ok(Some(Self { pool, headers }))
    }

    /// Posts `body`, and waits for the head of the response.
    pub(super) async fn post(&self, uri: Uri, body: Bytes) -> Result<Response<Incoming>, Error> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
        self.pool.request(request).await
    }
}

/// The `Host` of requests in plain http, which hyper would write anew for each: a fiftieth of a row's instructions. TLS may
/// lead to HTTP/2, which has no such header.
fn host_of(base: &Url) -> Option<HeaderValue> {
    let host = base.host_str().filter(|_| base.scheme() == "http")?;
    let port = base.port().map(|port| format!(":{port}")).unwrap_or_default();
    HeaderValue::try_from(format!("{host}{port}")).ok()
}

/// Trust in certificates, as reqwest has it: that of the platform. A plain connection needs none.
fn trust(base: &Url) -> Result<HttpsConnectorBuilder<WantsSchemes>, String> {
    let provider = CryptoProvider::get_default().cloned();
    let provider = provider.unwrap_or_else(|| Arc::new(rustls::crypto::ring::default_provider()));
    let builder = HttpsConnectorBuilder::new();
    if base.scheme() == "https" {
        return builder.with_provider_and_platform_verifier(provider).map_err(|e| format!("cannot set up TLS: {e}"));
    }
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|e| format!("cannot set up TLS: {e}"))?;
    let config = config.with_root_certificates(rustls::RootCertStore::empty());
    Ok(builder.with_tls_config(config.with_no_client_auth()))
}

/// A connector whose name look-up, TCP and TLS together take no longer than [`CONNECT_TIMEOUT`].
#[derive(Debug, Clone)]
struct InTime<C>(C);

impl<C> Service<Uri> for InTime<C>
where
    C: Service<Uri, Error = Box<dyn std::error::Error + Send + Sync>>,
    C::Future: Send + 'static,
    C::Response: 'static,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Pin<Box<dyn Future<Output = Result<C::Response, C::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connecting = self.0.call(to);
        Box::pin(async {
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(std::io::Error::new(std::io::ErrorKind::TimedOut, "operation timed out").into()),
            }
        })
    }
}
