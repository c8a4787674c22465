//! The first rows compared with the flags, before the whole input is read.

use super::Checked;
use super::unlisted::say_unlisted;
use crate::context::Ctx;
use crate::error::{Error, Exit, Result};
use crate::input::{self, Block, Inputs};
use crate::request::{NO_PROMPT, Problem, RequestBuilder, TEMPLATE_FAULT};
use crate::ui::Ui;

/// Compares the first valid record with the flags, and shows warnings. Names files with an unusual delimiter or encoding.
///
/// # Errors
/// 2 for a template that is wrong for every row; 65 for columns of the same name that requests use, or for a wrong delimiter; 66 if an input cannot be read.
pub fn first_look(inputs: &Inputs, builder: &RequestBuilder, ui: &Ui) -> Result<()> {
    if let Some(sample) = inputs.chosen().described() {
        ui.note(&format!("using {sample}"));
    }
    for file in inputs.each_file() {
        let Some(block) = file.blocks()?.next()? else { continue };
        if let Some(encoding) = block.found_encoding() {
            ui.note(&format!("reading {} as {encoding}, which its byte order mark names", block.file()));
        }
        if let Some(delimiter) = block.odd_delimiter() {
            let shown = if delimiter == '\t' { "tabs".to_owned() } else { format!("`{delimiter}`") };
            ui.note(&format!("reading {} with {shown} between fields", block.file()));
        }
        let Some(header) = block.header() else { continue };
        if let Some(shows) = header.shows.filter(|_| builder.finds_no_column(&header.names)) {
            return Err(input::undivided(block.file(), header, shows));
        }
        if let Some(twice) = header.repeated().find(|column| builder.uses_column(column.name)) {
            return Err(input::ambiguous(block.file(), header, twice));
        }
    }
    // All shards say and refuse the same.
    let mut blocks = inputs.of_all_shards().blocks()?;
    let Some(block) = blocks.next()? else { return Ok(()) };
    let many = block.rows() > 1 || blocks.next()?.is_some();
    let mut found = None;
    block.for_each(|record| {
        if let (Ok(record), None) = (record, &found) {
            found = Some(builder.look_at(&record, many));
        }
    });
    for warning in found.transpose()?.unwrap_or_default() {
        ui.warn(&warning);
    }
    Ok(())
}

/// Warns about models that no list has, and tells the user which fields of rows and which flags no request uses.
pub fn say_doubts(checked: &Checked, builder: &RequestBuilder, ctx: &Ctx) {
    let models: Vec<&str> = checked.models.iter().map(|(model, _)| &**model).collect();
    say_unlisted(models.iter().copied(), ctx);
    for note in builder.unused(&models, ctx.settings.run.model.as_deref()) {
        ctx.ui.note(&note);
    }
}

/// The problem of a table that lacks the column that every row needs. It is one problem, that of the header.
pub(super) fn header_problem(block: &Block, builder: &RequestBuilder) -> Option<Problem> {
    let header = block.header()?;
    let (message, hint) = builder.missing_column(&header.names)?;
    Some(Problem::at(None, block.file(), header.line, NO_PROMPT, message).hint(hint))
}

/// Refuses a table that lacks the column that every row needs.
///
/// # Errors
/// 65 for such a table, 66 if an input cannot be read.
pub fn refuse_headers(inputs: &Inputs, builder: &RequestBuilder) -> Result<()> {
    for file in inputs.each_table() {
        let Some(block) = file.blocks()?.next()? else { continue };
        if let Some(problem) = header_problem(&block, builder) {
            let error = Error { hint: problem.hint.clone(), ..Error::new(Exit::Data, problem.to_string()) };
            return Err(error.problems(&[problem]));
        }
    }
    Ok(())
}

/// Finds a problem that is the command's, not the row's: it is the same for every row that gets that far.
///
/// # Errors
/// 2 if there is one.
pub(super) fn refuse_faults(problems: &[Problem]) -> Result<()> {
    match problems.iter().find(|problem| problem.code == TEMPLATE_FAULT) {
        Some(fault) => Err(Error { hint: fault.hint.clone(), ..Error::usage(fault.message.clone()) }),
        None => Ok(()),
    }
}
