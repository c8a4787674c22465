//! `llbatch report`.

use std::io::Write as _;

use serde_json::{Value, json};

use crate::support::{Home, KEY, MODEL, Recorder, Server, lines, prompts};

/// The document of `report ARGS --json`.
#[track_caller]
fn report(home: &Home, args: &[&str]) -> Value {
    let mut all = vec!["report", "--json"];
    all.extend(args);
    serde_json::from_str(&home.llbatch(&all).code(0).stdout).unwrap()
}

/// A line as the service writes it into an output file.
fn answer(id: &str, content: &str, completion: u64, finish: &str, created: u64) -> String {
    let body = json!({"id": "x", "created": created, "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 1_000, "completion_tokens": completion, "total_tokens": 1_000 + completion}});
    json!({"custom_id": id, "response": {"status_code": 200, "body": body}}).to_string()
}

/// An output file and an error file of the service.
fn official() -> (String, String) {
    let output = lines(&[
        &answer("b", "fine", 10, "stop", 1_790_000_000),
        &answer("a", "cut o", 500, "length", 1_790_000_007),
        &answer("c", "long", 2_000, "stop", 1_790_000_007),
    ]);
    let errors = lines(&[
        r#"{"custom_id":"d","error":{"message":"no such model","code":"invalid_model"}}"#,
        r#"{"custom_id":"e","error":{"message":"late","code":"timeout"}}"#,
        r#"{"custom_id":"f","error":"something broke"}"#,
    ]);
    (output, errors)
}

#[test]
fn flat_results_give_the_same_report() {
    let home = Home::new();
    let server = Server::start(&["--latency", "3ms"]);
    let row = |n: u32| format!("{{\"id\":\"q{n}\",\"prompt\":\"question {n}\"}}\n");
    home.write("in.jsonl", (1..=5).map(row).collect::<String>().replace("question 2", "[[sandbox:status=400]]"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "-m", MODEL, "--max-tokens", "20"]).code(3);
    for (name, flag) in [("out.csv", "--csv-raw"), ("out.tsv", "--csv-raw"), ("flat.jsonl", "--flat")] {
        home.at(&server.url, &["fetch", "last", "-o", name, flag]).code(3);
        let reported = report(&home, &[name]);
        let job = report(&home, &["last"]);
        for part in ["rows", "tokens", "latency_ms"] {
            assert_eq!(reported[part], job[part], "{name}: {part}");
        }
        assert_eq!(reported["cost"]["usd"], job["cost"]["usd"], "{name}");
        assert_eq!(reported["errors"], job["errors"], "{name}");
    }
    home.write("other.csv", "id,text\n1,x\n");
    home.llbatch(&["report", "other.csv"]).code(65).says(&["other.csv:2", "custom_id"]);
}

#[test]
fn report_repeats_the_summary() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=5).replace("question 2", "[[sandbox:status=500,times=always]]"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json", "--retries", "0"]).code(3);
    let out = home.llbatch(&["report", "last", "--json", "--summary", "again.json"]).code(0);
    let (mut first, mut again) = (home.json("s.json"), home.json("again.json"));
    let mut printed: Value = serde_json::from_str(&out.stdout).unwrap();
    assert!(printed.as_object_mut().unwrap().remove("details").is_some_and(|details| details.is_object()));
    assert_eq!(printed, again, "but for the details it is the summary");
    assert_eq!(first["exit"]["code"], again["exit"]["code"]);
    let next = again["exit"]["next"].as_str().unwrap();
    assert!(next.starts_with("llbatch retry j-"), "{next}");
    let shown = home.llbatch(&["report", "last"]).code(0).stdout;
    assert!(
        shown.contains("state     1 row failed")
            && !shown.contains("exit")
            && shown.contains(&format!("next      {next}")),
        "{shown}"
    );
    for document in [&mut first, &mut again] {
        // Measured by another clock, and worded for another moment.
        document["estimate_off"] = Value::Null;
        document["duration_s"] = Value::Null;
        document["exit"] = Value::Null;
        // The report writes no results.
        document["output"] = Value::Null;
    }
    assert_eq!(first, again);
    let table = home.llbatch(&["report", "last"]).code(0).stdout;
    assert!(table.contains("5: 4 answered"), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn killed_job_is_reported_up_to_its_last_answer() {
    let home = Home::new();
    let server = Server::start(&["--latency", "50ms"]);
    home.write("in.jsonl", prompts(1..=40));
    let run = home.spawn(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "4"]);
    server.until_billed(12);
    assert_eq!(run.kill(), None);
    let report: Value = serde_json::from_str(&home.llbatch(&["report", "last", "--json"]).code(0).stdout).unwrap();
    assert_eq!((&report["state"], &report["exit"]["code"]), (&"interrupted".into(), &75.into()));
    let [total, good, failed, pending] =
        ["total", "succeeded", "failed", "pending"].map(|name| report["rows"][name].as_u64().unwrap());
    assert_eq!((total, failed, good + pending), (40, 0, 40));
    assert!((4..40).contains(&good), "{report}");
    let next = report["exit"]["next"].as_str().unwrap().replace("FILE", "out.jsonl");
    let words: Vec<&str> = next.split(' ').skip(1).collect();
    home.llbatch(&words).code(0);
}

#[test]
fn unknown_job_is_a_usage_error() {
    let home = Home::new();
    home.llbatch(&["report", "last"]).code(2).says(&["no job"]);
    home.llbatch(&["report", "nobody"]).code(2).says(&[
        "no job and no file `nobody`",
        "llbatch status",
        "results files",
    ]);
    home.llbatch(&["report"]).code(2);
}

#[test]
fn money_of_a_rehearsal_is_marked_in_every_view() {
    const MARK: &str = "in the sandbox: nothing was charged";
    let home = Home::new();
    home.write("in.jsonl", crate::support::prompts(1..=2));
    let args = ["run", "in.jsonl", "--sandbox", "-o", "out.jsonl", "--summary", "s.json"];
    let out = home.llbatch(&args).code(0).says(&[MARK, "(sandbox: nothing charged)"]);
    assert!(!out.stderr.is_empty());
    assert_eq!(home.json("s.json")["sandbox"], true);
    assert_eq!(report(&home, &["last"])["sandbox"], true);
    let text = home.llbatch(&["report", "last", "--html", "page.html"]).code(0).stdout;
    assert!(text.contains(MARK), "{text}");
    assert!(home.read("page.html").contains(MARK));
    let status: Value = serde_json::from_str(&home.llbatch(&["status", "--json"]).code(0).stdout).unwrap();
    assert_eq!(status["jobs"][0]["sandbox"], true);
    // A file of results does not say which service answered, and a service's job is charged.
    let server = crate::support::Server::start(&[]);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--summary", "s.json"]).code(0);
    assert_eq!(home.json("s.json")["sandbox"], false);
}

#[test]
fn output_and_error_file_make_one_report() {
    let home = Home::new();
    let (output, errors) = official();
    home.write("output.jsonl", output);
    home.write("errors.jsonl", errors);
    let document = report(&home, &["output.jsonl", "errors.jsonl"]);
    assert_eq!(
        document["rows"],
        json!({"total": 6, "succeeded": 3, "failed": 3, "pending": 0, "truncated": 1, "truncated_empty": 0, "fenced": 0, "reused": 0})
    );
    assert_eq!(
        document["tokens"],
        json!({"prompt": 3_000, "completion": 2_510, "total": 5_510, "cached": 0, "reasoning": 0})
    );
    // $0.06 per million tokens.
    assert_eq!(document["cost"]["usd"], json!(0.000_330_6));
    assert_eq!(document["cost"]["saved_usd"], json!(0));
    assert_eq!((&document["job"], &document["latency_ms"]["max"]), (&Value::Null, &Value::Null));
    assert_eq!((&document["state"], &document["exit"]["code"]), (&"partial".into(), &3.into()));
    let errors = document["errors"].as_array().unwrap();
    let errors: Vec<_> = errors.iter().map(|e| (e["code"].as_str().unwrap(), e["example"].as_str().unwrap())).collect();
    let not_found = ("not_found", "d: invalid_model: no such model");
    assert_eq!(errors, [not_found, ("server_error", "f: something broke"), ("timeout", "e: late")]);

    let details = &document["details"];
    assert_eq!(
        details["source"],
        json!({"kind": "files", "files": ["output.jsonl", "errors.jsonl"], "batch_price": false})
    );
    assert_eq!((&details["truncated"]["count"], &details["truncated"]["rows"][0]["id"]), (&json!(1), &json!("a")));
    assert_eq!(details["truncated"]["rows"][0]["answer"], "cut o");
    let model = &details["models"][0];
    assert_eq!((&model["model"], &model["answered"], &model["truncated"]), (&json!(MODEL), &json!(3), &json!(1)));
    assert_eq!(model["list_usd"], json!(0.000_330_6));
    let dearest: Vec<_> = details["dearest"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(dearest, ["c", "a", "b"]);
    assert_eq!((&details["slowest"], &details["latency_histogram"]), (&json!([]), &json!([])));
    assert_eq!(details["answer_tokens"]["max"], 2_000);
    let over_time = json!({"from": "2026-09-21T14:13:20Z", "to": "2026-09-21T14:13:28Z", "seconds_each": 1,
        "answers": [1, 0, 0, 0, 0, 0, 0, 2]});
    assert_eq!(details["over_time"], over_time);
    let failed: Vec<_> = details["failed_rows"].as_array().unwrap().iter().map(|row| &row["id"]).collect();
    assert_eq!(failed, ["d", "f", "e"], "by code, in the contract's order");

    // A model with half the price in batches.
    let batch = report(&home, &["output.jsonl", "errors.jsonl", "--batch"]);
    assert_eq!((&batch["cost"]["usd"], &batch["cost"]["saved_usd"]), (&json!(0.000_165_3), &json!(0.000_165_3)));
    let table = home.llbatch(&["report", "output.jsonl", "errors.jsonl"]).code(0).stdout;
    for part in [
        "6: 3 answered, 3 failed",
        "  truncated 1 of 3 cut off by max_tokens\n",
        "  cut off   a\n",
        "dearest   1,000 + 2,000 tokens",
        "max 2,000 tokens",
    ] {
        assert!(table.contains(part), "{part}: {table}");
    }
    assert!(!table.contains("latency") && table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

#[test]
fn compressed_files_and_stdin_are_read_alike() {
    let home = Home::new();
    let (output, _) = official();
    home.write("plain.jsonl", &output);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(output.as_bytes()).unwrap();
    home.write("packed.gz", gzip.finish().unwrap());
    home.write("packed.zst", zstd::encode_all(output.as_bytes(), 1).unwrap());
    let mut plain = report(&home, &["plain.jsonl"]);
    plain["details"]["source"] = Value::Null;
    for name in ["packed.gz", "packed.zst"] {
        let mut packed = report(&home, &[name]);
        packed["details"]["source"] = Value::Null;
        assert_eq!(packed, plain, "{name}");
        let mut command = home.command(&["report", "-", "--json"]);
        command.stdin(std::fs::File::open(home.path(name)).unwrap());
        let mut piped: Value = serde_json::from_str(&home.start(command).wait().code(0).stdout).unwrap();
        assert_eq!(piped["details"]["source"]["files"], json!(["-"]));
        piped["details"]["source"] = Value::Null;
        assert_eq!(piped, plain, "{name} through standard input");
    }
}

#[test]
fn results_of_run_give_the_report_of_its_job() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=6).replace("question 2", "[[sandbox:status=400]]"));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(3);
    let (mut job, file) = (report(&home, &["last"]), report(&home, &["out.jsonl"]));
    // The job has its input, results have no prompts.
    assert_eq!(job["details"]["failed_rows"][0]["prompt"], "[[sandbox:status=400]]");
    assert_eq!(job["details"]["truncated"]["rows"][1]["prompt"], "question 3");
    for list in ["/details/failed_rows", "/details/truncated/rows"] {
        for row in job.pointer_mut(list).unwrap().as_array_mut().unwrap() {
            row["prompt"] = Value::Null;
        }
    }
    for key in ["rows", "tokens", "cost", "errors"] {
        assert_eq!(job[key], file[key], "{key}");
    }
    for key in ["answer_tokens", "truncated", "failed_rows"] {
        assert_eq!(job["details"][key], file["details"][key], "{key}");
    }
    // The sandbox's sentences are longer than 16 tokens.
    let truncated = job["details"]["truncated"]["count"].as_u64().unwrap();
    assert!(truncated > 0 && job["details"]["truncated"]["rows"].as_array().unwrap().len() as u64 == truncated);
    assert_eq!(job["details"]["slowest"].as_array().unwrap().len(), 5);
    assert!(job["details"]["slowest"][0]["latency_ms"].as_u64() >= job["details"]["slowest"][4]["latency_ms"].as_u64());
    assert!(job["details"]["tokens_per_s"]["overall"].as_f64().unwrap() > 0.0);
    let timed: u64 =
        job["details"]["latency_histogram"].as_array().unwrap().iter().map(|bin| bin["count"].as_u64().unwrap()).sum();
    assert_eq!(timed, 5);
    assert_eq!(file["details"]["tokens_per_s"]["overall"], Value::Null);
    assert_eq!(job["details"]["failed_rows"][0]["id"], "q2");
}

#[test]
fn batch_report_shows_savings_and_next_command() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=4).replace("question 2", "[[sandbox:status=500]]"));
    let submit = |args: &[&str]| {
        let mut command = home.command(args);
        command.env("LLBATCH_SANDBOX", "validation=0s,run=1s");
        home.finish(command)
    };
    submit(&["submit", "in.jsonl", "--sandbox", "--wait", "-o", "out.jsonl"]).code(3);
    let job = report(&home, &["last"]);
    assert_eq!((&job["transport"], &job["rows"]["failed"]), (&json!("batch"), &json!(1)));
    assert!(job["exit"]["next"].as_str().unwrap().starts_with("llbatch retry j-"), "{}", job["exit"]);
    let model = &job["details"]["models"][0];
    assert_eq!((&model["usd"], &model["saved_usd"]), (&job["cost"]["usd"], &job["cost"]["saved_usd"]));
    assert!(model["saved_usd"].as_f64().unwrap() > 0.0);
    assert_eq!((&job["details"]["slowest"], &job["details"]["latency_histogram"]), (&json!([]), &json!([])));
    assert!(job["details"]["truncated"]["count"].as_u64().unwrap() > 0, "bodies are read from the batch's files");
    assert_eq!(job["cost"], report(&home, &["out.jsonl", "--batch"])["cost"]);
}

