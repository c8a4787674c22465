//! Times and fractions as text.

use std::time::Duration;

/// Reads `2s`, `500ms`, `1.5m` or plain seconds.
pub fn duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(unit_at);
    let scale = match unit {
        "ms" => Some(0.001),
        "s" | "" => Some(1.0),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    let seconds = scale.and_then(|scale| Some(digits.parse::<f64>().ok()? * scale));
    let time = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    time.ok_or_else(|| format!("{text}: not a time such as 2s, 500ms or 1m"))
}

/// Reads a number from 0 to 1.
pub fn fraction(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| format!("{text}: not a number from 0 to 1"))
}
