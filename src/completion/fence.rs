//! Markdown fences around JSON: models add them although nobody asked.

use super::Completion;

/// Returns true if a text of the answer in `body` lies in a Markdown fence for JSON.
pub fn is_fenced(body: &str) -> bool {
    // Nearly every answer has no fence, and to search is much faster than to parse.
    may_be_fenced(body)
        && Completion::of(body)
            .choices()
            .iter()
            .filter_map(super::Choice::content_text)
            .any(|text| unfenced(&text).is_some())
}

/// Returns false if `json`, an answer or its text as spelled, holds no fence.
pub fn may_be_fenced(json: &str) -> bool {
    // Most answers have neither letter, and to search for one is faster than to begin a search for three.
    memchr::memchr2(b'`', b'~', json.as_bytes()).is_some()
        && ["```", "~~~"].iter().any(|mark| memchr::memmem::find(json.as_bytes(), mark.as_bytes()).is_some())
}

/// The JSON inside a Markdown fence that is the whole of `text`, or `None` if there is no such fence.
///
/// The fence opens with three or more backquotes or tildes, perhaps with the word `json`, and closes with as many on a line of
/// their own. A fence that is not closed is an answer that was cut off: it stays as it is.
pub fn unfenced(text: &str) -> Option<&str> {
    let text = text.trim();
    let mark = text.chars().next().filter(|mark| matches!(mark, '`' | '~'))?;
    let opening = text.len() - text.trim_start_matches(mark).len();
    if opening < 3 {
        return None;
    }
    let (info, rest) = text[opening..].split_once('\n')?;
    let info = info.trim();
    if !(info.is_empty() || info.eq_ignore_ascii_case("json") || info.eq_ignore_ascii_case("jsonc")) {
        return None;
    }
    let inside = rest.trim_end_matches(mark);
    let closing = rest.len() - inside.len();
    // The closing marks stand on a line of their own.
    let own_line = inside.is_empty() || inside.trim_end_matches([' ', '\t']).ends_with('\n');
    (closing >= opening && own_line).then(|| inside.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_fences_are_taken_off() {
        for (text, inside) in [
            ("```json\n{}\n```", Some("{}")),
            ("```\n{}\n```\n", Some("{}")),
            ("\n~~~~ JSON \n[1,\n2]\n~~~~", Some("[1,\n2]")),
            ("````json\n{\"a\": \"```\"}\n````", Some("{\"a\": \"```\"}")),
            ("```json\n{}", None),
            ("```json\n{}```", None),
            ("```python\n1\n```", None),
            ("``\n1\n``", None),
            ("Here: ```json\n{}\n```", None),
            ("{}", None),
            ("```", None),
            ("```\n```", Some("")),
        ] {
            assert_eq!(unfenced(text), inside, "{text:?}");
        }
    }

    #[test]
    fn fences_of_an_answer_are_seen_in_its_body() {
        for (body, fenced) in [
            (r#"{"choices":[{"message":{"content":"```json\n{}\n```"}}]}"#, true),
            (r#"{"choices":[{"text":"{}"},{"text":"~~~\n{}\n~~~"}]}"#, true),
            (r#"{"choices":[{"message":{"content":"{}"}}]}"#, false),
            (r#"{"choices":[{"message":{"content":"see ```x```"}}]}"#, false),
            ("```json\n{}\n```", false),
        ] {
            assert_eq!(is_fenced(body), fenced, "{body}");
        }
    }
}
