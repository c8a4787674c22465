//! Mistakes in flags, in the environment and in the config file.

use std::os::unix::fs::PermissionsExt;

use crate::support::{Home, MODEL, Server, answered, prompts};

#[test]
fn invalid_flag_exits_2_with_a_remedy() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let cases: &[(&[&str], &[&str])] = &[
        (&["--modle", "x"], &["--model"]),
        (&["--set", "top_k"], &["KEY=JSON", "top_k"]),
        (&["--set", "top_k=fourty"], &["top_k", "JSON"]),
        (&["--set", "stream=true"], &["stream"]),
        (&["--set", "model=\"x\""], &["-m"]),
        (&["--max-tokens", "0"], &["--max-tokens"]),
        (&["--temperature", "warm"], &["temperature", "warm"]),
        (&["--rpm", "fast"], &["--rpm", "auto"]),
        (&["--concurrency", "0"], &["--concurrency"]),
        (&["--request-timeout", "soon"], &["--request-timeout", "soon"]),
        (&["--deadline", "25:00"], &["--deadline", "06:00"]),
        (&["--format", "xlsx"], &["--format", "csv"]),
        (&["--input-format", "xml"], &["jsonl"]),
        (&["--endpoint", "videos"], &["embeddings"]),
        (&["--prompt", "{% if %}"], &["--prompt"]),
        (&["--system", "{{ x"], &["--system"]),
        (&["-"], &["standard input"]),
    ];
    for (args, parts) in cases {
        let out = home.run(&server, &[&["in.jsonl"], *args].concat());
        assert_eq!(out.code, 2, "{args:?}\n{}", out.stderr);
        for part in *parts {
            assert!(out.stderr.contains(part), "{args:?}: {part:?} is not said:\n{}", out.stderr);
        }
        assert_eq!(out.stdout, "", "{args:?}");
    }
    home.run(&server, &[]).code(2).says(&["INPUT", "llbatch run"]);
    home.llbatch(&["rnu"]).code(2).says(&["rnu", "--help"]);
    home.llbatch(&[]).code(2).says(&["Usage"]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn key_file_must_be_private() {
    let home = Home::new();
    let server = Server::start(&["--key", "the-key"]);
    home.write("in.jsonl", prompts(1..=1));
    let args = ["in.jsonl", "--api-key-file", "key"];
    home.run(&server, &args).code(4).says(&["key", "cannot be read"]);
    home.write("key", "the-key\n");
    let mode = |bits| std::fs::set_permissions(home.path("key"), std::fs::Permissions::from_mode(bits)).unwrap();
    mode(0o644);
    home.run(&server, &args).code(4).says(&["chmod 600"]);
    mode(0o600);
    home.run(&server, &args).code(0);
    home.write("key", "two\nlines\n");
    home.run(&server, &args).code(4).says(&["one line"]);
    assert_eq!(server.requests(), 1);
}

#[test]
fn leaking_base_url_is_refused() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=1));
    for url in ["http://example.org/v1", "https://user:pass@127.0.0.1/v1", "ftp://127.0.0.1", "nonsense"] {
        let out = home.finish(home.run_command(url, &["in.jsonl"])).code(2);
        assert!(out.stderr.contains("base URL"), "{}", out.stderr);
    }
}

#[test]
fn config_file_fills_in_and_flags_win() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.txt", "one\n");
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    let config = format!("base_url = \"{}\"\n[run]\nmodel = \"{MODEL}\"\n", server.url);
    home.write("home/config/llbatch/config.toml", &config);
    let mut command = home.command(&["run", "in.txt", "--summary", "s.json"]);
    command.env_remove("TOGETHER_BASE_URL");
    home.finish(command).code(0);
    assert_eq!(home.json("s.json")["models"][0]["model"], MODEL);
    home.run(&server, &["in.txt", "--summary", "s.json", "-m", "m/flag"]).code(0);
    assert_eq!(home.json("s.json")["models"][0]["model"], "m/flag");

    home.write("bad.toml", "[run]\nmodle = \"x\"\n");
    home.run(&server, &["in.txt", "--config", "bad.toml"]).code(2).says(&["bad.toml", "modle"]);
    home.run(&server, &["in.txt", "--config", "none.toml"]).code(2).says(&["none.toml"]);
    // Files in the working directory decide nothing.
    home.write("config.toml", "base_url = \"http://127.0.0.1:1/v1\"\n");
    home.write(".env", "TOGETHER_BASE_URL=http://127.0.0.1:1/v1\n");
    home.run(&server, &["in.txt", "-m", MODEL]).code(0);
}

#[test]
fn colour_needs_a_terminal_or_a_flag() {
    let home = Home::new();
    let coloured = |args: &[&str], env: Option<(&str, &str)>| {
        let mut command = home.command(&[args, &["run", "none.jsonl"]].concat());
        command.envs(env);
        home.finish(command).code(66).stderr.contains("\u{1b}[")
    };
    assert!(!coloured(&[], None), "no terminal, no colour");
    assert!(coloured(&["--color", "always"], None));
    assert!(!coloured(&["--color", "never"], None));
    assert!(!coloured(&[], Some(("NO_COLOR", "1"))));
}

#[test]
fn base_url_may_be_what_a_server_prints_or_a_manual_shows() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    let address = server.address();
    let port = address.rsplit_once(':').unwrap().1;
    let urls = [format!("http://0.0.0.0:{port}/v1"), format!("http://{address}"), format!("{}/", server.url)];
    for url in urls {
        home.at(&url, &["run", "in.jsonl", "-o", "out.jsonl", "--fresh"]).code(0);
        answered(&home.read("out.jsonl"), 1..=2);
    }
    let endpoint = format!("{}/chat/completions", server.url);
    let said = format!("the base URL is {}: /chat/completions is the path of an endpoint", server.url);
    let out = home.at(&endpoint, &["run", "in.jsonl", "-o", "out.jsonl", "--fresh"]).code(0);
    assert!(out.stderr.split_whitespace().collect::<Vec<_>>().join(" ").contains(&said), "{}", out.stderr);
    for (url, right) in [(format!("{address}/v1"), &server.url), (format!("{}?key=x", server.url), &server.url)] {
        home.at(&url, &["run", "in.jsonl", "-o", "out.jsonl", "--fresh"]).code(2).says(&[right]);
    }
    assert_eq!((server.bill(), server.requests()), (8, 8), "no request went to another path");
}
