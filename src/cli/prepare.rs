//! `llbatch prepare`: the batch files that `submit` would upload.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::args::InputArgs;
use super::{name_hidden, preview, print_json};
use crate::context::Ctx;
use crate::error::{Exit, Result};
use crate::job::prepare::{self, PrepareOrder, WrittenBatches};
use crate::split::BatchFile;
use crate::text;
use crate::text::{Align, Grid};

/// Write the batch files that `submit` would upload, at least one for each model
///
/// Sends nothing and needs no key. The files appear together once all are complete, and replace older files of the same
/// names. If a row is invalid, no file appears (--skip-invalid leaves such rows out, exit 3).
#[derive(Debug, Args)]
#[command(override_usage = "llbatch prepare [OPTIONS] --output <DIR|FILE> [INPUT]...", after_help = EXAMPLES)]
pub struct PrepareArgs {
    #[command(flatten)]
    pub(super) input: InputArgs,

    /// Directory, or URL with a final /, for MODEL-001.jsonl and so on; or a .jsonl file or URL, if the rows fit into one batch
    #[arg(short, long, value_name = "DIR|FILE", required_unless_present = "preview", help_heading = "Results")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  llbatch prepare samples/batch.jsonl -o shards/
  llbatch prepare reviews.csv -m … --prompt 'Positive or negative? {{ text }}' --max-tokens 5 -o batch.jsonl";

#[derive(Serialize)]
struct PrepareDocument<'a> {
    version: u8,
    shards: Vec<FileEntry<'a>>,
    /// All rows of the input, valid and invalid.
    rows: u64,
    bad_rows: u64,
}

#[derive(Serialize)]
struct FileEntry<'a> {
    file: String,
    model: &'a str,
    rows: u64,
    bytes: u64,
}

/// Runs the subcommand.
pub fn run(args: &PrepareArgs, ctx: &Ctx) -> Result<Exit> {
    let stdin = args.input.stdin()?;
    if args.input.inputs.is_empty() {
        return Err(InputArgs::missing("llbatch prepare prompts.jsonl -o shards/"));
    }
    args.input.batch_endpoint()?;
    if let Some(rows) = args.input.preview {
        return preview::show(&args.input, rows, ctx);
    }
    // Without --preview, the parser asks for it.
    let output = args.output.as_deref().unwrap_or(Path::new("."));
    let order = PrepareOrder {
        inputs: &args.input.inputs,
        stdin,
        reading: args.input.reading(),
        params: args.input.params(&ctx.settings)?,
        skip_invalid: args.input.skip_invalid,
        max_problems: args.input.max_problems,
        output,
    };
    let written = prepare::prepare(&order, ctx)?;
    if let Some(first) = written.others.first() {
        ctx.ui.warn(&format!(
            "{} also holds {} that this command did not write, such as {}",
            output.display(),
            text::plural(written.others.len() as u64, "other .jsonl file"),
            first.display()
        ));
    }
    if ctx.json {
        print_json(&PrepareDocument::of(&written), ctx)?;
    }
    let table = table(&written.files);
    ctx.ui.block(&table.render(ctx.ui.width()));
    name_hidden(&table, ctx.ui.width(), ctx);
    Ok(if written.bad_rows > 0 { Exit::RowsFailed } else { Exit::Ok })
}

fn table(files: &[BatchFile]) -> Grid {
    let columns = [("FILE", Align::Whole), ("MODEL", Align::Left), ("ROWS", Align::Right), ("SIZE", Align::Right)];
    let mut table = Grid::new(columns);
    for file in files {
        let path = file.path.display().to_string();
        table.row([path, file.model.to_string(), text::count(file.rows), text::bytes(file.bytes)]);
    }
    table
}

impl<'a> PrepareDocument<'a> {
    fn of(written: &'a WrittenBatches) -> Self {
        let entry = |file: &'a BatchFile| FileEntry {
            file: file.path.display().to_string(),
            model: &file.model,
            rows: file.rows,
            bytes: file.bytes,
        };
        Self {
            version: 1,
            shards: written.files.iter().map(entry).collect(),
            rows: written.rows,
            bad_rows: written.bad_rows,
        }
    }
}
