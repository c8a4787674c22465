//! What a response says of limits, waiting and errors: whatever it is, waits stay finite and bounded, and the pace goes on.
//!
//! Input: two bytes of status, header lines, an empty line, the body. The body is read as an answer and as an error, and
//! its bytes drive a limiter that meets these headers.
#![no_main]

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use libfuzzer_sys::{Corpus, fuzz_target};
use llbatch::door::{
    Answer, Class, Delay, Failure, Limiter, Limits, RateOptions, Reply, Timing, delay, poll, read, retry_after,
};
use llbatch_fuzz::members;

const DAY: Duration = Duration::from_hours(24);
const MINUTE: Duration = Duration::from_mins(1);
const CLASSES: [Class; 6] =
    [Class::NotSent, Class::AboveRate, Class::NoCapacity, Class::Ambiguous, Class::RowFatal, Class::JobFatal];

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some(([high, low], rest)) = data.split_first_chunk::<2>() else { return Corpus::Reject };
    let status = 100 + u16::from_be_bytes([*high, *low]) % 500;
    let split = rest.windows(2).position(|two| two == b"\n\n");
    let (head, body) = split.map_or((rest, &[][..]), |at| (&rest[..at], &rest[at + 2..]));
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n') {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(&line[colon + 1..]))
        {
            headers.append(name, value);
        }
    }
    let limits = limits(status, &headers);
    waits(&limits);
    reply(status, limits, body);
    pace(&limits, body);
    Corpus::Keep
});

fn limits(status: u16, headers: &HeaderMap) -> Limits {
    let now = SystemTime::UNIX_EPOCH + Duration::from_hours(500_000);
    let limits = Limits::read(status, headers, || now);
    assert_eq!(Limits::read(status, headers, || now), limits);
    assert!(limits.wait.is_none_or(|wait| wait <= DAY && status != 200), "{limits:?}");
    for rate in [limits.requests_per_second, limits.tokens_per_second].into_iter().flatten() {
        assert!(rate.is_finite() && rate > 0.0, "{limits:?}");
    }
    if let Some(text) = headers.get("retry-after").and_then(|value| value.to_str().ok()).map(str::trim) {
        let seconds = retry_after(text, now);
        assert!(seconds.is_none_or(|seconds| seconds.is_finite() && seconds >= 0.0), "{seconds:?}");
        // What every server may say is understood to the second.
        let whole = text.parse::<u32>().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()));
        if let Some(whole) = whole {
            assert_eq!(seconds, Some(f64::from(whole)));
            let alone = !headers.contains_key("retry-after-ms") && status != 200;
            if alone && Duration::from_secs(whole.into()) <= DAY {
                assert_eq!(limits.wait, Some(Duration::from_secs(whole.into())));
            }
        }
    }
    limits
}

fn waits(limits: &Limits) {
    for (failures, chance) in [(0, 0.0), (1, 1.0), (7, 0.5), (u32::MAX, 1.0)] {
        for class in CLASSES {
            let wait = delay(class, failures, limits.wait, chance);
            let hint = limits.wait.unwrap_or_default();
            assert!(wait >= hint && wait <= hint.max(MINUTE) + hint / 10 + Duration::from_millis(1), "{wait:?}");
        }
        let wait = poll::interval(failures, limits.wait, chance);
        assert!(wait <= limits.wait.map_or(MINUTE, |own| own + own / 10) + Duration::from_millis(1), "{wait:?}");
    }
}

fn reply(status: u16, limits: Limits, body: &[u8]) {
    for html in [false, true] {
        let reply = Reply { status, limits, html, body: body.to_vec().into() };
        for failure in [Failure::from_reply(&reply), Failure::from_call(&reply)] {
            assert!(failure.message.starts_with("HTTP ") && failure.message.chars().count() < 520, "{failure:?}");
            assert_eq!(failure.status, Some(status));
            assert!(failure.wait.is_none() || matches!(status, 429 | 503), "{failure:?}");
            assert_eq!(failure.class() == Class::AboveRate, status == 429);
            assert!(!failure.create_unknown() || !matches!(status, 401 | 402 | 429), "{failure:?}");
        }
        match read(&reply) {
            Answer::Good { body: answer, .. } => {
                assert!(!answer.contains(['\n', '\r']));
                let text = std::str::from_utf8(body).expect("an answer that is no text");
                // As it came, but for its wrapping, the white space that would be ends of lines, and what is no JSON.
                let plain = |text: &str| text.replace(['\n', '\r', ' '], "");
                assert!(
                    plain(text).ends_with(plain(&answer).as_str())
                        || ["NaN", "Infinity"].iter().any(|no| text.contains(no)),
                    "{answer}"
                );
                assert!(members(&answer).is_some());
            }
            Answer::Bad { failure, body, .. } => {
                let why = failure.message;
                assert!(!why.is_empty() && why.chars().count() < 700, "{why}");
                assert!(body.is_none_or(|body| !body.contains(['\n', '\r'])));
            }
        }
    }
}

/// Whatever is answered, the limiter lets a request through after the waits that it names.
fn pace(limits: &Limits, steps: &[u8]) {
    let mut now = Instant::now();
    let rates = RateOptions { open: steps.first().is_some_and(|step| step & 1 == 0), ..RateOptions::default() };
    let mut limiter = Limiter::new(now, rates);
    let (mut sent_at, mut charge) = (now, None);
    for step in steps.iter().take(64) {
        let much = 10_u64.checked_pow((step >> 3).into()).unwrap_or(u64::MAX);
        let chance = f64::from(step >> 3) / 31.0;
        match step & 7 {
            0 => now += Duration::from_millis(much.min(100_000_000)),
            1 => limiter.failed(now, CLASSES[usize::from(step >> 3) % 4]),
            2 | 3 => {
                let (began, mut asked) = (now, 0);
                charge = loop {
                    let until = match limiter.take(now, much) {
                        Ok(slot) => break slot.charge,
                        Err(Delay { until, .. }) => until,
                    };
                    assert!(until > now && until <= began + DAY * 3, "a wait of {:?}", until - began);
                    now = until;
                    asked += 1;
                    if asked > 10 {
                        // One request probes, and nobody else is let through before it is answered.
                        limiter.succeeded(true, chance);
                        assert!(asked < 30, "no end of waiting");
                    }
                };
                sent_at = now;
            }
            4 => limiter.succeeded(step & 8 != 0, chance),
            5 => limiter.accepted(Timing { sent_at, now, in_flight: 1, charge }, limits, Some(much)),
            6 => limiter.throttled(Timing { sent_at, now, in_flight: 1, charge }, Class::AboveRate, limits, chance),
            _ => limiter.throttled(Timing { sent_at, now, in_flight: 1, charge }, Class::NoCapacity, limits, chance),
        }
        assert!(limiter.rate().is_none_or(|rate| rate > 0.01 && rate <= 1e6), "{:?}", limiter.rate());
    }
}
