//! Lines of csv and tsv: cells, quoting, and the guard against spreadsheet formulas.

use std::borrow::Cow;
use std::collections::HashMap;

use super::Field;
use super::columns::RecordColumns;
use super::flat::usd_digits;
use super::own_columns::{Cell, OwnColumns};
use crate::json;
use crate::outcome::Outcome;
use crate::price::Nanos;
use crate::text;

/// Fields of a record that are searched one by one for each column; with thousands, a map is faster.
const SEARCHED: usize = 64;

/// Writes csv (`,`) or tsv (tab) lines. The record's own cells stay as they are. Words of a model or a server are guarded
/// against spreadsheets.
#[derive(Debug)]
pub(super) struct CsvLines {
    delimiter: u8,
    raw: bool,
    columns: Vec<String>,
    /// Their names in the header.
    shown: Vec<String>,
    /// The header begins with a byte order mark.
    marked: bool,
    /// Columns of the record that an earlier llbatch wrote, which came in without their guard.
    answers: Vec<usize>,
    own: OwnColumns,
    /// Cells that the guard has changed.
    guarded: std::cell::Cell<u64>,
}

impl CsvLines {
    pub(super) fn new(delimiter: u8, raw: bool, table: &RecordColumns, own: OwnColumns) -> Self {
        let RecordColumns { names, given, marked, .. } = table;
        let (columns, answers) = (names.clone(), text::answer_columns(names));
        let shown = names.iter().map(|name| given.get(name).unwrap_or(name).clone()).collect();
        Self { delimiter, raw, columns, shown, marked: *marked, answers, own, guarded: std::cell::Cell::default() }
    }

    /// Cells that the guard has changed so far.
    pub(super) const fn guarded(&self) -> u64 {
        self.guarded.get()
    }

    pub(super) fn header(&self, out: &mut Vec<u8>) {
        if self.marked {
            out.extend_from_slice("\u{feff}".as_bytes());
        }
        for (i, name) in self.shown.iter().map(String::as_str).chain(self.own.names()).enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            self.quoted(false, name, out);
        }
        out.push(b'\n');
    }

    pub(super) fn line(
        &self,
        outcome: &Outcome,
        cost: Option<Nanos>,
        fields: &[(Cow<'_, str>, Field<'_>)],
        out: &mut Vec<u8>,
    ) {
        // Of equal names the last one counts, as in JSON parsers.
        let in_order = fields.len() == self.columns.len()
            && fields.iter().zip(&self.columns).all(|((name, _), column)| name == column);
        let map: Option<HashMap<&str, &Field<'_>>> = (!in_order && fields.len() > SEARCHED)
            .then(|| fields.iter().map(|(name, field)| (&**name, field)).collect());
        for (i, column) in self.columns.iter().enumerate() {
            let field = match &map {
                _ if in_order => Some(&fields[i].1),
                Some(map) => map.get(column.as_str()).copied(),
                None => fields.iter().rev().find(|(name, _)| name == column).map(|(_, field)| field),
            };
            let guard = !self.raw && self.answers.contains(&i);
            match (field, self.own.filled(column, field, outcome)) {
                (_, Some(text)) => self.quoted(false, text, out),
                (Some(Field::Text(text)), None) => self.quoted(guard && text::needs_guard(text), text, out),
                (Some(Field::Json(json)), None) => self.json(json, false, out),
                (None, None) => {}
            }
            out.push(self.delimiter);
        }
        for (i, (_, cell)) in self.own.row(outcome, cost).each().enumerate() {
            if i > 0 {
                out.push(self.delimiter);
            }
            match cell {
                Cell::Empty => {}
                Cell::Text(text) => self.quoted(false, text, out),
                Cell::Words(text) => self.words(text, out),
                Cell::Json(json) => self.json(json, true, out),
                Cell::Integer(number) => json::write(&number, out),
                Cell::Tenths(tenths) => json::write(&(f64::from(tenths) / 10.0), out),
                Cell::Usd(usd) => usd_digits(usd, out),
            }
        }
        out.push(b'\n');
    }

    /// Appends a JSON value: a string as its text, null as nothing, anything else as its JSON.
    fn json(&self, json: &str, words: bool, out: &mut Vec<u8>) {
        match json.as_bytes().first() {
            Some(b'"') if words => self.words(&json::unquoted(json), out),
            Some(b'"') => self.quoted(false, &json::unquoted(json), out),
            Some(b'n') => {}
            _ => self.quoted(false, json, out),
        }
    }

    /// Appends words of a model or of a server.
    fn words(&self, text: &str, out: &mut Vec<u8>) {
        let guard = !self.raw && text::needs_guard(text);
        self.guarded.set(self.guarded.get() + u64::from(guard));
        self.quoted(guard, text, out);
    }

    fn quoted(&self, guard: bool, text: &str, out: &mut Vec<u8>) {
        quoted(text, self.delimiter, guard, out);
    }
}

