//! Results of several tasks put together, in the order of the input.
//!
//! Tasks write their rows in the input's order, so that one pass over the input and all parts at once finds every row: memory
//! is a row for each part. Where a part is in another order, the pass ends with rows that nothing took. Then the rows of all
//! parts are sorted on disk ([`index`]).

mod heads;
mod index;
mod lacks;
mod part;
mod sorted_runs;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use heads::Heads;
use index::{Index, RowIds};
use lacks::PartCounts;
pub use part::{PartFile, PartForm};

use crate::check::{Checked, IdHashes, Pass};
use crate::completion::Completion;
use crate::error::{Error, Exit, Result};
use crate::input::Inputs;
use crate::report::ReadRow;
use crate::request::RequestBuilder;
use crate::results::{ResultFormat, ResultOptions, RowReader, SourceRow};
use crate::row_set::RowSet;

/// A row of a part.
#[derive(Debug)]
pub struct PartLine {
    /// The number of the part.
    part: usize,
    /// The row, read.
    pub row: ReadRow,
    /// Its line, as it is copied.
    pub bytes: Vec<u8>,
}

/// The rows of parts, by the rows of the input.
trait LinesOfRows {
    /// Takes the lines of `row`, which has this `id`. Rows come in their order.
    fn take(&mut self, row: u64, id: &str, found: &mut Vec<PartLine>) -> Result<()>;

    /// The id of the result of `row`, which has the `id`.
    fn id_of_result(&self, row: u64, id: Box<str>) -> Box<str> {
        let _ = row;
        id
    }
}

/// A row of the input with its result.
pub struct MergedRow<'a> {
    /// Its number.
    pub row: u64,
    /// Its id.
    pub id: Box<str>,
    /// Its record.
    pub source: &'a SourceRow,
    /// Its line; `None`: no part has one.
    pub line: Option<PartLine>,
}

/// The files that are merged.
#[derive(Debug)]
pub struct Parts {
    parts: Vec<PartFile>,
}

/// The rows that the parts belong to.
#[derive(Debug, Clone, Copy)]
pub struct MergeInput<'a> {
    /// The files.
    pub inputs: &'a Inputs,
    /// The builder of requests, which knows the ids.
    pub builder: &'a std::sync::Arc<RequestBuilder>,
    /// A directory for files without a name.
    pub scratch: &'a Path,
}

/// The rows of all parts, counted.
#[derive(Debug)]
pub struct Merged {
    /// Rows of the input.
    pub rows: u64,
    /// Rows that no part has.
    pub missing: RowSet,
    /// Each part.
    parts: Vec<PartCounts>,
}

impl Parts {
    /// Looks at the parts. `prefix`: that of llbatch's columns; `table`: the byte between the cells of a table that is
    /// written.
    ///
    /// # Errors
    /// 66 if one cannot be read, 65 if it holds no results.
    pub fn open(paths: &[PathBuf], prefix: &str, table: u8) -> Result<Self> {
        let open = |(number, path): (usize, &PathBuf)| PartFile::open(path, number, prefix, table);
        Ok(Self { parts: paths.iter().enumerate().map(open).collect::<Result<_>>()? })
    }

    /// The form of the first part that has rows.
    pub fn form(&self) -> Option<&PartForm> {
        self.parts.iter().find_map(|part| part.form.as_ref())
    }

    /// Makes sure that every pass has read the same versions of the parts.
    ///
    /// # Errors
    /// 1 if a part was written to or replaced since it was found.
    pub fn check_unchanged(&self) -> Result<()> {
        self.parts.iter().try_for_each(PartFile::check_unchanged)
    }

    /// Decides whether results of this form are copies of the rows of the parts; otherwise they are made anew, of what the
    /// parts hold and of the records of the input.
    ///
    /// # Errors
    /// 2 if the parts hold less than the results need, 65 for tables with different columns.
    pub fn are_copied(&self, form: &ResultOptions) -> Result<bool> {
        let with_form = || self.parts.iter().filter_map(|part| Some((part, part.form.as_ref()?)));
        if !form.is_flat() {
            return match with_form().find(|(_, form)| **form != PartForm::Responses) {
                Some((part, _)) => Err(Error::usage(format!(
                    "{} holds columns, not the responses that jsonl results need",
                    part.shown
                ))
                .hint("add --flat, or write .csv, .tsv or .parquet")),
                None => Ok(true),
            };
        }
        let fits = |part: &PartForm| match form.format {
            ResultFormat::Jsonl => *part == PartForm::Flat,
            ResultFormat::Csv | ResultFormat::Tsv => matches!(part, PartForm::Table { .. }),
            ResultFormat::Parquet => matches!(part, PartForm::Columns(_)),
        };
        if !with_form().all(|(_, form)| fits(form)) {
            return Ok(false);
        }
        let first = with_form().next();
        let other = with_form().find(|(_, form)| first.is_some_and(|(_, first)| !first.has_columns_of(form)));
        match (first, other) {
            (Some((first, _)), Some((other, _))) => {
                Err(Error::new(Exit::Data, format!("{} and {} have different columns", first.shown, other.shown))
                    .hint("write all parts with the same flags"))
            }
            (first, _) => Ok(first.is_some()),
        }
    }

