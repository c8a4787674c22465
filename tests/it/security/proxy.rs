//! Proxies: HTTPS uses the proxy of the environment, loopback does not, and only the proxy sees its password.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use super::tls::{pem, secure};
use crate::support::{Home, KEY, Recorder, Server, answered, codes, prompts};

/// The service's name, which nobody but the proxy can resolve.
const SERVICE: &str = "https://api.llbatch.test/v1";
const PASSWORD: &str = "canary-password";
/// `user:canary-password`, as HTTP has it.
const ENCODED: &str = "dXNlcjpjYW5hcnktcGFzc3dvcmQ=";

/// A proxy that knows CONNECT and leads everything to one server.
pub struct Proxy {
    address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Answers with `refusal`, if there is one, in place of a tunnel to `target`.
    pub fn start(target: &str, refusal: Option<&'static str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (kept, target) = (Arc::clone(&heads), target.to_owned());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, target) = (Arc::clone(&kept), target.clone());
                std::thread::spawn(move || tunnel(stream, &kept, &target, refusal));
            }
        });
        Self { address, heads }
    }

    /// The requests to it: first lines and headers.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }

    /// Its URL with a user and a password.
    pub fn url(&self) -> String {
        format!("http://user:{PASSWORD}@{}", self.address)
    }
}

fn tunnel(mut client: TcpStream, kept: &Mutex<Vec<String>>, target: &str, refusal: Option<&str>) -> Option<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    kept.lock().unwrap().push(String::from_utf8(head).unwrap());
    if let Some(refusal) = refusal {
        return client.write_all(refusal.as_bytes()).ok();
    }
    let mut server = TcpStream::connect(target).ok()?;
    client.write_all(b"HTTP/1.1 200 Connected\r\n\r\n").ok()?;
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    client.shutdown(Shutdown::Both).ok()
}

/// `llbatch run in.jsonl` against the service, with these variables.
fn command(home: &Home, variables: &[(&str, &str)]) -> Command {
    home.write("in.jsonl", prompts(1..=2));
    let args = ["in.jsonl", "-o", "out.jsonl", "--retries", "0", "--concurrency", "1", "-vv"];
    let mut command = home.run_command(SERVICE, &args);
    command.env("SSL_CERT_FILE", pem("ca")).envs(variables.iter().copied());
    command
}

#[track_caller]
fn keeps_its_secrets(home: &Home) {
    for secret in [KEY, PASSWORD, ENCODED] {
        assert_eq!(home.files_with(secret), Vec::<String>::new(), "{secret} is in these files");
    }
}

#[test]
fn https_uses_the_proxy_and_its_password_goes_no_further() {
    for name in ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"] {
        let (home, service) = (Home::new(), secure("good"));
        let proxy = Proxy::start(service.address(), None);
        home.finish(command(&home, &[(name, &proxy.url())])).code(0);
        assert_eq!(codes(&home.read("out.jsonl")).iter().filter(|(_, code)| code == "ok").count(), 2);
        let heads = proxy.heads();
        assert!(!heads.is_empty(), "{name}: the proxy was passed by");
        for head in heads {
            assert!(head.starts_with("CONNECT api.llbatch.test:443 HTTP/1.1\r\n"), "{head}");
            assert!(head.contains(ENCODED) && !head.contains(KEY), "{head}");
        }
        for request in service.requests() {
            assert!(!request.head.to_ascii_lowercase().contains("proxy-authorization"), "{}", request.head);
            assert!(request.head.contains(KEY) && !request.head.contains(ENCODED), "{}", request.head);
        }
        keeps_its_secrets(&home);
    }
}

#[test]
fn no_proxy_variable_is_honoured() {
    let (home, service) = (Home::new(), secure("good"));
    let proxy = Proxy::start(service.address(), None);
    let variables = [("HTTPS_PROXY", proxy.url()), ("NO_PROXY", ".llbatch.test".to_owned())];
    let variables = variables.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mut direct = command(&home, &variables);
    direct.args(["--give-up-after", "1s"]);
    // The name resolves nowhere but at the proxy.
    home.finish(direct).code(75).says(&["cannot connect to api.llbatch.test"]);
    assert_eq!(proxy.heads(), Vec::<String>::new());
}

