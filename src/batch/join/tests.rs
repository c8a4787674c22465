use tempfile::TempDir;

use super::*;

pub(super) const COMPLETED: Ending<'_> =
    Ending { status: &BatchStatus::Completed, error: None, batch: 4, deleted: None, whole: true };

/// The two files of a batch, on disk.
pub(super) struct Batch {
    dir: TempDir,
    sides: [bool; 2],
}

impl Batch {
    pub(super) fn new(output: Option<&[u8]>, errors: Option<&[u8]>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("output", output), ("errors", errors)] {
            if let Some(bytes) = bytes {
                std::fs::write(dir.path().join(name), bytes).unwrap();
            }
        }
        Self { dir, sides: [output.is_some(), errors.is_some()] }
    }

    fn path(&self, side: Side) -> std::path::PathBuf {
        self.dir.path().join(if side == Side::Output { "output" } else { "errors" })
    }

    pub(super) fn join(&self, expected: Vec<Expected>, ending: &Ending<'_>) -> Report {
        let (output, errors) = (self.path(Side::Output), self.path(Side::Errors));
        let [has_output, has_errors] = self.sides;
        let files = Files { output: has_output.then_some(&output), errors: has_errors.then_some(&errors) };
        join(expected, &files, ending, &AnswerRules::default()).unwrap()
    }

    /// The body, wherever it is.
    pub(super) fn body(&self, joined: &Joined) -> Option<String> {
        let Some(place) = joined.place else { return joined.outcome.body.as_deref().map(str::to_owned) };
        assert_eq!(joined.outcome.body, None, "a body in two places");
        let bytes = std::fs::read(self.path(place.side)).unwrap();
        let at = usize::try_from(place.at).unwrap();
        Some(String::from_utf8(bytes[at..at + place.len as usize].to_vec()).unwrap())
    }
}

pub(super) fn expected(row: u64, id: &str) -> Expected {
    let reserve = Usage::new(row, 9);
    Expected { row, id: id.into(), wire: None, fingerprint: Fingerprint([7; 16]), model: "m".into(), reserve }
}

pub(super) fn rows(ids: &[&str]) -> Vec<Expected> {
    ids.iter().zip(1..).map(|(id, row)| expected(row, id)).collect()
}

/// The body of an answer, one prompt token and as many of the answer as `text` has bytes.
pub(super) fn body(text: &str) -> String {
    let text = serde_json::to_string(text).unwrap();
    let tokens = text.len();
    format!(
        r#"{{"choices":[{{"message":{{"content":{text}}}}}],"usage":{{"prompt_tokens":1,"completion_tokens":{tokens}}}}}"#
    )
}

pub(super) fn tokens(text: &str) -> Usage {
    Usage::new(1, serde_json::to_string(text).unwrap().len() as u64)
}