/// Appends a cell, quoted by RFC 4180 only where a reader would otherwise misread it.
///
/// The crate `csv` writes the same bytes, with 34% to 76% more instructions for a row of 12 cells and 550 bytes.
pub(super) fn quoted(text: &str, delimiter: u8, guard: bool, out: &mut Vec<u8>) {
    let bytes = text.as_bytes();
    let quote = memchr::memchr3(b'"', b'\n', b'\r', bytes).is_some() || memchr::memchr(delimiter, bytes).is_some();
    if quote {
        out.push(b'"');
    }
    if guard {
        out.push(b'\'');
    }
    if quote {
        let mut from = 0;
        for at in memchr::memchr_iter(b'"', bytes) {
            out.extend_from_slice(&bytes[from..=at]);
            // The quote comes again with what follows.
            from = at;
        }
        out.extend_from_slice(&bytes[from..]);
        out.push(b'"');
    } else {
        out.extend_from_slice(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::format::{Renderer, ResultFormat, ResultOptions};
    use super::super::own_columns::names;
    use super::*;
    use crate::outcome::{ErrorCode, Usage};

    fn renderer(format: ResultFormat, csv_raw: bool, columns: &[&str]) -> Renderer {
        let options = ResultOptions { csv_raw, ..ResultOptions::new(format) };
        let names = columns.iter().map(|&name| name.to_owned()).collect();
        let table = RecordColumns { names, id_field: Some("id".to_owned()), ..RecordColumns::default() };
        Renderer::new(&options, &table).unwrap()
    }

    fn answered(content: &str) -> Outcome {
        let content = serde_json::to_string(content).unwrap();
        Outcome {
            error: None,
            status: Some(200),
            body: Some(
                format!(r#"{{"choices":[{{"message":{{"content":{content}}},"finish_reason":"stop"}}]}}"#).into(),
            ),
            usage: Some(Usage::new(7, 1)),
            attempts: 1,
            latency_ms: 90,
            batch: None,
            ..Outcome::unsent(1, "r1".into(), "m".into(), ErrorCode::Missing, "")
        }
    }

    type Row<'a> = (Outcome, Vec<(Cow<'a, str>, Field<'a>)>);

    fn table(renderer: &Renderer, rows: &[Row<'_>]) -> String {
        let mut out = Vec::new();
        renderer.header(&mut out);
        for (outcome, fields) in rows {
            renderer.render(outcome, "0.00000048".parse().ok(), fields, &mut out);
        }
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn fields_are_put_under_their_columns() {
        let fields = vec![
            ("stars".into(), Field::Json("5")),
            ("id".into(), Field::Text("r1".into())),
            ("gone".into(), Field::Text("not a column".into())),
            ("text".into(), Field::Json("\"first\"")),
            ("text".into(), Field::Json("\"a \\\"b\\\", \\ud800\"")),
            ("tags".into(), Field::Json("[\"x\", {\"y\":null}]")),
            ("none".into(), Field::Json("null")),
        ];
        let text = table(
            &renderer(ResultFormat::Csv, false, &["id", "text", "stars", "tags", "none", "absent"]),
            &[(answered("ok"), fields)],
        );
        let expected = "id,text,stars,tags,none,absent,\
            custom_id,model,content,finish_reason,prompt_tokens,completion_tokens,cost_usd,attempts,latency_ms,error\n\
            r1,\"a \"\"b\"\", \u{fffd}\u{fffd}\u{fffd}\",5,\"[\"\"x\"\", {\"\"y\"\":null}]\",,,\
            r1,m,ok,stop,7,1,0.00000048,1,90,\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn tsv_quotes_tabs_and_line_breaks_and_leaves_commas() {
        let rows = [(answered("a,b\tc\nd"), vec![("text".into(), Field::Text("x,y".into()))])];
        let text = table(&renderer(ResultFormat::Tsv, false, &["text"]), &rows);
        assert!(text.contains("\nx,y\tr1\tm\t\"a,b\tc\nd\"\tstop\t7\t"), "{text}");
    }

    #[test]
    fn text_that_a_spreadsheet_would_run_is_defused_and_numbers_are_not() {
        let cases = [
            ("=1+1", true),
            ("+cmd", true),
            ("-2+3", true),
            ("-", true),
            ("@SUM(A1)", true),
            ("\t=1", true),
            ("\r=1", true),
            ("\0=1", true),
            ("-1,000", true),
            ("-5e", true),
            ("-.", true),
            ("-5", false),
            ("-5.2", false),
            ("+5", false),
            ("-.5", false),
            ("-1e-9", false),
            ("a=1", false),
            ("'=1", true),
            ("'a", false),
            ("", false),
        ];
        for (text, guarded) in cases {
            for raw in [false, true] {
                let outcome = answered(text);
                let lines = table(
                    &renderer(ResultFormat::Csv, raw, &["own"]),
                    &[(outcome, vec![("own".into(), Field::Text(text.into()))])],
                );
                let mut reader = ::csv::Reader::from_reader(lines.as_bytes());
                let record = reader.records().next().unwrap().unwrap();
                let shown = if guarded && !raw { format!("'{text}") } else { text.to_owned() };
                assert_eq!((&record[0], &record[3]), (text, &*shown), "the user's own cells are theirs; raw={raw}");
            }
        }
        let lines = table(
            &renderer(ResultFormat::Csv, false, &["own"]),
            &[(answered(""), vec![("own".into(), Field::Json("-5"))])],
        );
        assert!(lines.contains("\n-5,r1,"), "{lines}");
        let header = table(&renderer(ResultFormat::Csv, false, &["=HYPERLINK()"]), &[]);
        assert!(header.starts_with("=HYPERLINK(),"), "{header}");
    }

    proptest! {
        #[test]
        fn any_cell_reads_back(
            own in any::<String>(),
            content in any::<String>(),
            message in any::<String>(),
            tabs in any::<bool>(),
        ) {
            let (format, delimiter) = if tabs { (ResultFormat::Tsv, b'\t') } else { (ResultFormat::Csv, b',') };
            let mut failed = answered(&content);
            failed.error = Some(crate::outcome::RowError::new(ErrorCode::Timeout, message.clone()));
            let rows = [
                (answered(&content), vec![("own".into(), Field::Text(own.as_str().into()))]),
                (failed, vec![("own".into(), Field::Text(own.as_str().into()))]),
            ];
            let lines = table(&renderer(format, true, &["own"]), &rows);
            let mut reader = ::csv::ReaderBuilder::new().delimiter(delimiter).from_reader(lines.as_bytes());
            let records: Vec<::csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
            prop_assert_eq!(records.len(), 2);
            prop_assert!(records.iter().all(|record| record.len() == 1 + names().len()));
            prop_assert_eq!(&records[0][0], own.as_str());
            prop_assert_eq!(&records[0][3], content.as_str());
            let error = format!("timeout: {message}");
            prop_assert_eq!(&records[1][10], error.as_str());
        }
    }
}
