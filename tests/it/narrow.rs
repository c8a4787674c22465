//! Terminals of few columns: what tables hide is named, sentences are broken between words.

use crate::support::{Home, MODEL, prompts};

#[test]
fn tables_name_the_columns_that_have_no_room() {
    let home = Home::new();
    let out = home.llbatch(&["models", "llama"]).code(0);
    assert!(out.stdout.lines().all(|line| line.chars().count() <= 80), "{}", out.stdout);
    assert!(out.stderr.contains("80 columns have no room for BATCH, AS OF, SOURCE; NOTE; a wider"), "{}", out.stderr);

    // A price is whole or not there.
    for columns in 40..=100 {
        let mut models = home.command(&["models", "llama-3."]);
        models.env("COLUMNS", columns.to_string());
        let out = home.finish(models).code(0).stdout;
        assert!(!out.contains("$…") && !out.contains("/ …") && !out.contains("/…"), "{columns}: {out}");
    }

    home.write("in.jsonl", prompts(1..=2));
    home.llbatch(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl"]).code(0);
    let mut status = home.command(&["status"]);
    status.env("COLUMNS", "40");
    let out = home.finish(status).code(0);
    assert!(out.stderr.contains("40 columns have no room for FAILED, COST, AGE, INPUT"), "{}", out.stderr);
    let mut wide = home.command(&["status"]);
    wide.env("COLUMNS", "200");
    assert!(!home.finish(wide).code(0).stderr.contains("no room"));
}

/// A setting that is cut off, or left out, cannot be checked.
#[test]
fn doctor_shows_every_setting_and_its_source_in_full() {
    let home = Home::new();
    for columns in ["40", "60", "80", "200"] {
        let mut doctor = home.command(&["doctor"]);
        doctor.env("COLUMNS", columns);
        let out = home.finish(doctor);
        let text: String = out.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in
            ["base URL http://127.0.0.1:9/v1", "(environment, TOGETHER_BASE_URL)", "(environment, LLBATCH_STATE_DIR)"]
        {
            let part = if columns == "200" { part.trim_matches(['(', ')']) } else { part };
            assert!(text.contains(part), "{columns}: {part}\n{}", out.stdout);
        }
        assert!(!text.contains('…') && !out.stderr.contains("no room"), "{columns}: {}", out.stdout);
    }
}

#[test]
fn forecast_shows_whole_names_of_models() {
    let home = Home::new();
    let other = MODEL.replace("3B", "1B");
    home.write("in.jsonl", prompts(1..=2) + &prompts(3..=4).replace(MODEL, &other));
    let check = |columns: &str| {
        let mut command = home.command(&["check", "in.jsonl"]);
        command.env("COLUMNS", columns);
        home.finish(command).code(0)
    };
    let narrow = check("40");
    assert!(narrow.stderr.contains("40 columns have no room for BATCH, BATCH TERMS"), "{}", narrow.stderr);
    let check = |columns| check(columns).stdout;
    for columns in ["80", "60"] {
        let text = check(columns);
        assert!(text.contains(&format!("\n{MODEL}\n")) && text.contains(&format!("\n{other}\n")), "{text}");
        assert!(text.contains("REALTIME") && text.contains("BATCH"), "{text}");
    }
}

#[test]
fn sentences_are_broken_between_words() {
    let home = Home::new();
    let mut command = home.command(&["run", "nothere.jsonl"]);
    command.env("COLUMNS", "40").env_remove("TOGETHER_API_KEY");
    let out = home.finish(command);
    assert_ne!(out.code, 0);
    let raw = home.read("tmp/stderr-0");
    assert!(raw.lines().count() > 1 && raw.lines().all(|line| line.chars().count() <= 40), "{raw}");
    assert!(out.stderr.len() > 40 && !out.stderr.trim_end().contains("\n    "), "{}", out.stderr);
    // A log is not a terminal: a line stays a line.
    let mut log = home.command(&["run", "nothere.jsonl"]);
    log.env_remove("COLUMNS").env_remove("TOGETHER_API_KEY");
    let lines = home.finish(log);
    assert_eq!(home.read("tmp/stderr-1"), lines.stderr);
}

#[test]
fn pipe_gets_whole_lines_of_a_summary() {
    let home = Home::new();
    let cause = "long ".repeat(40);
    home.write("in.jsonl", prompts(1..=2).replace("question 2", &format!("[[sandbox:status=400]] {cause}")));
    let mut run = home.command(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl"]);
    run.env_remove("COLUMNS");
    assert!(!home.finish(run).code(3).stderr.contains('…'), "{}", home.read("tmp/stderr-0"));
    let mut report = home.command(&["report", "out.jsonl"]);
    report.env_remove("COLUMNS");
    assert!(!home.finish(report).code(0).stdout.contains('…'));
}

#[test]
fn states_are_coloured_where_colours_are_wanted() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2).replace("question 2", "[[sandbox:status=400]]"));
    home.llbatch(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl"]).code(3);
    let table = |color| home.llbatch(&["status", "--color", color]).code(0).stdout;
    assert!(table("always").contains("\u{1b}[33mpartial\u{1b}[0m"), "{}", table("always"));
    assert!(!table("auto").contains('\u{1b}'));
}
