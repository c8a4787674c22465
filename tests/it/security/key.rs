//! Only the service sees the key. `run/faults.rs` and `batch/key.rs` test keys that a server repeats; proxies and redirects
//! have their own tests. These are the other ways out.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Home, KEY, Server, prompts, until};

#[test]
fn key_is_in_no_command_line() {
    let server = Server::start(&["--latency", "300ms"]);
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=20));
    home.write("key", KEY);
    std::fs::set_permissions(home.path("key"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for with_file in [false, true] {
        let more: &[&str] = if with_file { &["--api-key-file", "key"] } else { &[] };
        let args = ["run", "in.jsonl", "-o", "out.jsonl", "--concurrency", "2", "--fresh", "-vv"];
        let mut command = home.command_at(&server.url, &[&args, more].concat());
        if with_file {
            command.env_remove("TOGETHER_API_KEY");
        }
        let billed = server.bill();
        let running = home.start(command);
        server.until_billed(billed + 1);
        // It starts no other program, so its own command line is all there is.
        let mut ours = 0;
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.contains(&server.url) {
                assert!(!line.contains(KEY), "{line}");
                ours += 1;
            }
        }
        assert!(ours >= 1, "the running command was looked at");
        drop(running);
    }
    assert_eq!(home.files_with(KEY), ["key"]);
}

#[test]
fn invalid_key_exits_4_without_showing_it() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=1));
    let start = |key: &str, args: &[&str]| {
        let mut command = home.command_at(&server.url, args);
        command.env("TOGETHER_API_KEY", key).env("RUST_BACKTRACE", "full");
        home.finish(command)
    };
    for key in ["canary\nsecond: line", "canary\r\nx: y", "canary key", "canary\u{e9}", "canary\u{7f}"] {
        for args in [&["run", "in.jsonl"][..], &["submit", "in.jsonl"], &["models", "--refresh"]] {
            let out = start(key, args).code(4);
            assert!(out.stderr.contains("TOGETHER_API_KEY") && !out.stderr.contains("canary"), "{}", out.stderr);
        }
    }
    for key in [" ", "\n"] {
        start(key, &["run", "in.jsonl"]).code(4).says(&["API"]);
    }
    assert_eq!(server.requests(), 0);
    // A line feed at its end is how keys come out of files.
    start(&format!("{KEY}\n"), &["run", "in.jsonl"]).code(0);
}

#[test]
fn key_given_as_a_flag_is_not_repeated() {
    let home = Home::new();
    for args in [&["run", "--api-key", KEY, "in.jsonl"][..], &["run", &format!("--api-key={KEY}"), "in.jsonl"]] {
        let out = home.llbatch(args).code(2).says(&["--api-key-file"]);
        assert!(!out.stderr.contains(KEY), "{}", out.stderr);
    }
}

#[test]
fn key_in_a_wrong_place_of_the_config_file_is_not_repeated() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=1));
    for (text, code) in [
        ("api_key = \"canary-0123456789abcdef\"", 2),
        ("TOGETHER_API_KEY = \"canary-0123456789abcdef\"", 2),
        ("[run]\napi_key = \"canary-0123456789abcdef\"", 2),
        ("[notify]\nsecret = \"canary-0123456789abcdef\"", 2),
        ("notify = \"canary-0123456789abcdef\"", 2),
        ("[models.\"x\"]\nkey = \"canary-0123456789abcdef\"", 2),
        ("key = \"canary-0123456789abcdef\" x", 2),
        // The key in place of its file.
        ("api_key_file = \"canary-0123456789abcdef\"", 4),
    ] {
        home.config(text);
        for args in [&["run", "in.jsonl"][..], &["run", "in.jsonl", "-o", "o.jsonl", "--json"]] {
            let mut command = home.command(args);
            command.env_remove("TOGETHER_API_KEY");
            let out = home.finish(command).code(code);
            assert!(
                !out.stdout.contains("canary") && !out.stderr.contains("canary"),
                "{text}: {} {}",
                out.stdout,
                out.stderr
            );
        }
    }
    home.config("api_key = \"canary\"");
    home.llbatch(&["run", "in.jsonl"]).code(2).says(&["line 1: unknown field `api_key`", "api_key_file = \"PATH\""]);
}

#[test]
fn transport_errors_do_not_show_the_key() {
    // No room for a thread's stack: as near to a panic as this program can be brought from outside.
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=1));
    for args in
        [&["run", "in.jsonl"][..], &["submit", "in.jsonl"], &["run", "in.jsonl", "--sandbox"], &["models", "--refresh"]]
    {
        let mut command = home.command(args);
        command.env("RUST_MIN_STACK", "999999999999999").env("RUST_BACKTRACE", "full");
        let out = home.finish(command);
        assert_ne!(out.code, 0, "{args:?}");
        assert!(!out.stderr.contains("panicked"), "{}", out.stderr);
    }
    assert_eq!(home.files_with(KEY), Vec::<String>::new());
}

#[test]
fn server_named_in_the_config_file_gets_the_key() {
    // The config file is the user's, not a repository's: where it says, the key goes.
    let home = Home::new();
    let server = Server::start(&["--key", KEY]);
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", format!("base_url = \"{}\"\n", server.url));
    home.write("in.jsonl", prompts(1..=1));
    let mut command = home.command(&["run", "in.jsonl", "-o", "out.jsonl"]);
    command.env_remove("TOGETHER_BASE_URL");
    home.finish(command).code(0).says(&[&server.url]);
    until("one answer", || server.bill() == 1);
}
