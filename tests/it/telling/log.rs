//! `--log-format json`: each line of stderr is one object, whatever the command and its end.

use serde_json::Value;

use crate::support::{Home, Out, Server, prompts, until, unwrapped};

/// The objects on stderr.
#[track_caller]
fn objects(out: &Out) -> Vec<Value> {
    let parse = |line: &str| -> Value {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}\n{}", out.stderr));
        let members = object.as_object().unwrap();
        let known = ["ts", "level", "msg", "job", "hint"];
        assert!(members.keys().all(|name| known.contains(&name.as_str())), "{line}");
        assert!(object["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(["debug", "info", "warn", "error"].contains(&object["level"].as_str().unwrap()), "{line}");
        assert!(object["msg"].is_string() && (object["job"].is_string() || object["job"].is_null()), "{line}");
        object
    };
    out.stderr.lines().map(parse).collect()
}

fn home() -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4));
    home.write("bad.jsonl", "nonsense\n");
    home.write("some.jsonl", prompts(1..=4).replace("question 2", "[[sandbox:status=400]]"));
    home
}

#[test]
fn every_command_and_every_failure_writes_objects_alone() {
    let home = home();
    let run = |line: &str, code: i32| {
        let words: Vec<&str> = line.split(' ').chain(["--log-format", "json"]).collect();
        let mut command = home.command(&words);
        command.env_remove("TOGETHER_BASE_URL").env("LLBATCH_SANDBOX", "validation=0s,run=0s,cancel=0s");
        let out = home.finish(command).code(code);
        objects(&out)
    };
    let last = |objects: &[Value]| objects.last().cloned().unwrap();
    let ran = run("run in.jsonl --sandbox -o out.jsonl --progress always --color always", 0);
    let end = last(&ran);
    assert_eq!((&end["level"], end["msg"].as_str().unwrap().contains("→ out.jsonl")), (&"info".into(), true), "{end}");
    let job = end["job"].as_str().unwrap();
    assert!(job.starts_with("j-") && ran.iter().any(|line| line["job"].is_null()), "{ran:#?}");
    let failed = last(&run("run some.jsonl --sandbox -o some.out.jsonl -vv", 3));
    assert_eq!(failed["level"], "warn", "{failed}");
    let invalid = run("run bad.jsonl --sandbox -o bad.out.jsonl", 65);
    let error = invalid.iter().find(|line| line["level"] == "error").unwrap();
    assert!(error["hint"].is_string(), "{error}");
    assert_eq!(last(&run("run none.jsonl --sandbox", 66))["level"], "error");
    assert_eq!(last(&run("run in.jsonl --sandbox --concurrency x", 2))["level"], "error");
    assert_eq!(last(&run("nonsense", 2))["level"], "error");
    assert_eq!(last(&run("run in.jsonl --sandbox -q --fresh --max-cost 0.000000001 -o o.jsonl", 5))["level"], "warn");
    run("submit in.jsonl --sandbox", 0);
    for line in ["status", "status --json", "wait last", "report last", "doctor", "models llama", "check in.jsonl"] {
        run(line, 0);
    }
    run("fetch last -o fetched.jsonl -v", 0);
    run("retry last", 0);
    run("submit some.jsonl --sandbox --wait -o batch.jsonl --poll 100ms", 3);
    run("prepare in.jsonl -o shards", 0);
    run("clean last", 0);
    run("status nosuch", 2);
    run("report nosuch", 2);
    run("help nosuch", 2);
}

#[test]
fn progress_and_signals_are_objects() {
    let home = home();
    let server = Server::start(&["--latency", "100ms"]);
    home.write("many.jsonl", prompts(1..=60));
    let told = "echo one; printf 'two\\033[2J' >&2";
    let args = ["many.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--log-format", "json", "--on-done", told];
    let run = home.spawn(&server, &args);
    server.until_billed(3);
    run.signal("INT");
    let out = run.wait().code(130);
    let lines = objects(&out);
    let has = |text: &str| lines.iter().any(|line| line["msg"].as_str().unwrap().contains(text));
    assert!(has("finishing") && has("interrupted"), "{}", out.stderr);
    // The words of a command of the user's own are objects too.
    until("both words", || has("one"));
    assert!(has("one") && has("two^[[2J"), "{}", out.stderr);
}

#[test]
fn lines_are_not_broken_and_text_stays_the_default() {
    let home = home();
    let mut command = home.command(&["run", "none.jsonl", "--sandbox", "--log-format", "json"]);
    command.env("COLUMNS", "40");
    let out = home.finish(command).code(66);
    assert_eq!(objects(&out).len(), out.stderr.lines().count());
    let text = home.llbatch(&["run", "none.jsonl", "--sandbox", "--log-format", "text"]).code(66).stderr;
    assert_eq!(text, home.llbatch(&["run", "none.jsonl", "--sandbox"]).code(66).stderr);
    assert!(unwrapped(&text).starts_with("error: ") || text.contains("error: "), "{text}");
    home.llbatch(&["status", "--log-format", "xml"]).code(2).says(&["xml", "text", "json"]);
}
