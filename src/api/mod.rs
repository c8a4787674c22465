//! The service: one [`Client`], wire types and error classes. Beside `batch_status`, `completion`, `json` and `text`
//! this room uses nothing of ours.
//!
//! The client never retries a request: the caller decides, with [`retry`] for the waits. Only transfers of files follow
//! redirects, to storage; the key is never sent there.

mod base_url;
mod batch_label;
pub mod batches;
mod call;
pub mod chat;
mod clock;
mod connect;
mod dialect;
mod direct;
mod download;
pub mod error;
pub mod error_body;
mod event_stream;
mod fields;
pub mod files;
pub mod form;
mod keyless;
pub mod limits;
pub mod models;
mod own_header;
pub mod produced;
mod proxy;
mod receiver;
mod resolve;
mod response;
pub mod retry;
#[cfg(test)]
mod scripted;
mod streamed;
mod transfer;
mod upload;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use base_url::is_loopback;
use clock::Clock;
use direct::Direct;
use error::{Failure, Fault};
use limits::Limits;
use response::AnyResponse;

pub use base_url::{InvalidBase, canonical_base, endpoint_of, is_in_clear, is_on_this_machine};
pub use dialect::Dialect;
pub use download::Downloaded;
pub use fields::{Listing, is_id};
pub use own_header::OwnHeader;
pub use proxy::proxy_of;
pub use receiver::{Receiver, ReceiverUrl};
use streamed::StreamMemory;
pub use streamed::{StreamPatience, StreamedReply, put_together};
pub use upload::{Registered, Upload, UploadForm};

/// Longest answer, decompressed: far above any completion, and small enough for this machine.
const MAX_BODY: usize = 64 << 20;
/// Larger than any completion. Longer answers are read one at a time, so that several endless ones do not fill the
/// memory together. (A megabyte of zip is a gigabyte of text.)
const LARGE: usize = 4 << 20;
/// Time for DNS, TCP and TLS together. Nothing is sent before.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Cloudflare closes idle connections after minutes. Closing them earlier avoids sending into a closing one.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);
/// A dead peer is found by probes, not by a short read timeout: a long answer is silent for minutes.
const PROBE: Duration = Duration::from_secs(30);
/// Time that a peer has to answer a probe of HTTP/2.
const DEAD_PEER: Duration = Duration::from_secs(20);

/// The service's address and the user's key.
#[derive(Debug)]
pub struct ClientOptions {
    /// Base URL, as given.
    pub base_url: String,
    /// The API key, if there is one.
    pub key: Option<SecretString>,
    /// The user's own headers for this service.
    pub headers: Vec<OwnHeader>,
    /// The `User-Agent` header.
    pub user_agent: String,
}

/// A connection pool to one service, for one key.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    /// The way of the requests of rows. `None`: a proxy stands before the service.
    direct: Option<Direct>,
    base: url::Url,
    dialect: Dialect,
    /// The key, and headers that may hold one: what must be removed from the texts of the service.
    secrets: Arc<[SecretString]>,
    /// Headers that only the service gets: `Authorization` and the user's own, marked sensitive.
    personal: HeaderMap,
    /// Permit for reading an answer beyond [`LARGE`].
    large: Arc<Semaphore>,
    /// The memory of open streams.
    streams: Arc<StreamMemory>,
    /// The service answered whole where a stream was asked for.
    answers_whole: Arc<AtomicBool>,
    clock: Arc<Clock>,
    /// Connections for calls without a JSON body, and for storage, which must not see the default headers.
    bare: transfer::Bare,
}

/// The address of the requests of rows.
#[derive(Debug, Clone)]
pub struct RowAddress {
    url: url::Url,
    uri: hyper::Uri,
}

/// A response that arrived whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Limits and waits in the headers.
    pub limits: Limits,
    /// The body is a web page, by its `Content-Type`.
    pub html: bool,
    /// The body, decompressed.
    pub body: Bytes,
}

