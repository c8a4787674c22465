//! Redirects: those of the API are not followed. Those of files are, without credentials.

use super::service::{content, ok, service};
use crate::support::{Home, KEY, Recorder, prompts, until};

fn to(url: &str, path: &str) -> String {
    format!("location: {url}{path}\r\n")
}

#[test]
fn api_calls_follow_no_redirect_to_another_origin() {
    for status in
        ["301 Moved Permanently", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let (home, other) = (Home::new(), Recorder::start());
        let target = to(&other.url, "/elsewhere");
        let service = Recorder::answering(move |_| (status, target.clone(), "{}".to_owned()));
        home.write("in.jsonl", prompts(1..=1));
        let at = |args: &[&str]| home.at(&service.url, args);
        at(&["run", "in.jsonl", "-o", "out.jsonl", "--retries", "0"]).code(3);
        assert_ne!(at(&["models", "--refresh"]).code, 0);
        at(&["status", "--remote"]);
        assert!(service.requests().len() >= 3, "{status}");
        assert_eq!(other.connections(), 0, "{status}: something went on to another origin");
    }
}

/// A service that keeps its files elsewhere, at `storage`; `odd` may say the headers of a 302 in its place.
fn split(storage: &str, odd: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Recorder {
    let put = format!("{}x-together-file-id: file-1\r\n", to(storage, "/put?signature=0123456789abcdef"));
    let get = to(storage, "/get?signature=0123456789abcdef");
    service(move |_, line| {
        let headers = odd(line).or_else(|| match line {
            "POST /v1/files" => Some(put.clone()),
            "GET /v1/files/file-out/content" => Some(get.clone()),
            _ => None,
        });
        headers.map(|headers| ("302 Found", headers, "{}".to_owned()))
    })
}

/// An object store with the answer to the one row.
fn storage() -> Recorder {
    Recorder::answering(|request| if request.head.starts_with("GET ") { content() } else { ok("") })
}

#[test]
fn storage_gets_the_file_and_no_credentials() {
    let (home, storage) = (Home::new(), storage());
    let service = split(&storage.url, |_| None);
    home.write("in.jsonl", prompts(1..=1));
    let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--poll", "50ms", "-vv"];
    let out = home.at(&service.url, &args).code(0);
    let seen = storage.requests();
    let lines: Vec<_> = seen.iter().map(|request| request.head.split(" HTTP/").next().unwrap()).collect();
    assert_eq!(lines, ["PUT /v1/put?signature=0123456789abcdef", "GET /v1/get?signature=0123456789abcdef"]);
    for request in &seen {
        let head = request.head.to_ascii_lowercase();
        for header in ["authorization", "referer", "cookie", KEY] {
            assert!(!head.contains(header), "{head}");
        }
    }
    assert!(!out.stderr.contains("0123456789abcdef"), "a signature is a permission:\n{}", out.stderr);
    assert_eq!(home.files_with("0123456789abcdef"), Vec::<String>::new());
}

#[test]
fn key_in_response_headers_is_not_forwarded() {
    let cases = [
        ("POST /v1/files", format!("location: https://{KEY}.example/x\r\nx-together-file-id: {KEY}\r\n")),
        ("POST /v1/files", format!("location: ftp://{KEY}/x\r\nx-together-file-id: file-1\r\n")),
        ("GET /v1/files/file-out/content", format!("location: ftp://{KEY}/x\r\n")),
        ("GET /v1/files/file-out/content", format!("location: https://127.0.0.1:9/?key={KEY}\r\n")),
    ];
    for (line, headers) in cases {
        let (home, storage) = (Home::new(), storage());
        let shown = headers.clone();
        let service = split(&storage.url, move |asked| (asked == line).then(|| headers.clone()));
        home.write("in.jsonl", prompts(1..=1));
        let args = ["submit", "in.jsonl", "--wait", "-o", "out.jsonl", "--poll", "50ms", "--timeout", "1s", "-vv"];
        let running = home.start(home.command_at(&service.url, &args));
        until(line, || service.count(line) >= 2 || !running.stderr().is_empty() && service.count(line) >= 1);
        drop(running);
        assert_eq!(home.files_with(KEY), Vec::<String>::new(), "{shown}: the key is in these files");
    }
}
