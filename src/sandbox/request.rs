//! What the sandbox reads of a request body: the few members that its answer depends on.
//!
//! Members are found as spans of the text and looked at one by one, so that anything else passes unseen: unknown
//! members, duplicate keys (the last one counts), numbers of any size, any depth.

use std::borrow::Cow;

use super::json::{each_element, each_member, string};

/// Which endpoint reads the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `/chat/completions`
    Chat,
    /// `/completions`
    Completions,
    /// `/embeddings`
    Embeddings,
    /// `/audio/transcriptions` and `/audio/translations`, in batch jobs only.
    Audio,
}

impl Endpoint {
    /// The endpoint that batch jobs call by this path.
    pub fn of_batch(path: &str) -> Option<Self> {
        Some(match path {
            "/v1/chat/completions" => Self::Chat,
            "/v1/completions" => Self::Completions,
            "/v1/embeddings" => Self::Embeddings,
            "/v1/audio/transcriptions" | "/v1/audio/translations" => Self::Audio,
            _ => return None,
        })
    }
}

/// What the answer must look like.
#[derive(Debug, Clone, Copy)]
pub enum Format<'a> {
    /// Free text.
    Text,
    /// Some JSON object.
    Object,
    /// JSON by this schema.
    Schema(&'a str),
}

/// A request, as far as it matters here.
#[derive(Debug)]
pub struct Parsed<'a> {
    /// The model's name.
    pub model: Cow<'a, str>,
    /// The text that decides the answer: the last user message, the prompt, the first input.
    pub prompt: Cow<'a, str>,
    /// Inputs of an embeddings request; one otherwise.
    pub inputs: Vec<Cow<'a, str>>,
    /// Tokens of everything that was sent.
    pub prompt_tokens: u64,
    /// The caller's bound on the answer.
    pub max_tokens: Option<u64>,
    /// Shape of the answer's text.
    pub format: Format<'a>,
    /// Choices wanted.
    pub n: u64,
}

impl Parsed<'_> {
    /// The number whose 16 hex digits the answer carries.
    pub fn hash(&self) -> u64 {
        hash(&self.prompt)
    }
}

/// The first 8 bytes of the text's BLAKE3.
pub fn hash(text: &str) -> u64 {
    let bytes = blake3::hash(text.as_bytes());
    bytes.as_bytes().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// Why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Bad {
    /// The member at fault.
    pub param: Option<&'static str>,
    /// What is wrong.
    pub message: String,
}

fn bad(param: &'static str, message: &str) -> Bad {
    Bad { param: Some(param), message: message.to_owned() }
}

/// About four bytes make a token.
pub fn tokens(text: &str) -> u64 {
    (text.len() as u64).div_ceil(4)
}

#[derive(Default)]
struct Members<'a> {
    model: Option<&'a str>,
    messages: Option<&'a str>,
    prompt: Option<&'a str>,
    input: Option<&'a str>,
    file: Option<&'a str>,
    max_tokens: Option<&'a str>,
    format: Option<&'a str>,
    n: Option<&'a str>,
    stream: Option<&'a str>,
}

