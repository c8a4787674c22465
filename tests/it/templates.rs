//! `--prompt`, `--system` and the flags that concern rows and their requests. A recorder shows the requests.

use crate::support::{Home, Recorder, Server, lines};

const TABLE: &str = "id,text\na,good\nb,bad\nc,so so\n";

/// The commands that make requests of rows, each without its inputs.
const COMMANDS: [&[&str]; 4] = [&["run", "-o", "o.csv"], &["check"], &["submit"], &["prepare", "-o", "shards"]];

/// Runs `args` against a recorder, one request at a time, and returns the bodies in the order of the rows.
#[track_caller]
fn sent(home: &Home, args: &[&str]) -> Vec<String> {
    let recorder = Recorder::start();
    let all = [&["--fresh", "--concurrency", "1", "-o", "out.jsonl"], args].concat();
    home.finish(home.run_command(&recorder.url, &all)).code(0);
    recorder.bodies()
}

/// The content of each body's last message.
fn contents(bodies: &[String]) -> Vec<String> {
    let content = |body: &String| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap().to_owned()
    };
    bodies.iter().map(content).collect()
}

#[test]
fn a_prompt_that_names_no_field_is_refused_by_every_command() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("t.csv", TABLE);
    home.write("prompt.txt", "Classify: {{ text }}\n");
    for (prompt, hint) in [
        ("Classify: {text}", "write a field as {{ text }}; the first row has: id, text"),
        ("Classify: $text", "{{ text }}"),
        ("prompt.txt", "--prompt @prompt.txt reads the template from that file"),
        ("Classify: {{ 'text' }}", "{{ text }}"),
    ] {
        for command in COMMANDS {
            let args = [command, &["t.csv", "-m", "m/x", "--prompt", prompt]].concat();
            home.at(&server.url, &args).code(2).says(&["--prompt names no field", hint, "--constant-prompt"]);
        }
    }
    assert_eq!(server.requests(), 0);
    assert!(!home.exists("shards") && !home.exists("o.csv"));
}

