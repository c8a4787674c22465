//! Odd input. An invalid row is reported with its place and a remedy, and nothing is sent. With `--skip-invalid` it becomes
//! an error beside the answers of the others. Odd but valid rows travel unchanged.

use std::io::Write as _;
use std::os::unix::fs::symlink;

use crate::support::{Home, MODEL, Recorder, Server, answered, codes, csv_rows, harmless, prompts, side_by_side};

/// A good row.
fn row(id: &str) -> String {
    format!("{{\"id\":\"{id}\",\"prompt\":\"question {id}\",\"model\":\"{MODEL}\"}}\n")
}

fn bytes(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The outcome of each row with `--skip-invalid`. `None`: the whole file is invalid, whatever the flag.
type Ends = Option<&'static [&'static str]>;

const BAD: &str = "invalid_request";

/// File, content, what is said of it and the ends of its rows.
fn cases() -> Vec<(&'static str, Vec<u8>, &'static [&'static str], Ends)> {
    let good = row("g");
    let good = good.as_bytes();
    let deep = "[".repeat(100_000);
    let wide = |columns: usize| (0..columns).map(|n| format!("c{n}")).collect::<Vec<_>>().join(",");
    let packed = gzip(prompts(1..=3000).as_bytes());
    let quoted = |before: &str| bytes(&[before.as_bytes(), "b,y\n".repeat(100_000).as_bytes()]);
    vec![
        ("nul.jsonl", bytes(&[good, b"{\"id\":\"n\",\"prompt\":\"a\0b\"}\n", good_two()]), &["nul.jsonl:2:21: ", "control character"], Some(&["ok", BAD, "ok"])),
        ("key.jsonl", bytes(&[good, b"{\"id\":\"n\",\"pro\xffmpt\":\"x\"}\n"]), &["key.jsonl:2:15: not UTF-8: byte 0xff", "--encoding"], Some(&["ok", BAD])),
        ("last.jsonl", bytes(&[good, b"\xc3"]), &["last.jsonl:2:1: not UTF-8: byte 0xc3"], Some(&["ok", BAD])),
        ("cell.csv", b"id,prompt\na,caf\xc3\xa9\nb,\"two\nlines \xe2\x82\"\nc,z".to_vec(), &["cell.csv:4:7: not UTF-8: byte 0xe2"], Some(&["ok", BAD, "ok"])),
        ("header.csv", b"id,pr\xffompt\na,b\n".to_vec(), &["header.csv:1:6: not UTF-8", "header"], None),
        ("open.jsonl", bytes(&[good, b"{\"id\":\"d\",\"prompt\":\"p\",\"x\":", deep.as_bytes(), b"\n"]), &["open.jsonl:2:100027: cut off"], Some(&["ok", BAD])),
        ("array.jsonl", deep.clone().into_bytes(), &["array.jsonl:1: ", "JSON array", "jq -c '.[]'"], None),
        ("id.jsonl", bytes(&[good, b"{\"id\":\"a\\u001b[31m\",\"prompt\":\"x\"}\n{\"id\":\"\\ud800\",\"prompt\":\"x\"}\n{\"id\":\"\",\"prompt\":\"x\"}\n"]), &["id.jsonl:2: ", "id.jsonl:3: ", "id.jsonl:4: ", "a\\u{1b}[31m"], Some(&["ok", BAD, BAD, BAD])),
        ("bidi.jsonl", ["{\"id\":\"\u{202e}gpj\",\"prompt\":\"x\"}\n"; 2].concat().into_bytes(), &["bidi.jsonl:2", "used twice", "\\u{202e}gpj"], Some(&["ok", BAD])),
        ("model.jsonl", bytes(&[good, b"{\"id\":\"s\",\"prompt\":\"x\",\"model\":\"\\ud800\"}\n"]), &["model.jsonl:2", "`model`"], Some(&["ok", BAD])),
        ("bound.jsonl", bytes(&[good, format!("{{\"id\":\"s\",\"prompt\":\"x\",\"model\":\"{MODEL}\",\"max_tokens\":18446744073709551615}}\n").as_bytes()]), &["bound.jsonl:2", "max_tokens"], Some(&["ok", "context_length"])),
        ("cr.jsonl", [row("a").trim_end(), "\r", row("b").trim_end(), "\r"].concat().into_bytes(), &["cr.jsonl:1:", "trailing characters"], Some(&[BAD])),
        ("cr.csv", b"id,prompt\ra,x\rb,y\r".to_vec(), &["cr.csv:1: ", "carriage return", "tr '\\r' '\\n' < 'cr.csv'"], None),
        ("mark.jsonl", bytes(&[good, b"\xef\xbb\xbf", good_two()]), &["mark.jsonl:2:1: ", "\\u{feff}"], Some(&["ok", BAD])),
        ("empty.jsonl", Vec::new(), &["no rows"], None),
        ("empty.csv", Vec::new(), &["no rows"], None),
        ("blank.jsonl", b"\xef\xbb\xbf\n\r\n \t\n".to_vec(), &["no rows"], None),
        ("wide.csv", bytes(&[b"prompt,", wide(99_999).as_bytes(), b"\na,b\n"]), &["wide.csv:2: 2 fields, but the header has 100000"], Some(&[BAD])),
        ("twice.csv", bytes(&[wide(5000).as_bytes(), b",prompt,c17,prompt\nx\n"]), &["twice.csv:1: ", "columns 5001 and 5003"], None),
        ("ragged.csv", b"id,prompt\na\nb,c,d\ne,f\n\n,\n".to_vec(), &["ragged.csv:2: 1 field, ", "ragged.csv:3: 3 fields, ", "ragged.csv:6: "], Some(&[BAD, BAD, "ok", BAD])),
        ("quote.csv", quoted("id,prompt\nz,x\na,\"x\n"), &["quote.csv:3:3: ", "never closed"], Some(&["ok", BAD])),
        ("head.csv", quoted("\"id,prompt\n"), &["head.csv:1:1: ", "never closed", "header"], None),
        ("cut.jsonl.gz", packed[..packed.len() - 20].to_vec(), &["cut.jsonl.gz: the gzip data is cut off, after ", "again"], None),
        ("junk.jsonl.gz", bytes(&[&packed, b"trailing garbage"]), &["junk.jsonl.gz: the gzip data is damaged"], None),
        ("tiny.jsonl.gz", b"\x1f\x8b".to_vec(), &["tiny.jsonl.gz: the gzip data is cut off"], None),
    ]
}

/// Another good row.
const fn good_two() -> &'static [u8] {
    b"{\"id\":\"h\",\"prompt\":\"question h\"}\n"
}

