//! The flags that concern requests, and the parameters that the service knows.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::json;

/// The service's endpoint that answers the rows.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "lowercase")]
pub enum Endpoint {
    /// Chat completions: `messages`.
    #[default]
    Chat,
    /// Text completions: `prompt`.
    Completions,
    /// Embeddings: `input`.
    Embeddings,
    /// Speech to text in its own language: `file`.
    Transcriptions,
    /// Speech to English text: `file`.
    Translations,
    /// The order of documents by their relevance to a query: `documents`, `query`.
    Rerank,
    /// Images of a description: `prompt`. Each answer is one or more files.
    Images,
    /// Speech from text: `input`. Each answer is a file.
    Speech,
}

impl Endpoint {
    /// All endpoints.
    pub const ALL: [Self; 8] = [
        Self::Chat,
        Self::Completions,
        Self::Embeddings,
        Self::Transcriptions,
        Self::Translations,
        Self::Rerank,
        Self::Images,
        Self::Speech,
    ];

    /// Path below the base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
            Self::Transcriptions => "/audio/transcriptions",
            Self::Translations => "/audio/translations",
            Self::Rerank => "/rerank",
            Self::Images => "/images/generations",
            Self::Speech => "/audio/speech",
        }
    }

    /// The flag's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::Transcriptions => "transcriptions",
            Self::Translations => "translations",
            Self::Rerank => "rerank",
            Self::Images => "images",
            Self::Speech => "speech",
        }
    }

    /// Returns true if batches serve it. Source: the `endpoint` of Together's "Create a batch" (read 2026-11).
    pub const fn in_batches(self) -> bool {
        matches!(self, Self::Chat | Self::Transcriptions | Self::Translations)
    }

    /// The `method` that a batch line must carry. Audio lines need `FILE`, so that the service makes a form of the
    /// body; chat lines carry none. Source: Together's batch tutorial, "Prepare a JSONL input file" (read 2026-11).
    pub(super) const fn batch_method(self) -> Option<&'static str> {
        if self.is_audio() { Some("FILE") } else { None }
    }

    /// Returns true if its answers have a length that `max_tokens` bounds.
    pub const fn has_max_tokens(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    /// Returns true if its answers are texts.
    pub const fn gives_texts(self) -> bool {
        self.has_max_tokens() || self.is_audio()
    }

    /// Returns true if it takes recordings, and a request is a form.
    pub const fn is_audio(self) -> bool {
        matches!(self, Self::Transcriptions | Self::Translations)
    }

    /// Returns true if a request is made of one text, which a template or a column may give.
    pub(super) const fn takes_prompt(self) -> bool {
        matches!(self, Self::Chat | Self::Completions | Self::Embeddings | Self::Images | Self::Speech)
    }

    /// Returns true if a cell or a line may give all that a request is made of: its text, or its recording.
    pub(super) const fn is_made_of_one(self) -> bool {
        self.takes_prompt() || self.is_audio()
    }

    /// Returns true if its answers are files.
    pub const fn makes_files(self) -> bool {
        matches!(self, Self::Images | Self::Speech)
    }

    /// Returns true if its answers may come as streams of pieces of text.
    pub const fn is_streamed(self) -> bool {
        matches!(self, Self::Chat | Self::Completions)
    }

    /// The member that a body of this endpoint must have.
    pub const fn subject(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completions | Self::Images => "prompt",
            Self::Embeddings | Self::Speech => "input",
            Self::Transcriptions | Self::Translations => "file",
            Self::Rerank => "documents",
        }
    }

    /// The member that holds the user's question or text.
    pub(super) const fn asked(self) -> &'static str {
        if matches!(self, Self::Rerank) { "query" } else { self.subject() }
    }

    /// A line of the input that such a request is made of. `None`: a text may be one.
    pub(super) const fn example(self) -> Option<&'static str> {
        match self {
            Self::Chat | Self::Completions | Self::Embeddings | Self::Images | Self::Speech => None,
            Self::Transcriptions | Self::Translations => Some(
                r#"a line looks like {"id": "…", "file": "call.mp3", "model": "…"}; `file` is a path or an https:// URL"#,
            ),
            Self::Rerank => {
                Some(r#"a line looks like {"id": "…", "query": "…", "documents": ["…", "…"], "model": "…"}"#)
            }
        }
    }

    /// The endpoint whose path `url` ends in, with or without base URL and `/v1`.
    pub fn of_url(url: &str) -> Option<Self> {
        let path = url.split_once("://").map_or(url, |(_, rest)| rest.find('/').map_or("", |at| &rest[at..]));
        let path = path.trim_end_matches('/').strip_prefix("/v1").unwrap_or(path.trim_end_matches('/'));
        Self::ALL.into_iter().find(|endpoint| endpoint.path() == path)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|endpoint| endpoint.as_str() == text).ok_or_else(|| {
            format!("unknown endpoint {text:?}: expected one of {}", Self::ALL.map(Self::as_str).join(", "))
        })
    }
}

