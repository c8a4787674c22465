//! Headers that the user adds to every request to a service.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

/// Headers that llbatch sets itself, or that belong to the connection.
const TAKEN: [&str; 11] = [
    "accept",
    "accept-encoding",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "expect",
    "host",
    "te",
    "transfer-encoding",
    "user-agent",
];
/// Parts of the names of headers that identify a user.
const CREDENTIALS: [&str; 9] =
    ["auth", "cookie", "credential", "key", "password", "secret", "session", "signature", "token"];

/// A header of the user. Its value may be a secret.
#[derive(Debug, Clone)]
pub struct OwnHeader {
    name: HeaderName,
    value: SecretString,
}

impl OwnHeader {
    /// Checks a header.
    ///
    /// # Errors
    /// The problem, without the value.
    pub fn new(name: &str, value: SecretString) -> Result<Self, String> {
        let shown = name.escape_debug();
        let parsed =
            HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{shown}` is no name of a header"))?;
        if TAKEN.contains(&parsed.as_str()) {
            return Err(format!("`{shown}` is set by llbatch itself"));
        }
        if HeaderValue::from_str(value.expose_secret()).is_err() {
            return Err(format!("the value of `{shown}` contains characters that are invalid in an HTTP header"));
        }
        Ok(Self { name: parsed, value })
    }

    /// Its name, in lower case.
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns true if its value may identify the user, by its name: it then travels like a key.
    pub fn may_hold_key(&self) -> bool {
        CREDENTIALS.iter().any(|part| self.name.as_str().contains(part))
    }

    /// The value, if it must be removed from what a service says.
    pub(super) fn secret(&self) -> Option<SecretString> {
        // The word before it, such as `Bearer`, is none.
        let secret = self.value.expose_secret().trim().rsplit(' ').next().unwrap_or_default();
        self.may_hold_key().then(|| SecretString::from(secret.to_owned()))
    }

    /// Adds it to `headers`, marked sensitive.
    pub(super) fn add_to(&self, headers: &mut HeaderMap) {
        if let Ok(mut value) = HeaderValue::from_str(self.value.expose_secret()) {
            value.set_sensitive(true);
            headers.insert(self.name.clone(), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(name: &str, value: &str) -> Result<OwnHeader, String> {
        OwnHeader::new(name, SecretString::from(value.to_owned()))
    }

    #[test]
    fn an_invalid_header_is_refused_without_its_value() {
        for (name, value) in [("X Org", "canary"), ("", "canary"), ("X-Org", "canary\r\nx: y"), ("Host", "canary")] {
            let problem = header(name, value).unwrap_err();
            assert!(!problem.contains("canary"), "{problem}");
        }
        assert!(!format!("{:?}", header("X-Org", "canary").unwrap()).contains("canary"));
    }

    #[test]
    fn headers_that_identify_a_user_are_known_by_their_names() {
        for (name, holds) in
            [("Authorization", true), ("api-key", true), ("X-Api-Key", true), ("Cookie", true), ("X-Org", false)]
        {
            assert_eq!(header(name, "x").unwrap().may_hold_key(), holds, "{name}");
        }
    }
}
