//! Services of the config file, base URLs, keys and plain http.

use std::net::{TcpListener, UdpSocket};

use serde_json::Value;

use crate::support::{Home, KEY, Out, Recorder, Server, answered, prompts};

/// The key of a service in the config file.
const OWN: &str = "own-key-of-a-service";

/// A home whose config file has the service `box` at `url`, with these further lines.
fn home_with(url: &str, lines: &str) -> Home {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=3));
    home.config(format!("[services.box]\nbase_url = \"{url}\"\n{lines}"));
    home
}

/// `llbatch ARGS --service box` with the key of Together in the environment.
fn at_box(home: &Home, args: &[&str]) -> Out {
    home.llbatch(&[args, &["--service", "box"]].concat())
}

/// The values of `Authorization` that a service saw, one for each request.
fn authorizations(recorder: &Recorder) -> Vec<Option<String>> {
    let of = |head: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let mut found = lines.filter(|(name, _)| name.eq_ignore_ascii_case("authorization"));
        found.next().map(|(_, value)| value.to_owned())
    };
    recorder.requests().iter().map(|request| of(&request.head)).collect()
}

#[test]
fn base_url_is_used_as_it_is_given() {
    let recorder = Recorder::start();
    let host = format!("http://{}", recorder.address());
    for (path, asked) in [
        ("", "/v1/chat/completions"),
        ("/v1", "/v1/chat/completions"),
        ("/v1beta/openai/", "/v1beta/openai/chat/completions"),
        ("/api/v3", "/api/v3/chat/completions"),
    ] {
        let home = home_with(&format!("{host}{path}"), "");
        at_box(&home, &["run", "in.jsonl", "--limit", "1", "-o", "out.jsonl"]).code(0);
        let last = recorder.requests().pop().unwrap().head;
        assert!(last.starts_with(&format!("POST {asked} ")), "{path}: {last}");
    }
    let home = home_with(&format!("{host}/v1/chat/completions"), "");
    let out = at_box(&home, &["run", "in.jsonl", "--limit", "1", "-o", "out.jsonl"]).code(0);
    let out = out.says(&[&format!("the base URL is {host}/v1: /chat/completions is the path of an endpoint")]);
    assert_eq!(out.stderr.matches("is the path of an endpoint").count(), 1, "{}", out.stderr);
}

#[test]
fn invalid_base_url_names_the_right_one() {
    for (url, problem, right) in [
        ("127.0.0.1:9", "lacks http:// or https://", "http://127.0.0.1:9/v1"),
        ("vllm.example/api", "lacks http:// or https://", "https://vllm.example/api"),
        ("http://127.0.0.1:9/v1?key=1", "must not contain a query", "http://127.0.0.1:9/v1"),
    ] {
        let home = home_with(url, "");
        let right = format!("the base URL is probably {right}");
        at_box(&home, &["run", "in.jsonl"]).code(2).says(&["config file", problem, &right]);
        home.at(url, &["run", "in.jsonl"]).code(2).says(&["--base-url", problem, &right]);
    }
    let home = home_with("x", "");
    for (urls, problem) in [
        ("[\"http://127.0.0.1:9/v1\", \"http://127.0.0.1:9/\"]", "http://127.0.0.1:9/v1 is there twice"),
        ("[\"http://127.0.0.1:9/v1\", \"127.0.0.1:10\"]", "`127.0.0.1:10` lacks http://"),
        ("[\"http://127.0.0.1:9/v1\", \"http://node8:8000/v1\"]", "http://node8:8000/v1 is plain http"),
        ("[]", "[services.box] has no base_url"),
    ] {
        home.config(format!("[services.box]\nbase_url = {urls}\n"));
        at_box(&home, &["run", "in.jsonl"]).code(2).says(&[problem]);
    }
    home.config("[services.box]\nkey = \"none\"\n");
    at_box(&home, &["run", "in.jsonl"]).code(2).says(&["[services.box] has no base_url"]);
}

