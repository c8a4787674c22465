//! Result lines in the form that the user asked for: one [`Outcome`] in, one line out.
//!
//! - **jsonl**: the line of a Together batch output file; bodies are copied as the server sent them.
//! - **flat jsonl**: the record's own fields, then llbatch's columns, in one flat object.
//! - **csv**, **tsv**: the same as a table. Cells that hold the delimiter, a quote or a line break are quoted as in
//!   RFC 4180, with a tab as the delimiter in tsv; lines end in `\n`.
//! - **parquet**: the same as columns with types. A row is a flat object on its way there.

use std::borrow::Cow;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use super::column_types;
use super::columns::RecordColumns;
use super::own_columns::OwnColumns;
use super::{csv, flat, jsonl};
use crate::columnar::TableSchema;
use crate::error::{Error, Result};
use crate::outcome::Outcome;
use crate::price::Nanos;
pub use crate::request::Field;

/// The format of results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultFormat {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated, with a header line.
    Csv,
    /// Tab-separated, with a header line; quoted like csv.
    Tsv,
    /// Columns of typed values.
    Parquet,
}

impl ResultFormat {
    /// Reads the format from a file's ending: `.jsonl`, `.ndjson` and `.json`, `.csv`, `.tsv`, `.parquet`, in
    /// any case.
    pub fn of_path(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "jsonl" | "ndjson" | "json" => Some(Self::Jsonl),
            "csv" => Some(Self::Csv),
            "tsv" => Some(Self::Tsv),
            "parquet" => Some(Self::Parquet),
            _ => None,
        }
    }
}

impl ResultFormat {
    /// The flag's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
        }
    }
}

impl FromStr for ResultFormat {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "jsonl" => Ok(Self::Jsonl),
            "csv" => Ok(Self::Csv),
            "tsv" => Ok(Self::Tsv),
            "parquet" => Ok(Self::Parquet),
            _ => Err(Error::usage(format!("unknown result format `{text}`")).hint("use jsonl, csv, tsv or parquet")),
        }
    }
}

/// The columns that flat forms have only if the user asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MoreColumns {
    /// The properties of the schema (`--unpack`).
    pub unpacked: bool,
    /// Times of streams (`--timing`).
    pub timing: bool,
    /// Parts of the tokens (`--usage-columns`).
    pub usage: bool,
}

/// The form that the user asked for.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "most are flags of the command line")]
pub struct ResultOptions {
    /// The format of lines.
    pub format: ResultFormat,
    /// Makes flat objects in jsonl; other formats are always flat.
    pub flat: bool,
    /// Prefix of llbatch's own column names in flat forms; mostly empty.
    pub prefix: String,
    /// Leaves answers as they are that a spreadsheet would run as a formula.
    pub csv_raw: bool,
    /// Further columns of flat forms.
    pub more: MoreColumns,
    /// A column says which rows have the outcome of an equal request (`--dedupe`).
    pub reused: bool,
    /// Answers may be files, which lines list (`--files`).
    pub files: bool,
}

impl ResultOptions {
    /// Lines of this format without anything that the user may ask for.
    pub const fn new(format: ResultFormat) -> Self {
        let more = MoreColumns { unpacked: false, timing: false, usage: false };
        Self { format, flat: false, prefix: String::new(), csv_raw: false, more, reused: false, files: false }
    }

    /// Tests whether lines carry the record's own fields, that is, whether [`Renderer::render`] reads its `fields`.
    pub fn is_flat(&self) -> bool {
        self.flat || self.format != ResultFormat::Jsonl
    }
}

/// Turns outcomes into lines.
#[derive(Debug)]
pub struct Renderer {
    form: LineForm,
}

#[derive(Debug)]
enum LineForm {
    /// Lines of a batch output file. Where answers are files, lines list them.
    Batch {
        files: bool,
    },
    FlatJson(flat::FlatLines),
    Table(csv::CsvLines),
    /// Flat objects on their way into the columns of a file.
    Columns(flat::FlatLines, Arc<TableSchema>),
}

impl Renderer {
    /// Makes a renderer for records with the fields of `table`; only flat forms read it.
    ///
    /// # Errors
    /// 65 for a flat form whose own column names are taken by the records, 2 for columns of a schema that is missing.
    pub fn new(options: &ResultOptions, table: &RecordColumns) -> Result<Self> {
        if !options.is_flat() {
            return Ok(Self { form: LineForm::Batch { files: options.files } });
        }
        let own = OwnColumns::new(options, table)?;
        let form = match options.format {
            ResultFormat::Jsonl => LineForm::FlatJson(flat::FlatLines::new(own)),
            ResultFormat::Parquet => {
                let schema = Arc::new(column_types::schema(table, &own)?);
                LineForm::Columns(flat::FlatLines::new(own), schema)
            }
            ResultFormat::Csv => LineForm::Table(csv::CsvLines::new(b',', options.csv_raw, table, own)),
            ResultFormat::Tsv => LineForm::Table(csv::CsvLines::new(b'\t', options.csv_raw, table, own)),
        };
        Ok(Self { form })
    }

