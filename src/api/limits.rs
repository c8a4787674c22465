//! What response headers say of limits and of waiting. All of it is optional; none of it is required.

use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};

/// A hint longer than this is a mistake or an attack, not advice.
const LONGEST_HINT: Duration = Duration::from_secs(24 * 3600);

/// The headers of one response.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// How long the service asks to wait. Means something on 429 and 503 only: Together sends it on 200s as well.
    pub wait: Option<Duration>,
    /// Requests a second (`x-ratelimit-limit`), may be a fraction.
    pub requests_per_second: Option<f64>,
    /// Tokens a second (`x-ratelimit-limit-tokens`, `x-tokenlimit-limit`).
    pub tokens_per_second: Option<f64>,
    /// `x-should-retry`.
    pub should_retry: Option<bool>,
}

impl Limits {
    /// Reads the headers; what is absent, negative, not a number or more than a day is left out.
    #[must_use]
    pub fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let number = |name: &str| text(name).and_then(|t| t.parse::<f64>().ok()).filter(|n| n.is_finite() && *n >= 0.0);
        let positive = |name: &str| number(name).filter(|n| *n > 0.0);
        // A date is meant against the server's own clock, which its Date header tells.
        let server_now = headers
            .get(DATE)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| httpdate::parse_http_date(v).ok())
            .unwrap_or(now);
        let wait = number("retry-after-ms")
            .map(|ms| ms / 1000.0)
            .or_else(|| {
                headers.get(RETRY_AFTER).and_then(|v| v.to_str().ok()).and_then(|v| retry_after(v.trim(), server_now))
            })
            .or_else(|| number("x-ratelimit-reset"))
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .filter(|d| *d <= LONGEST_HINT);
        Self {
            wait,
            requests_per_second: positive("x-ratelimit-limit"),
            tokens_per_second: positive("x-ratelimit-limit-tokens").or_else(|| positive("x-tokenlimit-limit")),
            should_retry: text("x-should-retry").and_then(|t| t.parse().ok()),
        }
    }
}

/// Seconds from the value of `Retry-After`: an integer, a float or an HTTP date.
#[must_use]
pub fn retry_after(value: &str, server_now: SystemTime) -> Option<f64> {
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some(seconds);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    // A date in the past means: now.
    Some(at.duration_since(server_now).unwrap_or_default().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(pairs: &[(&str, &str)]) -> Option<f64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers
                .insert(reqwest::header::HeaderName::try_from(*name).expect("a name"), value.parse().expect("a value"));
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        Limits::read(&headers, now).wait.map(|d| d.as_secs_f64())
    }

    #[test]
    fn every_form_of_hint_is_read() {
        let cases: &[(&[(&str, &str)], Option<f64>)] = &[
            (&[], None),
            (&[("retry-after", "2")], Some(2.0)),
            (&[("retry-after", " 0.5 ")], Some(0.5)),
            (&[("retry-after", "0")], Some(0.0)),
            (&[("retry-after-ms", "250"), ("retry-after", "9")], Some(0.25)),
            (&[("x-ratelimit-reset", "6")], Some(6.0)),
            (&[("retry-after", "soon"), ("x-ratelimit-reset", "3")], Some(3.0)),
            (&[("retry-after", "-1")], None),
            (&[("retry-after", "NaN")], None),
            (&[("retry-after", "inf")], None),
            (&[("retry-after", "86401")], None),
            (&[("retry-after", "1e300")], None),
            // The date counts from the server's clock, however wrong that is.
            (
                &[("retry-after", "Sun, 06 Nov 1994 08:49:47 GMT"), ("date", "Sun, 06 Nov 1994 08:49:37 GMT")],
                Some(10.0),
            ),
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:47 GMT")], Some(0.0)),
            (&[("retry-after", "Fri, 15 Jan 2027 08:00:07 GMT")], Some(7.0)),
        ];
        for (headers, expected) in cases {
            assert_eq!(wait(headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn limits_may_be_fractions_and_zero_is_no_limit() {
        let mut headers = HeaderMap::new();
        headers.insert("x-ratelimit-limit", HeaderValue::from_static("0.1666666667"));
        headers.insert("x-tokenlimit-limit", HeaderValue::from_static("0"));
        let limits = Limits::read(&headers, SystemTime::now());
        assert_eq!(limits.requests_per_second, Some(0.166_666_666_7));
        assert_eq!(limits.tokens_per_second, None);
    }

    use reqwest::header::HeaderValue;
}
