//! Tables: the user's columns as they were, llbatch's own behind them, endings that can be written.

use crate::support::{Home, MODEL, Recorder, Server, csv_rows, lines, prompts, questions, rows};

const TWEETS: &str = "id,text,delta,phone\n1,@someone thanks!,-3.5,+49 30 1234\n2,- bullet note,\"-1,5\",+1-202-555\n";

/// A service whose every answer begins like a formula.
fn bullets() -> Recorder {
    Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat("\"- first point\"")))
}

#[test]
fn own_cells_come_back_and_a_second_pass_reads_what_the_first_was_given() {
    for (name, delimiter) in [("csv", b','), ("tsv", b'\t')] {
        let (home, service) = (Home::new(), bullets());
        home.write("tweets.csv", TWEETS);
        let (first, second, third) = (format!("pass1.{name}"), format!("pass2.{name}"), format!("pass3.{name}"));
        let run = |args: &[&str]| home.finish(home.run_command(&service.url, &[args, &["-m", MODEL]].concat())).code(0);
        run(&["tweets.csv", "--prompt", "Label @@bullet: {{ text }}", "-o", &first]).says(&[
            "2 answers",
            "apostrophe",
            "--csv-raw",
        ]);
        let (header, cells) = csv_rows(&home.read(&first), delimiter);
        assert_eq!(header[..7], ["id", "text", "delta", "phone", "custom_id", "model", "content"]);
        assert_eq!(cells[0][..5], ["1", "@someone thanks!", "-3.5", "+49 30 1234", "1"]);
        assert_eq!(cells[1][..5], ["2", "- bullet note", "-1,5", "+1-202-555", "2"]);
        assert_eq!(cells[0][6], "'- first point", "only the answer is guarded");
        run(&[&first, "--prompt", "Again: {{ text }} / {{ content }}", "--prefix", "b_", "-o", &second]);
        let bodies: String = service.requests().into_iter().map(|request| request.body).collect();
        for asked in ["Again: @someone thanks! / - first point", "Again: - bullet note / - first point"] {
            assert!(bodies.contains(&format!("\"{asked}\"")), "{asked}\n{bodies}");
        }
        let (header, again) = csv_rows(&home.read(&second), delimiter);
        assert_eq!(header[4..7], ["custom_id", "model", "content"]);
        assert_eq!(again[0][..7], cells[0][..7], "as in the first table");
        assert_eq!(header.iter().filter(|name| name.ends_with("custom_id")).count(), 1);
        // As the spreadsheet's owner wants them.
        run(&[&first, "--prompt", "Once more: {{ text }}", "--prefix", "b_", "--csv-raw", "-o", &third]);
        assert_eq!(csv_rows(&home.read(&third), delimiter).1[0][6], "- first point");
    }
}

