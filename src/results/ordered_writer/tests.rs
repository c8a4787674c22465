use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use std::rc::Rc;
use std::sync::Mutex;

use super::*;
use crate::atomic_file::AtomicFile;
use crate::input::{Format, Inputs};
use crate::request::{Params, RequestBuilder};
use crate::results::columns::RecordColumns;
use crate::results::{ResultFormat, ResultOptions};

/// Counts how often it is asked; knows one row that failed before and was not sent again.
struct Stored {
    failed: u64,
    asked: Cell<u32>,
}

impl StoredOutcomes for Stored {
    fn outcomes(&self, _: u64, _: u32) -> Result<Vec<Outcome>> {
        Ok(Vec::new())
    }

    fn earlier_outcome(&self, from: u64) -> Result<Option<Outcome>> {
        self.asked.set(self.asked.get() + 1);
        let code = ErrorCode::ContextLength;
        Ok((from <= self.failed)
            .then(|| Outcome::unsent(self.failed, "failed before".into(), Arc::from("m"), code, "too long")))
    }
}

/// The bytes written, and the number of pieces.
#[derive(Clone, Default)]
struct Written(Arc<Mutex<(Vec<u8>, u32)>>);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut written = self.0.lock().unwrap();
        written.0.extend_from_slice(bytes);
        written.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn rows_that_were_never_sent_cost_neither_a_question_nor_a_write_each() {
    const ROWS: u64 = 3000;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.jsonl");
    std::fs::write(&path, "{\"prompt\":\"a\",\"model\":\"m\"}\n".repeat(ROWS as usize)).unwrap();
    let inputs = Inputs::resolve(&[path], Some(Format::Jsonl)).unwrap();
    let builder = Arc::new(RequestBuilder::new(&Params::default()).unwrap());
    let form = ResultOptions::new(ResultFormat::Jsonl);
    let (written, stored) = (Written::default(), Stored { failed: 2000, asked: Cell::new(0) });
    let renderer = Renderer::new(&form, &RecordColumns::default()).unwrap();
    let targets = ResultTargets { renderer, results: Target::Stream(Box::new(written.clone())), errors: None };
    let mut writer = OrderedWriter::new(targets, ROWS, RowSet::new(ROWS), None);
    // Two that were answered: one still in its place in memory, in the middle of those that were not.
    for row in [1, 1000] {
        let outcome = Outcome::unsent(row, "done".into(), Arc::from("m"), ErrorCode::Timeout, "late");
        writer.push(Box::new(outcome));
    }
    let priced = Rc::new(Cell::new(0));
    let mut price = |_: &Outcome| {
        priced.set(priced.get() + 1);
        None
    };
    let mut open = || RowReader::open(&inputs, &builder);
    let unanswered = Unanswered { code: ErrorCode::Budget, reason: "the deadline was reached", open_reader: &mut open };
    writer.finish(&stored, &mut price, unanswered).unwrap().commit(true).unwrap();

    let (bytes, pieces) = written.0.lock().unwrap().clone();
    let codes: Vec<(String, String)> = String::from_utf8(bytes)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&line["custom_id"]), text(&line["error"]["code"]))
        })
        .collect();
    assert_eq!(codes.len() as u64, ROWS);
    for (row, (id, code)) in (1..).zip(&codes) {
        let expected = match row {
            1 | 1000 => ("done".to_owned(), "timeout"),
            2000 => ("failed before".to_owned(), "context_length"),
            _ => (format!("row-{row}"), "budget"),
        };
        assert_eq!((id.clone(), code.as_str()), expected, "row {row}");
    }
    assert_eq!(priced.get(), 3);
    assert!(stored.asked.get() <= 3, "asked {} times", stored.asked.get());
    assert!(pieces <= 40, "written in {pieces} pieces");
}

