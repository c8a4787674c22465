//! Durations as people write them.

use std::time::Duration;

/// Parses a duration such as `90s`, `10m` or `1h 30m`. A bare number is seconds. The error is a sentence.
pub fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is not a duration such as 90s, 10m or 1h30m");
    if let Ok(seconds) = text.trim().parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).map_err(|_| bad());
    }
    let span: jiff::SignedDuration = text.trim().parse().map_err(|_| bad())?;
    Duration::try_from(span).map_err(|_| bad())
}

/// Parses a duration that may also be in days: `30d`. The error is a sentence.
pub fn long_duration(text: &str) -> Result<Duration, String> {
    match text.trim().strip_suffix('d').and_then(|days| days.trim().parse::<f64>().ok()) {
        Some(days) => Duration::try_from_secs_f64(days * 86_400.0)
            .map_err(|_| format!("`{text}` is not a duration such as 30d or 12h")),
        None => duration(text),
    }
}
