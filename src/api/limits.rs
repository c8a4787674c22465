//! Limits and waits in response headers. All of them are optional.
//!
//! Together names requests and tokens a second. `OpenAI`, Groq and others name those of a minute or a day, beside what remains of
//! them and the time until all of it is there again (`12ms`, `6m0s`), from which the span follows.

use std::num::NonZeroU32;
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
/// A limit of a span, what remains of it, and the time until all of it is there again.
const SPAN_OF_REQUESTS: [HeaderName; 3] = [
    HeaderName::from_static("x-ratelimit-limit-requests"),
    HeaderName::from_static("x-ratelimit-remaining-requests"),
    HeaderName::from_static("x-ratelimit-reset-requests"),
];
const SPAN_OF_TOKENS: [HeaderName; 3] = [
    LIMIT_TOKENS,
    HeaderName::from_static("x-ratelimit-remaining-tokens"),
    HeaderName::from_static("x-ratelimit-reset-tokens"),
];
/// The limit that refused a request, and the end of the name of a limit of requests in parallel.
const LIMIT_TYPE: HeaderName = HeaderName::from_static("rate_limit_type");
const PARALLEL: &str = "max_parallel_requests";
/// Spans that are taken for a minute. A second is shorter, and what may be used within an hour or a day is no pace.
const MINUTE: RangeInclusive<f64> = 8.0..=480.0;
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
    /// The service refused the request (429) because others were in flight.
    pub parallel: Option<ParallelLimit>,
}

/// The most requests in parallel, as the refusal of one too many says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParallelLimit {
    /// The number is not named.
    Unnamed,
    /// This many.
    Of(NonZeroU32),
}

impl Limits {
    /// Reads the headers of a response with this status. Missing, negative, invalid and absurd values are left out.
    pub fn read(status: u16, headers: &HeaderMap, now: impl FnOnce() -> SystemTime) -> Self {
        let is_answer = (200..300).contains(&status);
        // All of these names begin so, except the standard Retry-After, which has no meaning on an answer.
        if is_answer && !headers.keys().any(|name| name.as_str().starts_with("x-")) {
            return Self::default();
        }
        let text = |name: HeaderName| headers.get(name).and_then(|v| v.to_str().ok()).map(str::trim);
        let number = |name| text(name).and_then(|t| t.parse::<f64>().ok()).filter(|n| n.is_finite() && *n >= 0.0);
        let rate = |name| number(name).filter(|n| RATES.contains(n));
        let span = |[limit, remaining, reset]: [HeaderName; 3]| {
            Some(Span { limit: rate(limit)?, remaining: number(remaining)?, reset: time(text(reset)?)? })
        };
        let tokens = match span(SPAN_OF_TOKENS) {
            Some(span) => span.per_second(),
            // OpenAI's name of a limit of requests beside it.
            None if headers.contains_key(&SPAN_OF_REQUESTS[0]) => rate(LIMIT_TOKENS).map(|tokens| tokens / 60.0),
            None => rate(LIMIT_TOKENS).or_else(|| rate(TOKEN_LIMIT)),
        };
        let requests = rate(LIMIT).or_else(|| span(SPAN_OF_REQUESTS)?.per_second());
        let rates = Self { requests_per_second: requests, tokens_per_second: tokens, ..Self::default() };
        // On an answer, a hint to wait has no meaning. Skipping it is also faster.
        if is_answer {
            return rates;
        }
        // A date is relative to the server's clock, which its Date header shows.
        let server_now = text(DATE).and_then(|v| httpdate::parse_http_date(v).ok()).unwrap_or_else(now);
        let used_up = |names| span(names).filter(|span| span.remaining < 1.0).map(|span| span.reset);
        // "Now" is no time to wait: the caller knows a better one.
        let later = |seconds: &f64| *seconds > 0.0;
        let wait = number(RETRY_AFTER_MS)
            .map(|ms| ms / 1000.0)
            .filter(later)
            .or_else(|| text(RETRY_AFTER).and_then(|v| retry_after(v, server_now)).filter(later))
            .or_else(|| number(RESET).filter(later))
            .or_else(|| used_up(SPAN_OF_REQUESTS))
            .or_else(|| used_up(SPAN_OF_TOKENS))
            .and_then(|s| Duration::try_from_secs_f64(s).ok())
            .filter(|d| *d <= LONGEST_HINT);
        let parallel = if status == 429 { parallel(text(LIMIT_TYPE), headers) } else { None };
        Self { wait, should_retry: text(SHOULD_RETRY).and_then(|t| t.parse().ok()), parallel, ..rates }
    }
}

/// A limit of a span of time, as `OpenAI`'s headers name it.
struct Span {
    limit: f64,
    remaining: f64,
    /// Seconds until nothing is used.
    reset: f64,
}

impl Span {
    /// The limit a second, if its span is a minute. A limit that is not used yet is that of a minute.
    fn per_second(&self) -> Option<f64> {
        let used = self.limit - self.remaining;
        let seconds = self.reset * self.limit / used;
        let is_minute = used <= 0.0 || self.reset == 0.0 || MINUTE.contains(&seconds);
        is_minute.then_some(self.limit / 60.0)
    }
}

/// Reads the seconds of a time such as `12ms`, `7.66s`, `6m0s` or `1h2m3s`.
fn time(text: &str) -> Option<f64> {
    let (mut rest, mut seconds) = (text, None);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let scale = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => return None,
        };
        seconds = Some(seconds.unwrap_or(0.0) + number.parse::<f64>().ok()? * scale);
        rest = after;
    }
    seconds
}

