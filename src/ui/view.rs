//! The texts of the progress display, as pure functions of counts, speed and width.
//!
//! indicatif keeps them on the screen. Its templates cannot leave out the least important part of a line that is too long.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::Paint;
use super::counts::{BatchCounts, RunCounts};
use super::speed::RunSpeed;
use crate::price::Nanos;
use crate::text::{batches, count, cut, duration, one_line, percent, plural, rate, short, width as width_of};

/// Columns of the bar: a shorter one says nothing, a longer one says no more.
const BAR: RangeInclusive<usize> = 8..=50;

/// A run at one moment.
pub(super) struct RunView<'a> {
    pub counts: &'a RunCounts,
    pub speed: RunSpeed,
    pub now: Instant,
}

/// One part of a line.
struct ViewPart {
    text: String,
    /// The part with the highest rank is left out first if the line is too long.
    rank: u8,
    paint: Option<Paint>,
}

fn part(rank: u8, text: impl Into<Option<String>>) -> Option<ViewPart> {
    text.into().map(|text| ViewPart { text, rank, paint: None })
}

fn painted(rank: u8, paint: Paint, text: Option<String>) -> Option<ViewPart> {
    text.map(|text| ViewPart { text, rank, paint: Some(paint) })
}

impl RunView<'_> {
    /// Writes the two lines for a terminal, joined by a newline: the position with a bar, and the status. No line is wider
    /// than `width`.
    pub fn terminal(&self, width: usize, colour: bool) -> String {
        format!("{}\n{}", self.position(width), join(self.status(), width, colour))
    }

    /// Writes the line for a log: a sentence without colours.
    pub fn log_line(&self) -> String {
        let RunCounts { total, done, .. } = *self.counts;
        let rows = match total {
            0 => plural(done, "row"),
            _ => format!("{} of {}", count(done), plural(total, "row")),
        };
        let left = self.left().map(|left| format!("about {left} left"));
        let elapsed = (self.speed.elapsed >= Duration::from_secs(1)).then(|| duration(self.speed.elapsed));
        let rows = elapsed.map_or_else(|| rows.clone(), |elapsed| format!("{rows} in {elapsed}"));
        let parts = [
            Some(rows),
            self.failed(),
            self.reused(),
            Some(self.rows_per_s()),
            Some(self.cost()),
            self.waiting("next try in "),
            left,
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn position(&self, width: usize) -> String {
        let RunCounts { total, done, .. } = *self.counts;
        if total == 0 {
            return cut(&format!("  {}", plural(done, "row")), width);
        }
        let elapsed = (self.speed.elapsed >= Duration::from_secs(1)).then(|| duration(self.speed.elapsed));
        let parts = [
            part(0, format!("{}/{}", count(done), count(total))),
            part(2, percent(done, total)),
            part(3, elapsed),
            part(1, self.left().map(|left| format!("ETA {left}"))),
        ];
        position(done, total, parts, width)
    }

    fn status(&self) -> [Option<ViewPart>; 8] {
        [
            painted(0, Paint::Red, self.failed()),
            part(3, format!("{} in flight", count(self.counts.in_flight))),
            part(4, self.rows_per_s()),
            part(5, format!("{} tok/s", short(self.speed.tokens))),
            part(2, self.cost()),
            part(6, self.counts.rate_limit.map(|limit| format!("learned limit {}/s", rate(limit)))),
            part(7, self.reused()),
            painted(1, Paint::Yellow, self.waiting("")),
        ]
    }

    fn failed(&self) -> Option<String> {
        (self.counts.failed > 0).then(|| format!("{} failed", count(self.counts.failed)))
    }

    fn reused(&self) -> Option<String> {
        (self.counts.reused > 0).then(|| format!("{} reused", count(self.counts.reused)))
    }

    fn rows_per_s(&self) -> String {
        format!("{} rows/s", rate(self.speed.rows))
    }

    fn cost(&self) -> String {
        let Some(cost) = self.counts.cost else { return "cost unknown".to_owned() };
        match self.expected() {
            Some(expected) => format!("{} of about {}", cost.human(), expected.human()),
            None => cost.human(),
        }
    }

    /// Extends the cost of this run's rows to the rows that are left; `None` for a few rows, whose cost is chance.
    fn expected(&self) -> Option<Nanos> {
        let RunCounts { total, done, reused, cost, new_cost, .. } = *self.counts;
        let new = done.saturating_sub(reused);
        if new < 20 || done >= total {
            return None;
        }
        let rest = new_cost.0.checked_mul((total - done).into())? / i128::from(new);
        Some(cost? + Nanos(rest))
    }

    /// The reason to wait, and the time left behind `label`: on a terminal it is seen to count down.
    fn waiting(&self, label: &str) -> Option<String> {
        let (why, until) = self.counts.waiting.as_ref()?;
        let left = until.checked_duration_since(self.now).filter(|left| !left.is_zero())?;
        // Rounded up: "0s" left to wait would look like a standstill.
        Some(format!("{}, {label}{}", one_line(why), duration(Duration::from_secs(left.as_secs() + 1))))
    }

    fn left(&self) -> Option<String> {
        self.speed.left.filter(|_| self.counts.done < self.counts.total).map(duration)
    }
}

/// A wait for batches at one moment.
pub(super) struct BatchView<'a>(pub &'a BatchCounts);

