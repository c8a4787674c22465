//! Tables: a spreadsheet runs no text cell as a formula.

use proptest::prelude::*;

use crate::support::{Home, Recorder, csv_rows, lines};

/// The characters that make a spreadsheet run a cell (OWASP ASVS 1.2.10).
const STARTS: [char; 7] = ['=', '+', '-', '@', '\t', '\r', '\0'];

/// Texts of which many begin like formulas, some like numbers.
fn texts() -> impl Strategy<Value = String> {
    let start = prop::sample::select(STARTS.iter().map(char::to_string).collect::<Vec<_>>());
    prop_oneof![
        (start.clone(), "[ -~]{0,12}").prop_map(|(start, rest)| start + &rest),
        (start, any::<String>()).prop_map(|(start, rest)| start + &rest),
        "[+-]?[0-9]{0,3}[.,]?[0-9]{0,3}(e-?[0-9])?",
        any::<String>(),
    ]
}

/// Whether a spreadsheet takes the cell for a number and nothing else.
fn is_number(text: &str) -> bool {
    text.parse::<f64>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    /// Through the binary: answers and errors, in csv and tsv, beside own fields, their names and ids.
    #[test]
    fn no_text_becomes_a_formula(
        fields in prop::collection::vec(texts(), 40),
        answers in prop::collection::vec(texts(), 40),
        tabs in any::<bool>(),
    ) {
        let home = Home::new();
        let replies = answers.clone();
        let recorder = Recorder::answering(move |request| {
            let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
            let number: usize = body["messages"][0]["content"].as_str().unwrap().parse().unwrap();
            let text = serde_json::to_string(&replies[number]).unwrap();
            if number % 4 == 3 {
                return ("400 Bad Request", String::new(), format!(r#"{{"error":{{"message":{text}}}}}"#));
            }
            ("200 OK", String::new(), Recorder::chat(&text))
        });
        let input: Vec<String> = fields
            .iter()
            .enumerate()
            .map(|(n, text)| serde_json::json!({"id": format!("={n}"), "=own": text, "prompt": n.to_string()}).to_string())
            .collect();
        home.write("in.jsonl", lines(&input.iter().map(String::as_str).collect::<Vec<_>>()));
        let (name, delimiter) = if tabs { ("out.tsv", b'\t') } else { ("out.csv", b',') };
        let run = |extra: &[&str]| {
            let args = [&["in.jsonl", "-m", "@m", "-o", name, "--concurrency", "8"], extra].concat();
            assert!([0, 3].contains(&home.finish(home.run_command(&recorder.url, &args)).code));
            csv_rows(&home.read(name), delimiter)
        };
        let (header, rows) = run(&[]);
        prop_assert_eq!(rows.len(), fields.len());
        let own = header.iter().position(|name| name == "=own").unwrap();
        // Words of the model and of the server; the user's own cells and names stay as they are.
        for name in ["content", "finish_reason", "error"] {
            let at = header.iter().position(|column| column == name).unwrap();
            for row in &rows {
                prop_assert!(!row[at].starts_with(STARTS) || is_number(&row[at]), "{:?} may be run", row[at]);
            }
        }
        for (row, text) in rows.iter().zip(&fields) {
            prop_assert_eq!(&row[own], text);
        }
        // As they are, for who asks for it; and JSON lines are never touched.
        let (header, raw) = run(&["--csv-raw", "--fresh"]);
        prop_assert!(header.contains(&"=own".to_owned()), "{:?}", header);
        let own = header.iter().position(|name| name == "=own").unwrap();
        for (row, text) in raw.iter().zip(&fields) {
            prop_assert_eq!(&row[own], text);
        }
    }
}
