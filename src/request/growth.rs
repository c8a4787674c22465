//! Requests whose answer was cut off, asked again with a larger bound.

use std::str::FromStr;

use super::MOST_TOKENS;
use super::body::is_answer_bound;
use crate::json;

/// The growth of `max_tokens` from one request of a row to the next (`--grow-max-tokens`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenGrowth {
    factor: f64,
    cap: u64,
}

/// A body with a larger bound.
#[derive(Debug, PartialEq, Eq)]
pub struct GrownBody {
    /// The body.
    pub body: String,
    /// The bound before.
    pub from: u64,
    /// The bound now.
    pub to: u64,
}

impl FromStr for TokenGrowth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (factor, cap) = text.split_once(',').map_or((text, None), |(factor, cap)| (factor, Some(cap)));
        let factor = factor.trim().parse().ok().filter(|factor: &f64| *factor > 1.0 && *factor <= MOST_TOKENS as f64);
        let cap = cap.map_or(Some(MOST_TOKENS), |cap| cap.trim().parse().ok().filter(|cap| *cap > 0));
        match (factor, cap) {
            (Some(factor), Some(cap)) => Ok(Self { factor, cap: cap.min(MOST_TOKENS) }),
            _ => Err("expected a factor above 1 and perhaps a largest max_tokens, such as 2 or 2,8192".to_owned()),
        }
    }
}

impl TokenGrowth {
    /// Returns true if a request with this bound would not get a larger one.
    pub const fn is_below(self, bound: u64) -> bool {
        self.cap <= bound
    }

    /// The body with the next larger bound. `None`: it has no bound, or the bound is as large as it may be.
    pub fn grown(self, body: &str) -> Option<GrownBody> {
        let members = json::members(body).ok()?;
        let (mut out, mut copied) = (String::with_capacity(body.len() + 8), 0);
        let (mut from, mut to) = (0, 0);
        for member in members.iter().filter(|member| is_answer_bound(&member.key)) {
            let Some(bound) = json::whole(member.value) else { continue };
            let next = self.next(bound);
            (from, to) = (bound.max(from), next.max(to));
            out.push_str(&body[copied..member.end - member.value.len()]);
            out.push_str(&next.to_string());
            copied = member.end;
        }
        out.push_str(&body[copied..]);
        (to > from).then_some(GrownBody { body: out, from, to })
    }

    fn next(self, bound: u64) -> u64 {
        ((bound as f64 * self.factor).ceil() as u64).min(self.cap).max(bound)
    }
}

impl GrownBody {
    /// The tokens of all answers, of which a single one was bounded by `from`.
    pub fn answers(&self, before: u64) -> u64 {
        let grown = (u128::from(before) * u128::from(self.to)).div_ceil(u128::from(self.from.max(1)));
        u64::try_from(grown).unwrap_or(MOST_TOKENS).min(MOST_TOKENS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(growth: &str, body: &str) -> Option<(String, u64, u64)> {
        let grown = growth.parse::<TokenGrowth>().unwrap().grown(body)?;
        Some((grown.body.clone(), grown.to, grown.answers(grown.from * 3)))
    }

    #[test]
    fn the_bound_grows_up_to_its_cap_and_nothing_else_changes() {
        let body = |bound: &str| format!(r#"{{"a": "\"max_tokens\":1", "max_tokens" : {bound} ,"b":[1]}}"#);
        for (growth, before, after) in
            [("2", "100", 200), ("1.5", "5", 8), ("2,150", "100", 150), ("3, 9", "1e0", 3), ("2", "7.0", 14)]
        {
            assert_eq!(grown(growth, &body(before)), Some((body(&after.to_string()), after, after * 3)), "{growth}");
        }
        let two = r#"{"max_completion_tokens":10,"max_tokens":4}"#;
        let grown_two = r#"{"max_completion_tokens":20,"max_tokens":8}"#;
        assert_eq!(grown("2", two), Some((grown_two.to_owned(), 20, 60)));
        for (growth, body) in [
            ("2", "{}"),
            ("2", r#"{"max_tokens":null}"#),
            ("2,100", r#"{"max_tokens":100}"#),
            ("2,100", r#"{"max_tokens":300}"#),
            ("2", "not json"),
        ] {
            assert_eq!(grown(growth, body), None, "{growth} {body}");
        }
    }

    #[test]
    fn a_factor_must_grow() {
        for text in ["1", "0.5", "-2", "x", "", "nan", "inf", "2,", "2,0", "2,x", "2,3,4", "1e308"] {
            assert!(text.parse::<TokenGrowth>().is_err(), "{text}");
        }
    }
}
