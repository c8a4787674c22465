//! Inputs to make and results to read.

use std::fmt::Write as _;

use serde_json::Value;

use super::paid_hash;

/// The model of the samples: $0.06 per million tokens in and out.
pub const MODEL: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";

/// A line of JSONL results.
pub struct Row {
    pub id: String,
    /// The error's code; `None`: answered.
    pub code: Option<String>,
    /// The whole line.
    pub line: Value,
}

impl Row {
    /// The answer's text.
    #[track_caller]
    pub fn content(&self) -> &str {
        let content = &self.line["response"]["body"]["choices"][0]["message"]["content"];
        content.as_str().unwrap_or_else(|| panic!("no answer: {}", self.line))
    }
}

/// `question N` for N in `range`, with ids `qN`, as JSONL; each answer is long enough to carry its prompt's hash.
pub fn prompts(range: std::ops::RangeInclusive<u32>) -> String {
    let mut out = String::new();
    for n in range {
        writeln!(out, r#"{{"id":"q{n}","prompt":"question {n}","model":"{MODEL}","max_tokens":16}}"#).unwrap();
    }
    out
}

/// The same without a model, which tables of results have a column for: needs `-m`.
pub fn questions(range: std::ops::RangeInclusive<u32>) -> String {
    prompts(range).replace(&format!(r#","model":"{MODEL}""#), "")
}

/// The ids `qN` for N in `range`.
pub fn ids(range: std::ops::RangeInclusive<u32>) -> Vec<String> {
    range.map(|n| format!("q{n}")).collect()
}

/// JSONL of the given lines.
pub fn lines(lines: &[&str]) -> String {
    lines.iter().fold(String::new(), |all, line| all + line + "\n")
}

/// Reads JSONL results: one object a line, the last line ended.
#[track_caller]
pub fn rows(results: &str) -> Vec<Row> {
    assert!(results.is_empty() || results.ends_with('\n'), "torn last line: {results:?}");
    let row = |text: &str| {
        let line: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"));
        let keys: Vec<&String> = line.as_object().unwrap().keys().collect();
        assert_eq!(keys[..3], ["custom_id", "response", "error"], "{text}");
        let more = usize::from(line["reused"] == true) + usize::from(line["files"].is_array());
        assert_eq!(keys.len(), 3 + more, "{text}");
        let code = line["error"]["code"].as_str().map(str::to_owned);
        assert_eq!(code.is_none(), line["error"].is_null(), "{text}");
        Row { id: line["custom_id"].as_str().unwrap().to_owned(), code, line }
    };
    results.lines().map(row).collect()
}

/// Asserts that each of `count` rows has the answer to its question, of which there are `keys` in turn, and that all but the
/// first of each are marked as reused.
#[track_caller]
pub fn answered_once(results: &str, count: u32, keys: u32) {
    let found = rows(results);
    assert_eq!(found.len(), count as usize);
    for (n, row) in (1..).zip(&found) {
        assert_eq!(row.id, format!("q{n}"));
        let hash = paid_hash(&format!("question {}", (n - 1) % keys + 1));
        assert!(row.content().contains(&hash), "{}", row.line);
        assert_eq!(row.line["reused"] == true, n > keys, "{}", row.line);
    }
}

/// The ids and error codes of JSONL results, `ok` for an answer.
#[track_caller]
pub fn codes(results: &str) -> Vec<(String, String)> {
    rows(results).into_iter().map(|row| (row.id, row.code.unwrap_or_else(|| "ok".to_owned()))).collect()
}

/// The error codes of JSONL results, `ok` for an answer, read without a parser: for lines that are too deep or hold numbers
/// too large for one.
#[track_caller]
pub fn raw_codes(results: &str) -> Vec<String> {
    let code = |line: &str| {
        let (_, end) = line.rsplit_once(",\"error\":").unwrap();
        if end == "null}" { "ok".to_owned() } else { end.split('"').nth(3).unwrap().to_owned() }
    };
    results.lines().map(code).collect()
}

/// Panics if `text` could command a terminal, or turns its reading order.
#[track_caller]
pub fn harmless(text: &str) {
    let commands = |c: char| c.is_control() && c != '\n';
    let turns = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    assert!(!text.contains(|c| commands(c) || turns(c)), "{text:?}");
}

/// Asserts that `results` are the answers to `prompts(range)`: every row once, in order, each with its own answer.
#[track_caller]
pub fn answered(results: &str, range: std::ops::RangeInclusive<u32>) {
    let rows = rows(results);
    let seen: Vec<&str> = rows.iter().map(|row| row.id.as_str()).collect();
    assert_eq!(seen, ids(range), "ids in input order");
    for row in &rows {
        let hash = paid_hash(&format!("question {}", &row.id[1..]));
        assert!(row.content().contains(&hash), "{} carries another row's answer: {}", row.id, row.line);
    }
}

/// Header and rows of a CSV or TSV file.
#[track_caller]
pub fn csv_rows(text: &str, delimiter: u8) -> (Vec<String>, Vec<Vec<String>>) {
    let mut reader = csv::ReaderBuilder::new().delimiter(delimiter).from_reader(text.as_bytes());
    let own = |record: &csv::StringRecord| record.iter().map(str::to_owned).collect::<Vec<_>>();
    let header = own(reader.headers().unwrap());
    let rows = reader.records().map(|record| own(&record.unwrap())).collect();
    (header, rows)
}
