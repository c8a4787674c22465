//! `llbatch check` and `llbatch models`: prices and problems before anything is sent.

use serde_json::Value;

use crate::support::{Home, Server, raw_codes};

const TURBO: &str = "meta-llama/Llama-3.2-3B-Instruct-Turbo";
const REFUSED: &str = "deepseek-ai/DeepSeek-R1";

fn row(id: &str, model: &str, max_tokens: Option<u64>) -> String {
    let bound = max_tokens.map(|n| format!(",\"max_tokens\":{n}")).unwrap_or_default();
    format!("{{\"id\":\"{id}\",\"prompt\":\"{}\",\"model\":\"{model}\"{bound}}}\n", "word ".repeat(200))
}

#[test]
fn document_has_the_members_of_the_contract() {
    let home = Home::new();
    let text: String = [row("a", TURBO, Some(100)), row("b", TURBO, Some(100)), row("c", REFUSED, None)].concat();
    home.write("in.jsonl", text);
    let document: Value = serde_json::from_str(&home.llbatch(&["check", "in.jsonl", "--json"]).code(0).stdout).unwrap();
    assert_eq!(
        (&document["rows"], &document["problem_count"], &document["batches"]),
        (&3.into(), &0.into(), &2.into())
    );
    let models = document["models"].as_array().unwrap();
    assert_eq!((&models[0]["model"], &models[0]["batch"]), (&TURBO.into(), &"discounted".into()));
    assert_eq!((&models[0]["rows"], &models[0]["completion_max"]), (&2.into(), &200.into()));
    assert_eq!(models[0]["as_of"], "2025-07");
    // $0.06 a million tokens, half of it in a batch.
    let prompt = models[0]["prompt_tokens"].as_u64().unwrap();
    assert!((350..700).contains(&prompt), "{prompt}");
    let usd = |value: &Value| value.to_string().parse::<f64>().unwrap();
    let most = (prompt + 200) as f64 * 0.06 / 1e6;
    assert!((usd(&models[0]["realtime_usd"]) - most).abs() < 1e-9, "{document}");
    assert!((usd(&models[0]["batch_usd"]) - most / 2.0).abs() < 1e-9, "{document}");
    assert_eq!((&models[1]["batch"], &models[1]["batch_usd"]), (&"refused".into(), &Value::Null));
    assert_eq!(document["cost"]["batch_usd"]["max"], Value::Null, "a batch of a model that is refused has no price");
    assert!(usd(&document["cost"]["realtime_usd"]["min"]) < usd(&document["cost"]["realtime_usd"]["max"]));
    let advice = document["advice"].to_string();
    for part in ["batches save up to", "not served in batches", REFUSED, "without max_tokens"] {
        assert!(advice.contains(part), "{part}: {advice}");
    }
    assert!(!home.state().join("jobs").exists(), "a check leaves nothing behind");
}

#[test]
fn all_problems_are_listed_and_exit_65() {
    let home = Home::new();
    home.write("in.jsonl", format!("{}{{nonsense\n{}", row("a", TURBO, None), row("a", TURBO, None)));
    let out = home.llbatch(&["estimate", "in.jsonl"]).code(65);
    assert!(out.stdout.contains("in.jsonl:2:") && out.stdout.contains("in.jsonl:3"), "{}", out.stdout);
    let document: Value =
        serde_json::from_str(&home.llbatch(&["check", "in.jsonl", "--json"]).code(65).stdout).unwrap();
    assert_eq!(document["problem_count"], 2);
    assert_eq!((&document["problems"][1]["line"], &document["problems"][1]["id"]), (&3.into(), &"a".into()));
    home.write("empty.jsonl", "");
    let text = home.llbatch(&["check", "empty.jsonl"]).code(65).stdout;
    assert_eq!(text.matches("empty.jsonl:1: the input has no rows").count(), 1, "{text}");
    let json: serde_json::Value =
        serde_json::from_str(&home.llbatch(&["check", "empty.jsonl", "--json"]).code(65).stdout).unwrap();
    assert_eq!((&json["problem_count"], &json["problems"][0]["code"]), (&1.into(), &"no_rows".into()), "{json}");
    home.llbatch(&["check", "missing.jsonl"]).code(66);
    home.llbatch(&["check"]).code(2);
}

