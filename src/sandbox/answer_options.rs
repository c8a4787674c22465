//! The members of a request body that decide the form of its answer.

use std::borrow::Cow;

use super::json::{ObjectMembers, elements, string};
use super::logprobs::LogprobForm;
use super::media::MediaForm;
use super::request::{InferenceKind, InvalidBody, positive};
use super::tools::OfferedTools;

/// The numbers of an embedding, unless the request says otherwise.
const DIMENSIONS: u64 = 16;
const MOST_DIMENSIONS: u64 = 4096;

/// The form that a request asks for.
#[derive(Debug)]
pub struct AnswerOptions<'a> {
    /// The answer comes as a stream.
    pub stream: Option<StreamOptions>,
    pub tools: OfferedTools<'a>,
    pub logprobs: Option<LogprobForm>,
    /// Texts before which an answer ends.
    pub stops: Vec<Cow<'a, str>>,
    /// The answer has a reasoning before its content.
    pub reasons: bool,
    /// Embeddings come as base64 of 32-bit floats.
    pub base64: bool,
    /// The numbers of an embedding.
    pub dimensions: u64,
    /// The most documents of a ranking.
    pub top_n: Option<u64>,
    /// A ranking repeats the documents.
    pub returns_documents: bool,
    /// The form of files.
    pub media: MediaForm,
}

/// The form of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StreamOptions {
    /// The last event has no choices but the usage.
    pub include_usage: bool,
}

impl<'a> AnswerOptions<'a> {
    /// Reads the members of a body.
    pub fn parse(members: &ObjectMembers<'a>, kind: InferenceKind) -> Result<Self, InvalidBody> {
        if let Some((name, _)) = UNSUPPORTED.iter().find(|(name, asks)| members.get(name).is_some_and(*asks)) {
            return Err(InvalidBody::of(name, &format!("{name} is not supported by the sandbox")));
        }
        let is_chat = kind == InferenceKind::Chat;
        let dimensions = positive("dimensions", members.get("dimensions"))?.unwrap_or(DIMENSIONS);
        if dimensions > MOST_DIMENSIONS {
            return Err(InvalidBody::of("dimensions", &format!("dimensions must not be above {MOST_DIMENSIONS}")));
        }
        Ok(Self {
            stream: stream(members, kind)?,
            tools: if is_chat { OfferedTools::parse(members)? } else { OfferedTools::default() },
            logprobs: LogprobForm::parse(members)?,
            stops: stops(members.get("stop"))?,
            reasons: is_chat && reasons(members),
            base64: base64(members.get("encoding_format"))?,
            dimensions,
            top_n: positive("top_n", members.get("top_n"))?,
            returns_documents: members.get("return_documents") == Some("true"),
            media: MediaForm::default(),
        })
    }
}

