//! How fast a run is now, and how long it will take: from samples of the counts, not from its beginning.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::progress::Snapshot;

/// How far back "now" reaches.
const WINDOW: Duration = Duration::from_secs(10);

/// With fewer rows than this in a window its rate is mostly chance: the time left is taken from the whole run instead.
const ENOUGH: f64 = 20.0;

/// What is derived from the samples.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rates {
    /// Rows answered or failed a second, over the last 10 s; reused rows do not count.
    pub rows: f64,
    /// Tokens a second, over the last 10 s.
    pub tokens: f64,
    /// Time left; `None` while nobody can tell.
    pub left: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    rows: u64,
    tokens: u64,
}

/// The samples of the last ten seconds, and the first one.
#[derive(Debug, Default)]
pub struct Meter {
    first: Option<Sample>,
    window: VecDeque<Sample>,
}

impl Meter {
    /// Takes the counts at `now` and says how fast they grow. To be called with a clock that does not go back.
    pub fn rates(&mut self, snapshot: &Snapshot, now: Instant) -> Rates {
        let sample = Sample { at: now, rows: snapshot.done.saturating_sub(snapshot.reused), tokens: snapshot.tokens };
        let first = *self.first.get_or_insert(sample);
        self.window.push_back(sample);
        // The newest sample that is a whole window old is the base; those before it are of no use any more.
        while self.window.get(1).is_some_and(|next| now.duration_since(next.at) >= WINDOW) {
            self.window.pop_front();
        }
        let base = self.window.front().copied().unwrap_or(sample);
        let rows = per_second(base.rows, sample.rows, now - base.at);
        let tokens = per_second(base.tokens, sample.tokens, now - base.at);
        let overall = per_second(first.rows, sample.rows, now - first.at);
        Rates { rows, tokens, left: left(snapshot, rows, overall, now) }
    }
}

fn left(snapshot: &Snapshot, recent: f64, overall: f64, now: Instant) -> Option<Duration> {
    let wait = snapshot.waiting.as_ref().map(|(_, until)| until.saturating_duration_since(now));
    // While everyone waits, the last seconds say nothing about those after the wait.
    let rate = if wait.is_some() || overall * WINDOW.as_secs_f64() < ENOUGH { overall } else { recent };
    let rows = snapshot.total.saturating_sub(snapshot.done);
    if snapshot.total == 0 || rate <= 0.0 {
        return None;
    }
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    let seconds = (rows as f64 / rate).ceil();
    Duration::try_from_secs_f64(seconds).ok().map(|time| time.saturating_add(wait.unwrap_or_default()))
}

fn per_second(from: u64, to: u64, time: Duration) -> f64 {
    // Below this the figures would jump; nothing is shown in the first moments of a run.
    if time < Duration::from_millis(500) {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "two digits are shown")]
    let grown = to.saturating_sub(from) as f64;
    grown / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(done: u64, tokens: u64) -> Snapshot {
        Snapshot { total: 10_000, done, tokens, ..Snapshot::default() }
    }

    /// Feeds the meter every 100 ms for `seconds`, with rows growing by `a_second`; returns the last rates.
    fn feed(meter: &mut Meter, now: &mut Instant, rows: &mut f64, a_second: f64, seconds: u32) -> Rates {
        let mut rates = Rates::default();
        for _ in 0..seconds * 10 {
            *now += Duration::from_millis(100);
            *rows += a_second / 10.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small and positive")]
            let done = *rows as u64;
            rates = meter.rates(&at(done, done * 100), *now);
        }
        rates
    }

    #[test]
    fn the_rate_is_that_of_the_last_ten_seconds() {
        let (mut meter, mut now, mut rows) = (Meter::default(), Instant::now(), 0.0);
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
    fn a_run_that_stands_still_has_no_end_in_sight() {
        let (mut meter, mut now, mut rows) = (Meter::default(), Instant::now(), 0.0);
        feed(&mut meter, &mut now, &mut rows, 100.0, 10);
        let stuck = feed(&mut meter, &mut now, &mut rows, 0.0, 11);
        assert!(stuck.rows < 0.001 && stuck.left.is_none(), "{stuck:?}");
    }

    #[test]
    fn a_slow_run_is_judged_by_all_of_it() {
        let (mut meter, mut now, mut rows) = (Meter::default(), Instant::now(), 0.0);
        feed(&mut meter, &mut now, &mut rows, 0.5, 100);
        let pause = feed(&mut meter, &mut now, &mut rows, 0.0, 5);
        assert!(pause.left.is_some(), "one slow answer is no standstill");
    }

    #[test]
    fn reused_rows_are_not_speed() {
        let mut meter = Meter::default();
        let now = Instant::now();
        meter.rates(&Snapshot { total: 1_000, ..Snapshot::default() }, now);
        let reused = Snapshot { total: 1_000, done: 510, reused: 500, ..Snapshot::default() };
        let rates = meter.rates(&reused, now + Duration::from_secs(5));
        assert!((rates.rows - 2.0).abs() < 1e-9, "{rates:?}");
        assert_eq!(rates.left, Some(Duration::from_secs(245)));
    }

    #[test]
    fn a_wait_is_added_to_the_time_left() {
        let mut meter = Meter::default();
        let now = Instant::now();
        meter.rates(&at(0, 0), now);
        let now = now + Duration::from_secs(10);
        let mut snapshot = at(1_000, 0);
        snapshot.waiting = Some(("rate limited".to_owned(), now + Duration::from_mins(1)));
        assert_eq!(meter.rates(&snapshot, now).left, Some(Duration::from_secs(90 + 60)));
    }

    #[test]
    fn nothing_is_said_of_an_unknown_total_or_a_first_moment() {
        let mut meter = Meter::default();
        let now = Instant::now();
        assert_eq!(meter.rates(&at(5, 5), now), Rates::default());
        let endless = Snapshot { done: 50, ..Snapshot::default() };
        assert_eq!(meter.rates(&endless, now + Duration::from_secs(9)).left, None);
    }
}
