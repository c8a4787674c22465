//! Markdown fences around JSON: models add them although nobody asked.

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
