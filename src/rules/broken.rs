//! The words of rejected answers: each message names the rule that the answer breaks, and can be read back, also from a file of
//! results.

use crate::outcome::{ErrorCode, RowError};

pub(super) const CUT_OFF: &str = "the answer was cut off at its token limit, and --complete asks for whole answers";
pub(super) const NO_TEXT: &str = "the answer has no text";
pub(super) const TOOL_CALL: &str = "the answer calls a tool";
pub(super) const NO_CHOICE: &str = "the answer is none of --choices ";
pub(super) const NOT_JSON: &str = "the answer is not JSON ";
pub(super) const HALF_JSON: &str = "the answer is JSON that is cut off";

/// The words in front of a schema's rule, which is a JSON pointer into the schema.
pub(super) const RULE: &str = " (rule ";

/// The rule that a rejected answer breaks: the flag, and the place in the schema. `None`: the row failed for another reason.
pub fn broken_rule(error: &RowError) -> Option<String> {
    let message = match error.code {
        ErrorCode::Truncated => return (error.message == CUT_OFF).then(|| "--complete".to_owned()),
        ErrorCode::InvalidAnswer => error.message.as_str(),
        _ => return None,
    };
    let of_choice = message.strip_prefix("choice ").and_then(|rest| rest.split_once(": "));
    let message = of_choice.map_or(message, |(_, message)| message);
    let starts = |words: &[&str]| words.iter().any(|words| message.starts_with(words));
    Some(if starts(&[NO_CHOICE]) {
        "--choices".to_owned()
    } else if starts(&[NOT_JSON, HALF_JSON]) {
        "--json-schema: JSON".to_owned()
    } else if starts(&[NO_TEXT, TOOL_CALL]) {
        "an answer with a text".to_owned()
    } else {
        let rule = message.rsplit_once(RULE).and_then(|(_, rule)| rule.strip_suffix(')'));
        format!("--json-schema: {}", rule.unwrap_or("another rule"))
    })
}
