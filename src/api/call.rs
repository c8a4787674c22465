//! Small calls: one request, one answer in memory, one line in the log.

use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::{ACCEPT, CONTENT_LENGTH, HeaderMap, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};

use super::error::{Failure, Fault};
use super::response::AnyResponse;
use super::{Client, Reply};

/// Time for a whole small call, as in the official clients.
pub(super) const SMALL_CALL: Duration = Duration::from_mins(1);

/// A timer that wakes this much too late: the process was stopped.
pub(super) const LATE: Duration = Duration::from_millis(500);
/// Time to read what has arrived meanwhile.
pub(super) const CATCH_UP: Duration = Duration::from_secs(3);

impl Client {
    /// Sends a `GET` of `path` (with its leading slash) with the key. Any status is a [`Reply`].
    ///
    /// # Errors
    /// No whole answer within `timeout`.
    pub async fn get(&self, path: &str, timeout: Duration) -> Result<Reply, Failure> {
        let request = self.http.get(self.url(path));
        Ok(self.exchange(request, &Method::GET, path, timeout).await?.1)
    }

    /// Sends a `POST` of JSON.
    pub(super) async fn post_json(&self, path: &str, body: impl Into<Bytes>) -> Result<Reply, Failure> {
        let request = self.http.post(self.url(path)).body(body.into());
        Ok(self.exchange(request, &Method::POST, path, SMALL_CALL).await?.1)
    }

