//! Numbers as people read them: counts, sizes, rates and times.

use std::time::Duration;

/// `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    grouped(n.into())
}

/// Digits in groups of three: `1,234,567`.
pub fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 row`, `523 rows`. The plural is made with an `s`.
pub fn plural(n: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(n), if n == 1 { "" } else { "s" })
}

/// A count of batches, as [`plural`] cannot spell it: `1 batch`, `2 batches`.
pub fn batches(n: usize) -> String {
    if n == 1 { "1 batch".to_owned() } else { format!("{} batches", count(n as u64)) }
}

/// The verb for so many: `has`, `have`.
pub const fn have(n: usize) -> &'static str {
    if n == 1 { "has" } else { "have" }
}

/// A sentence without its end: `1 batch of j-… has not ended`.
pub fn unended(n: usize, of: &str) -> String {
    format!("{} of {of} {} not ended", batches(n), have(n))
}

/// A large number in few characters: `999`, `9.4k`, `81k`, `1.2M`. What is no number or below zero is shown as `0`.
pub fn short(n: f64) -> String {
    scaled(n, &["", "k", "M", "G", "T"])
}

/// A size in decimal units, as the service counts them: `512 B`, `3.4 MB`.
pub fn bytes(n: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let text = scaled(n as f64, &[" B", " kB", " MB", " GB", " TB"]);
    text
}

/// Something a second, without the unit: `0.3`, `81`, `9.4k`.
pub fn rate(per_second: f64) -> String {
    if (0.05..9.95).contains(&per_second) {
        let text = format!("{per_second:.1}");
        return text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned);
    }
    short(per_second)
}

/// A length of time: `350ms`, `6s`, `2m 05s`, `3h 10m`, `2d 04h`. Cut, not rounded.
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

/// A length of time in a sentence, to two figures at most: `6 s`, `2 min`, `3 h 10 min`.
pub fn about(time: Duration) -> String {
    let s = time.as_secs();
    // Rounded to minutes before it is split, or 1 h 59.7 min would become "1 h 60 min".
    let minutes = (s + 30) / 60;
    match s {
        0..90 => format!("{s} s"),
        90..3_570 => format!("{minutes} min"),
        _ if minutes >= 48 * 60 => format!("{} days", (minutes + 720) / 1_440),
        _ if minutes.is_multiple_of(60) => format!("{} h", minutes / 60),
        _ => format!("{} h {} min", minutes / 60, minutes % 60),
    }
}

/// Part of a whole, cut to a whole number: 99.9% is not yet `100%`.
pub fn percent(part: u64, whole: u64) -> String {
    let value = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{value}%")
}

fn scaled(n: f64, units: &[&str]) -> String {
    let mut n = if n.is_finite() { n.max(0.0) } else { 0.0 };
    let mut unit = 0;
    // 999.6 would be rounded to 1000: it belongs to the next unit.
    while n >= 999.5 && unit + 1 < units.len() {
        n /= 1_000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && n < 9.95);
    format!("{n:.digits$}{}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_three() {
        for (n, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (12_345, "12,345"),
            (999_999, "999,999"),
            (1_000_000, "1,000,000"),
        ] {
            assert_eq!(count(n), text);
        }
        assert_eq!(plural(1, "row"), "1 row");
        assert_eq!(plural(0, "row"), "0 rows");
        assert_eq!(plural(1_200, "token"), "1,200 tokens");
    }

    #[test]
    fn large_numbers_are_short_and_carry() {
        for (n, text) in [
            (0.0, "0"),
            (0.4, "0"),
            (999.4, "999"),
            (999.6, "1.0k"),
            (9_420.0, "9.4k"),
            (9_949.0, "9.9k"),
            (9_960.0, "10k"),
            (81_400.0, "81k"),
            (999_700.0, "1.0M"),
            (1_234_567.0, "1.2M"),
            (f64::NAN, "0"),
            (f64::INFINITY, "0"),
            (-3.0, "0"),
        ] {
            assert_eq!(short(n), text, "{n}");
        }
    }

    #[test]
    fn sizes_are_decimal() {
        for (n, text) in [(0, "0 B"), (999, "999 B"), (1_000, "1.0 kB"), (3_400_000, "3.4 MB"), (100_000_000, "100 MB")]
        {
            assert_eq!(bytes(n), text);
        }
    }

    #[test]
    fn slow_rates_keep_a_digit() {
        for (n, text) in
            [(0.0, "0"), (0.01, "0"), (0.26, "0.3"), (2.0, "2"), (9.96, "10"), (81.4, "81"), (2_500.0, "2.5k")]
        {
            assert_eq!(rate(n), text, "{n}");
        }
    }

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
        for (s, text) in [
            (6, "6 s"),
            (89, "89 s"),
            (90, "2 min"),
            (3_569, "59 min"),
            (3_570, "1 h"),
            (7_199, "2 h"),
            (11_400, "3 h 10 min"),
            (260_000, "3 days"),
        ] {
            assert_eq!(about(Duration::from_secs(s)), text, "{s}");
        }
    }

    #[test]
    fn all_but_one_is_not_all() {
        assert_eq!(percent(999, 1_000), "99%");
        assert_eq!(percent(1_000, 1_000), "100%");
        assert_eq!(percent(0, 0), "0%");
    }
}