#[test]
fn running_batch_is_not_called_interrupted() {
    let home = Home::new();
    home.write("in.jsonl", prompts(1..=2));
    let mut command = home.command(&["submit", "in.jsonl", "--sandbox"]);
    command.env("LLBATCH_SANDBOX", "run=1h");
    home.finish(command).code(0);
    let job = report(&home, &["last"]);
    assert_eq!((&job["state"], &job["exit"]["code"]), (&json!("running"), &json!(75)));
    let next = job["exit"]["next"].as_str().unwrap();
    assert!(next.starts_with("llbatch fetch j-") && next.contains(" --wait"), "{next}");
}

#[test]
fn path_names_a_file_and_bare_name_a_job() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("in.jsonl", prompts(1..=2));
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--name", "nightly"]).code(0);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--name", "v1.0", "--fresh"]).code(0);
    let (output, _) = official();
    for name in ["nightly", "v1.0", "other"] {
        home.write(name, &output);
    }
    let total = |name: &str, says: &str| {
        let out = home.llbatch(&["report", name, "--json"]).code(0).says(&[says]);
        serde_json::from_str::<Value>(&out.stdout).unwrap()["rows"]["total"].as_u64().unwrap()
    };
    assert_eq!(total("nightly", "reading the job, not the file of that name (./nightly)"), 2);
    assert_eq!(total("./nightly", ""), 3);
    assert_eq!(total("v1.0", "the file, not the job of that name"), 3);
    assert_eq!(total("other", "reading the file, because no job has that name"), 3);
    std::fs::remove_file(home.path("v1.0")).unwrap();
    assert_eq!(total("v1.0", ""), 2);
    home.llbatch(&["report", "gone.jsonl"]).code(66).says(&["no such file, and no job"]);
    home.llbatch(&["report", "other", "last"]).code(66).says(&["last: there is no such file"]);
    home.llbatch(&["report", "last", "--batch"]).code(2).says(&["for results files"]);
    home.llbatch(&["report", "out.jsonl", "--html", "./out.jsonl"]).code(2).says(&["an input"]);
    home.llbatch(&["report", "last", "--html", "x", "--summary", "./x"]).code(2).says(&["both"]);
    assert!(home.read("out.jsonl").starts_with('{'));
}

