//! Turns a record into the request that is sent: id, model, body, fingerprint.
//!
//! llbatch recognises a record by its fields: a batch line (`body`), a request body (`messages`), or a prompt (`prompt`).
//! With `--prompt` a record is data for a template. Then only its id is used otherwise, so that the column `model` of a
//! table of cars is not taken for the model that answers (`--row-params` uses it). Flags fill the members that a row does not set. Bodies are
//! edited as text and never parsed into a tree, so they travel as the user wrote them.

#![expect(clippy::result_large_err, reason = "a problem is rare, and its fields are for the caller to read")]

pub mod batch_line;
mod body;
mod builder;
mod columns;
mod first_look;
mod flags;
mod form;
mod growth;
mod hints;
mod id;
mod images;
mod key;
mod messages;
mod notes;
mod packing;
mod params;
mod problem;
mod record;
mod recordings;
mod template;
mod typed_columns;
mod usage;

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::{Arc, LazyLock};

pub use builder::{NO_PROMPT, RequestBuilder};
pub use form::{FormField, form_fields};
pub use growth::TokenGrowth;
pub use id::generated as generated_id;
pub use key::{KeyMaker, RequestKey};
use memchr::memmem::Finder;
pub use packing::{OutRequest, PackedRow, PackedRows, Packer};
pub use params::{Endpoint, FilesDir, Params};
pub use problem::Problem;
pub(crate) use problem::shorten;
pub use record::{Data, Field, InputPlace, OwnedData, Record};
pub use template::TEMPLATE_FAULT;

pub use crate::attached::{AttachedFile, Attachments, FileFault, RecordingPieces};
use crate::json::{self, Member};
use crate::outcome::{Fingerprint, Usage};
use crate::tokens::{self, Media};

/// The members that ask for a stream, with the usage in its last chunk.
const STREAM: &str = r#""stream":true,"stream_options":{"include_usage":true}}"#;

/// The body that asks for the same answer as a stream. `body` is an object without `stream`.
pub fn streaming(body: &str) -> String {
    let members = body.trim_end().strip_suffix('}').unwrap_or(body);
    let comma = if members.trim_end().ends_with('{') { "" } else { "," };
    format!("{members}{comma}{STREAM}")
}

/// A request as it will be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// 1-based over all inputs.
    pub row: u64,
    /// The user's id, or `row-N`.
    pub id: Box<str>,
    /// Llbatch made the id.
    pub generated_id: bool,
    /// The model asked for.
    pub model: Arc<str>,
    /// The body that is posted: JSON on one line.
    pub body: Box<str>,
    /// Equal for equal requests.
    pub fingerprint: Fingerprint,
    /// A `stream` or `stream_options` member was removed.
    pub stream_removed: bool,
    /// The bound on answer tokens, if the body has one.
    pub max_tokens: Option<u64>,
    /// The local files whose bytes take the places of their stand-ins in the body.
    pub files: Attachments,
    /// Its parts that are not text.
    media: Media,
    /// Bytes of its body that the model reads once more, beside its length.
    repeated: u64,
    /// The most tokens that all answers come to, or `None` without a bound.
    answers: Option<u64>,
}

/// A [`Request`] that still borrows from its record where it can. A check needs no more.
#[derive(Debug, Clone)]
pub struct Draft<'a> {
    /// 1-based over all inputs.
    pub row: u64,
    /// Its number in the whole input, for a generated id.
    pub number: u64,
    /// The user's id, or `row-N`.
    pub id: Cow<'a, str>,
    /// Llbatch made the id.
    pub generated_id: bool,
    /// The model asked for.
    pub model: Cow<'a, str>,
    /// The body that is posted.
    pub body: Cow<'a, str>,
    /// The endpoint that answers it.
    pub endpoint: Endpoint,
    /// A `stream` or `stream_options` member was removed.
    pub stream_removed: bool,
    /// The bound on answer tokens, if the body has one.
    pub max_tokens: Option<u64>,
    /// The local files whose bytes take the places of their stand-ins in the body.
    pub files: Attachments,
    /// The members of a JSON record, which were found on the way.
    members: Vec<Member<'a>>,
    /// The request may ask for more than one answer.
    choices: bool,
    media: OnceCell<Media>,
}

impl Request {
    /// The most tokens that one attempt may cost, which a budget sets aside: its prompt, and its answers or 0 without a
    /// bound on them. `image`: the user's own figure for an image.
    pub fn reserve(&self, image: Option<u64>) -> Usage {
        // No bound is 0, so an endpoint without answer tokens has 1.
        let prompt = tokens::bound(&self.body, &self.media, image) + tokens::bound_bytes(self.repeated);
        Usage::new(prompt, self.answers.map_or(0, |bound| bound.max(1)))
    }