    /// Sends a call without a body, and without `Content-Type`: some servers reject empty JSON.
    pub(super) async fn bodiless(&self, method: Method, path: &str) -> Result<Reply, Failure> {
        let mut request = self.authorized(method.clone(), path)?;
        if method == Method::POST {
            // Without it, some proxies answer 411.
            request = request.header(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        Ok(self.exchange(request, &method, path, SMALL_CALL).await?.1)
    }

    /// Prepares a request over the bare connections, with the key and no other default header.
    pub(super) fn authorized(&self, method: Method, path: &str) -> Result<RequestBuilder, Failure> {
        let url = self.url(path);
        let request = self.bare.http(&url)?.request(method, url);
        Ok(request.header(ACCEPT, HeaderValue::from_static("application/json")).headers(self.personal.clone()))
    }

    /// Reads the whole answer to an upload, whose bytes took their own time.
    pub(super) async fn small(&self, mut response: Response, path: &str) -> Result<Reply, Failure> {
        if response.status().is_success() {
            self.clock.set(response.headers());
        }
        self.keyless(response.headers_mut());
        let whole = in_time(SMALL_CALL, pin!(self.read(AnyResponse::Reqwest(Box::new(response))))).await;
        let late = || Failure::new(Fault::Timeout, format!("the answer of {path} did not arrive whole"));
        let mut reply = whole.unwrap_or_else(|| Err(late()))?;
        reply.body = self.without_key(reply.body);
        Ok(reply)
    }

    /// Sends once and reads the whole answer. Any status is a [`Reply`].
    pub(super) async fn exchange(
        &self,
        request: RequestBuilder,
        method: &Method,
        path: &str,
        timeout: Duration,
    ) -> Result<(HeaderMap, Reply), Failure> {
        let started = Instant::now();
        let exchange = async {
            let mut response = sent(request).await?;
            if response.status().is_success() {
                // Other answers may come from a proxy, with its clock.
                self.clock.set(response.headers());
            }
            self.keyless(response.headers_mut());
            let headers = response.headers().clone();
            let mut reply = self.read(AnyResponse::Reqwest(Box::new(response))).await?;
            reply.body = self.without_key(reply.body);
            Ok((headers, reply))
        };
        let late = || Failure::new(Fault::Timeout, format!("no answer within {} s", timeout.as_secs_f64()));
        let result = in_time(timeout, pin!(exchange)).await.unwrap_or_else(|| Err(late()));
        match &result {
            Ok((_, reply)) => logged(method, path, Some(reply.status), started),
            Err(failure) => logged(method, path, failure.status, started),
        }
        result
    }
}

/// Waits for `exchange` no longer than `time`. A process that was stopped meanwhile, or a machine that slept, first reads what
/// has arrived. `None`: the time is up. The exchange comes pinned, since a future that is handed on takes its memory twice.
pub(super) async fn in_time<T>(time: Duration, mut exchange: Pin<&mut impl Future<Output = T>>) -> Option<T> {
    let started = Instant::now();
    if let Ok(result) = tokio::time::timeout(time, exchange.as_mut()).await {
        return Some(result);
    }
    if started.elapsed() < time + LATE {
        return None;
    }
    tokio::time::timeout(CATCH_UP, exchange).await.ok()
}

/// Sends a request, and waits for the head of its response.
pub(super) async fn sent(request: RequestBuilder) -> Result<Response, Failure> {
    match request.send().await {
        Ok(response) => Ok(response),
        Err(error) => Err(Failure::from_reqwest(&error).await),
    }
}

/// Logs a call. `path` has no query, which may hold a signature.
pub(super) fn logged(method: &Method, path: &str, status: Option<u16>, started: Instant) {
    let ms = started.elapsed().as_millis();
    let outcome = status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
    tracing::debug!("{method} {path}: {outcome} in {ms} ms");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::Limits;
    use crate::api::scripted::{Scripted, client};

    #[tokio::test]
    async fn a_get_carries_the_key_and_any_status_is_a_reply() {
        let server = Scripted::start(|_| vec!["HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}".into()]);
        let reply = client(&server.base).get("/models", SMALL_CALL).await.unwrap();
        assert_eq!((reply.status, &reply.body[..]), (404, &b"{}"[..]));
        let seen = server.seen();
        assert_eq!(seen[0].line, "GET /v1/models HTTP/1.1");
        assert_eq!(seen[0].header("authorization"), Some("Bearer test-key-0123456789"));
    }

    #[tokio::test]
    async fn a_call_without_an_answer_times_out() {
        let server = Scripted::start(|_| vec![String::new()]);
        let failure = client(&server.base).get("/models", Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(failure.fault, Fault::Timeout);
    }

    #[tokio::test]
    async fn a_post_without_a_body_has_a_length_and_no_content_type() {
        let server = Scripted::start(|_| vec!["HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".into()]);
        client(&server.base).bodiless(Method::POST, "/files/file-1/preprocess").await.unwrap();
        let seen = server.seen();
        assert_eq!(seen[0].header("content-length"), Some("0"));
        assert_eq!(seen[0].header("content-type"), None);
        assert_eq!(seen[0].header("authorization"), Some("Bearer test-key-0123456789"));
    }

    #[tokio::test]
    async fn a_repeated_key_is_taken_out_of_the_reply() {
        let body = "test-key-0123456789 is wrong";
        let length = body.len();
        let server = Scripted::start(|_| vec![format!("HTTP/1.1 401 No\r\ncontent-length: {length}\r\n\r\n{body}")]);
        let reply = client(&server.base).get("/x", SMALL_CALL).await.unwrap();
        assert_eq!(&reply.body[..], b"[key] is wrong");
    }

    #[test]
    fn for_files_and_batches_403_is_the_key_and_404_no_model() {
        let call = |status, body: &str| {
            let limits = Limits { wait: Some(Duration::from_secs(7)), ..Limits::default() };
            Failure::from_call(&Reply { status, limits, html: false, body: Bytes::copy_from_slice(body.as_bytes()) })
        };
        let context = r#"{"error": "no access in this context"}"#;
        let unserved = r#"{"error": {"message": "no", "code": "model_not_available"}}"#;
        let cases = [
            (403, context, Fault::Auth, false, None),
            (400, context, Fault::InvalidRequest, false, None),
            (404, r#"{"error": "batch not found"}"#, Fault::NotFound, false, None),
            (400, unserved, Fault::NotFound, true, None),
            (429, "", Fault::RateLimited, false, Some(7)),
            (503, "", Fault::Overloaded, false, Some(7)),
            (500, "", Fault::Server, false, None),
        ];
        for (status, body, fault, model, wait) in cases {
            let found = call(status, body);
            assert_eq!((found.fault, found.model_unknown), (fault, model), "{status} {body}");
            assert_eq!(found.wait, wait.map(Duration::from_secs), "{status} {body}");
        }
    }
}
