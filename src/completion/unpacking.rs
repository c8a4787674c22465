//! Splits the answer to a packed request: each row gets the body that a request of its own would have got.

use std::fmt::Write as _;
use std::ops::Range;

use super::shares::shares;
use super::usage::ReportedUsage;
use crate::json::{self, NotJson, Scanner, trusted_elements as elements, trusted_members as members};

/// The part of an answer that belongs to one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpackedAnswer {
    /// The body as one line of JSON: its own embedding with the index 0, and its share of the usage.
    pub body: Box<str>,
    /// Its share of the tokens. `None`: the service did not count them.
    pub usage: Option<ReportedUsage>,
}

/// Takes the answer to as many inputs as there are `weights` apart. The usage is divided in proportion to these: the counts of
/// all rows add up to those of `body`, which is an answer on one line.
///
/// # Errors
/// The reason why embeddings cannot be matched with inputs, as the end of a sentence that begins with "HTTP 200".
pub fn unpacked(body: &str, weights: &[u64]) -> Result<Vec<UnpackedAnswer>, String> {
    let parts = members(body);
    let data = json::find(&parts, "data").map_or("[]", |data| data.value);
    let entries = in_order(data, weights.len())?;
    let usage = json::find(&parts, "usage").map_or("null", |usage| usage.value);
    if weights.len() == 1 {
        return Ok(vec![UnpackedAnswer { body: body.into(), usage: ReportedUsage::read(usage, true) }]);
    }
    let usages = Numbers::of(usage).divided(weights);
    let answer = |(entry, usage): (String, String)| UnpackedAnswer {
        body: one_body(body, &entry, &usage).into(),
        usage: ReportedUsage::read(&usage, true),
    };
    let mut answers: Vec<_> = entries.into_iter().zip(usages).map(answer).collect();
    // A part of the tokens would be lost if the others were counted.
    if answers.iter().any(|answer| answer.usage.is_none()) {
        for answer in &mut answers {
            answer.usage = None;
        }
    }
    Ok(answers)
}

/// The entries of `data`, each with the index 0, in the order of the inputs.
fn in_order(data: &str, inputs: usize) -> Result<Vec<String>, String> {
    let found = elements(data);
    if found.len() != inputs {
        return Err(format!("with {} embeddings for {inputs} inputs", found.len()));
    }
    let mut ordered: Vec<Option<String>> = vec![None; inputs];
    for entry in found {
        let parts = members(entry);
        let Some(index) = json::find(&parts, "index").filter(|index| !index.is_null()) else {
            if inputs == 1 {
                return Ok(Vec::new());
            }
            return Err("with an embedding that has no index".to_owned());
        };
        let place = json::whole(index.value).and_then(|index| usize::try_from(index).ok());
        let Some(slot) = place.and_then(|place| ordered.get_mut(place)) else {
            return Err(format!("with an embedding of the index {} for {inputs} inputs", index.value));
        };
        let start = index.end - index.value.len();
        if slot.replace(format!("{}0{}", &entry[..start], &entry[index.end..])).is_some() {
            return Err(format!("with two embeddings of the index {}", index.value));
        }
    }
    Ok(ordered.into_iter().flatten().collect())
}

/// The body with this entry alone, and this usage.
fn one_body(body: &str, entry: &str, usage: &str) -> String {
    let mut out = String::with_capacity(entry.len() + usage.len() + 128);
    let mut from = 0;
    for part in members(body) {
        let start = part.end - part.value.len();
        out.push_str(&body[from..start]);
        match &*part.key {
            "data" => out.extend(["[", entry, "]"]),
            "usage" => out.push_str(usage),
            _ => out.push_str(part.value),
        }
        from = part.end;
    }
    out.push_str(&body[from..]);
    out
}

/// The numbers of a usage, wherever they are.
struct Numbers<'a> {
    text: &'a str,
    places: Vec<Range<usize>>,
}

impl<'a> Numbers<'a> {
    fn of(text: &'a str) -> Self {
        let mut all = Self { text, places: Vec::new() };
        all.read(&mut Scanner::trusting(text), 0);
        all
    }

    /// Notes the numbers of the value here. A number may be spelled as a text.
    fn read(&mut self, scanner: &mut Scanner<'a>, depth: usize) {
        /// The counts of every known service are less deep.
        const DEEPEST: usize = 8;
        let start = scanner.at();
        if scanner.peek() == Some(b'{') && depth < DEEPEST {
            // The text was checked before.
            let _ = scanner.members(|scanner, _| {
                self.read(scanner, depth + 1);
                Ok::<_, NotJson>(())
            });
            return;
        }
        let Ok(value) = scanner.skip() else { return };
        let quotes = usize::from(value.starts_with('"') && value.len() > 1);
        let place = start + quotes..scanner.at() - quotes;
        if json::is_number(&self.text[place.clone()]) {
            self.places.push(place);
        }
    }

