//! Claims rows before they are sent: no more than there are permits for, unless the run is so fast that requests would wait
//! for the disk. A claimed row without an answer is in doubt after a kill, so that few should be.
//!
//! # What a claim is
//!
//! A *lock* says which process works on a job; it is the kernel's and dies with the process. A *claim* says which rows
//! may have been sent. Before rows up to *n* are sent, "rows up to *n*" is on disk in the job's file. After a kill, the
//! claimed rows without an outcome may have been paid for without an answer. The next run names them, counts their
//! worst cost as at risk, and sends them again. A finished run releases its claim.
//!
//! Where each commit is synced, on a network file system, a row would wait for its claim longer than for its answer. A run
//! that waits for claims most of the time claims more at once, and a kill leaves more rows in doubt.
//!
//! A row's *turn* is its place in the order of sending. Usually that is its number. With `--group-by-prefix` it is not, and
//! then a claim names its rows.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Time in which the speed of a run is measured, and for which a fast run claims ahead. Measured: a claim for each 64 rows
/// at 40,000 rows a second costs two fifths of the speed.
const WINDOW: Duration = Duration::from_millis(30);
/// Rows in such a time that make a run fast.
const FAST: u64 = 16;
/// Most rows with a free permit that are claimed ahead: many permits say nothing of the pace.
const FIRST: u64 = 8;
/// Fewest rows that are claimed ahead by a run that waits for its claims.
const WAITING: u64 = 8;
/// Most rows that are claimed ahead.
const MOST: u64 = 512;

/// Rows that are sent as soon as their claim is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The last turn.
    pub upto: u64,
    /// The rows, if their turns are not their numbers.
    pub rows: Option<Vec<u64>>,
}

/// The claims of one run.
#[derive(Debug)]
pub(super) struct Claims {
    /// The last turn that is known.
    last: u64,
    asked: u64,
    /// The rows of the turns from `asked` on, if a turn is not the number of its row.
    coming: Option<VecDeque<u64>>,
    /// Rows that a fast run claims ahead.
    ahead: u64,
    /// The start of the window, and the turn that it began with.
    window: Option<(Instant, u64)>,
    /// Every commit is synced.
    synced: bool,
    /// Time in this window in which no row could leave because its claim was not committed.
    waited: Duration,
}

impl Claims {
    /// Claims rows that are sent by their numbers, none behind `last_row`.
    pub(super) const fn in_order(last_row: u64) -> Self {
        Self { last: last_row, asked: 0, coming: None, ahead: 0, window: None, synced: false, waited: Duration::ZERO }
    }

    /// Counts the waits for claims, because every commit is `synced`.
    pub(super) fn where_commits_are(self, synced: bool) -> Self {
        Self { synced, ..self }
    }

    /// Counts a wait of the row at the turnstile for its claim.
    pub(super) fn waited(&mut self, time: Duration) {
        self.waited += time;
    }

    /// Claims rows in the order in which they [arrive](Self::arrived).
    pub(super) fn by_name() -> Self {
        Self { coming: Some(VecDeque::new()), ..Self::in_order(0) }
    }

    /// Takes the row of the next turn, if turns are not numbers of rows.
    pub(super) fn arrived(&mut self, row: u64) {
        if let Some(coming) = &mut self.coming {
            coming.push_back(row);
            self.last += 1;
        }
    }

    /// The claim to make now that the row of this `turn` is about to be sent and `free` more may follow at once; `None` if
    /// enough is claimed. A fast run asks when half of its lead is used up.
    pub(super) fn ask(&mut self, turn: u64, free: u64, now: Instant) -> Option<Claim> {
        self.measure(turn, now);
        // A row that is sent again was claimed long ago.
        if self.asked > 0 && (turn + self.ahead / 2).min(self.last) <= self.asked {
            return None;
        }
        let before = self.asked;
        self.asked = (turn + self.ahead.max(free.min(FIRST))).min(self.last).max(self.asked);
        let count = usize::try_from(self.asked - before).unwrap_or(usize::MAX);
        let rows = self.coming.as_mut().map(|coming| coming.drain(..count.min(coming.len())).collect());
        Some(Claim { upto: self.asked, rows })
    }