/// The flags that concern requests. Kept with a job, so that it can be resumed without its flags.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq)]
#[serde(default)]
pub struct Params {
    /// The endpoint that answers.
    pub endpoint: Endpoint,
    /// The model for rows that name none.
    pub model: Option<String>,
    /// Template of the prompt: records are its data.
    pub prompt: Option<String>,
    /// System message for rows without one; a template if it holds `{{`, `{%` or `{#`.
    pub system: Option<String>,
    /// Name of the field that holds the id.
    pub id: Option<String>,
    /// The bound on the tokens of an answer.
    pub max_tokens: Option<u64>,
    /// A JSON number as the user spelled it.
    pub temperature: Option<String>,
    /// A JSON number as the user spelled it.
    pub top_p: Option<String>,
    /// Seed of the sampling.
    pub seed: Option<i64>,
    /// The texts at which an answer stops.
    pub stop: Vec<String>,
    /// The JSON Schema's text.
    pub json_schema: Option<String>,
    /// The name that the wrapper of the schema gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema_name: Option<String>,
    /// `--choices`: the only texts that an answer may have. Empty: any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// The service takes a pattern of answers, so `choices` are asked for.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub asks_choices: bool,
    /// `--complete`: an answer that was cut off at its token limit is a failure.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub complete: bool,
    /// Further members: name and JSON text.
    pub set: Vec<(String, String)>,
    /// `--constant-prompt`: the prompt may be the same for all rows.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub constant_prompt: bool,
    /// `--row-params`: parameters that a row gives beside a template; an empty list means all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_params: Option<Vec<String>>,
    /// `--override`: members that replace what rows say: name and JSON text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<(String, String)>,
    /// `--image`: fields that name images.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// `--local-files`: the directory of the local files that messages may name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_files: Option<PathBuf>,
    /// `--max-file`: the most bytes of a local file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_file: Option<u64>,
    /// The directory that relative paths of inputs count from, where requests have local files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub work_dir: Option<PathBuf>,
    /// `--files`: the directory for the files that answers are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesDir>,
}

impl Params {
    /// The same without the directory of the command, and with one spelling of others: they make no other command.
    #[must_use]
    pub fn anywhere(&self) -> Self {
        let files = self.files.clone().map(|files| FilesDir { shown: files.dir.clone(), ..files });
        Self { work_dir: None, files, ..self.clone() }
    }
}

/// A directory for files. Two are the same if their absolute paths are.
#[derive(Serialize, Deserialize, Debug, Clone)]
pub struct FilesDir {
    /// Its absolute path.
    pub dir: PathBuf,
    /// Its path as the user typed it, which results show.
    pub shown: PathBuf,
}

impl PartialEq for FilesDir {
    fn eq(&self, other: &Self) -> bool {
        self.dir == other.dir
    }
}

/// The kind of value that a CSV cell holds for a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ParameterKind {
    /// Must be a JSON number.
    Number,
    /// Must be a whole number; a spreadsheet or pandas may spell it `512.0`.
    Whole,
    /// Taken as a string.
    Text,
    /// Must be JSON.
    Json,
    /// JSON if it is, otherwise a string.
    Either,
}

