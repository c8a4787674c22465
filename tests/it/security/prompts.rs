//! Prompts are private: no log, message, ledger or summary contains one.

use crate::support::{Home, MODEL, Server, lines};

const SECRET: &str = "canary-prompt-71c4";

fn row(id: &str, more: &str) -> String {
    format!(r#"{{"id":"{id}","model":"{MODEL}","prompt":"{SECRET} {more}"}}"#)
}

#[test]
fn prompts_stay_out_of_logs_and_ledgers() {
    let home = Home::new();
    let faults =
        ["status=500,contains=two,times=1", "reset,contains=three", "status=400,contains=four", "html,contains=five"];
    let faults: Vec<&str> = faults.iter().flat_map(|fault| ["--fault", *fault]).collect();
    let server = Server::quick(&faults);
    let rows: Vec<String> = ["one", "two", "three", "four", "five"].iter().map(|word| row(word, word)).collect();
    home.write("in.jsonl", lines(&rows.iter().map(String::as_str).collect::<Vec<_>>()));
    let at = |args: &[&str]| home.at(&server.url, &[args, &["-vv"]].concat());
    at(&["run", "in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--retries", "1", "--concurrency", "5"]).code(3);
    at(&["check", "in.jsonl"]).code(0);
    at(&["status", "--json"]).code(0);
    at(&["report", "last", "--html", "report.html"]).code(0);
    // The sandbox answers with a hash of the prompt, so even the results are without it. The page shows prompts on purpose.
    assert_eq!(home.files_with(SECRET), ["in.jsonl", "report.html"]);
    std::fs::remove_file(home.path("report.html")).unwrap();

    // A batch keeps what it was asked until it is cleaned up, and only there.
    let id = at(&["submit", "in.jsonl"]).code(0).stdout.trim_end().to_owned();
    at(&["fetch", &id, "--wait", "--poll", "50ms", "-o", "out.jsonl", "--summary", "s.json"]);
    at(&["status", "--remote", "--json"]);
    let kept = format!("state/jobs/{id}/");
    let odd: Vec<_> =
        home.files_with(SECRET).into_iter().filter(|f| f != "in.jsonl" && !f.starts_with(&kept)).collect();
    assert_eq!(odd, Vec::<String>::new());
    at(&["clean", &id]).code(0);
    assert_eq!(home.files_with(SECRET), ["in.jsonl"]);
}

#[test]
fn row_problem_shows_the_mistake_and_not_the_prompt() {
    let home = Home::new();
    let good = row("a", "x");
    let bad = [
        good.replace("\"id\":\"a\"", "\"id\":[]"),
        good.replace("\"model\"", "\"max_tokens\":\"many\",\"model\""),
        good.replace(&format!("\"model\":\"{MODEL}\""), "\"model\":7"),
        good.replace('}', ",}"),
        good.replace('}', ""),
        good.replace("\"prompt\"", "\"messages\""),
        format!(r#"{{"model":"{MODEL}","messages":[{{"content":"{SECRET}"}}]}}"#),
        format!(r#"{{"custom_id":"x","body":{{"model":7,"messages":[{{"role":"user","content":"{SECRET}"}}]}}}}"#),
        row("twice", "1"),
        row("twice", "2"),
    ];
    for text in &bad[..8] {
        home.write("in.jsonl", lines(&[text]));
        for command in ["run", "check"] {
            let out = home.llbatch(&[command, "in.jsonl", "-vv"]);
            if text.contains("\"messages\":\"") {
                continue; // The prompt itself is the mistake here, and shown shortened.
            }
            assert_eq!(out.code, 65, "{text}\n{}", out.stderr);
            assert!(
                !out.stderr.contains(SECRET) && !out.stdout.contains(SECRET),
                "{text}\n{}{}",
                out.stderr,
                out.stdout
            );
        }
    }
    home.write("in.jsonl", lines(&[&bad[8], &bad[9]]));
    let out = home.llbatch(&["run", "in.jsonl"]).code(65);
    assert!(!out.stderr.contains(SECRET), "{}", out.stderr);
    home.write("in.csv", format!("id,text\na,\"{SECRET}\nb,c,d\n"));
    let out = home.llbatch(&["run", "in.csv", "-m", MODEL, "--prompt", "{{ text }} {{ nothing }}"]);
    assert!(!out.stderr.contains(SECRET), "{}", out.stderr);
}
