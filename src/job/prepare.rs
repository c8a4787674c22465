//! Batch files without a job: the work of `llbatch prepare`.

use std::fs;
use std::path::{Path, PathBuf};

use super::batch::form_of;
use crate::check::groups::ProblemGroups;
use crate::check::problems::{self, Action};
use crate::check::{Checked, Pass, first_look, notices, refuse_headers, say_doubts};
use crate::context::Ctx;
use crate::error::Result;
use crate::input::{self, OpenedInputs, ReadOptions};
use crate::request::{Params, RequestBuilder};
use crate::split::destination::Destination;
use crate::split::stage::Stage;
use crate::split::{BatchFile, Split, SplitOptions, split};
use crate::store::Store;
use crate::ui::Results;

/// The rows to write, and their destination.
#[derive(Debug)]
pub struct PrepareOrder<'a> {
    /// Files of the input.
    pub inputs: &'a [PathBuf],
    /// The input is standard input.
    pub stdin: bool,
    /// The reading of the input.
    pub reading: ReadOptions,
    /// The parameters of every request.
    pub params: Params,
    /// `--skip-invalid`: leave invalid rows out.
    pub skip_invalid: bool,
    /// Maximum number of listed problems.
    pub max_problems: usize,
    /// `-o`
    pub output: &'a Path,
}

/// The files of all batches, complete.
#[derive(Debug)]
pub struct WrittenBatches {
    /// The files, by number.
    pub files: Vec<BatchFile>,
    /// All rows of the input, valid and invalid.
    pub rows: u64,
    /// Rows that were left out.
    pub bad_rows: u64,
    /// Other `.jsonl` files in the same directory.
    pub others: Vec<PathBuf>,
}

/// Writes the batch files of the input; all appear when the last one is complete.
///
/// # Errors
/// 65 for invalid rows without `--skip-invalid` and for batches that do not fit into one file; 1 if the input changed.
pub fn prepare(order: &PrepareOrder<'_>, ctx: &Ctx) -> Result<WrittenBatches> {
    let destination = Destination::of(order.output)?;
    let builder = RequestBuilder::for_batches(&order.params)?;
    let progress = ctx.ui.progress(Results::Elsewhere);

    progress.phase("reading input");
    let new_file = || Store::open(ctx.settings.state_place()?)?.spool();
    let opened = OpenedInputs::open(order.inputs, order.stdin, order.reading, new_file)?;
    let inputs = &opened.inputs;
    let stamp = inputs.stamp();

    progress.phase("checking input");
    first_look(inputs, &builder, &ctx.ui)?;
    if !order.skip_invalid {
        refuse_headers(inputs, &builder)?;
    }
    let prices = &ctx.settings.prices;
    let checked =
        Pass { max_problems: order.max_problems, table: Some(prices), ..Pass::new(inputs, &builder) }.run()?;
    problems::report(&checked, order.skip_invalid, order.max_problems, Action::Write, &ctx.ui)?;
    problems::say_stream_removed(&checked, &ctx.ui);
    say_doubts(&checked, &builder, ctx);
    notices::show(&notices::notices(&checked.models, prices), &ctx.ui);

    progress.phase("writing batch files");
    let made = destination.make()?;
    // Without a state directory, only files can be written.
    let scratch = ctx.settings.state_dir().map(Path::to_owned).unwrap_or_default();
    let stage = Stage::new(0o666, &scratch);
    let options = SplitOptions {
        open: &|number, model| destination.open(number, model, &stage, order.inputs),
        limits: form_of(ctx.settings.dialect()),
        threads: Pass::default_threads(),
        first_number: 1,
        only: None,
        digests: false,
        table: Some(prices),
        inspector: None,
        max_problems: order.max_problems,
    };
    let written = split(inputs, &builder, &checked, &options, &mut |_| Ok(())).and_then(|written| {
        if inputs.stamp() != stamp {
            return Err(input::changed("nothing was written"));
        }
        judge(&written, &checked, order, ctx)?;
        destination.fits(&written.files)?;
        Ok(written)
    });
    progress.finish();
    let written = written.and_then(|written| stage.commit().map(|()| written));
    if let Some(dir) = made.filter(|_| written.as_ref().map_or(true, |written| written.files.is_empty())) {
        // This fails, as intended, if another program has put files into the folder meanwhile.
        let _ = fs::remove_dir(dir);
    }
    written.map(|written| WrittenBatches {
        others: destination.others(&written.files),
        rows: checked.rows,
        bad_rows: checked.bad_rows + written.oversize_count,
        files: written.files,
    })
}

/// Allows the rest of an input to be written, or refuses it.
fn judge(written: &Split, checked: &Checked, order: &PrepareOrder<'_>, ctx: &Ctx) -> Result<()> {
    if written.oversize_count > 0 {
        let groups = ProblemGroups::of(&written.oversize, written.oversize_count);
        problems::list(&groups, order.max_problems, &ctx.ui);
        problems::judge(written.oversize_count, checked.rows, order.skip_invalid, Action::Write, &ctx.ui)
            .map_err(|error| error.problems(&written.oversize))?;
    }
    if written.files.is_empty() {
        ctx.ui.warn("every row is invalid; no file was written");
    }
    Ok(())
}
