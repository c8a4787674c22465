//! A line of JSONL, made into a request: what is accepted travels as it was spelled, what is refused says why and where.
//!
//! Input: a byte that chooses flags, then the line.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use llbatch::door::{Data, Endpoint, InputPlace, MOST_TOKENS, Params, Record, Request, RequestBuilder, fingerprint};
use llbatch_fuzz::{choice, find, is_message, members, string};

const ENDPOINTS: [Endpoint; 4] =
    [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings, Endpoint::Transcriptions];
const SYSTEM: &str = r#"{"role":"system","content":"Be \"brief\""},"#;
const ROW: u64 = 7;

fn params(flags: u8) -> Params {
    let endpoint = ENDPOINTS[usize::from(flags & 3)];
    let set = |bit: u8| flags & bit != 0;
    Params {
        endpoint,
        model: set(4).then(|| "the/model".to_owned()),
        system: (set(8) && endpoint == Endpoint::Chat).then(|| "Be \"brief\"".to_owned()),
        id: set(16).then(|| "key".to_owned()),
        max_tokens: set(32).then_some(99),
        temperature: set(32).then(|| "0.10".to_owned()),
        set: if set(64) { vec![("user".to_owned(), "{\"a\": 1E400}".to_owned())] } else { Vec::new() },
        ..Params::default()
    }
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((flags, line)) = choice(data) else { return Corpus::Reject };
    let Ok(line) = std::str::from_utf8(line) else { return Corpus::Reject };
    if line.contains('\n') {
        return Corpus::Reject;
    }
    let params = params(flags);
    let builder = RequestBuilder::new(&params).expect("the flags make sense");
    let record = Record { row: ROW, number: ROW, file: "f", line: 9.into(), data: Data::Json(line) };

    // The record's fields are its members, whatever becomes of it.
    let own = members(line);
    let names: Vec<String> = record.fields().into_iter().map(|(name, _)| name.into_owned()).collect();
    let expected: Vec<String> = own.iter().flatten().map(|(name, _)| name.clone()).collect();
    assert_eq!(names, expected);

    match builder.request(&record) {
        Ok(request) => {
            assert_eq!(builder.request(&record).as_ref(), Ok(&request), "the same again");
            assert_eq!(builder.id(&record), request.id);
            accepted(&params, line, &own.expect("a request from what is no object"), &request);
        }
        Err(problem) => {
            assert_eq!((problem.row, problem.line, &*problem.file), (Some(ROW), InputPlace::Line(9), "f"));
            // A list of fields names up to twenty of them, each cut.
            let most = if problem.message.contains(": ") { 12_000 } else { 1000 };
            assert!(is_message(&problem.message, most), "{:?}", problem.message);
            assert!(problem.hint.as_deref().is_some_and(|hint| is_message(hint, 300)), "{:?}", problem.hint);
            assert!(problem.column.is_none_or(|column| (1..=line.len() as u64 + 1).contains(&column)));
            assert_eq!(problem.code == "json", own.is_none(), "{problem}");
        }
    }
    Corpus::Keep
});

