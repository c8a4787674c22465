//! Requests that are longer than their model reads, and those that may be.

use crate::price::PriceTable;
use crate::request::{Draft, Endpoint, Problem, Record};
use crate::tokens::{self, Estimator};

/// Requests below this many tokens fit every model that answers in words, and need not be looked up.
const SHORT: u64 = 2048;

/// Larger bodies are not counted: that takes longer than the service takes to refuse them.
const COUNTABLE: u64 = 8 << 20;

/// Bytes of a token on average, at most: even one letter over and over makes tokens of 8 to 16.
const LONGEST_TOKEN: u64 = 32;

/// The code of the problem of such a row.
pub const CONTEXT_LENGTH: &str = "context_length";

/// Makes the problem of a row whose prompt and answer are surely more than its model reads.
pub fn too_long(record: &Record<'_>, draft: &Draft<'_>, table: &PriceTable) -> Option<Problem> {
    if draft.endpoint == Endpoint::Embeddings {
        // The model cuts a longer text, and answers.
        return None;
    }
    let context = passable_context(draft, table)?;
    let text = text_bytes(draft);
    let prompt = if text > COUNTABLE {
        text / LONGEST_TOKEN
    } else {
        Estimator::shared().request(&draft.body, draft.endpoint == Endpoint::Chat)
    };
    // An estimate may be a tenth too high.
    if (prompt - prompt / 10).saturating_add(answer(draft)) <= context {
        return None;
    }
    let bound = draft.max_tokens.map_or_else(String::new, |n| format!(" and max_tokens of {n}"));
    let text = format!("about {prompt} prompt tokens{bound} exceed the {context} that {} can read", draft.model);
    let mut problem = Problem::new(record, CONTEXT_LENGTH, text).hint(format!(
        "shorten it or lower max_tokens; if the model reads more, set [models.\"{}\"] context = N in the config file",
        draft.model
    ));
    problem.id = Some(draft.id.to_string());
    Some(problem)
}

/// Tests whether prompt and answer may be more than the model reads: an estimate may be a tenth too low.
/// `counted`: the estimate of the prompt, if there is one already.
pub(super) fn is_near_limit(
    draft: &Draft<'_>,
    table: &PriceTable,
    estimator: &Estimator,
    counted: Option<u64>,
) -> bool {
    if text_bytes(draft) > COUNTABLE {
        return false;
    }
    let Some(context) = passable_context(draft, table) else { return false };
    let prompt = counted.unwrap_or_else(|| estimator.request(&draft.body, draft.endpoint == Endpoint::Chat));
    let images = draft.media().most_tokens(table.image_tokens(&draft.model));
    (prompt + prompt / 10).saturating_add(images).saturating_add(answer(draft)) > context
}

/// The context length of the model, if the request might be longer; most requests are known to fit by their bytes alone.
fn passable_context(draft: &Draft<'_>, table: &PriceTable) -> Option<u64> {
    let bound =
        tokens::bound(&draft.body, draft.media(), table.image_tokens(&draft.model)).saturating_add(answer(draft));
    if bound <= SHORT && draft.endpoint != Endpoint::Embeddings {
        return None;
    }
    table.get(&draft.model)?.context.filter(|context| bound > *context)
}

/// The bytes of a request without those of its images, which are no prompt tokens.
fn text_bytes(draft: &Draft<'_>) -> u64 {
    draft.body.len() as u64 - draft.media().bytes
}

fn answer(draft: &Draft<'_>) -> u64 {
    draft.max_tokens.unwrap_or(0)
}