#[test]
fn batch_count_equals_the_batches_made() {
    let home = Home::new();
    let line = |n| format!("{{\"id\":\"{n}\",\"prompt\":\"x\",\"model\":\"{TURBO}\"}}\n");
    let rows = (0..50_001).map(line).collect::<Vec<_>>().concat();
    home.write("in.jsonl", rows);
    let document: Value = serde_json::from_str(&home.llbatch(&["check", "in.jsonl", "--json"]).code(0).stdout).unwrap();
    assert_eq!(document["batches"], 2);
    home.llbatch(&["prepare", "in.jsonl", "-o", "shards/"]).code(0);
    assert_eq!(std::fs::read_dir(home.path("shards")).unwrap().count(), 2);
}

#[test]
fn model_figures_carry_their_source() {
    let home = Home::new();
    let models = |args: &[&str]| -> Vec<Value> {
        let out = home.llbatch(&[&["models", "--json"], args].concat()).code(0);
        let mut document: Value = serde_json::from_str(&out.stdout).unwrap();
        serde_json::from_value(document["models"].take()).unwrap()
    };
    let known = models(&["LLAMA-3.2-3b-instruct-TURBO"]);
    assert_eq!(known.len(), 1);
    assert_eq!((&known[0]["input"], &known[0]["batch_input"]), (&0.06.into(), &0.03.into()));
    assert_eq!((&known[0]["source"], &known[0]["as_of"]), (&"model card".into(), &"2025-07".into()));

    // The service's own list, kept; the config file wins over it.
    let server = Server::start(&[]);
    let out = home.llbatch(&["models", "--refresh", "--base-url", &server.url]).code(0);
    assert!(out.stderr.contains("listed by http://127.0.0.1"), "{}", out.stderr);
    let turbo = models(&["--base-url", &server.url, "3.3-70B"]);
    assert_eq!(
        (&turbo[0]["source"], &turbo[0]["input"]),
        (&"the service's list".into(), &1.04.into()),
        "noise is rounded"
    );
    assert_eq!(turbo[0]["batch"], "discounted", "what the list does not say stays");
    assert_ne!(models(&["3.3-70B"])[0]["source"], "the service's list", "another service's prices are not ours");
    home.write("c.toml", "[models.\"meta-llama/Llama-3.3-70B-Instruct-Turbo\"]\ninput = 9.5\noutput = 9.5\n");
    let own = models(&["--base-url", &server.url, "--config", "c.toml", "3.3-70B"]);
    assert_eq!((&own[0]["source"], &own[0]["input"]), (&"config file".into(), &9.5.into()));

    home.llbatch(&["models", "--refresh"]).code(75).says(&["cannot connect"]);
    home.llbatch(&["models", "nobody/has-this"]).code(0).says(&["no known model"]);
}

#[test]
fn row_over_the_context_length_is_invalid_before_sending() {
    let home = Home::new();
    let server = Server::start(&[]);
    // A context of 131,072 tokens: the prompt alone is over it, the next one with its answer, the third fits.
    let row = |id: &str, words: usize, max_tokens: u64| {
        format!(
            "{{\"id\":\"{id}\",\"prompt\":\"{}\",\"model\":\"{TURBO}\",\"max_tokens\":{max_tokens}}}\n",
            "word ".repeat(words)
        )
    };
    home.write("in.jsonl", [row("a", 160_000, 10), row("b", 60_000, 100_000), row("c", 60_000, 1000)].concat());
    for command in ["check", "run", "submit"] {
        let out = home.llbatch(&[command, "in.jsonl", "--base-url", &server.url]).code(65);
        let said = if command == "check" { out.stdout } else { out.stderr };
        assert!(
            said.contains("in.jsonl:1:") && said.contains("in.jsonl:2:") && !said.contains("in.jsonl:3:"),
            "{said}"
        );
        assert!(said.contains("exceed the 131072 that"), "{said}");
    }
    // Rows that are skipped are the same ones everywhere, and none of them is sent.
    let skip = |args: &[&str]| home.at(&server.url, &[args, &["--skip-invalid"]].concat()).code(3);
    for args in [&["run", "in.jsonl"][..], &["submit", "in.jsonl", "--wait", "--poll", "50ms"]] {
        skip(&[args, &["-o", "out.jsonl"]].concat());
        assert_eq!(raw_codes(&home.read("out.jsonl")), ["context_length", "context_length", "ok"], "{args:?}");
    }
    assert_eq!(server.bill(), 2);
    skip(&["prepare", "in.jsonl", "-o", "batch.jsonl"]);
    let prepared = home.read("batch.jsonl");
    assert!(prepared.lines().count() == 1 && prepared.contains("\"c\""), "{}", prepared.lines().count());
    let asked = server.requests();
    // Too long to be counted, and too long all the same.
    home.write("huge.jsonl", row("e", 1, 1).replace("word ", &"a".repeat(9_000_000)));
    let said = home.llbatch(&["check", "huge.jsonl"]).code(65).stdout;
    assert!(said.contains("exceed the 131072 that"), "{said}");
    assert_eq!(server.requests(), asked);
    // A doubtful estimate is a notice, not a problem.
    home.write("near.jsonl", [row("c", 60_000, 1000), row("d", 60_000, 68_000)].concat());
    let out = home.llbatch(&["check", "near.jsonl", "--json"]).code(0);
    let document: Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(document["models"][0]["near_context"], 1, "{document}");
    let text = home.llbatch(&["submit", "near.jsonl", "--dry-run"]).code(0).stdout;
    assert!(text.contains(&format!("1 row of {TURBO}: near the model's context limit")), "{text}");
    home.write("c.toml", format!("[models.\"{TURBO}\"]\ncontext = 1000000\n"));
    home.llbatch(&["check", "in.jsonl", "--config", "c.toml"]).code(0);
}