fn accepted(params: &Params, line: &str, own: &[(String, &str)], request: &Request) {
    let body = members(&request.body).expect("a body that is no object");
    assert!(!request.body.contains('\n'), "a body on several lines");
    assert_eq!(request.fingerprint, fingerprint(params.endpoint, &request.model, &request.body));
    assert_eq!(find(&body, "model").and_then(string).as_deref(), Some(&*request.model));
    assert!(!request.model.trim().is_empty());
    assert!(!request.id.is_empty() && !request.id.chars().any(char::is_control));
    assert_eq!(request.generated_id, own_id(params, own).is_none());
    assert_eq!(&*request.id, own_id(params, own).as_deref().unwrap_or("row-7"));
    assert!(!body.iter().any(|(name, _)| is_stream(name)), "a stream is asked for");
    let mut bounds = body.iter().filter(|(name, value)| is_bound(name) && *value != "null");
    assert_eq!(
        request.max_tokens,
        bounds.next_back().map(|(_, digits)| digits.parse().map_or(MOST_TOKENS, |most: u64| most.min(MOST_TOKENS)))
    );
    assert!(request.max_tokens != Some(0));

    let inner = find(own, "body").filter(|body| body.starts_with('{'));
    let (source, whole) = match inner {
        Some(inner) => (members(inner).expect("an object"), inner),
        None => (own.to_vec(), line),
    };
    let subject = match params.endpoint {
        Endpoint::Chat => "messages",
        Endpoint::Completions => "prompt",
        Endpoint::Embeddings => "input",
        _ => "file",
    };
    let fills = fills(params);
    if inner.is_none() && (subject == "prompt" || find(own, subject).is_none()) {
        composed(own, &body, subject);
        return;
    }
    // A body of the user's: its members but for what is not the request's, in order, as spelled, then what flags add.
    let of_record =
        |name: &str| inner.is_none() && (matches!(name, "id" | "custom_id") || params.id.as_deref() == Some(name));
    let filled = |name: &str| fills.iter().any(|(fill, _)| same(fill, name));
    let kept: Vec<&(String, &str)> = source
        .iter()
        .filter(|(name, value)| !(is_stream(name) || of_record(name) || (*value == "null" && filled(name))))
        .collect();
    let added: Vec<&(String, String)> =
        fills.iter().filter(|(fill, _)| !kept.iter().any(|(name, _)| same(fill, name))).collect();
    assert_eq!(body.len(), kept.len() + added.len(), "members lost or made: {}", request.body);
    let mut changed = false;
    for ((name, value), (kept_name, kept_value)) in body.iter().zip(&kept) {
        assert_eq!(name, kept_name);
        if value != kept_value {
            // Only the first message may be new.
            let rest = value.strip_prefix('[').and_then(|inside| inside.strip_prefix(SYSTEM));
            assert_eq!(rest, kept_value.strip_prefix('['), "{name}: {value} was {kept_value}");
            assert!(params.system.is_some() && name == "messages" && !changed);
            changed = true;
        }
    }
    for ((name, value), (fill, fill_value)) in body[kept.len()..].iter().zip(added.iter().copied()) {
        assert_eq!((name, *value), (fill, fill_value.as_str()));
    }
    if kept.len() == source.len() && added.is_empty() && !changed {
        assert_eq!(&*request.body, whole, "byte for byte");
    }
    assert_eq!(request.stream_removed, source.iter().any(|(name, _)| is_stream(name)));
}

/// Of a prompt record: the prompt and every parameter travel as spelled, and nothing else of it does.
fn composed(own: &[(String, &str)], body: &[(String, &str)], subject: &str) {
    let prompt = find(own, "prompt").expect("a request from nothing");
    let sent = find(body, subject).expect("a body without its subject");
    let user = format!(r#"{{"role":"user","content":{prompt}}}]"#);
    assert!(sent == prompt || sent.ends_with(&user), "{prompt} became {sent}");
    for (name, value) in body.iter().filter(|(name, _)| name != subject) {
        let given = own.iter().any(|(own_name, own_value)| own_name == name && own_value == value);
        let flag = ["model", "max_tokens", "temperature", "user"].contains(&&**name);
        assert!(given || flag, "{name}: {value} is nobody's");
    }
}

/// What the flags add to a body that lacks it.
fn fills(params: &Params) -> Vec<(String, String)> {
    let mut fills = Vec::new();
    let mut add = |name: &str, value: String| fills.push((name.to_owned(), value));
    if let Some(model) = &params.model {
        add("model", format!("\"{model}\""));
    }
    if let Some(bound) = params.max_tokens {
        add("max_tokens", bound.to_string());
    }
    if let Some(temperature) = &params.temperature {
        add("temperature", temperature.clone());
    }
    for (name, value) in &params.set {
        add(name, value.replace(' ', ""));
    }
    fills
}

fn own_id(params: &Params, own: &[(String, &str)]) -> Option<String> {
    let value = |name: &str| find(own, name).filter(|value| *value != "null");
    let id = match params.id.as_deref() {
        Some(name) => value(name),
        None => value("custom_id").or_else(|| value("id")),
    };
    id.map(|id| string(id).unwrap_or_else(|| id.to_owned()))
}

fn is_bound(name: &str) -> bool {
    matches!(name, "max_tokens" | "max_completion_tokens")
}

fn is_stream(name: &str) -> bool {
    matches!(name, "stream" | "stream_options")
}

fn same(fill: &str, name: &str) -> bool {
    fill == name || (is_bound(fill) && is_bound(name))
}