#[test]
fn foreign_lines_are_named_and_a_file_without_results_is_refused() {
    let home = Home::new();
    let (output, errors) = official();
    home.write("torn.jsonl", format!("\n{output}nonsense\n{errors}{{\"custom_id\":\"z\",\"respo"));
    let out = home.llbatch(&["report", "torn.jsonl", "--json"]).code(0);
    let out = out.says(&["torn.jsonl:5: not a result line: not JSON from column 1 on (and 1 more such lines)"]);
    assert_eq!(serde_json::from_str::<Value>(&out.stdout).unwrap()["rows"]["total"], 6);
    home.write("in.jsonl", r#"{"custom_id":"a","body":{"model":"m","messages":[]}}"#);
    home.llbatch(&["report", "in.jsonl"])
        .code(65)
        .says(&["in.jsonl:1: not a result line: neither response nor error", "flat rows"]);
    home.write("empty.jsonl", "");
    assert_eq!(report(&home, &["empty.jsonl"])["rows"]["total"], 0);
    home.write("twice.jsonl", format!("{output}{output}"));
    home.llbatch(&["report", "twice.jsonl"]).code(0).says(&["twice.jsonl:4: duplicate id", "and 2 more"]);
}

/// Texts that would run, load or break out as markup.
const HOSTILE: &str =
    r#"</script></style><script>document.title='OWNED'</script><img src=x onerror="document.title='OWNED'">'"&lt;"#;

#[test]
fn outside_text_is_escaped_in_html() {
    let home = Home::new();
    let hostile = Recorder::answering(|request| {
        let content = serde_json::to_string(&format!("{HOSTILE}\u{202e}\u{0}")).unwrap();
        let body = Recorder::chat(&content).replace("\"stop\"", "\"length\"");
        match () {
            () if request.body.contains("refuse") => {
                let message = json!({"error": {"message": HOSTILE, "type": HOSTILE, "code": HOSTILE}});
                ("400 Bad Request", String::new(), message.to_string())
            }
            () => ("200 OK", String::new(), body),
        }
    });
    let row = |id: &str, prompt: &str| {
        json!({"id": format!("{id}{HOSTILE}"), "prompt": prompt, "model": HOSTILE}).to_string()
    };
    home.write("in.jsonl", lines(&[&row("1", "answer"), &row("2", "refuse")]));
    let mut command = home.run_command(&hostile.url, &["in.jsonl", "-o", "out.jsonl", "--name", HOSTILE]);
    command.stdin(std::process::Stdio::null());
    home.start(command).wait().code(3);
    home.llbatch(&["report", "last", "--html", "job.html"]).code(0);
    home.llbatch(&["report", "last", "--html", "again.html"]).code(0);
    home.llbatch(&["report", "out.jsonl", "--html", "file.html"]).code(0);
    assert_eq!(home.read("job.html"), home.read("again.html"), "the same job, the same page");
    for name in ["job.html", "file.html"] {
        let page = home.read(name);
        let lower = page.to_lowercase();
        let count = |part: &str| lower.matches(part).count();
        assert_eq!((count("<script"), count("</script"), count("<style"), count("</style")), (1, 1, 1, 1), "{name}");
        assert_eq!(
            (count("<img"), count("http://"), count("https://"), count("src=")),
            (0, 0, 0, count("img src=x")),
            "{name}"
        );
        let shown = "&lt;/script&gt;&lt;/style&gt;&lt;script&gt;document.title=&#39;OWNED&#39;";
        // Two ids, an answer that was cut off, a message, an example, the model.
        assert!(page.matches(shown).count() >= 5, "{name} shows the texts");
        assert!(page.contains("\\u{202e}\\u{0}") && !page.contains('\u{202e}') && !page.contains('\0'), "{name}");
        assert!(page.contains("default-src 'none'; style-src 'sha256-") && !page.contains("unsafe-inline"), "{name}");
        assert!(!page.contains(" style=") && !lower.contains(" onerror=\""), "{name}: the policy forbids these");
    }
}

#[test]
fn html_page_shows_the_settings_and_not_the_key() {
    let (home, server) = (Home::new(), Server::start(&[]));
    home.write("in.csv", "id,text\na,one\nb,two\n");
    let flags = [
        "--prompt",
        "Sort {{ text }}",
        "--system",
        "Be brief",
        "-m",
        MODEL,
        "--max-tokens",
        "7",
        "--temperature",
        "0.2",
        "--concurrency",
        "2",
    ];
    home.run(&server, &[&["in.csv", "-o", "out.jsonl"], &flags[..]].concat()).code(0);
    home.llbatch(&["report", "last", "--html", "page.html"]).code(0);
    let page = home.read("page.html");
    for (name, value) in [
        ("concurrency", "2"),
        ("endpoint", "chat"),
        ("max_tokens", "7"),
        ("model", MODEL),
        ("prompt", "Sort {{ text }}"),
        ("system", "Be brief"),
        ("temperature", "0.2"),
    ] {
        assert!(page.contains(&format!("{name}</th><td class=\"x\">{value}</td>")), "{name}: {page}");
    }
    assert!(!page.contains(KEY));
    home.write("rows.jsonl", prompts(1..=2));
    home.run(&server, &["rows.jsonl", "-o", "out.jsonl"]).code(0);
    let settings = report(&home, &["last"])["details"]["source"]["settings"].clone();
    assert_eq!(settings, json!({"concurrency": "auto", "endpoint": "chat"}));
}

#[test]
fn html_page_without_rows_is_complete() {
    let home = Home::new();
    home.write("empty.jsonl", "");
    home.llbatch(&["report", "empty.jsonl", "--html", "page.html", "--summary", "s.json"]).code(0);
    assert!(!home.state().exists(), "a file needs no state directory");
    let page = home.read("page.html");
    assert!(page.ends_with("</html>\n") && page.contains("of 0 rows"));
    for absent in ["<svg", "NaN", "id=\"failed\"", "Cost by model"] {
        assert!(!page.contains(absent), "{absent}");
    }
    assert_eq!(home.json("s.json")["cost"]["usd"], 0);
    let html = home.llbatch(&["report", "empty.jsonl", "--json", "--html", "missing/page.html"]).code(74);
    assert!(html.stdout.contains("\"exit\": 74"), "the one document is the error: {}", html.stdout);
}

/// Removes the totals that were kept with a job, and returns how many there were.
fn forget_totals(home: &Home, job: &str) -> usize {
    let db = rusqlite::Connection::open(home.state().join(format!("jobs/{job}.db"))).unwrap();
    db.execute("DELETE FROM totals", []).unwrap()
}

#[test]
fn kept_totals_are_those_of_a_fold() {
    let row = |n: u32| {
        let prompt = match n {
            3 | 17 => format!("[[sandbox:status=400]] {n}"),
            _ => format!("question {n} that may get a long answer"),
        };
        json!({"custom_id": format!("q{n}"), "body": {"model": MODEL, "max_tokens": if n.is_multiple_of(5) { 3 } else { 90 },
            "messages": [{"role": "user", "content": prompt}]}})
        .to_string()
            + "\n"
    };
    let (home, server) = (Home::new(), Server::quick(&[]));
    home.write("in.jsonl", (1..=40).map(row).collect::<String>());
    home.run(&server, &["in.jsonl", "-o", "out.jsonl"]).code(3);
    let id = home.at(&server.url, &["submit", "in.jsonl", "--name", "b"]).code(0).stdout.trim_end().to_owned();
    home.at(&server.url, &["fetch", "b", "--wait", "--poll", "50ms", "-o", "batch.jsonl"]).code(3);
    let first = home.llbatch(&["status", "--json", "--offline"]).code(0).stdout;
    let jobs = serde_json::from_str::<Value>(&first).unwrap()["jobs"].clone();
    let run = jobs[1]["job"].as_str().unwrap().to_owned();
    for job in [&run, &id] {
        let (kept, page) = (report(&home, &[job]), home.llbatch(&["report", job]).code(0).stdout);
        let results = |name| {
            home.at(&server.url, &["fetch", job, "-o", name, "--summary", "s.json"]).code(3);
            let mut summary = home.json("s.json");
            summary["output"] = Value::Null;
            (home.read(name), summary)
        };
        let again = (job == &id).then(|| results("again.jsonl"));
        assert_eq!(forget_totals(&home, job), 1, "{job}");
        assert_eq!((report(&home, &[job]), home.llbatch(&["report", job]).code(0).stdout), (kept, page), "{job}");
        assert_eq!(again, (job == &id).then(|| results("anew.jsonl")), "{job}");
    }
    // What is sent again changes the totals.
    home.at(&server.url, &["retry", &run]).code(3);
    let after = report(&home, &[&run]);
    assert_eq!(after["rows"]["failed"], 2, "{after}");
    forget_totals(&home, &run);
    assert_eq!(report(&home, &[&run]), after);
}
