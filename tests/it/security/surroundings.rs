//! Files in the working directory decide nothing: a repository must not be able to name the host that gets the key.

use std::os::unix::fs::PermissionsExt;

use super::proxy::Proxy;
use crate::support::{Home, KEY, Recorder, Server, answered, prompts};

/// Files that some program or other reads where it is started, all of them naming `evil`.
fn trap(home: &Home, evil: &str) {
    let config = format!("base_url = \"{evil}\"\nstate_dir = \"stolen\"\n[run]\nmodel = \"evil/model\"\n");
    let host = evil.split("://").nth(1).unwrap().trim_end_matches("/v1");
    let name = host.split(':').next().unwrap();
    let netrc = format!("machine {name} login user password hunter2\nmachine api.together.ai login user password x\n");
    let env = format!(
        "TOGETHER_BASE_URL={evil}\nTOGETHER_API_KEY=other\nHTTPS_PROXY=http://{host}\nHTTP_PROXY=http://{host}\nALL_PROXY=http://{host}\n"
    );
    for dir in [".config/llbatch", ".llbatch", "llbatch", "config", ".cargo"] {
        std::fs::create_dir_all(home.path(dir)).unwrap();
        for file in ["config.toml", "llbatch.toml"] {
            home.write(&format!("{dir}/{file}"), &config);
        }
    }
    for file in ["llbatch.toml", ".llbatch.toml", "config.toml", "together.toml", ".togetherrc"] {
        home.write(file, &config);
    }
    for file in [".env", ".env.local", ".envrc", "llbatch.env"] {
        home.write(file, &env);
    }
    for file in [".netrc", "_netrc", "home/.netrc", ".curlrc", "home/.curlrc"] {
        home.write(file, &netrc);
    }
    home.write("home/.curlrc", format!("proxy = http://{host}\n"));
}

#[test]
fn hostile_files_in_the_working_directory_are_ignored() {
    let (home, evil, good) = (Home::new(), Recorder::start(), Recorder::start());
    trap(&home, &evil.url);
    home.write("in.jsonl", prompts(1..=1));
    home.finish(home.run_command(&good.url, &["in.jsonl", "-o", "out.jsonl"])).code(0);
    let head = good.requests()[0].head.to_ascii_lowercase();
    assert!(head.contains(&format!("authorization: bearer {KEY}\r\n")), "{head}");
    assert!(!home.exists("stolen"));

    // With no word of where: the service itself, over the proxy of the environment.
    let proxy = Proxy::start(evil.address(), Some("HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"));
    for dir in ["", "home"] {
        let mut command = home.command(&["run", "in.jsonl", "-o", "out.jsonl", "--retries", "0", "--fresh"]);
        command.current_dir(home.path(".")).env_remove("TOGETHER_BASE_URL").env("HTTPS_PROXY", proxy.url());
        if dir.is_empty() {
            // A relative place is none.
            command.env("XDG_CONFIG_HOME", ".config").env("XDG_STATE_HOME", ".");
        }
        home.finish(command).code(1);
    }
    let heads = proxy.heads();
    assert!(heads.len() >= 2, "{heads:?}");
    for head in heads {
        assert!(head.starts_with("CONNECT api.together.ai:443 "), "{head}");
    }
    assert_eq!(evil.connections(), 0, "the key or the prompts went where the repository said");
}

#[test]
fn invalid_home_does_not_become_the_working_directory() {
    let (home, evil) = (Home::new(), Recorder::start());
    trap(&home, &evil.url);
    home.write("in.jsonl", prompts(1..=1));
    let mut command = home.command(&["run", "in.jsonl", "-o", "out.jsonl"]);
    command.env("HOME", ".").env_remove("XDG_CONFIG_HOME").env_remove("XDG_STATE_HOME").env_remove("LLBATCH_STATE_DIR");
    command.env_remove("TOGETHER_BASE_URL");
    home.finish(command).code(2).says(&["HOME", "LLBATCH_STATE_DIR"]);
    assert_eq!(evil.connections(), 0);
    // Without a home directory there is no config file.
    let mut command = home.command(&["doctor", "--json"]);
    command.env("HOME", ".").env_remove("XDG_CONFIG_HOME").env_remove("TOGETHER_BASE_URL");
    let out = home.finish(command).code(0);
    assert!(out.stdout.contains("https://api.together.ai/v1") && !out.stdout.contains(&evil.url), "{}", out.stdout);
    // With everything named it is not needed.
    let mut command = home.run_command(&evil.url, &["in.jsonl", "-o", "out.jsonl"]);
    home.write("mine.toml", "");
    command.env("HOME", ".").env_remove("XDG_CONFIG_HOME").env("LLBATCH_CONFIG", home.path("mine.toml"));
    home.finish(command).code(0);
}

