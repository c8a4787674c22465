//! The common part of uploads and downloads: connections without default headers, redirects without the key, and the errors
//! of object stores.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, HeaderMap, LOCATION};
use url::Url;

use super::base_url::is_loopback;
use super::error::{Failure, Fault, MAX_MESSAGE, chain};
use super::limits::Limits;
use super::response::AnyResponse;
use super::{Client, Reply, connections};
use crate::text::shortened;

/// A transfer fails if no byte moves for this long.
const STALL: Duration = Duration::from_mins(1);
/// Redirects that one transfer follows: to storage, to another region, and one to spare.
pub(super) const MAX_HOPS: usize = 3;
/// Shorter parts of a query are numbers and names, and would occur in ordinary words.
const SHORTEST_SECRET: usize = 12;

/// Connections without decompression and default headers. They are made when first needed; `run` does not need them.
#[derive(Debug, Clone)]
pub(super) struct Bare {
    /// Connections to this machine, plain and encrypted, and to others: see [`connections`].
    http: Arc<[OnceLock<reqwest::Client>; 3]>,
    user_agent: Arc<str>,
    /// [`STALL`], or a shorter time in tests.
    pub(super) stall: Duration,
}

impl Bare {
    pub(super) fn new(user_agent: &str) -> Self {
        Self { http: Arc::default(), user_agent: user_agent.into(), stall: STALL }
    }

    pub(super) fn http(&self, to: &Url) -> Result<&reqwest::Client, Failure> {
        let kind = match to.host_str() {
            Some(host) if is_loopback(host) => usize::from(to.scheme() == "https"),
            _ => 2,
        };
        if let Some(http) = self.http[kind].get() {
            return Ok(http);
        }
        let built = connections(&self.user_agent, to).gzip(false).zstd(false).build();
        let http = built.map_err(|e| Failure::new(Fault::Connect, format!("cannot set up HTTP: {}", chain(&e))))?;
        Ok(self.http[kind].get_or_init(|| http))
    }

    /// The failure of a transfer that stands still.
    pub(super) fn stalled(&self, what: &str, url: &Url) -> Failure {
        let seconds = self.stall.as_secs_f64();
        Failure::new(Fault::Timeout, format!("the {what} {} made no progress for {seconds} s", host(url)))
    }
}

/// The host, for messages. The rest of a presigned URL is a secret.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or("nowhere")
}

/// Returns true if a transfer follows this status.
pub(super) const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

pub(super) fn too_many_hops(url: &Url) -> Failure {
    Failure::new(Fault::BadResponse, format!("redirected more than {MAX_HOPS} times, last by {}", host(url)))
}

impl Client {
    /// Returns true if the key may be sent to `url`: it has the API's scheme, host and port.
    pub(super) fn is_api(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// The target of a redirect from `from`, if it is one to follow.
    pub(super) fn redirected(&self, from: &Url, status: u16, headers: &HeaderMap) -> Result<Url, Failure> {
        let bad = |why: &str| Failure::bad(status, &format!("{} redirects {why}", host(from)));
        let location = headers.get(LOCATION).ok_or_else(|| bad("without a location"))?;
        let text = location.to_str().map_err(|_| bad("to an invalid URL"))?;
        let mut url = from.join(text).map_err(|_| bad("to an invalid URL"))?;
        url.set_fragment(None);
        // Only tests and `--sandbox` use plain HTTP, and only on this machine.
        let plain = self.base.scheme() == "http" && url.scheme() == "http" && url.host_str().is_some_and(is_loopback);
        if url.scheme() != "https" && !plain {
            return Err(bad(&format!("to {}://{}, but llbatch follows https only", url.scheme(), host(&url))));
        }
        // They would turn into an Authorization header.
        if !url.username().is_empty() || url.password().is_some() {
            return Err(bad(&format!("to {} with a user name or password", host(&url))));
        }
        Ok(url)
    }

    /// Reads the failure in a response to a transfer.
    pub(super) async fn refused(&self, response: reqwest::Response, url: &Url) -> Failure {
        let status = response.status().as_u16();
        let limits = Limits::read(status, response.headers(), std::time::SystemTime::now);
        let whole = tokio::time::timeout(self.bare.stall, self.read(AnyResponse::Reqwest(Box::new(response)))).await;
        // The status is enough if the body does not arrive.
        let body = bytes::Bytes::new();
        let mut reply = whole.ok().and_then(Result::ok).unwrap_or(Reply { status, limits, html: false, body });
        reply.body = self.without_key(reply.body);
        if self.is_api(url) { Failure::from_call(&reply) } else { from_storage(&reply, url) }
    }
}

/// Checks that the body is the bare file: llbatch asks for no encoding, and lengths would not match an encoded one.
pub(super) fn plain(response: &reqwest::Response) -> Result<(), Failure> {
    let status = response.status().as_u16();
    let header = |name| response.headers().get(name).map_or("", |v| v.to_str().unwrap_or("?").trim());
    let encoding = header(CONTENT_ENCODING);
    if !encoding.is_empty() && !encoding.eq_ignore_ascii_case("identity") {
        return Err(Failure::bad(status, &format!("content encoded as {encoding:?}, which llbatch did not ask for")));
    }
    Ok(())
}

/// Reads an object store's refusal. It is never about the key or money: the store refuses a signature of the service, and the
/// service gives new ones.
fn from_storage(reply: &Reply, url: &Url) -> Failure {
    let body = String::from_utf8_lossy(&reply.body);
    let code = element(&body, "Code");
    let mut failure = Failure::from_call(reply);
    failure.fault = match failure.fault {
        Fault::Auth | Fault::Payment => Fault::Server,
        // S3's code for an upload that is too slow.
        _ if code.as_deref() == Some("RequestTimeout") => Fault::Timeout,
        fault => fault,
    };
    failure.model_unknown = false;
    let words = [code, element(&body, "Message")].into_iter().flatten().collect::<Vec<_>>().join(": ");
    let said = if words.is_empty() {
        failure.message
    } else {
        format!("HTTP {}: {}", reply.status, shortened(&words, MAX_MESSAGE))
    };
    failure.message = format!("storage at {}: {}", host(url), without_query(&said, url));
    failure
}

/// The text of the first element of this name in an XML error.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    let mut text = text.trim().to_owned();
    // The ampersand comes last: a decoded one begins no entity.
    for (entity, c) in [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&amp;", "&")] {
        text = text.replace(entity, c);
    }
    (!text.is_empty()).then_some(text)
}

