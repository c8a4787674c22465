//! Parquet files: rows in, results out.

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use parquet::data_type::{ByteArray, ByteArrayType, DataType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::parser::parse_message_type;

use crate::support::{Home, MODEL, ObjectServer, Recorder, Server, rows, until};

/// A column of a file.
enum Column {
    Text(Vec<Option<String>>),
    Number(Vec<Option<i64>>),
    /// A list of structs, each with a role and a content.
    Messages(Vec<Vec<(&'static str, String)>>),
}

fn levels<T>(values: &[Option<T>]) -> Vec<i16> {
    values.iter().map(|value| i16::from(value.is_some())).collect()
}

impl Column {
    fn len(&self) -> usize {
        match self {
            Self::Text(values) => values.len(),
            Self::Number(values) => values.len(),
            Self::Messages(values) => values.len(),
        }
    }

    /// Its type, as the library spells it.
    fn declared(&self, name: &str) -> String {
        match self {
            Self::Text(_) => format!("optional binary {name} (UTF8);"),
            Self::Number(_) => format!("optional int64 {name};"),
            Self::Messages(_) => format!(
                "optional group {name} (LIST) {{ repeated group list {{ optional group element {{
                    optional binary role (UTF8); optional binary content (UTF8); optional binary name (UTF8); }} }} }}"
            ),
        }
    }

    /// Writes these rows of it.
    fn write(&self, rows: Range<usize>, out: &mut SerializedRowGroupWriter<'_, File>) {
        match self {
            Self::Text(values) => {
                let values = &values[rows];
                let texts: Vec<ByteArray> = values.iter().flatten().map(|text| ByteArray::from(&**text)).collect();
                leaf::<ByteArrayType>(out, &texts, &levels(values), None);
            }
            Self::Number(values) => {
                let values = &values[rows];
                leaf::<Int64Type>(out, &values.iter().flatten().copied().collect::<Vec<_>>(), &levels(values), None);
            }
            Self::Messages(values) => {
                let values = &values[rows];
                let all: Vec<&(&str, String)> = values.iter().flatten().collect();
                let rep = values.iter().flat_map(|row| (0..row.len()).map(|at| i16::from(at > 0)));
                let rep: Vec<i16> = rep.collect();
                let roles: Vec<ByteArray> = all.iter().map(|(role, _)| ByteArray::from(*role)).collect();
                let texts: Vec<ByteArray> = all.iter().map(|(_, text)| ByteArray::from(&**text)).collect();
                for (texts, def) in [(&roles[..], 4), (&texts, 4), (&[], 3)] {
                    leaf::<ByteArrayType>(out, texts, &vec![def; rep.len()], Some(&rep));
                }
            }
        }
    }
}

fn leaf<T: DataType>(out: &mut SerializedRowGroupWriter<'_, File>, values: &[T::T], def: &[i16], rep: Option<&[i16]>) {
    let mut column = out.next_column().unwrap().unwrap();
    column.typed::<T>().write_batch(values, Some(def), rep).unwrap();
    column.close().unwrap();
}

/// Writes a file in row groups of `group` rows.
fn write(path: &Path, columns: &[(&str, Column)], group: usize) {
    let fields: String = columns.iter().map(|(name, column)| column.declared(name)).collect();
    let schema = Arc::new(parse_message_type(&format!("message rows {{ {fields} }}")).unwrap());
    let properties = Arc::new(WriterProperties::builder().build());
    let mut writer = SerializedFileWriter::new(File::create(path).unwrap(), schema, properties).unwrap();
    let rows = columns.iter().map(|(_, column)| column.len()).max().unwrap();
    for from in (0..rows).step_by(group) {
        let mut out = writer.next_row_group().unwrap();
        for (_, column) in columns {
            column.write(from..(from + group).min(rows), &mut out);
        }
        out.close().unwrap();
    }
    writer.close().unwrap();
}

fn text(values: impl IntoIterator<Item = impl Into<String>>) -> Column {
    Column::Text(values.into_iter().map(|value| Some(value.into())).collect())
}