#[test]
fn config_file_paths_do_not_depend_on_the_working_directory() {
    let home = Home::new();
    let server = Server::start(&["--key", KEY]);
    home.write("in.jsonl", prompts(1..=1));
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    std::fs::create_dir(home.path("~")).unwrap();
    let private = |name: &str, text: &str| {
        home.write(name, text);
        std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    for name in ["key", "~/key"] {
        private(name, "the-key-of-somebody-else");
    }
    private("home/config/llbatch/key", KEY);
    private("home/key", KEY);
    for path in ["key", "~/key"] {
        let config = format!("api_key_file = \"{path}\"\nstate_dir = \"~/state-of-mine\"\n");
        home.write("home/config/llbatch/config.toml", config);
        let mut command = home.run_command(&server.url, &["in.jsonl", "-o", "out.jsonl", "--fresh"]);
        command.env_remove("TOGETHER_API_KEY").env_remove("LLBATCH_STATE_DIR");
        home.finish(command).code(0);
    }
    assert!(home.exists("home/state-of-mine/ledger.db") && !home.exists("~/state-of-mine"));
}

/// Runs without a home directory, as a user without an account, if the tests run as root.
#[test]
fn home_directory_is_needed_only_where_something_lies_in_it() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=2));
    let homeless = |home_variable: Option<&str>, state: bool, args: &[&str]| {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups", env!("CARGO_BIN_EXE_llbatch")]);
        command.args(args).current_dir(home.path("")).env_clear();
        command.env("TOGETHER_API_KEY", KEY).env("TOGETHER_BASE_URL", &server.url);
        if let Some(value) = home_variable {
            command.env("HOME", value);
        }
        if state {
            command.env("LLBATCH_STATE_DIR", home.path("open/state"));
        }
        home.finish(command)
    };
    if homeless(None, true, &["completions", "bash"]).code != 0 {
        // Not root.
        return;
    }
    std::fs::create_dir(home.path("open")).unwrap();
    for name in ["", "open"] {
        std::fs::set_permissions(home.path(name), std::fs::Permissions::from_mode(0o777)).unwrap();
    }
    for variable in [None, Some("")] {
        homeless(variable, true, &["run", "in.jsonl", "-o", "open/out.jsonl", "--fresh"]).code(0);
        answered(&home.read("open/out.jsonl"), 1..=2);
        homeless(variable, true, &["doctor"]).code(0);
        homeless(variable, true, &["status"]).code(0);
        for args in [&["check", "in.jsonl"][..], &["models", "llama"], &["report", "open/out.jsonl"]] {
            homeless(variable, false, args).code(0);
        }
        homeless(variable, false, &["run", "in.jsonl"]).code(2).says(&["home directory", "LLBATCH_STATE_DIR", "HOME"]);
        homeless(variable, false, &["doctor"]).code(2).says(&["home directory", "LLBATCH_STATE_DIR"]);
    }
}

#[test]
fn sandbox_that_cannot_write_says_what_other_commands_say() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    home.write("file", "");
    for args in [&["run", "in.jsonl", "--sandbox"][..], &["status", "--sandbox"], &["submit", "in.jsonl", "--sandbox"]]
    {
        let out = home.llbatch(&[args, &["--state-dir", "file/state"]].concat()).code(74);
        out.says(&["choose another one with --state-dir or LLBATCH_STATE_DIR"]);
    }
}