    /// Cells that the guard against formulas has changed so far.
    pub const fn guarded(&self) -> u64 {
        match &self.form {
            LineForm::Table(table) => table.guarded(),
            LineForm::Batch { .. } | LineForm::FlatJson(_) | LineForm::Columns(..) => 0,
        }
    }

    /// The same for rows that are copied into a file with this `schema`.
    pub(super) fn copying(mut self, schema: TableSchema) -> Self {
        if let LineForm::Columns(_, ours) = &mut self.form {
            *ours = Arc::new(schema);
        }
        self
    }

    /// The columns of a Parquet file.
    pub(super) fn schema(&self) -> Option<&Arc<TableSchema>> {
        match &self.form {
            LineForm::Columns(_, schema) => Some(schema),
            _ => None,
        }
    }

    /// Appends the header line of csv and tsv; nothing for other formats.
    pub fn header(&self, out: &mut Vec<u8>) {
        if let LineForm::Table(table) = &self.form {
            table.header(out);
        }
    }

    /// Appends the line of one row, with its line end.
    ///
    /// `cost` is all that was paid for the row, `None` if not known. `fields` are the record's own, in order; only flat
    /// forms read them. In csv and tsv a field that is not among the columns is left out, and of two fields with the same
    /// name the later one counts, as in JSON parsers.
    pub fn render(
        &self,
        outcome: &Outcome,
        cost: Option<Nanos>,
        fields: &[(Cow<'_, str>, Field<'_>)],
        out: &mut Vec<u8>,
    ) {
        match &self.form {
            LineForm::Batch { files } => jsonl::batch_line(outcome, *files, out),
            LineForm::FlatJson(flat) | LineForm::Columns(flat, _) => flat.line(outcome, cost, fields, out),
            LineForm::Table(table) => table.line(outcome, cost, fields, out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;

    fn options(format: ResultFormat, prefix: &str) -> ResultOptions {
        ResultOptions { flat: true, prefix: prefix.to_owned(), ..ResultOptions::new(format) }
    }

    #[test]
    fn the_ending_decides_the_format() {
        let cases = [
            ("out.jsonl", Some(ResultFormat::Jsonl)),
            ("a.b/out.NDJSON", Some(ResultFormat::Jsonl)),
            ("out.json", Some(ResultFormat::Jsonl)),
            ("out.csv", Some(ResultFormat::Csv)),
            ("out.Tsv", Some(ResultFormat::Tsv)),
            ("out.parquet", Some(ResultFormat::Parquet)),
            ("out.txt", None),
            ("csv", None),
            (".csv", None),
        ];
        for (path, format) in cases {
            assert_eq!(ResultFormat::of_path(Path::new(path)), format, "{path}");
        }
        assert_eq!("tsv".parse::<ResultFormat>().unwrap(), ResultFormat::Tsv);
        assert_eq!("xml".parse::<ResultFormat>().unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_taken_name_is_an_error_unless_it_serves_for_the_column_or_is_prefixed() {
        let table = |model_is_own| RecordColumns {
            names: ["custom_id", "model", "content", "text"].map(str::to_owned).into(),
            id_field: Some("custom_id".to_owned()),
            model_is_own,
            ..RecordColumns::default()
        };
        let check = |options: &ResultOptions, model_is_own| Renderer::new(options, &table(model_is_own)).map(|_| ());
        for format in [ResultFormat::Jsonl, ResultFormat::Csv, ResultFormat::Tsv, ResultFormat::Parquet] {
            let error = check(&options(format, ""), false).unwrap_err();
            assert_eq!(error.exit, Exit::Data);
            assert!(error.message.contains("`model`, `content`") && !error.message.contains("`custom_id`"), "{error}");
            assert!(error.hint.as_deref().unwrap_or_default().contains("--prefix llm_"));
            let error = check(&options(format, ""), true).unwrap_err();
            assert!(error.message.ends_with("a column named `content`"), "{error}");
            assert!(check(&options(format, "llm_"), false).is_ok());
        }
        let batch = ResultOptions::new(ResultFormat::Jsonl);
        assert!(check(&batch, false).is_ok(), "the batch line has no columns to clash with");
    }
}