/// A file of questions, by number.
fn questions(path: &Path, count: i64, group: usize) {
    let columns = [
        ("id", Column::Text((1..=count).map(|n| Some(format!("q{n}"))).collect())),
        ("question", Column::Text((1..=count).map(|n| Some(format!("Question {n}?"))).collect())),
        ("stars", Column::Number((1..=count).map(|n| (n % 3 != 0).then_some(n)).collect())),
    ];
    write(path, &columns, group);
}

#[test]
fn rows_reach_templates_and_come_back_in_order() {
    let (home, service) = (Home::new(), Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat("\"ok\""))));
    questions(&home.path("in.parquet"), 7, 3);
    let run = ["in.parquet", "-m", MODEL, "--prompt", "{{ question }} {{ stars or 0 }}", "-o", "out.jsonl", "--flat"];
    home.finish(home.run_command(&service.url, &run)).code(0);
    let bodies = service.bodies().concat();
    assert!(bodies.contains("\"Question 4? 4\""), "{bodies}");
    let results: Vec<serde_json::Value> =
        home.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(results.len(), 7);
    for (n, row) in results.iter().enumerate() {
        assert_eq!(row["id"], format!("q{}", n + 1));
        assert_eq!(row["custom_id"], row["id"]);
    }
    assert_eq!((&results[0]["stars"], &results[2]["stars"]), (&1.into(), &serde_json::Value::Null));
    let keys: Vec<&String> = results[0].as_object().unwrap().keys().collect();
    assert_eq!(keys[..5], ["id", "question", "stars", "custom_id", "model"]);
}

