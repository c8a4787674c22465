//! Numbers and times as the page writes them.

/// RFC 3339 to the minute: `2026-09-21 14:13 UTC`.
pub(super) fn minute(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<jiff::Timestamp>() else { return rfc3339.to_owned() };
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Two decimals, enough for a length in a chart.
pub(super) fn hundredths(length: f64) -> f64 {
    (length * 100.0).round() / 100.0
}
