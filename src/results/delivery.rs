//! Where results go: files that appear when they are complete, or standard output.

use std::path::{Path, PathBuf};

use super::format::{self as output, Renderer};
use super::ordered::Target;
use super::summary_file::write_summary;
use super::{Cursor, Ordered, columns};
use crate::atomic_file::{AtomicFile, remove_stale, same_file};
use crate::context::Ctx;
use crate::error::{Error, Result};
use crate::input::Inputs;
use crate::request::Params;
use crate::row_set::RowSet;
use crate::summary::Summary;

/// What the user wants of the results.
#[derive(Debug, Clone)]
pub struct Delivery {
    /// `-o`; none: standard output.
    pub output: Option<PathBuf>,
    /// `--errors`
    pub errors: Option<PathBuf>,
    /// The form of results.
    pub form: output::Options,
    /// `--summary`
    pub summary: Option<PathBuf>,
    /// Nobody wants them now: they stay in the store.
    pub nowhere: bool,
}

/// Outputs, open and empty.
#[derive(Debug)]
pub struct Outputs {
    renderer: Renderer,
    results: Target,
    errors: Option<Target>,
    summary: Option<AtomicFile>,
}

impl Delivery {
    /// Opens the outputs, before money is spent. `paths`: the files that were read; `inputs` are needed for flat results only.
    ///
    /// # Errors
    /// 2 if a file would be written twice or over an input, 65 if columns clash, 74 if one cannot be written.
    pub fn open(&self, paths: &[PathBuf], inputs: Option<&Inputs>, params: &Params, ctx: &Ctx) -> Result<Outputs> {
        self.distinct(paths)?;
        let columns = match inputs.filter(|_| self.form.is_flat()) {
            Some(inputs) => columns::columns(inputs)?,
            None => Vec::new(),
        };
        let renderer = Renderer::new(&self.form, &columns, columns::id_field(params, &columns))?;
        let open = |path: &Path| {
            // What a killed run left of its results is of no use: they are in the store.
            let _ = remove_stale(path);
            AtomicFile::create(path, 0o666)
        };
        let results = match &self.output {
            Some(path) => Target::File(open(path)?),
            None if self.nowhere => Target::Stream(Box::new(std::io::sink())),
            None => Target::Stream(Box::new(ctx.ui.data())),
        };
        let errors = self.errors.as_deref().map(open).transpose()?.map(Target::File);
        let summary = self.summary.as_deref().map(open).transpose()?;
        Ok(Outputs { renderer, results, errors, summary })
    }

    /// No file is written twice, and no input is written over.
    fn distinct(&self, inputs: &[PathBuf]) -> Result<()> {
        let outputs: Vec<(&str, &PathBuf)> =
            [("-o", &self.output), ("--errors", &self.errors), ("--summary", &self.summary)]
                .into_iter()
                .filter_map(|(flag, path)| path.as_ref().map(|path| (flag, path)))
                .filter(|(_, path)| !path.starts_with("/dev"))
                .collect();
        for (i, (flag, path)) in outputs.iter().enumerate() {
            if inputs.iter().any(|input| same_file(input, path)) {
                return Err(Error::usage(format!(
                    "{flag} {}: that is an input, it would be written over",
                    path.display()
                ))
                .hint("write to another file"));
            }
            if let Some((other, _)) = outputs[..i].iter().find(|(_, earlier)| same_file(earlier, path)) {
                return Err(Error::usage(format!("{other} and {flag} both name {}", path.display()))
                    .hint("give each a file of its own"));
            }
        }
        Ok(())
    }
}

impl Outputs {
    /// The writer of `total` rows, of which those in `done` are in the database; and the file for the summary. With flat
    /// results, `cursor` tells the records' own fields.
    pub fn ordered(self, total: u64, done: RowSet, cursor: Option<Cursor>) -> (Ordered, SummaryFile) {
        let ordered = Ordered::new(total, done, self.renderer, cursor, self.results, self.errors);
        (ordered, SummaryFile(self.summary))
    }
}

/// The file of `--summary`, if there is to be one.
#[derive(Debug)]
pub struct SummaryFile(Option<AtomicFile>);

impl SummaryFile {
    /// Writes it.
    ///
    /// # Errors
    /// 74 if it cannot be written; the job itself is not affected.
    pub fn write(self, summary: &Summary) -> Result<()> {
        let Some(file) = self.0 else { return Ok(()) };
        write_summary(summary, file).map_err(|error| {
            let job = summary.job.as_deref().unwrap_or("last");
            error.hint(format!("the job itself is not affected: `llbatch report {job} --summary FILE` writes it"))
        })
    }
}
