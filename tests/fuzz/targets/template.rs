//! `--prompt` over a record: the same text every time, within its steps and its bound, or a problem that says where.
//!
//! Input: a byte for the kind of record, the template, a NUL, and the record (of CSV its cells, a line each).
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::{Corpus, fuzz_target};
use llbatch::door::{Data, Exit, InputPlace, Params, Record, RequestBuilder};
use llbatch_fuzz::{choice, find, is_message, members, string};

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((kind, rest)) = choice(data) else { return Corpus::Reject };
    let Ok(text) = std::str::from_utf8(rest) else { return Corpus::Reject };
    let Some((template, record)) = text.split_once('\0') else { return Corpus::Reject };
    let names: Arc<[String]> = ["text", "n", "f"].map(str::to_owned).into();
    let mut cells: Vec<&str> = record.split('\n').take(names.len()).collect();
    cells.resize(names.len(), "");
    let values = csv::StringRecord::from(cells);
    let data = match kind % 3 {
        _ if record.contains('\n') && kind % 3 != 2 => return Corpus::Reject,
        0 => Data::Json(record),
        1 => Data::Line(record),
        _ => Data::Columns { names: &names, values: &values },
    };
    let record = Record { row: 3, number: 3, file: "f", line: 4.into(), data };

    let Some(first) = fill(template, &record) else { return Corpus::Keep };
    assert_eq!(fill(template, &record).as_ref(), Some(&first), "the same again");
    let marked = ["{{", "{%", "{#"].iter().any(|mark| template.contains(mark));
    if let (Ok(prompt), false) = (&first, marked) {
        assert_eq!(prompt, template, "nothing to fill in");
    }
    fields(&record);
    Corpus::Keep
});

/// The prompt that a template makes of a record; `None` if it does not parse.
fn fill(template: &str, record: &Record<'_>) -> Option<Result<String, String>> {
    let params = Params { prompt: Some(template.to_owned()), model: Some("m".to_owned()), ..Params::default() };
    let builder = match RequestBuilder::new(&params) {
        Ok(builder) => builder,
        Err(error) => {
            assert_eq!(error.exit, Exit::Usage);
            let rest = error.message.strip_prefix("--prompt: line ").unwrap_or_else(|| panic!("{error}"));
            let line = rest.split(':').next().and_then(|line| line.parse().ok()).unwrap_or(0);
            assert!((1..=template.split('\n').count()).contains(&line), "{error}");
            assert!(error.hint.is_some());
            return None;
        }
    };
    Some(match builder.request(record) {
        Ok(request) => {
            let body = members(&request.body).expect("an object");
            let messages = find(&body, "messages").expect("messages");
            let content =
                messages.strip_prefix(r#"[{"role":"user","content":"#).and_then(|rest| rest.strip_suffix("}]"));
            let prompt = content.and_then(string).expect("one message");
            assert!(!prompt.trim().is_empty());
            Ok(prompt)
        }
        Err(problem) => {
            assert_eq!((problem.row, problem.line), (Some(3), InputPlace::Line(4)));
            assert!(is_message(&problem.message, 2000), "{:?}", problem.message);
            assert!(problem.hint.as_deref().is_some_and(|hint| is_message(hint, 500)), "{:?}", problem.hint);
            let known = ["template", "template_field", "too_deep", "empty_prompt", "json", "id"];
            assert!(known.contains(&problem.code), "{problem}");
            Err(problem.message)
        }
    })
}

/// A field alone comes out as it is: a text as its text, JSON as it was spelled.
fn fields(record: &Record<'_>) {
    let (name, spelled) = match record.data {
        Data::Json(line) | Data::Row(line) => match members(line).as_deref().and_then(|members| find(members, "f")) {
            // Floats are respelled by the engine, and a null is refused.
            Some(value) if value != "null" && !value.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => {
                ("f", string(value).unwrap_or_else(|| value.to_owned()))
            }
            _ => return,
        },
        Data::Line(text) => ("line", text.to_owned()),
        Data::Columns { values, .. } => ("f", values.get(2).unwrap_or_default().to_owned()),
    };
    if let Some(Ok(prompt)) = fill(&format!("<{{{{ {name} }}}}>\n"), record) {
        assert_eq!(prompt, format!("<{spelled}>\n"));
    }
}
