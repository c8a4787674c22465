//! What the progress display says, as pure functions of counts, rates and width.

use std::time::{Duration, Instant};

use unicode_width::UnicodeWidthStr;

use super::progress::Snapshot;
use super::rates::Rates;
use super::table::cut;
use super::{Paint, escape};
use crate::price::Nanos;
use crate::text::{about, count, duration, percent, plural, rate, short};

/// The bar is not drawn in less than this, and not longer than the other: both would only be noise.
const BAR: std::ops::RangeInclusive<usize> = 8..=50;

/// One thing to say, and how much it matters (0 most) when there is no room for all.
struct Part {
    text: String,
    rank: u8,
    paint: Option<Paint>,
}

fn part(rank: u8, text: String) -> Part {
    Part { text, rank, paint: None }
}

/// The two lines for a terminal, joined by a newline: how far, and how it goes. No line is wider than `width`;
/// what matters least goes first. Colours are added if `colour`.
pub fn terminal(snapshot: &Snapshot, rates: &Rates, now: Instant, width: usize, colour: bool) -> String {
    format!("{}\n{}", how_far(snapshot, rates, width), join(how_it_goes(snapshot, rates, now), width, colour))
}

fn how_far(snapshot: &Snapshot, rates: &Rates, width: usize) -> String {
    if snapshot.total == 0 {
        return cut(&format!("  {}", plural(snapshot.done, "row")), width);
    }
    let mut parts = vec![
        part(0, format!("{}/{}", count(snapshot.done), count(snapshot.total))),
        part(2, percent(snapshot.done, snapshot.total)),
    ];
    // A finished run has nothing left to estimate.
    if let Some(left) = rates.left.filter(|_| snapshot.done < snapshot.total) {
        parts.push(part(1, format!("ETA {}", duration(left))));
    }
    let words = join(parts, width, false);
    // "  [" and "]".
    let room = width.saturating_sub(words.width() + 4).min(*BAR.end());
    if room < *BAR.start() {
        return words;
    }
    format!("  [{}]{words}", bar(snapshot.done, snapshot.total, room))
}

fn bar(done: u64, total: u64, room: usize) -> String {
    let full = u128::from(done.min(total)) * room as u128 / u128::from(total.max(1));
    let full = usize::try_from(full).unwrap_or(room);
    let head = if full < room { ">" } else { "" };
    format!("{}{head}{}", "#".repeat(full), " ".repeat(room - full - head.len()))
}

fn how_it_goes(snapshot: &Snapshot, rates: &Rates, now: Instant) -> Vec<Part> {
    let mut parts = Vec::new();
    if snapshot.failed > 0 {
        parts.push(Part { text: format!("{} failed", count(snapshot.failed)), rank: 0, paint: Some(Paint::Red) });
    }
    parts.push(part(3, format!("{} in flight", count(snapshot.in_flight))));
    parts.push(part(4, format!("{} rows/s", rate(rates.rows))));
    parts.push(part(5, format!("{} tok/s", short(rates.tokens))));
    parts.push(part(2, cost(snapshot)));
    if let Some(limit) = snapshot.rate_limit {
        parts.push(part(6, format!("limit {}/s", rate(limit))));
    }
    if snapshot.reused > 0 {
        parts.push(part(7, format!("{} reused", count(snapshot.reused))));
    }
    if let Some(text) = waiting(snapshot, now) {
        parts.push(Part { text, rank: 1, paint: Some(Paint::Yellow) });
    }
    parts
}

fn cost(snapshot: &Snapshot) -> String {
    snapshot.cost.map_or_else(|| "cost unknown".to_owned(), Nanos::human)
}

fn waiting(snapshot: &Snapshot, now: Instant) -> Option<String> {
    let (why, until) = snapshot.waiting.as_ref()?;
    let left = until.checked_duration_since(now).filter(|left| !left.is_zero())?;
    // Rounded up: "0s" left to wait would look like a standstill.
    Some(format!("{}, {}", escape::line(why), duration(Duration::from_secs(left.as_secs() + 1))))
}

/// The parts in their order with two blanks before each, without those that matter least if there is no room for all.
fn join(mut parts: Vec<Part>, width: usize, colour: bool) -> String {
    if width < 3 {
        return String::new();
    }
    while parts.len() > 1 && parts.iter().map(|part| part.text.width() + 2).sum::<usize>() > width {
        let least = parts.iter().enumerate().max_by_key(|(_, part)| part.rank).map_or(0, |(i, _)| i);
        parts.remove(least);
    }
    let mut out = String::new();
    for Part { text, paint, .. } in parts {
        let text = cut(&text, width.saturating_sub(2));
        out.push_str("  ");
        out.push_str(&paint.filter(|_| colour).map_or_else(|| text.clone(), |paint| paint.apply(&text)));
    }
    out
}

/// The line for a terminal while there are no rows to count yet.
pub fn phase(text: &str, tick: usize, width: usize) -> String {
    let sign = ["-", "\\", "|", "/"][tick % 4];
    cut(&format!("  {sign} {}", escape::line(text)), width)
}

