//! The accounts of a job: the totals of its outcomes, each priced as it is added.

use super::charge::{RetiredCost, charge};
use super::outstanding::Outstanding;
use crate::error::Result;
use crate::outcome::{Outcome, Transport};
use crate::price::{Nanos, PriceBook, PriceTable};
use crate::row_set::RowSet;
use crate::store::{Job, JobDb, Ledger, Payer, Spent};
use crate::summary::{Charge, Totals};

/// The totals of a job, and the prices at which its outcomes are added to them.
#[derive(Debug)]
pub struct Accounts {
    /// The prices in force.
    pub prices: PriceBook,
    /// The totals of everything that was added.
    pub totals: Totals,
}

impl Accounts {
    /// Empty accounts of a job of `rows` rows.
    pub fn new(prices: PriceTable, rows: u64) -> Self {
        Self { prices: PriceBook::new(prices), totals: Totals::new(rows) }
    }

    /// These accounts, of a job whose answers are JSON, if `json`.
    pub fn asking_json(mut self, json: bool) -> Self {
        self.totals = self.totals.asking_json(json);
        self
    }

    /// These accounts, with what a job's database keeps beside the rows: prices of what was done before, and base URLs.
    pub fn knowing(mut self, db: &JobDb) -> Self {
        self.prices.keep(db.kept_prices());
        self.totals.name_urls(db.kept_urls());
        self
    }

    /// The accounts of all outcomes in a job's database. An earlier run answered the rows in `resumed`.
    pub fn of(db: &JobDb, prices: PriceTable, rows: u64, resumed: &RowSet) -> Result<Self> {
        let mut accounts = Self::new(prices, rows).knowing(db);
        accounts.add_retired(db)?;
        db.each_outcome(|outcome| {
            accounts.add(&outcome, resumed.contains(outcome.row));
        })?;
        Ok(accounts)
    }

    /// The accounts of the outcomes that came in real time.
    pub fn of_realtime(db: &JobDb, prices: PriceTable) -> Result<Self> {
        let mut accounts = Self::new(prices, 0).knowing(db);
        for retired in db.retired()?.iter().filter(|retired| !retired.batch) {
            RetiredCost::of(retired, &mut accounts.prices).add_to(&mut accounts.totals);
        }
        db.each_outcome(|outcome| {
            if outcome.transport() == Transport::Realtime {
                accounts.add(&outcome, false);
            }
        })?;
        Ok(accounts)
    }

    /// Adds an outcome, and returns the cost of its row. `resumed`: an earlier run paid for it.
    pub fn add(&mut self, outcome: &Outcome, resumed: bool) -> Option<Nanos> {
        self.add_charged(outcome, resumed).total()
    }

    /// The same. Returns the charge.
    pub fn add_charged(&mut self, outcome: &Outcome, resumed: bool) -> Charge {
        let mut charge = charge(outcome, &mut self.prices);
        charge.resumed = resumed;
        self.totals.add(outcome, &charge);
        charge
    }

    /// Adds the cost of all retired outcomes in a job's database.
    pub fn add_retired(&mut self, db: &JobDb) -> Result<()> {
        for retired in db.retired()? {
            RetiredCost::of(&retired, &mut self.prices).add_to(&mut self.totals);
        }
        Ok(())
    }

    /// The known part of what was paid for all retired outcomes in a job's database.
    pub fn paid_for_retired(db: &JobDb, prices: PriceTable) -> Result<Nanos> {
        let mut prices = Self::new(prices, 0).knowing(db).prices;
        Ok(db.retired()?.iter().filter_map(|retired| RetiredCost::of(retired, &mut prices).paid).sum())
    }

    /// Adds requests that the service may still bill.
    pub fn add_outstanding(&mut self, outstanding: &[Outstanding]) {
        for requests in outstanding {
            self.totals.add_outstanding(requests.rows, requests.upper_bound, requests.transport == Transport::Batch);
        }
    }

    /// The known cost so far: all that was paid, and the most that the service may have billed beyond that.
    pub fn spent(&self) -> Nanos {
        self.totals.usd().unwrap_or(Nanos::ZERO) + self.totals.at_risk()
    }

