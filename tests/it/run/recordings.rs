//! `--endpoint transcriptions` and `translations` in real time: each row is sent with its own recording, or not at all.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

use crate::support::{Home, Out, Recorded, Recorder, Row, Server, csv_rows, lines, paid_hash, rows, until};

const WHISPER: &str = "openai/whisper-large-v3";

/// A recording of this many tenths of a second, 8,000 samples of 16 bits a second, with `seed` as its sound.
fn wav(seed: u8, tenths: usize) -> Vec<u8> {
    let data = vec![seed; tenths * 1_600];
    let mut bytes = b"RIFF".to_vec();
    bytes.extend_from_slice(&(data.len() as u32 + 36).to_le_bytes());
    bytes.extend_from_slice(b"WAVEfmt \x10\0\0\0\x01\0\x01\0\x40\x1f\0\0\x80\x3e\0\0\x02\0\x10\0data");
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&data);
    bytes
}

/// The hash in the transcript of an uploaded recording, whose form has no `prompt`.
fn heard(recording: &[u8]) -> String {
    paid_hash(&format!("blake3:{}", blake3::hash(recording).to_hex()))
}

fn transcribe(home: &Home, url: &str, args: &[&str]) -> Out {
    home.at(url, &[&["run", "--endpoint", "transcriptions", "-m", WHISPER], args].concat())
}

fn text(row: &Row) -> &str {
    row.line["response"]["body"]["text"].as_str().unwrap_or_else(|| panic!("no transcript: {}", row.line))
}

#[test]
fn each_row_is_sent_with_its_own_recording() {
    let (home, server) = (Home::new(), Server::start(&[]));
    std::fs::create_dir(home.path("calls")).unwrap();
    let recordings = [wav(1, 10), [b"ID3\x04".to_vec(), vec![7; 300_000]].concat(), wav(3, 5)];
    for (name, bytes) in ["calls/one.wav", "calls/two", "three.wav"].iter().zip(&recordings) {
        home.write(name, bytes);
    }
    let absolute = home.path("three.wav");
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"id":"a","file":"calls/one.wav","language":"de"}"#,
            r#"{"custom_id":"b","body":{"file":"calls/two"}}"#,
            &json!({"id": "c", "file": absolute}).to_string(),
            r#"{"id":"d","file":"https://files.example.org/call.mp3"}"#,
        ]),
    );
    transcribe(&home, &server.url, &["in.jsonl", "-o", "out.jsonl"]).code(0);
    let found = rows(&home.read("out.jsonl"));
    let url = paid_hash("https://files.example.org/call.mp3");
    let hashes = recordings.iter().map(|bytes| heard(bytes)).chain([url]);
    for (row, hash) in found.iter().zip(hashes) {
        assert!(text(row).contains(&hash), "{} has another row's transcript: {}", row.id, row.line);
    }
    assert_eq!((server.count("/v1/audio/transcriptions", 200), found.len()), (4, 4));
    transcribe(&home, &server.url, &["in.jsonl", "--endpoint=translations", "--fresh", "-o", "t.jsonl"]).code(2);
    home.at(&server.url, &["run", "--endpoint", "translations", "-m", WHISPER, "in.jsonl", "-o", "t.jsonl"]).code(0);
    assert_eq!(server.count("/v1/audio/translations", 200), 4);
}

#[test]
fn tables_and_lists_of_paths_name_recordings() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let recordings = [wav(1, 10), wav(2, 7)];
    home.write("1.wav", &recordings[0]);
    home.write("2.wav", &recordings[1]);
    home.write("in.csv", "call,file,language,timestamp_granularities\nx,1.wav,de,word\ny,2.wav,,\n");
    let verbose = ["--set", "response_format=\"verbose_json\""];
    transcribe(&home, &server.url, &[&["in.csv", "-o", "out.csv"], &verbose[..]].concat()).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let at = |name: &str| header.iter().position(|column| column == name).unwrap();
    assert_eq!(header[..5], ["call", "file", "language", "timestamp_granularities", "custom_id"]);
    for (cells, recording) in cells.iter().zip(&recordings) {
        assert!(cells[at("content")].contains(&heard(recording)), "{cells:?}");
    }
    transcribe(&home, &server.url, &[&["in.csv", "-o", "out.jsonl", "--fresh"], &verbose[..]].concat()).code(0);
    let found = rows(&home.read("out.jsonl"));
    let body = |row: usize| &found[row].line["response"]["body"];
    assert_eq!((&body(0)["language"], &body(0)["duration"]), (&json!("de"), &json!(1.0)));
    assert!(body(0)["words"].is_array() && body(0)["segments"].is_array(), "{}", body(0));
    assert!(body(1)["words"].is_null(), "{}", body(1));
    home.write("list.txt", "1.wav\n2.wav\n");
    transcribe(&home, &server.url, &["list.txt", "--input-format", "lines", "-o", "list.jsonl"]).code(0);
    let found = rows(&home.read("list.jsonl"));
    assert!(text(&found[1]).contains(&heard(&recordings[1])), "{}", found[1].line);
    home.write("wrong.csv", "audio\n1.wav\n");
    transcribe(&home, &server.url, &["wrong.csv", "-o", "x.jsonl"])
        .code(65)
        .says(&["there is no column `file`; the columns are: audio"]);
}

