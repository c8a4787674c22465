//! Texts as people read them: counts, plurals, sizes, rates, times, widths, aligned columns, visible control characters.

mod escape;
mod formula;
pub mod glob;
mod grid;
mod time;
mod wrap;

use unicode_width::UnicodeWidthStr;

#[cfg(test)]
pub use escape::ESCAPES;
pub use escape::{escape_bytes, one_line, visible};
pub use formula::{answer_columns, needs_guard, unguarded};
pub use grid::{Align, Grid};
pub use time::{duration, millis};
pub use wrap::wrapped;

/// Formats `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    grouped(n.into())
}

/// Groups digits by three, as [`count`] does, for numbers beyond 64 bits.
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

/// Formats a count with its noun: `1 row`, `523 rows`, `2 batches`.
pub fn plural(n: u64, noun: &str) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(n))
}

/// Formats a count of batches: `1 batch`, `2 batches`.
pub fn batches(n: usize) -> String {
    plural(n as u64, "batch")
}

/// Returns the verb that agrees with a count: `has`, `have`.
pub const fn have(n: usize) -> &'static str {
    agree(n as u64, "has", "have")
}

/// Returns the word that agrees with a count.
pub const fn agree(n: u64, one: &'static str, many: &'static str) -> &'static str {
    if n == 1 { one } else { many }
}

/// Writes a sentence without its full stop: `1 batch of j-… has not ended`.
pub fn unended(n: usize, of: &str) -> String {
    format!("{} of {of} {} not ended", batches(n), have(n))
}

/// Cuts a text after `max` characters, and marks the cut with `…`.
pub fn shortened(text: &str, max: usize) -> String {
    match text.char_indices().nth(max) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Shortens a large number: `999`, `9.4k`, `81k`, `1.2M`. Negative and non-finite numbers become `0`.
pub fn short(n: f64) -> String {
    scaled(n, &["", "k", "M", "G", "T"])
}

/// Formats a size in decimal units, as the service counts them: `512 B`, `3.4 MB`.
pub fn bytes(n: u64) -> String {
    scaled(n as f64, &[" B", " kB", " MB", " GB", " TB"])
}

/// Formats a rate per second without its unit: `0.3`, `81`, `9.4k`.
pub fn rate(per_second: f64) -> String {
    if (0.05..9.95).contains(&per_second) {
        let text = format!("{per_second:.1}");
        return text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned);
    }
    short(per_second)
}

/// Formats a share of a whole, rounded down: 99.9% is not yet `100%`.
pub fn percent(part: u64, whole: u64) -> String {
    let value = (u128::from(part) * 100).checked_div(u128::from(whole)).unwrap_or(0);
    format!("{value}%")
}

/// Returns the columns that a text takes on a terminal.
pub fn width(text: &str) -> usize {
    text.width()
}

/// Cuts a text to `width` columns; the last of them is `…` if anything was cut.
pub fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut end = 0;
    for (i, c) in text.char_indices() {
        // One column is for the mark.
        if text[..i + c.len_utf8()].width() >= width {
            break;
        }
        end = i + c.len_utf8();
    }
    if width == 0 { String::new() } else { format!("{}…", &text[..end]) }
}

/// Puts words on lines of at most `width` columns. A longer word has a line of its own.
pub fn fill<S: AsRef<str>>(words: impl IntoIterator<Item = S>, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words {
        let word = word.as_ref();
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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

/// The end of an opening line: the parameters that rows set themselves.
pub fn own_parameters(names: &[&str]) -> String {
    if names.is_empty() { String::new() } else { format!("; rows set {}", names.join(", ")) }
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
        assert_eq!([plural(1, "batch"), batches(2)], ["1 batch", "2 batches"]);
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
    fn all_but_one_is_not_all() {
        assert_eq!(percent(999, 1_000), "99%");
        assert_eq!(percent(1_000, 1_000), "100%");
        assert_eq!(percent(0, 0), "0%");
    }

    #[test]
    fn text_is_cut_between_characters() {
        for (text, width, expected) in [
            ("abc", 3, "abc"),
            ("abcd", 3, "ab…"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("ab", 1, "…"),
            ("ab", 0, ""),
        ] {
            assert_eq!(cut(text, width), expected, "{text} in {width}");
        }
    }

    #[test]
    fn words_fill_lines_and_a_long_word_stands_alone() {
        assert_eq!(
            fill("one two 日本語 internationalisation x".split(' '), 11),
            ["one two", "日本語", "internationalisation", "x"]
        );
        assert!(fill([""; 0], 10).is_empty());
    }
}