    /// Records the cost of `job` so far in the spending history.
    pub fn record(&self, job: &Job, ledger: &Ledger) -> Result<()> {
        let spent: Vec<Spent> = self
            .totals
            .by_model()
            .map(|(model, rows, usage, paid)| Spent {
                model: model.to_owned(),
                rows,
                prompt: usage.prompt,
                completion: usage.completion,
                paid,
            })
            .collect();
        let payer = Payer { job: &job.id, sandbox: job.is_of_sandbox() };
        ledger.decide(|| {
            ledger.record_tags(&job.id, &job.tags())?;
            ledger.record_spending(payer, &jiff::Zoned::now().date().to_string(), &spent)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::outcome::{ErrorCode, Fingerprint, RowError, Usage};
    use crate::price::Overrides;

    /// Prices of fractions of a nano-USD per token, so that every rounding shows.
    const PRICES: &str = "[\"a\"]\ninput = 0.0037\noutput = 0.0011\ncached_input = 0.00041\n[\"b\"]\ninput = 1.000003\noutput = 0.000001\nbatch_discount = 0.3\nbatch = true\n";

    fn table() -> PriceTable {
        let prices: Overrides = toml::from_str(PRICES).unwrap();
        PriceTable::builtin().with(&prices).unwrap()
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        let usage = || {
            (0_u64..900, 0_u64..900, 0_u64..900).prop_map(|(prompt, completion, cached)| Usage {
                cached: cached.min(prompt),
                ..Usage::new(prompt, completion)
            })
        };
        let fate = (proptest::option::of(0_usize..16), any::<bool>(), any::<bool>(), proptest::option::of(1_u32..3));
        (usage(), usage(), usage(), fate, 0_u32..3).prop_map(|(used, wasted, bound, fate, at_risk)| {
            let (code, metered, first, batch) = fate;
            let model = if first { "a" } else { "b" };
            Outcome {
                fingerprint: Fingerprint([7; 16]),
                error: code.map(|code| RowError::new(ErrorCode::ALL[code], "")),
                usage: (code.is_none() && metered).then_some(used),
                wasted,
                at_risk,
                reserve: Usage::new(bound.prompt, bound.completion),
                attempts: 1 + at_risk,
                batch,
                ..Outcome::unsent(0, "".into(), model.into(), ErrorCode::Missing, "")
            }
        })
    }

    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    struct Sums {
        paid: Nanos,
        at_risk: Nanos,
        cache_saved: Nanos,
    }

    /// The sums of everything in the database.
    fn sums(db: &JobDb) -> Sums {
        let accounts = Accounts::of(db, table(), 100, &RowSet::default()).unwrap();
        let cost = accounts.totals.summary(&crate::summary::Meta::blank()).cost;
        Sums {
            paid: cost.usd.unwrap_or_default(),
            at_risk: cost.at_risk_usd.unwrap(),
            cache_saved: cost.cache_saved_usd.unwrap_or_default(),
        }
    }

    fn add(sums: Sums, outcome: &Outcome) -> Sums {
        let charge = charge(outcome, &mut PriceBook::new(table()));
        let known = charge.paid.unwrap_or_default() + charge.wasted.unwrap_or_default();
        Sums {
            paid: sums.paid + known,
            at_risk: sums.at_risk + charge.at_risk.unwrap(),
            cache_saved: sums.cache_saved + charge.cache.saved.unwrap_or_default(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn no_retry_loses_or_makes_money(
            first in proptest::collection::vec(outcome(), 1..24),
            again in proptest::collection::vec(proptest::option::of(outcome()), 24),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let job = Job::new(Transport::Realtime, "k".to_owned(), "in.jsonl".to_owned(), "{}".to_owned());
            let mut db = JobDb::create(&dir.path().join("j.db"), &job).unwrap();
            let mut expected = Sums::default();
            for (row, outcome) in (1..).zip(&first) {
                db.put_joined([(&Outcome { row, ..outcome.clone() }, None)]).unwrap();
                expected = add(expected, outcome);
            }
            db.commit(false).unwrap();
            prop_assert_eq!(sums(&db), expected);
            // Every failed row is due again, and some of them get a new outcome.
            db.set_aside(|_| true).unwrap();
            prop_assert_eq!(sums(&db), expected, "set aside");
            for ((row, old), new) in (1..).zip(&first).zip(&again) {
                let Some(new) = new.as_ref().filter(|_| !old.ok()) else { continue };
                db.put_joined([(&Outcome { row, ..new.clone() }, None)]).unwrap();
                expected = add(expected, new);
            }
            db.commit(false).unwrap();
            prop_assert_eq!(sums(&db), expected, "sent again");
            db.settle_aside().unwrap();
            prop_assert_eq!(sums(&db), expected, "settled");
        }
    }
}
