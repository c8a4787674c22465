use super::*;
use crate::error::Exit;

fn chat(content: &str, finish_reason: &str) -> String {
    let content = serde_json::to_string(content).unwrap();
    format!(r#"{{"choices":[{{"message":{{"content":{content}}},"finish_reason":"{finish_reason}"}}]}}"#)
}

fn rules(spec: &RuleSpec) -> AnswerRules {
    AnswerRules::new(spec).unwrap()
}

fn schema(text: &str) -> AnswerRules {
    rules(&RuleSpec { schema: Some(text.to_owned()), ..RuleSpec::default() })
}

const PERSON: &str = r#"{"type": "object", "required": ["name"], "properties":
    {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}}}"#;

#[test]
fn answers_are_held_against_the_schema() {
    let rules = schema(PERSON);
    let cases = [
        (r#"{"name": "Ann", "age": 3}"#, None),
        (" {\"name\": \"Ann\"}\n", None),
        ("```json\n{\"name\": \"Ann\"}\n```", None),
        ("{}", Some("the answer breaks the schema: \"name\" is a required property (rule /required)")),
        (
            r#"{"name": "Ann", "age": "three"}"#,
            Some("the answer breaks the schema at /age: value is not of type \"integer\" (rule /properties/age/type)"),
        ),
        ("Ann is three", Some("the answer is not JSON (line 1, column 1)")),
        (r#"{"name": "An"#, Some("the answer is JSON that is cut off")),
        ("```json\n{\"name\": \"Ann\"}", Some("the answer is not JSON (line 1, column 1)")),
        ("", Some("the answer is empty")),
    ];
    for (content, expected) in cases {
        let violation = rules.violation(&chat(content, "stop"));
        assert_eq!(violation.as_ref().map(|error| error.message.as_str()), expected, "{content:?}");
        assert!(violation.is_none_or(|error| error.code == ErrorCode::InvalidAnswer));
    }
}

#[test]
fn wrappers_of_apis_are_taken_off() {
    for wrapped in [
        format!(r#"{{"name": "person", "strict": true, "schema": {PERSON}}}"#),
        format!(r#"{{"type": "json_schema", "json_schema": {{"name": "person", "schema": {PERSON}}}}}"#),
        format!(r#"{{"type": "json_schema", "json_schema": {{"schema": {PERSON}}}}}"#),
        format!(r#"{{"type": "json_schema", "schema": {PERSON}}}"#),
        format!(r#"{{"type": "json_object", "schema": {PERSON}}}"#),
        format!(r#"{{"json_schema": {{"name": "person", "schema": {PERSON}}}}}"#),
        format!(r#"{{"schema": {PERSON}}}"#),
        format!(r#"{{"response_format": {{"type": "json_schema", "json_schema": {{"schema": {PERSON}}}}}}}"#),
    ] {
        assert_eq!(Schema::new(&wrapped).unwrap().as_str(), Schema::new(PERSON).unwrap().as_str(), "{wrapped}");
    }
    assert_eq!(Schema::new(r#"{"type": "json_schema", "json_schema": {"schema": false}}"#).unwrap().as_str(), "false");
    // A schema with a property called `schema` is a schema.
    let own = r#"{"type": "object", "properties": {"schema": {"type": "string"}}}"#;
    assert!(Schema::new(own).unwrap().as_str().contains("properties"));
}

#[test]
fn schema_that_cannot_be_used_is_a_usage_error() {
    for (text, expected) in [
        ("{", "--json-schema: the file is not JSON"),
        ("[]", "--json-schema: a schema is a JSON object, or true or false"),
        (r#"{"type": "strnig"}"#, "--json-schema: the schema is invalid at \"/type\""),
        (
            r#"{"$ref": "https://example.com/a.json"}"#,
            "--json-schema: the schema refers to something outside of itself",
        ),
        (r#"{"$ref": "other.json#/a"}"#, "--json-schema: the schema refers to something outside of itself"),
        (r##"{"$ref": "#/$defs/none"}"##, "--json-schema: a `$ref` of the schema leads nowhere: Pointer"),
        (r#"{"$schema": "https://example.com/own", "type": "object"}"#, "--json-schema: its `$schema` is unknown"),
        (r#"{"type": "json_schema"}"#, "--json-schema: the wrapper around the schema has no `schema`"),
        (r#"{"type": "json_schema", "json_schema": "person"}"#, "--json-schema: the wrapper around the schema"),
        (
            r#"{"type": "json_schema", "json_schema": {"type": "object"}}"#,
            "--json-schema: the wrapper around the schema",
        ),
        (r#"{"name": "person", "schema": null}"#, "--json-schema: the wrapper around the schema"),
        (r#"{"type": "json_object"}"#, "--json-schema: the wrapper around the schema"),
        (
            r#"{"response_format": {"type": "json_schema", "schema": []}}"#,
            "--json-schema: the wrapper around the schema",
        ),
        (r#"{"pattern": "("}"#, "--json-schema: the schema is invalid at \"/pattern\""),
    ] {
        let error = Schema::new(text).unwrap_err();
        assert_eq!(error.exit, Exit::Usage, "{text}");
        assert!(error.to_string().starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn choices_are_compared_without_white_space_around() {
    let rules = rules(&RuleSpec { choices: vec!["yes".to_owned(), "no".to_owned()], ..RuleSpec::default() });
    for content in ["yes", " no\n"] {
        assert_eq!(rules.violation(&chat(content, "stop")), None, "{content:?}");
    }
    for content in ["Yes", "yes.", ""] {
        let error = rules.violation(&chat(content, "stop")).unwrap();
        assert_eq!(error.message, "the answer is none of --choices yes, no", "{content:?}");
    }
}

#[test]
fn a_cut_off_answer_fails_only_where_whole_ones_are_asked_for() {
    let complete = rules(&RuleSpec { complete: true, ..RuleSpec::default() });
    assert_eq!(complete.violation(&chat("{}", "length")).unwrap().code, ErrorCode::Truncated);
    assert_eq!(complete.violation(&chat("{}", "stop")), None);
    assert_eq!(schema("{}").violation(&chat("{}", "length")), None);
    // Completeness comes before everything else.
    let both = rules(&RuleSpec { complete: true, schema: Some("false".to_owned()), ..RuleSpec::default() });
    assert_eq!(both.violation(&chat("{}", "length")).unwrap().code, ErrorCode::Truncated);
    assert_eq!(both.violation(&chat("{}", "stop")).unwrap().code, ErrorCode::InvalidAnswer);
}

#[test]
fn every_choice_must_pass_but_those_that_failed() {
    let rules = schema("{\"type\": \"integer\"}");
    let choice =
        |content: &str, end: &str| format!(r#"{{"message":{{"content":"{content}"}},"finish_reason":"{end}"}}"#);
    let body = |choices: &[String]| format!("{{\"choices\":[{}]}}", choices.join(","));
    assert_eq!(rules.violation(&body(&[choice("1", "stop"), choice("2", "stop")])), None);
    assert_eq!(rules.violation(&body(&[choice("1", "stop"), choice("", "error")])), None);
    let error = rules.violation(&body(&[choice("1", "stop"), choice("x", "stop")])).unwrap();
    assert_eq!(error.message, "choice 2 of 2: the answer is not JSON (line 1, column 1)");
    for empty in [r#"{"message":{"content":null},"finish_reason":"stop"}"#, r#"{"message":null}"#] {
        let error = rules.violation(&body(&[choice("1", "stop"), empty.to_owned()])).unwrap();
        assert_eq!(error.message, "choice 2 of 2: the answer has no text", "{empty}");
    }
    assert!(rules.violation(&body(&[choice("1", "stop"), choice("", "content_filter")])).is_some());
}

#[test]
fn tool_calls_and_text_completions_are_judged_too() {
    let rules = schema("{\"type\": \"integer\"}");
    let call = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a"}]},"finish_reason":"tool_calls"}]}"#;
    assert_eq!(rules.violation(call).unwrap().message, "the answer calls a tool");
    assert_eq!(rules.violation(r#"{"choices":[{"text":"7","finish_reason":"stop"}]}"#), None);
    let parts = r#"{"choices":[{"message":{"content":[{"type":"text","text":"1"},{"type":"text","text":"2"}]}}]}"#;
    assert_eq!(rules.violation(parts), None);
}

#[test]
fn a_rejected_answer_names_its_rule() {
    let choices = rules(&RuleSpec { choices: vec!["(rule )".to_owned(), "no: yes".to_owned()], ..RuleSpec::default() });
    let complete = rules(&RuleSpec { complete: true, ..RuleSpec::default() });
    let tool = r#"{"choices":[{"message":{"content":null,"tool_calls":[{"id":"a"}]}}]}"#;
    let silent = r#"{"choices":[{"message":{"content":null,"reasoning":"hm"}}]}"#;
    let two = r#"{"choices":[{"message":{"content":"{\"name\":\"a\"}"}},{"message":{"content":"{}"}}]}"#;
    for (rules, body, rule) in [
        (&choices, chat("perhaps", "stop"), "--choices"),
        (&complete, chat("per", "length"), "--complete"),
        (&schema(PERSON), chat("{}", "stop"), "--json-schema: /required"),
        (&schema(PERSON), chat(r#"{"name":7}"#, "stop"), "--json-schema: /properties/name/type"),
        (&schema(PERSON), two.to_owned(), "--json-schema: /required"),
        (&schema("false"), chat("{}", "stop"), "--json-schema: "),
        (&schema(PERSON), chat("Ann", "stop"), "--json-schema: JSON"),
        (&schema(PERSON), chat("{", "stop"), "--json-schema: JSON"),
        (&schema(PERSON), tool.to_owned(), "--json-schema: text"),
        (&choices, silent.to_owned(), "--choices: text"),
    ] {
        let error = rules.violation(&body).unwrap();
        assert_eq!(error.rule.as_deref(), Some(rule), "{error:?}");
    }
}

#[test]
fn a_pattern_that_explodes_ends() {
    let rules = schema(r#"{"type": "string", "pattern": "^(a+)+\\1$"}"#);
    let text = format!("\"{}b\"", "a".repeat(60));
    assert!(rules.violation(&chat(&text, "stop")).is_some());
}

#[test]
fn deep_json_is_refused_and_does_not_overflow() {
    let rules = schema("{}");
    let deep = "[".repeat(100_000);
    let why = |answer: &str| rules.violation(&chat(answer, "stop")).map(|error| error.message);
    assert_eq!(why(&deep).as_deref(), Some("the answer is JSON that is cut off"));
    // These are JSON, and beyond what llbatch can hold.
    let whole = format!("{}{}", "[".repeat(140), "]".repeat(140));
    for (answer, bound) in [(&*whole, "recursion limit exceeded"), ("1e400", "number out of range")] {
        let expected = format!("the answer is JSON that llbatch cannot check: {bound}");
        assert!(why(answer).unwrap().starts_with(&expected), "{:?}", why(answer));
    }
    assert_eq!(why("[1e308]"), None);
}

#[test]
fn formats_are_annotations_in_every_draft() {
    for draft in ["http://json-schema.org/draft-04/schema#", "http://json-schema.org/draft-07/schema#", ""] {
        let draft = if draft.is_empty() { String::new() } else { format!(r#""$schema": "{draft}", "#) };
        let rules = schema(&format!(r#"{{{draft}"type": "string", "format": "date"}}"#));
        assert_eq!(rules.violation(&chat("\"yesterday\"", "stop")), None, "{draft}");
        assert!(rules.violation(&chat("7", "stop")).is_some());
    }
}

#[test]
fn choice_that_a_filter_ended_without_a_text_is_filtered() {
    let answer = |content: &str| {
        let other = chat(content, "content_filter").replace(r#"{"choices":["#, "").replace("]}", "");
        chat(r#"{"name": "Ann"}"#, "stop").replace("]}", &format!(",{other}]}}"))
    };
    let code = |content| schema(PERSON).violation(&answer(content)).map(|error| error.code);
    assert_eq!(code(" "), Some(ErrorCode::Filtered));
    assert_eq!(code("half"), Some(ErrorCode::InvalidAnswer));
    assert_eq!(code(r#"{"name": "Bob"}"#), None);
}
