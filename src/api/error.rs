//! Failures of requests, classified by the remedy: by status and code. The length of a context has no code, so only
//! [`ErrorBody::about_context`] reads the text.

use std::error::Error as StdError;
use std::path::Path;
use std::time::Duration;

use super::Reply;
pub use super::connect::Setup;
use super::error_body::ErrorBody;
use crate::text::shortened;

/// Longest server message that is kept: enough to understand, too little to fill a disk.
pub(crate) const MAX_MESSAGE: usize = 500;

/// The remedies for a failed request. Whether it was sent decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Never reached the service: send again freely.
    NotSent,
    /// Refused without a charge because the rate was too high (429): slow down, then send again.
    AboveRate,
    /// Refused without a charge because the service lacks capacity (503): wait, then send again.
    NoCapacity,
    /// The service may have worked on the request and billed it: sending it again may pay twice.
    Ambiguous,
    /// The service answered and billed the request, and the answer is of no use. Sending it again would buy the same.
    Spent,
    /// This request will never be answered.
    RowFatal,
    /// No request will be answered: the reason is the key, money, or a local file.
    JobFatal,
}

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// DNS, connect, TLS or proxy: nothing was sent.
    Connect,
    /// No connection can be made until the user changes something.
    Setup(Setup),
    /// The connection broke after something was sent.
    Broken,
    /// No answer in time.
    Timeout,
    /// An invalid answer.
    BadResponse,
    /// A whole answer that is of no use, and would be the same again.
    Unusable,
    /// An answer that was cut off at its token limit before any text.
    Truncated,
    /// An answer that a filter ended before any text.
    Filtered,
    /// The service refused the request itself.
    InvalidRequest,
    /// Too long for the context (403 and others).
    ContextLength,
    /// No such model or path.
    NotFound,
    /// The key is not accepted.
    Auth,
    /// Payment is required.
    Payment,
    /// 429.
    RateLimited,
    /// 503.
    Overloaded,
    /// Any other 5xx.
    Server,
    /// A local file cannot be read or written; the service is not involved.
    Local,
}

/// A request without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub fault: Fault,
    /// HTTP status, if a response began.
    pub status: Option<u16>,
    /// The message of the service or the transport, shortened.
    pub message: String,
    /// The status that an error under a 2xx names, or that its code has elsewhere.
    pub named: Option<u16>,
    /// The model does not exist or is not served (404, 501, or `model_not_available`).
    pub model_unknown: bool,
    /// The wait that the service asks for; only 429 and 503 have one.
    pub wait: Option<Duration>,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Failure {}

impl Failure {
    /// A failure without a response.
    pub const fn new(fault: Fault, message: String) -> Self {
        Self { fault, status: None, message, named: None, model_unknown: false, wait: None }
    }

    /// A 2xx that is no answer.
    pub(super) fn no_answer(fault: Fault, status: u16, message: String) -> Self {
        Self { status: Some(status), ..Self::new(fault, message) }
    }

    /// The status that says what an error means: the one that it names itself, or the one that it came with.
    pub fn meant_status(&self) -> Option<u16> {
        self.named.or(self.status)
    }

    /// An invalid answer.
    pub(super) fn bad(status: u16, why: &str) -> Self {
        let message = format!("HTTP {status}: {}", shortened(why, MAX_MESSAGE));
        Self { status: Some(status), ..Self::new(Fault::BadResponse, message) }
    }

    /// A local file that fails; `doing` is "cannot read" or "cannot write".
    pub(super) fn local(doing: &str, path: &Path, error: &std::io::Error) -> Self {
        Self::new(Fault::Local, format!("{doing} {}: {error}", path.display()))
    }

    /// Reads the error of a request that got no response. A proxy that refuses is asked for its status.
    pub(super) async fn from_reqwest(error: &reqwest::Error) -> Self {
        if error.is_connect() || error.is_builder() {
            return super::connect::failure(error, error.url()).await;
        }
        Self::new(Fault::Broken, chain(error))
    }

    /// Reads the error of a request that went to `url` without reqwest and got no response.
    pub(super) async fn from_direct(error: &super::direct::Error, url: &url::Url) -> Self {
        if error.is_connect() {
            return super::connect::failure(error, Some(url)).await;
        }
        Self::new(Fault::Broken, chain(error))
    }

