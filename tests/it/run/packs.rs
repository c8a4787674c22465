//! `--pack`: rows that share a request, each with the answer and the share of the price that are its own.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Home, Recorded, Recorder, Row, Server, codes, csv_rows, lines, paid_hash, rows, until};

/// The only embedding model of the sandbox.
const MODEL: &str = "intfloat/multilingual-e5-large-instruct";

/// `text N` for N in `range`, with ids `qN`; some are longer than others.
fn texts(range: std::ops::RangeInclusive<u32>) -> String {
    let mut out = String::new();
    for n in range {
        let more = " and more of it".repeat(n as usize % 5);
        writeln!(out, r#"{{"id":"q{n}","input":"text {n}{more}","model":"{MODEL}"}}"#).unwrap();
    }
    out
}

/// The price of the sandbox: 20 billionths of a dollar a token.
fn priced() -> Home {
    let home = Home::new();
    home.config(format!("[models.\"{MODEL}\"]\ninput = 0.02\noutput = 0.02\n"));
    home
}

fn run(home: &Home, url: &str, args: &[&str]) -> crate::support::Out {
    home.at(url, &[&["run", "in.jsonl", "--endpoint", "embeddings"], args].concat())
}

fn tokens(row: &Row) -> u64 {
    let usage = &row.line["response"]["body"]["usage"];
    assert_eq!(usage["prompt_tokens"], usage["total_tokens"], "{}", row.line);
    usage["prompt_tokens"].as_u64().unwrap()
}

/// The line of results without the tokens.
fn without_usage(mut row: Row) -> Value {
    row.line["response"]["body"]["usage"].take();
    row.line
}

#[test]
fn packed_rows_get_what_a_request_of_their_own_gets() {
    let (home, server, calm) = (priced(), Server::start(&[]), Server::start(&[]));
    home.write("in.jsonl", texts(1..=47));
    run(&home, &server.url, &["--pack", "10", "-o", "packed.jsonl", "--summary", "s.json"]).code(0);
    run(&home, &calm.url, &["-o", "single.jsonl"]).code(0);
    assert_eq!((server.bill(), calm.bill()), (5, 47));
    assert_eq!(server.paid(), calm.paid(), "each text once");
    let (packed, single) = (rows(&home.read("packed.jsonl")), rows(&home.read("single.jsonl")));
    let bill = &server.stats()["bill"];
    assert_eq!(packed.iter().map(tokens).sum::<u64>(), bill["prompt_tokens"].as_u64().unwrap());
    for (packed, single) in packed.iter().zip(&single) {
        assert!(tokens(packed).abs_diff(tokens(single)) <= 3, "{} {}", packed.line, single.line);
    }
    let summary = home.json("s.json");
    assert_eq!(summary["http"]["sent"], 5);
    let usd = summary["cost"]["usd"].as_f64().unwrap() * 1e9;
    assert_eq!(usd.round() as u64, bill["nano_usd"].as_u64().unwrap());
    let bodies = |rows: Vec<Row>| rows.into_iter().map(without_usage).collect::<Vec<_>>();
    assert_eq!(bodies(packed), bodies(single));
}

#[test]
fn vectors_and_shares_stand_in_the_columns() {
    let (home, server) = (priced(), Server::start(&[]));
    home.write("table.csv", "id,text\na,one\nb,two and three\n");
    let args = ["run", "table.csv", "--endpoint", "embeddings", "--prompt", "query: {{ text }}", "-m", MODEL];
    home.at(&server.url, &[&args[..], &["--pack", "100", "-o", "out.csv"]].concat()).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    let numbers = |row: &[String]| serde_json::from_str::<Vec<f64>>(&row[at("content")]).unwrap().len();
    assert_eq!([numbers(&cells[0]), numbers(&cells[1])], [16, 16]);
    assert_ne!(cells[0][at("content")], cells[1][at("content")]);
    let sum = |name: &str, scale: f64| -> u64 {
        cells.iter().map(|row| (row[at(name)].parse::<f64>().unwrap() * scale).round() as u64).sum()
    };
    let bill = &server.stats()["bill"];
    assert_eq!(bill["prompt_tokens"], sum("prompt_tokens", 1.0));
    assert_eq!(bill["nano_usd"], sum("cost_usd", 1e9));
    assert_eq!((sum("attempts", 1.0), &bill["requests"]), (2, &json!(1)));
}

#[test]
fn bad_row_of_a_refused_pack_stands_alone() {
    for (fault, code, requests) in [("status=400", "invalid_request", 9), ("status=422", "invalid_request", 9)] {
        let (home, server) = (Home::new(), Server::start(&[]));
        let bad = texts(1..=16).replace("text 6 ", &format!("[[sandbox:{fault}]] "));
        home.write("in.jsonl", bad);
        run(&home, &server.url, &["--pack", "16", "-o", "out.jsonl"]).code(3);
        let expected = |n: u32| (format!("q{n}"), if n == 6 { code } else { "ok" }.to_owned());
        assert_eq!(codes(&home.read("out.jsonl")), (1..=16).map(expected).collect::<Vec<_>>(), "{fault}");
        // 16, 8, 4, 2 and 1 with the bad row; then 1, 2, 4 and 8 without it.
        assert_eq!(server.requests(), requests, "{fault}");
        assert_eq!(server.paid_again(), 0);
    }
}

#[test]
fn row_that_breaks_the_server_fails_alone_while_others_are_answered() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", texts(1..=8).replace("text 7 ", "[[sandbox:status=500]] "));
    run(&home, &server.url, &["--pack", "4", "--concurrency", "1", "--retries", "0", "-o", "out.jsonl"]).code(3);
    let expected = |n: u32| (format!("q{n}"), if n == 7 { "server_error" } else { "ok" }.to_owned());
    assert_eq!(codes(&home.read("out.jsonl")), (1..=8).map(expected).collect::<Vec<_>>());
}

