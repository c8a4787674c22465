//! Web pages in place of answers: a login page, a base URL that is not the API's, a maintenance notice. They look like
//! answers (200) and may even be billed. Sending more rows to them is useless.

use std::time::Instant;

/// After this many pages in a row, each for another row, the rows are not the reason.
pub(super) const ENOUGH: usize = 3;

/// The web pages since the last answer.
#[derive(Debug, Default)]
pub(super) struct Pages {
    rows: Vec<u64>,
    last: Option<Instant>,
}

impl Pages {
    /// Records that a request of `row` which left at `sent_at` got a page at `now`. Returns whether there are enough.
    ///
    /// A row counts once: a filter may dislike its prompt. Requests in flight at the same time count once: they met the same
    /// moment.
    pub(super) fn seen(&mut self, row: u64, sent_at: Instant, now: Instant) -> bool {
        if !self.rows.contains(&row) && self.last.is_none_or(|last| sent_at >= last) {
            self.rows.push(row);
            self.last = Some(now);
        }
        self.rows.len() >= ENOUGH
    }

    /// Starts anew: the API itself has answered.
    pub(super) fn forget(&mut self) {
        self.rows.clear();
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn three_rows_in_sequence_without_an_answer_are_enough() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut pages = Pages::default();
        assert!(!pages.seen(1, at(0), at(10)));
        assert!(!pages.seen(2, at(5), at(11)), "in flight at the same time");
        assert!(!pages.seen(1, at(20), at(30)), "the same row again");
        assert!(!pages.seen(2, at(31), at(40)));
        assert!(!pages.seen(2, at(41), at(50)));
        assert!(pages.seen(3, at(41), at(50)));
        pages.forget();
        assert!(!pages.seen(4, at(60), at(70)));
        assert!(!pages.seen(5, at(70), at(80)));
        assert!(pages.seen(6, at(80), at(90)));
    }
}