#[test]
fn messages_are_lists_of_structs_or_json_text() {
    let (home, service) = (Home::new(), Recorder::answering(|_| ("200 OK", String::new(), Recorder::chat("\"ok\""))));
    let talk = |n: usize| vec![("system", "Be brief.".to_owned()), ("user", format!("Talk {n}"))];
    let columns = [("messages", Column::Messages((1..=3).map(talk).collect())), ("source", text(["a", "b", "c"]))];
    write(&home.path("data.parquet"), &columns, 2);
    home.finish(home.run_command(&service.url, &["data.parquet", "-m", MODEL, "-o", "out.jsonl"])).code(0);
    let mut bodies = service.bodies();
    bodies.sort();
    let body = |n: usize| {
        format!(
            r#"{{"model":"{MODEL}","messages":[{{"role":"system","content":"Be brief."}},{{"role":"user","content":"Talk {n}"}}]}}"#
        )
    };
    assert_eq!(bodies, [body(1), body(2), body(3)], "fields that are null, and other columns, are not sent");
    let spelled = r#"[{"role": "user", "content": "Talk"}]"#;
    write(&home.path("text.parquet"), &[("messages", text([spelled]))], 1);
    home.finish(home.run_command(&service.url, &["text.parquet", "-m", MODEL, "-o", "o.jsonl"])).code(0);
    assert!(service.bodies().last().unwrap().contains(r#""content": "Talk""#));
}

#[test]
fn problems_name_rows_and_damage_is_refused_before_anything_is_sent() {
    let (home, server) = (Home::new(), Server::start(&[]));
    let columns =
        [("prompt", Column::Text(vec![Some("a".into()), None, Some("c".into())])), ("id", text(["x", "y", "x"]))];
    write(&home.path("bad.parquet"), &columns, 2);
    let out = home.run(&server, &["bad.parquet", "-m", MODEL, "-o", "o.jsonl"]).code(65);
    drop(
        out.says(&["bad.parquet:row 2: the column `prompt` is empty", "bad.parquet:row 1, again at bad.parquet:row 3"]),
    );
    let check = home.llbatch(&["check", "bad.parquet", "-m", MODEL, "--json"]).code(65).stdout;
    let check: serde_json::Value = serde_json::from_str(&check).unwrap();
    let place = &check["problems"][0];
    assert_eq!((&place["file"], &place["line"]), (&"bad.parquet".into(), &2.into()), "{check}");
    home.run(&server, &["bad.parquet", "-m", MODEL, "-o", "o.jsonl", "--skip-invalid"]).code(3);
    assert_eq!(rows(&home.read("o.jsonl")).len(), 3);

    questions(&home.path("whole.parquet"), 50, 20);
    let whole = std::fs::read(home.path("whole.parquet")).unwrap();
    let before = server.requests();
    let prompt = ["-m", MODEL, "--prompt", "{{ question }}", "-o", "p.jsonl"];
    let (mut broken, middle) = (whole.clone(), whole.len() / 3);
    broken[60..middle].fill(0xee);
    for (name, bytes, says) in [
        ("cut.parquet", &whole[..whole.len() - 100], "is cut off"),
        ("empty.parquet", &[][..], "the file is empty"),
        ("text.parquet", b"question\nWhy?\n", "this is not a Parquet file"),
        ("broken.parquet", &broken, "the Parquet data is damaged near row"),
    ] {
        home.write(name, bytes);
        drop(home.run(&server, &[&[name], &prompt[..]].concat()).code(65).says(&[says]));
    }
    home.write("named.jsonl", &whole);
    drop(home.run(&server, &[&["named.jsonl"], &prompt[..]].concat()).code(65).says(&["--input-format parquet"]));
    let named = ["named.jsonl", "--input-format", "parquet", "--limit", "2"];
    home.run(&server, &[&named, &prompt[..]].concat()).code(0);
    assert_eq!(server.requests(), before + 2);
    let piped = home.run_with_stdin(&server.url, &[&["-", "--input-format", "parquet"], &prompt[..]].concat(), &whole);
    drop(piped.code(2).says(&["cannot be read from a pipe", "name the file"]));
    let unnamed = home.run_with_stdin(&server.url, &[&["-"], &prompt[..]].concat(), &whole);
    drop(unnamed.code(2).says(&["cannot be read from a pipe"]));
    drop(home.run(&server, &[&["whole.parquet", "--encoding", "utf-16le"], &prompt[..]].concat()).code(2));
    drop(home.run(&server, &[&["whole.parquet", "--delimiter", ";"], &prompt[..]].concat()).code(2));
    drop(home.run(&server, &[&["gone.parquet"], &prompt[..]].concat()).code(66));
}

#[test]
fn jobs_of_parquet_files_resume_are_sharded_and_go_by_batches() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    questions(&home.path("in.parquet"), 40, 7);
    let prompt = ["in.parquet", "-m", MODEL, "--prompt", "{{ question }}", "--max-tokens", "8"];
    home.run(&server, &[&prompt[..], &["--limit", "10", "-o", "ten.jsonl"]].concat()).code(0);
    assert_eq!(rows(&home.read("ten.jsonl")).len(), 10);
    let sample = home.run(&server, &[&prompt[..], &["--sample", "5", "-o", "five.jsonl"]].concat()).code(0);
    drop(sample.says(&["5 of 40"]));
    let (first, second) = (["--shard", "1/2", "-o", "1.jsonl"], ["--shard", "2/2", "-o", "2.jsonl"]);
    home.run(&server, &[&prompt[..], &first].concat()).code(0);
    home.run(&server, &[&prompt[..], &second].concat()).code(0);
    home.llbatch(&["merge", "in.parquet", "1.jsonl", "2.jsonl", "-o", "all.jsonl"]).code(0);
    let ids: Vec<String> = rows(&home.read("all.jsonl")).into_iter().map(|row| row.id).collect();
    assert_eq!(ids, (1..=40).map(|n| format!("q{n}")).collect::<Vec<_>>());
    let before = server.requests();
    home.run(&server, &[&prompt[..], &["-o", "whole.jsonl", "--max-cost", "0.00000001"]].concat()).code(5);
    home.run(&server, &[&prompt[..], &["-o", "whole.jsonl"]].concat()).code(0);
    assert_eq!(server.requests(), before + 40, "every row once");
    // A batch job reads its own copy of the input.
    home.at(&server.url, &[&["submit"], &prompt[..], &["--name", "b"]].concat()).code(0);
    std::fs::remove_file(home.path("in.parquet")).unwrap();
    home.at(&server.url, &["fetch", "b", "--wait", "--poll", "50ms", "-o", "batch.csv"]).code(0);
    let table = home.read("batch.csv");
    assert!(table.starts_with("id,question,stars,custom_id,model,content,"), "{table}");
    assert_eq!(table.lines().count(), 41);
}

/// The rows of a file of results: each column with its value as text.
pub fn read(path: &Path) -> Vec<Vec<(String, String)>> {
    let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let row = |row: parquet::record::Row| {
        row.get_column_iter().map(|(name, value)| (name.clone(), value.to_string())).collect::<Vec<_>>()
    };
    file.get_row_iter(None).unwrap().map(|found| row(found.unwrap())).collect()
}

pub fn schema(path: &Path) -> String {
    let file = SerializedFileReader::new(File::open(path).unwrap()).unwrap();
    let mut text = Vec::new();
    parquet::schema::printer::print_schema(&mut text, file.metadata().file_metadata().schema());
    String::from_utf8(text).unwrap()
}

pub fn column(rows: &[Vec<(String, String)>], name: &str) -> Vec<String> {
    rows.iter().map(|row| row.iter().find(|(other, _)| other == name).unwrap().1.clone()).collect()
}

#[test]
fn results_have_the_fields_with_their_types_and_the_fixed_columns() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    questions(&home.path("in.parquet"), 9, 4);
    let prompt = ["-m", MODEL, "--prompt", "{{ question }}", "--fresh"];
    let run = |args: &[&str]| home.run(&server, &[args, &prompt].concat());
    drop(run(&["in.parquet", "-o", "out.parquet"]).code(0).says(&["out.parquet"]));
    let found = schema(&home.path("out.parquet"));
    let columns: Vec<&str> = found.lines().filter_map(|line| line.trim().strip_suffix(';')).collect();
    let expected = [
        "OPTIONAL BYTE_ARRAY id (UTF8)",
        "OPTIONAL BYTE_ARRAY question (UTF8)",
        "OPTIONAL INT64 stars",
        "OPTIONAL BYTE_ARRAY custom_id (STRING)",
        "OPTIONAL BYTE_ARRAY model (STRING)",
        "OPTIONAL BYTE_ARRAY content (STRING)",
        "OPTIONAL BYTE_ARRAY finish_reason (STRING)",
        "OPTIONAL INT64 prompt_tokens",
        "OPTIONAL INT64 completion_tokens",
        "OPTIONAL FIXED_LEN_BYTE_ARRAY (9) cost_usd (DECIMAL(20,9))",
        "OPTIONAL INT32 attempts",
        "OPTIONAL INT64 latency_ms",
        "OPTIONAL BYTE_ARRAY error (STRING)",
    ];
    assert_eq!(columns, expected);
    let rows = read(&home.path("out.parquet"));
    assert_eq!(column(&rows, "stars")[..3], ["1", "2", "null"]);
    drop(run(&["in.parquet", "--flat", "-o", "out.jsonl"]).code(0));
    for (row, line) in rows.iter().zip(home.read("out.jsonl").lines()) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        for name in ["id", "content", "finish_reason", "model"] {
            let value = &row.iter().find(|(other, _)| other == name).unwrap().1;
            assert_eq!(*value, line[name].to_string(), "{name}");
        }
    }
    let report: serde_json::Value =
        serde_json::from_str(&home.llbatch(&["report", "out.parquet", "--json"]).code(0).stdout).unwrap();
    assert_eq!((&report["rows"]["succeeded"], &report["models"][0]["model"]), (&9.into(), &MODEL.into()));
    // A second pass over results.
    drop(run(&["out.parquet", "-o", "two.parquet"]).code(65).says(&["--prefix"]));
    drop(run(&["out.parquet", "-o", "two.parquet", "--prefix", "b_", "--timing", "--usage-columns"]).code(0));
    let names: Vec<String> = read(&home.path("two.parquet"))[0].iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(names[..13], rows[0].iter().map(|(name, _)| name.clone()).collect::<Vec<_>>());
    assert_eq!(names.last().unwrap(), "b_reasoning_tokens");
}

