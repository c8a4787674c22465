//! Flat results, read back: the tables and the flat lines that `run` and `fetch` write.

use std::borrow::Cow;

use serde_json::value::RawValue;

use crate::outcome::{ErrorCode, Outcome, RowError, Usage};

/// An outcome as far as a flat row tells it, and a body that says of the answer what the row says of it.
pub(super) struct Flat {
    pub(super) outcome: Outcome,
    pub(super) body: Option<String>,
}

/// Reads row `number`; `cell` gives our own columns by their names, empty ones as nothing. `None`: it is no flat result.
pub(super) fn read<'a>(number: u64, cell: &dyn Fn(&str) -> Option<Cow<'a, str>>) -> Option<Flat> {
    let id = cell("custom_id")?;
    let attempts: u32 = cell("attempts")?.parse().ok()?;
    let count = |name: &str| cell(name).and_then(|text| text.parse::<u64>().ok());
    let error = cell("error").map(|text| {
        let known = |(code, message): (&str, &str)| Some((ErrorCode::parse(code)?, message.to_owned()));
        let (code, message) =
            text.split_once(": ").and_then(known).unwrap_or((ErrorCode::BadResponse, text.clone().into_owned()));
        RowError { code, message }
    });
    let usage = match (count("prompt_tokens"), count("completion_tokens")) {
        (None, None) => None,
        (prompt, completion) => Some(Usage { prompt: prompt.unwrap_or(0), completion: completion.unwrap_or(0) }),
    };
    let latency = count("latency_ms").unwrap_or(0);
    let body = error.is_none().then(|| {
        let text = |name: &str| cell(name).map(Cow::into_owned).unwrap_or_default();
        let choice =
            serde_json::json!({"message": {"content": text("content")}, "finish_reason": text("finish_reason")});
        serde_json::json!({"choices": [choice]}).to_string()
    });
    let model = cell("model").unwrap_or_default();
    let row = Outcome::unsent(number, id.as_ref().into(), model.as_ref().into(), ErrorCode::Missing, "");
    let latency_ms = u32::try_from(latency).unwrap_or(u32::MAX);
    Some(Flat { outcome: Outcome { error, usage, attempts, latency_ms, ..row }, body })
}

/// Reads a flat JSON line.
pub(super) fn line(number: u64, bytes: &[u8]) -> Option<Flat> {
    let members: std::collections::BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(bytes).ok()?;
    read(number, &|name| {
        let raw = members.get(name)?.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
            b'n' => None,
            _ => Some(Cow::Borrowed(raw)),
        }
    })
}
