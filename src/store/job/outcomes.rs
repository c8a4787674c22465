//! Outcomes in the job's database. Each row gets one, which is written once.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row, params};

use super::checksum::{Checksum, Part};
use crate::error::Result;
use crate::outcome::{ErrorCode, Fingerprint, Outcome, RowError, Usage};
use crate::store::JobDb;
use crate::store::answer_files::AnswerFileName;
use crate::store::batches::BodyPlace;
use crate::store::damaged;

const COLUMNS: &str = "row, fp, id, model, code, message, status, prompt, completion, wasted_p, wasted_c, at_risk, reserve_p, reserve_c, attempts, refused, latency_ms, batch, prices, side, at, len, sum, cached, reasoning, wasted_cached, wasted_reasoning, url, leader, first_token_ms, rule";

/// Bytes of bodies that are read back at a time: some rows of usual length, a single long one.
const MUCH: usize = 1 << 20;

/// Returns whether `outcome` is a common answer, whose body lies elsewhere. All of these share the values of half the columns.
fn is_common(outcome: &Outcome) -> bool {
    outcome.ok()
        && outcome.status == Some(200)
        && outcome.usage.is_some_and(|usage| (usage.cached, usage.reasoning) == (0, 0))
        && outcome.wasted == Usage::default()
        && (outcome.at_risk, outcome.attempts, outcome.refused) == (0, 1, 0)
}

/// The prices that an outcome is stored with: its own, or those in force.
const fn priced(outcome: &Outcome, prices: u32) -> u32 {
    if outcome.prices == 0 { prices } else { outcome.prices }
}

/// The base URL as the column has it.
fn stored_url(outcome: &Outcome) -> Option<u32> {
    Some(outcome.url).filter(|url| *url > 0)
}

/// The statements that insert outcomes, each prepared once for many.
struct Inserts<'db> {
    /// For any outcome.
    any: CachedStatement<'db>,
    /// For common answers, which have half the columns to bind: a third of the instructions of an insert.
    common: CachedStatement<'db>,
    /// The number of the prices in force.
    prices: u32,
}

impl<'db> Inserts<'db> {
    fn prepare(db: &'db Connection, prices: u32) -> rusqlite::Result<Self> {
        // The parameters are in the order of the columns.
        let any = "INSERT INTO outcome VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)";
        let common = "INSERT INTO outcome VALUES \
                      (?,?,1,?,?,NULL,NULL,200,?,?,0,0,0,?,?,1,0,?,NULL,?,?,?,?,?,?,NULL,NULL,NULL,NULL,?,NULL,?,NULL)";
        Ok(Self { any: db.prepare_cached(any)?, common: db.prepare_cached(common)?, prices })
    }

    /// Inserts an outcome. A body that has a place stays there.
    fn insert(&mut self, outcome: &Outcome, place: Option<BodyPlace>) -> rusqlite::Result<usize> {
        let prices = priced(outcome, self.prices);
        let sum = Checksum::of(outcome, place, prices).value();
        match (outcome.usage, place) {
            (Some(usage), Some(place)) if is_common(outcome) => self.common.execute(params![
                outcome.row.cast_signed(),
                &outcome.fingerprint.0[..],
                &*outcome.id,
                &*outcome.model,
                usage.prompt.cast_signed(),
                usage.completion.cast_signed(),
                outcome.reserve.prompt.cast_signed(),
                outcome.reserve.completion.cast_signed(),
                outcome.latency_ms,
                outcome.batch,
                place.errors,
                place.at.cast_signed(),
                place.len,
                sum,
                prices,
                stored_url(outcome),
                outcome.first_token_ms,
            ]),
            _ => self.any.execute(params![
                outcome.row.cast_signed(),
                &outcome.fingerprint.0[..],
                outcome.ok(),
                &*outcome.id,
                &*outcome.model,
                outcome.error.as_ref().map(|e| e.code.as_str()),
                outcome.error.as_ref().map(|e| e.message.as_str()),
                outcome.status,
                outcome.usage.map(|u| u.prompt.cast_signed()),
                outcome.usage.map(|u| u.completion.cast_signed()),
                outcome.wasted.prompt.cast_signed(),
                outcome.wasted.completion.cast_signed(),
                outcome.at_risk,
                outcome.reserve.prompt.cast_signed(),
                outcome.reserve.completion.cast_signed(),
                outcome.attempts,
                outcome.refused,
                outcome.latency_ms,
                outcome.body.as_deref().filter(|_| place.is_none()),
                outcome.batch,
                place.map(|place| place.errors),
                place.map(|place| place.at.cast_signed()),
                place.map(|place| place.len),
                sum,
                prices,
                outcome.usage.map(|u| u.cached.cast_signed()),
                outcome.usage.map(|u| u.reasoning.cast_signed()),
                outcome.wasted.cached.cast_signed(),
                outcome.wasted.reasoning.cast_signed(),
                stored_url(outcome),
                outcome.leader.map(u64::cast_signed),
                outcome.first_token_ms,
                outcome.error.as_ref().and_then(|e| e.rule.as_deref()),
            ]),
        }
    }
}

