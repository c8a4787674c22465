//! `--image` and `--local-files`: each row is sent with its own images, or not at all.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Home, MODEL, Out, Recorder, Server, raw_codes, rows, until};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// A file that begins as a PNG does, of this many bytes and more.
fn png(content: &str, bytes: usize) -> Vec<u8> {
    [PNG, content.as_bytes(), &vec![b'.'; bytes]].concat()
}

fn uri(media: &str, bytes: &[u8]) -> String {
    format!("data:{media};base64,{}", STANDARD.encode(bytes))
}

fn run(home: &Home, url: &str, args: &[&str]) -> Out {
    home.at(url, &[&["run"], args, &["-m", MODEL, "-o", "out.jsonl"]].concat())
}

/// The URLs of the images of each recorded request, by the text of its prompt.
fn sent(server: &Recorder) -> Vec<(String, Vec<String>)> {
    let mut all: Vec<(String, Vec<String>)> = server
        .requests()
        .iter()
        .map(|request| {
            let body: Value = serde_json::from_str(&request.body).unwrap();
            let content = &body["messages"][0]["content"];
            let Some(parts) = content.as_array() else { return (content.as_str().unwrap().to_owned(), Vec::new()) };
            let urls = parts[1..].iter().map(|part| part["image_url"]["url"].as_str().unwrap().to_owned()).collect();
            (parts[0]["text"].as_str().unwrap().to_owned(), urls)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn each_row_is_sent_with_its_own_images_in_order() {
    let (home, server) = (Home::new(), Recorder::start());
    std::fs::create_dir_all(home.path("data/scans")).unwrap();
    let files: [(&str, &str, Vec<u8>); 5] = [
        ("cat.dat", "image/png", png("cat", 3_000)),
        ("dog.jpg", "image/jpeg", b"\xff\xd8\xff\xe0 dog".to_vec()),
        ("scans/2.webp", "image/webp", b"RIFF\x10\0\0\0WEBPVP8 two".to_vec()),
        ("scans/1.gif", "image/gif", b"GIF89a one".to_vec()),
        ("scans/10.gif", "image/gif", b"GIF89a ten".to_vec()),
    ];
    for (name, _, bytes) in &files {
        home.write(&format!("data/{name}"), bytes);
    }
    home.write("data/scans/.hidden.png", PNG);
    let [cat, dog, two, one, ten] = files.map(|(_, media, bytes)| uri(media, &bytes));
    let web = "https://example.org/a.png";
    home.write(
        "data/table.csv",
        format!(
            "id,question,photo,more\na,one,cat.dat,\nb,two,,\nc,three,scans/*,dog.jpg\nd,four,\"[\"\"dog.jpg\"\",\"\"{web}\"\"]\",\"{cat}\"\n"
        ),
    );
    let args = ["data/table.csv", "--prompt", "{{ question }}", "--image", "photo", "--image", "more"];
    run(&home, &server.url, &args).code(0);
    let texts = |urls: &[&String]| urls.iter().map(|url| (*url).clone()).collect::<Vec<String>>();
    assert_eq!(
        sent(&server),
        [
            ("four".to_owned(), texts(&[&dog, &web.to_owned(), &cat])),
            ("one".to_owned(), texts(&[&cat])),
            ("three".to_owned(), texts(&[&one, &ten, &two, &dog])),
            ("two".to_owned(), vec![]),
        ]
    );
}

#[test]
fn prompts_messages_and_batch_lines_take_images_after_the_text() {
    let (home, server) = (Home::new(), Recorder::start());
    home.write("cat.png", png("cat", 10));
    home.write(
        "in.jsonl",
        concat!(
            r#"{"prompt":"one","photo":["cat.png"]}"#,
            "\n",
            r#"{"messages":[{"role":"user","content":"two"},{"role":"assistant","content":"x"}],"photo":"cat.png"}"#,
            "\n",
            r#"{"custom_id":"c","photo":"cat.png","body":{"messages":[{"role":"user","content":[{"type":"text","text":"three"}]}]}}"#,
            "\n",
            r#"{"prompt":"four","photo":null}"#,
            "\n",
        ),
    );
    run(&home, &server.url, &["in.jsonl", "--image", "photo"]).code(0);
    let cat = vec![uri("image/png", &png("cat", 10))];
    let expected: Vec<(String, Vec<String>)> =
        [("four", vec![]), ("one", cat.clone()), ("three", cat.clone()), ("two", cat)]
            .map(|(t, u)| (t.to_owned(), u))
            .into();
    assert_eq!(sent(&server), expected);
    assert!(server.requests().iter().all(|request| !request.body.contains("photo")));
}

#[test]
fn every_bad_image_is_a_problem_with_its_place_and_nothing_is_sent() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("big.png", png("", 2_000));
    home.write("cat.png", png("cat", 10));
    home.write("text.png", "no image");
    std::fs::create_dir(home.path("dir")).unwrap();
    let cells =
        ["gone.png", "*.bmp", "text.png", "big.png", "dir", "data:image/png;base64,AAAA", "s3://b/k.png", "cat.png"];
    let mut table = "prompt,photo\n".to_owned();
    for cell in cells {
        writeln!(table, "look,\"{cell}\"").unwrap();
    }
    home.write("in.csv", table);
    let args = ["in.csv", "--image", "photo", "--max-file", "1kB"];
    run(&home, &server.url, &args).code(65).says(&[
        "in.csv:2: `photo`: ",
        "gone.png does not exist",
        "in.csv:3: `photo`: no file matches ",
        "in.csv:4: `photo`: ",
        "text.png is no PNG, JPEG, WebP or GIF image",
        "big.png has 2.0 kB, more than --max-file 1.0 kB",
        "dir is a directory",
        "in.csv:7: `photo`: the data URI holds no PNG",
        "in.csv:8: `photo`: s3://b/k.png is an address",
        "7 of 8 rows cannot be sent",
    ]);
    assert_eq!(server.bill(), 0);
    run(&home, &server.url, &[&args[..], &["--skip-invalid"]].concat()).code(3);
    let found = rows(&home.read("out.jsonl"));
    assert!(found[..7].iter().all(|row| row.code.as_deref() == Some("invalid_request")));
    assert_eq!((server.bill(), found[7].code.as_deref()), (1, None));
    home.write("none.jsonl", "{\"prompt\":\"a\"}\n");
    run(&home, &server.url, &["none.jsonl", "--image", "photo"])
        .code(65)
        .says(&["the field `photo`, which the row lacks"]);
    run(&home, &server.url, &["none.jsonl", "--image", "photo", "--endpoint", "completions"])
        .code(2)
        .says(&["--image"]);
}

#[test]
fn local_paths_of_messages_are_read_only_below_the_directory() {
    let (home, server) = (Home::new(), Recorder::start());
    for dir in ["images", "secret"] {
        std::fs::create_dir(home.path(dir)).unwrap();
    }
    home.write("images/cat.png", png("cat", 10));
    home.write("secret/key.png", png("key", 10));
    std::os::unix::fs::symlink(home.path("secret/key.png"), home.path("images/link.png")).unwrap();
    let row = |url: &str| {
        let parts = json!([{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]);
        format!("{}\n", json!({"messages": [{"role": "user", "content": parts}]}))
    };
    let urls = |server: &Recorder| sent(server).into_iter().flat_map(|(_, urls)| urls).collect::<Vec<_>>();
    home.write("in.jsonl", row("images/cat.png") + &row("https://example.org/x.png"));
    run(&home, &server.url, &["in.jsonl", "--local-files", "images"]).code(0);
    let cat = uri("image/png", &png("cat", 10));
    assert_eq!(urls(&server), [cat, "https://example.org/x.png".to_owned()]);
    for outside in ["secret/key.png", "images/link.png", "images/../secret/key.png"] {
        home.write("in.jsonl", row(outside));
        run(&home, &server.url, &["in.jsonl", "--local-files", "images"])
            .code(65)
            .says(&["in.jsonl:1: `messages`: ", "is not below --local-files"]);
    }
    let plain = Recorder::start();
    home.write("in.jsonl", row("images/cat.png"));
    run(&home, &plain.url, &["in.jsonl"]).code(0);
    assert_eq!(urls(&plain), ["images/cat.png"], "without the flag, no file is read");
}

#[test]
fn content_decides_what_is_sent_again_and_what_is_one_request() {
    let (home, server) = (Home::new(), Server::start(&[]));
    for (name, content) in [("a.png", "same"), ("b.png", "same"), ("c.png", "other")] {
        home.write(name, png(content, 10));
    }
    home.write("in.csv", "id,prompt,photo\n1,look,a.png\n2,look,b.png\n3,look,c.png\n");
    let args = ["in.csv", "--image", "photo", "--dedupe", "--resume"];
    run(&home, &server.url, &args).code(0);
    assert_eq!(server.bill(), 2, "equal contents are one request");
    run(&home, &server.url, &args).code(0);
    assert_eq!(server.bill(), 2, "nothing has changed");
    home.write("c.png", png("third", 10));
    run(&home, &server.url, &args).code(0);
    assert_eq!(server.bill(), 3, "the row whose image has changed is sent again");
}

#[test]
fn file_that_changes_before_its_row_is_sent_fails_that_row_alone() {
    // The first answer comes late, so that the second row waits meanwhile.
    let (home, server) = (Home::new(), Server::start(&["--latency", "1500ms"]));
    for name in ["a.png", "b.png", "c.png"] {
        home.write(name, png(name, 10));
    }
    home.write("in.csv", "id,prompt,photo\n1,look,a.png\n2,look,b.png\n3,look,c.png\n");
    let args = ["in.csv", "--image", "photo", "-m", MODEL, "-o", "out.jsonl", "--concurrency", "1"];
    let running = home.spawn(&server, &args);
    server.until_billed(1);
    home.write("b.png", png("changed", 10));
    std::fs::remove_file(home.path("c.png")).unwrap();
    running.wait().code(3);
    let found = rows(&home.read("out.jsonl"));
    let message = |row: usize| found[row].line["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(found[0].code, None);
    assert!(message(1).contains("b.png was changed since llbatch checked it"), "{}", message(1));
    assert!(message(2).contains("c.png does not exist"), "{}", message(2));
    assert_eq!(server.bill(), 1);
}

#[test]
fn budgets_count_the_images_and_previews_show_no_bytes() {
    let home = Home::new();
    home.config(format!("[models.\"{MODEL}\"]\ninput = 1.0\noutput = 1.0\nimage_tokens = 500\n"));
    home.write("cat.png", png("cat", 90_000));
    home.write("in.csv", "prompt,photo\nlook,cat.png\nlook,\n");
    let check = home.llbatch(&["check", "in.csv", "--image", "photo", "-m", MODEL, "--json"]).code(0);
    let found: Value = serde_json::from_str(&check.stdout).unwrap();
    let tokens = found["models"][0]["prompt_tokens"].as_u64().unwrap();
    assert!((500..540).contains(&tokens), "{found}");
    let shown = home.llbatch(&["run", "in.csv", "--image", "photo", "-m", MODEL, "--preview"]).code(0).stdout;
    assert!(shown.contains("data:image/png;bytes=90011;blake3="), "{shown}");
    assert!(shown.len() < 2_000, "{}", shown.len());
}

#[test]
fn probe_of_an_outage_that_cannot_be_sent_lets_the_next_row_probe() {
    let home = Home::new();
    let address = Server::free_address();
    (1..=6).for_each(|n| home.write(&format!("{n}.png"), png("before", n)));
    home.write(
        "in.jsonl",
        [1, 2, 3, 4, 5, 6].map(|n| format!("{{\"prompt\":\"look {n}\",\"pic\":\"{n}.png\"}}\n")).concat(),
    );
    let args = ["in.jsonl", "-m", MODEL, "--image", "pic", "-o", "out.jsonl", "--give-up-after", "30s"];
    let run = home.start(home.run_command(&format!("http://{address}/v1"), &args));
    until("the warning", || run.stderr().contains("the service is unreachable"));
    // Rows that can be sent come behind the others, whichever order they wait in.
    for n in [1, 2, 5, 6] {
        home.write(&format!("{n}.png"), png("changed", n));
    }
    let _server = Server::start(&["--listen", &address]);
    run.wait().code(3);
    let fate = |n| if [3, 4].contains(&n) { "ok" } else { "invalid_request" };
    assert_eq!(raw_codes(&home.read("out.jsonl")), [1, 2, 3, 4, 5, 6].map(fate));
}
