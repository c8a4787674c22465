//! `--endpoint images|speech --files DIR`: answers that are files.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use crate::support::{Home, Recorder, Row, Server, codes, csv_rows, lines, prompts, rows, until};

const FLUX: &str = "black-forest-labs/FLUX.1-schnell";
const ORPHEUS: &str = "canopylabs/orpheus-3b-0.1-ft";

fn images(home: &Home, url: &str, args: &[&str]) -> crate::support::Out {
    home.at(url, &[&["run", "in.jsonl", "--endpoint", "images", "--files", "made", "-m", FLUX], args].concat())
}

/// `picture N` for N from 1 to `count`, with ids `pN`.
fn pictures(count: u32) -> String {
    let mut out = String::new();
    for n in 1..=count {
        writeln!(out, r#"{{"id":"p{n}","prompt":"picture {n}"}}"#).unwrap();
    }
    out
}

/// The files that a row lists, each checked: it is there, and its bytes are those that the row says.
fn files(home: &Home, row: &Row) -> Vec<String> {
    let files = row.line["files"].as_array().unwrap_or_else(|| panic!("{}", row.line));
    let check = |file: &Value| {
        let path = file["path"].as_str().unwrap();
        let bytes = std::fs::read(home.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
        assert_eq!(file["bytes"], bytes.len(), "{path}");
        assert_eq!(file["blake3"], blake3::hash(&bytes).to_hex().as_str(), "{path}");
        path.to_owned()
    };
    files.iter().map(check).collect()
}

fn names(home: &Home, dir: &str) -> Vec<String> {
    let entries = std::fs::read_dir(home.path(dir)).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn images_lie_in_the_directory_and_rows_list_them() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let odd = r#"{"id":"a/../é","prompt":"odd"}"#;
    home.write("in.jsonl", lines(&[r#"{"id":"cat","prompt":"a cat","n":3,"output_format":"png"}"#, odd]));
    for (form, host) in [("base64", None), ("url", Some("url"))] {
        let dir = format!("{form}-dir");
        let form = format!("response_format=\"{form}\"");
        let args = ["run", "in.jsonl", "--endpoint", "images", "--files", &dir, "-m", FLUX, "--set", &form, "--fresh"];
        home.at(&server.url, &[&args[..], &["-o", "out.jsonl"]].concat()).code(0);
        let results = rows(&home.read("out.jsonl"));
        let expected: Vec<String> = ["cat.png", "cat-2.png", "cat-3.png"].map(|name| format!("{dir}/{name}")).into();
        assert_eq!(files(&home, &results[0]), expected);
        assert_eq!(files(&home, &results[1]), [format!("{dir}/a%2F..%2F%C3%A9.jpg")]);
        assert_eq!(results[0].line["files"][0]["media_type"], "image/png");
        assert_eq!(results[1].line["files"][0]["media_type"], "image/jpeg");
        let entry = &results[0].line["response"]["body"]["data"][0];
        assert_eq!((&entry["b64_json"], entry["index"].as_u64()), (&Value::Null, Some(0)), "without the bytes");
        assert_eq!(entry["url"].is_string(), host.is_some());
        assert!(results[0].line.get("llbatch_files").is_none() && !home.read("out.jsonl").contains("llbatch_files"));
        assert_eq!(names(&home, &dir).len(), 4, "nothing else is there");
    }
    let (inline, fetched) =
        (std::fs::read(home.path("base64-dir/cat-2.png")), std::fs::read(home.path("url-dir/cat-2.png")));
    assert_eq!(inline.unwrap(), fetched.unwrap());
    // The state holds no bytes of images: in base64, every PNG begins like this.
    assert_eq!(home.files_with("iVBORw0KGgo"), Vec::<String>::new());
}

#[test]
fn speech_lies_in_the_directory_and_its_type_is_that_of_its_bytes() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.csv", "id,text,voice\na,Hello there,tara\nb,Good night,leo\n");
    let args = ["run", "in.csv", "--endpoint", "speech", "--prompt", "{{ text }}", "--row-params=voice", "-m", ORPHEUS];
    for (format, ending, media_type) in [("wav", "wav", "audio/wav"), ("mp3", "mp3", "audio/mpeg")] {
        let format = format!("response_format=\"{format}\"");
        let more = ["--set", &format, "--files", "made", "--fresh", "-o", "out.jsonl"];
        home.at(&server.url, &[&args[..], &more].concat()).code(0);
        let results = rows(&home.read("out.jsonl"));
        assert_eq!(files(&home, &results[0]), [format!("made/a.{ending}")]);
        assert_eq!(results[0].line["files"][0]["media_type"], media_type);
        assert_eq!(results[0].line["response"], json!({"status_code": 200, "body": null}));
    }
    home.at(&server.url, &[&args[..], &["--files", "made", "--fresh", "-o", "out.csv"]].concat()).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let content = header.iter().position(|name| name == "content").unwrap();
    assert_eq!(cells[0][content], "made/a~2.wav", "a name that is taken is not taken away");
}

#[test]
fn speech_without_a_voice_is_warned_of_before_the_service_refuses_it() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.csv", "id,text,voice\na,Hello there,tara\n");
    home.write("plain.jsonl", lines(&[r#"{"id":"a","input":"Hello there"}"#]));
    let speech = ["--endpoint", "speech", "-m", ORPHEUS, "--files", "made", "--fresh", "-o", "out.jsonl"];
    let run = |args: &[&str]| home.at(&server.url, &[&["run"], args, &speech[..]].concat());
    let table = ["in.csv", "--prompt", "{{ text }}"];
    run(&table).code(3).says(&["names no `voice`", "--row-params=voice uses the rows' field `voice`"]);
    run(&["plain.jsonl"]).code(3).says(&["names no `voice`", "--set 'voice=\"NAME\"'"]);
    for args in [&["plain.jsonl", "--set", "voice=\"tara\""][..], &[&table[..], &["--row-params=voice"]].concat()] {
        let out = run(args).code(0);
        assert!(!out.stderr.contains("names no `voice`"), "{}", out.stderr);
    }
}

#[test]
fn flat_results_name_the_paths_and_cost_is_unknown_not_zero() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", lines(&[r#"{"id":"one","prompt":"x"}"#, r#"{"id":"two","prompt":"y","n":2}"#]));
    images(&home, &server.url, &["-o", "out.csv", "--summary", "s.json"]).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    assert_eq!(cells[0][at("content")], "made/one.jpg");
    assert_eq!(cells[1][at("content")], r#"["made/two.jpg","made/two-2.jpg"]"#);
    assert_eq!(cells[0][at("cost_usd")], "");
    let summary = home.json("s.json");
    assert_eq!((&summary["cost"]["usd"], &summary["rows"]["succeeded"]), (&Value::Null, &json!(2)), "{summary}");
    assert_eq!(summary["cost"]["unpriced_models"], json!([FLUX]));
    images(&home, &server.url, &["--fresh", "-o", "out.parquet"]).code(0);
    home.llbatch(&["report", "out.parquet"]).code(0);
    // Files of results are read back as answers.
    images(&home, &server.url, &["--fresh", "-o", "out.jsonl"]).code(0);
    let report: Value = serde_json::from_str(&home.llbatch(&["report", "out.jsonl", "--json"]).code(0).stdout).unwrap();
    assert_eq!(report["rows"]["succeeded"], 2, "{report}");
    home.llbatch(&["merge", "in.jsonl", "out.jsonl", "-o", "merged.jsonl"]).code(0);
    assert_eq!(home.read("merged.jsonl"), home.read("out.jsonl"));
    home.llbatch(&["merge", "in.jsonl", "out.jsonl", "-o", "merged.csv"]).code(0);
    assert!(home.read("merged.csv").contains("made/two-2~"), "{}", home.read("merged.csv"));
    // Without a price there is no budget.
    images(&home, &server.url, &["--fresh", "--max-cost", "1", "-o", "b.jsonl"]).code(2);
}

#[test]
fn nothing_is_replaced_and_a_second_job_gets_names_of_its_own() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", pictures(2));
    std::fs::create_dir(home.path("made")).unwrap();
    home.write("made/p1.jpg", "the user's own");
    images(&home, &server.url, &["-o", "out.jsonl"]).code(0).says(&["1 file", "~2", "nothing was replaced"]);
    images(&home, &server.url, &["--fresh", "-o", "again.jsonl"]).code(0);
    assert_eq!(home.read("made/p1.jpg"), "the user's own");
    assert_eq!(names(&home, "made"), ["p1.jpg", "p1~2.jpg", "p1~3.jpg", "p2.jpg", "p2~2.jpg"]);
    for results in ["out.jsonl", "again.jsonl"] {
        for row in &rows(&home.read(results)) {
            files(&home, row);
        }
    }
}

#[test]
fn killed_run_leaves_no_half_file_and_pays_again_only_for_what_was_in_flight() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "30ms"]));
    home.write("in.jsonl", pictures(60));
    let args = ["--endpoint", "images", "--files", "made", "-m", FLUX, "--concurrency", "4", "-o", "out.jsonl"];
    let args = [&["run", "in.jsonl"], &args[..]].concat();
    for bill in [10, 25, 40] {
        let run = home.start(home.command_at(&server.url, &args));
        server.until_billed(bill);
        run.kill();
    }
    home.at(&server.url, &args).code(0);
    let results = rows(&home.read("out.jsonl"));
    let paths: Vec<String> = results.iter().flat_map(|row| files(&home, row)).collect();
    let expected: Vec<String> = (1..=60).map(|n| format!("made/p{n}.jpg")).collect();
    assert_eq!(paths, expected, "every row has the name of its own, whatever was killed");
    assert_eq!(names(&home, "made").len(), 60, "no temporary file, and none without a row");
    assert!(server.paid_again() <= 3 * 4, "{} were paid twice", server.paid_again());
    // A job that has ended is delivered again from the store.
    home.llbatch(&["fetch", "last", "-o", "fetched.jsonl"]).code(0);
    assert_eq!(home.read("fetched.jsonl"), home.read("out.jsonl"));
}

#[test]
fn failed_rows_are_sent_again_by_retry_and_resume_into_the_same_directory() {
    let (home, server) = (Home::new(), Server::start(&["--fault", "status=400,contains=picture 2,times=2"]));
    home.write("in.jsonl", pictures(3));
    let first = images(&home, &server.url, &["-o", "out.jsonl"]);
    first.code(3);
    assert_eq!(names(&home, "made"), ["p1.jpg", "p3.jpg"]);
    home.at(&server.url, &["retry", "last", "--all"]).code(3);
    home.at(&server.url, &["run", "--resume=last", "-o", "out.jsonl"]).code(0);
    assert_eq!(names(&home, "made"), ["p1.jpg", "p2.jpg", "p3.jpg"]);
    assert_eq!(files(&home, &rows(&home.read("out.jsonl"))[1]), ["made/p2.jpg"]);
    assert_eq!(server.paid_again(), 0);
}

#[test]
fn image_that_cannot_be_fetched_fails_its_row_and_is_not_bought_twice() {
    let (home, server) = (Home::new(), Server::start(&["--fault", "status=404,on=content,nth=1"]));
    home.write("in.jsonl", pictures(2));
    images(&home, &server.url, &["--concurrency", "1", "-o", "out.jsonl"]).code(3);
    let results = home.read("out.jsonl");
    let code = |n: usize| codes(&results)[n].1.clone();
    assert_eq!([code(0), code(1)], ["bad_response", "ok"]);
    assert!(results.contains("the answer's image cannot be fetched"), "{results}");
    assert_eq!((server.bill(), server.paid_again()), (2, 0));
    // A passing failure is tried again, without another request for the image.
    let server = Server::start(&["--fault", "status=503,on=content,times=2"]);
    images(&home, &server.url, &["--fresh", "-o", "out.jsonl"]).code(0);
    assert_eq!((server.bill(), server.paid_again()), (2, 0));
}

#[test]
fn key_goes_to_no_place_that_an_answer_names() {
    let image = Recorder::answering(|_| ("200 OK", "content-type: image/jpeg\r\n".to_owned(), "not really".to_owned()));
    let url = format!("{}/image.jpg", image.url);
    let service = Recorder::answering(move |_| ("200 OK", String::new(), json!({"data": [{"url": url}]}).to_string()));
    let home = Home::new();
    home.write("in.jsonl", pictures(1));
    images(&home, &service.url, &["-o", "out.jsonl"]).code(0);
    assert_eq!(names(&home, "made"), ["p1.bin"]);
    let seen = image.requests();
    assert_eq!(seen.len(), 1);
    assert!(!seen[0].head.to_ascii_lowercase().contains("authorization"), "{}", seen[0].head);
    // Another host is asked in https only.
    let plain = Recorder::answering(|_| {
        ("200 OK", String::new(), json!({"data": [{"url": "http://192.0.2.7/image.jpg"}]}).to_string())
    });
    images(&home, &plain.url, &["--fresh", "-o", "out.jsonl"]).code(3);
    assert!(home.read("out.jsonl").contains("https only"), "{}", home.read("out.jsonl"));
}

#[test]
fn answers_without_a_file_fail_their_row() {
    let home = Home::new();
    for (body, words) in [
        (r#"{"data":[]}"#, "with no images"),
        (r#"{"data":[{"b64_json":"%%%"}]}"#, "is no image"),
        (r#"{"error":{"message":"unsafe","code":400}}"#, "unsafe"),
        (r#"{"choices":[{"message":{"content":"a cat"}}]}"#, "with no images"),
    ] {
        home.write("in.jsonl", pictures(1));
        let server = Recorder::answering(move |_| ("200 OK", String::new(), body.to_owned()));
        images(&home, &server.url, &["--fresh", "--retries", "0", "-o", "out.jsonl"]).code(3);
        assert!(home.read("out.jsonl").contains(words), "{body}: {}", home.read("out.jsonl"));
        assert_eq!(names(&home, "made"), Vec::<String>::new());
    }
    let server = Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat("\"hello\"")));
    home.write("in.jsonl", lines(&[r#"{"id":"a","input":"x","voice":"v","model":"a/b"}"#]));
    let args = ["run", "in.jsonl", "--endpoint", "speech", "--files", "made", "--retries", "0", "-o", "out.jsonl"];
    home.at(&server.url, &args).code(3);
    assert!(home.read("out.jsonl").contains("a text instead of speech"), "{}", home.read("out.jsonl"));
}

#[test]
fn flags_that_do_not_fit_are_usage_errors_and_nothing_is_sent() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", pictures(1));
    home.write("chat.jsonl", prompts(1..=1));
    let run = |args: &[&str], says: &[&str]| {
        home.at(&server.url, &[&["run"], args].concat()).code(2).says(says);
    };
    let images = ["in.jsonl", "--endpoint", "images", "-m", FLUX];
    run(&images, &["--files is missing", "--files DIR"]);
    run(&["chat.jsonl", "--files", "made"], &["--files", "are no files"]);
    for flag in [&["--dedupe"][..], &["--reuse"], &["--answers", "shared"], &["--stream"], &["--choices", "a,b"]] {
        run(&[&images, &["--files", "made"][..], flag].concat(), &[flag[0]]);
    }
    run(&[&images[..], &["--files", "s3://bucket/made"]].concat(), &["s3://"]);
    home.at(&server.url, &["submit", "in.jsonl", "--endpoint", "images"]).code(2).says(&["llbatch run"]);
    home.at(&server.url, &["submit", "in.jsonl", "--endpoint", "speech"]).code(2).says(&["llbatch run"]);
    home.write("file", "");
    let taken = [&["run"], &images[..], &["--files", "file", "-o", "out.jsonl"]].concat();
    home.at(&server.url, &taken).code(74).says(&["--files file"]);
    assert_eq!(server.requests(), 0);
    assert!(!Path::new(&home.path("made")).exists());
}

#[test]
fn directory_that_cannot_be_written_stops_the_run_before_more_is_sent() {
    let (home, server) = (Home::new(), Server::start(&["--latency", "20ms"]));
    home.write("in.jsonl", pictures(80));
    let args = [
        "run",
        "in.jsonl",
        "--endpoint",
        "images",
        "--files",
        "made",
        "-m",
        FLUX,
        "--concurrency",
        "2",
        "-o",
        "out.jsonl",
    ];
    let run = home.start(home.command_at(&server.url, &args));
    until("some files are there", || {
        home.exists("made") && names(&home, "made").iter().filter(|n| !n.starts_with('.')).count() > 5
    });
    // The directory goes away under the run.
    std::fs::rename(home.path("made"), home.path("moved")).unwrap();
    let out = run.wait();
    assert_eq!(out.code, 74, "{}", out.stderr);
    let sent = server.requests();
    assert!(sent < 80, "{sent}");
    std::fs::rename(home.path("moved"), home.path("made")).unwrap();
    home.at(&server.url, &args).code(0);
    let results = rows(&home.read("out.jsonl"));
    assert_eq!(results.iter().flat_map(|row| files(&home, row)).count(), 80);
    assert_eq!(names(&home, "made").len(), 80);
}
