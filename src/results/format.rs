//! Result lines: one [`Outcome`] in, one line out, in the shape the user asked for.
//!
//! - **jsonl**: the line of a Together batch output file; bodies are copied as the server sent them.
//! - **flat jsonl**: the record's own fields, then [`COLUMNS`], in one flat object.
//! - **csv**, **tsv**: the same as a table. Cells that hold the delimiter, a quote or a line break are quoted as in
//!   RFC 4180, with a tab as the delimiter in tsv; lines end in `\n`.

use std::borrow::Cow;
use std::path::Path;
use std::str::FromStr;

use super::{csv, flat, jsonl};
use crate::error::{Error, Exit, Result};
use crate::outcome::Outcome;
use crate::price::Nanos;
pub use crate::request::Field;

/// The columns we add to a record in flat forms, in this order, each after [`Options::prefix`].
pub const COLUMNS: [&str; 10] = [
    "custom_id",
    "model",
    "content",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "cost_usd",
    "attempts",
    "latency_ms",
    "error",
];

/// How results are spelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated, with a header line.
    Csv,
    /// Tab-separated, with a header line; quoted like csv.
    Tsv,
}

impl Format {
    /// The format that a file's ending asks for: `.jsonl`, `.ndjson` and `.json`, `.csv`, `.tsv`, in any case.
    pub fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            _ => None,
        }
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            _ => Err(Error::usage(format!("`{text}` is no result format")).hint("use jsonl, csv or tsv")),
        }
    }
}

/// What the user asked of the results.
#[derive(Debug, Clone)]
pub struct Options {
    /// How lines are spelled.
    pub format: Format,
    /// Flat objects in jsonl; csv and tsv are flat either way.
    pub flat: bool,
    /// Put before our own column names in flat forms; mostly empty.
    pub prefix: String,
    /// Do not guard text cells that a spreadsheet would run as a formula.
    pub csv_raw: bool,
}

impl Options {
    /// Whether lines carry the record's own fields, that is, whether [`Renderer::render`] looks at its `fields`.
    pub fn is_flat(&self) -> bool {
        self.flat || self.format != Format::Jsonl
    }
}

/// Turns outcomes into lines.
#[derive(Debug)]
pub struct Renderer {
    shape: RequestBuilder,
}

#[derive(Debug)]
enum RequestBuilder {
    Batch,
    FlatJson(flat::FlatLines),
    Table(csv::Table),
}

impl Renderer {
    /// A renderer for records whose fields are `columns` (all that occur, in the order first seen; only flat forms look
    /// at them). The field named `id_field` is left out: it is the `custom_id` column.
    ///
    /// # Errors
    /// Data (65): a flat form whose own column names are taken by the record.
    pub fn new(options: &Options, columns: &[String], id_field: Option<&str>) -> Result<Self> {
        if !options.is_flat() {
            return Ok(Self { shape: RequestBuilder::Batch });
        }
        let own: Vec<String> = COLUMNS.iter().map(|name| format!("{}{name}", options.prefix)).collect();
        let columns: Vec<&str> = columns.iter().map(String::as_str).filter(|&name| Some(name) != id_field).collect();
        let taken: Vec<String> =
            columns.iter().filter(|name| own.iter().any(|o| o == *name)).map(|name| format!("`{name}`")).collect();
        if !taken.is_empty() {
            return Err(clash(&taken, &options.prefix));
        }
        let shape = match options.format {
            Format::Jsonl => RequestBuilder::FlatJson(flat::FlatLines::new(&own, id_field)),
            Format::Csv => RequestBuilder::Table(csv::Table::new(b',', options.csv_raw, &columns, &own)),
            Format::Tsv => RequestBuilder::Table(csv::Table::new(b'\t', options.csv_raw, &columns, &own)),
        };
        Ok(Self { shape })
    }

    /// Appends the header line of csv and tsv; nothing for jsonl.
    pub fn header(&self, out: &mut Vec<u8>) {
        if let RequestBuilder::Table(table) = &self.shape {
            table.header(out);
        }
    }

    /// Appends the line of one row, with its line end.
    ///
    /// `cost`: of all that was paid for the row, `None` if not known. `fields`: the record's own, in order; only flat
    /// forms look at them. In csv and tsv a field that is not among the columns is left out, and of two fields with the
    /// same name the later one counts, as JSON parsers have it.
    pub fn render(
        &self,
        outcome: &Outcome,
        cost: Option<Nanos>,
        fields: &[(Cow<'_, str>, Field<'_>)],
        out: &mut Vec<u8>,
    ) {
        match &self.shape {
            RequestBuilder::Batch => jsonl::batch_line(outcome, out),
            RequestBuilder::FlatJson(flat) => flat.line(outcome, cost, fields, out),
            RequestBuilder::Table(table) => table.line(outcome, cost, fields, out),
        }
    }
}

fn clash(taken: &[String], prefix: &str) -> Error {
    let columns = if taken.len() == 1 { "a column" } else { "columns" };
    let other = if prefix == "llm_" { "result_" } else { "llm_" };
    Error::new(Exit::Data, format!("the input has {columns} named {}, and so have the results", taken.join(", "))).hint(
        format!("use --prefix {other} to rename the columns that llbatch adds: {other}model, {other}content, ..."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(format: Format, prefix: &str) -> Options {
        Options { format, flat: true, prefix: prefix.to_owned(), csv_raw: false }
    }

    #[test]
    fn the_ending_decides_the_format() {
        let cases = [
            ("out.jsonl", Some(Format::Jsonl)),
            ("a.b/out.NDJSON", Some(Format::Jsonl)),
            ("out.json", Some(Format::Jsonl)),
            ("out.csv", Some(Format::Csv)),
            ("out.Tsv", Some(Format::Tsv)),
            ("out.txt", None),
            ("csv", None),
            (".csv", None),
        ];
        for (path, format) in cases {
            assert_eq!(Format::of_path(Path::new(path)), format, "{path}");
        }
        assert_eq!("tsv".parse::<Format>().unwrap(), Format::Tsv);
        assert_eq!("xml".parse::<Format>().unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_taken_name_is_an_error_unless_it_is_the_id_or_prefixed() {
        let columns: Vec<String> = ["custom_id", "model", "text"].map(str::to_owned).into();
        let all_clear = |options: &Options, id| Renderer::new(options, &columns, id).map(|_| ());
        for format in [Format::Jsonl, Format::Csv, Format::Tsv] {
            let error = all_clear(&options(format, ""), Some("custom_id")).unwrap_err();
            assert_eq!(error.exit, Exit::Data);
            assert!(error.message.contains("`model`") && !error.message.contains("`custom_id`"), "{error}");
            assert!(error.hint.as_deref().unwrap_or_default().contains("--prefix llm_"));
            let error = all_clear(&options(format, ""), Some("text")).unwrap_err();
            assert!(error.message.contains("`custom_id`, `model`"), "{error}");
            assert!(all_clear(&options(format, "llm_"), Some("text")).is_ok());
        }
        let batch = Options { format: Format::Jsonl, flat: false, prefix: String::new(), csv_raw: false };
        assert!(all_clear(&batch, None).is_ok(), "the batch line has no columns to clash with");
    }
}
