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