/// Reads a body for `endpoint`.
pub fn parse(body: &str, endpoint: Endpoint) -> Result<Parsed<'_>, Bad> {
    let mut found = Members::default();
    each_member(body, |key, value| match key {
        "model" => found.model = Some(value),
        "messages" => found.messages = Some(value),
        "prompt" => found.prompt = Some(value),
        "input" => found.input = Some(value),
        "file" | "url" => found.file = Some(value),
        "max_tokens" | "max_completion_tokens" => found.max_tokens = Some(value),
        "response_format" => found.format = Some(value),
        "n" => found.n = Some(value),
        "stream" => found.stream = Some(value),
        _ => {}
    })
    .map_err(|why| Bad { param: None, message: format!("The request body is not a JSON object: {why}") })?;

    let model = found.model.and_then(string).filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| bad("model", "model must be a non-empty string"))?;
    if found.stream == Some("true") {
        return Err(bad("stream", "The sandbox does not stream"));
    }
    let mut parsed = Parsed {
        model,
        prompt: Cow::Borrowed(""),
        inputs: Vec::new(),
        prompt_tokens: 0,
        max_tokens: positive("max_tokens", found.max_tokens)?,
        format: format(found.format)?,
        n: positive("n", found.n)?.unwrap_or(1).min(128),
    };
    match endpoint {
        Endpoint::Chat => read_messages(found.messages, &mut parsed)?,
        Endpoint::Completions => {
            let prompt = found.prompt.and_then(string).ok_or_else(|| bad("prompt", "prompt must be a string"))?;
            parsed.prompt_tokens = tokens(&prompt) + 1;
            parsed.prompt = prompt;
        }
        Endpoint::Audio => {
            parsed.prompt = found.file.and_then(string).ok_or_else(|| bad("file", "file must be a URL"))?;
        }
        Endpoint::Embeddings => {
            parsed.inputs = inputs(found.input)?;
            parsed.prompt_tokens = parsed.inputs.iter().map(|input| tokens(input) + 1).sum();
            parsed.prompt = parsed.inputs.first().cloned().unwrap_or_default();
        }
    }
    Ok(parsed)
}

fn read_messages<'a>(raw: Option<&'a str>, parsed: &mut Parsed<'a>) -> Result<(), Bad> {
    let raw = raw.ok_or_else(|| bad("messages", "messages is missing"))?;
    let mut last_user = None;
    let mut last = None;
    let mut wrong = None;
    let mut total = 3;
    each_element(raw, |message| {
        let (mut role, mut content) = (None, None);
        let object = each_member(message, |key, value| match key {
            "role" => role = Some(value),
            "content" => content = Some(value),
            _ => {}
        });
        let role = role.and_then(string);
        let (Ok(()), Some(role)) = (object, role) else {
            wrong.get_or_insert(bad("messages", "every message must be an object with a role"));
            return;
        };
        let Some(text) = content.map_or(Some(Cow::Borrowed("")), content_text) else {
            wrong.get_or_insert(bad("messages", "content must be a string, an array of parts or null"));
            return;
        };
        total += 4 + tokens(&text);
        if role == "user" {
            last_user = Some(text);
        } else {
            last = Some(text);
        }
    })
    .map_err(|_| bad("messages", "messages must be an array"))?;
    if let Some(wrong) = wrong {
        return Err(wrong);
    }
    parsed.prompt = last_user.or(last).ok_or_else(|| bad("messages", "messages must not be empty"))?;
    parsed.prompt_tokens = total;
    Ok(())
}

/// A message's text: the string itself, or the text parts of an array one after the other.
fn content_text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first() {
        Some(b'"') => string(raw),
        Some(b'n') => Some(Cow::Borrowed("")),
        Some(b'[') => {
            let mut all = String::new();
            each_element(raw, |part| {
                let _ = each_member(part, |key, value| {
                    if key == "text" {
                        all.push_str(&string(value).unwrap_or_default());
                    }
                });
            })
            .ok()?;
            Some(Cow::Owned(all))
        }
        _ => None,
    }
}

fn inputs(raw: Option<&str>) -> Result<Vec<Cow<'_, str>>, Bad> {
    let wrong = || bad("input", "input must be a string or an array of strings");
    let raw = raw.ok_or_else(wrong)?;
    if let Some(one) = string(raw) {
        return Ok(vec![one]);
    }
    let mut all = Vec::new();
    let mut clean = true;
    each_element(raw, |item| match string(item) {
        Some(text) => all.push(text),
        None => clean = false,
    })
    .map_err(|_| wrong())?;
    if clean && !all.is_empty() { Ok(all) } else { Err(wrong()) }
}

fn positive(name: &'static str, raw: Option<&str>) -> Result<Option<u64>, Bad> {
    match raw {
        None | Some("null") => Ok(None),
        Some(raw) => match raw.parse() {
            Ok(value) if value > 0 => Ok(Some(value)),
            _ => Err(bad(name, &format!("{name} must be a positive integer"))),
        },
    }
}

