//! The results of a batch, joined with its rows: each row exactly once, in order, with nothing that its lines do not say;
//! and what is written of it, joined again, says the same.
//!
//! Input: a byte for how the batch ended and which files there are, then the output file, `0xFE`, and the error file.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::{Corpus, fuzz_target};
use llbatch::door::batches::BatchStatus;
use llbatch::door::{
    AnswerRules, Ending, ErrorCode, Expected, Files, Findings, Fingerprint, Joined, Options, Outcome, RecordColumns,
    Renderer, Report, ResultFormat as Format, Side, Usage, join, one_line,
};
use llbatch_fuzz::{Scratch, choice, find, is_message, members, string};

/// Own id, and what travelled instead.
const ROWS: [(&str, Option<&str>); 5] =
    [("a", None), ("row-2", None), ("é\"\\\n", None), ("4", None), ("a long id", Some("row-5"))];
const ENDINGS: [(&str, Option<&str>, ErrorCode); 4] = [
    ("COMPLETED", None, ErrorCode::Missing),
    ("EXPIRED", None, ErrorCode::Expired),
    ("FAILED", Some("the validation failed"), ErrorCode::ServerError),
    ("cancelled", None, ErrorCode::Cancelled),
];

fn expected(own_ids_travel: bool) -> Vec<Expected> {
    let row = |(at, (id, wire)): (usize, &(&str, Option<&str>))| Expected {
        row: at as u64 + 1,
        id: (*id).into(),
        wire: wire.filter(|_| !own_ids_travel).map(Into::into),
        fingerprint: Fingerprint([at as u8; 16]),
        model: Arc::from("m"),
        reserve: Usage::new(at as u64, 9),
    };
    // Not in order: the report must be.
    ROWS.iter().enumerate().map(row).rev().collect()
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((how, bytes)) = choice(data) else { return Corpus::Reject };
    let (output, errors) = match bytes.iter().position(|byte| *byte == 0xFE) {
        Some(at) => (&bytes[..at], Some(&bytes[at + 1..])),
        None => (bytes, None),
    };
    let (status, error, fate) = ENDINGS[usize::from(how & 3)];
    let status = &BatchStatus::read(status);
    let ending = Ending { status, error, batch: 4, deleted: None, whole: true };
    let sides = [Scratch::of(output), Scratch::of(errors.unwrap_or_default())];
    let paths = [sides[0].path(), sides[1].path()];
    let output = (how & 4 == 0).then_some(output);
    let files = Files { output: output.map(|_| &*paths[0]), errors: errors.map(|_| &*paths[1]) };
    let report = join(expected(false), &files, &ending, &AnswerRules::default()).expect("files that can be read");
    assert_eq!(join(expected(false), &files, &ending, &AnswerRules::default()).expect("the same files"), report);

    let lines: Vec<Line<'_>> = output.into_iter().chain(errors).flat_map(lines).collect();
    assert_eq!(report.joined.len(), ROWS.len());
    for ((at, (id, wire)), joined) in ROWS.iter().enumerate().zip(&report.joined) {
        let outcome = &joined.outcome;
        assert_eq!((outcome.row, &*outcome.id, &*outcome.model), (at as u64 + 1, *id, "m"));
        assert_eq!(outcome.fingerprint, Fingerprint([at as u8; 16]));
        assert_eq!((outcome.batch, outcome.attempts), (Some(4), 1));
        // What was answered in a line that nobody can read, or that was not written, is billed all the same.
        let missing = outcome.error.as_ref().is_some_and(|error| error.code == ErrorCode::Missing);
        let unread = joined.place.is_none() && (report.findings.garbled > 0 || report.findings.torn);
        assert!(outcome.at_risk == u32::from(missing) || (unread && outcome.error.is_some()), "{joined:?}");
        assert_eq!(outcome.reserve, Usage::new(at as u64, 9));
        let own: Vec<&Line<'_>> = lines.iter().filter(|line| line.id.as_deref() == Some(wire.unwrap_or(id))).collect();
        let body = body(joined, &files);
        row(joined, body.as_deref(), &own, fate);
    }
    findings(&report, &lines);
    again(&report, &files, &ending);
    Corpus::Keep
});

/// A line that is not blank, read by other means than the library's.
struct Line<'a> {
    id: Option<String>,
    /// The response's body as spelled.
    body: Option<&'a str>,
    /// An answer beyond doubt.
    good: bool,
}

fn lines(file: &[u8]) -> impl Iterator<Item = Line<'_>> {
    let file = file.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(file);
    file.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()).map(|line| {
        let line = std::str::from_utf8(line).ok().and_then(members).unwrap_or_default();
        let id = find(&line, "custom_id");
        let number = |id: &&str| id.starts_with(|c: char| c == '-' || c.is_ascii_digit());
        // An older response of the same name counts for nothing.
        let response = find(&line, "response").and_then(members).unwrap_or_default();
        let body = find(&response, "body").filter(|body| *body != "null");
        let plain = |value: Option<&str>| value.is_none_or(|value| value == "null");
        Line {
            id: id.and_then(string).or_else(|| id.filter(number).map(str::to_owned)),
            good: plain(find(&line, "error"))
                && find(&response, "status_code") == Some("200")
                && body.is_some_and(|body| body == r#"{"choices":[{"message":{"content":"yes"}}]}"#),
            body,
        }
    })
}