#[test]
fn dry_run_counts_with_the_given_tokenizer() {
    let home = Home::new();
    home.write("in.jsonl", format!("{{\"prompt\":\"x\",\"model\":\"{TURBO}\"}}\n"));
    home.write("t.json", "{\"model\": {\"type\": \"WordPiece\"}}");
    for command in ["run", "submit"] {
        let with = |args: &[&str]| home.llbatch(&[&[command, "in.jsonl"], args].concat());
        with(&["--dry-run", "--tokenizer", "t.json"]).code(2).says(&["--tokenizer t.json: "]);
        with(&["--dry-run", "--tokenizer", "gone.json"]).code(66).says(&["gone.json: cannot be read"]);
        // It is for looking only: what is sent is bounded by its bytes.
        with(&["--tokenizer", "t.json"]).code(2).says(&["--dry-run"]);
    }
}

#[test]
fn estimates_learn_from_the_service_and_not_from_servers_on_this_machine() {
    let home = Home::new();
    let row = |n: u32| {
        format!(
            "{{\"id\":\"q{n}\",\"prompt\":\"question {n}, \u{65e5}\u{672c}\u{8a9e}\",\"model\":\"{TURBO}\",\"max_tokens\":5}}\n"
        )
    };
    home.write("in.jsonl", (1..=250).map(row).collect::<String>());
    let tokens = || {
        let document: Value =
            serde_json::from_str(&home.llbatch(&["check", "in.jsonl", "--json"]).code(0).stdout).unwrap();
        document["tokens"]["prompt"].as_u64().unwrap()
    };
    let before = tokens();
    home.llbatch(&["run", "in.jsonl", "--sandbox", "-o", "out.jsonl"]).code(0);
    assert_eq!(tokens(), before);
    // So does a server on this machine that is named by its URL.
    let server = Server::start(&[]);
    home.run(&server, &["in.jsonl", "-o", "out.jsonl", "--concurrency", "64"]).code(0);
    let at = |url: &str| {
        let document = home.llbatch(&["check", "in.jsonl", "--json", "--base-url", url]).code(0).stdout;
        serde_json::from_str::<Value>(&document).unwrap()["tokens"]["prompt"].as_u64().unwrap()
    };
    assert_eq!((tokens(), at(&server.url)), (before, before));
    // A service teaches about its own counts, until its job is removed.
    let one = "https://one.example/v1";
    let index = rusqlite::Connection::open(home.state().join("ledger.db")).unwrap();
    let id: String = index.query_row("SELECT id FROM job ORDER BY seq DESC LIMIT 1", [], |row| row.get(0)).unwrap();
    index.execute("UPDATE job SET spec = json_set(spec, '$.service', ?1) WHERE id = ?2", [one, &id]).unwrap();
    index.execute("INSERT INTO estimate VALUES (?1, ?2, 250, 1000, 2000)", [&*id, TURBO]).unwrap();
    drop(index);
    let doctor = |said| assert!(home.llbatch(&["doctor", "--base-url", one]).code(0).stdout.contains(said), "{said}");
    doctor("corrected for 1 model");
    assert_eq!((at(one), at("https://two.example/v1"), at(&server.url)), (2 * before, before, before));
    home.llbatch(&["clean", &id]).code(0);
    doctor("uncorrected");
    assert_eq!(at(one), before);
}
