//! Writes result lines in their order: copied lines, and lines made from outcomes.

use std::borrow::Cow;

use super::columns::RecordColumns;
use super::csv;
use super::delivery::SummaryFile;
use super::format::Renderer;
use super::ordered_writer::WrittenResults;
use super::row_reader::SourceRow;
use super::target::BufferedTarget;
use super::{Field, Outputs};
use crate::columnar::FieldType;
use crate::error::Result;
use crate::input::Inputs;
use crate::json;
use crate::outcome::Outcome;
use crate::price::Nanos;

/// Writes lines to the results, or those of failed rows to their own file.
#[derive(Debug)]
pub struct LineWriter {
    renderer: Renderer,
    results: BufferedTarget,
    errors: Option<BufferedTarget>,
}

impl Outputs {
    /// Makes the writer, and the file for the summary. `header`: the line that begins each file, if the writer does not make it
    /// itself.
    pub fn lines(self, header: Option<&[u8]>) -> (LineWriter, SummaryFile) {
        let (targets, summary) = self.parts();
        let renderer = targets.renderer;
        let open = |target| {
            BufferedTarget::new(target, renderer.schema(), |lines| match header {
                Some(header) => lines.extend_from_slice(header),
                None => renderer.header(lines),
            })
        };
        let (results, errors) = (open(targets.results), targets.errors.map(open));
        (LineWriter { renderer, results, errors }, summary)
    }
}

impl LineWriter {
    /// Writes the line of a row as it is.
    pub fn copy(&mut self, ok: bool, line: &[u8]) -> Result<()> {
        self.target(ok).append(|lines| lines.extend_from_slice(line))
    }

    /// Writes the line of a row with this record and outcome.
    pub fn write(&mut self, outcome: &Outcome, cost: Option<Nanos>, source: &SourceRow) -> Result<()> {
        let fields = source.fields();
        let target = self.errors.as_mut().filter(|_| !outcome.ok()).unwrap_or(&mut self.results);
        target.append(|lines| self.renderer.render(outcome, cost, &fields, lines))
    }

    fn target(&mut self, ok: bool) -> &mut BufferedTarget {
        self.errors.as_mut().filter(|_| !ok).unwrap_or(&mut self.results)
    }

    /// Ends the files, not yet under their names.
    pub fn finish(self) -> WrittenResults {
        WrittenResults { guarded: self.renderer.guarded(), results: self.results, errors: self.errors }
    }
}

/// Appends the line of a table with these cells.
pub fn write_cells<'a>(cells: impl Iterator<Item = &'a str>, delimiter: u8, out: &mut Vec<u8>) {
    for (i, cell) in cells.enumerate() {
        if i > 0 {
            out.push(delimiter);
        }
        csv::quoted(cell, delimiter, false, out);
    }
    out.push(b'\n');
}

/// The cells of a row that was not sent, in a table with these columns: its record's fields, its id and its error.
pub fn unsent_cells<'a>(
    columns: &[String],
    prefix: &str,
    outcome: &'a Outcome,
    source: &'a SourceRow,
) -> Vec<Cow<'a, str>> {
    let own = |name: &str| columns.iter().rposition(|column| column.strip_prefix(prefix) == Some(name));
    let (id, attempts, error) = (own("custom_id"), own("attempts"), own("error"));
    let fields = source.fields();
    let cell = |(at, column): (usize, &String)| {
        if Some(at) == id {
            return Cow::Borrowed(&*outcome.id);
        }
        if Some(at) == attempts {
            return Cow::Owned(outcome.attempts.to_string());
        }
        if Some(at) == error {
            let error = outcome.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
            return Cow::Owned(error.unwrap_or_default());
        }
        // A table's columns stay in their places, and two may have the same name.
        let named = || fields.iter().rposition(|(name, _)| name == column);
        let place = if source.is_of_table() { Some(at).filter(|at| *at < fields.len()) } else { named() };
        place.map_or(Cow::Borrowed(""), |place| Cow::Owned(text_of(&fields[place].1)))
    };
    columns.iter().enumerate().map(cell).collect()
}

/// The flat JSON line of a row that was not sent, for a file with these typed columns: its record's fields, its id and its
/// error.
pub fn unsent_line(columns: &[(String, FieldType)], prefix: &str, outcome: &Outcome, source: &SourceRow) -> Vec<u8> {
    let fields = source.fields();
    let mut line = vec![b'{'];
    for (name, _) in columns {
        let own = name.strip_prefix(prefix);
        let error = || outcome.error.as_ref().map(|error| format!("{}: {}", error.code, error.message));
        if line.len() > 1 {
            line.push(b',');
        }
        json::write(name, &mut line);
        line.push(b':');
        match (own, fields.iter().rfind(|(field, _)| field == name)) {
            (Some("custom_id"), None | Some((_, Field::Json("null")))) => json::write(&*outcome.id, &mut line),
            (_, Some((_, Field::Text(text)))) => json::write(text, &mut line),
            (_, Some((_, Field::Json(value)))) => line.extend_from_slice(value.as_bytes()),
            (Some("attempts"), None) => json::write(&outcome.attempts, &mut line),
            (Some("error"), None) => json::write(&error(), &mut line),
            (_, None) => line.extend_from_slice(b"null"),
        }
    }
    line.extend_from_slice(b"}\n");
    line
}

/// The text of a field in a table.
fn text_of(field: &Field<'_>) -> String {
    match field {
        Field::Text(text) => text.to_string(),
        Field::Json(json) => match json.as_bytes().first() {
            Some(b'"') => json::unquoted(json).into_owned(),
            Some(b'n') => String::new(),
            _ => (*json).to_owned(),
        },
    }
}

impl RecordColumns {
    /// The columns of the first record alone, for lines that are copied.
    ///
    /// # Errors
    /// 66 if the input cannot be read.
    pub fn of_first(inputs: &Inputs) -> Result<Self> {
        let mut columns = Self { model_is_own: true, ..Self::default() };
        let mut blocks = inputs.blocks()?;
        while columns.names.is_empty()
            && let Some(block) = blocks.next()?
        {
            block.for_each(|record| {
                if let (Ok(record), true) = (record, columns.names.is_empty()) {
                    columns.names = record.fields().into_iter().map(|(name, _)| name.into_owned()).collect();
                }
            });
        }
        Ok(columns)
    }
}
