//! Lengths of time. All of llbatch spells them alike: `350ms`, `12.3s`, `2m 05s`, `3h 10m`, `2d 04h`.

use std::time::Duration;

/// Formats a length of time in whole seconds, rounded down: `6s`, `2m 05s`, `3h 10m`. Below a second: `350ms`.
pub fn duration(time: Duration) -> String {
    let s = time.as_secs();
    match s {
        0 if !time.is_zero() => format!("{}ms", time.as_millis()),
        0..60 => format!("{s}s"),
        60..3_600 => format!("{}m {:02}s", s / 60, s % 60),
        3_600..86_400 => format!("{}h {:02}m", s / 3_600, s % 3_600 / 60),
        _ => format!("{}d {:02}h", s / 86_400, s % 86_400 / 3_600),
    }
}

/// Formats a measured time, given in milliseconds. Below a minute it has more digits than [`duration`]: `0ms`, `12.3s`.
pub fn millis(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        _ => duration(Duration::from_millis(ms)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_use_two_units() {
        for (ms, text) in [
            (0, "0s"),
            (350, "350ms"),
            (6_900, "6s"),
            (59_999, "59s"),
            (125_000, "2m 05s"),
            (3_599_000, "59m 59s"),
            (11_400_000, "3h 10m"),
            (187_200_000, "2d 04h"),
        ] {
            assert_eq!(duration(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn measured_times_keep_a_tenth_below_a_minute() {
        for (ms, text) in [(0, "0ms"), (999, "999ms"), (1_000, "1.0s"), (59_999, "59.9s"), (125_900, "2m 05s")] {
            assert_eq!(millis(ms), text);
        }
    }
}