    /// The usage of each part. Whole numbers are divided exactly.
    fn divided(&self, weights: &[u64]) -> Vec<String> {
        let spelled: Vec<&str> = self.places.iter().map(|place| &self.text[place.clone()]).collect();
        let wholes: Vec<Option<u64>> = spelled.iter().map(|number| json::whole(number)).collect();
        let most = wholes.iter().flatten().max().copied().unwrap_or(0);
        // No count is larger than this one, so no part of a count is larger than its whole.
        let parts = shares(most, weights);
        let counts: Vec<_> = wholes.iter().map(|whole| whole.map(|whole| shares(whole, &parts))).collect();
        let usage = |row: usize| {
            let (mut out, mut from) = (String::with_capacity(self.text.len()), 0);
            for ((place, number), count) in self.places.iter().zip(&spelled).zip(&counts) {
                out.push_str(&self.text[from..place.start]);
                from = place.end;
                // Writing to a String cannot fail.
                let _ = match count {
                    Some(shares) => write!(out, "{}", shares[row]),
                    None => write!(out, "{}", part_of(number, parts[row], most)),
                };
            }
            out.push_str(&self.text[from..]);
            out
        };
        (0..weights.len()).map(usage).collect()
    }
}

/// The part of a number with a fraction, such as a cost that the service computed.
fn part_of(number: &str, part: u64, whole: u64) -> f64 {
    let all: f64 = number.parse().unwrap_or(0.0);
    let own = all * part as f64 / whole.max(1) as f64;
    if own.is_finite() { own } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(body: &str, weights: &[u64]) -> Vec<String> {
        unpacked(body, weights).unwrap().into_iter().map(|answer| answer.body.into()).collect()
    }

    #[test]
    fn each_row_gets_the_body_of_a_request_of_its_own() {
        let body = r#"{"object":"list","data":[{"object":"embedding","index":1,"embedding":[0.5, -1e-7]},{"index": 0,"embedding":"AAAA"}],"model":"m","usage":{"prompt_tokens":10,"total_tokens":10}}"#;
        let expected = [
            r#"{"object":"list","data":[{"index": 0,"embedding":"AAAA"}],"model":"m","usage":{"prompt_tokens":2,"total_tokens":2}}"#,
            r#"{"object":"list","data":[{"object":"embedding","index":0,"embedding":[0.5, -1e-7]}],"model":"m","usage":{"prompt_tokens":8,"total_tokens":8}}"#,
        ];
        assert_eq!(bodies(body, &[1, 4]), expected);
        let tokens: Vec<_> = unpacked(body, &[1, 4]).unwrap().iter().map(|one| one.usage.unwrap().prompt).collect();
        assert_eq!(tokens, [2, 8]);
        let alone = r#"{"data":[{"embedding":[1]}],"usage":null}"#;
        assert_eq!(bodies(alone, &[3]), [alone]);
    }

    #[test]
    fn every_count_of_the_usage_is_divided() {
        let body = r#"{"usage":{"prompt_tokens":6,"total_tokens":"6","prompt_tokens_details":{"cached_tokens":5,"x":null},"cost":0.5,"tier":"a 1"},"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]},{"index":2,"embedding":[]}]}"#;
        let answers = unpacked(body, &[1, 1, 4]).unwrap();
        let counts = answers.iter().map(|one| one.usage.unwrap()).map(|usage| (usage.prompt, usage.cached));
        assert_eq!(counts.collect::<Vec<_>>(), [(1, 0), (1, 1), (4, 4)]);
        assert!(answers[2].body.starts_with(
            r#"{"usage":{"prompt_tokens":4,"total_tokens":"4","prompt_tokens_details":{"cached_tokens":4,"x":null},"cost":0.3333333333333333,"tier":"a 1"}"#
        ), "{}", answers[2].body);
        let uncounted = r#"{"data":[{"index":0,"embedding":[]},{"index":1,"embedding":[]}]}"#;
        assert!(unpacked(uncounted, &[1, 1]).unwrap().iter().all(|answer| answer.usage.is_none()));
    }

    #[test]
    fn embeddings_that_fit_no_input_are_named() {
        let of = |indices: &[&str]| {
            let entry = |index: &&str| {
                if index.is_empty() {
                    "{\"embedding\":[]}".to_owned()
                } else {
                    format!(r#"{{"index":{index},"embedding":[]}}"#)
                }
            };
            let entries: Vec<_> = indices.iter().map(entry).collect();
            unpacked(&format!(r#"{{"data":[{}]}}"#, entries.join(",")), &[1, 1]).unwrap_err()
        };
        assert_eq!(of(&["0"]), "with 1 embeddings for 2 inputs");
        assert_eq!(of(&["0", "1", "2"]), "with 3 embeddings for 2 inputs");
        assert_eq!(of(&["0", "0"]), "with two embeddings of the index 0");
        assert_eq!(of(&["0", "2"]), "with an embedding of the index 2 for 2 inputs");
        assert_eq!(of(&["0", "-1"]), "with an embedding of the index -1 for 2 inputs");
        assert_eq!(of(&["0", ""]), "with an embedding that has no index");
        assert_eq!(of(&["0", "null"]), "with an embedding that has no index");
    }
}