#[test]
fn failed_rows_go_to_their_file_and_a_stopped_run_leaves_a_partial_one() {
    let (home, server) = (Home::new(), Server::quick(&["--fault", "status=400,contains=Question 5,times=always"]));
    questions(&home.path("in.parquet"), 9, 4);
    let run = ["in.parquet", "-m", MODEL, "--prompt", "{{ question }}", "-o", "out.parquet", "--errors", "bad.parquet"];
    drop(home.run(&server, &run).code(3));
    let (good, bad) = (read(&home.path("out.parquet")), read(&home.path("bad.parquet")));
    assert_eq!((good.len(), bad.len()), (8, 1));
    assert!(column(&bad, "error")[0].starts_with("\"invalid_request: "), "{bad:?}");
    assert_eq!((column(&bad, "stars"), column(&bad, "content")), (vec!["5".to_owned()], vec!["null".to_owned()]));
    assert!(column(&good, "error").iter().all(|error| error == "null"));
    home.write("old.parquet", "old");
    let stop =
        ["in.parquet", "-m", MODEL, "--max-tokens", "8", "--prompt", "Again {{ question }}", "-o", "old.parquet"];
    drop(home.run(&server, &[&stop[..], &["--max-cost", "0.00001"]].concat()).code(5));
    assert_eq!(home.read("old.parquet"), "old");
    let partial = read(&home.path("old.parquet.partial"));
    assert_eq!(partial.len(), 9);
    assert!(column(&partial, "error").iter().any(|error| error.starts_with("\"budget: ")), "{partial:?}");
}

