//! A receiver of the user's own, which is told of the end of a command. It gets no key of a service.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use url::Url;

use super::base_url::is_in_clear;
use super::{connections, error};

/// The address of a receiver. Its text is the origin alone: path, query and user may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct ReceiverUrl(Url);

impl ReceiverUrl {
    /// Reads an address: https, or http to this machine.
    ///
    /// # Errors
    /// The problem with the URL, without its text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text.trim()).map_err(|error| format!("the URL is invalid: {error}"))?;
        match url.scheme() {
            "http" | "https" if url.host_str().is_none() => Err("the URL has no host".to_owned()),
            "http" if is_in_clear(&url) => Err("plain http would send the summary unencrypted".to_owned()),
            "http" | "https" => Ok(Self(url)),
            other => Err(format!("the scheme {other} is not https")),
        }
    }

    /// Returns true if connections to it are encrypted.
    pub fn is_secure(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl fmt::Display for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.origin().ascii_serialization())
    }
}

impl fmt::Debug for ReceiverUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ReceiverUrl({self}/…)")
    }
}

/// A connection to a receiver. It follows no redirect and repeats nothing by itself.
#[derive(Debug)]
pub struct Receiver {
    url: ReceiverUrl,
    http: reqwest::Client,
}

impl Receiver {
    /// Makes a connection. It connects when first used.
    ///
    /// # Errors
    /// A sentence: TLS cannot be set up.
    pub fn new(url: ReceiverUrl, user_agent: &str) -> Result<Self, String> {
        // Only the first call installs it.
        drop(rustls::crypto::ring::default_provider().install_default());
        let built = connections(user_agent, &url.0).build();
        let http = built.map_err(|error| format!("cannot set up HTTP: {}", error::chain(&error)))?;
        Ok(Self { url, http })
    }

    /// Sends a JSON document once. Returns the status; the body of the answer is not read.
    ///
    /// # Errors
    /// The reason why there is no answer, without the path of the URL.
    pub async fn post(&self, body: Bytes, headers: &[(&str, &str)], timeout: Duration) -> Result<u16, String> {
        let mut request = self.http.post(self.url.0.clone()).timeout(timeout).body(body);
        request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        for (name, value) in headers {
            let invalid = |_| format!("the header {name} cannot be sent");
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("{name} is no header"))?;
            request = request.header(name, HeaderValue::from_str(value).map_err(invalid)?);
        }
        match request.send().await {
            Ok(response) => Ok(response.status().as_u16()),
            Err(error) if error.is_timeout() => Err(format!("no answer within {} s", timeout.as_secs_f64())),
            Err(error) => Err(error::chain(&error.without_url())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_travels_encrypted_or_stays_on_this_machine() {
        for (text, shown) in [
            ("https://hooks.example/T0/secret?token=canary", "https://hooks.example"),
            ("https://canary:canary@hooks.example:8443/", "https://hooks.example:8443"),
            ("http://127.0.0.1:9/x", "http://127.0.0.1:9"),
            ("http://[::1]:9", "http://[::1]:9"),
            ("http://box.localhost/", "http://box.localhost"),
        ] {
            let url = ReceiverUrl::parse(text).unwrap();
            assert_eq!(url.to_string(), shown);
            assert!(!format!("{url:?}").contains("canary"));
        }
        for text in
            ["http://hooks.example/canary", "http://10.0.0.5/canary", "ftp://canary", "canary", "", "file:///canary"]
        {
            assert!(!ReceiverUrl::parse(text).unwrap_err().contains("canary"), "{text}");
        }
    }
}