    /// Gives every row of the input with its result to `take`, in one pass. `None`: the pass ended with rows that nothing
    /// took, or ids of the input are used twice, so that [`Self::merge_in_any_order`] must find the rows.
    ///
    /// # Errors
    /// 76 for two different answers to one row.
    pub fn merge_in_order(
        &self,
        input: MergeInput<'_>,
        take: &mut dyn FnMut(MergedRow<'_>) -> Result<()>,
    ) -> Result<Option<Merged>> {
        let mut heads = Heads::open(&self.parts)?;
        let mut ids = IdHashes::default();
        let merged = self.merge(input, &mut heads, &mut |row| {
            ids.add(row.source.number(), &row.id);
            take(row)
        })?;
        let found = !heads.has_rest() && (!ids.may_repeat() || input.check()?.duplicates.is_empty());
        Ok(found.then(|| merged.with_torn(&heads.torn())))
    }

    /// Does the same for parts in any order.
    ///
    /// # Errors
    /// 76 too for a row that the input lacks.
    pub fn merge_in_any_order(
        &self,
        input: MergeInput<'_>,
        take: &mut dyn FnMut(MergedRow<'_>) -> Result<()>,
    ) -> Result<Merged> {
        let mut index = self.index(input)?;
        let merged = self.merge(input, &mut index, take)?;
        Ok(merged.with_torn(&index.torn))
    }

    fn index(&self, input: MergeInput<'_>) -> Result<Index<'_>> {
        let checked = input.check()?;
        let mut ids = RowIds::new(input.scratch)?;
        let mut rows = RowReader::open(input.inputs, input.builder)?;
        for row in 1.. {
            let Some(id) = rows.id(row)? else { break };
            match checked.stand_in(row, &id) {
                None => ids.add(row, &id)?,
                Some(stand_in) => {
                    ids.add(row, &stand_in)?;
                    ids.add_repeated(row, &id)?;
                }
            }
        }
        ids.find(&self.parts, checked, input.scratch)
    }

    fn merge(
        &self,
        input: MergeInput<'_>,
        lines: &mut dyn LinesOfRows,
        take: &mut dyn FnMut(MergedRow<'_>) -> Result<()>,
    ) -> Result<Merged> {
        let mut counts: Vec<PartCounts> = self.parts.iter().map(|part| PartCounts::new(&part.shown)).collect();
        let mut rows = RowReader::open(input.inputs, input.builder)?;
        let (mut missing, mut row, mut found) = (RowSet::default(), 0, Vec::new());
        while let Some(source) = rows.at(row + 1)? {
            row += 1;
            let id = lines.id_of_result(row, rows.id_of(&source));
            lines.take(row, &id, &mut found)?;
            for line in &found {
                counts[line.part].count(row, line.row.outcome.ok());
            }
            let line = self.choose(found.drain(..))?;
            if line.is_none() {
                missing.insert(row);
            }
            take(MergedRow { row, id, source: &source, line })?;
        }
        Ok(Merged { rows: row, missing, parts: counts })
    }

    /// Chooses the answer among the lines of a row, or else its first failure.
    ///
    /// # Errors
    /// 76 for two different answers.
    fn choose(&self, lines: impl Iterator<Item = PartLine>) -> Result<Option<PartLine>> {
        let mut chosen: Option<PartLine> = None;
        for line in lines {
            match &chosen {
                Some(before) if before.row.outcome.ok() => {
                    if line.row.outcome.ok() && !same_answer(before, &line) {
                        return Err(self.two_answers(before, &line));
                    }
                }
                Some(_) if !line.row.outcome.ok() => {}
                _ => chosen = Some(line),
            }
        }
        Ok(chosen)
    }

    fn two_answers(&self, one: &PartLine, other: &PartLine) -> Error {
        let [one_part, other_part] = [one, other].map(|line| &self.parts[line.part].shown);
        let id = &one.row.outcome.id;
        Error::new(Exit::Protocol, format!("{one_part} and {other_part} have two different answers for {id:?}"))
            .hint("leave out the part whose answer is not wanted, or answer the row again")
    }
}

impl MergeInput<'_> {
    /// Finds the rows whose id an earlier row has. Other problems do not matter to a merge.
    fn check(&self) -> Result<Checked> {
        Pass { max_problems: 0, ..Pass::new(self.inputs, self.builder) }.run()
    }
}

impl Merged {
    fn with_torn(mut self, torn: &[Option<u64>]) -> Self {
        for (part, torn) in self.parts.iter_mut().zip(torn) {
            part.rows.torn_line = *torn;
        }
        self
    }
}

/// The error of a row that the input lacks.
fn foreign(line: &PartLine, parts: &[PartFile]) -> Error {
    let (id, part) = (&line.row.outcome.id, &parts[line.part].shown);
    Error::new(Exit::Protocol, format!("{part} has a row {id:?} that the input lacks"))
        .hint("merge with the input that the tasks read, and their --id, --input-format, --limit and --sample")
}

/// Compares the content of two answers. Their times and their ids at the service may differ.
fn same_answer(one: &PartLine, other: &PartLine) -> bool {
    let [Some(one_body), Some(other_body)] = [one, other].map(|line| line.row.outcome.body.as_deref()) else {
        return one.bytes == other.bytes;
    };
    one_body == other_body || said(one_body) == said(other_body)
}

/// The content of an answer: the texts and tool calls of its choices, a transcript, ranks, vectors; of any other answer, all of it.
fn said(body: &str) -> Vec<String> {
    let answer = Completion::of(body);
    let mut said: Vec<String> = Vec::new();
    for choice in answer.choices() {
        let text = choice.content_text().map(std::borrow::Cow::into_owned).filter(|_| !choice.calls_tools());
        said.extend(text.or_else(|| choice.shown().map(str::to_owned)));
    }
    if answer.choices().is_empty() {
        said.extend(answer.text().or_else(|| answer.ranked()).map(str::to_owned));
        said.extend(answer.embeddings().flatten().map(str::to_owned));
    }
    if said.is_empty() { vec![body.to_owned()] } else { said }
}