#[test]
fn invalid_rows_are_named_with_their_place_and_nothing_is_sent() {
    let recorder = Recorder::start();
    side_by_side(&cases(), |(name, content, words, _)| {
        let home = Home::new();
        home.write(name, content);
        let out = home.finish(home.run_command(&recorder.url, &[name, "-m", MODEL, "-o", "out.jsonl"]));
        harmless(&out.stderr);
        assert!(out.stderr.len() < 4000, "{}", out.stderr);
        out.code(65).says(words).says(&["hint: "]);
        assert!(!home.exists("out.jsonl"), "{name}");
        // The same through the other doors; `check` says on stdout what it finds.
        let out = home.at(&recorder.url, &["submit", name, "-m", MODEL]);
        harmless(&out.stderr);
        out.code(65).says(words);
        let out = home.llbatch(&["check", name, "-m", MODEL]);
        harmless(&out.stderr);
        let said = out.stdout.clone() + &out.stderr;
        assert!(out.code == 65 && words.iter().all(|word| said.contains(word)), "{}: {said}", out.code);
    });
    assert!(recorder.requests().is_empty());
}

#[test]
fn invalid_row_costs_only_itself_when_skipped() {
    let server = Server::start(&[]);
    side_by_side(&cases(), |(name, content, words, ends)| {
        let home = Home::new();
        home.write(name, content);
        let args = [name, "-m", MODEL, "--max-tokens", "5", "--skip-invalid", "-o", "out.jsonl"];
        let out = home.run(&server, &args);
        harmless(&out.stderr);
        let Some(ends) = ends else {
            out.code(65).says(words);
            assert!(!home.exists("out.jsonl"), "{name}");
            return;
        };
        out.code(3).says(words);
        let found: Vec<String> = codes(&home.read("out.jsonl")).into_iter().map(|(_, code)| code).collect();
        assert_eq!(found, *ends, "{name}");
    });
}