/// A member's name, and the values of it that ask for something.
type AskingMember = (&'static str, fn(&str) -> bool);

/// Members that would change an answer in a way that the sandbox does not know, and the values that ask for it.
const UNSUPPORTED: [AskingMember; 9] = [
    ("functions", |raw| !matches!(raw, "null" | "[]")),
    ("function_call", |raw| !matches!(raw, "null" | "\"none\"")),
    ("audio", |raw| raw != "null"),
    ("modalities", |raw| raw.contains("\"audio\"")),
    ("web_search_options", |raw| raw != "null"),
    ("prediction", |raw| raw != "null"),
    ("echo", |raw| raw == "true"),
    ("suffix", |raw| !matches!(raw, "null" | "\"\"")),
    ("best_of", |raw| !matches!(raw, "null" | "1")),
];

fn stream(members: &ObjectMembers<'_>, kind: InferenceKind) -> Result<Option<StreamOptions>, InvalidBody> {
    match members.get("stream") {
        None | Some("null" | "false") => return Ok(None),
        Some("true") if matches!(kind, InferenceKind::Chat | InferenceKind::Completions) => {}
        Some("true") => return Err(InvalidBody::of("stream", "Only chat and completions are streamed")),
        Some(_) => return Err(InvalidBody::of("stream", "stream must be true or false")),
    }
    let options = match members.get("stream_options") {
        None | Some("null") => return Ok(Some(StreamOptions::default())),
        Some(raw) => ObjectMembers::parse(raw),
    };
    let options = options.map_err(|_| InvalidBody::of("stream_options", "stream_options must be an object"))?;
    Ok(Some(StreamOptions { include_usage: options.get("include_usage") == Some("true") }))
}

fn stops(raw: Option<&str>) -> Result<Vec<Cow<'_, str>>, InvalidBody> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(Vec::new()) };
    let texts = match string(raw) {
        Some(one) => Some(vec![one]),
        None => elements(raw).ok().and_then(|texts| texts.into_iter().map(string).collect()),
    };
    let texts = texts.ok_or_else(|| InvalidBody::of("stop", "stop must be a string or an array of strings"))?;
    Ok(texts.into_iter().filter(|text: &Cow<'_, str>| !text.is_empty()).collect())
}

/// Returns true for `reasoning_effort` above `none`, and for a `reasoning` that is enabled or has an effort.
fn reasons(members: &ObjectMembers<'_>) -> bool {
    let is_some = |effort: Option<&str>| effort.and_then(string).is_some_and(|effort| effort != "none");
    let reasoning = members.get("reasoning").and_then(|raw| ObjectMembers::parse(raw).ok());
    is_some(members.get("reasoning_effort"))
        || reasoning.is_some_and(|own| own.get("enabled") == Some("true") || is_some(own.get("effort")))
}

fn base64(raw: Option<&str>) -> Result<bool, InvalidBody> {
    let Some(raw) = raw.filter(|raw| *raw != "null") else { return Ok(false) };
    match string(raw).as_deref() {
        Some("float") => Ok(false),
        Some("base64") => Ok(true),
        _ => Err(InvalidBody::of("encoding_format", "encoding_format must be float or base64")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<AnswerOptions<'_>, InvalidBody> {
        AnswerOptions::parse(&ObjectMembers::parse(text).unwrap(), InferenceKind::Chat)
    }

    #[test]
    fn what_is_not_supported_is_said() {
        let cases = [
            (r#"{"functions":[{"name":"f"}]}"#, "functions"),
            (r#"{"function_call":"auto"}"#, "function_call"),
            (r#"{"modalities":["text","audio"]}"#, "modalities"),
            (r#"{"echo":true}"#, "echo"),
            (r#"{"suffix":"x"}"#, "suffix"),
            (r#"{"best_of":3}"#, "best_of"),
        ];
        for (text, name) in cases {
            let why = parsed(text).unwrap_err();
            let expected = format!("{name} is not supported by the sandbox");
            assert_eq!((why.param, why.message), (Some(name), expected), "{text}");
        }
        let asks_nothing =
            r#"{"functions":null,"function_call":"none","modalities":["text"],"echo":false,"best_of":1}"#;
        assert!(parsed(asks_nothing).is_ok());
    }

    #[test]
    fn invalid_options_name_the_member() {
        for (text, name) in [
            (r#"{"stream":1}"#, "stream"),
            (r#"{"stream":true,"stream_options":1}"#, "stream_options"),
            (r#"{"stop":[1]}"#, "stop"),
            (r#"{"encoding_format":"hex"}"#, "encoding_format"),
            (r#"{"dimensions":5000}"#, "dimensions"),
            (r#"{"logprobs":99}"#, "logprobs"),
        ] {
            assert_eq!(parsed(text).unwrap_err().param, Some(name), "{text}");
        }
    }

    #[test]
    fn reasoning_is_asked_for_in_either_form() {
        for (text, expected) in [
            (r#"{"reasoning":{"enabled":true}}"#, true),
            (r#"{"reasoning":{"enabled":false}}"#, false),
            (r#"{"reasoning":{"effort":"low"}}"#, true),
            (r#"{"reasoning_effort":"high"}"#, true),
            (r#"{"reasoning_effort":"none"}"#, false),
            (r#"{"reasoning":{}}"#, false),
        ] {
            assert_eq!(parsed(text).unwrap().reasons, expected, "{text}");
        }
    }
}
