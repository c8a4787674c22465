//! Log probabilities of the tokens of an answer. They depend on the token and its place alone.

use serde_json::{Map, Value, json};

use super::dice::Dice;
use super::json::ObjectMembers;
use super::request::{InvalidBody, hash};

/// The most alternatives of a token.
const MOST: u64 = 20;

/// The form in which log probabilities are reported, with the number of alternatives to each token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogprobForm {
    /// `content[{token, logprob, bytes, top_logprobs}]`, asked for by `"logprobs": true`.
    Entries(u64),
    /// `tokens[]` and `token_logprobs[]`, asked for by a number.
    Lists(u64),
}

impl LogprobForm {
    /// Reads the members of a body.
    pub fn parse(members: &ObjectMembers<'_>) -> Result<Option<Self>, InvalidBody> {
        let top = match members.get("top_logprobs") {
            None | Some("null") => None,
            Some(raw) => Some(bounded("top_logprobs", raw)?),
        };
        match members.get("logprobs") {
            None | Some("null" | "false") if top.is_some_and(|top| top > 0) => {
                Err(InvalidBody::of("top_logprobs", "top_logprobs needs logprobs"))
            }
            None | Some("null" | "false") => Ok(None),
            Some("true") => Ok(Some(Self::Entries(top.unwrap_or(0)))),
            Some(raw) => Ok(Some(Self::Lists(bounded("logprobs", raw)?))),
        }
    }

    /// The log probabilities of `tokens`, the first of which is the answer's token number `first`.
    pub fn shown(self, tokens: &[&str], first: usize) -> Value {
        let places = || tokens.iter().enumerate().map(|(i, token)| (*token, first + i));
        match self {
            Self::Entries(top) => {
                let entry = |(token, place)| {
                    let mut entry = one(token, logprob(token, place));
                    let others = alternatives(token, place, top).map(|(other, logprob)| one(&other, logprob));
                    entry["top_logprobs"] = others.collect();
                    entry
                };
                json!({"content": places().map(entry).collect::<Value>(), "refusal": null})
            }
            Self::Lists(top) => {
                let tops =
                    |(token, place)| alternatives(token, place, top).map(|(k, v)| (k, json!(v))).collect::<Map<_, _>>();
                json!({
                    "token_ids": tokens.iter().map(|token| token_id(token)).collect::<Value>(),
                    "tokens": tokens,
                    "token_logprobs": places().map(|(token, place)| logprob(token, place)).collect::<Value>(),
                    "top_logprobs": if top == 0 { Value::Null } else { places().map(tops).collect() },
                })
            }
        }
    }
}

fn bounded(name: &'static str, raw: &str) -> Result<u64, InvalidBody> {
    let number = raw.parse().ok().filter(|number| *number <= MOST);
    number.ok_or_else(|| InvalidBody::of(name, &format!("{name} must be a whole number up to {MOST}, or true")))
}

/// A number that stands for a token.
pub fn token_id(token: &str) -> u64 {
    hash(token) % 128_000
}

/// Thousandths from -2 to 0.
pub fn logprob(token: &str, place: usize) -> f64 {
    let mut dice = Dice(hash(token) ^ place as u64);
    (dice.roll() % 2001) as f64 / -1000.0
}

fn one(token: &str, logprob: f64) -> Value {
    json!({"token": token, "logprob": logprob, "bytes": token.as_bytes()})
}

/// The likeliest tokens at a place: the token itself, then less likely ones.
fn alternatives(token: &str, place: usize, top: u64) -> impl Iterator<Item = (String, f64)> {
    let likeliest = logprob(token, place);
    let name = token.to_owned();
    (0..top).map(move |nth| (if nth == 0 { name.clone() } else { format!("{name}~{nth}") }, likeliest - nth as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<LogprobForm>, InvalidBody> {
        LogprobForm::parse(&ObjectMembers::parse(text).unwrap())
    }

    #[test]
    fn the_members_decide_the_form() {
        let cases = [
            ("{}", None),
            (r#"{"logprobs":false,"top_logprobs":null}"#, None),
            (r#"{"logprobs":true}"#, Some(LogprobForm::Entries(0))),
            (r#"{"logprobs":true,"top_logprobs":3}"#, Some(LogprobForm::Entries(3))),
            (r#"{"logprobs":1}"#, Some(LogprobForm::Lists(1))),
        ];
        for (text, expected) in cases {
            assert_eq!(parsed(text), Ok(expected), "{text}");
        }
        for text in [r#"{"logprobs":21}"#, r#"{"logprobs":"yes"}"#, r#"{"top_logprobs":2}"#] {
            assert!(parsed(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_token_has_the_same_figures_in_each_form() {
        let tokens = ["The ", "lamp"];
        let entries = LogprobForm::Entries(2).shown(&tokens, 5);
        let lists = LogprobForm::Lists(2).shown(&tokens, 5);
        for (i, token) in tokens.iter().enumerate() {
            let entry = &entries["content"][i];
            assert_eq!((&entry["token"], &entry["logprob"]), (&lists["tokens"][i], &lists["token_logprobs"][i]));
            assert_eq!(
                (&entry["bytes"], &entry["top_logprobs"][0]["token"]),
                (&json!(token.as_bytes()), &json!(token))
            );
            assert_eq!(entry["top_logprobs"][1]["logprob"], lists["top_logprobs"][i][format!("{token}~1")]);
            assert!((-2.0..=0.0).contains(&entry["logprob"].as_f64().unwrap()));
        }
        assert_eq!(LogprobForm::Entries(2).shown(&tokens[1..], 6)["content"][0], entries["content"][1]);
    }
}