#[test]
fn form_has_the_model_first_the_fields_as_spelled_and_the_file_last() {
    let answer = |_: &Recorded| ("200 OK", String::new(), r#"{"text":"hi"}"#.to_owned());
    let (home, server) = (Home::new(), Recorder::answering(answer));
    // The recorder keeps texts.
    home.write("a.wav", "ID3 a recording");
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"id":"a","file":"a.wav","temperature":0.20,"diarize":true,"prompt":"Ünal \"x\"","timestamp_granularities":["word","segment"],"none":null,"stream":true}"#,
            r#"{"id":"b","file":"https://x.example/a%20b.mp3"}"#,
        ]),
    );
    transcribe(&home, &server.url, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "1"]).code(0);
    let requests = server.requests();
    let head = requests[0].head.to_ascii_lowercase();
    assert!(head.starts_with("post /v1/audio/transcriptions http/1.1"), "{head}");
    assert!(
        head.contains("content-type: multipart/form-data; boundary=") && head.contains("content-length: "),
        "{head}"
    );
    assert!(head.contains("authorization: bearer ") && !head.contains("transfer-encoding"), "{head}");
    let fields = |body: &str| -> Vec<String> {
        let mark = body.split_once("\r\n").unwrap().0.to_owned();
        let parts = body.split(&mark).filter(|part| part.starts_with("\r\n"));
        parts.map(|part| part.trim().replace("Content-Disposition: form-data; ", "").replace("\r\n\r\n", "=")).collect()
    };
    let first = fields(&requests[0].body);
    assert_eq!(
        first[..6],
        [
            format!("name=\"model\"={WHISPER}"),
            "name=\"temperature\"=0.20".to_owned(),
            "name=\"diarize\"=true".to_owned(),
            "name=\"prompt\"=Ünal \"x\"".to_owned(),
            "name=\"timestamp_granularities[]\"=word".to_owned(),
            "name=\"timestamp_granularities[]\"=segment".to_owned(),
        ]
    );
    let file = "name=\"file\"; filename=\"recording.mp3\"\r\nContent-Type: audio/mpeg=ID3 a recording";
    assert_eq!(first[6], file);
    assert_eq!(first.len(), 7);
    let second = fields(&requests[1].body);
    assert_eq!(second, [format!("name=\"model\"={WHISPER}"), "name=\"file\"=https://x.example/a%20b.mp3".to_owned()]);
}

#[test]
fn every_bad_recording_is_a_problem_with_its_place_and_nothing_is_sent() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("big.wav", wav(1, 10));
    home.write("good.wav", wav(1, 5));
    home.write("text.mp3", "no recording");
    home.write("empty.wav", "");
    home.write("photo.wav", b"\x89PNG\r\n\x1a\n");
    std::fs::create_dir(home.path("dir")).unwrap();
    let mut table = "file\n".to_owned();
    for cell in [
        "gone.wav",
        "text.mp3",
        "empty.wav",
        "photo.wav",
        "big.wav",
        "dir",
        "s3://b/k.wav",
        "data:audio/wav;base64,AAAA",
        "good.wav",
    ] {
        writeln!(table, "\"{cell}\"").unwrap();
    }
    home.write("in.csv", table);
    let args = ["in.csv", "--max-file", "10kB", "-o", "out.jsonl"];
    transcribe(&home, &server.url, &args).code(65).says(&[
        "in.csv:2: `file`: ",
        "gone.wav does not exist",
        "in.csv:3: `file`: ",
        "text.mp3 is no recording in WAV, MP3",
        "in.csv:4: `file`: ",
        "photo.wav is no recording",
        "big.wav has 16 kB, more than --max-file 10 kB",
        "dir is a directory",
        "in.csv:8: `file`: s3://b/k.wav is an address",
        "in.csv:9: `file`: a data URI is no recording",
        "8 of 9 rows cannot be sent",
    ]);
    assert_eq!(server.requests(), 0);
    transcribe(&home, &server.url, &[&args[..], &["--skip-invalid"]].concat()).code(3);
    let found = rows(&home.read("out.jsonl"));
    assert!(found[..8].iter().all(|row| row.code.as_deref() == Some("invalid_request")));
    assert_eq!((server.bill(), found[8].code.as_deref()), (1, None));
}