impl BatchView<'_> {
    /// Writes the two lines for a terminal: the position with a bar, and the status.
    pub fn terminal(&self, width: usize, colour: bool) -> String {
        let BatchCounts { done, total, .. } = *self.0;
        let parts = [
            part(0, format!("about {}/{}", count(done), count(total))),
            part(1, percent(done, total)),
            part(2, self.0.elapsed.map(duration)),
        ];
        let status = [
            part(4, self.0.job.clone()),
            part(0, self.ended()),
            part(1, self.expiry()),
            part(2, self.cost()),
            part(3, format!("next poll in {}", duration(self.0.poll))),
        ];
        format!("{}\n{}", position(done, total, parts, width), join(status, width, colour))
    }

    /// Writes the line for a log.
    pub fn log_line(&self) -> String {
        let BatchCounts { done, total, .. } = *self.0;
        let parts = [
            Some(format!("{}: about {} of {}", self.0.job, count(done), plural(total, "row"))),
            Some(self.ended()),
            self.0.elapsed.map(|elapsed| format!("{} since the first batch", duration(elapsed))),
            self.expiry(),
            self.cost(),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    fn ended(&self) -> String {
        format!("{} of {} ended", count(self.0.ended as u64), batches(self.0.batches))
    }

    fn expiry(&self) -> Option<String> {
        self.0.left.map(|left| format!("expires in {}", duration(left)))
    }

    fn cost(&self) -> Option<String> {
        self.0.cost.map(|cost| format!("about {}", cost.human()))
    }
}

/// Writes a bar and the words beside it, in `width` columns.
fn position(done: u64, total: u64, parts: impl IntoIterator<Item = Option<ViewPart>>, width: usize) -> String {
    let words = join(parts, width, false);
    // "  [" and "]".
    let room = width.saturating_sub(width_of(&words) + 4).min(*BAR.end());
    if room < *BAR.start() { words } else { format!("  [{}]{words}", bar(done, total, room)) }
}

/// Writes the line for a terminal while there are no rows to count yet.
pub fn phase(text: &str, tick: usize, width: usize) -> String {
    let sign = ["-", "\\", "|", "/"][tick % 4];
    cut(&format!("  {sign} {}", one_line(text)), width)
}

fn bar(done: u64, total: u64, room: usize) -> String {
    let full = u128::from(done.min(total)) * room as u128 / u128::from(total.max(1));
    let full = usize::try_from(full).unwrap_or(room);
    let head = if full < room { ">" } else { "" };
    format!("{}{head}{}", "#".repeat(full), " ".repeat(room - full - head.len()))
}

/// Joins the parts in their order, each after two blanks, without those that have no room.
fn join(parts: impl IntoIterator<Item = Option<ViewPart>>, width: usize, colour: bool) -> String {
    if width < 3 {
        return String::new();
    }
    let mut parts: Vec<ViewPart> = parts.into_iter().flatten().collect();
    while parts.len() > 1 && parts.iter().map(|part| width_of(&part.text) + 2).sum::<usize>() > width {
        let least = parts.iter().enumerate().max_by_key(|(_, part)| part.rank).map_or(0, |(i, _)| i);
        parts.remove(least);
    }
    let mut line = String::new();
    for ViewPart { text, paint, .. } in parts {
        let text = cut(&text, width - 2);
        let paint = paint.filter(|_| colour);
        line.extend(["  ", &paint.map_or_else(|| text.clone(), |paint| paint.apply(&text))]);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(counts: &RunCounts, speed: RunSpeed, now: Instant) -> RunView<'_> {
        RunView { counts, speed, now }
    }

    fn half() -> (RunCounts, RunSpeed) {
        let counts = RunCounts {
            total: 1_000,
            done: 523,
            failed: 2,
            in_flight: 64,
            tokens: 60_000,
            cost: Some(Nanos(1_600_000)),
            new_cost: Nanos(1_600_000),
            ..RunCounts::default()
        };
        (
            counts,
            RunSpeed {
                rows: 81.2,
                tokens: 9_420.0,
                left: Some(Duration::from_secs(6)),
                elapsed: Duration::from_millis(6_500),
            },
        )
    }

    fn large(now: Instant) -> (RunCounts, RunSpeed) {
        let counts = RunCounts {
            total: 1_000_000,
            done: 523_456,
            failed: 12_345,
            reused: 400_000,
            in_flight: 2_000,
            tokens: 60_000_000,
            cost: None,
            new_cost: Nanos::ZERO,
            waiting: Some(("rate limited\x1b[2J".to_owned(), now + Duration::from_millis(41_500))),
            rate_limit: Some(16.2),
        };
        (
            counts,
            RunSpeed {
                rows: 1_812.0,
                tokens: 194_200.0,
                left: Some(Duration::from_mins(190)),
                elapsed: Duration::from_mins(5),
            },
        )
    }

    #[test]
    fn eighty_columns_hold_everything() {
        let (counts, speed) = half();
        let expected = "  \
            [#########################>                      ]  523/1,000  52%  6s  ETA 6s\n  \
            2 failed  64 in flight  81 rows/s  9.4k tok/s  $0.0016 of about $0.0031";
        assert_eq!(view(&counts, speed, Instant::now()).terminal(80, false), expected);
    }

    #[test]
    fn the_least_important_part_goes_first() {
        let now = Instant::now();
        let (counts, speed) = large(now);
        let second = |width| view(&counts, speed, now).terminal(width, false).lines().nth(1).map(str::to_owned);
        let cases = [
            (
                150,
                "  12,345 failed  2,000 in flight  1.8k rows/s  194k tok/s  cost unknown  learned limit 16/s  400,000 reused  rate limited^[[2J, 42s",
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
        let (counts, speed) = half();
        let first =
            |width| view(&counts, speed, Instant::now()).terminal(width, false).lines().next().map(str::to_owned);
        assert_eq!(first(44).as_deref(), Some("  [######>     ]  523/1,000  52%  6s  ETA 6s"));
        assert_eq!(first(30).as_deref(), Some("  523/1,000  52%  6s  ETA 6s"));
        assert_eq!(first(20).as_deref(), Some("  523/1,000  ETA 6s"));
        assert_eq!(first(12).as_deref(), Some("  523/1,000"));
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let now = Instant::now();
        let phase_text = "checking input: 日本語.jsonl";
        for (counts, speed) in [half(), large(now), (RunCounts::default(), RunSpeed::default())] {
            for width in 0..200 {
                let text = view(&counts, speed, now).terminal(width, false);
                assert_eq!(text.matches('\n').count(), 1);
                for line in text.lines().chain([phase(phase_text, 1, width).as_str()]) {
                    assert!(width_of(line) <= width, "{width}: {line:?}");
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
        let (counts, speed) = half();
        let now = Instant::now();
        let coloured = view(&counts, speed, now).terminal(80, true);
        assert!(coloured.contains("\x1b[31m2 failed\x1b[0m"), "{coloured:?}");
        let stripped = coloured.replace("\x1b[31m", "").replace("\x1b[0m", "");
        assert_eq!(stripped, view(&counts, speed, now).terminal(80, false));
    }

    #[test]
    fn a_log_gets_a_sentence() {
        let now = Instant::now();
        let (counts, speed) = half();
        assert_eq!(
            view(&counts, speed, now).log_line(),
            "523 of 1,000 rows in 6s, 2 failed, 81 rows/s, $0.0016 of about $0.0031, about 6s left"
        );
        let done = RunCounts { total: 1, done: 1, cost: Some(Nanos::ZERO), ..RunCounts::default() };
        assert_eq!(view(&done, speed, now).log_line(), "1 of 1 row in 6s, 81 rows/s, $0.00");
        let (counts, speed) = large(now);
        assert_eq!(
            view(&counts, speed, now).log_line(),
            "523,456 of 1,000,000 rows in 5m 00s, 12,345 failed, 400,000 reused, 1.8k rows/s, cost unknown, \
             rate limited^[[2J, next try in 42s, about 3h 10m left"
        );
    }

    #[test]
    fn wait_for_batches_shows_what_a_run_shows() {
        let counts = BatchCounts {
            job: "j-abcd1234".to_owned(),
            batches: 2,
            ended: 1,
            total: 612,
            done: 299,
            elapsed: Some(Duration::from_secs(130)),
            left: Some(Duration::from_mins(23 * 60 + 50)),
            cost: Some(Nanos(2_100_000)),
            poll: Duration::from_secs(30),
        };
        let view = BatchView(&counts);
        assert_eq!(
            view.terminal(80, false),
            "  [#######################>                        ]  about 299/612  48%  2m 10s\n  \
             1 of 2 batches ended  expires in 23h 50m  about $0.0021  next poll in 30s"
        );
        assert_eq!(
            view.terminal(60, false).lines().last(),
            Some("  1 of 2 batches ended  expires in 23h 50m  about $0.0021")
        );
        assert_eq!(
            view.log_line(),
            "j-abcd1234: about 299 of 612 rows, 1 of 2 batches ended, 2m 10s since the first batch, \
             expires in 23h 50m, about $0.0021"
        );
        for width in 0..120 {
            assert!(view.terminal(width, false).lines().all(|line| width_of(line) <= width), "{width}");
        }
    }

    #[test]
    fn a_wait_that_is_over_is_not_shown() {
        let now = Instant::now();
        let mut counts = half().0;
        counts.waiting = Some(("rate limited".to_owned(), now));
        assert!(!view(&counts, RunSpeed::default(), now).log_line().contains("rate limited"));
    }
}