impl ParameterKind {
    /// The JSON value that a cell spells.
    ///
    /// # Errors
    /// The kind of value that is wanted.
    pub fn value(self, cell: &str) -> Result<Cow<'_, str>, &'static str> {
        let trimmed = cell.trim();
        match self {
            Self::Text => Ok(Cow::Owned(json::quote(cell))),
            Self::Number if json::is_number(trimmed) => Ok(Cow::Borrowed(trimmed)),
            Self::Number => Err("a number"),
            Self::Whole if json::is_number(trimmed) => Ok(Cow::Borrowed(without_fraction(trimmed))),
            Self::Whole => Err("a whole number"),
            Self::Json => json::compact(trimmed).map(Cow::Owned).map_err(|_| "JSON"),
            Self::Either => Ok(Cow::Owned(json::compact(trimmed).unwrap_or_else(|_| json::quote(cell)))),
        }
    }
}

/// A number without a fraction of zeros: `512` for `512.0`.
fn without_fraction(number: &str) -> &str {
    match number.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|digit| digit == b'0') => whole,
        _ => number,
    }
}

/// The parameters that travel when a prompt record or a CSV row has a field of that name. Source: Together's chat
/// parameters (their published agent skill `together-chat-completions`, "API parameters", read 2026-11), the
/// completions' `suffix`, the embeddings' `dimensions`, and the names of `OpenAI` that compatible servers take.
/// `stream` is left out on purpose: only `--stream` decides whether answers are streamed.
const PARAMETERS: &[(&str, ParameterKind)] = &[
    ("model", ParameterKind::Text),
    ("max_tokens", ParameterKind::Whole),
    ("max_completion_tokens", ParameterKind::Whole),
    ("temperature", ParameterKind::Number),
    ("top_p", ParameterKind::Number),
    ("top_k", ParameterKind::Whole),
    ("min_p", ParameterKind::Number),
    ("repetition_penalty", ParameterKind::Number),
    ("presence_penalty", ParameterKind::Number),
    ("frequency_penalty", ParameterKind::Number),
    ("stop", ParameterKind::Either),
    ("n", ParameterKind::Whole),
    ("best_of", ParameterKind::Whole),
    ("seed", ParameterKind::Whole),
    ("logprobs", ParameterKind::Json),
    ("top_logprobs", ParameterKind::Whole),
    ("echo", ParameterKind::Json),
    ("logit_bias", ParameterKind::Json),
    ("response_format", ParameterKind::Json),
    ("tools", ParameterKind::Json),
    ("tool_choice", ParameterKind::Either),
    ("parallel_tool_calls", ParameterKind::Json),
    ("function_call", ParameterKind::Either),
    ("safety_model", ParameterKind::Text),
    ("compliance", ParameterKind::Text),
    ("reasoning_effort", ParameterKind::Text),
    ("reasoning", ParameterKind::Json),
    ("chat_template_kwargs", ParameterKind::Json),
    ("context_length_exceeded_behavior", ParameterKind::Text),
    ("suffix", ParameterKind::Text),
    ("dimensions", ParameterKind::Whole),
];

/// Further parameters of images. Source: `ImageGenerateParams` of Together's Python SDK 3.1.1, and the names of `OpenAI`.
const IMAGE_PARAMETERS: &[(&str, ParameterKind)] = &[
    ("width", ParameterKind::Whole),
    ("height", ParameterKind::Whole),
    ("steps", ParameterKind::Whole),
    ("guidance_scale", ParameterKind::Number),
    ("negative_prompt", ParameterKind::Text),
    ("output_format", ParameterKind::Text),
    ("image_url", ParameterKind::Text),
    ("reference_images", ParameterKind::Json),
    ("image_loras", ParameterKind::Json),
    ("disable_safety_checker", ParameterKind::Json),
    ("size", ParameterKind::Text),
    ("quality", ParameterKind::Text),
    ("style", ParameterKind::Text),
];

/// Further parameters of speech. Source: `SpeechCreateParams` of Together's Python SDK 3.1.1, and the names of `OpenAI`.
const SPEECH_PARAMETERS: &[(&str, ParameterKind)] = &[
    ("voice", ParameterKind::Text),
    ("language", ParameterKind::Text),
    ("sample_rate", ParameterKind::Whole),
    ("bit_rate", ParameterKind::Whole),
    ("response_encoding", ParameterKind::Text),
    ("speed", ParameterKind::Number),
    ("instructions", ParameterKind::Text),
];