/// The line for a log: a sentence without colours or cursor movement.
pub fn plain(snapshot: &Snapshot, rates: &Rates, now: Instant) -> String {
    let mut parts = vec![if snapshot.total == 0 {
        plural(snapshot.done, "row")
    } else {
        format!("{} of {}", count(snapshot.done), plural(snapshot.total, "row"))
    }];
    if snapshot.failed > 0 {
        parts.push(format!("{} failed", count(snapshot.failed)));
    }
    if snapshot.reused > 0 {
        parts.push(format!("{} reused", count(snapshot.reused)));
    }
    parts.push(format!("{} rows/s", rate(rates.rows)));
    parts.push(cost(snapshot));
    parts.extend(waiting(snapshot, now));
    if let Some(left) = rates.left.filter(|_| snapshot.done < snapshot.total) {
        parts.push(format!("about {} left", about(left)));
    }
    format!("llbatch: {}", parts.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::Nanos;

    fn half() -> (Snapshot, Rates) {
        let snapshot = Snapshot {
            total: 1_000,
            done: 523,
            failed: 2,
            in_flight: 64,
            tokens: 60_000,
            cost: Some(Nanos(1_600_000)),
            ..Snapshot::default()
        };
        (snapshot, Rates { rows: 81.2, tokens: 9_420.0, left: Some(Duration::from_secs(6)) })
    }

    fn large(now: Instant) -> (Snapshot, Rates) {
        let snapshot = Snapshot {
            total: 1_000_000,
            done: 523_456,
            failed: 12_345,
            reused: 400_000,
            in_flight: 2_000,
            tokens: 60_000_000,
            cost: None,
            waiting: Some(("rate limited\x1b[2J".to_owned(), now + Duration::from_millis(41_500))),
            rate_limit: Some(16.2),
        };
        (snapshot, Rates { rows: 1_812.0, tokens: 194_200.0, left: Some(Duration::from_mins(190)) })
    }

    #[test]
    fn eighty_columns_hold_everything() {
        let (snapshot, rates) = half();
        let expected = "  \
            [##########################>                       ]  523/1,000  52%  ETA 6s\n  \
            2 failed  64 in flight  81 rows/s  9.4k tok/s  $0.0016";
        assert_eq!(terminal(&snapshot, &rates, Instant::now(), 80, false), expected);
    }

    #[test]
    fn what_matters_least_goes_first() {
        let now = Instant::now();
        let (snapshot, rates) = large(now);
        let second = |width| terminal(&snapshot, &rates, now, width, false).lines().nth(1).map(str::to_owned);
        let cases = [
            (
                150,
                "  12,345 failed  2,000 in flight  1.8k rows/s  194k tok/s  cost unknown  limit 16/s  400,000 reused  rate limited^[[2J, 42s",
            ),
            (100, "  12,345 failed  2,000 in flight  1.8k rows/s  194k tok/s  cost unknown  rate limited^[[2J, 42s"),
            (80, "  12,345 failed  2,000 in flight  cost unknown  rate limited^[[2J, 42s"),
            (54, "  12,345 failed  cost unknown  rate limited^[[2J, 42s"),
            (40, "  12,345 failed  rate limited^[[2J, 42s"),
            (20, "  12,345 failed"),
        ];
        for (width, expected) in cases {
            assert_eq!(second(width).as_deref(), Some(expected), "{width}");
        }
    }

    #[test]
    fn the_counts_outlive_the_bar() {
        let (snapshot, rates) = half();
        let first = |width| terminal(&snapshot, &rates, Instant::now(), width, false).lines().next().map(str::to_owned);
        assert_eq!(first(40).as_deref(), Some("  [######>     ]  523/1,000  52%  ETA 6s"));
        assert_eq!(first(30).as_deref(), Some("  523/1,000  52%  ETA 6s"));
        assert_eq!(first(20).as_deref(), Some("  523/1,000  ETA 6s"));
        assert_eq!(first(12).as_deref(), Some("  523/1,000"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let now = Instant::now();
        let phase_text = "checking input: 日本語.jsonl";
        for (snapshot, rates) in [half(), large(now), (Snapshot::default(), Rates::default())] {
            for width in 0..200 {
                let text = terminal(&snapshot, &rates, now, width, false);
                assert_eq!(text.matches('\n').count(), 1);
                for line in text.lines().chain([phase(phase_text, 1, width).as_str()]) {
                    assert!(line.width() <= width, "{width}: {line:?}");
                }
            }
        }
    }

    #[test]
    fn the_bar_is_full_only_at_the_end() {
        assert_eq!(bar(0, 10, 8), ">       ");
        assert_eq!(bar(999, 1_000, 8), "#######>");
        assert_eq!(bar(1_000, 1_000, 8), "########");
        assert_eq!(bar(u64::MAX, 3, 8), "########");
    }

    #[test]
    fn colour_changes_no_text() {
        let (snapshot, rates) = half();
        let now = Instant::now();
        let coloured = terminal(&snapshot, &rates, now, 80, true);
        assert!(coloured.contains("\x1b[31m2 failed\x1b[0m"), "{coloured:?}");
        let stripped = coloured.replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(stripped, terminal(&snapshot, &rates, now, 80, false));
    }

    #[test]
    fn a_log_gets_a_sentence() {
        let now = Instant::now();
        let (snapshot, rates) = half();
        assert_eq!(
            plain(&snapshot, &rates, now),
            "llbatch: 523 of 1,000 rows, 2 failed, 81 rows/s, $0.0016, about 6 s left"
        );
        let done = Snapshot { total: 1, done: 1, cost: Some(Nanos::ZERO), ..Snapshot::default() };
        assert_eq!(plain(&done, &rates, now), "llbatch: 1 of 1 row, 81 rows/s, $0.00");
        let (snapshot, rates) = large(now);
        assert_eq!(
            plain(&snapshot, &rates, now),
            "llbatch: 523,456 of 1,000,000 rows, 12,345 failed, 400,000 reused, 1.8k rows/s, cost unknown, \
             rate limited^[[2J, 42s, about 3 h 10 min left"
        );
    }

    #[test]
    fn a_wait_that_is_over_is_not_shown() {
        let now = Instant::now();
        let mut snapshot = half().0;
        snapshot.waiting = Some(("rate limited".to_owned(), now));
        assert!(!plain(&snapshot, &Rates::default(), now).contains("rate limited"));
    }
}