/// The body, wherever it is.
fn body(joined: &Joined, files: &Files<'_>) -> Option<String> {
    let Some(place) = joined.place else { return joined.outcome.body.as_deref().map(str::to_owned) };
    assert_eq!(joined.outcome.body, None, "a body in two places");
    let path = if place.side == Side::Output { files.output } else { files.errors };
    let bytes = std::fs::read(path.expect("a file that was there")).expect("a file");
    let at = usize::try_from(place.at).expect("small");
    Some(String::from_utf8(bytes[at..at + place.len as usize].to_vec()).expect("text"))
}

/// What a row may say, given its own lines.
fn row(joined: &Joined, body: Option<&str>, own: &[&Line<'_>], fate: ErrorCode) {
    let outcome = &joined.outcome;
    if let Some(body) = body {
        assert!(!body.contains(['\r', '\n']) && serde_json::from_str::<&serde_json::value::RawValue>(body).is_ok());
        assert!(own.iter().filter_map(|line| line.body).any(|own| one_line(own) == body), "the body of another row");
    }
    match &outcome.error {
        None => {
            assert_eq!(outcome.status, Some(200));
            assert!(body.is_some_and(|body| members(body).is_some()), "an answer without an answer");
        }
        Some(error) => {
            assert!(!error.message.trim().is_empty() && error.message.chars().count() <= 600, "{error:?}");
            assert_eq!(outcome.usage, None, "an answer's tokens without the answer");
            assert!(!own.iter().any(|line| line.good), "an answer was lost: {error:?}");
        }
    }
    match own {
        [] => {
            // Missing, where lines tell what was left undone.
            let code = outcome.error.as_ref().map(|error| error.code);
            assert!(code == Some(fate) || code == Some(ErrorCode::Missing), "{code:?}");
            assert_eq!((outcome.status, body, outcome.wasted), (None, None, Usage::default()));
        }
        [_] if outcome.ok() => assert_eq!(outcome.wasted, Usage::default()),
        _ => {}
    }
}

/// Every line is counted once: as a row's, as nobody's, or as none.
fn findings(report: &Report, lines: &[Line<'_>]) {
    let found = &report.findings;
    let asked = |id: &str| ROWS.iter().any(|(own, wire)| wire.unwrap_or(own) == id);
    let foreign = lines.iter().filter(|line| line.id.as_deref().is_some_and(|id| !asked(id))).count() as u64;
    let none = lines.iter().filter(|line| line.id.is_none()).count() as u64;
    assert_eq!(found.foreign, foreign);
    // Both files may end in the middle of a line.
    assert!((found.garbled..=found.garbled + if found.torn { 2 } else { 0 }).contains(&none), "{none}: {found:?}");
    let unmentioned = |at: &usize| {
        let (own, wire) = ROWS[*at];
        !lines.iter().any(|line| line.id.as_deref() == Some(wire.unwrap_or(own)))
    };
    let fates: Vec<_> = (0..ROWS.len())
        .filter(unmentioned)
        .map(|at| report.joined[at].outcome.error.as_ref().map(|error| error.code))
        .collect();
    assert!(fates.windows(2).all(|two| two[0] == two[1]), "one fate for all that no line mentions: {fates:?}");
    let missing = fates.iter().filter(|code| **code == Some(ErrorCode::Missing)).count() as u64;
    assert_eq!(found.missing, missing);
    assert!(found.conflicts + found.duplicates + foreign + none <= lines.len() as u64);
    assert!(found.answered_and_failed <= ROWS.len() as u64);
    assert_eq!(found.broken_contract(), found.foreign + found.conflicts + found.garbled > 0);
    assert!(found.examples.len() <= 9 && found.examples.iter().all(|example| is_message(example, 1000)));
}

/// What is written into the results has the shape of a batch's output: joined again, it says the same.
fn again(report: &Report, files: &Files<'_>, ending: &Ending<'_>) {
    let renderer =
        Renderer::new(&Options::new(Format::Jsonl), &RecordColumns::default()).expect("no columns to clash with");
    let (mut written, mut bodies) = (Vec::new(), Vec::new());
    for joined in &report.joined {
        let body = body(joined, files);
        let outcome = Outcome { body: body.clone().map(Into::into), ..joined.outcome.clone() };
        renderer.render(&outcome, None, &[], &mut written);
        bodies.push(body);
    }
    assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), ROWS.len(), "a line a row");
    let file = Scratch::of(&written);
    let path = file.path();
    let files = Files { output: Some(&path), errors: None };
    let read = join(expected(true), &files, ending, &AnswerRules::default()).expect("a file that can be read");
    assert_eq!(read.findings, Findings::default());
    for ((joined, first), first_body) in read.joined.iter().zip(&report.joined).zip(bodies) {
        // The words of a foreign code may gain the status in front.
        let said = |joined: &Joined| (joined.outcome.status, joined.outcome.error.as_ref().map(|error| error.code));
        assert_eq!(said(joined), said(first), "row {}", first.outcome.row);
        assert_eq!(body(joined, &files), first_body, "row {}", first.outcome.row);
        assert!(!first.outcome.ok() || joined.outcome.usage == first.outcome.usage);
    }
}
