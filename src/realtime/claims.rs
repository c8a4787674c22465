//! Claims rows ahead of sending, so far that no request waits for the disk. It claims no further, because a claimed row
//! without an answer is in doubt after a kill.
//!
//! # What a claim is
//!
//! A *lock* says which process works on a job; it is the kernel's and dies with the process. A *claim* says which rows
//! may have been sent. Before rows up to *n* are sent, "rows up to *n*" is on disk in the job's file. After a kill, the
//! claimed rows without an outcome may have been paid for without an answer. The next run names them, counts their
//! worst cost as at risk, and sends them again. A finished run releases its claim.

use std::time::{Duration, Instant};

/// A block used up faster than this was too small for the disk to keep up. Measured: a block of 64 rows at 40,000 rows a
/// second costs two fifths of the speed.
const TOO_FAST: Duration = Duration::from_millis(30);
/// Largest block.
const MOST: u64 = 512;

/// The claims of one run.
#[derive(Debug)]
pub(super) struct Claims {
    least: u64,
    block: u64,
    last_row: u64,
    asked: u64,
    at: Option<Instant>,
}

impl Claims {
    /// Claims blocks of at least `least` rows, and no row behind `last_row`.
    pub(super) fn new(least: u64, last_row: u64) -> Self {
        Self { least, block: least, last_row, asked: 0, at: None }
    }

    /// The row up to which to claim now that `row` is about to be sent; `None` if enough is claimed. It asks half a block
    /// ahead.
    pub(super) fn ask(&mut self, row: u64, now: Instant) -> Option<u64> {
        // A row that is sent again was claimed long ago.
        if self.asked > 0 && (row + self.block / 2).min(self.last_row) <= self.asked {
            return None;
        }
        let fast = self.at.is_some_and(|at| now.duration_since(at) < TOO_FAST);
        self.block = if fast { (self.block * 2).min(MOST) } else { self.least.max(self.block / 2) };
        self.at = Some(now);
        self.asked = (row + self.block).min(self.last_row);
        Some(self.asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `rows` rows, one every `pause`. Returns the largest lead of the claims in the second half, and the last claim.
    fn run(rows: u64, pause: Duration) -> (u64, u64) {
        let mut claims = Claims::new(16, rows);
        let (mut now, mut claimed, mut ahead) = (Instant::now(), 0, 0);
        for row in 1..=rows {
            if let Some(upto) = claims.ask(row, now) {
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
        assert_eq!(run(1000, Duration::from_millis(50)), (16, 1000));
        assert_eq!(run(10_000, Duration::from_micros(25)), (512, 10_000));
        assert_eq!(run(3, Duration::ZERO), (1, 3));
    }
}
