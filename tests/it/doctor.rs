//! `doctor`, `completions` and `man`.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::Value;

use crate::support::{Home, KEY, Recorder, Server};

/// The line of `checks` by its name.
fn check<'a>(document: &'a Value, name: &str) -> &'a Value {
    let all = document["checks"].as_array().unwrap();
    all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {document}"))
}

#[test]
fn doctor_shows_settings_with_their_origin() {
    let home = Home::new();
    home.write("home/llbatch.toml", "state_dir = \"elsewhere\"\n[budget]\nper_day = 2.5\n");
    let recorder = Recorder::start();
    let out = home.at(&recorder.url, &["doctor", "--json", "--config", "home/llbatch.toml"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!((&document["version"], &document["exit_code"]), (&1.into(), &0.into()));
    assert_eq!(check(&document, "config file")["from"], "flag --config");
    assert_eq!(check(&document, "API key")["from"], "environment, TOGETHER_API_KEY");
    assert_eq!(check(&document, "base URL")["from"], "flag --base-url");
    assert_eq!(check(&document, "state directory")["from"], "environment, LLBATCH_STATE_DIR");
    assert_eq!(check(&document, "budget per day")["value"], "$2.50");
    assert_eq!(recorder.requests().len(), 0, "nothing is sent unless asked");
    assert!(!home.exists("state"), "looking makes nothing");
    assert!(!(out.stdout + &out.stderr).contains(KEY));
}

#[test]
fn doctor_exits_with_the_code_that_a_command_would() {
    let home = Home::new();
    let mut without_key = home.command(&["doctor"]);
    without_key.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
    home.finish(without_key).code(4).says(&["no API key", "TOGETHER_API_KEY"]);
    let mut without_key = home.command(&["doctor", "--online"]);
    without_key.env_remove("TOGETHER_API_KEY").env_remove("TOGETHER_BASE_URL");
    let out = home.finish(without_key).code(4);
    assert!(out.stdout.contains("not asked"), "{}", out.stdout);
    assert_eq!(out.stderr.matches("no API key").count(), 1, "one cause is named once: {}", out.stderr);
    home.llbatch(&["doctor", "--base-url", "http://api.example/v1"]).code(2).says(&["plain http"]);
    home.write("file", "");
    home.llbatch(&["doctor", "--state-dir", "file/state"]).code(74).says(&["state directory"]);
    let mut without_authority = home.command(&["doctor", "--base-url", "https://api.example/v1"]);
    without_authority.env("SSL_CERT_FILE", "/nonexistent").env_remove("SSL_CERT_DIR");
    let out = home.finish(without_authority).code(2).says(&["certificates", "SSL_CERT_FILE"]);
    assert!(out.stdout.contains("/nonexistent (missing)"), "{}", out.stdout);
    home.llbatch(&["doctor", "--sandbox", "--online"]).code(0);
}

#[test]
fn doctor_reads_the_secret_that_signs_notices() {
    let home = Home::new();
    home.write("secret", "whsec_canary\n");
    home.config(format!("[notify]\nsecret_file = {:?}\n", home.path("secret")));
    let mode = |bits| std::fs::set_permissions(home.path("secret"), std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o600);
    let out = home.llbatch(&["doctor"]).code(0);
    assert!(out.stdout.contains("notify secret") && !out.stdout.contains("canary"), "{}", out.stdout);
    mode(0o644);
    home.llbatch(&["doctor"]).code(2).says(&["notify secret: [notify] secret_file", "chmod 600"]);
}

#[test]
fn online_tries_the_key() {
    let home = Home::new();
    let other = Server::start(&["--key", "another-key"]);
    home.at(&other.url, &["doctor", "--online"]).code(4).says(&["401"]);
    let server = Server::start(&["--key", KEY]);
    let out = home.at(&server.url, &["doctor", "--online"]).code(0);
    assert!(out.stdout.contains("models listed"), "{}", out.stdout);
    // Nobody listens there.
    home.llbatch(&["doctor", "--online"]).code(75).says(&["cannot connect"]);
}

#[test]
fn proxy_is_shown_without_its_password() {
    let home = Home::new();
    let mut command = home.command(&["doctor", "--base-url", "https://api.example/v1"]);
    command.env("HTTPS_PROXY", "http://me:hidden@proxy.example:3128");
    let out = home.finish(command).code(0);
    assert!(out.stdout.contains("http://proxy.example:3128"), "{}", out.stdout);
    assert!(!out.stdout.contains("hidden"), "{}", out.stdout);
    let mut command = home.command(&["doctor", "--base-url", "https://api.example/v1"]);
    command.env("HTTPS_PROXY", "::garbage");
    home.finish(command).code(2).says(&["proxy", "HTTPS_PROXY"]);
}

#[test]
fn completions_offer_jobs_and_their_names() {
    let home = Home::new();
    assert_eq!(home.llbatch(&["completions", "--jobs"]).code(0).stdout, "");
    home.write("in.jsonl", crate::support::prompts(1..=1));
    home.llbatch(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl", "--name", "nightly"]).code(0);
    let id = home.llbatch(&["completions", "--jobs"]).code(0).stdout.lines().nth(1).unwrap().to_owned();
    assert_eq!(home.llbatch(&["completions", "--jobs"]).stdout, format!("last\n{id}\nnightly\n"));
    let script = |shell| home.llbatch(&["completions", shell]).code(0).stdout;
    home.write("completions.bash", script("bash"));
    let offered = |words: &str, at: u32| {
        let ask = format!(
            "source ./completions.bash; COMP_WORDS=({words}); COMP_CWORD={at}; _llbatch_with_jobs LLBATCH \"${{COMP_WORDS[COMP_CWORD]}}\" ''; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\""
        );
        let mut bash = home.command(&[]);
        let program = bash.get_program().to_owned();
        bash = Command::new("bash");
        bash.args(["-c", &ask.replace("LLBATCH", &program.to_string_lossy())]).current_dir(home.path("."));
        bash.env("LLBATCH_STATE_DIR", home.state());
        home.finish(bash).code(0).stdout
    };
    let all = offered("LLBATCH fetch ''", 2);
    for word in ["last", &id, "nightly", "--partial"] {
        assert!(all.lines().any(|line| line == word), "{word}: {all}");
    }
    assert_eq!(offered("LLBATCH fetch ni", 2), "nightly\n");
    assert!(!offered("LLBATCH run ''", 2).contains("nightly"));
    assert!(
        script("zsh").contains("batch id of the service:_llbatch_jobs'")
            && script("fish").contains("subcommand fetch\" -a")
    );
}

#[test]
fn completions_and_man_pages_need_no_home() {
    let home = Home::new();
    let bare = |args: &[&str]| {
        let mut command = home.command(args);
        command.env_clear();
        home.finish(command).code(0)
    };
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = bare(&["completions", shell]).stdout;
        assert!(script.contains("max-cost") && script.contains("llbatch"), "{shell}");
    }
    home.write("completions.bash", bare(&["completions", "bash"]).stdout);
    let read = Command::new("bash").arg("-n").arg(home.path("completions.bash")).status();
    assert!(read.is_ok_and(|status| status.success()), "bash cannot read it");
    assert!(!home.state().exists(), "a script needs no state directory");
    assert!(bare(&["man"]).stdout.contains(".TH llbatch 1"));
    assert!(bare(&["man", "run"]).stdout.contains("\\-\\-max\\-cost"));
    bare(&["man", "--dir", "pages"]);
    assert!(home.read("pages/llbatch-submit.1").contains("llbatch\\-submit") && home.exists("pages/llbatch.1"));
    home.llbatch(&["man", "nope"]).code(2).says(&["nope", "--help"]);
}
