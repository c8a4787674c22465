//! Problems of an input, shown to people.

use std::collections::HashSet;

use super::Checked;
use crate::error::{Error, Exit, Result};
use crate::request::Problem;
use crate::text;
use crate::ui::Ui;

/// The command's intent for the rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Sends them; skipped invalid rows are in the results as failed.
    Send,
    /// Writes them to files; skipped invalid rows are left out.
    Write,
}

/// Lists the problems that a check found, up to `max_problems`.
///
/// # Errors
/// 65 if there is no row, or an invalid row without `--skip-invalid`.
pub fn report(checked: &Checked, skip_invalid: bool, max_problems: usize, action: Action, ui: &Ui) -> Result<()> {
    if checked.rows == 0 {
        return Err(Error::new(Exit::Data, format!("{}: the input has no rows", checked.inputs))
            .problems(&checked.problems)
            .hint("each line of JSONL is one request; a CSV needs rows below its header"));
    }
    if checked.problem_count == 0 {
        return Ok(());
    }
    list(&checked.problems, checked.problem_count, max_problems, ui);
    judge(checked.bad_rows, checked.rows, skip_invalid, action, ui).map_err(|error| error.problems(&checked.problems))
}

/// Shows `problems`, the first of `count`; a hint that several share comes once.
pub fn list(problems: &[Problem], count: u64, max_problems: usize, ui: &Ui) {
    let mut given = HashSet::new();
    for problem in problems {
        ui.warn(&problem.to_string());
        if let Some(hint) = problem.hint.as_ref().filter(|hint| given.insert(hint.as_str())) {
            ui.hint(hint);
        }
    }
    let more = count.saturating_sub(problems.len() as u64);
    if more > 0 {
        ui.warn(&format!("and {} like these (--max-problems {max_problems})", text::plural(more, "more problem")));
    }
}

/// Allows the command to continue without the `bad` ones of `rows`.
///
/// # Errors
/// 65 unless invalid rows are to be skipped.
pub fn judge(bad: u64, rows: u64, skip_invalid: bool, action: Action, ui: &Ui) -> Result<()> {
    let (skipped, nothing, good) = match action {
        Action::Send => ("will be in the results as failed", "nothing was sent", "send the others"),
        Action::Write => ("will be left out", "nothing was written", "write the others"),
    };
    if skip_invalid {
        ui.note(&format!("{} {skipped}", text::plural(bad, "invalid row")));
        return Ok(());
    }
    let text = format!("{} of {} cannot be sent; {nothing}", text::count(bad), text::plural(rows, "row"));
    Err(Error::new(Exit::Data, text).hint(format!("fix the rows, or pass --skip-invalid to {good}")))
}

/// Tells the user if `stream` was removed from rows.
pub fn say_stream_removed(checked: &Checked, ui: &Ui) {
    if checked.stream_removed > 0 {
        let rows = text::plural(checked.stream_removed, "row");
        ui.note(&format!("{rows}: llbatch removed `stream`, because results come whole"));
    }
}
