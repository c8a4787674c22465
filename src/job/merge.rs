//! Results of several tasks put together: the work of `llbatch merge`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::finish::Ended;
use super::verdict::{JobFacts, RowFacts, Verdict};
use crate::atomic_file::same_file;
use crate::columnar::FieldType;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{OpenedInputs, ReadOptions, Source};
use crate::merge::{MergeInput, Merged, MergedRow, PartForm, Parts};
use crate::money::charge;
use crate::objects::{expand, is_url, shown_path};
use crate::outcome::{ErrorCode, Outcome};
use crate::price::{Nanos, PriceBook};
use crate::report::ReadRow;
use crate::request::{Params, RequestBuilder};
use crate::results::{
    Delivery, LineWriter, MoreColumns, RecordColumns, ResultFiles, ResultFormat, ResultOptions, SummaryFile,
    unsent_cells, unsent_line, write_cells,
};
use crate::store::Store;
use crate::summary::{Charge, PartFigures, Totals};
use crate::text;
use crate::ui::Results;

/// The error of a row that no part has.
const ABSENT: &str = "no part has this row";

/// The files to put together.
#[derive(Debug)]
pub struct MergeOrder<'a> {
    /// Files of the input.
    pub inputs: &'a [PathBuf],
    /// The reading of the input.
    pub reading: ReadOptions,
    /// `--id`
    pub id: Option<String>,
    /// Results of some of its rows each.
    pub parts: &'a [PathBuf],
    /// Summaries of the tasks.
    pub summaries: &'a [PathBuf],
    /// Destination and form; `None`: the form of the parts.
    pub delivery: Delivery,
    /// The user has chosen the form.
    pub has_form: bool,
}

/// The results on their way.
struct Merge<'a> {
    order: &'a MergeOrder<'a>,
    ctx: &'a Ctx,
    parts: Parts,
    /// The state of the input when it was opened.
    input_stamp: Option<String>,
    form: ResultOptions,
    /// Rows are copied as they are.
    copies: bool,
}

/// The figures of the rows that were written.
struct Figures {
    prices: PriceBook,
    totals: Totals,
}

/// Writes the results of all parts in the order of the input.
///
/// # Errors
/// 76 for two different answers to one row, and for a row that the input lacks; 65 for a part that holds no results.
pub fn merge(order: &MergeOrder<'_>, ctx: &Ctx) -> Result<Ended> {
    let paths = expand(order.parts)?;
    distinct(&paths)?;
    let figures = expand(order.summaries)?.iter().map(|path| read_figures(path)).collect::<Result<Vec<_>>>()?;
    let builder = Arc::new(RequestBuilder::new(&Params { id: order.id.clone(), ..Params::default() })?);
    let stdin = order.inputs.iter().any(|path| path.as_os_str() == "-");
    let spool = || Store::open(ctx.settings.state_place()?)?.spool();
    let opened = OpenedInputs::open(order.inputs, stdin, order.reading, spool)?;
    let progress = ctx.ui.progress(if order.delivery.output.is_some() { Results::Elsewhere } else { Results::Stdout });
    progress.phase("merging");
    let scratch = order.scratch(ctx);
    let input = MergeInput { inputs: &opened.inputs, builder: &builder, scratch: &scratch };
    let merge = Merge { input_stamp: opened.inputs.stamp(), ..Merge::new(order, &paths, ctx)? };
    // Standard output takes nothing back, so the order of the parts must be known first.
    let in_order = order.delivery.output.is_some() || merge.parts.merge_in_order(input, &mut |_| Ok(()))?.is_some();
    // What a replaced part said goes to no standard output.
    merge.check_unchanged(input)?;
    let in_order = if in_order { merge.write(input, true)? } else { None };
    let written = match in_order {
        Some(written) => Some(written),
        None => merge.write(input, false)?,
    };
    let (merged, writer, summary_file, totals) =
        written.ok_or_else(|| Error::new(Exit::Failure, "the parts cannot be put in order"))?;
    merge.check_unchanged(input)?;
    progress.finish();
    if merged.rows == 0 {
        return Err(Error::new(Exit::Data, format!("{}: the input has no rows", opened.inputs.shown())));
    }
    for warning in merged.warnings() {
        ctx.ui.warn(&warning);
    }
    let files = writer.finish().commit(true)?;
    let mut ended = end(&merged, &totals, files);
    if !figures.is_empty() {
        let said = PartFigures::rows(&figures);
        if said != merged.rows {
            let (said, rows) = (text::plural(said, "row"), text::count(merged.rows));
            ctx.ui.warn(&format!("the summaries are of {said}, and the input has {rows}"));
        }
        ended.summary.adding_up(&figures);
    }
    Ok(ended.write_summary(summary_file, ctx))
}

