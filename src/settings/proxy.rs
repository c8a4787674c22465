//! The proxy that the environment names. The HTTP library uses it, and silently ignores an invalid one. This check does
//! not.

use crate::error::{Error, Result};

/// The variables with a proxy for `https`; the first one that is set counts. `HTTP_PROXY` is not used, because llbatch
/// sends plain HTTP to the local machine only.
pub(super) const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

/// The characters between `//` and the next `/`, beside letters and digits.
const AUTHORITY: &[u8] = b"-._~:!$&'()*+,;=%[]@";

/// Checks that the library accepts `text` as a proxy. The error does not repeat it, since it may hold a password.
pub(super) fn check(name: &str, text: &str) -> Result<()> {
    let hint = "for example http://proxy.example:3128; percent-encode a user and a password before the host";
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    if !matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        let scheme = if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) { scheme } else { "that" };
        let message = format!("{name}: unsupported proxy scheme {scheme}; use http or https");
        return Err(Error::usage(message).hint(hint));
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let plain = rest.bytes().all(|b| b.is_ascii_graphic())
        && authority.bytes().all(|b| b.is_ascii_alphanumeric() || AUTHORITY.contains(&b))
        && authority.matches('@').count() <= 1;
    let there = url::Url::parse(&format!("http://{authority}")).is_ok_and(|url| url.has_host());
    if plain && there {
        return Ok(());
    }
    Err(Error::usage(format!("{name} is not a valid proxy URL")).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    #[test]
    fn proxy_that_the_library_would_ignore_is_an_error() {
        for good in [
            "http://proxy.example:3128",
            "HTTP://proxy.example",
            "https://user:p%40ss@proxy.example:443/",
            "proxy.example:3128",
            "http://[::1]:3128",
            "http://user@10.0.0.1:80/path",
        ] {
            assert!(check("HTTPS_PROXY", good).is_ok(), "{good}");
        }
        for bad in [
            "http://user:p@ss@proxy.example:3128",
            "http://user:pass@proxy.example:31 28",
            "http://user:pa\"ss@proxy.example",
            "socks5h://user:pass@proxy.example:1080",
            "http://user:pass@",
            "http://",
            "http://user:pass@proxy.example:port",
            "pass word://proxy",
            "http://user:paß@proxy.example",
        ] {
            let error = check("HTTPS_PROXY", bad).expect_err(bad);
            assert_eq!((error.exit, error.hint.is_some()), (Exit::Usage, true));
            assert!(error.to_string().starts_with("HTTPS_PROXY") && !error.to_string().contains("pa"), "{error}");
        }
    }
}
