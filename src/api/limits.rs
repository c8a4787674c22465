//! Limits and waits in response headers. All of them are optional.

use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};

/// A longer hint is a mistake or an attack.
const LONGEST_HINT: Duration = Duration::from_hours(24);

/// Believable rates, from one a day. Rates outside are mistakes, and would overflow times.
const RATES: RangeInclusive<f64> = 1.0 / 86_400.0..=1e12;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const LIMIT_TOKENS: HeaderName = HeaderName::from_static("x-ratelimit-limit-tokens");
const TOKEN_LIMIT: HeaderName = HeaderName::from_static("x-tokenlimit-limit");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// The limits in the headers of one response.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Limits {
    /// The wait that the service asks for. It has a meaning on errors only: Together sends it with 200s as well.
    pub wait: Option<Duration>,
    /// Requests a second (`x-ratelimit-limit`), which may be a fraction.
    pub requests_per_second: Option<f64>,
    /// Tokens a second (`x-ratelimit-limit-tokens`, `x-tokenlimit-limit`).
    pub tokens_per_second: Option<f64>,
    /// `x-should-retry`.
    pub should_retry: Option<bool>,
}

impl Limits {
    /// Reads the headers of a response with this status. Missing, negative, invalid and absurd values are left out.
    pub fn read(status: u16, headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Self {
        // All of these names begin so, except the standard Retry-After, which has no meaning on an answer.
        if status == 200 && !headers.keys().any(|name| name.as_str().starts_with("x-")) {
            return Self::default();
        }
        let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let number = |name| text(name).and_then(|t| t.parse::<f64>().ok()).filter(|n| n.is_finite() && *n >= 0.0);
        let rate = |name| number(name).filter(|n| RATES.contains(n));
        let rates = Self {
            wait: None,
            requests_per_second: rate(LIMIT),
            tokens_per_second: rate(LIMIT_TOKENS).or_else(|| rate(TOKEN_LIMIT)),
            should_retry: None,
        };
        // On an answer, a hint to wait has no meaning. Skipping it is also faster.
        if status == 200 {
            return rates;
        }
        // A date is relative to the server's clock, which its Date header shows.
        let server_now = text(DATE).and_then(|v| httpdate::parse_http_date(v).ok()).unwrap_or_else(now);
        let wait = number(RETRY_AFTER_MS)
            .map(|ms| ms / 1000.0)
            .or_else(|| text(RETRY_AFTER).and_then(|v| retry_after(v, server_now)))
            .or_else(|| number(RESET))
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .filter(|d| *d <= LONGEST_HINT);
        Self { wait, should_retry: text(SHOULD_RETRY).and_then(|t| t.parse().ok()), ..rates }
    }
}

/// Reads the seconds in `Retry-After`: an integer, a float or an HTTP date.
pub fn retry_after(value: &str, server_now: SystemTime) -> Option<f64> {
    if let Ok(seconds) = value.parse::<f64>() {
        return (seconds.is_finite() && seconds >= 0.0).then_some(seconds);
    }
    let at = httpdate::parse_http_date(value).ok()?;
    // A date in the past means now.
    Some(at.duration_since(server_now).unwrap_or_default().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    type Headers = &'static [(&'static str, &'static str)];

    fn wait(pairs: Headers) -> Option<f64> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(reqwest::header::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
        Limits::read(429, &headers, || now).wait.map(|d| d.as_secs_f64())
    }

    #[test]
    fn every_form_of_hint_is_read() {
        let cases: &[(Headers, Option<f64>)] = &[
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
        let limits = Limits::read(200, &headers, SystemTime::now);
        assert_eq!(limits.requests_per_second, Some(0.166_666_666_7));
        assert_eq!(limits.tokens_per_second, None);
        for odd in ["1e-300", "-1", "1e300", "inf", "NaN", "", "0x10", "5;w=1"] {
            headers.insert("x-ratelimit-limit", HeaderValue::from_static(odd));
            headers.insert("x-ratelimit-limit-tokens", HeaderValue::from_static(odd));
            assert_eq!(Limits::read(200, &headers, SystemTime::now), Limits::default(), "{odd}");
        }
    }

    use reqwest::header::HeaderValue;
}