#[test]
fn odd_but_valid_rows_travel_unchanged() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    let message = |content: &str| format!(r#"{{"model":"m/x","messages":[{{"role":"user","content":{content}}}]}}"#);
    let long = format!("\"{}\"", "x y ".repeat(2_000_000));
    let bodies = [
        message(r#""a\ud800b\u0000\u001b[2J""#),
        message(&deep),
        message(&long),
        format!(r#"{{"model":"m/x","messages":[{{"role":"user","content":"x"}}],"deep":{deep},"n":1E400}}"#),
        r#"{"model":"m/x","model":"m/x","messages":[],"messages":[{"role":"user","content":"x"}],"\udc00":1}"#
            .to_owned(),
        "{\"model\":\"m/x\"\t,\"messages\" : [{\"role\":\"user\",\"content\":\"\u{feff}\u{202e}\u{85}\u{7f}\"}]}"
            .to_owned(),
    ];
    let (home, recorder) = (Home::new(), Recorder::start());
    // Without a line end behind the last.
    home.write("in.jsonl", bodies.join("\r\n"));
    let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "1"];
    let out = home.finish(home.run_command(&recorder.url, &args));
    harmless(&out.stderr);
    out.code(0);
    assert!(recorder.bodies() == bodies, "a body was changed on its way");
    assert_eq!(codes(&home.read("out.jsonl")).len(), bodies.len());
}

#[test]
fn table_cells_may_hold_anything() {
    let (home, recorder) = (Home::new(), Recorder::start());
    let columns: Vec<String> = (0..4998).map(|n| format!("c{n}")).collect();
    let cells = "v,".repeat(4997) + "w";
    let text = [
        format!("\u{feff}id,prompt,{}\r\n", columns.join(",")),
        format!("a,nul\0 lone\rreturn,{cells}\r\n"),
        format!("b,quote \"in\" the middle,{cells}\r\n"),
        format!("\"c\",\"two\r\nlines, \"\"quoted\"\"\"tail,{cells}\n"),
        format!("../d,\"{}\",{cells}", "é".repeat(200_000)),
    ];
    home.write("in.csv", text.concat());
    let args = ["in.csv", "-m", "m/x", "-o", "out.csv", "--concurrency", "1"];
    home.finish(home.run_command(&recorder.url, &args)).code(0);
    let sent: Vec<serde_json::Value> =
        recorder.bodies().iter().map(|body| serde_json::from_str(body).unwrap()).collect();
    let prompts: Vec<&str> = sent.iter().map(|body| body["messages"][0]["content"].as_str().unwrap()).collect();
    assert_eq!(prompts[..3], ["nul\0 lone\rreturn", "quote \"in\" the middle", "two\r\nlines, \"quoted\"tail"]);
    assert_eq!(prompts[3].chars().count(), 200_000);
    let (header, rows) = csv_rows(&home.read("out.csv"), b',');
    assert_eq!((header.len(), rows.len()), (5000 + 10, 4));
    let id = header.iter().position(|name| name == "custom_id").unwrap();
    assert_eq!(rows.iter().map(|row| row[id].as_str()).collect::<Vec<_>>(), ["a", "b", "c", "../d"]);
    assert!(rows.iter().all(|row| row[4999] == "w"));
}

#[test]
fn non_files_exit_66_at_once() {
    let home = Home::new();
    let made = std::process::Command::new("mkfifo").arg(home.path("fifo.jsonl")).status().unwrap();
    assert!(made.success());
    std::fs::create_dir(home.path("dir.jsonl")).unwrap();
    symlink("nowhere", home.path("dangling.jsonl")).unwrap();
    symlink("loop.jsonl", home.path("loop.jsonl")).unwrap();
    let names = [
        "fifo.jsonl",
        "dir.jsonl",
        "dangling.jsonl",
        "loop.jsonl",
        "/dev/null",
        "/dev/zero",
        "no\u{1b}[31m\u{202e}such.jsonl",
    ];
    side_by_side(&names, |name| {
        for command in ["run", "submit", "check"] {
            let out = home.llbatch(&[command, name]);
            harmless(&out.stderr);
            out.code(66).says(&["error: ", "hint: "]);
        }
        home.llbatch(&["prepare", name, "-o", "shards"]).code(66);
    });
    assert!(!home.exists("shards"));
    // From standard input a pipe and a device are as good as a file.
    let server = Server::start(&[]);
    home.run_with_stdin(&server.url, &["-"], &[0, 0xff]).code(65).says(&["-:1:2: not UTF-8"]);
    home.run_with_stdin(&server.url, &["-", "--input-format", "csv"], b"id,prompt\na,\"x").code(65).says(&["-:2:3: "]);
    let packed = [gzip(prompts(1..=2).as_bytes()), gzip(prompts(3..=3).as_bytes())].concat();
    answered(&home.run_with_stdin(&server.url, &["-"], &packed).code(0).stdout, 1..=3);
    assert_eq!(server.bill(), 3);
}

#[test]
fn changed_input_never_mixes_two_files_in_one_result() {
    // The change, and the exit codes that the run may have: 66 only if the file can no longer be opened.
    type Change = fn(&Home);
    let changes: &[(&str, Change, &[i32])] = &[
        (
            "grows",
            |home| {
                let mut file = std::fs::File::options().append(true).open(home.path("in.jsonl")).unwrap();
                file.write_all(prompts(41..=80).as_bytes()).unwrap();
            },
            &[1],
        ),
        ("shrinks", |home| home.write("in.jsonl", prompts(1..=10)), &[1]),
        ("is emptied", |home| home.write("in.jsonl", ""), &[1]),
        (
            "is replaced",
            |home| {
                home.write("new", prompts(1..=40).replace("question", "riddle"));
                std::fs::rename(home.path("new"), home.path("in.jsonl")).unwrap();
            },
            &[1],
        ),
        ("vanishes", |home| std::fs::remove_file(home.path("in.jsonl")).unwrap(), &[1, 66]),
    ];
    side_by_side(changes, |(what, change, ends)| {
        let (home, server) = (Home::new(), Server::start(&["--latency", "30ms"]));
        home.write("in.jsonl", prompts(1..=40));
        let args = ["in.jsonl", "-o", "out.jsonl", "--concurrency", "2"];
        let run = home.spawn(&server, &args);
        server.until_billed(4);
        change(&home);
        let out = run.wait();
        assert!(ends.contains(&out.code), "{what}: {}\n{}", out.code, out.stderr);
        assert!(!home.exists("out.jsonl"), "{what}");
        // As it was, it goes on: nothing is paid twice.
        home.write("in.jsonl", prompts(1..=40));
        home.run(&server, &args).code(0);
        answered(&home.read("out.jsonl"), 1..=40);
        assert_eq!(server.paid_again(), 0, "{what}");
    });
}

#[test]
fn tables_of_spreadsheets_are_answered_as_they_are() {
    let (home, server) = (Home::new(), Server::start(&[]));
    for (name, content, said, header, first) in [
        ("df.csv", ",text,label\n0,\"Great, really\",pos\n1,Bad,neg\n", "", ",text,label,", "0,\"Great, really\",pos,"),
        ("r.csv", "\"\",\"text\"\n\"1\",\"Great\"\n\"2\",\"Bad\"\n", "", ",text,", "1,Great,"),
        ("trailing.csv", "id,text,,\n1,Great,,\n2,Bad,,\n", "", "", ""),
        (
            "semi.csv",
            "nr;text;label\n1;Gut, wirklich;pos\n2;b;neg\n",
            "reading semi.csv with `;` between fields",
            "nr,text,label,",
            "1,\"Gut, wirklich\",pos,",
        ),
        (
            "sep.csv",
            "sep=;\r\nnr;text\r\n1;Gut\r\n2;b\r\n",
            "reading sep.csv with `;` between fields",
            "nr,text,",
            "1,Gut,",
        ),
        ("pipe.csv", "nr|text\n1|Gut\n2|b\n", "reading pipe.csv with `|` between fields", "nr,text,", "1,Gut,"),
    ] {
        home.write(name, content);
        let out = home.run(&server, &[name, "-m", MODEL, "--prompt", "Mood: {{ text }}", "-o", "out.csv"]).code(0);
        let stderr = out.stderr;
        assert_eq!(stderr.matches(" between fields").count(), usize::from(!said.is_empty()), "{name}: {stderr}");
        assert!(stderr.contains(said), "{name}: {stderr}");
        let out = home.read("out.csv");
        let lines: Vec<&str> = out.lines().collect();
        assert_eq!(lines.len(), 3, "{name}: {out}");
        assert!(lines[0].starts_with(header) && lines[1].starts_with(first), "{name}: {out}");
    }
}

/// A text in UTF-16 with a byte order mark.
fn utf16(text: &str, encode: fn(u16) -> [u8; 2]) -> Vec<u8> {
    std::iter::once('\u{feff}').chain(text.chars()).collect::<String>().encode_utf16().flat_map(encode).collect()
}

#[test]
fn utf16_with_a_mark_is_read_without_a_flag() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("le.csv", utf16("id,text\r\n1,caf\u{e9} \u{1f980}\r\n", u16::to_le_bytes));
    home.write("be.jsonl", utf16(&prompts(1..=2), u16::to_be_bytes));
    home.write("plain.jsonl", &utf16(&prompts(1..=2), u16::to_le_bytes)[2..]);
    home.write("le.csv.gz", gzip(&std::fs::read(home.path("le.csv")).unwrap()));
    for table in ["le.csv", "le.csv.gz"] {
        let flags = [table, "-m", MODEL, "--prompt", "{{ text }}", "-o", "out.csv", "--fresh"];
        home.run(&server, &flags).code(0).says(&[&format!("reading {table} as UTF-16LE")]);
        assert_eq!(csv_rows(&home.read("out.csv"), b',').1[0][..2], ["1", "caf\u{e9} \u{1f980}"]);
        // The flag says the same, or is wrong.
        let flags = [&flags[..], &["--encoding", "utf-8"]].concat();
        home.run(&server, &flags).code(0);
    }
    let out = home.run(&server, &["be.jsonl"]).code(0).says(&["reading be.jsonl as UTF-16BE"]);
    answered(&out.stdout, 1..=2);
    home.run(&server, &["plain.jsonl"]).code(65).says(&["UTF-16 without a mark", "--encoding utf-16le"]);
    home.write("wide.jsonl", b"\xff\xfe\0\0{\0\0\0");
    home.run(&server, &["wide.jsonl"]).code(65).says(&["UTF-32", "iconv"]);
}

