//! Claims rows before they are sent: no more than there are permits for, unless the run is so fast that requests would wait
//! for the disk. A claimed row without an answer is in doubt after a kill, so that few should be.
//!
//! # What a claim is
//!
//! A *lock* says which process works on a job; it is the kernel's and dies with the process. A *claim* says which rows
//! may have been sent. Before rows up to *n* are sent, "rows up to *n*" is on disk in the job's file. After a kill, the
//! claimed rows without an outcome may have been paid for without an answer. The next run names them, counts their
//! worst cost as at risk, and sends them again. A finished run releases its claim.

use std::time::{Duration, Instant};

/// Time in which the speed of a run is measured, and for which a fast run claims ahead. Measured: a claim for each 64 rows
/// at 40,000 rows a second costs two fifths of the speed.
const WINDOW: Duration = Duration::from_millis(30);
/// Rows in such a time that make a run fast.
const FAST: u64 = 16;
/// Most rows with a free permit that are claimed ahead: many permits say nothing of the pace.
const FIRST: u64 = 8;
/// Most rows that are claimed ahead.
const MOST: u64 = 512;

/// The claims of one run.
#[derive(Debug)]
pub(super) struct Claims {
    last_row: u64,
    asked: u64,
    /// Rows that a fast run claims ahead.
    ahead: u64,
    /// The start of the window, and the row that was sent then.
    window: Option<(Instant, u64)>,
}

impl Claims {
    /// Claims no row behind `last_row`.
    pub(super) const fn new(last_row: u64) -> Self {
        Self { last_row, asked: 0, ahead: 0, window: None }
    }

    /// The row up to which to claim now that `row` is about to be sent and `free` more may follow at once; `None` if enough is
    /// claimed. A fast run asks when half of its lead is used up.
    pub(super) fn ask(&mut self, row: u64, free: u64, now: Instant) -> Option<u64> {
        self.measure(row, now);
        // A row that is sent again was claimed long ago.
        if self.asked > 0 && (row + self.ahead / 2).min(self.last_row) <= self.asked {
            return None;
        }
        self.asked = (row + self.ahead.max(free.min(FIRST))).min(self.last_row).max(self.asked);
        Some(self.asked)
    }

    fn measure(&mut self, row: u64, now: Instant) {
        let (start, first) = *self.window.get_or_insert((now, row));
        let elapsed = now.duration_since(start);
        if elapsed < WINDOW {
            return;
        }
        let rows = u128::from(row.saturating_sub(first)) * WINDOW.as_micros() / elapsed.as_micros().max(1);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        self.ahead = if rows < FAST { 0 } else { (2 * rows).min(MOST) };
        self.window = Some((now, row));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `rows` rows, one every `pause`. Returns the largest lead of the claims in the second half, and the last claim.
    fn run(rows: u64, pause: Duration) -> (u64, u64) {
        let mut claims = Claims::new(rows);
        let (mut now, mut claimed, mut ahead) = (Instant::now(), 0, 0);
        for row in 1..=rows {
            if let Some(upto) = claims.ask(row, 0, now) {
                assert!(upto > claimed);
                claimed = upto;
            }
            assert!(claimed >= row, "row {row} would be sent unclaimed");
            if row > rows / 2 {
                ahead = ahead.max(claimed - row);
            }
            now += pause;
        }
        (ahead, claimed)
    }

    #[test]
    fn slow_runs_claim_little_and_fast_ones_enough() {
        assert_eq!(run(1000, Duration::from_millis(50)), (0, 1000));
        assert_eq!(run(10_000, Duration::from_micros(25)), (512, 10_000));
        assert_eq!(run(3, Duration::ZERO), (0, 3));
    }
    #[test]
    fn no_more_rows_are_claimed_than_there_are_permits() {
        let (mut claims, mut now) = (Claims::new(1000), Instant::now());
        // Four requests end at the same moment, five times a second.
        for burst in 0..200 {
            for place in 0..4 {
                let (row, free) = (1 + burst * 4 + place, 3 - place);
                claims.ask(row, free, now);
                assert!(claims.asked >= row && claims.asked <= row + free, "row {row}: {}", claims.asked);
            }
            now += Duration::from_millis(200);
        }
        assert_eq!(Claims::new(1000).ask(1, 1023, now), Some(9));
    }
}
