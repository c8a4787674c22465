//! The rules that stored answers were held against, and new verdicts where those change.

use rusqlite::{OptionalExtension, params};

use super::checksum::Checksum;
use crate::error::Result;
use crate::outcome::Outcome;
use crate::store::JobDb;

/// Rows that are read at a time.
const PAGE: u32 = 1024;

impl JobDb {
    /// The fingerprint of the rules that the stored answers were held against. 0: none, or an earlier llbatch kept no
    /// fingerprint.
    pub fn judged_by(&self) -> Result<i64> {
        let found = "SELECT value FROM meta WHERE key = 'rules'";
        self.run(|db| db.query_row(found, [], |row| row.get(0)).optional()).map(Option::unwrap_or_default)
    }

    /// Keeps the fingerprint of the rules that all answers are held against from now on.
    pub fn keep_judged_by(&mut self, rules: i64) -> Result<()> {
        if self.judged_by()? == rules {
            return Ok(());
        }
        self.begin()?;
        self.put_judged_by(rules)?;
        self.commit(false)
    }

    /// Lets `judge` change the error and the tokens of every outcome with a body, and keeps the fingerprint of its rules.
    /// `judge` returns true for an outcome that it has changed. After a kill, all or nothing of that is done.
    ///
    /// # Errors
    /// 74 if an outcome is damaged.
    pub fn judge_anew(&mut self, rules: i64, judge: &mut dyn FnMut(&mut Outcome) -> bool) -> Result<()> {
        self.begin()?;
        let mut from = 1;
        loop {
            let page = self.stored(from, PAGE)?;
            let Some(last) = page.last() else { break };
            from = last.outcome.row + 1;
            for stored in page {
                let place = stored.place;
                let mut outcome = self.verified(stored)?;
                if outcome.body.is_some() && judge(&mut outcome) {
                    if outcome.batch.is_some() && place.is_some() {
                        // The checksum of an answer in a batch's file is that without its body.
                        outcome.body = None;
                    }
                    let sum = Checksum::of(&outcome, place, outcome.prices);
                    self.update(&outcome, sum)?;
                }
            }
        }
        self.put_judged_by(rules)?;
        self.commit(true)
    }

    fn put_judged_by(&self, rules: i64) -> Result<()> {
        let put = "INSERT OR REPLACE INTO meta (key, value) VALUES ('rules', ?1)";
        self.run(|db| db.execute(put, [rules])).map(drop)
    }

    /// Writes the columns of an outcome that a verdict changes.
    fn update(&self, outcome: &Outcome, sum: Checksum) -> Result<()> {
        let error = outcome.error.as_ref();
        let update =
            "UPDATE outcome SET ok = ?2, code = ?3, message = ?4, rule = ?5, prompt = ?6, completion = ?7, cached = ?8,
            reasoning = ?9, wasted_p = ?10, wasted_c = ?11, wasted_cached = ?12, wasted_reasoning = ?13, at_risk = ?14,
            sum = ?15 WHERE row = ?1";
        let values = params![
            outcome.row.cast_signed(),
            outcome.ok(),
            error.map(|e| e.code.as_str()),
            error.map(|e| e.message.as_str()),
            error.and_then(|e| e.rule.as_deref()),
            outcome.usage.map(|u| u.prompt.cast_signed()),
            outcome.usage.map(|u| u.completion.cast_signed()),
            outcome.usage.map(|u| u.cached.cast_signed()),
            outcome.usage.map(|u| u.reasoning.cast_signed()),
            outcome.wasted.prompt.cast_signed(),
            outcome.wasted.completion.cast_signed(),
            outcome.wasted.cached.cast_signed(),
            outcome.wasted.reasoning.cast_signed(),
            outcome.at_risk,
            sum.value(),
        ];
        self.run(|db| db.prepare_cached(update)?.execute(values)).map(drop)
    }
}

#[cfg(test)]
mod tests {
    use crate::outcome::{ErrorCode, RowError, Usage};
    use crate::store::job::tests::{db, outcome};

    #[test]
    fn changed_verdicts_are_stored_whole_with_the_rules() {
        let (_dir, mut db) = db();
        db.put_all([&outcome(1, 1, true), &outcome(2, 2, true), &outcome(3, 3, false)]).unwrap();
        db.commit(true).unwrap();
        assert_eq!(db.judged_by().unwrap(), 0);
        let broken = RowError { rule: Some("--choices".into()), ..RowError::new(ErrorCode::InvalidAnswer, "no") };
        let mut seen = Vec::new();
        db.judge_anew(7, &mut |outcome| {
            seen.push(outcome.row);
            if outcome.row == 2 {
                outcome.reject(broken.clone());
            }
            outcome.row == 2
        })
        .unwrap();
        assert_eq!((seen, db.judged_by().unwrap(), db.counts().unwrap()), (vec![1, 2], 7, (1, 2)));
        let mut found = db.outcomes(2, 1).unwrap().remove(0);
        assert_eq!(found.error, Some(broken));
        let own = outcome(2, 2, true);
        let mut wasted = own.wasted;
        wasted += own.usage.unwrap();
        assert_eq!((found.usage, found.wasted), (None, wasted));
        found.accept(own.usage);
        assert_eq!((found.usage, found.wasted, found.error), (own.usage, own.wasted, None));
        let mut unmetered = outcome(3, 3, true);
        (unmetered.usage, unmetered.wasted) = (None, Usage::default());
        unmetered.reject(RowError::new(ErrorCode::InvalidAnswer, "no"));
        assert_eq!(unmetered.at_risk, 1);
        unmetered.accept(None);
        assert_eq!((unmetered.at_risk, unmetered.ok()), (0, true));
    }
}