impl MergeOrder<'_> {
    /// The directory for files without a name: that of the results, which has room for them, or for results at a URL the
    /// state directory.
    fn scratch(&self, ctx: &Ctx) -> PathBuf {
        let output = self.delivery.output.as_deref();
        if output.is_some_and(is_url) {
            let state = ctx.settings.state_dir().ok().filter(|dir| dir.is_dir());
            return state.map_or_else(std::env::temp_dir, Path::to_owned);
        }
        match output.filter(|path| !path.starts_with("/dev")).and_then(Path::parent) {
            Some(dir) if dir.as_os_str().is_empty() => PathBuf::from("."),
            Some(dir) => dir.to_owned(),
            None => std::env::temp_dir(),
        }
    }
}

impl<'a> Merge<'a> {
    fn new(order: &'a MergeOrder<'a>, paths: &[PathBuf], ctx: &'a Ctx) -> Result<Self> {
        let mut form = order.delivery.form.clone();
        form.files = true;
        let first = Parts::open(paths, &form.prefix, b',')?;
        match first.form() {
            Some(PartForm::Table { .. }) if !order.has_form => form.format = ResultFormat::Csv,
            // Of columns, no responses can be made.
            Some(PartForm::Flat | PartForm::Table { .. } | PartForm::Columns(_))
                if form.format == ResultFormat::Jsonl =>
            {
                form.flat = true;
            }
            _ => {}
        }
        let parts = match form.format {
            ResultFormat::Tsv => Parts::open(paths, &form.prefix, b'\t')?,
            ResultFormat::Csv | ResultFormat::Jsonl | ResultFormat::Parquet => first,
        };
        let copies = parts.are_copied(&form)?;
        if copies {
            form.more = MoreColumns::default();
        }
        Ok(Self { order, ctx, parts, input_stamp: None, form, copies })
    }

    /// Makes sure that every pass has read the same versions of the input and the parts.
    fn check_unchanged(&self, input: MergeInput<'_>) -> Result<()> {
        if input.inputs.stamp() != self.input_stamp {
            return Err(crate::input::changed("the results are of two versions"));
        }
        self.parts.check_unchanged()
    }

    /// The columns of a table whose rows are copied, and the line with their names.
    fn header(&self) -> Option<(&[String], Vec<u8>)> {
        let Some(PartForm::Table { columns, marked }) = self.parts.form().filter(|_| self.copies) else { return None };
        let mut header = Vec::new();
        if *marked && self.order.delivery.output.is_some() {
            header.extend_from_slice("\u{feff}".as_bytes());
        }
        write_cells(columns.iter().map(String::as_str), self.delimiter(), &mut header);
        Some((columns, header))
    }

    /// The columns of a Parquet file whose rows are copied.
    fn typed_columns(&self) -> Option<&[(String, FieldType)]> {
        match self.parts.form().filter(|_| self.copies) {
            Some(PartForm::Columns(columns)) => Some(columns),
            _ => None,
        }
    }

    const fn delimiter(&self) -> u8 {
        if matches!(self.form.format, ResultFormat::Tsv) { b'\t' } else { b',' }
    }

    /// Writes all rows. `None`: the parts are in another order.
    fn write(
        &self,
        input: MergeInput<'_>,
        in_order: bool,
    ) -> Result<Option<(Merged, LineWriter, SummaryFile, Totals)>> {
        let params = Params { id: self.order.id.clone(), ..Params::default() };
        let columns = || match self.form.format {
            _ if !self.copies => RecordColumns::of(input.inputs, &params),
            ResultFormat::Jsonl => RecordColumns::of_first(input.inputs),
            ResultFormat::Csv | ResultFormat::Tsv | ResultFormat::Parquet => Ok(RecordColumns::default()),
        };
        let read: Vec<PathBuf> = self.order.inputs.iter().chain(self.order.parts).cloned().collect();
        let delivery = Delivery { form: self.form.clone(), ..self.order.delivery.clone() };
        let mut outputs = delivery.open(&read, columns, self.ctx)?;
        if let Some(columns) = self.typed_columns() {
            outputs = outputs.copying(columns)?;
        }
        let header = self.header();
        let (mut writer, summary) = outputs.lines(header.as_ref().map(|(_, line)| &**line));
        let prices = PriceBook::new(self.ctx.settings.prices.clone());
        let mut figures = Figures { prices, totals: Totals::new(0) };
        let columns = header.as_ref().map(|(columns, _)| *columns);
        let mut take = |row: MergedRow<'_>| self.row(row, columns, &mut figures, &mut writer);
        let merged = if in_order {
            self.parts.merge_in_order(input, &mut take)?
        } else {
            Some(self.parts.merge_in_any_order(input, &mut take)?)
        };
        Ok(merged.map(|merged| {
            figures.totals.set_rows(merged.rows);
            figures.totals.end_interrupted();
            (merged, writer, summary, figures.totals)
        }))
    }