#[test]
fn fields_of_json_lines_get_the_type_that_holds_all_their_values() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let row = |rest: &str| format!(r#"{{"prompt":"x","max_tokens":4,"model":"{MODEL}"{rest}}}"#);
    let rows = [
        row(r#","whole":1,"part":1,"flag":true,"mixed":1,"list":[1],"long":9223372036854775808"#),
        row(r#","whole":null,"part":0.5,"flag":false,"mixed":"a""#),
        row(""),
    ];
    home.write("in.jsonl", rows.join("\n"));
    drop(home.run(&server, &["in.jsonl", "-o", "out.parquet"]).code(0));
    let found = schema(&home.path("out.parquet"));
    for line in [
        "OPTIONAL INT64 whole;",
        "OPTIONAL DOUBLE part;",
        "OPTIONAL BOOLEAN flag;",
        "OPTIONAL BYTE_ARRAY mixed (",
        "OPTIONAL BYTE_ARRAY list (",
        "OPTIONAL BYTE_ARRAY long (",
        "OPTIONAL INT64 max_tokens;",
        "OPTIONAL BYTE_ARRAY model (",
    ] {
        assert!(found.contains(line), "{line}\n{found}");
    }
    let rows = read(&home.path("out.parquet"));
    assert_eq!(column(&rows, "part"), ["1.0", "0.5", "null"]);
    assert_eq!(column(&rows, "mixed"), ["\"1\"", "\"a\"", "null"]);
    assert_eq!(column(&rows, "list")[0], "\"[1]\"");
    // Batches write the same.
    drop(home.at(&server.url, &["submit", "in.jsonl", "--wait", "--poll", "50ms", "-o", "batch.parquet"]).code(0));
    assert_eq!(schema(&home.path("batch.parquet")), found);
}

#[test]
fn embeddings_are_lists_of_numbers() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    let model = "BAAI/bge-base-en-v1.5";
    home.write("in.jsonl", "{\"input\":\"a\"}\n{\"input\":\"b\"}\n");
    drop(home.run(&server, &["in.jsonl", "--endpoint", "embeddings", "-m", model, "-o", "out.parquet"]).code(0));
    assert!(schema(&home.path("out.parquet")).contains("OPTIONAL FLOAT element;"));
    for vector in column(&read(&home.path("out.parquet")), "content") {
        let numbers = vector.trim_matches(['[', ']']).split(", ").filter(|number| number.parse::<f32>().is_ok());
        assert!(numbers.count() > 1, "{vector}");
    }
}

#[test]
fn merged_parts_are_the_whole() {
    let (home, server) = (Home::new(), Server::quick(&[]));
    questions(&home.path("in.parquet"), 11, 4);
    let prompt = ["in.parquet", "-m", MODEL, "--prompt", "{{ question }}"];
    for (shard, out) in [("1/3", "1.parquet"), ("2/3", "2.parquet"), ("3/3", "3.parquet")] {
        drop(home.run(&server, &[&prompt[..], &["--shard", shard, "-o", out]].concat()).code(0));
    }
    drop(home.run(&server, &[&prompt[..], &["-o", "whole.parquet"]].concat()).code(0));
    let without_latency = |name: &str| {
        let mut rows = read(&home.path(name));
        for row in &mut rows {
            row.retain(|(column, _)| column != "latency_ms");
        }
        rows
    };
    let merge = |parts: &[&str], code| drop(home.llbatch(&[&["merge", "in.parquet"], parts].concat()).code(code));
    merge(&["3.parquet", "1.parquet", "2.parquet", "-o", "all.parquet"], 0);
    assert_eq!(without_latency("all.parquet"), without_latency("whole.parquet"));
    assert_eq!(schema(&home.path("all.parquet")), schema(&home.path("whole.parquet")));
    merge(&["3.parquet", "1.parquet", "-o", "some.parquet"], 3);
    let some = read(&home.path("some.parquet"));
    assert_eq!(column(&some, "error")[1], "\"missing: no part has this row\"");
    assert_eq!((&*column(&some, "id")[1], &*column(&some, "custom_id")[1]), ("\"q2\"", "\"q2\""));
    // Into another form, and out of it.
    merge(&["1.parquet", "2.parquet", "3.parquet", "-o", "all.csv"], 0);
    assert_eq!(home.read("all.csv").lines().count(), 12);
    drop(home.run(&server, &[&prompt[..], &["-o", "whole.jsonl"]].concat()).code(0));
    merge(&["whole.jsonl", "-o", "from.parquet"], 0);
    assert_eq!(
        column(&read(&home.path("from.parquet")), "content"),
        column(&read(&home.path("whole.parquet")), "content")
    );
}

#[test]
fn killed_runs_resume_and_their_file_has_each_row_once() {
    let server = Server::start(&["--latency", "70ms", "--jitter", "0.6"]);
    let home = Home::new();
    questions(&home.path("in.parquet"), 60, 7);
    let prompt = ["in.parquet", "-m", MODEL, "--prompt", "{{ question }}", "--concurrency", "3"];
    let args = [&prompt[..], &["-o", "out.parquet"]].concat();
    let mut kills = 0;
    while kills < 6 && !home.exists("out.parquet") {
        let mut run = home.spawn(&server, &args);
        let some = server.bill() + 3 + kills;
        until("some answers", || server.bill() >= some || !run.is_running());
        if run.kill().is_some() {
            break;
        }
        kills += 1;
    }
    if !home.exists("out.parquet") {
        drop(home.run(&server, &args).code(0));
    }
    let rows = read(&home.path("out.parquet"));
    assert_eq!(column(&rows, "id"), (1..=60).map(|n| format!("\"q{n}\"")).collect::<Vec<_>>());
    assert!(column(&rows, "error").iter().all(|error| error == "null") && kills > 1, "{kills} kills");
    assert!(server.paid_again() <= kills * 3, "only what was in flight");
    let left: Vec<_> = std::fs::read_dir(home.path(".")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains(".llbatch-")), "{left:?}");
}

#[test]
fn object_is_read_in_ranges_of_one_version() {
    let (home, server, store) = (Home::new(), Server::quick(&[]), ObjectServer::start());
    questions(&home.path("in.parquet"), 40, 7);
    let args =
        |input, output| ["run", input, "-m", MODEL, "--prompt", "{{ question }}", "--flat", "-o", output, "--fresh"];
    home.at(&server.url, &args("in.parquet", "file.jsonl")).code(0);
    let ids = |name: &str| {
        let lines = home.read(name);
        let id =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_str().map(str::to_owned);
        lines.lines().map(id).collect::<Vec<_>>()
    };
    store.put("/bucket/in.parquet", std::fs::read(home.path("in.parquet")).unwrap());
    home.finish(store.s3(home.command_at(&server.url, &args("s3://bucket/in.parquet", "object.jsonl")))).code(0);
    assert_eq!((ids("object.jsonl").len(), ids("object.jsonl")), (40, ids("file.jsonl")));
    let ranged = store.state().heads.iter().any(|head| head.starts_with("GET") && head.contains("if-match"));
    assert!(ranged, "{}", store.state().heads.concat());
}