/// Settings of all connections: they never resend or redirect by themselves. Connections to this machine bypass any proxy,
/// and plain ones need no trusted certificates.
fn connections(user_agent: &str, to: &url::Url) -> reqwest::ClientBuilder {
    let mut builder = reqwest::Client::builder();
    if to.host_str().is_some_and(is_loopback) {
        builder = builder.no_proxy().dns_resolver(resolve::Resolver);
    }
    if to.scheme() == "http" {
        builder = builder.tls_certs_only([]);
    }
    builder
        .user_agent(user_agent)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_max_idle_per_host(usize::MAX)
        .tcp_nodelay(true)
        .tcp_keepalive(PROBE)
        .http2_keep_alive_interval(PROBE)
        .http2_keep_alive_timeout(DEAD_PEER)
        .http2_adaptive_window(true)
        .retry(reqwest::retry::never())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
}

/// Settings of connections to stores of objects, which get what is sent, and whose bytes arrive as they are.
pub fn store_connections(user_agent: &str, to: &url::Url) -> reqwest::ClientBuilder {
    // Only the first call installs it.
    drop(rustls::crypto::ring::default_provider().install_default());
    connections(user_agent, to).gzip(false).zstd(false)
}

impl Client {
    /// Makes a client. It connects when first used.
    ///
    /// # Errors
    /// A sentence: the URL or the key is invalid, or TLS cannot be set up.
    pub fn new(options: &ClientOptions) -> Result<Self, String> {
        // Only the first call installs it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let base = canonical_base(&options.base_url).map_err(|e| e.to_string())?;
        let secrets: Arc<[SecretString]> =
            options.key.iter().cloned().chain(options.headers.iter().filter_map(OwnHeader::secret)).collect();
        // The last guard: the caller has refused it before, in the user's terms.
        if is_in_clear(&base) && !secrets.is_empty() {
            return Err(format!("{base} is plain http, so no key is sent there"));
        }
        let mut personal = HeaderMap::new();
        options.headers.iter().for_each(|own| own.add_to(&mut personal));
        if let Some(key) = &options.key {
            personal.insert(AUTHORIZATION, bearer(key)?);
        }
        let mut headers = personal.clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let http = connections(&options.user_agent, &base)
            .default_headers(headers.clone())
            .build()
            .map_err(|e| format!("cannot set up HTTP: {}", error::chain(&e)))?;
        let direct = Direct::to(&base, &options.user_agent, headers)?;
        let bare = transfer::Bare::new(&options.user_agent);
        Ok(Self {
            http,
            direct,
            base,
            dialect: Dialect::default(),
            secrets,
            personal,
            large: Arc::new(Semaphore::new(1)),
            streams: Arc::default(),
            answers_whole: Arc::default(),
            clock: Arc::default(),
            bare,
        })
    }

    /// This client, for a service that takes files and batches in this form.
    #[must_use]
    pub fn with_dialect(self, dialect: Dialect) -> Self {
        Self { dialect, ..self }
    }

    /// The form of files and batches that the service takes.
    pub const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The base URL, in its canonical form.
    pub fn base(&self) -> &str {
        self.base.as_str()
    }

    /// The URL of `path` (with its leading slash) under the base. A query may follow the path.
    pub fn url(&self, path: &str) -> url::Url {
        let mut url = self.base.clone();
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url.set_query(query);
        url
    }

    /// The address of the requests of rows: `path` under the base.
    pub fn row_address(&self, path: &str) -> RowAddress {
        let url = self.url(path);
        // A URL of http or https is a URI.
        RowAddress { uri: url.as_str().parse().unwrap_or_default(), url }
    }

    /// The service's time, if an answer to anything but [`Client::post`] has shown it.
    pub fn now(&self) -> Option<SystemTime> {
        self.clock.now(SystemTime::now())
    }

    /// Sends `body` once and reads the whole answer. Any status is a [`Reply`].
    ///
    /// # Errors
    /// A [`Failure`] that says whether the request can have reached the service.
    pub async fn post(&self, to: &RowAddress, body: Bytes, timeout: Duration) -> Result<Reply, Failure> {
        // Rare futures stand in boxes: every request in flight would hold the memory for it.
        let exchange = pin!(async {
            let response = self.send(to, body).await?;
            let mut reply = self.read(response).await?;
            reply.body = self.without_key(reply.body);
            Ok(reply)
        });
        match call::in_time(timeout, exchange).await {
            Some(result) => result,
            None => Err(Failure::new(Fault::Timeout, format!("no answer within {} s", timeout.as_secs_f64()))),
        }
    }