#[test]
fn results_are_new_though_the_file_of_errors_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let (results, errors) = (dir.path().join("out.jsonl"), dir.path().join("gone/errors.jsonl"));
    std::fs::create_dir(errors.parent().unwrap()).unwrap();
    let target = |path: &Path| Target::File(AtomicFile::create(path, 0o600).unwrap());
    let form = ResultOptions::new(ResultFormat::Jsonl);
    let renderer = Renderer::new(&form, &RecordColumns::default()).unwrap();
    let targets = ResultTargets { renderer, results: target(&results), errors: Some(target(&errors)) };
    let mut writer = OrderedWriter::new(targets, 1, RowSet::new(1), None);
    writer.push(Box::new(Outcome::unsent(1, "a".into(), Arc::from("m"), ErrorCode::Timeout, "late")));
    let stored = Stored { failed: 0, asked: Cell::new(0) };
    let mut open = || unreachable!("every row has an outcome");
    let unanswered = Unanswered { code: ErrorCode::Budget, reason: "", open_reader: &mut open };
    let written = writer.finish(&stored, &mut |_| None, unanswered).unwrap();
    std::fs::remove_dir_all(errors.parent().unwrap()).unwrap();
    let error = written.commit(true).unwrap_err();
    assert!(results.exists(), "{error}");
    assert_eq!(error.hint, Some(format!("{} is new and complete", results.display())));
}

/// A store with an outcome for each of its rows. It counts the outcomes that it gives away.
struct Counted {
    rows: Cell<RowSet>,
    read: Cell<usize>,
}

impl StoredOutcomes for Counted {
    fn outcomes(&self, from: u64, limit: u32) -> Result<Vec<Outcome>> {
        let rows = self.rows.take();
        let found: Vec<Outcome> = rows.iter().filter(|row| *row >= from).take(limit as usize).map(outcome).collect();
        self.rows.set(rows);
        self.read.set(self.read.get() + found.len());
        Ok(found)
    }
}

fn outcome(row: u64) -> Outcome {
    Outcome::unsent(row, generated_id(row).into(), Arc::from("m"), ErrorCode::Timeout, "late")
}

#[test]
fn rows_answered_out_of_order_are_read_back_once_each() {
    const ROWS: u64 = 1200;
    // Rows are answered by their remainder, as with `--group-by-prefix`. Most do not fit into memory.
    for (groups, in_memory) in [(2, false), (3, false), (40, false), (2, true), (40, true)] {
        let form = ResultOptions::new(ResultFormat::Jsonl);
        let written = Written::default();
        let renderer = Renderer::new(&form, &RecordColumns::default()).unwrap();
        let targets = ResultTargets { renderer, results: Target::Stream(Box::new(written.clone())), errors: None };
        let mut writer = OrderedWriter::new(targets, ROWS, RowSet::new(ROWS), None);
        let stored = Counted { rows: Cell::new(RowSet::new(ROWS)), read: Cell::new(0) };
        let mut pushed = 0;
        for row in (0..groups).flat_map(|group| (1..=ROWS).filter(move |row| row % groups == group)) {
            let mut rows = stored.rows.take();
            rows.insert(row);
            stored.rows.set(rows);
            // The next row never comes from the store.
            if row == writer.next || in_memory && row % 5 == 0 {
                writer.push(Box::new(outcome(row)));
                pushed += 1;
            } else {
                writer.note(row);
            }
            writer.advance(&stored, &mut |_| None).unwrap();
        }
        let mut open = || unreachable!("every row has an outcome");
        let unanswered = Unanswered { code: ErrorCode::Budget, reason: "", open_reader: &mut open };
        writer.finish(&stored, &mut |_| None, unanswered).unwrap().commit(true).unwrap();
        let bytes = written.0.lock().unwrap().0.clone();
        let ids: Vec<String> = String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["custom_id"].as_str().unwrap().into())
            .collect();
        assert!(ids.iter().cloned().eq((1..=ROWS).map(generated_id)), "input order");
        assert_eq!(stored.read.get(), ROWS as usize - pushed, "{groups} groups, in memory: {in_memory}");
    }
}
