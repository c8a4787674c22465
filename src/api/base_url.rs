//! Base URLs, as users copy them from a manual or a server's log.

use std::fmt;

use url::Url;

/// Paths of endpoints. A base URL that ends in one was copied from a description of that endpoint.
const ENDPOINTS: [&str; 10] = [
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/rerank",
    "/images/generations",
    "/audio/speech",
    "/audio/transcriptions",
    "/audio/translations",
    "/batches",
    "/models",
];

/// A base URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvalidBase {
    /// The problem.
    pub why: String,
    /// The URL that the user probably means.
    pub right: Option<String>,
}

impl fmt::Display for InvalidBase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl InvalidBase {
    /// The remedy.
    pub fn hint(&self) -> Option<String> {
        self.right.as_ref().map(|right| format!("the base URL is probably {right}"))
    }

    fn because(why: String) -> Self {
        Self { why, right: None }
    }

    /// Adds `text` as the right URL, if it is one.
    fn instead(why: String, text: &str) -> Self {
        Self { why, right: canonical_base(text).ok().map(String::from) }
    }
}

/// Brings a base URL into its canonical form: without a final slash and without the path of an endpoint. A bare host gets
/// `/v1`; any other path is used as given.
///
/// # Errors
/// The problem with the URL.
pub fn canonical_base(text: &str) -> Result<Url, InvalidBase> {
    let given = text.trim();
    if !given.contains("://") {
        let scheme = if is_local(given) { "http" } else { "https" };
        let why = format!("`{text}` lacks http:// or https://");
        return Err(InvalidBase::instead(why, &format!("{scheme}://{}", given.trim_start_matches('/'))));
    }
    let mut url = Url::parse(given).map_err(|e| InvalidBase::because(format!("`{text}` is not a valid URL: {e}")))?;
    if url.host_str().is_none() {
        return Err(InvalidBase::because(format!("`{text}` has no host")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidBase::because("a base URL must not contain a user or a password".to_owned()));
    }
    match url.scheme() {
        "https" | "http" => {}
        other => return Err(InvalidBase::because(format!("`{text}`: scheme `{other}` is not http or https"))),
    }
    if url.query().is_some() || url.fragment().is_some() {
        url.set_query(None);
        url.set_fragment(None);
        return Err(InvalidBase::instead("a base URL must not contain a query (? or #)".to_owned(), url.as_str()));
    }
    let path = url.path().trim_end_matches('/');
    let path = endpoint_of(path).and_then(|endpoint| path.strip_suffix(endpoint)).unwrap_or(path);
    let path = path.trim_end_matches('/').to_owned();
    url.set_path(if path.is_empty() { "/v1" } else { &path });
    Ok(url)
}

/// The path of an endpoint at the end of a URL, which is no part of the base.
pub fn endpoint_of(url: &str) -> Option<&'static str> {
    let url = url.trim().trim_end_matches('/');
    ENDPOINTS.into_iter().find(|endpoint| url.ends_with(endpoint))
}

/// Returns true if the host of a URL is this machine, by its name and not by a look-up.
pub fn is_loopback(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let name = host == "localhost" || host.ends_with(".localhost");
    name || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| {
        // Connections to "any address" reach this machine.
        ip.is_loopback() || ip == std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
    })
}

/// Returns true if requests to `base` leave this machine unencrypted. No key may travel with them.
pub fn is_in_clear(base: &Url) -> bool {
    base.scheme() == "http" && !base.host_str().is_some_and(is_loopback)
}

/// Returns true if a service is a server on this machine, by the name that jobs have for it.
pub fn is_on_this_machine(service: &str) -> bool {
    service == "sandbox" || service.parse::<Url>().is_ok_and(|url| url.host_str().is_some_and(is_loopback))
}

/// Returns true if a URL without a scheme names this machine.
fn is_local(text: &str) -> bool {
    let whole = text.split(['/', '?', '#']).next().unwrap_or_default();
    let host = whole.rsplit_once(':').filter(|(_, port)| port.is_empty() || port.parse::<u16>().is_ok());
    is_loopback(host.map_or(whole, |(host, _)| host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_is_used_as_given_and_only_a_bare_host_gets_a_version() {
        let cases = [
            ("https://api.together.ai", "https://api.together.ai/v1"),
            ("https://api.together.ai/", "https://api.together.ai/v1"),
            (" https://api.together.ai/v1/ ", "https://api.together.ai/v1"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
            ("http://[::1]:1/v1", "http://[::1]:1/v1"),
            ("http://0.0.0.0:18931/v1", "http://0.0.0.0:18931/v1"),
            ("http://box.localhost:1/v1", "http://box.localhost:1/v1"),
            ("https://ark.example/api/v3/", "https://ark.example/api/v3"),
            ("https://g.example/v1beta/openai/", "https://g.example/v1beta/openai"),
            ("http://127.0.0.1:1/v1/chat/completions", "http://127.0.0.1:1/v1"),
            ("https://ark.example/api/v3/embeddings/", "https://ark.example/api/v3"),
            ("https://host.example/v1/models", "https://host.example/v1"),
        ];
        for (text, base) in cases {
            let found = canonical_base(text).unwrap();
            assert_eq!(found.as_str(), base, "{text}");
            assert_eq!(canonical_base(found.as_str()).unwrap(), found, "it is its own canonical form");
        }
        assert_eq!(endpoint_of("http://127.0.0.1:1/v1/chat/completions/"), Some("/chat/completions"));
        assert_eq!(endpoint_of("http://127.0.0.1:1/v1"), None);
    }

    #[test]
    fn plain_http_stays_on_this_machine_by_its_name() {
        let cases = [
            ("http://127.0.0.1:1", false),
            ("http://127.9.9.9/v1", false),
            ("http://[::1]:8000/v1", false),
            ("http://0.0.0.0:8000", false),
            ("http://box.localhost", false),
            ("https://10.0.0.5", false),
            ("http://api.together.ai/v1", true),
            ("http://10.0.0.5:8000", true),
            ("http://localhost.example", true),
            ("http://vllm.local", true),
            ("http://127.0.0.1.example", true),
        ];
        for (text, clear) in cases {
            assert_eq!(is_in_clear(&canonical_base(text).unwrap()), clear, "{text}");
        }
    }

    #[test]
    fn an_invalid_base_url_is_refused_with_the_right_one() {
        let cases = [
            ("127.0.0.1:18931/v1", "lacks http", Some("http://127.0.0.1:18931/v1")),
            ("localhost:18931", "lacks http", Some("http://localhost:18931/v1")),
            ("127.0.0.1:", "lacks http", Some("http://127.0.0.1/v1")),
            ("0.0.0.0:8000/v1/chat/completions", "lacks http", Some("http://0.0.0.0:8000/v1")),
            ("api.together.ai/v1", "lacks http", Some("https://api.together.ai/v1")),
            ("https://host.example/v1?key=1", "query", Some("https://host.example/v1")),
            ("https://host.example/#top", "query", Some("https://host.example/v1")),
            ("ftp://x", "scheme `ftp`", None),
            ("https://user:pw@host.example/v1", "password", None),
            ("not a url", "lacks http", None),
            ("", "lacks http", None),
        ];
        for (text, why, right) in cases {
            let found = canonical_base(text).unwrap_err();
            assert!(found.why.contains(why), "{text}: {found}");
            assert_eq!(found.right.as_deref(), right, "{text}");
        }
    }
}