#[test]
fn service_without_a_key_is_asked_without_one() {
    let recorder = Recorder::start();
    // Nothing is configured: that is said, once.
    let home = home_with(&recorder.url, "");
    let out = at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"]).code(0);
    assert_eq!(out.stderr.matches("is asked without one").count(), 1, "{}", out.stderr);
    answered_rows(&home, 3);
    // It was decided: there is nothing to say.
    let home = home_with(&recorder.url, "key = \"none\"\n");
    let out = at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"]).code(0);
    assert!(!out.stderr.contains("without one"), "{}", out.stderr);
    home.at(&recorder.url, &["run", "in.jsonl", "--no-key", "--fresh", "-o", "out.jsonl"]).code(0);
    let mut command = home.command_at(&recorder.url, &["run", "in.jsonl", "--fresh", "-o", "out.jsonl"]);
    command.env_remove("TOGETHER_API_KEY");
    home.finish(command).code(0).says(&["is asked without one"]);
    assert_eq!(authorizations(&recorder), vec![None; 12]);
    // Together is another matter.
    for (remove, flag) in [("TOGETHER_API_KEY", "-v"), ("HOME", "--no-key")] {
        let mut command = home.command(&["run", "in.jsonl", "--base-url", "https://api.together.ai", flag]);
        command.env_remove(remove);
        home.finish(command).code(4).says(&["no API key"]);
    }
}

fn answered_rows(home: &Home, rows: usize) {
    assert_eq!(home.read("out.jsonl").lines().filter(|line| line.contains("\"error\":null")).count(), rows);
}

#[test]
fn service_that_wants_a_key_and_gets_none_ends_with_4() {
    let server = Server::start(&["--key", OWN]);
    let home = home_with(&server.url, "");
    at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"])
        .code(4)
        .says(&["the service asks for a key, and none was sent", "HTTP 401"]);
    at_box(&home, &["models", "--refresh"]).code(4).says(&["no key was sent", "[services.box]"]);
    at_box(&home, &["submit", "in.jsonl"]).code(4).says(&["no key was sent"]);
}

#[test]
fn service_gets_its_own_key_and_no_other() {
    let recorder = Recorder::start();
    let run = |lines: &str, file: bool| {
        let home = home_with(&recorder.url, lines);
        if file {
            home.write("home/config/llbatch/own.key", OWN);
            std::process::Command::new("chmod")
                .args(["600"])
                .arg(home.path("home/config/llbatch/own.key"))
                .status()
                .unwrap();
        }
        let mut command = home.command(&["run", "in.jsonl", "--limit", "1", "-o", "out.jsonl", "--service", "box"]);
        command.env("OWN_KEY", OWN);
        home.finish(command)
    };
    run("api_key_file = \"own.key\"\n", true).code(0);
    run("api_key_env = \"OWN_KEY\"\n", false).code(0);
    let home = home_with(&recorder.url, "");
    home.at(&recorder.url, &["run", "in.jsonl", "--limit", "1", "-o", "out.jsonl"]).code(0);
    let own = Some(format!("Bearer {OWN}"));
    assert_eq!(authorizations(&recorder), [own.clone(), own, Some(format!("Bearer {KEY}"))]);
    run("api_key_env = \"OTHER_KEY\"\n", false).code(4).says(&["OTHER_KEY is not set"]);
    run("api_key_file = \"absent.key\"\n", false).code(4).says(&["absent.key"]);
    run("api_key_file = \"a\"\napi_key_env = \"B\"\n", false).code(2).says(&["names several keys"]);
    for lines in [format!("key = \"{OWN}\"\n"), format!("api_key = \"{OWN}\"\n"), format!("api_key_env = \"{OWN}\"\n")]
    {
        let out = run(&lines, false).code(2);
        assert!(!out.stderr.contains(OWN), "{}", out.stderr);
    }
}