#[test]
fn refusing_proxy_is_reported_without_its_password() {
    let refusals = [
        ("HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n", 1, "HTTP 407; put a valid user"),
        ("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno", 1, "HTTP 403; have the proxy allow this host"),
        ("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n", 75, "the proxy answered HTTP 502"),
        ("nonsense\r\n\r\n", 75, "tunnel"),
        ("", 75, "tunnel"),
    ];
    for (refusal, code, why) in refusals {
        let (home, service) = (Home::new(), secure("good"));
        let proxy = Proxy::start(service.address(), Some(refusal));
        let mut refused = command(&home, &[("HTTPS_PROXY", &proxy.url())]);
        refused.args(["--give-up-after", "1s"]);
        let out = home.finish(refused).code(code);
        let named = out.stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(named.contains(why), "{refusal:?}:\n{}", out.stderr);
        assert!(named.contains("through the proxy http://127.0.0.1:"), "{refusal:?}:\n{}", out.stderr);
        assert_eq!((service.connections(), proxy.heads().is_empty()), (0, false));
        keeps_its_secrets(&home);
    }
}

#[test]
fn unusable_proxy_is_not_bypassed() {
    let (home, service) = (Home::new(), secure("good"));
    let address = service.address();
    let at = format!("http://user:canary@password@{address}");
    let socks = format!("socks5h://user:{PASSWORD}@{address}");
    for bad in [at.as_str(), &socks, "http://", "http://proxy.example:port"] {
        let out = home.finish(command(&home, &[("HTTPS_PROXY", bad)])).code(2).says(&["HTTPS_PROXY"]);
        assert!(!out.stderr.contains("canary"), "{}", out.stderr);
    }
    assert!(!home.exists("out.jsonl"));
}

#[test]
fn loopback_is_reached_without_a_proxy() {
    let (home, server, proxy) = (Home::new(), Server::quick(&["--content-redirect"]), Recorder::start());
    home.write("in.jsonl", prompts(1..=2));
    let start = |args: &[&str], expected| {
        let mut command = home.command(args);
        for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"] {
            command.env(name, format!("http://user:{PASSWORD}@{}", proxy.address()));
        }
        home.finish(command).code(expected)
    };
    start(&["run", "in.jsonl", "-o", "run.jsonl", "--base-url", &server.url], 0);
    start(&["run", "in.jsonl", "-o", "sandbox.jsonl", "--sandbox"], 0);
    let wait = ["submit", "in.jsonl", "--wait", "-o", "batch.jsonl", "--poll", "50ms", "--base-url", &server.url];
    start(&wait, 0);
    for file in ["run.jsonl", "sandbox.jsonl", "batch.jsonl"] {
        answered(&home.read(file), 1..=2);
    }
    let localhost = server.url.replace("127.0.0.1", "localhost");
    start(&["models", "--refresh", "--base-url", &localhost], 0);
    // A malformed proxy variable does not affect commands that need no proxy.
    let mut command = home.command(&["run", "in.jsonl", "--sandbox", "--fresh", "-o", "out.jsonl"]);
    command.env("HTTPS_PROXY", "socks5://x");
    home.finish(command).code(0);
    assert_eq!(proxy.connections(), 0, "prompts went to the proxy");
}

#[test]
fn several_urls_behind_one_proxy_share_the_rows() {
    let (home, service) = (Home::new(), secure("good"));
    let proxy = Proxy::start(service.address(), None);
    let urls = [SERVICE, "https://api.llbatch.test:8443/v1"];
    home.config(format!("[services.pool]\nbase_url = {urls:?}\napi_key_env = \"TOGETHER_API_KEY\"\n"));
    home.write("in.jsonl", prompts(1..=8));
    let mut run = home.command(&["run", "in.jsonl", "--service", "pool", "-o", "out.jsonl", "--summary", "s.json"]);
    run.env("SSL_CERT_FILE", pem("ca")).env("HTTPS_PROXY", proxy.url());
    home.finish(run).code(0);
    assert_eq!(codes(&home.read("out.jsonl")).iter().filter(|(_, code)| code == "ok").count(), 8);
    let summary = home.json("s.json");
    for (url, port) in urls.iter().zip([443, 8443]) {
        let mut shares = summary["urls"].as_array().unwrap().iter();
        assert!(shares.any(|share| share["url"] == *url && share["rows"].as_u64() > Some(0)), "{summary}");
        let line = format!("CONNECT api.llbatch.test:{port} HTTP/1.1\r\n");
        assert!(proxy.heads().iter().any(|head| head.starts_with(&line)), "{:?}", proxy.heads());
    }
    keeps_its_secrets(&home);
}