#[test]
fn refused_model_halves_nothing() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", texts(1..=64).replace(MODEL, "nobody/no-such-model"));
    run(&home, &server.url, &["--pack", "64", "-o", "out.jsonl"]).code(3);
    assert!(codes(&home.read("out.jsonl")).iter().all(|(_, code)| code == "not_found"));
    assert_eq!(server.requests(), 1);
}

/// Answers each text with its length, and a token for each of its letters. Of texts with `bad` in them, as `spoil` says.
fn embedder(spoil: impl Fn(&mut Vec<Value>) + Send + Sync + 'static) -> Recorder {
    Recorder::answering(move |request: &Recorded| {
        let body: Value = serde_json::from_str(&request.body).unwrap();
        let input = &body["input"];
        let inputs: Vec<&str> = match input.as_array() {
            Some(all) => all.iter().map(|one| one.as_str().unwrap()).collect(),
            None => vec![input.as_str().unwrap()],
        };
        let entry = |(index, text): (usize, &&str)| json!({"index": index, "embedding": [text.len()]});
        let mut data: Vec<Value> = inputs.iter().enumerate().map(entry).collect();
        if inputs.iter().any(|text| text.contains("bad")) {
            spoil(&mut data);
        }
        let tokens: usize = inputs.iter().map(|text| text.len()).sum();
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        ("200 OK", String::new(), json!({"object": "list", "data": data, "model": MODEL, "usage": usage}).to_string())
    })
}