#[test]
fn table_that_comes_as_jsonl_is_told_once_with_the_flag() {
    let recorder = Recorder::start();
    for (delimiter, flag) in [(",", "csv"), ("\t", "tsv"), (";", "csv")] {
        let home = Home::new();
        let table =
            (1..=50).fold(format!("id{delimiter}prompt\n"), |table, n| table + &format!("{n}{delimiter}text\n"));
        let out = home.run_with_stdin(&recorder.url, &["-", "-m", MODEL], table.as_bytes()).code(65);
        let out = out.says(&["-:1: this is a table, but it is read as JSONL", &format!("--input-format {flag}")]);
        assert_eq!(out.stderr.matches("hint:").count(), 1, "{}", out.stderr);
        let piped = ["-", "-m", MODEL, "--input-format", flag];
        home.run_with_stdin(&recorder.url, &piped, table.as_bytes()).code(0);
    }
}

#[test]
fn wrong_delimiter_is_answered_with_the_one_that_the_header_shows() {
    let (home, recorder) = (Home::new(), Recorder::start());
    for (delimiter, shown) in [(';', "';'"), (',', "','"), ('\t', "tab")] {
        home.write("in.csv", format!("id{delimiter}text\n1{delimiter}a\n"));
        let run = |flags: &[&str]| {
            home.finish(
                home.run_command(&recorder.url, &[&["in.csv", "-m", MODEL, "--delimiter", "|"], flags].concat()),
            )
        };
        for flags in [&["--prompt", "{{ text }}"][..], &[]] {
            run(flags).code(65).says(&["in.csv:1: ", "single column: id", &format!("pass --delimiter {shown}")]);
        }
        run(&["--prompt", "Hi", "--constant-prompt"]).code(0);
    }
    home.write("one.csv", "\"Name, first\"\nAnn\n");
    let flags = ["one.csv", "-m", MODEL, "--delimiter", ";", "--prompt", "{{ row['Name, first'] }}"];
    home.finish(home.run_command(&recorder.url, &flags)).code(0);
}

#[test]
fn file_whose_name_looks_like_an_address_is_read() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    std::fs::create_dir_all(home.path("s3:/bucket")).unwrap();
    for name in ["s3://bucket/in.jsonl", "s3://bucket/in"] {
        home.write(name, prompts(1..=2));
    }
    answered(&home.run(&server, &["./s3://bucket/in.jsonl"]).code(0).stdout, 1..=2);
    home.run(&server, &["./s3://bucket/in"]).code(2).says(&["cannot tell the format", "--input-format"]);
    answered(&home.run(&server, &["./s3://bucket/in", "--input-format", "jsonl", "--fresh"]).code(0).stdout, 1..=2);
    home.run(&server, &["ftp://host/none.jsonl"]).code(66).says(&["an address that llbatch does not read"]);
}
