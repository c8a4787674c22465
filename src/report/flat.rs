//! Flat results, read back: the tables and the flat lines that `run` and `fetch` write.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::json;
use serde_json::value::RawValue;

use super::row::ReadRow;
use crate::outcome::{ErrorCode, Outcome, RowError, Usage};

/// Reads row `number` of a table. `columns` returns the columns by name, and nothing for an empty one; `prefix` is that of
/// llbatch's own. The body is made from the columns. `None`: the row is not a flat result.
pub(super) fn of_cells<'a>(
    number: u64,
    prefix: &str,
    columns: &dyn Fn(&str) -> Option<Cow<'a, str>>,
) -> Option<ReadRow> {
    let cell = |name: &str| if prefix.is_empty() { columns(name) } else { columns(&format!("{prefix}{name}")) };
    // A record's own `custom_id` serves for the column.
    let id = cell("custom_id").or_else(|| columns("custom_id"))?;
    let attempts: u32 = cell("attempts")?.parse().ok()?;
    let count = |name: &str| cell(name).and_then(|text| crate::json::whole(&text));
    let error = cell("error").map(|text| RowError::of_cell(&text));
    let usage = match (count("prompt_tokens"), count("completion_tokens")) {
        (None, None) => None,
        (prompt, completion) => Some(Usage {
            prompt: prompt.unwrap_or(0),
            completion: completion.unwrap_or(0),
            cached: count("cached_tokens").unwrap_or(0),
            reasoning: count("reasoning_tokens").unwrap_or(0),
        }),
    };
    let body = error.is_none().then(|| {
        let text = |name: &str| cell(name).unwrap_or_default();
        let choice = json!({"message": {"content": text("content")}, "finish_reason": text("finish_reason")});
        json!({"choices": [choice]}).to_string().into()
    });
    let latency_ms = u32::try_from(count("latency_ms").unwrap_or(0)).unwrap_or(u32::MAX);
    let first_token_ms = count("first_token_ms").map(|ms| u32::try_from(ms).unwrap_or(u32::MAX));
    let model = cell("model").unwrap_or_default();
    let row = Outcome::unsent(number, id.as_ref().into(), model.as_ref().into(), ErrorCode::Missing, "");
    let reused = cell("reused").is_some_and(|reused| reused == "true");
    let cost = cell("cost_usd").and_then(|text| text.parse().ok());
    let leader = reused.then_some(0);
    let outcome = Outcome { error, body, usage, attempts, latency_ms, first_token_ms, leader, ..row };
    Some(ReadRow { outcome, flat: true, cost })
}

/// Reads row `number` from a flat JSON line. `None`: the line is not a flat result.
pub(super) fn of_line(number: u64, bytes: &[u8], prefix: &str) -> Option<ReadRow> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(bytes).ok()?;
    of_cells(number, prefix, &|name| {
        let raw = members.get(name)?.get();
        match raw.as_bytes().first()? {
            b'"' => serde_json::from_str::<String>(raw).ok().map(Cow::Owned),
            b'n' => None,
            _ => Some(Cow::Borrowed(raw)),
        }
    })
}