#[test]
fn a_prompt_may_be_constant_if_that_is_meant() {
    let home = Home::new();
    home.write("t.csv", TABLE);
    home.write("one.csv", "id,text\na,good\n");
    let same = ["t.csv", "-m", "m/x", "--prompt", "Tell a joke"];
    assert_eq!(contents(&sent(&home, &[&same[..], &["--constant-prompt"]].concat())), ["Tell a joke"; 3]);
    assert_eq!(contents(&sent(&home, &["one.csv", "-m", "m/x", "--prompt", "Tell a joke"])), ["Tell a joke"]);
    // The requests differ by their system messages.
    let bodies = sent(&home, &[&same[..], &["--system", "Be {{ text }}"]].concat());
    assert!(bodies[2].contains(r#"{"role":"system","content":"Be so so"}"#), "{}", bodies[2]);
}

#[test]
fn templates_and_system_messages_are_read_from_files() {
    let home = Home::new();
    home.write("t.csv", TABLE);
    home.write("prompt.txt", "\u{feff}Line 1: {{ text }}\n\nLine 3\r\n");
    home.write("system.txt", "Be brief.\n");
    let bodies = sent(&home, &["t.csv", "-m", "m/x", "--prompt", "@prompt.txt", "--system", "@system.txt"]);
    assert_eq!(contents(&bodies)[0], "Line 1: good\n\nLine 3");
    assert!(bodies[0].contains(r#"{"role":"system","content":"Be brief."}"#), "{}", bodies[0]);
    let at = sent(&home, &["t.csv", "-m", "m/x", "--prompt", "@@you {{ text }}"]);
    assert_eq!(contents(&at), ["@you good", "@you bad", "@you so so"]);
    let missing = home.llbatch(&["check", "t.csv", "-m", "m/x", "--prompt", "@nosuch.txt"]).code(66);
    missing.says(&["--prompt @nosuch.txt: the file cannot be read", "--prompt '@@…'"]);
    // The text counts, not where it stands.
    home.write("other.txt", "Line 1: {{ text }}\n\nLine 3\n");
    let out = home.llbatch(&["check", "t.csv", "-m", "m/x", "--prompt", "@other.txt"]).code(0);
    assert!(out.stdout.contains("3 rows"), "{}", out.stdout);
}

#[test]
fn placeholders_of_other_languages_beside_a_field_are_named() {
    let home = Home::new();
    home.write("t.csv", TABLE);
    let args = ["check", "t.csv", "-m", "m/x", "--prompt", "{id}: {{ text }}", "--system", "Be $text"];
    home.llbatch(&args).code(0).says(&[
        "--prompt: `{id}` is sent as it stands; write {{ id }} for the field",
        "--system: `$text` is sent as it stands; write {{ text }} for the field",
    ]);
    let args = ["check", "t.csv", "-m", "m/x", "--prompt", "{{ text }}", "--set", r#"user="{{ id }}""#];
    home.llbatch(&args).code(0).says(&["--set user: `{{ id }}` is sent as it stands: only --prompt and --system"]);
}

#[test]
fn every_column_has_a_way_to_be_written_that_the_messages_show() {
    let home = Home::new();
    let server = Server::start(&[]);
    home.write("forms.csv", "id,Review Text,größe,本文,product-id,in\n1,Good,42,内容です,p7,x\n");
    home.write("years.jsonl", lines(&[r#"{"country":"Peru","2023":"4.1"}"#, r#"{"country":"Chile","2023":"2.2"}"#]));
    let prompt = r#"{{ row["Review Text"] }} {{ größe }} {{ 本文 }} {{ row["product-id"] }} {{ in }}"#;
    let bodies = sent(&home, &["forms.csv", "-m", "m/x", "--prompt", prompt]);
    assert_eq!(contents(&bodies), ["Good 42 内容です p7 x"]);
    let bodies = sent(&home, &["years.jsonl", "-m", "m/x", "--prompt", r#"{{ country }}: {{ row["2023"] }}"#]);
    assert_eq!(contents(&bodies), ["Peru: 4.1", "Chile: 2.2"]);
    for (file, prompt, hint) in [
        ("forms.csv", "{{ Review Text }}", r#"{{ row["Review Text"] }}"#),
        ("forms.csv", "{{ product-id }}", r#"{{ row["product-id"] }}"#),
        ("years.jsonl", "Growth of {{ country }} was {{ 2023 }}.", r#"{{ row["2023"] }}"#),
    ] {
        for command in COMMANDS {
            let args = [command, &[file, "-m", "m/x", "--prompt", prompt]].concat();
            home.at(&server.url, &args).code(2).says(&[hint]);
        }
    }
    let lacks = home.at(&server.url, &["run", "forms.csv", "-m", "m/x", "--prompt", "{{ Review ~ id }}"]).code(65);
    lacks.says(&["names the field `Review`", r#"written in brackets: {{ row["Review Text"] }}"#]);
    assert_eq!(server.requests(), 0);
}

#[test]
fn an_unknown_filter_is_one_fault_of_the_command() {
    let home = Home::new();
    home.write("t.jsonl", lines(&[r#"{"id":"a","text":" x ","note":null}"#, r#"{"id":"b","text":" y ","note":"n"}"#]));
    for (prompt, what) in [
        ("{{ text | shout }}", "--prompt: line 1: filter shout is unknown"),
        ("{{ text.shout() }}", "--prompt: line 1: string has no method named shout"),
        // Only the second row gets there.
        ("{{ text }}{% if note %}{{ note | shout }}{% endif %}", "--prompt: line 1: filter shout is unknown"),
    ] {
        for command in COMMANDS {
            let out = home.llbatch(&[command, &["t.jsonl", "-m", "m/x", "--prompt", prompt]].concat()).code(2);
            assert_eq!(out.stderr.matches("shout").count(), 1, "{}", out.stderr);
            out.says(&[what, "text[:100]", "trim"]);
        }
    }
    let prompt = "{{ text.strip() }} {{ text | truncate(100) | trim }} {{ note or '-' }}";
    assert_eq!(contents(&sent(&home, &["t.jsonl", "-m", "m/x", "--prompt", prompt])), ["x x -", "y y n"]);
}

#[test]
fn a_null_is_not_sent_as_a_word_by_accident() {
    let home = Home::new();
    home.write("t.jsonl", lines(&[r#"{"id":"a","note":null}"#, r#"{"id":"b","note":"n"}"#]));
    let out = home.llbatch(&["run", "t.jsonl", "-m", "m/x", "--prompt", "Note: {{ note }}", "-o", "o.jsonl"]).code(65);
    out.says(&["t.jsonl:1: --prompt would send the word \"null\": `note` is null in this row", "{{ note or '' }}"]);
    for (prompt, expected) in [
        ("Note: {{ note or '' }}", ["Note: ", "Note: n"]),
        ("Note: {{ note | default('', true) }}", ["Note: ", "Note: n"]),
        ("Note: {{ note | tojson }}", ["Note: null", "Note: \"n\""]),
    ] {
        assert_eq!(contents(&sent(&home, &["t.jsonl", "-m", "m/x", "--prompt", prompt])), expected);
    }
}

#[test]
fn a_template_that_is_too_deep_for_the_engine_is_a_usage_error() {
    let home = Home::new();
    home.write("t.csv", TABLE);
    for part in ["1+", "not ", "text.", "1|", "text["] {
        home.write("deep.txt", format!("{{{{ {}text }}}}", part.repeat(60_000)));
        let out = home.llbatch(&["check", "t.csv", "-m", "m/x", "--prompt", "@deep.txt"]).code(2);
        out.says(&["--prompt: line 1: an expression of more than 400 operators"]);
    }
    home.write("deep.txt", format!("{{% if text %}}{}{{% endif %}}", "{% elif id %}".repeat(30_000)));
    home.llbatch(&["check", "t.csv", "-m", "m/x", "--prompt", "@deep.txt"]).code(2).says(&["more than 400 branches"]);
    // As many as there may be.
    home.write("long.txt", format!("{{{{ text{} }}}}", " ~ id".repeat(400)));
    home.llbatch(&["check", "t.csv", "-m", "m/x", "--prompt", "@long.txt"]).code(0);
}

/// A row that says more than its template uses.
const OWN: &str = r#"{"id":"q0","prompt":"one","model":"m/own","max_tokens":60,"system":"Be brief.","stop":null}"#;

#[test]
fn with_a_template_a_rows_own_parameters_are_used_only_if_asked_for() {
    let home = Home::new();
    home.write("p.jsonl", lines(&[OWN]));
    let base = ["p.jsonl", "--prompt", "Q: {{ prompt }}"];
    let sent = |more: &[&str]| sent(&home, &[&base[..], more].concat()).remove(0);
    assert_eq!(
        sent(&["-m", "m/flag", "--max-tokens", "9"]),
        r#"{"model":"m/flag","messages":[{"role":"user","content":"Q: one"}],"max_tokens":9}"#
    );
    let system = r#"{"role":"system","content":"Be brief."}"#;
    assert_eq!(
        sent(&["-m", "m/flag", "--max-tokens", "9", "--row-params"]),
        format!(r#"{{"messages":[{system},{{"role":"user","content":"Q: one"}}],"model":"m/own","max_tokens":60}}"#)
    );
    assert_eq!(
        sent(&["--max-tokens", "9", "--system", "Flag", "--row-params=model"]),
        r#"{"messages":[{"role":"system","content":"Flag"},{"role":"user","content":"Q: one"}],"model":"m/own","max_tokens":9}"#
    );
    assert_eq!(
        sent(&["-m", "m/flag", "--row-params=system,max_tokens"]),
        format!(r#"{{"model":"m/flag","messages":[{system},{{"role":"user","content":"Q: one"}}],"max_tokens":60}}"#)
    );
}

#[test]
fn parameters_that_are_not_used_are_named_once_with_the_flag() {
    let home = Home::new();
    let recorder = Recorder::start();
    home.write("p.jsonl", lines(&[OWN, OWN.replace("q0", "q1").as_str()]));
    let base = ["p.jsonl", "--prompt", "Q: {{ prompt }}"];
    let note =
        "model, max_tokens, system (with --prompt they are data); --row-params=model,max_tokens,system uses them";
    for command in [&["run", "-o", "o.jsonl"][..], &["prepare", "-o", "shards"], &["run", "--dry-run"], &["check"]] {
        let out = home.at(&recorder.url, &[command, &base, &["-m", "m/flag"]].concat()).code(0);
        let all = out.stdout + &out.stderr;
        assert_eq!(all.matches(note).count(), 1, "{all}");
    }
    let none = home.at(&recorder.url, &[&["run"][..], &base].concat()).code(65);
    none.says(&["p.jsonl:1: the row has no model", "--row-params=model to use the rows' own `model`"]);
    // A column that the template uses is data, and so is an empty one.
    home.write("cars.csv", "id,model,stop,seed\na,Golf,Bonn,\nb,Polo,Köln,\n");
    let cars = ["check", "cars.csv", "-m", "m/flag", "--prompt", "Car: {{ model }}"];
    let out = home.llbatch(&cars).code(0);
    assert!(out.stdout.contains("not used as parameters: stop (with --prompt they are data)"), "{}", out.stdout);
    home.llbatch(&[&cars[..], &["--row-params=prompt"]].concat()).code(2).says(&["\"prompt\" is not a parameter"]);
}

#[test]
fn without_a_template_rows_set_their_parameters_and_the_opening_line_names_them() {
    let home = Home::new();
    let server = Server::quick(&[]);
    let row = r#"{"id":"q","prompt":"one","system":"Be brief.","max_tokens":16,"temperature":0.5}"#;
    home.write("p.jsonl", lines(&[row]));
    let out = home.run(&server, &["p.jsonl", "-m", "meta-llama/Llama-3.2-3B-Instruct-Turbo", "-o", "o.jsonl"]).code(0);
    out.says(&["; rows set max_tokens, temperature, system"]);
    let submit = ["submit", "p.jsonl", "-m", "meta-llama/Llama-3.2-3B-Instruct-Turbo", "--again"];
    home.at(&server.url, &submit).code(0).says(&["; rows set max_tokens, temperature, system"]);
    // In a table `n` is rarely the number of answers.
    home.write("t.csv", "id,prompt,n,top_k\na,one,3,7\n");
    let args = ["t.csv", "-m", "m/x"];
    assert_eq!(sent(&home, &args), [r#"{"model":"m/x","messages":[{"role":"user","content":"one"}],"top_k":7}"#]);
    let out = home.llbatch(&["check", "t.csv", "-m", "m/x"]).code(0);
    assert!(out.stdout.contains("not used as parameters: n (a table may mean something else)"), "{}", out.stdout);
    let bodies = sent(&home, &[&args[..], &["--row-params=n"]].concat());
    assert_eq!(bodies, [r#"{"model":"m/x","messages":[{"role":"user","content":"one"}],"n":3,"top_k":7}"#]);
}

#[test]
fn a_flag_that_no_row_uses_is_named_with_the_way_to_replace_what_rows_say() {
    let home = Home::new();
    let recorder = Recorder::start();
    let row = |id: &str| {
        format!(
            r#"{{"custom_id":"{id}","body":{{"model":"gpt-4o-mini","messages":[{{"role":"system","content":"S"}},{{"role":"user","content":"x"}}],"max_tokens":5}}}}"#
        )
    };
    home.write("oai.jsonl", lines(&[&row("r0"), &row("r1")]));
    let flags = ["oai.jsonl", "-m", "m/flag", "--max-tokens", "9", "--system", "T", "--temperature", "0.5"];
    for command in [&["run", "-o", "o.jsonl"][..], &["prepare", "-o", "shards"], &["check"]] {
        let out = home.at(&recorder.url, &[command, &flags].concat()).code(0);
        let all = out.stdout + &out.stderr;
        for note in [
            "-m is not used: every row names a model (gpt-4o-mini); --override model=m/flag replaces it",
            "--max-tokens is not used: every row sets `max_tokens` itself; --override max_tokens=… replaces it",
            "--system is not used: every row has a system message of its own",
        ] {
            assert_eq!(all.matches(note).count(), 1, "{note}\n{all}");
        }
        assert!(!all.contains("--temperature is not used"), "{all}");
    }
    // A default of the config file is there for all inputs.
    std::fs::create_dir_all(home.path("home/config/llbatch")).unwrap();
    home.write("home/config/llbatch/config.toml", "[run]\nmodel = \"m/usual\"\n");
    let out = home.llbatch(&["check", "oai.jsonl"]).code(0);
    assert!(!out.stdout.contains("is not used"), "{}", out.stdout);
}

#[test]
fn override_replaces_what_rows_say() {
    let home = Home::new();
    home.write(
        "in.jsonl",
        lines(&[
            r#"{"custom_id":"a","body":{"model":"gpt-4o-mini","messages":[{"role":"user","content":"x"}],"max_completion_tokens":5,"x":1}}"#,
            r#"{"id":"b","prompt":"y","model":"gpt-4o-mini","max_tokens":5,"temperature":0.10}"#,
        ]),
    );
    for model in ["model=m/new", r#"model="m/new""#] {
        let bodies = sent(&home, &["in.jsonl", "--override", model, "--override", "max_tokens=7"]);
        assert_eq!(
            bodies,
            [
                r#"{"messages":[{"role":"user","content":"x"}],"x":1,"model":"m/new","max_tokens":7}"#,
                r#"{"model":"m/new","messages":[{"role":"user","content":"y"}],"temperature":0.10,"max_tokens":7}"#,
            ]
        );
    }
    let check = |more: &[&str]| home.llbatch(&[&["check", "in.jsonl", "-m", "m/x"], more].concat());
    check(&["--override", "seed=high"]).code(2).says(&["--override seed: \"high\" is not JSON", "quotes of its own"]);
    check(&["--override", "messages=[]"]).code(2).says(&["--override cannot set \"messages\""]);
    check(&["--override", "seed=1", "--seed", "2"]).code(2).says(&["`seed` is set twice"]);
    check(&["--override", "model=\"\""]).code(2).says(&["is not the name of a model"]);
    let out = check(&["--override", "model=m/new", "--json"]).code(0);
    assert!(out.stdout.contains(r#""model": "m/new""#) && !out.stdout.contains("gpt-4o"), "{}", out.stdout);
}
