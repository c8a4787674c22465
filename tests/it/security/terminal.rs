//! Foreign text on a terminal is shown and cannot control it. Needs `script` (util-linux), which provides a terminal.

use std::process::{Command, Stdio};

use super::service::{ok, service};
use crate::support::{Home, Out, Recorder, Server, lines, prompts, rows, until};

/// Fills the clipboard, disguises a link, clears the screen (also by a C1 control), turns the reading order, goes back to
/// the beginning of the line, deletes.
const EVIL: &str = "E\u{1b}]52;c;ZXZpbA==\u{7}\u{1b}]8;;http://evil.example\u{1b}\\x\u{1b}]8;;\u{1b}\\\u{1b}[2J\u{9b}2J\u{202e}\u{2066}\r\u{8}\u{7f}Z";

/// The line that the shell prints after the command.
const LAST: &str = "that-was-all";

/// `llbatch ARGS` on a terminal of its own; all that came to it is the stdout.
fn on_terminal(home: &Home, args: &[&str]) -> Out {
    let plain = home.command(args);
    let quoted = |word: &std::ffi::OsStr| format!("'{}'", word.to_str().unwrap().replace('\'', r"'\''"));
    let words: Vec<String> = std::iter::once(plain.get_program()).chain(plain.get_args()).map(quoted).collect();
    // `script` may lose what comes last before its child ends: the child stays until all of it has been seen here.
    let _ = std::fs::remove_file(home.path("seen"));
    let line = format!("{}; code=$?; echo {LAST}; until [ -e seen ]; do sleep 0.01; done; exit $code", words.join(" "));
    let mut command = Command::new("script");
    command.args(["-qefc", &line, "/dev/null"]).env_clear().current_dir(home.path("."));
    command.envs(plain.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("TERM", "xterm-256color").env("PATH", "/usr/bin:/bin").env("SHELL", "/bin/sh").stdin(Stdio::null());
    let running = home.start(command);
    until(LAST, || running.stdout().contains(LAST));
    home.write("seen", "");
    let mut out = running.wait();
    out.stdout = out.stdout.replace(&format!("{LAST}\r\n"), "");
    out
}

/// Panics if anything but text, line breaks and our own styles came to the terminal.
#[track_caller]
fn calm(out: &Out, expected: &str) {
    let mut text = out.stdout.replace("\r\n", "\n");
    for style in ["\u{1b}[2m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[33m", "\u{1b}[36m", "\u{1b}[0m"] {
        text = text.replace(style, "");
    }
    let commands = |c: char| {
        c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffd}')
    };
    assert!(!text.contains(commands), "{text:?}");
    assert!(text.contains(expected), "{expected:?} was not shown:\n{text}");
}

fn json(text: &str) -> String {
    serde_json::to_string(text).unwrap()
}