    /// The connection broke in the middle of a response.
    pub(super) fn broken(error: &(dyn StdError + 'static), status: u16) -> Self {
        let fault = if (200..300).contains(&status) { Fault::BadResponse } else { Fault::Broken };
        let mut failure = Self::new(fault, format!("the answer was cut off: {}", chain(error)));
        failure.status = Some(status);
        failure
    }

    /// The remedy.
    pub const fn class(&self) -> Class {
        match self.fault {
            Fault::Connect => Class::NotSent,
            Fault::RateLimited => Class::AboveRate,
            Fault::Overloaded => Class::NoCapacity,
            Fault::Broken | Fault::Timeout | Fault::BadResponse | Fault::Server => Class::Ambiguous,
            Fault::Unusable | Fault::Truncated | Fault::Filtered => Class::Spent,
            Fault::InvalidRequest | Fault::ContextLength | Fault::NotFound => Class::RowFatal,
            Fault::Auth | Fault::Payment | Fault::Local | Fault::Setup(_) => Class::JobFatal,
        }
    }

    /// Returns true if no byte of the request can have been sent.
    pub const fn never_left(&self) -> bool {
        matches!(self.fault, Fault::Connect | Fault::Setup(_))
    }

    /// Returns true for a refusal of the key or of payment that may concern one row or model alone: a firewall, a moderation
    /// filter, a model that this key may not use or pay for.
    pub fn may_concern_one_row(&self) -> bool {
        self.fault == Fault::Payment || (self.fault == Fault::Auth && self.meant_status() == Some(403))
    }

    /// The part of the user's setup that prevents every connection.
    pub const fn setup(&self) -> Option<Setup> {
        match self.fault {
            Fault::Setup(setup) => Some(setup),
            _ => None,
        }
    }

    /// Returns true if a failed create may have created something. Sending again could create (and bill) a second one.
    /// A 503 counts here: an overloaded front does not know what the servers behind it did.
    pub const fn create_unknown(&self) -> bool {
        matches!(self.class(), Class::Ambiguous | Class::NoCapacity)
    }

    /// Reads a response with a status other than 2xx.
    pub fn from_reply(reply: &Reply) -> Self {
        let said = ErrorBody::read(&reply.body);
        let (fault, model_unknown) = said.fault(reply.status);
        let message = match said.message {
            Some(message) if !message.trim().is_empty() => {
                format!("HTTP {}: {}", reply.status, shortened(&message, MAX_MESSAGE))
            }
            _ => {
                let text = String::from_utf8_lossy(&reply.body);
                let text = if reply.html { page_words(&text).into() } else { text };
                format!("HTTP {}: {}", reply.status, shortened(text.trim(), MAX_MESSAGE))
                    .trim_end_matches([':', ' '])
                    .to_owned()
            }
        };
        let wait = reply.limits.wait.filter(|_| matches!(reply.status, 429 | 503));
        Self { fault, status: Some(reply.status), message, named: None, model_unknown, wait }
    }

    /// Reads the response of a call about files or batches. No such call has a prompt that could be too long. A 403 is
    /// about the key, and a 404 is about the file or batch, not a model.
    pub fn from_call(reply: &Reply) -> Self {
        let mut failure = Self::from_reply(reply);
        if failure.fault == Fault::ContextLength {
            failure.fault = if reply.status == 403 { Fault::Auth } else { Fault::InvalidRequest };
        }
        failure.model_unknown &= reply.status == 400;
        failure
    }
}

/// Names a web page by its title.
fn page_words(page: &str) -> String {
    let title =
        page.split_once("<title>").and_then(|(_, rest)| rest.split_once("</title>")).map(|(title, _)| title.trim());
    title.filter(|title| !title.is_empty()).map_or("an HTML page".to_owned(), |title| format!("an HTML page, {title}"))
}

/// An error's causes, without the URL (which may hold a signature).
pub(super) fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut causes: Vec<String> = Vec::new();
    // The error of a client says only that it has a cause.
    let client = error.is::<reqwest::Error>() || error.is::<super::direct::Error>();
    let mut next = if client { error.source() } else { Some(error) };
    while let Some(cause) = next {
        let text = cause.to_string();
        // reqwest's prefix to the actual reason.
        if !text.starts_with("client error (") && !causes.iter().any(|c| c.contains(&text)) {
            causes.push(text);
        }
        next = cause.source();
    }
    if causes.is_empty() {
        "the request could not be made".to_owned()
    } else {
        shortened(&causes.join(": "), MAX_MESSAGE)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::api::limits::Limits;

    fn failure(status: u16, body: &str) -> Failure {
        Failure::from_reply(&Reply {
            status,
            limits: Limits::default(),
            html: body.starts_with('<'),
            body: Bytes::copy_from_slice(body.as_bytes()),
        })
    }

    #[test]
    fn every_recorded_error_shape_is_read() {
        let cases = [
            (401, r#"{"error": {"message": "Unauthorized"}}"#, Fault::Auth, "HTTP 401: Unauthorized"),
            (
                401,
                r#"{"id":"x","error":{"message":"Invalid API key","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
                Fault::Auth,
                "HTTP 401: Invalid API key",
            ),
            (402, r#"{"error": "Credits needed"}"#, Fault::Payment, "HTTP 402: Credits needed"),
            (429, r#"{"error":{"message":"slow","type":"credit_limit"}}"#, Fault::RateLimited, "HTTP 429: slow"),
            (429, r#"{"error":"slow","error_type":"dynamic_request_limited"}"#, Fault::RateLimited, "HTTP 429: slow"),
            (
                429,
                r#"{"error":{"message":"quota","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                Fault::Payment,
                "HTTP 429: quota",
            ),
            (
                429,
                r#"{"error":{"message":"inactive","type":"billing_not_active"}}"#,
                Fault::Payment,
                "HTTP 429: inactive",
            ),
            (
                400,
                r#"{"error":{"message":"limit","type":"invalid_request_error","code":"billing_hard_limit_reached"}}"#,
                Fault::Payment,
                "HTTP 400: limit",
            ),
            (503, r#"{"error":{"message":"busy","type":"service_unavailable"}}"#, Fault::Overloaded, "HTTP 503: busy"),
            (521, "error code: 521", Fault::Server, "HTTP 521: error code: 521"),
            (502, "<html>bad gateway</html>", Fault::Server, "HTTP 502: an HTML page"),
            (500, "", Fault::Server, "HTTP 500"),
            (
                501,
                r#"{"error":{"code":501,"message":"no embeddings"}}"#,
                Fault::InvalidRequest,
                "HTTP 501: no embeddings",
            ),
            (
                403,
                r#"{"error":{"message":"input tokens + max_tokens exceed the context length"}}"#,
                Fault::ContextLength,
                "HTTP 403: input tokens + max_tokens exceed the context length",
            ),
            (403, r#"{"error":{"message":"Forbidden"}}"#, Fault::Auth, "HTTP 403: Forbidden"),
            (
                400,
                r#"{"error":{"message":{"message":"inner words","type":"BadRequestError","param":null,"code":400},"type":"invalid_request_error"}}"#,
                Fault::InvalidRequest,
                "HTTP 400: inner words",
            ),
            (422, r#"{"error":{"message":"temperature","code":7}}"#, Fault::InvalidRequest, "HTTP 422: temperature"),
            (307, "", Fault::BadResponse, "HTTP 307"),
        ];
        for (status, body, fault, message) in cases {
            let found = failure(status, body);
            assert_eq!((found.fault, found.message.as_str(), found.status), (fault, message, Some(status)), "{body}");
        }
    }

    #[test]
    fn an_unserved_model_is_distinguished_from_other_refusals() {
        assert!(failure(404, r#"{"error":{"message":"no such model","code":"model_not_available"}}"#).model_unknown);
        let found = failure(
            400,
            r#"{"error":{"message":"Unable to access non-serverless model","code":"model_not_available"}}"#,
        );
        assert!(found.model_unknown && found.fault == Fault::NotFound);
        assert!(!failure(400, r#"{"error":{"message":"bad temperature"}}"#).model_unknown);
    }

    #[test]
    fn a_create_may_have_worked_unless_it_was_refused_or_never_sent() {
        let open = [200, 201, 302, 408, 409, 500, 502, 503, 504, 521, 529].map(|s| (s, true));
        let refused = [400, 401, 402, 403, 404, 413, 422, 429].map(|s| (s, false));
        for (status, unknown) in open.into_iter().chain(refused) {
            assert_eq!(failure(status, "").create_unknown(), unknown, "{status}");
        }
        for (fault, unknown) in [(Fault::Connect, false), (Fault::Broken, true), (Fault::Timeout, true)] {
            assert_eq!(Failure::new(fault, String::new()).create_unknown(), unknown, "{fault:?}");
        }
    }

    #[test]
    fn long_messages_are_cut_on_a_character() {
        let found = failure(500, &format!(r#"{{"error":"{}"}}"#, "é".repeat(5000)));
        assert!(found.message.chars().count() < 600);
        assert!(found.message.ends_with('…'));
    }

    #[test]
    fn only_unsent_requests_are_free_to_resend() {
        let class = |fault| Failure::new(fault, String::new()).class();
        assert_eq!(class(Fault::Connect), Class::NotSent);
        for fault in [Fault::Broken, Fault::Timeout, Fault::BadResponse, Fault::Server] {
            assert_eq!(class(fault), Class::Ambiguous);
        }
    }
}