#[test]
fn model_of_the_request_needs_no_prefix_and_the_id_stays() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let record = |id: &str, model: &str| format!(r#"{{"n":1,"id":"{id}","prompt":"x {id}"{model},"max_tokens":4}}"#);
    let own = format!(r#","model":"{MODEL}""#);
    // The last row leaves the model to the flag.
    home.write("in.jsonl", lines(&[&record("a", &own), &record("b", &own), &record("c", "")]));
    home.run(&server, &["in.jsonl", "-m", MODEL, "-o", "out.csv"]).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header[..7], ["n", "id", "prompt", "model", "max_tokens", "custom_id", "content"]);
    assert!(cells.iter().all(|row| row[3] == MODEL), "{cells:?}");
    assert_eq!(cells[2][..2], ["1", "c"]);
    home.run(&server, &["in.jsonl", "-m", MODEL, "--flat", "-o", "out.jsonl"]).code(0);
    let text = home.read("out.jsonl");
    let start =
        format!(r#"{{"n":1,"id":"a","prompt":"x a","model":"{MODEL}","max_tokens":4,"custom_id":"a","content":"#);
    assert!(text.starts_with(&start), "{text}\n{start}");
    let last =
        format!(r#"{{"n":1,"id":"c","prompt":"x c","max_tokens":4,"model":"{MODEL}","custom_id":"c","content":"#);
    assert!(text.lines().nth(2).unwrap().starts_with(&last), "{text}\n{last}");
    // The same from a batch, and a report of either.
    let submit = ["submit", "in.jsonl", "-m", MODEL, "--wait", "--poll", "50ms", "-o", "batch.csv"];
    home.at(&server.url, &submit).code(0);
    assert_eq!(csv_rows(&home.read("batch.csv"), b',').0, header);
    for file in ["out.csv", "out.jsonl", "batch.csv"] {
        let report: serde_json::Value =
            serde_json::from_str(&home.llbatch(&["report", file, "--json"]).code(0).stdout).unwrap();
        assert_eq!((&report["rows"]["succeeded"], &report["models"][0]["model"]), (&3.into(), &MODEL.into()), "{file}");
    }
}

#[test]
fn a_column_model_that_is_data_asks_for_a_prefix() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("cars.csv", "id,model\n1,Beetle\n");
    let run = ["cars.csv", "-m", MODEL, "--prompt", "Who builds the {{ model }}?", "-o", "out.csv"];
    let out = home.run(&server, &run);
    assert_eq!((out.code, server.requests()), (65, 0), "{}", out.stderr);
    drop(out.says(&["`model`", "--prefix"]));
    home.run(&server, &[&run[..], &["--prefix", "llm_"]].concat()).code(0);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!(header[..4], ["id", "model", "llm_custom_id", "llm_model"]);
    assert_eq!(cells[0][..4], ["1", "Beetle", "1", MODEL]);
}

#[test]
fn transcripts_and_several_choices_reach_tables() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let line = r#"{"custom_id":"a1","method":"FILE","url":"/v1/audio/transcriptions","body":{"model":"openai/whisper-large-v3","file":"https://files.example.org/call-17.mp3"}}"#;
    home.write("aud.jsonl", lines(&[line]));
    let endpoint = ["--endpoint", "transcriptions"];
    let submit = |out: &str, flags: &[&str]| {
        let all = ["submit", "aud.jsonl", "--again", "--wait", "--poll", "50ms", "-o", out];
        home.at(&server.url, &[&all[..], &endpoint, flags].concat()).code(0)
    };
    submit("plain.jsonl", &[]);
    let text = rows(&home.read("plain.jsonl"))[0].line["response"]["body"]["text"].as_str().unwrap().to_owned();
    assert!(!text.is_empty());
    let out = submit("out.csv", &[]);
    assert!(!out.stderr.contains("$0.00"), "its price is not known:\n{}", out.stderr);
    let (header, cells) = csv_rows(&home.read("out.csv"), b',');
    let at = header.iter().position(|name| name == "content").unwrap();
    assert_eq!(cells[0][at], text);
    submit("flat.jsonl", &["--flat"]);
    let flat: serde_json::Value = serde_json::from_str(&home.read("flat.jsonl")).unwrap();
    assert_eq!((&flat["content"], &flat["custom_id"]), (&text.clone().into(), &"a1".into()));

    let check = home.llbatch(&[&["check", "aud.jsonl"], &endpoint[..]].concat()).code(0).stdout;
    assert!(!check.contains("max_tokens"), "{check}");
    home.write("in.jsonl", lines(&[&format!(r#"{{"id":"a","prompt":"x","n":2,"model":"{MODEL}","max_tokens":4}}"#)]));
    home.run(&server, &["in.jsonl", "-o", "two.csv"]).code(0);
    let (header, cells) = csv_rows(&home.read("two.csv"), b',');
    let at = header.iter().position(|name| name == "content").unwrap();
    let both: Vec<String> = serde_json::from_str(&cells[0][at]).unwrap();
    assert_eq!(both.len(), 2, "{cells:?}");
}

#[test]
fn check_of_embeddings_speaks_of_neither_batches_nor_max_tokens() {
    let home = Home::new();
    home.write("in.jsonl", lines(&[r#"{"input":"x","model":"BAAI/bge-base-en-v1.5"}"#]));
    let check = home.llbatch(&["check", "in.jsonl", "--endpoint", "embeddings"]).code(0).stdout;
    assert!(check.contains("batches do not serve embeddings: `llbatch run --endpoint embeddings`"), "{check}");
    for wrong in ["max_tokens", "batch     ", "no bound"] {
        assert!(!check.contains(wrong), "{wrong}:\n{check}");
    }
}

#[test]
fn endings_that_cannot_be_written_are_refused() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.jsonl", prompts(1..=2));
    for (args, says) in [
        (&["-o", "o.xlsx"][..], ".xlsx"),
        (&["-o", "o.md"], ".md"),
        (&["-o", "o.arrow"], ".arrow"),
        (&["-o", "o.jsonl.gz"], "compressed"),
        (&["-o", "o.jsonl", "--errors", "e.csv"], "e.csv"),
        (&["-o", "o.jsonl", "--errors", "e.xlsx"], ".xlsx"),
        (&["-o", "https://host/o.jsonl"], "llbatch does not write there"),
        (&["-o", "ftp://host/o.jsonl"], "ftp:// addresses"),
        (&["--summary", "gs://bucket/"], "this is no object to write"),
    ] {
        let out = home.run(&server, &[&["in.jsonl"], args].concat());
        assert!(!out.stderr.contains("mkdir"), "{}", out.stderr);
        drop(out.code(2).says(&[says]));
    }
    assert_eq!(server.requests(), 0);
    home.llbatch(&["prepare", "in.jsonl", "-o", "ftp://host/shards"]).code(2).says(&["ftp:// addresses"]);
    home.run(&server, &["in.jsonl", "-o", "plain"]).code(0);
    assert_eq!(rows(&home.read("plain")).len(), 2);
    home.llbatch(&["report", "plain", "--html", "s3://bucket/r.html"]).code(2).says(&["s3:// addresses"]);
    home.write("table.jsonl", questions(1..=1));
    home.run(&server, &["table.jsonl", "-m", MODEL, "-o", "o.data", "--format", "csv"]).code(0);
    assert_eq!(csv_rows(&home.read("o.data"), b',').1.len(), 1);
}

#[test]
fn odd_headers_come_back_as_they_were() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.csv", "\u{feff},text,note,note\r\n0,a,x,y\r\n1,b,,z\r\n");
    let run = |args: &[&str]| home.run(&server, &[&["in.csv", "-m", MODEL, "--prompt"], args].concat());
    run(&["Say {{ text }}", "-o", "out.csv"]).code(0);
    let text = home.read("out.csv");
    assert!(text.starts_with("\u{feff},text,note,note,custom_id,"), "{text}");
    let (_, cells) = csv_rows(&text, b',');
    assert_eq!(cells[0][..5], ["0", "a", "x", "y", "row-1"]);
    assert_eq!(cells[1][..4], ["1", "b", "", "z"]);
    let piped = run(&["Say {{ text }}", "--format", "csv", "--fresh"]).code(0).stdout;
    assert!(piped.starts_with(",text,note,note,custom_id,"), "{piped}");
    let used = run(&["Say {{ note }}", "-o", "other.csv"]).code(65);
    drop(used.says(&["in.csv:1: columns 3 and 4 of the header have the same name: note", "rename one"]));
    // A second pass reads the first one's table.
    home.run(&server, &["out.csv", "-m", MODEL, "--prompt", "{{ text }}", "--prefix", "b_", "-o", "b.csv"]).code(0);
}

#[test]
fn encoding_and_delimiter_hold_for_the_whole_job() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let text: Vec<u8> = "id;text\n1;caf\u{e9}, \u{20ac}\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    home.write("in.csv", &text);
    let args = ["in.csv", "-m", MODEL, "--prompt", "{{ text }}", "--max-tokens", "4"];
    home.run(&server, &args).code(65).says(&["UTF-16 without a mark", "--encoding utf-16le"]);
    let flags = ["--encoding", "utf-16le", "--delimiter", ";"];
    home.run(&server, &[&args[..], &flags, &["-o", "a.csv"]].concat()).code(0);
    let submit = ["submit", "--wait", "--poll", "50ms", "-o", "b.csv"];
    home.at(&server.url, &[&submit[..], &args, &flags].concat()).code(0);
    for file in ["a.csv", "b.csv"] {
        assert_eq!(csv_rows(&home.read(file), b',').1[0][1], "caf\u{e9}, \u{20ac}", "{file}");
    }
    let piped = [&["-", "--fresh"], &args[1..], &flags].concat();
    home.run_with_stdin(&server.url, &piped, &text).code(0);
    for wrong in [["--encoding", "ebcdic"], ["--delimiter", "ab"]] {
        home.run(&server, &[&args[..], &wrong].concat()).code(2);
    }
}