/// An address of this machine that is not loopback, if it has one. Nothing is sent.
fn address_of_this_machine() -> Option<std::net::IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let address = socket.local_addr().ok()?.ip();
    (!address.is_loopback() && !address.is_unspecified()).then_some(address)
}

#[test]
fn key_never_travels_in_clear() {
    let Some(address) = address_of_this_machine() else { return };
    let Ok(listener) = TcpListener::bind((address, 0)) else { return };
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let nobody_came = || assert_eq!(listener.accept().unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    let commands =
        [&["run", "in.jsonl"][..], &["submit", "in.jsonl"], &["models", "--refresh"], &["doctor", "--online"]];
    let secret_header = "key = \"none\"\nheaders = { \"X-Api-Key\" = \"hidden-in-a-header\" }\n";
    for lines in ["", "api_key_env = \"OWN_KEY\"\n", secret_header] {
        let home = home_with(&url, lines);
        for args in commands {
            let mut command = home.command(&[args, &["--service", "box"]].concat());
            command.env("OWN_KEY", OWN);
            let out = home.finish(command).code(2).says(&["plain http"]);
            assert!(!out.stderr.contains("hidden-in-a-header"), "{}", out.stderr);
            nobody_came();
        }
    }
    let home = home_with(&url, "");
    for args in commands {
        home.at(&url, args).code(2).says(&["plain http", "--no-key"]);
        nobody_came();
    }
    // A name that only looks like this machine is another host.
    home.at("http://localhost.example:1", &["run", "in.jsonl"]).code(2).says(&["plain http"]);
}

#[test]
fn without_a_key_plain_http_to_other_hosts_warns_that_prompts_travel() {
    let Some(recorder) = address_of_this_machine().and_then(Recorder::at) else { return };
    let home = home_with(&recorder.url, "key = \"none\"\nheaders = { \"X-Org\" = \"my-team\" }\n");
    at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"])
        .code(0)
        .says(&["plain http: prompts and answers travel unencrypted"]);
    home.at(&recorder.url, &["run", "in.jsonl", "--no-key", "-o", "out.jsonl"]).code(0).says(&["unencrypted"]);
    assert_eq!(authorizations(&recorder), vec![None; 6]);
}

#[test]
fn service_is_named_by_flag_environment_or_config_file() {
    let (one, two) = (Recorder::start(), Recorder::start());
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=1));
    let tables = format!("[services.one]\nbase_url = \"{}\"\n[services.two]\nbase_url = \"{}\"\n", one.url, two.url);
    home.config(format!("service = \"one\"\n{tables}"));
    let run = |args: &[&str], vars: &[(&str, &str)]| {
        let mut command = home.command(&[&["run", "in.jsonl", "--fresh", "-o", "out.jsonl"], args].concat());
        command.env_remove("TOGETHER_BASE_URL").envs(vars.iter().copied());
        home.finish(command)
    };
    let service = |name| ("LLBATCH_SERVICE", name);
    run(&[], &[]).code(0).says(&[&format!("on one ({})", one.url)]);
    run(&[], &[("TOGETHER_BASE_URL", &two.url)]).code(0).says(&[&format!("on {}", two.url)]);
    run(&[], &[service("one"), ("TOGETHER_BASE_URL", &two.url)]).code(0).says(&["on one ("]);
    run(&["--service", "two"], &[service("one")]).code(0).says(&["on two ("]);
    run(&["--base-url", &two.url], &[service("one")]).code(0).says(&[&format!("on {}", two.url)]);
    run(&["--base-url", &two.url, "--service", "two"], &[]).code(2).says(&["cannot be used with"]);
    let unknown = ["no service `tow`", "one, two, together"];
    run(&["--service", "tow"], &[]).code(2).says(&unknown);
    run(&[], &[service("tow")]).code(2).says(&unknown).says(&["LLBATCH_SERVICE"]);
    home.config(format!("service = \"tow\"\n{tables}"));
    run(&[], &[]).code(2).says(&unknown).says(&["config file"]);
    home.config(format!("[services.\"a=b\"]\nbase_url = \"{}\"\n", one.url));
    run(&["--service", "a=b"], &[]).code(2).says(&["is no name of a service"]);
}