impl JobDb {
    /// Writes an outcome. Its body goes to the log, if it came in real time. A second outcome of a row is an error.
    pub fn put(&mut self, outcome: &Outcome) -> Result<()> {
        self.put_all([outcome])
    }

    /// Writes outcomes, as [`Self::put`] does. They are committed with the open group.
    pub fn put_all<'a>(&mut self, outcomes: impl IntoIterator<Item = &'a Outcome>) -> Result<()> {
        self.begin()?;
        let prices = self.prices_in_force();
        let Self { db, log, path, new, .. } = self;
        let failed = |e| damaged(path, &e);
        let mut inserts = Inserts::prepare(db, prices).map_err(failed)?;
        for outcome in outcomes {
            let held = |body: &str| new.as_ref().is_some_and(|new| new.holds(body));
            let logged = outcome.body.as_deref().filter(|body| outcome.batch.is_none() && !held(body));
            let place = logged.map(|body| log.append(body)).transpose()?;
            inserts.insert(outcome, place).map_err(failed)?;
        }
        Ok(())
    }

    /// Writes outcomes of a batch. Where an outcome comes with a place, its body stays in the batch's files. They are
    /// committed with the open group.
    pub fn put_joined<'a>(&mut self, joined: impl IntoIterator<Item = (&'a Outcome, Option<BodyPlace>)>) -> Result<()> {
        self.begin()?;
        let prices = self.prices_in_force();
        self.run(|db| {
            let mut inserts = Inserts::prepare(db, prices)?;
            for (outcome, place) in joined {
                inserts.insert(outcome, place)?;
            }
            Ok(())
        })
    }

    /// Calls `each` with (row, fingerprint, answered) of every outcome, by row.
    ///
    /// # Errors
    /// 74 if one is damaged.
    pub fn each_fingerprint(&self, mut each: impl FnMut(u64, Fingerprint, bool)) -> Result<()> {
        let mut damaged = None;
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row, fp, ok, sum FROM outcome ORDER BY row")?;
            let mut rows = statement.query([])?;
            while let Some(found) = rows.next()? {
                let (row, fp, ok) = (found.get::<_, i64>(0)?.cast_unsigned(), fingerprint(found, 1)?, found.get(2)?);
                let sum = Checksum::read(found, 3)?;
                if sum.is_some_and(|sum| !sum.agrees(Checksum::of_key(row, fp, ok), Part::Key)) {
                    damaged = Some(row);
                    break;
                }
                each(row, fp, ok);
            }
            Ok(())
        })?;
        damaged.map_or(Ok(()), |row| Err(self.damaged_row(row)))
    }

    /// Calls `each` with the fingerprint of every answered row; with `last`, of those up to this one.
    pub fn each_answered(&self, last: Option<Fingerprint>, mut each: impl FnMut(Fingerprint)) -> Result<()> {
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT fp FROM outcome WHERE ok AND fp <= ?1")?;
            let mut rows = statement.query([&last.unwrap_or(Fingerprint([0xff; 16])).0[..]])?;
            while let Some(row) = rows.next()? {
                each(fingerprint(row, 0)?);
            }
            Ok(())
        })
    }

    /// Calls `each` with every row that has an outcome, in order.
    pub fn each_row(&self, mut each: impl FnMut(u64)) -> Result<()> {
        self.run(|db| {
            let mut statement = db.prepare_cached("SELECT row FROM outcome ORDER BY row")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                each(row.get::<_, i64>(0)?.cast_unsigned());
            }
            Ok(())
        })
    }

    /// The answered rows from `from` on, at most `limit`, by row, with their fingerprints and ids.
    pub fn answers(&self, from: u64, limit: u32) -> Result<Vec<(u64, Fingerprint, Box<str>)>> {
        self.run(|db| {
            let mut statement =
                db.prepare_cached("SELECT row, fp, id FROM outcome WHERE row >= ?1 AND ok ORDER BY row LIMIT ?2")?;
            let rows = statement.query_map(params![from.cast_signed(), limit], |row| {
                let id = row.get_ref(2)?.as_str()?.into();
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), fingerprint(row, 1)?, id))
            })?;
            rows.collect()
        })
    }

    /// The outcomes from row `from` on, by row, with their bodies: at most `limit`, and no more once the bodies have
    /// [`MUCH`] bytes.
    ///
    /// # Errors
    /// 74 if one is damaged.
    pub fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>> {
        self.stored(from, limit)?.into_iter().map(|stored| self.verified(stored)).collect()
    }

    /// Takes the bodies in these files as they are. The caller has just verified the files as a whole.
    pub fn trust(&mut self, verified: HashSet<AnswerFileName>) {
        self.answers.verified = verified;
    }

    /// The same, without the bodies that lie in files.
    pub(super) fn stored(&self, from: u64, limit: u32) -> Result<Vec<StoredRow>> {
        self.run(|db| {
            let sql = format!("SELECT {COLUMNS}, body FROM outcome WHERE row >= ?1 ORDER BY row LIMIT ?2");
            let mut statement = db.prepare_cached(&sql)?;
            let mut names = ModelNames::default();
            let mut rows = statement.query(params![from.cast_signed(), limit])?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while bytes < MUCH
                && let Some(row) = rows.next()?
            {
                let mut stored = read(row, &mut names)?;
                stored.outcome.body = row.get::<_, Option<String>>(31)?.map(String::into_boxed_str);
                let within = stored.outcome.body.as_ref().map_or(0, |body| body.len());
                bytes += stored.place.map_or(within, |place| place.len as usize);
                found.push(stored);
            }
            Ok(found)
        })
    }

    /// The outcome with its body.
    ///
    /// # Errors
    /// 74 if a part of it is damaged.
    pub(super) fn verified(&self, stored: StoredRow) -> Result<Outcome> {
        let (row, logged) = (stored.outcome.row, stored.place.is_some());
        let body = stored.outcome.batch.is_none() && stored.agrees(Part::Head);
        self.whole(stored)?.ok_or_else(|| if body { self.damaged_body(row, logged) } else { self.damaged_row(row) })
    }

    /// The outcome with its body, wherever that lies. `None`: a part of it is damaged.
    fn whole(&self, mut stored: StoredRow) -> Result<Option<Outcome>> {
        match (stored.place, stored.outcome.batch) {
            (Some(place), Some(batch)) => {
                // The downloaded file is verified as a whole.
                if !stored.agrees(Part::Whole) {
                    return Ok(None);
                }
                stored.outcome.body = Some(self.answers.body(batch, place)?);
                return Ok(Some(stored.outcome));
            }
            (place, None) => {
                if let Some(place) = place {
                    stored.outcome.body = self.log.body(place).map_err(|e| self.unreadable_log(e))?;
                }
                if !stored.outcome.ok() && stored.agrees(Part::Head) && !stored.agrees(Part::Body) {
                    // The outcome of a failed row stands without the response.
                    stored.outcome.body = None;
                    return Ok(Some(stored.outcome));
                }
            }
            (None, Some(_)) => {}
        }
        Ok(stored.agrees(Part::Whole).then_some(stored.outcome))
    }

    /// The end of the last body in a batch's file; 0 if no body is there.
    pub fn answers_end(&self, batch: u32, errors: bool) -> Result<u64> {
        let sql = "SELECT coalesce(max(at + len), 0) FROM outcome WHERE batch = ?1 AND side = ?2";
        self.run(|db| db.query_row(sql, params![batch, errors], |row| row.get::<_, i64>(0))).map(i64::cast_unsigned)
    }

    /// Calls `each` with every outcome, by row, without its body.
    ///
    /// # Errors
    /// 74 if one is damaged.
    pub fn each_outcome(&self, mut each: impl FnMut(Outcome)) -> Result<()> {
        let mut damaged = None;
        self.run(|db| {
            let mut statement = db.prepare(&format!("SELECT {COLUMNS} FROM outcome ORDER BY row"))?;
            let mut rows = statement.query([])?;
            let mut names = ModelNames::default();
            while let Some(row) = rows.next()? {
                let stored = read(row, &mut names)?;
                if !stored.agrees(Part::Head) {
                    damaged = Some(stored.outcome.row);
                    break;
                }
                each(stored.outcome);
            }
            Ok(())
        })?;
        damaged.map_or(Ok(()), |row| Err(self.damaged_row(row)))
    }

    /// The number of answered rows, and of failed rows. Rows that a stop of the run left are neither.
    pub fn counts(&self) -> Result<(u64, u64)> {
        let count = "SELECT coalesce(sum(ok), 0), coalesce(sum(NOT ok AND code IS NOT ?1), 0) FROM outcome";
        self.run(|db| {
            db.query_row(count, [ErrorCode::Interrupted.as_str()], |row| {
                Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
            })
        })
    }

    /// The number of rows that failed with this code.
    pub fn failed_with(&self, code: ErrorCode) -> Result<u64> {
        let count = "SELECT count(*) FROM outcome WHERE code = ?1";
        self.run(|db| db.query_row(count, [code.as_str()], |row| row.get(0).map(i64::cast_unsigned)))
    }

    /// The largest upper bound of any realtime request so far, by model. An answer without a bound
    /// ([`Outcome::reserve`]) is the largest.
    pub fn largest(&self) -> Result<Vec<(String, Usage)>> {
        self.run(|db| {
            let mut statement = db.prepare(
                "SELECT model, max(reserve_p), CASE WHEN min(reserve_c) = 0 THEN 0 ELSE max(reserve_c) END
                 FROM (SELECT model, reserve_p, reserve_c, attempts, batch FROM outcome
                       UNION ALL SELECT model, reserve_p, reserve_c, attempts, batch FROM set_aside
                       UNION ALL SELECT model, reserve_p, reserve_c, attempts, batch FROM retired
                       UNION ALL SELECT model, reserve_p, reserve_c, attempts, NULL FROM tried)
                 WHERE batch IS NULL AND attempts > 0 AND model <> '' GROUP BY model",
            )?;
            let rows = statement.query_map([], |row| {
                let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
                Ok((row.get(0)?, Usage::new(number(1)?, number(2)?)))
            })?;
            rows.collect()
        })
    }
}