/// The parameters of speech to text, beside `model` and `temperature`. Source: `TranscriptionCreateParams` of Together's
/// Python SDK 3.1.1, and the names of `OpenAI`.
const RECORDING_PARAMETERS: &[(&str, ParameterKind)] = &[
    ("prompt", ParameterKind::Text),
    ("language", ParameterKind::Text),
    ("response_format", ParameterKind::Text),
    ("timestamp_granularities", ParameterKind::Either),
    ("diarize", ParameterKind::Json),
    ("min_speakers", ParameterKind::Whole),
    ("max_speakers", ParameterKind::Whole),
    ("include", ParameterKind::Either),
    ("chunking_strategy", ParameterKind::Either),
];

/// All parameters, in the order of their places.
fn all_parameters() -> impl Iterator<Item = &'static (&'static str, ParameterKind)> {
    PARAMETERS.iter().chain(IMAGE_PARAMETERS).chain(SPEECH_PARAMETERS).chain(RECORDING_PARAMETERS)
}

/// The field of a record that holds a system message: a parameter too, where rows are asked for theirs.
pub const SYSTEM: &str = "system";

/// The place of a parameter, or of the system message, in a set of parameters.
pub(super) fn parameter_index(name: &str) -> Option<usize> {
    if name == SYSTEM {
        return Some(all_parameters().count());
    }
    all_parameters().position(|(known, _)| *known == name)
}

/// The parameter at a place.
pub fn at(place: usize) -> &'static str {
    all_parameters().nth(place).map_or(SYSTEM, |(name, _)| name)
}

/// The kind of value of the parameter `name` of an endpoint, or `None` if it is not a parameter.
pub fn kind(endpoint: Endpoint, name: &str) -> Option<ParameterKind> {
    if endpoint.is_audio() && !matches!(name, "model" | "temperature") {
        return RECORDING_PARAMETERS.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    }
    let more = match endpoint {
        Endpoint::Images => IMAGE_PARAMETERS,
        Endpoint::Speech => SPEECH_PARAMETERS,
        _ => &[],
    };
    if endpoint.makes_files() && name == "response_format" {
        // Of a chat, it is an object.
        return Some(ParameterKind::Text);
    }
    PARAMETERS.iter().chain(more).find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_their_endpoint() {
        for (url, endpoint) in [
            ("/v1/chat/completions", Some(Endpoint::Chat)),
            ("/chat/completions/", Some(Endpoint::Chat)),
            ("https://api.example.org/v1/completions", Some(Endpoint::Completions)),
            ("/v1/embeddings", Some(Endpoint::Embeddings)),
            ("/v1/audio/transcriptions", Some(Endpoint::Transcriptions)),
            ("https://api.example.org/audio/translations", Some(Endpoint::Translations)),
            ("/v1/rerank", Some(Endpoint::Rerank)),
            ("/v1/audio/speech", Some(Endpoint::Speech)),
            ("/v1/images/generations", Some(Endpoint::Images)),
            ("/v1/responses", None),
            ("https://api.example.org", None),
            ("", None),
        ] {
            assert_eq!(Endpoint::of_url(url), endpoint, "{url}");
        }
    }

    #[test]
    fn what_is_kept_of_an_older_job_still_reads() {
        let params: Params = serde_json::from_str(r#"{"model":"m","endpoint":"embeddings"}"#).unwrap();
        assert_eq!(params.endpoint, Endpoint::Embeddings);
        assert_eq!(params.model.as_deref(), Some("m"));
        assert_eq!("chat".parse(), Ok(Endpoint::Chat));
        assert!("chats".parse::<Endpoint>().is_err());
        for endpoint in Endpoint::ALL {
            assert_eq!(endpoint.as_str().parse(), Ok(endpoint));
            let kept = serde_json::to_string(&endpoint).unwrap();
            assert_eq!(kept, format!("\"{endpoint}\""), "in a job's record as on the command line");
        }
    }
}