#[test]
fn own_headers_go_with_every_request_and_are_shown_by_name_only() {
    const VALUE: &str = "hidden-team-4711";
    const SECRET: &str = "hidden-secret-0815";
    let recorder = Recorder::answering(|request| {
        let body = if request.head.starts_with("GET") {
            r#"[{"id":"a/b","type":"chat"}]"#.to_owned()
        } else {
            Recorder::chat(&format!("\"{SECRET}\""))
        };
        ("200 OK", String::new(), body)
    });
    let home =
        home_with(&recorder.url, &format!("headers = {{ \"X-Org\" = \"{VALUE}\", \"X-Api-Key\" = \"{SECRET}\" }}\n"));
    let config = std::fs::read_to_string(home.path("home/config/llbatch/config.toml")).unwrap();
    let mut said = String::new();
    for args in [
        &["run", "in.jsonl", "-o", "out.jsonl", "-vv"][..],
        &["models", "--refresh"],
        &["doctor", "--online"],
        &["status"],
    ] {
        let out = at_box(&home, args).code(0);
        said.push_str(&(out.stdout + &out.stderr));
    }
    assert!(said.contains("x-api-key, x-org") && recorder.requests().len() == 5, "{said}");
    for request in recorder.requests() {
        let head = request.head.to_ascii_lowercase();
        assert!(head.contains(&format!("x-org: {VALUE}")) && head.contains(&format!("x-api-key: {SECRET}")), "{head}");
    }
    // What a service repeats does not come into results either.
    assert!(home.read("out.jsonl").contains("[key]"));
    home.write("home/config/llbatch/config.toml", "");
    assert_eq!((home.files_with(VALUE), home.files_with(SECRET)), (Vec::new(), Vec::new()));
    for header in ["{ \"Host\" = \"x\" }", "{ \"X Org\" = \"x\" }", "{ \"Authorization\" = \"x\" }", "\"X-Org: x\""] {
        home.config(format!("[services.box]\nbase_url = \"{}\"\nheaders = {header}\n", recorder.url));
        at_box(&home, &["run", "in.jsonl"]).code(2).says(&["headers"]);
    }
    home.config(config);
}