/// Removes the URL's signature from a store's message, which goes into logs.
fn without_query(text: &str, url: &Url) -> String {
    let mut clean = text.to_owned();
    let Some(query) = url.query().filter(|query| !query.is_empty()) else { return clean };
    let decoded: Vec<_> = url.query_pairs().map(|(_, value)| value.into_owned()).collect();
    let raw = query.split('&').filter_map(|pair| pair.split_once('=')).map(|(_, value)| value);
    let secrets = raw.chain(decoded.iter().map(String::as_str)).filter(|value| value.len() >= SHORTEST_SECRET);
    for secret in std::iter::once(query).chain(secrets) {
        clean = clean.replace(secret, "[…]");
    }
    clean
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use reqwest::header::HeaderValue;

    use super::*;
    use crate::api::scripted::client;

    fn refusal(status: u16, body: &'static str) -> Failure {
        let url = Url::parse("https://bucket.example/key?X-Amz-Signature=0123456789abcdef&X-Amz-Expires=60").unwrap();
        let reply = Reply { status, limits: Limits::default(), html: false, body: Bytes::from_static(body.as_bytes()) };
        from_storage(&reply, &url)
    }

    #[test]
    fn storage_errors_are_understood_and_never_blame_the_key() {
        let expired = "<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code><Message>Request has expired &amp; \
                       more</Message><HostId>x</HostId></Error>";
        let cases = [
            (
                403,
                expired,
                Fault::Server,
                "storage at bucket.example: HTTP 403: AccessDenied: Request has expired & more",
            ),
            (401, "", Fault::Server, "storage at bucket.example: HTTP 401"),
            (
                404,
                "<Error><Code>NoSuchKey</Code></Error>",
                Fault::NotFound,
                "storage at bucket.example: HTTP 404: NoSuchKey",
            ),
            (
                400,
                "<Error><Code>RequestTimeout</Code></Error>",
                Fault::Timeout,
                "storage at bucket.example: HTTP 400: RequestTimeout",
            ),
            (
                400,
                "<Error><Code>BadDigest</Code></Error>",
                Fault::InvalidRequest,
                "storage at bucket.example: HTTP 400: BadDigest",
            ),
            (
                503,
                "<Error><Code>SlowDown</Code></Error>",
                Fault::Overloaded,
                "storage at bucket.example: HTTP 503: SlowDown",
            ),
            (
                403,
                "no such signature: 0123456789abcdef",
                Fault::Server,
                "storage at bucket.example: HTTP 403: no such signature: […]",
            ),
            (
                403,
                "/key?X-Amz-Signature=0123456789abcdef&X-Amz-Expires=60 is wrong",
                Fault::Server,
                "storage at bucket.example: HTTP 403: /key?[…] is wrong",
            ),
        ];
        for (status, body, fault, message) in cases {
            let failure = refusal(status, body);
            assert_eq!((failure.fault, failure.message.as_str(), failure.status), (fault, message, Some(status)));
        }
    }

    #[test]
    fn redirects_stay_on_https_or_on_this_machine() {
        let secure = client("https://api.together.ai");
        let local = client("http://127.0.0.1:9");
        let at = Url::parse("https://api.together.ai/v1/files/f/content").unwrap();
        // The target; whether the service may redirect there; whether a server on this machine may.
        let cases = [
            ("https://bucket.example/a?sig=1", true, true),
            ("/v2/x", true, true),
            ("http://bucket.example/a", false, false),
            ("http://127.0.0.1:7/a", false, true),
            ("http://localhost:7/a", false, true),
            ("http://[::1]:7/a", false, true),
            ("http://127.0.0.1.example/a", false, false),
            ("https://user@bucket.example/a", false, false),
            ("https://:pw@bucket.example/a", false, false),
            ("file:///etc/passwd", false, false),
            ("https://", false, false),
        ];
        for (location, by_service, by_local) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
            assert_eq!(secure.redirected(&at, 302, &headers).is_ok(), by_service, "{location}");
            assert_eq!(local.redirected(&at, 302, &headers).is_ok(), by_local, "{location}");
        }
        assert!(secure.redirected(&at, 302, &HeaderMap::new()).is_err());
    }

    #[test]
    fn the_key_is_sent_to_one_origin_only() {
        let client = client("https://api.together.ai");
        for (url, ours) in [
            ("https://api.together.ai/v1/files", true),
            ("https://api.together.ai:443/other", true),
            ("https://api.together.ai:8443/v1/files", false),
            ("http://api.together.ai/v1/files", false),
            ("https://x.api.together.ai/v1/files", false),
        ] {
            assert_eq!(client.is_api(&Url::parse(url).unwrap()), ours, "{url}");
        }
    }
}
