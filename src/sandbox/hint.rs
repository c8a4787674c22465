//! The headers by which a refusal tells the client when to retry.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

/// The header that carries the time to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum HintStyle {
    /// No header.
    None,
    /// `Retry-After` in whole seconds, and `X-Ratelimit-Reset` with the same, as recorded live.
    #[default]
    Seconds,
    /// `Retry-After` as an HTTP date.
    Date,
    /// `retry-after-ms`.
    Millis,
    /// `X-Ratelimit-Reset` alone.
    Reset,
}

impl std::str::FromStr for HintStyle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text {
            "none" => Self::None,
            "seconds" => Self::Seconds,
            "date" => Self::Date,
            "ms" => Self::Millis,
            "reset" => Self::Reset,
            _ => return Err(format!("unknown hint style {text:?}: use none, seconds, date, ms or reset")),
        })
    }
}

/// The time for which the client must wait.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Hint {
    pub style: HintStyle,
    pub wait: Duration,
}

impl Hint {
    /// Writes the hint into `headers`.
    pub fn write(self, headers: &mut HeaderMap) {
        let seconds = self.wait.as_secs() + u64::from(self.wait.subsec_nanos() > 0);
        let mut put = |name, value: HeaderValue| drop(headers.insert(HeaderName::from_static(name), value));
        match self.style {
            HintStyle::None => {}
            HintStyle::Seconds => {
                put("retry-after", seconds.into());
                put("x-ratelimit-reset", seconds.into());
            }
            HintStyle::Date => {
                let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(seconds));
                if let Ok(date) = HeaderValue::from_str(&date) {
                    put("retry-after", date);
                }
            }
            HintStyle::Millis => put("retry-after-ms", u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX).into()),
            HintStyle::Reset => put("x-ratelimit-reset", seconds.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_style_writes_its_headers() {
        let wait = Duration::from_millis(1200);
        let cases = [
            (HintStyle::None, vec![]),
            (HintStyle::Seconds, vec![("retry-after", "2"), ("x-ratelimit-reset", "2")]),
            (HintStyle::Millis, vec![("retry-after-ms", "1200")]),
            (HintStyle::Reset, vec![("x-ratelimit-reset", "2")]),
        ];
        for (style, expected) in cases {
            let mut headers = HeaderMap::new();
            Hint { style, wait }.write(&mut headers);
            let got: Vec<_> = headers.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
            assert_eq!(got, expected, "{style:?}");
        }
        let mut headers = HeaderMap::new();
        Hint { style: HintStyle::Date, wait }.write(&mut headers);
        let date = httpdate::parse_http_date(headers["retry-after"].to_str().unwrap()).unwrap();
        let ahead = date.duration_since(SystemTime::now()).unwrap();
        assert!(ahead <= Duration::from_secs(2), "{ahead:?}");
    }
}
