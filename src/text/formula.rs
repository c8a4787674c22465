//! Cells of tables that a spreadsheet would run as a formula (OWASP ASVS 1.2.10), written with a leading apostrophe and read
//! without it.

/// Tests whether a cell needs the apostrophe. One that already looks guarded needs another, so that it comes back as it is.
/// A number such as `-5.2` is data.
pub fn needs_guard(text: &str) -> bool {
    let bare = text.trim_start_matches('\'');
    matches!(bare.as_bytes().first(), Some(b'=' | b'+' | b'-' | b'@' | b'\t' | b'\r' | 0)) && !is_number(bare)
}

/// Returns the cell without its apostrophe, if it has one.
pub fn unguarded(cell: &str) -> &str {
    cell.strip_prefix('\'').filter(|text| needs_guard(text)).unwrap_or(cell)
}

/// Finds the columns of an earlier table of results that hold words of a model or of a server, by the names beside them.
pub fn answer_columns(names: &[impl AsRef<str>]) -> Vec<usize> {
    let at = |name: &str| names.iter().position(|other| other.as_ref() == name);
    let mut columns = Vec::new();
    for (i, name) in names.iter().enumerate() {
        let Some(prefix) = name.as_ref().strip_suffix("content") else { continue };
        let own = |name: &str| at(&format!("{prefix}{name}"));
        let ours = ["prompt_tokens", "completion_tokens", "cost_usd", "attempts", "latency_ms"];
        if let (Some(finish), Some(error)) = (own("finish_reason"), own("error"))
            && ours.iter().all(|name| own(name).is_some())
        {
            // `--unpack` puts the properties of an answer between its content and its end.
            columns.extend(i.min(finish)..=i.max(finish));
            columns.push(error);
        }
    }
    columns
}

/// Tests for a sign, digits with at most one point, an exponent, and nothing else.
fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guarded_cells_read_back() {
        for (text, guarded) in [
            ("- point", true),
            ("=1", true),
            ("'=1", true),
            ("''@x", true),
            ("'quoted'", false),
            ("-5", false),
            ("'-5", false),
            ("", false),
            ("'", false),
        ] {
            assert_eq!(needs_guard(text), guarded, "{text:?}");
            let cell = if guarded { format!("'{text}") } else { text.to_owned() };
            assert_eq!(unguarded(&cell), text);
        }
    }

    #[test]
    fn only_columns_of_results_are_known_as_answers() {
        let table = "id,text,custom_id,b_model,b_content,b_finish_reason,b_prompt_tokens,b_completion_tokens,b_cost_usd,\
                     b_attempts,b_latency_ms,b_error";
        let names: Vec<&str> = table.split(',').collect();
        assert_eq!(answer_columns(&names), [4, 5, 11]);
        assert!(answer_columns(&["id", "content", "error"]).is_empty(), "a column of the user's own");
    }
}