    fn measure(&mut self, turn: u64, now: Instant) {
        let (start, first) = *self.window.get_or_insert((now, turn));
        let elapsed = now.duration_since(start);
        if elapsed < WINDOW {
            return;
        }
        let rows = u128::from(turn.saturating_sub(first)) * WINDOW.as_micros() / elapsed.as_micros().max(1);
        let rows = u64::try_from(rows).unwrap_or(u64::MAX);
        let waits = self.synced && self.waited > elapsed / 2;
        self.ahead = match rows {
            _ if waits => (2 * self.ahead).clamp(WAITING, MOST),
            // The next claims would wait again.
            0..FAST if self.synced => self.ahead / 2,
            0..FAST => 0,
            _ => (2 * rows).min(MOST),
        };
        self.waited = Duration::ZERO;
        self.window = Some((now, turn));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends `rows` rows, one every `pause`. Returns the largest lead of the claims in the second half, and the last claim.
    fn run(rows: u64, pause: Duration) -> (u64, u64) {
        let mut claims = Claims::in_order(rows);
        let (mut now, mut claimed, mut ahead) = (Instant::now(), 0, 0);
        for row in 1..=rows {
            if let Some(Claim { upto, rows: None }) = claims.ask(row, 0, now) {
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
    fn run_that_waits_for_its_claims_claims_more_until_it_does_not() {
        let run = |rows: u64, sync: Duration, pause: Duration| {
            let mut claims = Claims::in_order(rows).where_commits_are(true);
            let (mut now, mut asked) = (Instant::now(), 0);
            for row in 1..=rows {
                if claims.ask(row, 0, now).is_some() {
                    asked += 1;
                    now += sync;
                    claims.waited(sync);
                }
                now += pause;
            }
            asked
        };
        let ms = Duration::from_millis;
        assert!(run(4000, ms(13), Duration::from_micros(100)) < 400, "a claim for each row would take 52 seconds");
        assert_eq!(run(100, ms(13), ms(100)), 100, "a row at a time at the pace of a language model");
    }

    #[test]
    fn no_more_rows_are_claimed_than_there_are_permits() {
        let (mut claims, mut now) = (Claims::in_order(1000), Instant::now());
        // Four requests end at the same moment, five times a second.
        for burst in 0..200 {
            for place in 0..4 {
                let (row, free) = (1 + burst * 4 + place, 3 - place);
                claims.ask(row, free, now);
                assert!(claims.asked >= row && claims.asked <= row + free, "row {row}: {}", claims.asked);
            }
            now += Duration::from_millis(200);
        }
        assert_eq!(Claims::in_order(1000).ask(1, 1023, now), Some(Claim { upto: 9, rows: None }));
    }

    #[test]
    fn rows_out_of_order_are_named_once_and_before_they_are_sent() {
        let (mut claims, mut now) = (Claims::by_name(), Instant::now());
        let order: Vec<u64> = (0..20_000).map(|turn| turn * 7 % 20_000 + 1).collect();
        let (mut named, mut received) = (Vec::new(), 0);
        for turn in 1..=order.len() {
            // The reader hands over 64 rows at a time.
            if turn > received {
                order[received..].iter().take(64).for_each(|row| claims.arrived(*row));
                received += 64;
            }
            if let Some(claim) = claims.ask(turn as u64, 3, now) {
                named.extend(claim.rows.unwrap());
                assert_eq!(claim.upto, named.len() as u64);
            }
            assert!(
                named.len() >= turn && named[turn - 1] == order[turn - 1],
                "row {} is not claimed",
                order[turn - 1]
            );
            now += Duration::from_micros(25);
        }
        assert_eq!(named, order);
    }
}
