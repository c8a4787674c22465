//! The proxy between this machine and the service, if the environment names one.

use hyper_util::client::proxy::matcher::Matcher;

/// The proxy for requests to `base`, without its user and password. It is read from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`
/// and `NO_PROXY`, in upper or lower case, as the connections themselves read them.
pub fn proxy_of(base: &url::Url) -> Option<String> {
    shown(&Matcher::from_system(), base)
}

fn shown(matcher: &Matcher, base: &url::Url) -> Option<String> {
    let proxy = matcher.intercept(&base.as_str().parse().ok()?)?;
    let uri = proxy.uri();
    let port = uri.port_u16().map(|port| format!(":{port}")).unwrap_or_default();
    Some(format!("{}://{}{port}", uri.scheme_str().unwrap_or("http"), uri.host()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let matcher = Matcher::builder().https("http://me:secret@proxy.example:3128").no("inside.example").build();
        let of = |base: &str| shown(&matcher, &base.parse().unwrap());
        assert_eq!(of("https://api.together.ai/v1").as_deref(), Some("http://proxy.example:3128"));
        assert_eq!(of("https://api.inside.example/v1"), None);
        assert_eq!(of("http://127.0.0.1:8080/v1"), None);
    }
}