fn answer(id: &str, text: &str) -> String {
    let id = serde_json::to_string(id).unwrap();
    format!(r#"{{"custom_id":{id},"response":{{"status_code":200,"body":{}}},"error":null}}"#, body(text))
}

fn failure(id: &str, code: &str) -> String {
    format!(r#"{{"custom_id":"{id}","error":{{"message":"words","code":"{code}"}}}}"#)
}

fn flawed(id: &str, prompt: u64) -> String {
    let body = format!(r#"{{"choices":[],"usage":{{"prompt_tokens":{prompt},"completion_tokens":0}}}}"#);
    format!(r#"{{"custom_id":"{id}","response":{{"status_code":200,"body":{body}}}}}"#)
}

fn file(lines: &[String]) -> Vec<u8> {
    lines.iter().flat_map(|line| [line, "\n"]).collect::<String>().into_bytes()
}

fn codes(report: &Report) -> Vec<Option<ErrorCode>> {
    report.joined.iter().map(|joined| joined.outcome.error.as_ref().map(|e| e.code)).collect()
}

#[test]
fn answers_and_errors_find_their_rows_in_both_files() {
    let output = file(&[answer("c", "C"), failure("b", "invalid_model")]);
    let errors = file(&[failure("d", "expired"), answer("a", "A")]);
    let batch = Batch::new(Some(&output), Some(&errors));
    let mut asked = rows(&["a", "b", "c", "d", "e"]);
    asked.reverse();
    let report = batch.join(asked, &COMPLETED);
    let found: Vec<_> = report.joined.iter().map(|joined| (joined.outcome.row, &*joined.outcome.id)).collect();
    assert_eq!(found, [(1, "a"), (2, "b"), (3, "c"), (4, "d"), (5, "e")]);
    assert_eq!(
        codes(&report),
        [None, Some(ErrorCode::NotFound), None, Some(ErrorCode::Expired), Some(ErrorCode::Missing)]
    );
    assert_eq!(batch.body(&report.joined[0]), Some(body("A")));
    assert_eq!(report.joined[0].place.map(|place| place.side), Some(Side::Errors));
    assert_eq!(batch.body(&report.joined[2]), Some(body("C")));
    assert_eq!(report.findings, Findings { missing: 1, ..Findings::default() });
    let first = &report.joined[0].outcome;
    let whole = Outcome {
        fingerprint: Fingerprint([7; 16]),
        error: None,
        status: Some(200),
        usage: Some(tokens("A")),
        reserve: Usage::new(1, 9),
        attempts: 1,
        batch: Some(4),
        ..Outcome::unsent(1, "a".into(), "m".into(), ErrorCode::Missing, "")
    };
    assert_eq!(*first, whole);
    let failed = &report.joined[1].outcome;
    assert_eq!((failed.at_risk, failed.usage, failed.wasted, failed.attempts), (0, None, Usage::default(), 1));
}

#[test]
fn an_id_that_travelled_under_another_name_comes_back_as_itself() {
    let mut asked = rows(&["long", "row-9"]);
    asked[0].wire = Some("row-1".into());
    let batch = Batch::new(Some(&file(&[answer("row-1", "A"), answer("long", "?")])), None);
    let report = batch.join(asked, &COMPLETED);
    assert_eq!((&*report.joined[0].outcome.id, batch.body(&report.joined[0])), ("long", Some(body("A"))));
    assert_eq!((report.findings.foreign, report.findings.missing), (1, 1));
}

#[test]
fn two_rows_under_one_id_are_refused() {
    let mut asked = rows(&["a", "row-1"]);
    asked[0].wire = Some("row-1".into());
    let error = join(asked, &Files::default(), &COMPLETED, &AnswerRules::default()).unwrap_err();
    assert!(error.exit == Exit::Failure && error.message.contains("`row-1`"), "{error}");
}

#[test]
fn rows_without_a_line_share_the_fate_of_their_batch() {
    use ErrorCode as E;
    let cases = [
        ("COMPLETED", None, E::Missing, "the batch's results do not mention this row", 1, 1),
        ("SOMETHING", None, E::Missing, "the batch's results do not mention this row", 1, 1),
        ("EXPIRED", None, E::Expired, "the batch expired before this row was answered", 1, 0),
        ("cancelled", None, E::Cancelled, "the batch was cancelled before this row was answered", 1, 0),
        ("FAILED", Some("bad file"), E::ServerError, "the batch failed: bad file", 1, 0),
        ("FAILED", Some(" "), E::ServerError, "the batch failed", 1, 0),
        ("REFUSED", Some("no credit"), E::ServerError, "the batch was refused: no credit", 0, 0),
    ];
    for (status, error, code, message, attempts, missing) in cases {
        let status = &BatchStatus::read(status);
        let ending = Ending { status, error, batch: 1, deleted: None, whole: true };
        let report = Batch::new(None, None).join(rows(&["a"]), &ending);
        let outcome = &report.joined[0].outcome;
        let expected = RowError::new(code, message);
        assert_eq!((outcome.error.as_ref(), outcome.attempts), (Some(&expected), attempts), "{status}");
        assert_eq!(report.findings, Findings { missing, ..Findings::default() }, "{status}");
    }
}

#[test]
fn a_row_that_is_not_among_those_left_undone_was_done_and_lost() {
    use ErrorCode as E;
    for (status, code, lost) in [
        ("EXPIRED", "expired", E::Missing),
        ("CANCELLED", "cancelled", E::Missing),
        // It says nothing of rows that were left undone.
        ("EXPIRED", "rate_limited", E::Expired),
    ] {
        let batch = Batch::new(Some(answer("a", "A").as_bytes()), Some(failure("b", code).as_bytes()));
        let status = &BatchStatus::read(status);
        let report = batch.join(rows(&["a", "b", "c"]), &Ending { status, ..COMPLETED });
        let last = &report.joined[2].outcome;
        assert_eq!(last.error.as_ref().map(|error| error.code), Some(lost), "{status}, {code}");
        // It may be on the bill.
        let lost = u32::from(lost == E::Missing);
        assert_eq!((last.at_risk, report.findings.missing), (lost, lost.into()), "{status}, {code}");
        assert!(report.joined[..2].iter().all(|joined| joined.outcome.at_risk == 0), "{report:?}");
    }
}

/// Duplicates, conflicts, answered and failed.
type Counts = (u64, u64, u64);

#[test]
fn several_lines_for_one_row_leave_one_outcome() {
    let wasted = |prompt, completion| Usage::new(prompt, completion);
    let (a, b, bad) = (answer("a", "A"), answer("a", "BB"), failure("a", "timeout"));
    let b_usage = tokens("BB");
    let billed = Usage::new(b_usage.prompt + 5, b_usage.completion);
    // The lines, the error that stays, the wasted tokens.
    let cases: &[(&[&String], Option<ErrorCode>, Usage, Counts)] = &[
        (&[&a, &a, &a], None, wasted(0, 0), (2, 0, 0)),
        (&[&a, &b], None, b_usage, (0, 1, 0)),
        (&[&a, &b, &a], None, b_usage, (1, 1, 0)),
        (&[&a, &bad], None, wasted(0, 0), (0, 0, 1)),
        (&[&bad, &a, &bad], None, wasted(0, 0), (0, 0, 1)),
        (&[&bad, &failure("a", "expired")], Some(ErrorCode::Timeout), wasted(0, 0), (0, 0, 0)),
        (&[&flawed("a", 5)], Some(ErrorCode::BadResponse), wasted(5, 0), (0, 0, 0)),
        (&[&flawed("a", 5), &flawed("a", 5)], Some(ErrorCode::BadResponse), wasted(5, 0), (0, 0, 0)),
        (&[&flawed("a", 5), &flawed("a", 6)], Some(ErrorCode::BadResponse), wasted(11, 0), (0, 0, 0)),
        (&[&flawed("a", 5), &a], None, wasted(5, 0), (0, 0, 1)),
        (&[&a, &flawed("a", 5), &b], None, billed, (0, 1, 1)),
        (&[&bad, &flawed("a", 5)], Some(ErrorCode::Timeout), wasted(5, 0), (0, 0, 0)),
    ];
    for (number, (lines, code, wasted, (duplicates, conflicts, both))) in cases.iter().enumerate() {
        // Wherever the lines are divided between the two files.
        for cut in 0..=lines.len() {
            let text = |lines: &[&String]| file(&lines.iter().map(|&line| line.clone()).collect::<Vec<_>>());
            let batch = Batch::new(Some(&text(&lines[..cut])), Some(&text(&lines[cut..])));
            let report = batch.join(rows(&["a"]), &COMPLETED);
            let joined = &report.joined[0];
            let findings = &report.findings;
            let counts = (findings.duplicates, findings.conflicts, findings.answered_and_failed);
            assert_eq!(
                (codes(&report)[0], joined.outcome.wasted, counts),
                (*code, *wasted, (*duplicates, *conflicts, *both)),
                "case {number}, cut at {cut}"
            );
            assert_eq!(findings.broken_contract(), *conflicts > 0);
            match code {
                None => assert_eq!((batch.body(joined), joined.outcome.usage), (Some(body("A")), Some(tokens("A")))),
                Some(_) => assert_eq!(joined.outcome.usage, None),
            }
        }
    }
}

#[test]
fn what_does_not_belong_is_said_with_its_place() {
    let lines: Vec<String> = (0..5)
        .map(|i| answer(&format!("x\u{1b}{i}"), "?"))
        .chain(["nonsense".to_owned(), String::new(), "{\"id\":7}".to_owned(), answer("a", "A"), answer("a", "B")])
        .collect();
    let batch = Batch::new(Some(&file(&lines)), None);
    let report = batch.join(rows(&["a"]), &COMPLETED);
    let findings = &report.findings;
    assert_eq!((findings.foreign, findings.garbled, findings.conflicts, findings.torn), (5, 2, 1, false));
    assert!(findings.broken_contract());
    let place = batch.path(Side::Output).display().to_string();
    let said: Vec<_> = findings.examples.iter().map(|text| text.strip_prefix(&place).unwrap()).collect();
    assert_eq!(
        said,
        [
            ":1: a result for `x\\u{1b}0`, which is not in the batch",
            ":2: a result for `x\\u{1b}1`, which is not in the batch",
            ":3: a result for `x\\u{1b}2`, which is not in the batch",
            ":6: not JSON from column 1 on",
            ":8: no custom_id",
            ":10: another answer to `a`; llbatch keeps the first one",
        ]
    );
}

#[test]
fn a_file_that_was_cut_is_told_from_one_that_lacks_its_last_newline() {
    let whole = file(&[answer("a", "A"), answer("b", "B")]);
    let second = answer("a", "A").len() + 1;
    for end in 0..=whole.len() {
        let report = Batch::new(Some(&whole[..end]), None).join(rows(&["a", "b"]), &COMPLETED);
        let clean = [0, second - 1, second, whole.len() - 1, whole.len()].contains(&end);
        assert_eq!(report.findings.torn, !clean, "cut at {end}");
        assert_eq!((report.findings.garbled, report.findings.broken_contract()), (0, false), "cut at {end}");
        let there = u64::from(end >= second - 1) + u64::from(end >= whole.len() - 1);
        assert_eq!(report.findings.missing, 2 - there, "cut at {end}");
    }
    let report = Batch::new(Some(b"{\"id\":7}"), None).join(rows(&["a"]), &COMPLETED);
    assert_eq!((report.findings.torn, report.findings.garbled), (false, 1));
}

#[test]
fn bodies_of_failures_are_kept_within_bounds() {
    let refused = |length: usize, status: u16| {
        let words = "x".repeat(length);
        format!(r#"{{"custom_id":"a","response":{{"status_code":{status},"body":{{"error":"{words}"}}}}}}"#)
    };
    let one = |line: String| {
        let batch = Batch::new(None, Some(&file(&[line])));
        let report = batch.join(rows(&["a"]), &COMPLETED);
        let joined = &report.joined[0];
        (joined.outcome.body.is_some(), joined.place.is_some(), batch.body(joined).map_or(0, |body| body.len()))
    };
    assert_eq!(one(refused(10, 400)), (true, false, 22));
    assert_eq!(one(refused(MAX_FAILED_BODY, 400)), (false, false, 0));
    // Paid for, perhaps: nothing of it is dropped.
    assert_eq!(one(refused(MAX_FAILED_BODY, 200)), (false, true, MAX_FAILED_BODY + 12));

    let ids: Vec<String> = (0..=MOST_BODIES / 60_000).map(|i| format!("a{i}")).collect();
    let asked = rows(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    let lines: Vec<String> =
        ids.iter().map(|id| refused(60_000 - 12, 500).replacen("\"a\"", &format!("\"{id}\""), 1)).collect();
    let report = Batch::new(Some(&file(&lines)), None).join(asked, &COMPLETED);
    let held: usize =
        report.joined.iter().filter_map(|joined| joined.outcome.body.as_ref()).map(|body| body.len()).sum();
    assert!(held <= MOST_BODIES && held > MOST_BODIES - 60_000, "{held}");
    assert_eq!(report.joined.iter().filter(|joined| joined.place.is_some()).count(), 1);
}

#[test]
fn a_carriage_return_in_a_body_does_not_break_a_line_of_results() {
    let line = answer("a", "A").replace(":[{", ":\r[{");
    let batch = Batch::new(Some(format!("{line}\r\n{line}\n").as_bytes()), None);
    let report = batch.join(rows(&["a"]), &COMPLETED);
    assert_eq!((batch.body(&report.joined[0]), report.joined[0].place), (Some(body("A")), None));
    assert_eq!(report.findings, Findings { duplicates: 1, ..Findings::default() });
}

#[test]
fn a_file_that_is_not_there_stops() {
    let files = Files { output: Some(Path::new("no/such/file")), errors: None };
    let error = join(rows(&["a"]), &files, &COMPLETED, &AnswerRules::default()).unwrap_err();
    assert!(error.exit == Exit::Io && error.message.contains("no/such/file"), "{error}");
}

#[test]
fn a_body_that_is_a_string_is_read_as_the_object_in_it() {
    let text = |id: &str, status: u16, body: &str| {
        let body = serde_json::Value::from(body);
        format!(r#"{{"id":"x","custom_id":"{id}","response":{{"status_code":{status},"body":{body}}},"error":null}}"#)
    };
    let object = |line: &str| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        value["response"]["body"].to_string()
    };
    let answered = object(&answer("a", "A"));
    let output = [text("a", 200, &answered), text("b", 200, "no object"), text("a", 200, &answered)].join("\n");
    let errors = text("c", 400, r#"{"error":{"message":"too long","code":"context_length_exceeded"}}"#);
    let report = Batch::new(Some(output.as_bytes()), Some(errors.as_bytes())).join(rows(&["a", "b", "c"]), &COMPLETED);
    let [a, b, c] = &report.joined[..] else { panic!("{report:?}") };
    assert_eq!((a.outcome.error.as_ref(), a.outcome.body.as_deref()), (None, Some(&*answered)));
    assert!(a.outcome.usage.is_some() && a.place.is_none(), "{a:?}");
    assert_eq!(b.outcome.error.as_ref().map(|error| error.code), Some(ErrorCode::BadResponse));
    assert_eq!(c.outcome.error.as_ref().map(|error| error.code), Some(ErrorCode::ContextLength));
    assert_eq!((report.findings.duplicates, report.findings.broken_contract()), (1, false));
}
