//! The members of a request body that the sandbox's answer depends on.
//!
//! It finds members as spans of the text and reads the known ones. It ignores unknown members, numbers of any size and
//! any depth; of duplicate keys, the last one counts.

use std::borrow::Cow;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};

use super::answer_options::AnswerOptions;
use super::json::{ObjectMembers, elements, string};
use super::media;
use super::recordings;
use super::rerank;
use super::token_text::tokens;

/// The inference endpoint that reads a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InferenceKind {
    Chat,
    Completions,
    Embeddings,
    /// `/audio/transcriptions` and `/audio/translations`.
    Audio,
    Rerank,
    Images,
    Speech,
}

impl InferenceKind {
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

/// The shape that an answer's text must have.
#[derive(Debug, Clone)]
pub enum AnswerFormat<'a> {
    Text,
    Object,
    /// JSON by this schema.
    Schema(&'a str),
    /// One of these texts.
    OneOf(Vec<String>),
}

/// A request, as far as the answer depends on it.
#[derive(Debug)]
pub struct InferenceRequest<'a> {
    pub model: Cow<'a, str>,
    /// The text that decides the answer: the last user message, the prompt, the inputs.
    pub prompt: Cow<'a, str>,
    pub inputs: Vec<Cow<'a, str>>,
    /// The base URL of the images that an answer names.
    pub storage: &'a str,
    /// The documents that are ranked.
    pub documents: Vec<Cow<'a, str>>,
    /// The tools, and the messages or the prompt, as spelled.
    pub tools: &'a str,
    pub spelled: &'a str,
    pub prompt_tokens: u64,
    pub max_tokens: Option<u64>,
    pub format: AnswerFormat<'a>,
    pub n: u64,
    /// The last message is the result of a tool.
    pub has_tool_result: bool,
    pub options: AnswerOptions<'a>,
}

impl InferenceRequest<'_> {
    /// The number whose 16 hex digits the answer carries.
    pub fn hash(&self) -> u64 {
        hash(&self.prompt)
    }

    /// The hashes of the texts that are paid for: of each input, or of the prompt.
    pub fn paid_hashes(&self) -> Vec<u64> {
        if self.inputs.is_empty() { vec![self.hash()] } else { self.inputs.iter().map(|input| hash(input)).collect() }
    }
}

/// The first 8 bytes of the text's BLAKE3.
pub fn hash(text: &str) -> u64 {
    let bytes = blake3::hash(text.as_bytes());
    bytes.as_bytes().iter().take(8).fold(0, |sum, byte| (sum << 8) | u64::from(*byte))
}

/// The reason why a body is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidBody {
    pub param: Option<&'static str>,
    pub message: String,
}

impl InvalidBody {
    pub fn of(param: &'static str, message: &str) -> Self {
        Self { param: Some(param), message: message.to_owned() }
    }
}

/// Reads a body for an endpoint.
pub fn parse(body: &str, kind: InferenceKind) -> Result<InferenceRequest<'_>, InvalidBody> {
    let members = ObjectMembers::parse(body)
        .map_err(|why| InvalidBody { param: None, message: format!("The request body is not a JSON object: {why}") })?;
    let model = members.get("model").and_then(string).filter(|model| !model.is_empty());
    let model = model.ok_or_else(|| InvalidBody::of("model", "model must be a non-empty string"))?;
    // Theirs is not that of a text.
    let own_format = matches!(kind, InferenceKind::Images | InferenceKind::Speech | InferenceKind::Audio);
    let mut request = InferenceRequest {
        model,
        prompt: Cow::Borrowed(""),
        inputs: Vec::new(),
        storage: "",
        documents: Vec::new(),
        tools: members.get("tools").unwrap_or_default(),
        spelled: members.last_of(&["messages", "prompt", "input", "documents"]).unwrap_or_default(),
        prompt_tokens: 0,
        max_tokens: positive("max_tokens", members.last_of(&["max_tokens", "max_completion_tokens"]))?,
        format: if own_format { AnswerFormat::Text } else { format(members.get("response_format"))? },
        n: positive("n", members.get("n"))?.unwrap_or(1).min(128),
        has_tool_result: false,
        options: AnswerOptions::parse(&members, kind)?,
    };
    match kind {
        InferenceKind::Chat => read_messages(members.get("messages"), &mut request)?,
        InferenceKind::Completions => {
            let prompt = members.get("prompt").and_then(string);
            request.prompt = prompt.ok_or_else(|| InvalidBody::of("prompt", "prompt must be a string"))?;
            request.prompt_tokens = tokens(&request.prompt) + 1;
        }
        InferenceKind::Audio => recordings::read(&members, body, &mut request)?,
        InferenceKind::Rerank => rerank::read(&members, &mut request)?,
        InferenceKind::Images | InferenceKind::Speech => media::read(&members, kind, &mut request)?,
        InferenceKind::Embeddings => {
            let inputs = members.get("input").and_then(inputs);
            let message = "input must be a string or an array of strings";
            request.inputs = inputs.ok_or_else(|| InvalidBody::of("input", message))?;
            request.prompt_tokens = request.inputs.iter().map(|input| tokens(input) + 1).sum();
            request.prompt = match &request.inputs[..] {
                [one] => one.clone(),
                several => Cow::Owned(several.join("\n")),
            };
        }
    }
    Ok(request)
}