#[test]
fn rows_and_flags_that_make_no_form_are_refused() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("good.wav", wav(1, 5));
    for (row, says) in [
        (r#"{"file":7}"#, "`file` must be the path or the URL of a recording, not 7"),
        (r#"{"file":" "}"#, "`file` must be the path or the URL"),
        (r#"{"path":"good.wav"}"#, "the row has no `body` or `file`"),
        (r#"{"file":"good.wav","response_format":"srt"}"#, "`response_format` srt is no JSON"),
    ] {
        home.write("bad.jsonl", lines(&[row]));
        transcribe(&home, &server.url, &["bad.jsonl", "-o", "bad.out.jsonl"]).code(65).says(&[says]);
    }
    home.write("good.jsonl", lines(&[r#"{"file":"good.wav"}"#]));
    for (flags, says) in [
        (["--choices", "a,b"], "--choices: answers of --endpoint transcriptions are transcripts"),
        (["--prompt", "{{ file }}"], "needs the `file` that a record names"),
        (["--set", "response_format=\"vtt\""], "is no JSON"),
        (["--stream", "-q"], "--stream: answers of --endpoint transcriptions come whole"),
    ] {
        let out = transcribe(&home, &server.url, &[&["good.jsonl", "-o", "x.jsonl"], &flags[..]].concat());
        assert!(matches!(out.code, 2 | 65), "{flags:?}: {}", out.stderr);
        out.says(&[says]);
    }
    assert_eq!(server.bill(), 0);
}

#[test]
fn batches_take_urls_only_and_say_so() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("a.wav", wav(1, 5));
    home.write("in.jsonl", lines(&[r#"{"id":"a","file":"https://x.example/a.mp3"}"#, r#"{"id":"b","file":"a.wav"}"#]));
    let flags = ["in.jsonl", "--endpoint", "transcriptions", "-m", WHISPER];
    home.llbatch(&[&["check"], &flags[..]].concat()).code(0);
    for command in [&["submit"][..], &["prepare", "-o", "made.jsonl"]] {
        home.at(&server.url, &[command, &flags[..]].concat())
            .code(65)
            .says(&["in.jsonl:2: `file` is the local path a.wav", "llbatch run"]);
    }
    assert_eq!(server.requests(), 0);
    home.write("in.jsonl", lines(&[r#"{"id":"a","file":"https://x.example/a.mp3"}"#]));
    home.at(&server.url, &[&["submit", "--wait", "--poll", "50ms", "-o", "out.jsonl"], &flags[..]].concat()).code(0);
    assert!(text(&rows(&home.read("out.jsonl"))[0]).contains(&paid_hash("https://x.example/a.mp3")));
}

#[test]
fn cost_is_unknown_and_a_budget_refuses_what_has_no_bound() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("a.wav", wav(1, 5));
    home.write("in.jsonl", lines(&[r#"{"id":"a","file":"a.wav"}"#]));
    let args = ["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"];
    transcribe(&home, &server.url, &[&args[..], &["--max-cost", "1"]].concat()).code(2).says(&["is unknown"]);
    // A price of tokens says nothing about a recording.
    home.config(format!("[models.\"{WHISPER}\"]\ninput = 1\noutput = 1\n"));
    transcribe(&home, &server.url, &[&args[..], &["--max-cost", "1"]].concat())
        .code(2)
        .says(&["row `a` has a part of type `recording`", "--allow-unpriced"]);
    assert_eq!(server.bill(), 0);
    transcribe(&home, &server.url, &[&args[..], &["--max-cost", "1", "--allow-unpriced"]].concat()).code(0);
    assert_eq!(home.json("s.json")["cost"]["usd"], serde_json::Value::Null);
}

#[test]
fn content_decides_what_is_sent_again_and_what_is_one_request() {
    let (home, server) = (Home::new(), Server::start(&[]));
    for (name, seed) in [("a.wav", 1), ("b.wav", 1), ("c.wav", 2)] {
        home.write(name, wav(seed, 5));
    }
    home.write("in.csv", "id,file\n1,a.wav\n2,b.wav\n3,c.wav\n");
    let args = ["in.csv", "--dedupe", "--resume", "-o", "out.jsonl"];
    transcribe(&home, &server.url, &args).code(0);
    assert_eq!(server.bill(), 2, "equal contents are one request");
    transcribe(&home, &server.url, &args).code(0);
    assert_eq!(server.bill(), 2, "nothing has changed");
    home.write("c.wav", wav(3, 5));
    transcribe(&home, &server.url, &args).code(0);
    assert_eq!(server.bill(), 3, "the row whose recording has changed is sent again");
    let found = rows(&home.read("out.jsonl"));
    assert!(text(&found[2]).contains(&heard(&wav(3, 5))), "{}", found[2].line);
}

#[test]
fn recording_that_changes_before_its_row_is_sent_fails_that_row_alone() {
    // The first answer comes late, so that the others wait meanwhile.
    let (home, server) = (Home::new(), Server::start(&["--latency", "1500ms"]));
    for (name, seed) in [("a.wav", 1), ("b.wav", 2), ("c.wav", 3), ("d.wav", 4)] {
        home.write(name, wav(seed, 5));
    }
    home.write("in.csv", "id,file\n1,a.wav\n2,b.wav\n3,c.wav\n4,d.wav\n");
    let args = ["--endpoint", "transcriptions", "in.csv", "-m", WHISPER, "-o", "out.jsonl", "--concurrency", "1"];
    let running = home.spawn(&server, &args);
    server.until_billed(1);
    home.write("b.wav", wav(9, 5));
    std::fs::remove_file(home.path("c.wav")).unwrap();
    // The same bytes, written anew.
    home.write("d.wav", wav(4, 5));
    running.wait().code(3);
    let found = rows(&home.read("out.jsonl"));
    let message = |row: usize| found[row].line["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!((found[0].code.as_deref(), found[3].code.as_deref()), (None, None));
    assert!(message(1).contains("b.wav was changed since llbatch checked it"), "{}", message(1));
    assert!(message(2).contains("c.wav does not exist"), "{}", message(2));
    assert_eq!(server.bill(), 2);
}

#[test]
fn tries_read_the_recording_again_and_a_killed_run_pays_again_only_for_what_was_in_flight() {
    let (home, server) =
        (Home::new(), Server::start(&["--latency", "60ms", "--fault", "status=503,on=audio,rate=0.2,times=1"]));
    let mut table = "id,file\n".to_owned();
    for n in 1..=40 {
        home.write(&format!("{n}.wav"), wav(n, 5));
        writeln!(table, "r{n},{n}.wav").unwrap();
    }
    home.write("in.csv", table);
    let args = ["--endpoint", "transcriptions", "in.csv", "-m", WHISPER, "-o", "out.jsonl", "--concurrency", "3"];
    let mut kills = 0;
    for some in [3, 9, 16, 24] {
        let mut run = home.spawn(&server, &args);
        until("some answers", || server.bill() >= some || !run.is_running());
        std::thread::sleep(Duration::from_millis(fastrand::u64(0..60)));
        if run.kill().is_none() {
            kills += 1;
        }
    }
    home.run(&server, &args).code(0);
    let found = rows(&home.read("out.jsonl"));
    assert_eq!(found.len(), 40);
    for (n, row) in (1..).zip(&found) {
        assert!(text(row).contains(&heard(&wav(n, 5))), "{}: {}", row.id, row.line);
    }
    assert!(kills >= 2 && server.paid_again() <= kills * 3, "{} paid again in {kills} kills", server.paid_again());
}

#[test]
fn large_recording_is_not_held_in_memory() {
    let (home, server) = (Home::new(), Server::start(&[]));
    // A header whose samples are a hole in the file.
    let large = std::fs::File::create(home.path("large.wav")).unwrap();
    std::io::Write::write_all(&mut &large, &wav(0, 0)).unwrap();
    large.set_len(79_000_000).unwrap();
    home.write("small.wav", wav(1, 5));
    let peak = |name: &str| {
        home.write("in.csv", format!("file\n{name}\n"));
        let args = ["--endpoint", "transcriptions", "in.csv", "-m", WHISPER, "-o", "out.jsonl", "--fresh"];
        let mut running = home.spawn(&server, &args);
        let mut peak = 0;
        while running.is_running() {
            peak = peak.max(running.peak_memory());
            std::thread::sleep(Duration::from_millis(5));
        }
        running.wait().code(0);
        peak
    };
    let (small, large) = (peak("small.wav"), peak("large.wav"));
    assert!(large < small + (24 << 10), "{small} KiB with a small recording, {large} with one of 79 MB");
    let too_large = std::fs::File::create(home.path("more.wav")).unwrap();
    std::io::Write::write_all(&mut &too_large, &wav(0, 0)).unwrap();
    too_large.set_len(80_000_001).unwrap();
    home.write("in.csv", "file\nmore.wav\n");
    let found = transcribe(&home, &server.url, &["in.csv", "-o", "out.jsonl", "--fresh"]).code(65);
    found.says(&["more.wav has 80 MB, more than --max-file 80 MB"]);
    let accepted = ["in.csv", "-o", "out.jsonl", "--fresh", "--max-file", "81MB"];
    transcribe(&home, &server.url, &accepted).code(3);
    let row = &rows(&home.read("out.jsonl"))[0];
    assert!(row.line["error"]["message"].as_str().unwrap().contains("more than 80 MB"), "{}", row.line);
}