    /// A middling estimate of its prompt tokens, for pacing. `image`: as above.
    pub fn about(&self, image: Option<u64>) -> u64 {
        tokens::estimate(&self.body, &self.media, image) + tokens::estimate_bytes(self.repeated)
    }
}

impl<'a> Draft<'a> {
    /// The members of its record, if that is JSON.
    pub fn members(&self) -> &[Member<'a>] {
        &self.members
    }
    /// Its parts that are not text. They are looked for once.
    pub fn media(&self) -> &Media {
        self.media.get_or_init(|| {
            if self.endpoint.is_audio() {
                // Its length decides its cost, and is not known.
                return Media { unbounded: Some("recording".to_owned()), ..Media::default() };
            }
            Media::of(&self.body)
        })
    }

    /// Bytes of the body that the model reads once more, beside its length: the query, for each document but the first.
    pub fn repeated(&self) -> u64 {
        if self.endpoint != Endpoint::Rerank {
            return 0;
        }
        let members = json::trusted_members(&self.body);
        let (query, documents) = (json::find(&members, "query"), json::find(&members, "documents"));
        let documents = documents.map_or(0, |documents| json::trusted_elements(documents.value).len() as u64);
        query.map_or(0, |query| query.value.len() as u64) * documents.saturating_sub(1)
    }

    /// The most tokens that all answers come to, or `None` without a bound.
    pub fn answer_bound(&self) -> Option<u64> {
        if !self.endpoint.has_max_tokens() {
            return Some(0);
        }
        // Most requests ask for one answer, and are not searched for more.
        if self.choices || self.endpoint == Endpoint::Completions {
            answer_bound(&self.body, self.max_tokens)
        } else {
            self.max_tokens
        }
    }

    /// The text that the user asks: that of the last message, or the prompt or input.
    pub fn prompt(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_str(&self.body).ok()?;
        let subject = &body[self.endpoint.asked()];
        let asked = subject.as_array().and_then(|messages| messages.last()?.get("content")).unwrap_or(subject);
        let parts = |parts: &Vec<serde_json::Value>| -> String {
            parts.iter().filter_map(|part| part["text"].as_str().or(part.as_str())).collect::<Vec<_>>().join("\n")
        };
        let text = asked.as_str().map(str::to_owned).or_else(|| asked.as_array().map(parts));
        text.filter(|text| !text.is_empty())
    }

    /// Equal for equal requests. Computed on demand: it costs as much as the rest of the draft.
    pub fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.endpoint, &self.model, &self.body)
    }
}

/// Largest number of tokens that llbatch calculates with, even if a request allows more. No model's answer is as long,
/// and the sums over all rows stay within 64 bits.
pub const MOST_TOKENS: u64 = 1 << 40;

/// The most tokens that all answers to a request come to: `n` of them, each up to `max_tokens`. `None` without a bound.
fn answer_bound(body: &str, max_tokens: Option<u64>) -> Option<u64> {
    /// Tokens of the longest answer that a model gives.
    const LONGEST: u64 = 131_072;
    let choices = choices(body);
    let most = max_tokens.or((choices > 1).then_some(LONGEST))?;
    Some(most.saturating_mul(choices).min(MOST_TOKENS))
}

/// Parameters that ask for more than one answer.
const CHOICES: [&str; 2] = ["n", "best_of"];

/// The number of answers that the request asks for: choices, of each of its prompts.
fn choices(body: &str) -> u64 {
    // A name may be spelled with an escape: `"\u006e"`.
    static NAMED: LazyLock<[Finder<'static>; 4]> =
        LazyLock::new(|| ["\"n\"", "\"best_of\"", "\"prompt\"", "\\u00"].map(Finder::new));
    // Rarely in the text. Only the members of the body itself count.
    if NAMED.iter().all(|name| name.find(body.as_bytes()).is_none()) {
        return 1;
    }
    let members = json::members(body).unwrap_or_default();
    let asked = members.iter().filter(|member| CHOICES.contains(&&*member.key));
    let choices = asked.filter_map(|member| json::whole(member.value.trim_matches('"'))).fold(1, u64::max);
    let prompts = json::find(&members, "prompt").filter(|prompt| prompt.value.starts_with('[')).map_or(1, |prompt| {
        let texts = json::trusted_elements(prompt.value);
        // A list of numbers is one prompt of tokens.
        texts.iter().filter(|text| text.starts_with(['"', '['])).count().max(1) as u64
    });
    choices.saturating_mul(prompts)
}

/// Blake3 of endpoint, model and body, cut to 16 bytes.
pub fn fingerprint(endpoint: Endpoint, model: &str, body: &str) -> Fingerprint {
    let mut hasher = blake3::Hasher::new();
    for (part, end) in [(endpoint.path(), &[0_u8][..]), (model, &[0]), (body, &[])] {
        hasher.update(part.as_bytes()).update(end);
    }
    let mut cut = [0; 16];
    cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    Fingerprint(cut)
}

#[cfg(test)]
mod tests;
