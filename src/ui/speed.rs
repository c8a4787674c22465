//! The speed of a run and the time left, measured from samples of its counts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::counts::RunCounts;

/// The speed is that of so much time before now.
const WINDOW: Duration = Duration::from_secs(10);

/// With fewer rows in a window its speed is mostly chance: the time left is taken from the whole run instead.
const ENOUGH: f64 = 20.0;

/// The speed of a run at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct RunSpeed {
    /// Rows answered or failed per second over the last 10 s, without reused rows.
    pub rows: f64,
    /// Tokens per second over the last 10 s.
    pub tokens: f64,
    /// The time left; `None` while it cannot be estimated.
    pub left: Option<Duration>,
    /// The time since the display began.
    pub elapsed: Duration,
}

/// Counts at one moment.
#[derive(Debug, Clone, Copy)]
struct SpeedSample {
    at: Instant,
    rows: u64,
    tokens: u64,
}

impl SpeedSample {
    /// Returns rows and tokens per second since an `earlier` sample.
    fn since(&self, earlier: Self) -> [f64; 2] {
        let time = self.at - earlier.at;
        // Over a shorter time the figures would jump: the display shows 0 in the first moments of a run.
        if time < Duration::from_millis(500) {
            return [0.0; 2];
        }
        [self.rows.saturating_sub(earlier.rows), self.tokens.saturating_sub(earlier.tokens)]
            .map(|grown| grown as f64 / time.as_secs_f64())
    }
}

/// The samples of the last ten seconds, and the first one.
#[derive(Debug, Default)]
pub(super) struct SpeedMeter {
    first: Option<SpeedSample>,
    window: VecDeque<SpeedSample>,
}

impl SpeedMeter {
    /// Takes a sample of the counts and returns the speed. `now` must not go back.
    pub fn speed(&mut self, counts: &RunCounts, now: Instant) -> RunSpeed {
        let rows = counts.done.saturating_sub(counts.reused);
        let sample = SpeedSample { at: now, rows, tokens: counts.tokens };
        let first = *self.first.get_or_insert(sample);
        self.window.push_back(sample);
        // The newest sample that is a whole window old is the base; earlier ones are no longer needed.
        while self.window.get(1).is_some_and(|next| now.duration_since(next.at) >= WINDOW) {
            self.window.pop_front();
        }
        let [rows, tokens] = sample.since(self.window[0]);
        let [overall, _] = sample.since(first);
        RunSpeed { rows, tokens, left: time_left(counts, rows, overall, now), elapsed: now.duration_since(first.at) }
    }
}

/// Estimates the time left from rows per second, in the window (`recent`) and in the whole run (`overall`).
fn time_left(counts: &RunCounts, recent: f64, overall: f64, now: Instant) -> Option<Duration> {
    let wait = counts.waiting.as_ref().map(|(_, until)| until.saturating_duration_since(now));
    // During a wait the last seconds say nothing about the time after it.
    let rate = if wait.is_some() || overall * WINDOW.as_secs_f64() < ENOUGH { overall } else { recent };
    if counts.total == 0 || rate <= 0.0 {
        return None;
    }
    let seconds = (counts.total.saturating_sub(counts.done) as f64 / rate).ceil();
    Duration::try_from_secs_f64(seconds).ok().map(|time| time.saturating_add(wait.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64, tokens: u64) -> RunCounts {
        RunCounts { total: 10_000, done, tokens, ..RunCounts::default() }
    }

    /// Feeds the meter every 100 ms for `seconds`, with rows growing by `a_second`; returns the last speed.
    fn feed(meter: &mut SpeedMeter, now: &mut Instant, rows: &mut f64, a_second: f64, seconds: u32) -> RunSpeed {
        let mut speed = RunSpeed::default();
        for _ in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            *rows += a_second / 10.0;
            let done = *rows as u64;
            speed = meter.speed(&at(done, done * 100), *now);
        }
        speed
    }

    #[test]
    fn the_speed_is_that_of_the_last_ten_seconds() {
        let (mut meter, mut now, mut rows) = (SpeedMeter::default(), Instant::now(), 0.0);
        let slow = feed(&mut meter, &mut now, &mut rows, 10.0, 60);
        assert!((slow.rows - 10.0).abs() < 0.2, "{slow:?}");
        let fast = feed(&mut meter, &mut now, &mut rows, 100.0, 11);
        assert!((fast.rows - 100.0).abs() < 1.0, "{fast:?}");
        assert!((fast.tokens - 10_000.0).abs() < 100.0, "{fast:?}");
        // 1,700 done: 8,300 at 100 a second.
        let left = fast.left.unwrap().as_secs();
        assert!((82..=85).contains(&left), "{left}");
        assert!(meter.window.len() <= 102, "old samples are dropped: {}", meter.window.len());
    }

    #[test]
    fn a_run_without_progress_has_no_time_left() {
        let (mut meter, mut now, mut rows) = (SpeedMeter::default(), Instant::now(), 0.0);
        feed(&mut meter, &mut now, &mut rows, 100.0, 10);
        let stuck = feed(&mut meter, &mut now, &mut rows, 0.0, 11);
        assert!(stuck.rows < 0.001 && stuck.left.is_none(), "{stuck:?}");
    }

    #[test]
    fn a_slow_run_is_judged_by_all_of_it() {
        let (mut meter, mut now, mut rows) = (SpeedMeter::default(), Instant::now(), 0.0);
        feed(&mut meter, &mut now, &mut rows, 0.5, 100);
        let pause = feed(&mut meter, &mut now, &mut rows, 0.0, 5);
        assert!(pause.left.is_some(), "one slow answer is no standstill");
    }

    #[test]
    fn reused_rows_are_not_speed() {
        let mut meter = SpeedMeter::default();
        let now = Instant::now();
        meter.speed(&RunCounts { total: 1_000, ..RunCounts::default() }, now);
        let reused = RunCounts { total: 1_000, done: 510, reused: 500, ..RunCounts::default() };
        let speed = meter.speed(&reused, now + Duration::from_secs(5));
        assert!((speed.rows - 2.0).abs() < 1e-9, "{speed:?}");
        assert_eq!(speed.left, Some(Duration::from_secs(245)));
    }

    #[test]
    fn a_wait_is_added_to_the_time_left() {
        let mut meter = SpeedMeter::default();
        let now = Instant::now();
        meter.speed(&at(0, 0), now);
        let now = now + Duration::from_secs(10);
        let mut counts = at(1_000, 0);
        counts.waiting = Some(("rate limited".to_owned(), now + Duration::from_mins(1)));
        assert_eq!(meter.speed(&counts, now).left, Some(Duration::from_secs(90 + 60)));
    }

    #[test]
    fn an_unknown_total_or_a_first_moment_has_no_time_left() {
        let mut meter = SpeedMeter::default();
        let now = Instant::now();
        assert_eq!(meter.speed(&at(5, 5), now), RunSpeed::default());
        let endless = RunCounts { done: 50, ..RunCounts::default() };
        assert_eq!(meter.speed(&endless, now + Duration::from_secs(9)).left, None);
    }
}