#[test]
fn answers_ids_models_and_refusals_are_escaped() {
    let home = Home::new();
    let service = Recorder::answering(|request| {
        if request.body.contains("refuse") {
            let body = format!(r#"{{"error":{{"message":{0},"type":{0},"code":{0}}}}}"#, json(EVIL));
            return ("400 Bad Request", String::new(), body);
        }
        // Raw C1 and bidi, as JSON allows; C0 only as escapes.
        ("200 OK", String::new(), Recorder::chat(&json(EVIL)))
    });
    // Controls are not taken for an id; what turns the order is.
    let id = "id-\u{202e}\u{2066}";
    let model = json(&format!("m/{EVIL}"));
    home.write(
        "in.jsonl",
        lines(&[
            &format!(r#"{{"id":"{id}","prompt":"x","model":{model}}}"#),
            &format!(r#"{{"id":"b","prompt":"refuse","model":{model}}}"#),
        ]),
    );
    let run = |more: &[&str]| {
        let args = [
            &["run", "in.jsonl", "--base-url", &service.url, "--progress", "never", "--fresh", "--concurrency", "2"],
            more,
        ]
        .concat();
        on_terminal(&home, &args).code(3)
    };
    calm(&run(&["-vv"]), "\\u{9b}2J");
    calm(&run(&["--format", "csv", "--prefix", "x_"]), "^[]52;c;");
    calm(&run(&["--flat", "--prefix", "x_"]), "\\u{202e}");
    calm(&run(&["-o", "out.jsonl", "--color", "always"]), "^[]52;c;");
    let bytes = home.read("out.jsonl");
    assert_eq!(rows(&bytes)[0].id, id, "files get the bytes as they are");
    assert_eq!(rows(&bytes)[0].content(), EVIL);
    calm(&run(&["-o", "out.jsonl", "--json"]), "\\u{9b}2J");
    calm(&on_terminal(&home, &["report", "out.jsonl"]).code(0), "HTTP 400: E ]52;c;");
    calm(&on_terminal(&home, &["report", "last", "--json"]).code(0), "\\u{9b}2J");
    calm(&on_terminal(&home, &["check", "in.jsonl", "--json"]).code(0), "\\u{9b}2J");
    calm(&on_terminal(&home, &["check", "in.jsonl"]).code(0), "^[]52;c;");
    calm(&on_terminal(&home, &["status"]), "");
    // A pipe gets the bytes.
    let piped = home
        .at(&service.url, &["run", "in.jsonl", "--flat", "--prefix", "x_", "--fresh", "--concurrency", "2"])
        .code(3);
    assert!(piped.stdout.contains('\u{9b}') && piped.stdout.contains('\u{202e}'), "{:?}", piped.stdout);
}

#[test]
fn names_of_files_and_flags_are_escaped() {
    let home = Home::new();
    let server = Server::start(&[]);
    let name = format!("in{}.jsonl", EVIL.replace('/', "-"));
    home.write(&name, "{\"prompt\": 7\n[]\n");
    let at = |args: &[&str]| on_terminal(&home, &[args, &["--base-url", &server.url, "--progress", "never"]].concat());
    calm(&at(&["run", &name]).code(65), "^[]52;c;");
    calm(&at(&["check", &name]).code(65), "^[]52;c;");
    home.write(&name, "{\"prompt\":\"x\",\"model\":\"m/x\"}\n");
    calm(&at(&["run", &name, "-vv"]).code(0), "");
    calm(&at(&["status"]).code(0), "^[]52;c;");
    calm(&at(&["run", &format!("none{name}")]).code(66), "^[]52;c;");
    calm(&at(&["run", &name, "-o", &format!("no{EVIL}/such/out.jsonl").replace("//", "-"), "--fresh"]).code(74), "^[");
    // A file that is called like a flag, met by `llbatch run *`.
    for command in ["run", "status", "nothing"] {
        on_terminal(&home, &[command, &format!("--{EVIL}")]).code(2);
        calm(&on_terminal(&home, &[command, &format!("--{EVIL}")]), "error");
        calm(&on_terminal(&home, &[command, &format!("-{EVIL}")]), "error");
    }
    calm(&on_terminal(&home, &[EVIL]).code(2), "error");
    calm(&on_terminal(&home, &["run", "x", "--progress", EVIL]).code(2), "error");
    calm(&on_terminal(&home, &["run", &name, "--prompt", &format!("{{{{ {EVIL}")]).code(2), "error");
}

#[test]
fn texts_of_a_batch_service_are_escaped() {
    let home = Home::new();
    let service = service(|_, line| {
        let evil = json(EVIL);
        let batch = format!(
            r#"{{"id":"batch-1","status":{evil},"input_file_id":"file-1","error":{{"message":{evil}}},"model_id":{evil},"job_deadline":{evil},"created_at":{evil},"endpoint":{evil}}}"#
        );
        match line {
            "POST /v1/batches" => {
                Some(("201 Created", String::new(), format!(r#"{{"job":{batch},"warning":{evil}}}"#)))
            }
            "GET /v1/batches/batch-1" => Some(ok(&batch)),
            "GET /v1/batches" => Some(ok(&format!("[{batch},{evil}]"))),
            "GET /v1/models" => Some(ok(&format!(
                r#"[{{"id":{evil},"type":"chat","context_length":7,"pricing":{{"input":1,"output":1}}}},{{"id":{evil}}}]"#
            ))),
            "POST /v1/batches/batch-1/cancel" => Some(("500 Oops", String::new(), format!(r#"{{"error":{evil}}}"#))),
            _ => None,
        }
    });
    home.write("in.jsonl", prompts(1..=1));
    let at = |args: &[&str]| {
        on_terminal(&home, &[args, &["--base-url", &service.url, "--progress", "never", "-v"]].concat())
    };
    calm(&at(&["submit", "in.jsonl"]).code(0), "^[]52;c;");
    calm(&at(&["status", "--remote"]), "batch-1");
    calm(&at(&["status", "last"]), "^[]52;c;");
    calm(&at(&["status", "last", "--json"]), "batch-1");
    calm(&at(&["wait", "last", "--timeout", "200ms", "--poll", "50ms"]).code(75), "");
    calm(&at(&["fetch", "last"]), "");
    calm(&at(&["models", "--refresh"]).code(0), "^[]52;c;");
    calm(&at(&["models", "--json"]).code(0), "\\u{9b}2J");
    calm(&at(&["fetch", "batch-1", "--partial", "-vv"]), "");
}

#[test]
fn dash_at_a_terminal_says_how_the_input_ends() {
    let home = Home::new();
    // `script` ends its terminal's input at once, as Ctrl-D does.
    let out = on_terminal(&home, &["check", "-"]).code(65);
    assert_eq!(out.stdout.matches("reading from the terminal; Ctrl-D ends").count(), 1, "{}", out.stdout);
    let out = on_terminal(&home, &["check"]).code(2);
    assert!(out.stdout.contains("no INPUT: name files"), "{}", out.stdout);
}
