use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::error::Exit;

const BARE: Params = Params {
    endpoint: Endpoint::Chat,
    model: None,
    prompt: None,
    system: None,
    id: None,
    max_tokens: None,
    temperature: None,
    top_p: None,
    seed: None,
    stop: Vec::new(),
    json_schema: None,
    schema_name: None,
    choices: Vec::new(),
    asks_choices: false,
    complete: false,
    set: Vec::new(),
    constant_prompt: false,
    row_params: None,
    overrides: Vec::new(),
    images: Vec::new(),
    local_files: None,
    max_file: None,
    work_dir: None,
    files: None,
};

fn with_model() -> Params {
    Params { model: Some("m".into()), ..BARE }
}

fn send(params: &Params, data: Data<'_>) -> Result<Request, Problem> {
    RequestBuilder::new(params).unwrap().request(&Record { row: 7, number: 7, file: "x", line: 9.into(), data })
}

fn body(params: &Params, line: &str) -> Result<String, Problem> {
    send(params, Data::Json(line)).map(|request| request.body.into())
}

fn csv(params: &Params, names: &[&str], values: &[&str]) -> Result<Request, Problem> {
    let names: Arc<[String]> = names.iter().map(|name| (*name).to_owned()).collect();
    send(params, Data::Columns { names: &names, values: &::csv::StringRecord::from(values.to_vec()) })
}

