//! Problems of an input, shown to people.

use super::Checked;
use super::groups::ProblemGroups;
use crate::error::{Error, Exit, Result};
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
    if checked.total_rows == 0 {
        return Err(Error::new(Exit::Data, format!("{}: the input has no rows", checked.inputs))
            .problems(&checked.problems)
            .hint("each line of JSONL is one request; a CSV needs rows below its header"));
    }
    if checked.problem_count == 0 {
        return Ok(());
    }
    list(&checked.groups, max_problems, ui);
    // Every shard refuses the same rows, and leaves out its own.
    let (bad, rows) =
        if skip_invalid { (checked.bad_rows, checked.rows) } else { (checked.total_bad_rows, checked.total_rows) };
    judge(bad, rows, skip_invalid, action, ui).map_err(|error| error.problems(&checked.problems))
}

/// Shows problems, those that say the same once; a hint that several share comes once.
pub fn list(groups: &ProblemGroups, max_problems: usize, ui: &Ui) {
    for (line, hint) in groups.lines() {
        ui.warn(&line);
        if let Some(hint) = hint {
            ui.hint(hint);
        }
    }
    if let Some(rest) = groups.rest() {
        ui.warn(&format!("{rest} (--max-problems {max_problems})"));
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
    let hint = if bad == rows {
        "fix the rows, or the flags that make requests of them".to_owned()
    } else {
        format!("fix the rows, or pass --skip-invalid to {good}")
    };
    Err(Error::new(Exit::Data, text).hint(hint))
}

/// Tells the user if `stream` was removed from rows.
pub fn say_stream_removed(checked: &Checked, ui: &Ui) {
    if checked.stream_removed > 0 {
        let rows = text::plural(checked.stream_removed, "row");
        ui.note(&format!("{rows}: llbatch removed `stream`, because results come whole"));
    }
}