fn format(raw: Option<&str>) -> Result<Format<'_>, Bad> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(Format::Text) };
    let (mut kind, mut json_schema, mut schema) = (None, None, None);
    each_member(raw, |key, value| match key {
        "type" => kind = string(value),
        "json_schema" => json_schema = Some(value),
        "schema" => schema = Some(value),
        _ => {}
    })
    .map_err(|_| bad("response_format", "response_format must be an object"))?;
    match kind.as_deref() {
        Some("text") => Ok(Format::Text),
        // The older form carries the schema beside `json_object`.
        Some("json_object") => Ok(schema.map_or(Format::Object, Format::Schema)),
        Some("json_schema") => {
            let _ = json_schema.map(|outer| {
                each_member(outer, |key, value| {
                    if key == "schema" {
                        schema = Some(value);
                    }
                })
            });
            schema.map(Format::Schema).ok_or_else(|| bad("response_format", "json_schema.schema is missing"))
        }
        _ => Err(bad("response_format", "type must be text, json_object or json_schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_user_message_decides() {
        let cases = [
            (
                r#"{"model":"a/b","messages":[{"role":"system","content":"s"},{"role":"user","content":"x\ty"}]}"#,
                "x\ty",
            ),
            (r#"{"model":"a/b","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"z"}]}"#, "x"),
            (
                r#"{"messages":[{"content":[{"type":"text","text":"a"},{"type":"image_url"},{"text":"b"}],"role":"user"}],"model":"a/b"}"#,
                "ab",
            ),
            (
                r#"{"model":"a/b","messages":[{"role":"user","content":"bad \ud800 one"}]}"#,
                "bad \u{fffd}\u{fffd}\u{fffd} one",
            ),
            (
                r#"{"model":"x","model":"a/b","temperature":1E400,"messages":[{"role":"system","content":"only"}]}"#,
                "only",
            ),
        ];
        for (body, prompt) in cases {
            let parsed = parse(body, Endpoint::Chat).unwrap();
            assert_eq!(parsed.prompt, prompt, "{body}");
            assert_eq!(parsed.model, "a/b");
        }
    }

    #[test]
    fn bad_bodies_name_the_member() {
        let cases = [
            ("", None),
            ("[]", None),
            ("{\"model\":\"a/b\"", None),
            (r#"{"messages":[{"role":"user","content":"x"}]}"#, Some("model")),
            (r#"{"model":"a/b"}"#, Some("messages")),
            (r#"{"model":"a/b","messages":[]}"#, Some("messages")),
            (r#"{"model":"a/b","messages":{}}"#, Some("messages")),
            (r#"{"model":"a/b","messages":[{"content":"x"}]}"#, Some("messages")),
            (r#"{"model":"a/b","messages":[{"role":"user","content":1}]}"#, Some("messages")),
            (r#"{"model":"a/b","max_tokens":0,"messages":[{"role":"user","content":"x"}]}"#, Some("max_tokens")),
            (r#"{"model":"a/b","stream":true,"messages":[{"role":"user","content":"x"}]}"#, Some("stream")),
        ];
        for (body, param) in cases {
            assert_eq!(parse(body, Endpoint::Chat).unwrap_err().param, param, "{body}");
        }
    }

    #[test]
    fn depth_is_no_problem() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = format!(r#"{{"x":{deep},"model":"a/b","messages":[{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(parse(&body, Endpoint::Chat).unwrap().prompt, "x");
    }

    #[test]
    fn inputs_of_both_forms() {
        for (input, expected) in [(r#""x""#, vec!["x"]), (r#"["x","y"]"#, vec!["x", "y"])] {
            let body = format!(r#"{{"model":"a/b","input":{input}}}"#);
            assert_eq!(parse(&body, Endpoint::Embeddings).unwrap().inputs, expected);
        }
        assert!(parse(r#"{"model":"a/b","input":[1]}"#, Endpoint::Embeddings).is_err());
    }
}
