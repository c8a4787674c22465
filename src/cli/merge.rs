//! `llbatch merge`: results of several tasks, put together.

use std::path::PathBuf;

use clap::Args;

use super::args::{ReadArgs, ResultArgs};
use super::print_summary;
use crate::context::Ctx;
use crate::error::Result;
use crate::error::{Error, Exit};
use crate::job::merge::{self, MergeOrder};

/// Put the results of several tasks together, in the order of the input
///
/// Each row of INPUT becomes one row of the results. A row that no PART has becomes a failed row, `missing` (exit 3). If
/// a row failed in one part and is answered in another, the answer counts. Two different answers to one row, or a row
/// that INPUT lacks, end the command with 76, and no file appears.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  llbatch merge prompts.jsonl part-*.jsonl -o out.jsonl
  llbatch merge reviews.csv part-*.csv -o out.csv --errors failed.csv
  llbatch merge prompts.jsonl part-*.jsonl.gz -o out.jsonl --summary all.json --part-summaries part-*.json")]
pub struct MergeArgs {
    /// Input of the tasks, or `-` for standard input
    #[arg(value_name = "INPUT")]
    input: PathBuf,
    /// Results of the tasks, files or URLs (.jsonl .csv .tsv .parquet, also .gz and .zst), in any order
    #[arg(value_name = "PART", required = true)]
    parts: Vec<PathBuf>,
    /// Another input of the tasks, behind INPUT; may be repeated
    #[arg(long = "input", value_name = "FILE")]
    more: Vec<PathBuf>,
    #[command(flatten)]
    reading: ReadArgs,
    /// Field with the id, as for the tasks [default: custom_id, else id, else row-N]
    #[arg(long, value_name = "FIELD")]
    id: Option<String>,
    /// Add up these summaries of the tasks (--summary) for the tokens and the cost [default: what the rows say]
    #[arg(long, value_name = "FILE", num_args = 1..)]
    part_summaries: Vec<PathBuf>,
    #[command(flatten)]
    results: ResultArgs,
}

/// Runs the subcommand.
pub fn run(args: &MergeArgs, ctx: &Ctx) -> Result<Exit> {
    let inputs: Vec<PathBuf> = std::iter::once(&args.input).chain(&args.more).cloned().collect();
    if inputs.len() > 1 && inputs.iter().any(|path| path.as_os_str() == "-") {
        return Err(Error::usage("`-` (standard input) cannot be combined with files"));
    }
    let order = MergeOrder {
        inputs: &inputs,
        reading: args.reading.options(),
        id: args.id.clone(),
        parts: &args.parts,
        summaries: &args.part_summaries,
        delivery: args.results.resolve(ctx.json)?,
        has_form: args.results.names_format(),
    };
    print_summary(&merge::merge(&order, ctx)?, &[], ctx)
}