#[test]
fn answer_that_does_not_fit_its_pack_is_halved_and_paid_for() {
    type Spoil = fn(&mut Vec<Value>);
    let spoils: [(Spoil, &str); 3] = [
        (|data| drop(data.pop()), "no embeddings"),
        (|data| data.push(json!({"index": 0, "embedding": [1]})), "embeddings for 1 inputs"),
        (|data| data.iter_mut().for_each(|entry| entry["index"] = json!(7)), "index 7"),
    ];
    for (spoil, says) in spoils {
        let (home, server) = (Home::new(), embedder(spoil));
        let row =
            |n: u32| format!(r#"{{"id":"q{n}","model":"{MODEL}","input":"{}{n}"}}"#, if n == 3 { "bad" } else { "t" });
        let input: Vec<String> = (1..=8).map(row).collect();
        home.write("in.jsonl", lines(&input.iter().map(String::as_str).collect::<Vec<_>>()));
        run(&home, &server.url, &["--pack", "8", "--retries", "0", "-o", "out.jsonl", "--summary", "s.json"]).code(3);
        let results = rows(&home.read("out.jsonl"));
        for (n, row) in (1..).zip(&results) {
            if n == 3 {
                assert_eq!(row.code.as_deref(), Some("bad_response"));
                assert!(row.line["error"]["message"].as_str().unwrap().contains(says), "{}", row.line);
            } else {
                assert_eq!(row.line["response"]["body"]["data"], json!([{"index": 0, "embedding": [2]}]), "{says}");
            }
        }
        let letters = |body: &String| {
            let input = serde_json::from_str::<Value>(body).unwrap()["input"].take();
            let length = |text: &Value| text.as_str().unwrap().len() as u64;
            input.as_array().map_or_else(|| length(&input), |all| all.iter().map(length).sum())
        };
        let billed: u64 = server.bodies().iter().map(letters).sum();
        assert_eq!(home.json("s.json")["tokens"]["prompt"], billed, "{says}: all that was paid for");
    }
}

#[test]
fn only_rows_that_ask_for_the_same_share_a_request() {
    let (home, server) = (Home::new(), embedder(|_| {}));
    let mut input = String::new();
    for n in 0..12 {
        let extra = ["", r#","dimensions":3"#, r#","user":"u""#][n % 3];
        writeln!(input, r#"{{"id":"q{n}","model":"m","input":"t{n}"{extra}}}"#).unwrap();
    }
    input.push_str("{\"id\":\"two\",\"model\":\"m\",\"input\":[\"a\",\"b\"]}\n");
    home.write("in.jsonl", input);
    run(&home, &server.url, &["--pack", "4", "-o", "out.jsonl"]).code(0);
    let mut bodies = server.bodies();
    bodies.sort();
    let expected = [
        r#"{"model":"m","input":["a","b"]}"#,
        r#"{"model":"m","input":["t0","t3","t6","t9"]}"#,
        r#"{"model":"m","input":["t1","t4","t7","t10"],"dimensions":3}"#,
        r#"{"model":"m","input":["t2","t5","t8","t11"],"user":"u"}"#,
    ];
    assert_eq!(bodies, expected);
    assert_eq!(rows(&home.read("out.jsonl"))[12].line["response"]["body"]["data"].as_array().unwrap().len(), 2);
}

#[test]
fn budget_holds_for_packs() {
    let (home, server) = (priced(), Server::start(&["--latency", "20ms"]));
    home.write("in.jsonl", texts(1..=200));
    let args = ["--pack", "10", "--concurrency", "3", "-o", "out.jsonl"];
    run(&home, &server.url, &[&args[..], &["--max-cost", "0.00002"]].concat()).code(5);
    let spent = server.stats()["bill"]["nano_usd"].as_u64().unwrap();
    assert!(spent > 0 && spent <= 20_000, "{spent}");
    run(&home, &server.url, &args).code(0);
    assert_eq!(rows(&home.read("out.jsonl")).len(), 200);
    assert_eq!((server.paid().len(), server.paid_again()), (200, 0));
}

#[test]
fn repeated_and_earlier_answers_are_not_sent_in_packs() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let repeats = texts(1..=20) + &texts(1..=20).replace("\"q", "\"again-");
    home.write("in.jsonl", &repeats);
    run(&home, &server.url, &["--pack", "8", "--dedupe", "-o", "out.jsonl"]).code(0);
    let results = rows(&home.read("out.jsonl"));
    assert_eq!((results.len(), server.paid().len(), server.paid_again()), (40, 20, 0));
    for n in 0..20 {
        let data = |row: &Row| row.line["response"]["body"]["data"].clone();
        assert_eq!(data(&results[n]), data(&results[n + 20]));
        assert_eq!(results[n + 20].line["reused"], true);
    }
    home.write("in.jsonl", texts(11..=30));
    run(&home, &server.url, &["--pack", "8", "--reuse", "-o", "out.jsonl"]).code(0);
    assert_eq!((server.paid().len(), server.paid_again()), (30, 0));
}

#[test]
fn check_names_texts_that_the_model_cuts() {
    let home = Home::new();
    let long = "word ".repeat(600);
    let input = format!("{{\"id\":\"long\",\"model\":\"{MODEL}\",\"input\":\"{long}\"}}\n");
    home.write("in.jsonl", texts(1..=2) + &input);
    let check = home.llbatch(&["check", "in.jsonl", "--endpoint", "embeddings"]).code(0).stdout;
    let check = check.split_whitespace().collect::<Vec<_>>().join(" ");
    let says = format!("1 row of {MODEL}: may be longer than 514 tokens, and the model embeds only the first 514");
    assert!(check.contains(&says), "{check}");
    // It is sent all the same: the service answers.
    let server = Server::start(&[]);
    run(&home, &server.url, &["--pack", "3", "-o", "out.jsonl"]).code(0);
}

#[test]
fn packs_are_for_embeddings_in_real_time() {
    let home = Home::new();
    home.write("in.jsonl", texts(1..=2));
    home.llbatch(&["run", "in.jsonl", "--pack", "8"]).code(2).says(&["--pack 8", "embeddings", "--endpoint chat"]);
    home.llbatch(&["submit", "in.jsonl", "--pack", "8"]).code(2).says(&["a line for each row", "llbatch run"]);
    for wrong in ["0", "2049"] {
        run(&home, "http://127.0.0.1:9/v1", &["--pack", wrong]).code(2).says(&["--pack"]);
    }
    run(&home, "http://127.0.0.1:9/v1", &["--pack", "8", "--stream"]).code(2).says(&["--stream"]);
}

#[test]
fn kills_lose_no_more_than_the_packs_in_flight() {
    const ROWS: u32 = 300;
    const PACK: u64 = 6;
    const CONCURRENCY: u64 = 2;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    // Some packs are refused for one of their rows, so that halves are killed too.
    let server = Server::start(&["--latency", "50ms", "--jitter", "0.6", "--fault", "status=400,contains=text 77 "]);
    let home = Home::new();
    home.write("in.jsonl", texts(1..=ROWS));
    let args = ["in.jsonl", "--endpoint", "embeddings", "--pack", "6", "--concurrency", "2", "-o", "out.jsonl"];
    let mut kills = 0;
    while kills < 15 {
        let mut run = home.spawn(&server, &args);
        if kills % 2 == 1 {
            let some = server.bill() + random.u64(1..4);
            until("some answers", || server.bill() >= some || !run.is_running());
        }
        std::thread::sleep(Duration::from_micros(random.u64(5_000..90_000)));
        if run.kill().is_some() {
            break;
        }
        kills += 1;
        assert!(!home.exists("out.jsonl"), "a killed run leaves no results (seed {seed}, kill {kills})");
    }
    if !home.exists("out.jsonl") {
        home.run(&server, &args).code(3);
    }
    let again = server.paid_again();
    assert!(kills >= 5, "only {kills} kills before it was done (seed {seed})");
    assert!(again <= kills * CONCURRENCY * PACK, "{again} texts paid again in {kills} kills (seed {seed})");
    let expected = |n: u32| (format!("q{n}"), if n == 77 { "invalid_request" } else { "ok" }.to_owned());
    assert_eq!(codes(&home.read("out.jsonl")), (1..=ROWS).map(expected).collect::<Vec<_>>(), "seed {seed}");
    let calm = Home::new();
    calm.write("in.jsonl", texts(1..=ROWS));
    calm.run(&server, &args).code(3);
    let vectors = |home: &Home| -> Vec<Value> {
        let data = |row: Row| row.line["response"]["body"]["data"].clone();
        rows(&home.read("out.jsonl")).into_iter().map(data).collect()
    };
    assert_eq!(vectors(&home), vectors(&calm), "seed {seed}");
    assert!(server.paid().contains_key(&paid_hash("text 5")), "payments are counted by text");
}