fn read_messages<'a>(raw: Option<&'a str>, request: &mut InferenceRequest<'a>) -> Result<(), InvalidBody> {
    let bad = |message| InvalidBody::of("messages", message);
    let raw = raw.ok_or_else(|| bad("messages is missing"))?;
    let (mut last, mut last_user) = (None, None);
    request.prompt_tokens = 3;
    for message in elements(raw).map_err(|_| bad("messages must be an array"))? {
        let members = ObjectMembers::parse(message).ok();
        let role = members.as_ref().and_then(|members| string(members.get("role")?));
        let (Some(members), Some(role)) = (members, role) else {
            return Err(bad("every message must be an object with a role"));
        };
        let text = members.get("content").map_or(Some(Cow::Borrowed("")), content_text);
        let text = text.ok_or_else(|| bad("content must be a string, an array of parts or null"))?;
        let images = members.get("content").map_or(Ok(0), image_tokens);
        request.prompt_tokens += 4 + tokens(&text) + images.map_err(bad)?;
        request.has_tool_result = role == "tool";
        *(if role == "user" { &mut last_user } else { &mut last }) = Some(text);
    }
    request.prompt = last_user.or(last).ok_or_else(|| bad("messages must not be empty"))?;
    Ok(())
}

/// A message's text: the string itself, or the text parts of an array one after the other.
fn content_text(raw: &str) -> Option<Cow<'_, str>> {
    match raw.as_bytes().first() {
        Some(b'"') => string(raw),
        Some(b'n') => Some(Cow::Borrowed("")),
        Some(b'[') => {
            let parts = elements(raw).ok()?;
            let texts = parts.into_iter().filter_map(|part| string(ObjectMembers::parse(part).ok()?.get("text")?));
            Some(Cow::Owned(texts.collect()))
        }
        _ => None,
    }
}

/// The tokens of a message's images: one to four tiles each, by the hash of the image's URL. The error says what is wrong with
/// one.
fn image_tokens(raw: &str) -> Result<u64, &'static str> {
    /// Tokens of a tile, as the service's page on vision says.
    const TILE: u64 = 1_601;
    let parts = if raw.starts_with('[') { elements(raw).unwrap_or_default() } else { Vec::new() };
    let tiles = |url: Cow<'_, str>| check_image(&url).map(|()| TILE * (1 + hash(&url) % 4));
    parts.into_iter().filter_map(image_url).map(tiles).sum()
}

/// Checks the URL of an image: an address, or a data URI whose base64 decodes.
fn check_image(url: &str) -> Result<(), &'static str> {
    /// Some clients leave the padding out.
    const BASE64: GeneralPurpose = GeneralPurpose::new(
        &alphabet::STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    if url.starts_with("http://") || url.starts_with("https://") {
        return Ok(());
    }
    let data = url.strip_prefix("data:image/").and_then(|rest| rest.split_once(";base64,"));
    let (_, data) = data.ok_or("image_url must be an http(s) URL or a base64 data URI of an image")?;
    BASE64.decode(data).map(drop).map_err(|_| "the base64 of an image_url does not decode")
}

/// The URL of a part of a message, if it is an image.
fn image_url(part: &str) -> Option<Cow<'_, str>> {
    let image = ObjectMembers::parse(part).ok()?.get("image_url")?;
    string(image).or_else(|| string(ObjectMembers::parse(image).ok()?.get("url")?))
}

fn inputs(raw: &str) -> Option<Vec<Cow<'_, str>>> {
    if let Some(one) = string(raw) {
        return Some(vec![one]);
    }
    let all: Option<Vec<_>> = elements(raw).ok()?.into_iter().map(string).collect();
    all.filter(|all| !all.is_empty())
}

/// A whole number above zero, if there is a value.
pub fn positive(name: &'static str, raw: Option<&str>) -> Result<Option<u64>, InvalidBody> {
    match raw {
        None | Some("null") => Ok(None),
        Some(raw) => match raw.parse() {
            Ok(value) if value > 0 => Ok(Some(value)),
            _ => Err(InvalidBody::of(name, &format!("{name} must be a positive integer"))),
        },
    }
}