/// The most requests in parallel, if their number is the reason of a refusal. `limit_type` names the limit that refused.
fn parallel(limit_type: Option<&str>, headers: &HeaderMap) -> Option<ParallelLimit> {
    if limit_type.is_some_and(|limit| limit != PARALLEL) {
        return None;
    }
    let is_limit = |name: &HeaderName| name.as_str().ends_with(PARALLEL) && name.as_str().contains("-limit-");
    let named =
        headers.iter().find(|(name, _)| is_limit(name)).and_then(|(_, value)| value.to_str().ok()?.parse().ok());
    named.map(ParallelLimit::Of).or(limit_type.map(|_| ParallelLimit::Unnamed))
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
            (&[("retry-after", "0")], None),
            (&[("retry-after-ms", "0"), ("retry-after", "0"), ("x-ratelimit-reset", "3")], Some(3.0)),
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
            (&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT"), ("date", "Sun, 06 Nov 1994 08:49:47 GMT")], None),
            (&[("retry-after", "Fri, 15 Jan 2027 08:00:07 GMT")], Some(7.0)),
        ];
        for (headers, expected) in cases {
            assert_eq!(wait(headers), *expected, "{headers:?}");
        }
    }

    #[test]
    fn an_answer_has_no_hint_whatever_its_2xx_is() {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, HeaderValue::from_static("9"));
        headers.insert(LIMIT, HeaderValue::from_static("7"));
        let read = |status| Limits::read(status, &headers, SystemTime::now);
        assert_eq!((read(201).wait, read(201)), (None, read(200)));
        assert!(read(500).wait.is_some());
    }

    #[test]
    fn limits_of_a_minute_are_told_apart_by_their_reset() {
        let read = |pairs: Headers| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
            }
            let limits = Limits::read(200, &headers, SystemTime::now);
            (limits.requests_per_second, limits.tokens_per_second)
        };
        // OpenAI: 60 requests and 150,000 tokens a minute.
        let openai: Headers = &[
            ("x-ratelimit-limit-requests", "60"),
            ("x-ratelimit-remaining-requests", "59"),
            ("x-ratelimit-reset-requests", "1s"),
            ("x-ratelimit-limit-tokens", "150000"),
            ("x-ratelimit-remaining-tokens", "149500"),
            ("x-ratelimit-reset-tokens", "200ms"),
        ];
        assert_eq!(read(openai), (Some(1.0), Some(2500.0)));
        // Groq: 14,400 requests a day are no pace; 18,000 tokens a minute.
        let groq: Headers = &[
            ("x-ratelimit-limit-requests", "14400"),
            ("x-ratelimit-remaining-requests", "14370"),
            ("x-ratelimit-reset-requests", "2m59.56s"),
            ("x-ratelimit-limit-tokens", "18000"),
            ("x-ratelimit-remaining-tokens", "17997"),
            ("x-ratelimit-reset-tokens", "7.66ms"),
        ];
        assert_eq!(read(groq), (None, Some(300.0)));
        // Together: a second.
        let together: Headers = &[("x-ratelimit-limit", "10"), ("x-ratelimit-limit-tokens", "3000")];
        assert_eq!(read(together), (Some(10.0), Some(3000.0)));
        let unused: Headers = &[
            ("x-ratelimit-limit-tokens", "6000"),
            ("x-ratelimit-remaining-tokens", "6000"),
            ("x-ratelimit-reset-tokens", "0s"),
        ];
        assert_eq!(read(unused), (None, Some(100.0)));
        let no_reset: Headers = &[("x-ratelimit-limit-requests", "60"), ("x-ratelimit-limit-tokens", "6000")];
        assert_eq!(read(no_reset), (None, Some(100.0)));
    }

    #[test]
    fn times_with_units_are_read() {
        const SPENT: Headers = &[
            ("x-ratelimit-limit-requests", "3"),
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "6m0s"),
        ];
        let cases = [
            ("12ms", Some(0.012)),
            ("6m0s", Some(360.0)),
            ("1h2m3.5s", Some(3723.5)),
            ("", None),
            ("6", None),
            ("6x", None),
            ("s", None),
            ("1.2.3s", None),
        ];
        for (text, expected) in cases {
            assert_eq!(time(text), expected, "{text}");
        }
        assert_eq!(wait(SPENT), Some(360.0));
    }

    #[test]
    fn a_refusal_for_requests_in_parallel_is_told_apart() {
        let parallel = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            Limits::read(429, &headers, SystemTime::now).parallel
        };
        let limit = ("x-ratelimit-api_key-limit-max_parallel_requests", "2");
        let left = ("x-ratelimit-api_key-remaining-max_parallel_requests", "0");
        let two = NonZeroU32::new(2).map(ParallelLimit::Of);
        assert_eq!(parallel(&[left, limit, ("rate_limit_type", "max_parallel_requests")]), two);
        assert_eq!(parallel(&[limit]), two);
        assert_eq!(parallel(&[("rate_limit_type", "max_parallel_requests")]), Some(ParallelLimit::Unnamed));
        assert_eq!(parallel(&[limit, ("rate_limit_type", "requests")]), None);
        assert_eq!(parallel(&[("retry-after", "60")]), None);
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