    /// Sends `body`, and waits for the head of the response.
    async fn send(&self, to: &RowAddress, body: Bytes) -> Result<AnyResponse, Failure> {
        if let Some(direct) = &self.direct {
            match direct.post(to.uri.clone(), body).await {
                Ok(response) => Ok(AnyResponse::Direct(response)),
                Err(error) => Err(Box::pin(Failure::from_direct(&error, &to.url)).await),
            }
        } else {
            let request = self.http.post(to.url.clone()).body(body);
            Ok(AnyResponse::Reqwest(Box::new(Box::pin(call::sent(request)).await?)))
        }
    }

    /// Removes the key from headers, which go into messages and ids.
    fn keyless(&self, headers: &mut HeaderMap) {
        for value in headers.values_mut() {
            let clean = self.without_key(Bytes::copy_from_slice(value.as_bytes()));
            if clean != value.as_bytes() {
                *value = HeaderValue::from_maybe_shared(clean).unwrap_or_else(|_| HeaderValue::from_static("[key]"));
            }
        }
    }

    /// Removes the key from a body: a service that repeats it must not bring it into results, logs or the ledger.
    fn without_key(&self, body: Bytes) -> Bytes {
        self.secrets().fold(body, |body, secret| {
            if !keyless::is_spelled_in(secret, &body) {
                return body;
            }
            let mut clean = Vec::with_capacity(body.len());
            keyless::copy_without(secret, &*body, &mut clean).expect("memory is read and written without fail");
            clean.into()
        })
    }
}

fn bearer(key: &SecretString) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose_secret()))
        .map_err(|_| "the API key contains characters that are invalid in an HTTP header".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_message_never_shows_the_key() {
        let key = Some(SecretString::from("tgp_v1_canary".to_owned()));
        let header = OwnHeader::new("x-api-key", SecretString::from("canary-in-a-header".to_owned())).unwrap();
        let headers = vec![header];
        let options = ClientOptions { base_url: "http://127.0.0.1:1".into(), key, headers, user_agent: "t".into() };
        let client = Client::new(&options).unwrap();
        let authorization = client.personal[AUTHORIZATION].clone();
        assert!(authorization.as_bytes().ends_with(b"canary"));
        let request = client.http.get(client.base.clone()).header("authorization", authorization);
        let holders: [&dyn std::fmt::Debug; 4] =
            [&options, &client, &request, &request.try_clone().map(reqwest::RequestBuilder::build)];
        for holder in holders {
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| panic!("{holder:?}")));
            let message = panicked.unwrap_err().downcast::<String>().unwrap();
            assert!(message.contains("127.0.0.1") && !message.contains("canary"), "{message}");
        }
    }

    #[test]
    fn no_client_sends_a_key_in_clear() {
        let secret = || SecretString::from("tgp_v1_canary".to_owned());
        let client = |key: Option<SecretString>, header: Option<&str>| {
            let headers = header.iter().map(|name| OwnHeader::new(name, secret()).unwrap()).collect();
            Client::new(&ClientOptions { base_url: "http://10.0.0.5".into(), key, headers, user_agent: "t".into() })
        };
        assert!(client(Some(secret()), None).is_err() && client(None, Some("x-api-key")).is_err());
        assert!(client(None, None).is_ok() && client(None, Some("x-org")).is_ok());
    }

    #[test]
    fn a_repeated_key_is_removed_from_bodies() {
        let key = Some(SecretString::from("tgp_v1_canary".to_owned()));
        let header = OwnHeader::new("x-api-key", SecretString::from("canary-in-a-header".to_owned())).unwrap();
        let headers = vec![header];
        let options = ClientOptions { base_url: "http://127.0.0.1:1".into(), key, headers, user_agent: "t".into() };
        let client = Client::new(&options).unwrap();
        let clean = |body: &'static str| {
            String::from_utf8(client.without_key(Bytes::from_static(body.as_bytes())).to_vec()).unwrap()
        };
        assert_eq!(clean("tgp_v1_canary and tgp_v1_canary"), "[key] and [key]");
        assert_eq!(clean("tgp_v1_canar"), "tgp_v1_canar");
        assert_eq!(clean("canary-in-a-header of tgp_v1_canary"), "[key] of [key]");
        assert!(!format!("{client:?}").contains("canary"));
    }
}
