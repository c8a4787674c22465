//! Going on: which answers of an earlier run still stand, which rows it may have paid for without an answer.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ask::Again;
use super::spec::Sound;
use crate::check::{Checked, Pass};
use crate::context::Ctx;
use crate::error::Result;
use crate::input::Inputs;
use crate::money::worst::bounds;
use crate::outcome::Fingerprint;
use crate::price::Table;
use crate::request::Shape;
use crate::results::RowReader;
use crate::row_set::RowSet;
use crate::store::{Job, JobDb};
use crate::text;

/// Unanswered rows of a killed run that are named; the others are counted.
const NAMED: usize = 20;

/// What the check found out about the job that is resumed.
#[derive(Debug)]
pub struct Resumed {
    db: JobDb,
    /// Every stored row stands where it stood, with the same request.
    same: bool,
}

impl Resumed {
    /// Calls `each` with every row that a batch may still answer.
    pub fn each_awaited(&self, each: impl FnMut(u64)) -> Result<()> {
        self.db.each_awaited(each)
    }

    /// Whether every row of the input has come to its end in `job`.
    pub const fn answers_all(&self, checked: &Checked, job: &Job) -> bool {
        self.same && checked.rows == job.total && job.succeeded + job.failed == job.total
    }

    /// Whether every stored answer stands where it stood.
    pub const fn is_same(&self) -> bool {
        self.same
    }
}

/// The fingerprints and ids of stored answers, read page by page beside the rows of the input.
struct Stored<'a> {
    db: &'a JobDb,
    page: VecDeque<(u64, Fingerprint, Box<str>)>,
    from: u64,
    ended: bool,
}

impl Stored<'_> {
    /// The stored answer at `row`, which ascends. An answer at a row that was passed over stays in front and is found at the end.
    fn at(&mut self, row: u64) -> Result<Option<(Fingerprint, Box<str>)>> {
        const PAGE: u32 = 4096;
        if self.page.is_empty() && !self.ended {
            self.page = self.db.answers(self.from, PAGE)?.into();
            self.ended = self.page.is_empty();
            self.from = self.page.back().map_or(self.from, |(row, _, _)| row + 1);
        }
        if self.page.front().is_some_and(|(stored, _, _)| *stored == row) {
            return Ok(self.page.pop_front().map(|(_, fp, id)| (fp, id)));
        }
        Ok(None)
    }
}

/// Checks all rows; beside that, whether the answers of an earlier run still stand at their rows. An input that the
/// earlier run found `sound`, and that nobody has written to since, is taken as it is.
pub fn check(
    inputs: &Inputs,
    shape: &Shape,
    (max_problems, table): (usize, Option<&Table>),
    old: Option<JobDb>,
    sound: Option<&Sound>,
) -> Result<(Checked, Option<Resumed>)> {
    let pass = Pass { max_problems, table, ..Pass::new(inputs, shape) };
    let Some(db) = old else {
        return Ok((pass.run()?, None));
    };
    if let Some(sound) = sound
        && inputs.stamp().is_some_and(|stamp| stamp == sound.stamp)
    {
        let models = sound.models.iter().map(|(model, rows)| (model.as_str().into(), *rows)).collect();
        let checked = Checked { rows: sound.rows, models, stream_removed: sound.stream_removed, ..Checked::default() };
        return Ok((checked, Some(Resumed { db, same: true })));
    }
    let mut stored = Stored { db: &db, page: VecDeque::new(), from: 1, ended: false };
    let mut same = Ok(true);
    let checked = pass.inspect(&|draft| (draft.fingerprint(), Box::<str>::from(&*draft.id)), &mut |row, found| {
        if let Ok(true) = same {
            let found = found.map(|found| found.value);
            same = stored.at(row).map(|answer| answer.is_none_or(|stored| found == Some(stored)));
        }
    })?;
    // Answers behind the last row mean that rows are gone.
    let same = same? && stored.at(u64::MAX)?.is_none() && stored.page.is_empty();
    Ok((checked, Some(Resumed { db, same })))
}

/// Makes the job's database ready: answers at their rows, failed rows out, what both cost kept.
pub fn prepare(
    resumed: Resumed,
    inputs: &Inputs,
    shape: &Arc<Shape>,
    checked: &Checked,
    (again, awaited): (Again, &RowSet),
    ctx: &Ctx,
) -> Result<JobDb> {
    let Resumed { mut db, same } = resumed;
    // Rows that were being sent again count as in flight too, so this comes first.
    account_lost(&mut db, inputs, shape, (checked.rows, awaited), ctx)?;
    db.settle_aside()?;
    // Among the answers to another input a failed row stands for nothing.
    if again != Again::None || !same {
        db.set_aside(|code| again != Again::Passing || !code.is_permanent())?;
    }
    if !same {
        let mut kept = 0;
        let mut remap = db.remap()?;
        let mut result = Ok(());
        let pass = Pass { max_problems: 0, threads: 1, ..Pass::new(inputs, shape) };
        pass.inspect(&|draft| (Box::<str>::from(&*draft.id), draft.fingerprint()), &mut |row, found| {
            let Some(found) = found.filter(|_| checked.duplicates.binary_search(&row).is_err()) else { return };
            let (id, fingerprint) = found.value;
            if result.is_ok() {
                match remap.place(row, &id, fingerprint) {
                    Ok(found) => kept += u64::from(found),
                    Err(e) => result = Err(e),
                }
            }
        })?;
        result?;
        let gone = remap.finish()?;
        ctx.ui.note(&format!(
            "the input has changed: {} still fit a row, {} changed or new rows will be sent, {} are of no use any more",
            text::plural(kept, "answer"),
            text::count(checked.rows - kept),
            text::plural(gone, "answer")
        ));
    }
    Ok(db)
}

/// What a killed process had in flight is named, and what it may have cost is kept. Rows that others will answer were not.
pub fn account_lost(
    db: &mut JobDb,
    inputs: &Inputs,
    shape: &Arc<Shape>,
    (rows, awaited): (u64, &RowSet),
    ctx: &Ctx,
) -> Result<()> {
    let mut lost = db.unanswered(usize::MAX)?;
    // Rows that an input has lost since cannot be named.
    lost.retain(|row| *row <= rows && !awaited.contains(*row));
    if !lost.is_empty() {
        tell_lost(&lost, inputs, shape, ctx)?;
    }
    let bounds = bounds(&lost, inputs, shape)?;
    db.retire_lost(&bounds)
}

/// Rows that a killed process had in flight may be billed twice: they are named.
fn tell_lost(lost: &[u64], inputs: &Inputs, shape: &Arc<Shape>, ctx: &Ctx) -> Result<()> {
    let mut names = Vec::new();
    let mut cursor = RowReader::open(inputs, shape, false)?;
    for row in lost.iter().take(NAMED) {
        names.push(cursor.at(*row)?.map_or_else(|| format!("row-{row}"), |s| s.id.into_string()));
    }
    let more = lost.len().saturating_sub(NAMED);
    let tail = if more > 0 { format!(" and {} more", text::count(more as u64)) } else { String::new() };
    ctx.ui.warn(&format!(
        "the last run was cut short: {} may have been sent without an answer coming back, and may be billed twice: {}{tail}",
        text::plural(lost.len() as u64, "row"),
        names.join(", ")
    ));
    Ok(())
}
