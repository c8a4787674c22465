//! The report as one page for browsers. It needs no network, and no text from outside can become markup.
//!
//! `page.html` is the template. It prints every value through [`print()`], which escapes. Only the page's own style and script
//! are printed as they are, and the page's policy allows these two by their hashes and nothing else. The same report gives
//! the same bytes.

mod charts;
mod models;
mod numbers;
mod samples;
mod tiles;
mod view;

use std::fmt::{self, Write as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value};
use ring::digest::{SHA256, digest};

use super::details::ReportDocument;
use crate::text::{count, plural};
use view::PageView;

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// Renders the page. The template is part of the program, and tests render all of its parts: it cannot fail.
pub fn page(report: &ReportDocument) -> String {
    render(&PageView::of(report)).expect("the template renders every report")
}

fn render(view: &PageView<'_>) -> Result<String, Error> {
    let mut engine = Environment::new();
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.set_auto_escape_callback(|_| AutoEscape::Html);
    engine.set_formatter(print);
    engine.set_trim_blocks(true);
    engine.set_lstrip_blocks(true);
    engine.set_keep_trailing_newline(true);
    engine.add_filter("count", count);
    engine.add_filter("plural", |number: u64, noun: &str| plural(number, noun));
    engine.add_global("version", env!("CARGO_PKG_VERSION"));
    for (name, text) in [("style", STYLE), ("script", SCRIPT)] {
        engine.add_global(name, Value::from_safe_string(text.to_owned()));
        engine.add_global(format!("{name}_hash"), sha256(text));
    }
    engine.add_template("page.html", TEMPLATE)?;
    engine.get_template("page.html")?.render(view)
}

/// Prints a value of the template: markup of this program as it is, everything else escaped.
fn print(out: &mut Output<'_>, _: &State<'_, '_>, value: &Value) -> Result<(), Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    let written = if value.is_safe() { write!(out, "{value}") } else { write!(Escaped(out), "{value}") };
    written.map_err(Error::from)
}

/// Escapes text for a place between tags or in a quoted attribute.
struct Escaped<W>(W);

