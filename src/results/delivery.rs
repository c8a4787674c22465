//! The destinations of results: files that appear when they are complete, or standard output.

use std::path::{Path, PathBuf};

use super::column_types;
use super::columns::RecordColumns;
use super::format::{Renderer, ResultFormat, ResultOptions};
use super::ordered_writer::{OrderedWriter, ResultTargets};
use super::row_reader::RowReader;
use super::summary_file::write_summary;
use super::target::Target;
use crate::atomic_file::{AtomicFile, ObjectHelp, partial_name, remove_stale, same_file};
use crate::columnar::FieldType;
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::row_set::RowSet;
use crate::summary::Summary;

/// The user's wishes for the results.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `-o`; `None`: standard output.
    pub output: Option<PathBuf>,
    /// `--errors`
    pub errors: Option<PathBuf>,
    /// The form of results.
    pub form: ResultOptions,
    /// `--summary`
    pub summary: Option<PathBuf>,
    /// `--tolerate-failures`: the command succeeds although rows failed.
    pub tolerates_failures: bool,
    /// Writes no results now: they stay in the store.
    pub nowhere: bool,
}

/// Outputs, open and empty.
#[derive(Debug)]
pub struct Outputs {
    targets: ResultTargets,
    summary: SummaryFile,
}

/// The files that hold a command's results, for the user to open next.
#[derive(Debug, Clone, Default)]
pub struct ResultFiles {
    /// `-o`
    pub results: Option<PathBuf>,
    /// `--errors`
    pub errors: Option<PathBuf>,
    /// `--summary`
    pub summary: Option<PathBuf>,
    /// Cells that the guard against formulas changed.
    pub guarded: u64,
    /// These are partial files, and the files that the user named stay as they were.
    pub partial: bool,
}

impl Delivery {
    /// Results that stay in the store.
    pub const fn nowhere() -> Self {
        let form = ResultOptions::new(ResultFormat::Jsonl);
        Self { output: None, errors: None, form, summary: None, tolerates_failures: false, nowhere: true }
    }

    /// Opens the outputs, before money is spent. `paths` are the files that were read. `records` is asked for the columns
    /// of flat results.
    ///
    /// # Errors
    /// 2 if a file would be written twice or over an input, 65 if columns clash, 74 if a file cannot be written.
    pub fn open(
        &self,
        paths: &[PathBuf],
        records: impl FnOnce() -> Result<RecordColumns>,
        ctx: &Ctx,
    ) -> Result<Outputs> {
        self.distinct(paths)?;
        if self.form.format == ResultFormat::Parquet && self.to_stdout() && ctx.ui.stdout_is_terminal() {
            let text = "a Parquet file is not for a terminal, and the results would go to standard output";
            return Err(Error::usage(text).hint("pass -o FILE.parquet"));
        }
        let table = if self.form.is_flat() { records()? } else { RecordColumns::default() };
        // A pipe's reader would take a mark for a part of the first name.
        let table = RecordColumns { marked: table.marked && self.output.is_some(), ..table };
        let renderer = Renderer::new(&self.form, &table)?;
        let scratch = || ctx.settings.state_dir().map(Path::to_owned);
        let help = ObjectHelp { scratch: &scratch, warn: &|text| ctx.ui.warn(text) };
        let open = |path: &Path| {
            // The partial file of a killed run is of no use: its results are in the store.
            let _ = remove_stale(path);
            AtomicFile::open(path, 0o666, &help)
        };
        let results = match &self.output {
            Some(path) => Target::File(open(path)?),
            None if self.nowhere => Target::Stream(Box::new(std::io::sink())),
            None => Target::Stream(Box::new(ctx.ui.data())),
        };
        let errors = self.errors.as_deref().map(open).transpose()?.map(Target::File);
        let summary = self.summary.as_deref().map(open).transpose()?;
        let summary = SummaryFile { file: summary, tolerates_failures: self.tolerates_failures };
        Ok(Outputs { targets: ResultTargets { renderer, results, errors }, summary })
    }

    /// Returns true if results go to standard output.
    const fn to_stdout(&self) -> bool {
        self.output.is_none() && !self.nowhere
    }

    /// Checks that no file is written twice, and no input is written over.
    fn distinct(&self, inputs: &[PathBuf]) -> Result<()> {
        let named = [("-o", &self.output), ("--errors", &self.errors), ("--summary", &self.summary)];
        let named = named.into_iter().filter_map(|(flag, path)| Some((flag, path.clone()?)));
        let named = named.filter(|(_, path)| !path.starts_with("/dev"));
        // A stopped command writes to the partial file, and a complete one removes it.
        let outputs: Vec<(&str, PathBuf)> = named
            .flat_map(|(flag, path)| {
                let partial = partial_name(&path);
                [(flag, path), (flag, partial)]
            })
            .collect();
        for (i, (flag, path)) in outputs.iter().enumerate() {
            if inputs.iter().any(|input| same_file(input, path)) {
                return Err(Error::usage(format!(
                    "{flag} {}: this is an input file, which would be overwritten",
                    path.display()
                ))
                .hint("write to another file"));
            }
            if let Some((other, _)) = outputs[..i].iter().find(|(_, earlier)| same_file(earlier, path)) {
                return Err(Error::usage(format!("{other} and {flag} both name {}", path.display()))
                    .hint("name a different file for each"));
            }
        }
        Ok(())
    }
}

impl Outputs {
    /// The same for rows that are copied into a Parquet file with these columns.
    ///
    /// # Errors
    /// 65 for columns that llbatch cannot write.
    pub fn copying(mut self, columns: &[(String, FieldType)]) -> Result<Self> {
        self.targets.renderer = self.targets.renderer.copying(column_types::copied(columns)?);
        Ok(self)
    }

    pub(super) fn parts(self) -> (ResultTargets, SummaryFile) {
        (self.targets, self.summary)
    }

    /// Makes the writer of `total` rows, of which those in `done` are in the database, and the file for the summary. Flat
    /// results need a `reader` for the records' own fields.
    pub fn ordered(self, total: u64, done: RowSet, reader: Option<RowReader>) -> (OrderedWriter, SummaryFile) {
        (OrderedWriter::new(self.targets, total, done, reader), self.summary)
    }
}

/// The file of `--summary`, if the user wants one, and the exit code that it shows.
#[derive(Debug)]
pub struct SummaryFile {
    file: Option<AtomicFile>,
    /// `--tolerate-failures`: failed rows are a success of the command.
    pub tolerates_failures: bool,
}

impl SummaryFile {
    /// Writes the summary, and returns its file; an error does not affect the job itself.
    pub fn write(self, summary: &Summary) -> Result<Option<PathBuf>> {
        let Some(file) = self.file else { return Ok(None) };
        let path = file.is_file().then(|| file.path().to_owned());
        write_summary(summary, file).map_err(|error| {
            let job = summary.job.as_deref().unwrap_or("last");
            error.hint(format!("the job itself is not affected: `llbatch report {job} --summary FILE` writes it"))
        })?;
        Ok(path)
    }
}
