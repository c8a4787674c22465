//! The notice of `--notify`: a POST of the summary, signed if the config file names a secret.

use std::fmt::Write;
use std::time::Duration;

use bytes::Bytes;
use ring::hmac;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::{sleep, timeout};

use crate::api::{Receiver, ReceiverUrl};

/// The waits before each try. With five answers that never come they fill a minute.
const WAITS: [Duration; 5] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(3), Duration::from_secs(4)];
/// The longest time for one try.
const EACH: Duration = Duration::from_secs(10);

/// The receiver of a notice.
#[derive(Debug)]
pub struct Webhook {
    /// Its address.
    pub url: ReceiverUrl,
    /// The secret that signs it.
    pub secret: Option<SecretString>,
}

impl Webhook {
    /// Sends `document`, up to five times. `job` is a part of the key by which a receiver knows a repeated notice.
    ///
    /// # Errors
    /// The words of its failure, without the path of the URL.
    pub(super) async fn send(&self, document: &str, job: &str, limit: Duration) -> Result<(), String> {
        let at = jiff::Timestamp::now();
        let key = format!("{}-{:x}-{:08x}", job.replace(' ', "-"), at.as_millisecond(), fastrand::u32(..));
        let seconds = at.as_second().to_string();
        let signature = self.secret.as_ref().map(|secret| signature(secret, &seconds, document));
        let mut headers = vec![("Idempotency-Key", key.trim_start_matches('-')), ("X-Llbatch-Timestamp", &*seconds)];
        headers.extend(signature.as_deref().map(|signature| ("X-Llbatch-Signature", signature)));
        let agent = concat!("llbatch/", env!("CARGO_PKG_VERSION"));
        let receiver = Receiver::new(self.url.clone(), agent)?;
        let body = Bytes::copy_from_slice(document.as_bytes());
        let mut last = String::new();
        let tries = async {
            for wait in WAITS {
                sleep(wait).await;
                last = match receiver.post(body.clone(), &headers, EACH).await {
                    Ok(status) => match reception(status) {
                        Reception::Taken => return Ok(()),
                        Reception::Refused(why) => return Err(format!("{}: {why}", self.url)),
                        Reception::TryAgain => format!("HTTP {status}"),
                    },
                    Err(why) => why,
                };
            }
            Err(format!("{}: {last}, after {} tries", self.url, WAITS.len()))
        };
        match timeout(limit, tries).await {
            Ok(told) => told,
            Err(_) => Err(format!("{}: no success within a minute; {last}", self.url)),
        }
    }
}

/// The meaning of an answer's status.
#[derive(Debug, PartialEq, Eq)]
enum Reception {
    Taken,
    Refused(String),
    TryAgain,
}

fn reception(status: u16) -> Reception {
    match status {
        200..=299 => Reception::Taken,
        300..=399 => Reception::Refused(format!("HTTP {status}, and redirects are not followed")),
        408 | 425 | 429 | 500..=599 => Reception::TryAgain,
        _ => Reception::Refused(format!("HTTP {status}")),
    }
}

/// Signs `TIMESTAMP.BODY`.
fn signature(secret: &SecretString, timestamp: &str, body: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.expose_secret().as_bytes());
    let tag = hmac::sign(&key, format!("{timestamp}.{body}").as_bytes());
    let mut signature = "sha256=".to_owned();
    for byte in tag.as_ref() {
        // Writing to a string cannot fail.
        let _ = write!(signature, "{byte:02x}");
    }
    signature
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signature_is_that_of_other_implementations() {
        // printf '1764510000.{"a":1}' | openssl dgst -sha256 -hmac whsec_test
        let signed = signature(&"whsec_test".to_owned().into(), "1764510000", "{\"a\":1}");
        assert_eq!(signed, "sha256=2ffcaee4ca806ad31e3de480014e1aaade5d8f052f6b9c615cff5e421765d9bb");
    }

    #[test]
    fn only_failures_that_may_pass_are_tried_again() {
        for (status, again) in [(408, true), (425, true), (429, true), (500, true), (503, true), (501, true)] {
            assert_eq!(reception(status) == Reception::TryAgain, again, "{status}");
        }
        for status in [301, 307, 400, 401, 403, 404, 410, 101] {
            assert!(matches!(reception(status), Reception::Refused(_)), "{status}");
        }
        assert_eq!([200, 202, 204].map(reception), [Reception::Taken, Reception::Taken, Reception::Taken]);
    }

    #[test]
    fn five_tries_that_time_out_fit_into_a_minute() {
        assert_eq!(WAITS.iter().sum::<Duration>() + EACH * 5, Duration::from_mins(1));
    }
}