impl<W: fmt::Write> fmt::Write for Escaped<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.write_str("&amp;")?,
                '<' => self.0.write_str("&lt;")?,
                '>' => self.0.write_str("&gt;")?,
                '"' => self.0.write_str("&quot;")?,
                '\'' => self.0.write_str("&#39;")?,
                '\n' | '\t' => self.0.write_char(c)?,
                // Characters that are invisible, or turn the reading order around, are shown by their number.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    write!(self.0, "{}", c.escape_unicode())?;
                }
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The SHA-256 of `text` in base64, as a content security policy has it.
fn sha256(text: &str) -> String {
    STANDARD.encode(digest(&SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Exit;
    use crate::outcome::{ErrorCode, Outcome, RowError, Usage};
    use crate::price::Price;
    use crate::report::details::ReportSource;
    use crate::report::folded::Folded;
    use crate::summary::{Charge, Meta, Totals};

    /// A text that would run, load or break out of its place if it were taken for markup.
    const HOSTILE: &str = "</script><img src=x onerror=\"f()\">'{{ title }}\u{202e}";

    fn outcome(row: u64, error: Option<RowError>) -> Outcome {
        let model = format!("{HOSTILE}{}", row % 60);
        Outcome {
            error,
            status: row.is_multiple_of(2).then_some(500),
            usage: Some(Usage::new(10, row)),
            attempts: 1,
            latency_ms: row as u32 * 7,
            ..Outcome::unsent(row, format!("{HOSTILE}{row}").into(), model.as_str().into(), ErrorCode::Missing, "")
        }
    }

    fn failure(row: u64) -> Option<RowError> {
        let code = match row % 4 {
            0 | 2 => ErrorCode::ServerError,
            1 => ErrorCode::InvalidAnswer,
            _ => ErrorCode::Timeout,
        };
        row.is_multiple_of(3).then(|| RowError::new(code, HOSTILE))
    }

    /// A report on the first `rows` of many rows: every third failed, every answer was cut off.
    fn report(rows: u64, source: ReportSource, meta: &Meta) -> ReportDocument {
        let list = Price::new(1_000_000_000, 2_000_000_000);
        let paid = Price::new(500_000_000, 1_000_000_000);
        let mut folded = Folded::new(Totals::new(rows + rows / 100));
        for row in 1..=rows {
            let created = 1_790_000_000 + row;
            let choice = serde_json::json!({"text": HOSTILE.repeat(2), "finish_reason": "length"});
            let body = serde_json::json!({"created": created, "choices": [choice]}).to_string();
            let body = (row % 5 > 0).then(|| body.into());
            let outcome = Outcome { body, ..outcome(row, failure(row)) };
            folded.add(&outcome, &Charge::of(&outcome, Some(paid), Some(list)));
        }
        let summary = folded.totals.summary(meta);
        folded.details.into_report(summary, source, Some(9.0))
    }

    fn job() -> ReportSource {
        let created_at = "2026-09-21T14:13:20Z".to_owned();
        let settings = [("system".to_owned(), HOSTILE.into()), ("max_tokens".to_owned(), 9.into())].into();
        ReportSource::Job { name: Some(HOSTILE.to_owned()), created_at, input: HOSTILE.to_owned(), settings }
    }

    fn files() -> ReportSource {
        ReportSource::Files { files: vec![HOSTILE.to_owned(), "b".to_owned()], batch_price: true }
    }

    #[test]
    fn full_report_shows_every_part() {
        let next = Some(format!("llbatch retry {HOSTILE}"));
        let meta = Meta { job: Some("j-1".to_owned()), exit: Exit::RowsFailed, next, ..Meta::blank() };
        let full = page(&report(1_000, job(), &meta));
        for part in [
            "j-1, , <b></b>, begun 2026-09-21 14:13 UTC",
            "<title>&lt;/script&gt;",
            "<th scope=\"row\">max_tokens</th><td class=\"x\">9</td>",
            "<h2>Ten",
            "Next: <code>llbatch retry",
            "of 1,010 rows, 10 to do",
            "and 20 more models",
            "saved against the list price",
            "<h2>Latency</h2>",
            "<h2>Length of answers</h2>",
            "<h2>Answers over time</h2>",
            "Each bar is 30 seconds",
            "<th scope=\"col\">time</th>",
            "The first 20.",
            "<a href=\"#search=timeout\">",
            "<li id=\"search=timeout\">",
            "300 of 333, some of every code.",
            "<h2>Broken rules</h2>",
            "<b class=\"x\">a rule that the file does not name</b>",
            "HTTP 500",
        ] {
            assert!(full.contains(part), "{part}");
        }
        assert_eq!(full.matches("<svg class=\"chart\"").count(), 3);
        assert!(!full.contains("<img") && !full.contains("onerror=\"") && !full.contains('\u{202e}'));
        assert_eq!(full.matches("</script>").count(), 1);
        assert_eq!(full, page(&report(1_000, job(), &meta)), "the same report gives the same bytes");
    }

    #[test]
    fn small_and_empty_reports_leave_out_parts() {
        let one = page(&report(1, files(), &Meta::blank()));
        assert!(one.contains("2 results files, counted at the batch price"));
        assert!(one.contains("<p>1 token for each of 1 answer</p>") && !one.contains("Failed rows"));
        assert!(page(&report(3, files(), &Meta::blank())).contains("All 1."));
        let empty = page(&report(0, files(), &Meta::blank()));
        for part in ["<svg", "NaN", "<li", "<h2>", "class=\"pair\""] {
            assert!(!empty.contains(part), "{part}");
        }
        assert!(empty.contains("of 0 rows") && empty.ends_with("</html>\n"));
    }

    #[test]
    fn hashes_are_spelled_as_browsers_spell_them() {
        // The digests of FIPS 180, in base64.
        assert_eq!(sha256("abc"), "ungWv48Bz+pBQUDeXa4iI7ADYaOWF3qctBD/YfIAFa0=");
        assert_eq!(sha256(""), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }
}