/// Shared names of models, one copy of each.
#[derive(Default)]
struct ModelNames(Vec<Arc<str>>);

impl ModelNames {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.iter().find(|m| &***m == name) {
            return Arc::clone(known);
        }
        let new: Arc<str> = name.into();
        self.0.push(Arc::clone(&new));
        new
    }
}

pub(super) fn fingerprint(row: &Row<'_>, at: usize) -> rusqlite::Result<Fingerprint> {
    row.get_ref(at)?
        .as_blob()
        .ok()
        .and_then(|b| b.try_into().ok())
        .map(Fingerprint)
        .ok_or(rusqlite::Error::InvalidQuery)
}

/// An outcome as it is stored.
pub(super) struct StoredRow {
    pub outcome: Outcome,
    pub place: Option<BodyPlace>,
    sum: Option<Checksum>,
}

impl StoredRow {
    /// Returns whether the columns that were read are as they were written.
    pub fn agrees(&self, part: Part) -> bool {
        self.sum.is_none_or(|sum| sum.agrees(Checksum::of(&self.outcome, self.place, self.outcome.prices), part))
    }
}

/// Reads [`COLUMNS`].
fn read(row: &Row<'_>, models: &mut ModelNames) -> rusqlite::Result<StoredRow> {
    let number = |i| row.get::<_, i64>(i).map(i64::cast_unsigned);
    let count = |i| row.get::<_, Option<i64>>(i).map(|n| n.unwrap_or(0).cast_unsigned());
    let code: Option<String> = row.get(4)?;
    let error = match code {
        None => None,
        Some(code) => Some(RowError {
            code: ErrorCode::parse(&code).unwrap_or(ErrorCode::BadResponse),
            message: row.get::<_, Option<String>>(5)?.unwrap_or_default(),
            rule: row.get::<_, Option<String>>(30)?.map(String::into_boxed_str),
        }),
    };
    let usage = match (row.get::<_, Option<i64>>(7)?, row.get::<_, Option<i64>>(8)?) {
        (Some(_), Some(_)) => {
            Some(Usage { prompt: count(7)?, completion: count(8)?, cached: count(23)?, reasoning: count(24)? })
        }
        _ => None,
    };
    let place = match row.get::<_, Option<bool>>(19)? {
        None => None,
        Some(errors) => Some(BodyPlace { errors, at: number(20)?, len: row.get(21)? }),
    };
    let outcome = Outcome {
        row: number(0)?,
        fingerprint: fingerprint(row, 1)?,
        id: row.get::<_, String>(2)?.into_boxed_str(),
        model: models.get(row.get_ref(3)?.as_str().unwrap_or_default()),
        error,
        status: row.get(6)?,
        body: None,
        places: None,
        attached: Vec::new(),
        usage,
        wasted: Usage { prompt: number(9)?, completion: number(10)?, cached: count(25)?, reasoning: count(26)? },
        at_risk: row.get(11)?,
        reserve: Usage::new(number(12)?, number(13)?),
        attempts: row.get(14)?,
        refused: row.get(15)?,
        latency_ms: row.get(16)?,
        first_token_ms: row.get(29)?,
        batch: row.get(17)?,
        url: row.get::<_, Option<u32>>(27)?.unwrap_or(0),
        prices: row.get::<_, Option<u32>>(18)?.unwrap_or(0),
        leader: row.get::<_, Option<i64>>(28)?.map(i64::cast_unsigned),
    };
    Ok(StoredRow { outcome, place, sum: Checksum::read(row, 22)? })
}
