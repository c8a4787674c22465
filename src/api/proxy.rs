//! The proxy between this machine and the service, if the environment names one.

use std::fmt;

use hyper_util::client::proxy::matcher::Matcher;
use reqwest::header::HeaderValue;

use super::base_url::is_loopback;

/// The address of a proxy. Its text leaves out the user and the password.
#[derive(Debug, Clone)]
pub struct ProxyAddress {
    scheme: String,
    host: String,
    port: Option<u16>,
    /// The value of `Proxy-Authorization`, marked sensitive.
    pub(super) login: Option<HeaderValue>,
}

impl ProxyAddress {
    /// Host and port, if the proxy is spoken to without TLS.
    pub(super) fn plain_address(&self) -> Option<(&str, u16)> {
        (self.scheme == "http").then(|| (self.host.trim_matches(['[', ']']), self.port.unwrap_or(80)))
    }
}

impl fmt::Display for ProxyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

/// The proxy for requests to `base`. It is read from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY`, in upper or
/// lower case, as the connections themselves read them.
pub fn proxy_of(base: &url::Url) -> Option<ProxyAddress> {
    // This machine is reached without one.
    if base.host_str().is_some_and(is_loopback) {
        return None;
    }
    address(&Matcher::from_system(), base)
}

fn address(matcher: &Matcher, base: &url::Url) -> Option<ProxyAddress> {
    let proxy = matcher.intercept(&base.as_str().parse().ok()?)?;
    let uri = proxy.uri();
    Some(ProxyAddress {
        scheme: uri.scheme_str().unwrap_or("http").to_owned(),
        host: uri.host()?.to_owned(),
        port: uri.port_u16(),
        login: proxy.basic_auth().cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let matcher = Matcher::builder().https("http://me:secret@proxy.example:3128").no("inside.example").build();
        let of = |base: &str| address(&matcher, &base.parse().unwrap()).map(|proxy| proxy.to_string());
        assert_eq!(of("https://api.together.ai/v1").as_deref(), Some("http://proxy.example:3128"));
        assert_eq!(of("https://api.inside.example/v1"), None);
        assert_eq!(of("http://127.0.0.1:8080/v1"), None);
    }
}