#[test]
fn a_body_passes_byte_for_byte() {
    let inner = r#"{ "messages" : [ {"role":"user","content":"\ud800 \u0000 é"} ] ,"model":"m", "x":123456789012345678901234567890,"y":1E400,"y": 0.10, "\ud800":null }"#;
    assert_eq!(body(&BARE, &format!(r#"{{"custom_id":"a","body":{inner}}}"#)).as_deref(), Ok(inner));
    let record = Record { row: 1, number: 1, file: "x", line: 1.into(), data: Data::Json(inner) };
    let builder = RequestBuilder::new(&BARE).unwrap();
    assert!(matches!(builder.draft(&record).unwrap().body, Cow::Borrowed(text) if text == inner), "not even copied");
    assert_eq!(body(&BARE, inner).as_deref(), Ok(inner));
    let deep =
        format!(r#"{{"model":"m","messages":[{{"role":"user"}}],"x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(body(&BARE, &deep).as_deref(), Ok(&*deep));
}

#[test]
fn flags_fill_what_a_row_does_not_set() {
    let all = Params {
        system: Some("S \"q\"".into()),
        max_tokens: Some(5),
        temperature: Some("0.10".into()),
        top_p: Some("1".into()),
        seed: Some(-3),
        stop: vec!["\n".into()],
        json_schema: Some("{ \"type\" : \"object\" }".into()),
        set: vec![("reasoning".into(), "{ \"enabled\": false }".into())],
        ..with_model()
    };
    let tail = r#""max_tokens":5,"temperature":0.10,"top_p":1,"seed":-3,"stop":["\n"],"response_format":{"type":"json_schema","json_schema":{"name":"output","schema":{"type":"object"}}},"reasoning":{"enabled":false}}"#;
    let system = r#"{"role":"system","content":"S \"q\""},"#;
    assert_eq!(
        body(&all, r#"{"id":1,"messages": [ {"role":"user"}] }"#).unwrap(),
        format!(r#"{{"messages": [{system} {{"role":"user"}}],"model":"m",{tail}"#).replace("false}}", "false} }")
    );
    assert_eq!(
        body(&all, r#"{"prompt":"p\u00e9"}"#).unwrap(),
        format!(r#"{{"model":"m","messages":[{system}{{"role":"user","content":"p\u00e9"}}],{tail}"#)
    );
    // Members of the row win. A null counts as absent. Either bound on tokens counts as one.
    let row = r#"{"model":null,"messages":[{"role":"system"},{"role":"user"}],"max_completion_tokens":9,"temperature":null,"top_p":0.5,"seed":1,"stop":[],"response_format":{},"reasoning":{}}"#;
    let request = send(&all, Data::Json(row)).unwrap();
    assert_eq!(
        &*request.body,
        r#"{"messages":[{"role":"system"},{"role":"user"}],"max_completion_tokens":9,"top_p":0.5,"seed":1,"stop":[],"response_format":{},"reasoning":{},"model":"m","temperature":0.10}"#
    );
    assert_eq!((request.max_tokens, &*request.model), (Some(9), "m"));
    assert_eq!(send(&all, Data::Json(r#"{"prompt":"p"}"#)).unwrap().max_tokens, Some(5));
    assert_eq!(send(&all, Data::Json(r#"{"messages":[{"role":"user"}]}"#)).unwrap().max_tokens, Some(5));
}

#[test]
fn streaming_is_taken_out_wherever_it_stands() {
    for (line, expected) in [
        (
            r#"{"stream":true,"model":"m", "messages":[{"role":"user"}]}"#,
            r#"{"model":"m", "messages":[{"role":"user"}]}"#,
        ),
        (
            r#"{"model":"m","stream":true , "messages":[{"role":"user"}]}"#,
            r#"{"model":"m" , "messages":[{"role":"user"}]}"#,
        ),
        (
            r#"{"model":"m","messages":[{"role":"user"}],"stream":1,"stream_options":{} }"#,
            r#"{"model":"m","messages":[{"role":"user"}] }"#,
        ),
    ] {
        let request = send(&BARE, Data::Json(line)).unwrap();
        assert_eq!(&*request.body, expected);
        assert!(request.stream_removed);
    }
    let kept = r#"{"model":"m","messages":[{"role":"user","stream":true}]}"#;
    assert!(!send(&BARE, Data::Json(kept)).unwrap().stream_removed);
}

#[test]
fn of_a_prompt_record_only_parameters_travel() {
    let line = r#"{"id":"a","system":"s","prompt":"p","label":"x","temperature":1E400,"model":"own","max_tokens":3,"stream":true,"tools":[ 1 ]}"#;
    assert_eq!(
        body(&with_model(), line).as_deref(),
        Ok(
            r#"{"messages":[{"role":"system","content":"s"},{"role":"user","content":"p"}],"temperature":1E400,"model":"own","max_tokens":3,"tools":[ 1 ]}"#
        )
    );
}

#[test]
fn columns_are_fields_and_cells_are_typed() {
    let names = ["prompt", "system", "model", "max_tokens", "stop", "logit_bias", "category"];
    let request = csv(&with_model(), &names, &["p \"q\"", "", "", " 12 ", "END", "{ \"1\": 2 }", "c"]).unwrap();
    assert_eq!(
        &*request.body,
        r#"{"model":"m","messages":[{"role":"user","content":"p \"q\""}],"max_tokens":12,"stop":"END","logit_bias":{"1":2}}"#
    );
    assert_eq!((request.max_tokens, request.generated_id, &*request.id), (Some(12), true, "row-7"));
    for (cell, code) in [("twelve", "value"), ("0", "max_tokens"), ("1.5", "max_tokens"), ("007", "value")] {
        assert_eq!(csv(&with_model(), &["prompt", "max_tokens"], &["p", cell]).expect_err(cell).code, code);
    }
    let problem = csv(&with_model(), &["text", "label"], &["p", "x"]).unwrap_err();
    assert!(problem.message.contains("text, label"), "{}", problem.message);
}

#[test]
fn a_template_takes_the_record_as_data_alone() {
    let params =
        Params { prompt: Some("Car: {{ model }}".into()), system: Some("For {{ id }}".into()), ..with_model() };
    let request = csv(&params, &["id", "model", "temperature"], &["k", "Golf", "9"]).unwrap();
    assert_eq!(
        &*request.body,
        r#"{"model":"m","messages":[{"role":"system","content":"For k"},{"role":"user","content":"Car: Golf"}]}"#
    );
    assert_eq!(&*request.id, "k");
    let lines = Params { prompt: Some("{{ line }}".into()), ..with_model() };
    assert_eq!(send(&lines, Data::Line(" ")).unwrap_err().code, "empty_prompt");
    assert!(send(&with_model(), Data::Line("hi")).unwrap().body.contains(r#""content":"hi""#));
}

#[test]
fn other_endpoints_have_their_own_subject() {
    let completions = Params { endpoint: Endpoint::Completions, ..with_model() };
    assert_eq!(
        body(&completions, r#"{"prompt":"p","x":1,"echo":true}"#).as_deref(),
        Ok(r#"{"model":"m","prompt":"p","echo":true}"#)
    );
    let embeddings = Params { endpoint: Endpoint::Embeddings, ..with_model() };
    assert_eq!(body(&embeddings, r#"{"prompt":"p"}"#).as_deref(), Ok(r#"{"model":"m","input":"p"}"#));
    assert_eq!(body(&embeddings, r#"{"input":["a"],"id":3}"#).as_deref(), Ok(r#"{"input":["a"],"model":"m"}"#));
    assert_eq!(body(&embeddings, r#"{"input":[ ]}"#).unwrap_err().code, "empty_prompt");
    assert_eq!(body(&embeddings, r#"{"body":{"messages":[]}}"#).unwrap_err().code, "body");
}

#[test]
fn ids_come_from_the_first_field_that_has_one() {
    let by = |field: &str| Params { id: Some(field.into()), ..with_model() };
    for (params, line, id) in [
        (with_model(), r#"{"prompt":"p"}"#, "row-7"),
        (with_model(), r#"{"prompt":"p","id":12345678901234567890123}"#, "12345678901234567890123"),
        (with_model(), r#"{"prompt":"p","id":"b","custom_id":"a\u0062"}"#, "ab"),
        (with_model(), r#"{"prompt":"p","id":"b","custom_id":null}"#, "b"),
        (by("key"), r#"{"prompt":"p","id":"b","key":1.50}"#, "1.50"),
    ] {
        assert_eq!(&*send(&params, Data::Json(line)).unwrap().id, id, "{line}");
    }
    for (params, line, code) in [
        (with_model(), r#"{"prompt":"p","id":""}"#, "id"),
        (with_model(), r#"{"prompt":"p","id":true}"#, "id"),
        (with_model(), r#"{"prompt":"p","id":[1]}"#, "id"),
        (with_model(), r#"{"prompt":"p","id":"a\u0007"}"#, "id"),
        (with_model(), r#"{"prompt":"p","id":"\ud800"}"#, "id"),
        (by("key"), r#"{"prompt":"p","id":"b"}"#, "id_field"),
        (by("key"), r#"{"prompt":"p","key":null}"#, "id_field"),
    ] {
        assert_eq!(send(&params, Data::Json(line)).expect_err(line).code, code, "{line}");
    }
    let own = body(&by("user"), r#"{"user":"u","id":1,"custom_id":2,"messages":[{"role":"user"}]}"#);
    assert_eq!(own.as_deref(), Ok(r#"{"messages":[{"role":"user"}],"model":"m"}"#));
}

#[test]
fn bad_rows_say_what_and_where() {
    for (params, line, code, column, words) in [
        (with_model(), "{\"a\":1,}", "json", Some(8), "trailing comma"),
        (with_model(), r#"{"prompt": "p"#, "json", Some(13), "cut off"),
        (with_model(), r#"{"prompt": nope}"#, "json", Some(12), "nope"),
        (with_model(), "17", "json", Some(1), "not an object"),
        (with_model(), r#"{"text":"t"}"#, "no_prompt", None, "text"),
        (with_model(), r#"{"prompt":7}"#, "prompt", Some(11), "7"),
        (with_model(), r#"{"prompt":" \n"}"#, "empty_prompt", None, "empty"),
        (with_model(), r#"{"prompt":"p","system":1}"#, "system", Some(15), "1"),
        (with_model(), r#"{"custom_id":"a","body":"b"}"#, "body", Some(25), "object"),
        (with_model(), r#"{"body":{}}"#, "body", None, "messages"),
        (with_model(), r#"{"method":"GET","body":{"messages":[{"role":"user"}]}}"#, "method", Some(2), "GET"),
        (with_model(), r#"{"url":"/v1/embeddings","body":{}}"#, "url", Some(2), "/chat/completions"),
        (with_model(), r#"{"messages":[]}"#, "messages", None, "empty"),
        (with_model(), r#"{"messages":{}}"#, "messages", None, "array"),
        (with_model(), r#"{"messages":[{"role":"user"},"x"]}"#, "messages", None, "message 2"),
        (with_model(), r#"{"model":3,"messages":[{"role":"user"}]}"#, "model", None, "3"),
        (with_model(), r#"{"max_tokens":"5","messages":[{"role":"user"}]}"#, "max_tokens", None, "5"),
        (with_model(), r#"{"max_tokens":-1,"prompt":"p"}"#, "max_tokens", None, "-1"),
        (BARE, r#"{"messages":[{"role":"user"}]}"#, "no_model", None, "model"),
        (BARE, r#"{"prompt":"p"}"#, "no_model", None, "model"),
    ] {
        let problem = send(&params, Data::Json(line)).expect_err(line);
        assert_eq!(
            (problem.code, problem.column, problem.line, problem.row),
            (code, column, 9.into(), Some(7)),
            "{line}: {problem}"
        );
        assert!(problem.message.contains(words) && problem.hint.is_some(), "{problem}");
    }
    let known = send(&with_model(), Data::Json(r#"{"id":"k","prompt":""}"#)).unwrap_err();
    assert_eq!(known.id.as_deref(), Some("k"));
}

#[test]
fn a_message_is_short_whatever_the_line() {
    for line in [
        format!("\"{}\"", "x\u{1b}".repeat(5000)),
        format!("\"{}\"", "é".repeat(5000)),
        "[".repeat(5000),
        "1".repeat(5000),
    ] {
        let problem = send(&BARE, Data::Json(&line)).unwrap_err();
        assert!(problem.message.chars().count() < 300, "{}", problem.message);
        assert!(!problem.message.contains(char::is_control), "{:?}", problem.message);
    }
}

#[test]
fn audio_bodies_pass_through_unchanged() {
    let params = Params { endpoint: Endpoint::Transcriptions, ..with_model() };
    let whole = r#"{"file": "HTTPS:\/\/x/a.wav","model":"w","prompt":"names: Ann","timestamp_granularities":["word"]}"#;
    assert_eq!(body(&params, whole).as_deref(), Ok(whole), "a `prompt` beside a `file` is a parameter");
    for method in ["", r#""method":"FILE","#, r#""method":"POST","url":"/v1/audio/transcriptions","#] {
        assert_eq!(body(&params, &format!(r#"{{"custom_id":"a",{method}"body":{whole}}}"#)).as_deref(), Ok(whole));
    }
    let filled = body(&params, r#"{"id":"a","file":"http://x"}"#);
    assert_eq!(filled.as_deref(), Ok(r#"{"file":"http://x","model":"m"}"#));
    for (line, code, words) in [
        (r#"{"prompt":"p"}"#, "no_file", "`body` or `file`; its fields are: prompt"),
        (r#"{"file":"a.wav"}"#, "file", "`file`: a.wav does not exist"),
        (r#"{"file":""}"#, "file", "URL"),
        (r#"{"file":"é://"}"#, "file", "é:// is an address that services do not fetch"),
        (r#"{"file":["https://x"]}"#, "file", "URL"),
        (r#"{"body":{"messages":[{"role":"user"}]}}"#, "body", "no `file`"),
        (r#"{"method":"GET","body":{"file":"http://x"}}"#, "method", "\"FILE\""),
        (r#"{"url":"/v1/audio/translations","body":{"file":"http://x"}}"#, "url", "/audio/transcriptions"),
    ] {
        let problem = send(&params, Data::Json(line)).expect_err(line);
        assert_eq!(problem.code, code, "{line}: {problem}");
        assert!(problem.message.contains(words) && problem.hint.is_some(), "{problem}");
    }
    let cells = ["https://x/a.wav", "de", "word", "x"];
    let table = csv(&params, &["file", "language", "timestamp_granularities", "note"], &cells);
    let expected = r#"{"model":"m","file":"https://x/a.wav","language":"de","timestamp_granularities":"word"}"#;
    assert_eq!(table.map(|request| request.body.to_string()).as_deref(), Ok(expected));
}

#[test]
fn rerank_bodies_pass_through_and_count_their_query_for_each_document() {
    let params = Params { endpoint: Endpoint::Rerank, ..with_model() };
    let inner = r#"{"model":"r","query":"which?","documents":["a", {"t":"b"}],"top_n":1,"x":1E400}"#;
    assert_eq!(body(&params, inner).as_deref(), Ok(inner));
    assert_eq!(
        body(&params, &format!(r#"{{"custom_id":"a","url":"/v1/rerank","body":{inner}}}"#)).as_deref(),
        Ok(inner)
    );
    let filled = body(&params, r#"{"id":"a","query":"q","documents":["a"]}"#);
    assert_eq!(filled.as_deref(), Ok(r#"{"query":"q","documents":["a"],"model":"m"}"#));
    let asked = Params { set: vec![("query".into(), "\"all\"".into())], ..params.clone() };
    assert!(body(&asked, r#"{"documents":["a"]}"#).unwrap().ends_with(r#""query":"all"}"#));
    for (line, words) in [
        (r#"{"prompt":"p"}"#, "`body` or `documents`; its fields are: prompt"),
        (r#"{"query":"q"}"#, "`body` or `documents`"),
        (r#"{"documents":["a"]}"#, "no `query`"),
        (r#"{"query":" ","documents":["a"]}"#, "`query` must be a text"),
        (r#"{"query":"q","documents":"a"}"#, "`documents` must be an array"),
        (r#"{"query":"q","documents":[ ]}"#, "`documents` is empty"),
    ] {
        let problem = send(&params, Data::Json(line)).expect_err(line);
        assert!(problem.message.contains(words) && problem.hint.is_some(), "{line}: {problem}");
    }
    let table = csv(&params, &["query"], &["q"]).unwrap_err();
    assert!(table.message.contains("JSONL only") && table.hint.unwrap().contains("\"documents\""));
    let reserve = |documents: &str| {
        let line = format!(r#"{{"query":"{}","documents":[{documents}]}}"#, "q".repeat(1000));
        send(&params, Data::Json(&line)).unwrap().reserve(None)
    };
    let (one, three) = (reserve("\"a\""), reserve("\"a\",\"b\",\"c\""));
    assert!(one.prompt < 600 && (1500..1600).contains(&three.prompt), "{one:?} {three:?}");
    assert_eq!(three.completion, 1);
}

#[test]
fn images_and_speech_are_made_from_records_with_parameters_of_their_own() {
    let images = Params { endpoint: Endpoint::Images, ..with_model() };
    let line = r#"{"id":"a","prompt":"a cat","n":2,"width":256,"response_format":"base64","voice":"x","color":"red"}"#;
    let expected = r#"{"model":"m","prompt":"a cat","n":2,"width":256,"response_format":"base64"}"#;
    assert_eq!(body(&images, line).as_deref(), Ok(expected));
    let chat = body(&with_model(), line).unwrap();
    assert!(!chat.contains("width") && !chat.contains("voice"), "of a chat, they are data: {chat}");
    let speech = Params { endpoint: Endpoint::Speech, ..with_model() };
    let whole = r#"{"input":"hi","voice":"tara","custom":1,"model":"s"}"#;
    assert_eq!(body(&speech, whole).as_deref(), Ok(whole), "a body passes as it is");
    let made = csv(&speech, &["id", "prompt", "voice", "response_format"], &["a", "hi", "tara", "mp3"]).unwrap();
    assert_eq!(&*made.body, r#"{"model":"m","input":"hi","voice":"tara","response_format":"mp3"}"#);
    assert_eq!(made.reserve(None).completion, 1);
    let template = Params { prompt: Some("Say {{ text }}".into()), ..speech };
    let made = csv(&template, &["text"], &["hi"]).unwrap();
    assert_eq!(&*made.body, r#"{"model":"m","input":"Say hi"}"#);
    for (endpoint, line, words) in [
        (Endpoint::Images, r#"{"text":"x"}"#, "`body` or `prompt`"),
        (Endpoint::Images, r#"{"prompt":" "}"#, "`prompt` is empty"),
        (Endpoint::Speech, r#"{"text":"x"}"#, "`body`, `input` or `prompt`"),
        (Endpoint::Speech, r#"{"input":7}"#, "`input` must be a text"),
    ] {
        let problem = send(&Params { endpoint, ..with_model() }, Data::Json(line)).expect_err(line);
        assert!(problem.message.contains(words), "{line}: {problem}");
    }
}

#[test]
fn flags_that_make_no_sense_are_usage_errors() {
    let set = |name: &str, value: &str| Params { set: vec![(name.into(), value.into())], ..BARE };
    for params in [
        set("messages", "[]"),
        set("stream", "true"),
        set("model", "\"m\""),
        set("user", "nobody"),
        set("", "1"),
        set("max_tokens", "-1"),
        Params { set: vec![("seed".into(), "1".into())], seed: Some(1), ..BARE },
        Params { set: vec![("a".into(), "1".into()), ("a".into(), "2".into())], ..BARE },
        Params { prompt: Some("{{ a".into()), ..BARE },
        Params { system: Some("{% if %}".into()), ..BARE },
        Params { system: Some("s".into()), endpoint: Endpoint::Embeddings, ..BARE },
        Params { temperature: Some("warm".into()), ..BARE },
        Params { max_tokens: Some(0), ..BARE },
        Params { json_schema: Some("{".into()), ..BARE },
        Params { json_schema: Some("[]".into()), ..BARE },
        Params { model: Some(" ".into()), ..BARE },
        Params { prompt: Some("{{ text }}".into()), endpoint: Endpoint::Translations, ..BARE },
        Params { json_schema: Some("{}".into()), endpoint: Endpoint::Transcriptions, ..BARE },
        Params { prompt: Some("{{ text }}".into()), endpoint: Endpoint::Rerank, ..BARE },
        Params { json_schema: Some("{}".into()), endpoint: Endpoint::Rerank, ..BARE },
        Params { json_schema: Some("{}".into()), endpoint: Endpoint::Images, ..BARE },
        Params { choices: vec!["a".into()], endpoint: Endpoint::Speech, ..BARE },
    ] {
        assert_eq!(RequestBuilder::new(&params).unwrap_err().exit, Exit::Usage, "{params:?}");
    }
}

#[test]
fn a_fingerprint_tells_endpoint_model_and_body_apart() {
    let one = fingerprint(Endpoint::Chat, "m", "{}");
    assert_eq!(one, fingerprint(Endpoint::Chat, "m", "{}"));
    for other in [
        fingerprint(Endpoint::Completions, "m", "{}"),
        fingerprint(Endpoint::Chat, "m{", "}"),
        fingerprint(Endpoint::Chat, "m", "{} "),
    ] {
        assert_ne!(one, other);
    }
}

proptest! {
    #[test]
    fn what_flags_add_can_be_taken_off_again(
        members in prop::collection::vec((
            prop_oneof![Just("a"), Just("stop"), Just("tools"), Just("b\\u0041"), Just("\\ud800")],
            prop_oneof![Just("1E400"), Just("[ 1 , {\"k\":\"}\"} ]"), Just("\"\\ud800\\\"\""), Just("null"), Just("{ }")],
            "[ \t]{0,2}",
        ), 0..6),
        at in 0..7_usize,
        stream in prop::option::of(0..7_usize),
    ) {
        let mut parts: Vec<String> = members.iter().map(|(key, value, gap)| format!("{gap}\"{key}\"{gap}:{gap}{value}")).collect();
        parts.insert(at.min(parts.len()), "\"messages\":[{\"role\":\"user\"}]".to_owned());
        let plain = format!("{{{}}}", parts.join(","));
        let params = Params { set: vec![("zz".into(), "1".into())], ..with_model() };
        let made = body(&params, &plain).unwrap();
        prop_assert_eq!(made.replace(",\"model\":\"m\",\"zz\":1}", "}"), plain.clone());
        if let Some(stream) = stream {
            parts.insert(stream.min(parts.len()), "\"stream\":true".to_owned());
            let streamed = send(&params, Data::Json(&format!("{{{}}}", parts.join(",")))).unwrap();
            prop_assert!(streamed.stream_removed);
            // White space before the first name goes with what stood there.
            prop_assert_eq!(streamed.body.trim_start_matches(['{', ' ', '\t']), made.trim_start_matches(['{', ' ', '\t']));
        }
    }
}

#[test]
fn every_answer_that_is_asked_for_counts() {
    for (body, max_tokens, bound) in [
        (r#"{"messages":[]}"#, Some(100), Some(100)),
        (r#"{"n":5,"messages":[]}"#, Some(100), Some(500)),
        (r#"{"messages":[],"best_of": 3}"#, Some(100), Some(300)),
        (r#"{"messages":[{"content":"\"n\": 9"}],"n":1}"#, Some(100), Some(100)),
        (r#"{"messages":[{"n":7}]}"#, Some(100), Some(100)),
        (r#"{"n":null}"#, None, None),
        (r#"{"n":2}"#, None, Some(262_144)),
        (r#"{"n":18446744073709551615}"#, None, Some(MOST_TOKENS)),
        (r#"{"n":18446744073709551615}"#, Some(MOST_TOKENS), Some(MOST_TOKENS)),
    ] {
        assert_eq!(super::answer_bound(body, max_tokens), bound, "{body}");
    }
}

#[test]
fn a_bound_that_bounds_nothing_is_still_a_number_to_reckon_with() {
    let flag = Params { max_tokens: Some(u64::MAX), ..with_model() };
    let body = |more: &str| format!(r#"{{"messages":[{{"role":"user"}}]{more}}}"#);
    let prompt = |more: &str| format!(r#"{{"prompt":"p"{more}}}"#);
    for most in ["18446744073709551615", "99999999999999999999999"] {
        let bound = format!(r#","max_tokens":{most}"#);
        for line in [body(&bound), prompt(&bound)] {
            let request = send(&with_model(), Data::Json(&line)).expect(&line);
            assert!(request.body.contains(most) && request.max_tokens == Some(MOST_TOKENS), "{line}");
        }
    }
    for line in [body(""), prompt("")] {
        let request = send(&flag, Data::Json(&line)).expect(&line);
        assert!(request.body.contains("18446744073709551615") && request.max_tokens == Some(MOST_TOKENS), "{line}");
    }
}