fn format(raw: Option<&str>) -> Result<AnswerFormat<'_>, InvalidBody> {
    let bad = |message| InvalidBody::of("response_format", message);
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(AnswerFormat::Text) };
    let members = ObjectMembers::parse(raw).map_err(|_| bad("response_format must be an object"))?;
    let schema = members.get("schema");
    match members.get("type").and_then(string).as_deref() {
        Some("text") => Ok(AnswerFormat::Text),
        // The older form carries the schema beside `json_object`.
        Some("json_object") => Ok(schema.map_or(AnswerFormat::Object, AnswerFormat::Schema)),
        Some("json_schema") => {
            let inner = members.get("json_schema").and_then(|outer| ObjectMembers::parse(outer).ok()?.get("schema"));
            inner.or(schema).map(AnswerFormat::Schema).ok_or_else(|| bad("json_schema.schema is missing"))
        }
        Some("regex") => {
            let pattern = members.get("pattern").and_then(string).ok_or_else(|| bad("pattern is missing"))?;
            let texts = alternatives(&pattern);
            texts.map(AnswerFormat::OneOf).ok_or_else(|| bad("this sandbox knows only patterns of the form (a|b|c)"))
        }
        _ => Err(bad("type must be text, json_object, json_schema or regex")),
    }
}

/// The texts of a pattern that lists them: `(a|b|c)`.
fn alternatives(pattern: &str) -> Option<Vec<String>> {
    let inner = pattern.strip_prefix('(')?.strip_suffix(')')?;
    let mut texts = vec![String::new()];
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '|' => {
                texts.push(String::new());
                continue;
            }
            '\\' => characters.next().filter(|escaped| !escaped.is_alphanumeric())?,
            '.' | '+' | '*' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '^' | '$' => return None,
            other => other,
        };
        texts.last_mut()?.push(literal);
    }
    Some(texts)
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
            let parsed = parse(body, InferenceKind::Chat).unwrap();
            assert_eq!(parsed.prompt, prompt, "{body}");
            assert_eq!(parsed.model, "a/b");
        }
    }

    #[test]
    fn images_are_one_to_four_tiles_each() {
        let tokens = |parts: &str| {
            let body = format!(r#"{{"model":"a/b","messages":[{{"role":"user","content":[{parts}]}}]}}"#);
            parse(&body, InferenceKind::Chat).unwrap().prompt_tokens
        };
        let text = r#"{"type":"text","text":"look"}"#;
        let (object, plain) =
            (r#"{"image_url":{"url":"data:image/png;base64,AA"}}"#, r#"{"image_url":"https://x/y.png"}"#);
        let tiles = |part: &str| (tokens(&format!("{text},{part}")) - tokens(text)) / 1_601;
        assert!((1..=4).contains(&tiles(object)) && (1..=4).contains(&tiles(plain)));
        let both = tokens(&format!("{text},{object},{plain}")) - tokens(text);
        assert_eq!(both, (tiles(object) + tiles(plain)) * 1_601);
    }

    #[test]
    fn invalid_bodies_name_the_member() {
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
            (
                r#"{"model":"a/b","messages":[{"role":"user","content":[{"image_url":{"url":"cat.png"}}]}]}"#,
                Some("messages"),
            ),
            (
                r#"{"model":"a/b","messages":[{"role":"user","content":[{"image_url":"data:image/png;base64,A*A="}]}]}"#,
                Some("messages"),
            ),
            (r#"{"model":"a/b","max_tokens":0,"messages":[{"role":"user","content":"x"}]}"#, Some("max_tokens")),
            (r#"{"model":"a/b","stream":1,"messages":[{"role":"user","content":"x"}]}"#, Some("stream")),
        ];
        for (body, param) in cases {
            assert_eq!(parse(body, InferenceKind::Chat).unwrap_err().param, param, "{body}");
        }
    }

    #[test]
    fn deeply_nested_members_are_ignored() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        let body = format!(r#"{{"x":{deep},"model":"a/b","messages":[{{"role":"user","content":"x"}}]}}"#);
        assert_eq!(parse(&body, InferenceKind::Chat).unwrap().prompt, "x");
    }

    #[test]
    fn an_input_may_be_one_string_or_several() {
        for (input, expected) in [(r#""x""#, vec!["x"]), (r#"["x","y"]"#, vec!["x", "y"])] {
            let body = format!(r#"{{"model":"a/b","input":{input}}}"#);
            assert_eq!(parse(&body, InferenceKind::Embeddings).unwrap().inputs, expected);
        }
        assert!(parse(r#"{"model":"a/b","input":[1]}"#, InferenceKind::Embeddings).is_err());
    }
}
