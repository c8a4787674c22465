//! Files cut into rows: the same rows whatever the size of the blocks, and of CSV those of the csv crate.
//!
//! Input: a byte for format and size of the blocks, then the file.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use llbatch::door::{Data, Exit, InputFormat as Format, InputPlace, Inputs, Params, Record, RequestBuilder};
use llbatch_fuzz::{Scratch, choice, find, is_message, members, string};

const FORMATS: [Format; 4] = [Format::Csv, Format::Tsv, Format::Lines, Format::Jsonl];
const LONGEST: usize = 1 << 20;

/// A row as it was read, or the code of what is wrong with it.
type Row = (u64, Result<Vec<String>, (String, Option<u64>)>);

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((how, bytes)) = choice(data) else { return Corpus::Reject };
    let packed = [&b"\x1f\x8b"[..], b"\x28\xb5\x2f\xfd"].iter().any(|magic| bytes.starts_with(magic));
    if packed || bytes.len() > LONGEST {
        return Corpus::Reject;
    }
    let format = FORMATS[usize::from(how & 3)];
    let file = Scratch::of(bytes);
    let inputs = Inputs::spooled(file.path(), "f", format);
    let whole = read(&inputs, 1 << 18, bytes);
    let small = read(&inputs, usize::from(how >> 2) + 1, bytes);
    assert_eq!(small, whole, "in blocks of {} bytes", usize::from(how >> 2) + 1);
    if let (Ok(rows), Format::Csv | Format::Tsv, Ok(text)) = (&whole, format, std::str::from_utf8(bytes)) {
        compare(rows, text, if format == Format::Csv { b',' } else { b'\t' });
    }
    Corpus::Keep
});

/// All rows, or why there are none.
fn read(inputs: &Inputs, block: usize, bytes: &[u8]) -> Result<Vec<Row>, String> {
    let builder = RequestBuilder::new(&Params { model: Some("m".to_owned()), ..Params::default() }).expect("a builder");
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64 + 1;
    let mut blocks = inputs.blocks_sized(block, LONGEST).expect("a file");
    let (mut rows, mut last): (Vec<Row>, _) = (Vec::new(), 0);
    loop {
        let block = match blocks.next() {
            Ok(Some(block)) => block,
            Ok(None) => return Ok(rows),
            Err(error) => {
                assert_eq!(error.exit, Exit::Data);
                assert!(is_message(&error.message, 1000), "{:?}", error.message);
                assert!(error.message.starts_with("f:") && error.hint.is_some(), "{error:?}");
                return Err(error.message);
            }
        };
        let before = rows.len() as u64;
        assert_eq!(block.first_row(), before + 1);
        block.for_each(|record| {
            let number = rows.len() as u64 + 1;
            let (line, row) = match record {
                Ok(record) => {
                    assert_eq!((record.row, record.file), (number, "f"));
                    (line_number(record.line), Ok(cells(&builder, &record)))
                }
                Err(problem) => {
                    assert_eq!((problem.row, &*problem.file), (Some(number), "f"));
                    assert!(is_message(&problem.message, 1000) && problem.hint.is_some(), "{problem}");
                    assert!(problem.column.is_none_or(|column| (1..=bytes.len() as u64).contains(&column)));
                    (line_number(problem.line), Err((problem.code.to_owned(), problem.column)))
                }
            };
            assert!((1..=lines).contains(&line) && (line > last || row.is_err()), "row {number} at line {line}");
            last = last.max(line);
            rows.push((line, row));
        });
        assert_eq!(rows.len() as u64 - before, block.rows(), "rows are counted as they are walked");
    }
}

/// Tables of text have lines.
fn line_number(place: InputPlace) -> u64 {
    let InputPlace::Line(line) = place else { panic!("a place without a line: {place}") };
    line
}

fn cells(builder: &RequestBuilder, record: &Record<'_>) -> Vec<String> {
    match record.data {
        Data::Json(text) | Data::Row(text) | Data::Line(text) => {
            assert!(!text.contains('\n') && !text.trim_matches([' ', '\t', '\r']).is_empty());
            vec![text.to_owned()]
        }
        Data::Columns { names, values } => {
            assert_eq!(names.len(), values.len());
            let prompt = names.iter().position(|name| name == "prompt").and_then(|at| values.get(at));
            if let (Some(prompt), Ok(request)) = (prompt, builder.request(record)) {
                let body = members(&request.body).expect("an object");
                let messages = find(&body, "messages").expect("messages");
                let content = messages.rsplit_once(r#"{"role":"user","content":"#).expect("a message").1;
                assert_eq!(content.strip_suffix("}]").and_then(string).as_deref(), Some(prompt));
            }
            values.iter().map(str::to_owned).collect()
        }
    }
}

/// The csv crate reads the same. It knows other ends of lines (a lone carriage return) and does not tell of a quote that
/// is never closed: what is behind one is not compared.
fn compare(rows: &[Row], text: &str, delimiter: u8) {
    if text.replace("\r\n", "").contains('\r') {
        return;
    }
    let mut reader = csv::ReaderBuilder::new().flexible(true).delimiter(delimiter).from_reader(text.as_bytes());
    let names = reader.headers().expect("text");
    // Llbatch recognises another delimiter in a header of one column, and obeys Excel's `sep=` line.
    let announced = text.to_ascii_lowercase().contains("sep=");
    if announced || (names.len() == 1 && names[0].contains([';', '\t', '|', ','])) {
        return;
    }
    let names = names.len();
    let expected: Vec<csv::StringRecord> = reader.records().map(|record| record.expect("text")).collect();
    assert_eq!(rows.len(), expected.len());
    for ((line, row), expected) in rows.iter().zip(&expected) {
        match row {
            Ok(cells) => assert!(expected.iter().eq(cells.iter()), "line {line}: {cells:?} and {expected:?}"),
            Err((code, _)) if code == "csv_fields" => assert_ne!(expected.len(), names, "line {line}"),
            Err((code, _)) => assert_eq!(code, "csv_quote", "line {line}"),
        }
    }
}