    /// Writes a row. `columns`: those of a table whose rows are copied.
    fn row(
        &self,
        merged: MergedRow<'_>,
        columns: Option<&[String]>,
        figures: &mut Figures,
        writer: &mut LineWriter,
    ) -> Result<()> {
        let MergedRow { row, id, source, line } = merged;
        let Some(line) = line else {
            let outcome = Outcome::unsent(row, id, Arc::from(""), ErrorCode::Missing, ABSENT);
            figures.count(ReadRow { outcome: outcome.clone(), flat: true, cost: Some(Nanos::ZERO) });
            if let Some(columns) = self.typed_columns() {
                return writer.copy(false, &unsent_line(columns, &self.form.prefix, &outcome, source));
            }
            let Some(columns) = columns else { return writer.write(&outcome, None, source) };
            let cells = unsent_cells(columns, &self.form.prefix, &outcome, source);
            let mut line = Vec::new();
            write_cells(cells.iter().map(|cell| &**cell), self.delimiter(), &mut line);
            return writer.copy(false, &line);
        };
        let mut read = line.row;
        read.outcome.row = row;
        if self.copies {
            writer.copy(read.outcome.ok(), &line.bytes)?;
            figures.count(read);
            return Ok(());
        }
        let outcome = read.outcome.clone();
        let cost = figures.count(read);
        writer.write(&outcome, cost, source)
    }
}

impl Figures {
    /// Counts a row, and returns its cost.
    fn count(&mut self, read: ReadRow) -> Option<Nanos> {
        let in_batch = read.is_flat_batch_answer();
        let ReadRow { mut outcome, flat, cost } = read;
        outcome.batch = in_batch.then_some(0);
        let mut charge = charge(&outcome, &mut self.prices);
        if flat {
            // The price in force when the work was done is the one that the row was written with.
            let paid = cost.or_else(|| (!outcome.ok()).then_some(Nanos::ZERO));
            let list = if in_batch { charge.list } else { paid };
            charge = Charge { paid, list, priced: paid.is_some(), ..charge };
        } else {
            // A line of the service's shape does not say how long its answer took.
            outcome.batch = Some(0);
        }
        self.totals.add(&outcome, &charge);
        charge.total()
    }
}

/// The summary of the merged rows, and the verdict on them.
fn end(merged: &Merged, totals: &Totals, files: ResultFiles) -> Ended {
    let verdict = Verdict::of(&JobFacts::of_rows(RowFacts::of(merged.rows, totals)));
    let mut summary = totals.summary(&verdict.meta_of_files());
    let shown = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    (summary.output, summary.errors_output) = (shown(&files.results), shown(&files.errors));
    (summary.from, summary.parts) = (Some("rows"), merged.parts());
    Ended::without_job(summary, verdict, files)
}

/// Reads the summary of a task.
fn read_figures(path: &Path) -> Result<PartFigures> {
    let shown = shown_path(path);
    let unread = |e| Error::new(Exit::NoInput, format!("--part-summaries {shown}: cannot be read")).because(e);
    let text = if is_url(path) {
        std::io::read_to_string(Source::open(path, &shown)?).map_err(unread)?
    } else {
        std::fs::read_to_string(path).map_err(unread)?
    };
    serde_json::from_str(&text).map_err(|e| {
        Error::new(Exit::Data, format!("--part-summaries {shown}: not a summary"))
            .because(e)
            .hint("a summary is what `run --summary FILE` wrote")
    })
}

/// Returns an error if a file is named twice among the parts: its rows would count twice.
///
/// # Errors
/// 2 if one is.
fn distinct(parts: &[PathBuf]) -> Result<()> {
    for (i, part) in parts.iter().enumerate() {
        if parts[..i].iter().any(|earlier| same_file(earlier, part)) {
            return Err(Error::usage(format!("{}: this part is named twice", shown_path(part))));
        }
    }
    Ok(())
}