#[test]
fn files_and_batches_carry_the_own_headers() {
    let server = Server::quick(&["--key", OWN]);
    let home =
        home_with(&server.url, &format!("key = \"none\"\nheaders = {{ \"Authorization\" = \"Bearer {OWN}\" }}\n"));
    let out = at_box(&home, &["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "out.jsonl"]).code(0);
    assert!(!out.stderr.contains("Together"), "another service's guide is named: {}", out.stderr);
    answered(&home.read("out.jsonl"), 1..=3);
}

#[test]
fn prices_belong_to_the_service() {
    let recorder = Recorder::start();
    let model = serde_json::from_str::<Value>(prompts(1..=1).trim()).unwrap()["body"]["model"].clone();
    let model = model.as_str().unwrap_or("meta-llama/Llama-3.2-3B-Instruct-Turbo").to_owned();
    let own = format!("[services.box.models.\"{model}\"]\ninput = 1000\noutput = 0\n");
    let cost = |lines: &str, args: &[&str]| {
        let home = home_with(&recorder.url, lines);
        let args = [&["run", "in.jsonl", "-m", &model, "-o", "out.jsonl", "--summary", "sum.json"], args].concat();
        home.llbatch(&args).code(0);
        home.json("sum.json")["cost"]["usd"].clone()
    };
    assert_eq!(cost("", &["--service", "box"]), Value::Null, "unknown, and not what Together asks for");
    // Each answer reports 1,000 prompt tokens.
    assert_eq!(cost(&own, &["--service", "box"]).as_f64(), Some(3.0));
    assert!(cost(&own, &["--base-url", &recorder.url]).as_f64().is_some_and(|usd| usd < 0.01));
    let home = home_with(&recorder.url, &format!("[services.box.models.\"{model}\"]\ninput = 1\n"));
    at_box(&home, &["check", "in.jsonl"])
        .code(2)
        .says(&[&format!("[services.box.models.\"{model}\"] has no `output` price")]);
}

/// The only job of this home.
fn job(home: &Home) -> String {
    let out = home.llbatch(&["status", "--offline", "--json"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    document["jobs"][0]["job"].as_str().unwrap().to_owned()
}

#[test]
fn job_remembers_its_service() {
    let server = Server::quick(&["--key", OWN, "--fault", "status=400,on=row,contains=question 2"]);
    let other = "[services.other]\nbase_url = \"http://127.0.0.1:9/v1\"\n";
    let home = home_with(&server.url, &format!("api_key_env = \"OWN_KEY\"\n{other}"));
    let llbatch = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("OWN_KEY", OWN).env("LLBATCH_SERVICE", "other");
        home.finish(command)
    };
    llbatch(&["submit", "in.jsonl", "--service", "box"]).code(0);
    let id = job(&home);
    let out = llbatch(&["status"]).code(0);
    assert!(!out.stderr.contains("--base-url"), "{}", out.stderr);
    llbatch(&["status", &id]).code(0);
    llbatch(&["wait", &id, "--poll", "50ms"]).code(3);
    let out = llbatch(&["fetch", &id, "-o", "out.jsonl"]).code(3);
    assert!(!out.stderr.contains("--base-url"), "{}", out.stderr);
    llbatch(&["retry", &id, "--all"]).code(0);
    llbatch(&["cancel", &id]).says(&[&id]);
    llbatch(&["report", &id]).code(0);
    llbatch(&["clean", &id, "--remote", "--force"]).code(0);
    // The same of a run.
    llbatch(&["run", "in.jsonl", "--service", "box", "-o", "out.jsonl"]).code(0);
    let id = job(&home);
    llbatch(&["run", &format!("--resume={id}"), "-o", "again.jsonl"]).code(0);
    assert_eq!(home.read("again.jsonl"), home.read("out.jsonl"));
    let other = llbatch(&["retry", &id, "--base-url", "http://127.0.0.1:9/v1"]).code(2);
    other.says(&["belongs to box (", "--service box"]);
}

#[test]
fn job_of_no_service_in_the_config_file_is_not_taken_for_one() {
    let server = Server::quick(&[]);
    let home = home_with("http://127.0.0.1:9/v1", "");
    home.at(&server.url, &["submit", "in.jsonl"]).code(0);
    let mut command = home.command(&["fetch", &job(&home), "--wait", "--poll", "50ms", "-o", "out.jsonl"]);
    command.env("LLBATCH_SERVICE", "box").env("TOGETHER_BASE_URL", &server.url);
    home.finish(command).code(0);
    answered(&home.read("out.jsonl"), 1..=3);
}

#[test]
fn service_that_has_left_the_config_file_is_named() {
    let server = Server::start(&["--batch-run", "1h"]);
    let key = "api_key_env = \"TOGETHER_API_KEY\"\n";
    let home = home_with(&server.url, key);
    at_box(&home, &["submit", "in.jsonl"]).code(0);
    let id = job(&home);
    home.config("");
    let gone = format!("{id} belongs to box ({}), but the config file has no service `box`", server.url);
    let back = format!("add [services.box] with base_url = \"{}\"", server.url);
    for args in [&["fetch", &id, "-o", "out.jsonl"][..], &["wait", &id], &["cancel", &id], &["retry", &id]] {
        home.llbatch(args).code(2).says(&[&gone, &back]);
    }
    home.llbatch(&["status", "--offline", &id]).code(0);
    home.config(format!("[services.box]\nbase_url = \"{}\"\n{key}", server.url));
    home.llbatch(&["cancel", &id]).code(0);
}

#[test]
fn two_names_for_one_url_are_two_services() {
    let recorder = Recorder::start();
    let home = home_with(
        &recorder.url,
        &format!("key = \"none\"\n[services.other]\nbase_url = \"{}\"\nkey = \"none\"\n", recorder.url),
    );
    at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"]).code(0);
    let id = job(&home);
    let resume = format!("--resume={id}");
    let out = home.llbatch(&["run", "in.jsonl", &resume, "--service", "other", "-o", "out.jsonl"]).code(2);
    out.says(&["belongs to box (", "targets other ("]);
    home.llbatch(&["run", "in.jsonl", "--resume", "--service", "other", "-o", "out.jsonl"]).code(0);
    assert_eq!(recorder.requests().len(), 6, "each service has answered its own job");
    at_box(&home, &["run", "in.jsonl", "--resume", "-o", "out.jsonl"]).code(0);
    assert_eq!(recorder.requests().len(), 6, "the service's own answers are reused");
}

#[test]
fn doctor_says_that_the_variable_of_a_key_is_not_set() {
    let home = home_with("http://127.0.0.1:9/v1", "api_key_env = \"NO_SUCH_KEY\"\n");
    let out = at_box(&home, &["doctor"]).code(4);
    assert!(out.stdout.contains("not set") && !out.stdout.contains("invalid"), "{}", out.stdout);
}

#[test]
fn doctor_shows_the_service_and_asks_it() {
    let server = Server::start(&["--key", OWN]);
    let home = home_with(&server.url, "api_key_env = \"OWN_KEY\"\nheaders = { \"X-Org\" = \"hidden\" }\n");
    let mut command = home.command(&["doctor", "--service", "box", "--online", "--json"]);
    command.env("OWN_KEY", OWN);
    let out = home.finish(command).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    let check = |name: &str| {
        let all = document["checks"].as_array().unwrap();
        all.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {document}")).clone()
    };
    assert_eq!(
        (&check("service name")["value"], &check("service name")["from"]),
        (&"box".into(), &"flag --service".into())
    );
    assert_eq!(check("API key")["from"], "environment, OWN_KEY");
    assert_eq!(
        (&check("base URL")["value"], &check("base URL")["from"]),
        (&server.url.as_str().into(), &"config file".into())
    );
    assert_eq!(check("headers")["value"], "x-org");
    assert!(check("service")["value"].as_str().unwrap().contains("models listed"));
    assert!(!out.stdout.contains("hidden"));
    home.llbatch(&["doctor", "--service", "box"]).code(4).says(&["OWN_KEY is not set"]);
    assert!(home.llbatch(&["doctor"]).code(0).stdout.contains("other services"));
    let home = home_with(&server.url, "");
    let out = at_box(&home, &["doctor"]).code(0);
    assert!(out.stdout.contains("asked without one"), "{}", out.stdout);
    at_box(&home, &["doctor", "--online"]).code(4).says(&["401", "no key was sent"]);
}

#[test]
fn stored_jobs_are_shown_though_the_chosen_service_is_unknown() {
    let server = Server::start(&[]);
    let home = home_with(
        &server.url,
        "api_key_env = \"TOGETHER_API_KEY\"\n[services.together]\nbase_url = \"http://127.0.0.1:9/v1\"\n",
    );
    at_box(&home, &["run", "in.jsonl", "-o", "out.jsonl"]).code(0);
    let at = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("LLBATCH_SERVICE", "zz");
        home.finish(command)
    };
    for args in [&["status"][..], &["status", "last"], &["report", "last"], &["clean", "last", "--dry-run"]] {
        at(args).code(0);
    }
    let out = at(&["run", "in.jsonl"]).code(2).says(&["no service `zz`", "known services: box, together;"]);
    assert!(!out.stderr.contains("together, together"));
    at(&["status", "--remote"]).code(2);
    home.llbatch(&["report", "last", "--service", "zz"]).code(2);
}
