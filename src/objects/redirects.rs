//! Requests to the web that follow redirects, and send a token to its own host only.

use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, LOCATION};
use reqwest::{Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::connector::client_for;
use super::failure::{FailureKind, ObjectFailure};
use crate::api::is_on_this_machine;

/// Redirects that one request follows: to storage, to another region, and some to spare.
const MAX_HOPS: usize = 5;

/// The commit of a dataset, in Hugging Face's answers.
const COMMIT: HeaderName = HeaderName::from_static("x-repo-commit");

/// A token, and the only origin that may see it.
#[derive(Debug, Clone)]
pub(super) struct HostToken {
    pub token: SecretString,
    pub host: Url,
}

/// An answer, and the commit that it or a redirect to it named.
pub(super) struct WebAnswer {
    pub response: Response,
    pub commit: Option<String>,
}

/// Sends a GET with `headers`, and follows redirects. Any status but a redirect is an answer.
pub(super) async fn get(url: &Url, headers: &HeaderMap, token: Option<&HostToken>) -> Result<WebAnswer, ObjectFailure> {
    let mut at = url.clone();
    let mut commit: Option<String> = None;
    for _ in 0..=MAX_HOPS {
        let client =
            client_for(at.as_str()).map_err(|_| ObjectFailure::new(FailureKind::Unfit, "TLS cannot be set up"))?;
        let mut request = client.get(at.clone()).headers(headers.clone());
        // The bytes that count are those on the server's disk.
        request = request.header(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        if let Some(token) = token.filter(|token| token.host.origin() == at.origin()) {
            request = request.header(AUTHORIZATION, bearer(&token.token)?);
        }
        let response = request.send().await.map_err(|error| unreached(&error))?;
        let named = response.headers().get(COMMIT).and_then(|commit| commit.to_str().ok());
        commit = commit.or_else(|| named.map(str::to_owned));
        if !is_redirect(response.status()) {
            return Ok(WebAnswer { response, commit });
        }
        let next = response.headers().get(LOCATION).and_then(|to| to.to_str().ok()).and_then(|to| at.join(to).ok());
        let next = next.ok_or_else(|| ObjectFailure::new(FailureKind::Unfit, "a redirect to nowhere"))?;
        // A server elsewhere must not lead to this machine, nor from an encrypted way to a plain one.
        let local = is_on_this_machine(at.as_str());
        if next.scheme() != "https" && !(local && next.scheme() == "http" && is_on_this_machine(next.as_str()))
            || !local && is_on_this_machine(next.as_str())
        {
            return Err(ObjectFailure::new(FailureKind::Unfit, "a redirect to plain http or to this machine"));
        }
        at = next;
    }
    Err(ObjectFailure::new(FailureKind::Unfit, "too many redirects"))
}

fn bearer(token: &SecretString) -> Result<HeaderValue, ObjectFailure> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
        .map_err(|_| ObjectFailure::new(FailureKind::Denied, "HF_TOKEN has characters that no token has"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The failure of an exchange that broke.
pub(super) fn unreached(error: &reqwest::Error) -> ObjectFailure {
    let told = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke"
    };
    ObjectFailure::new(FailureKind::Unreachable, told)
}
