//! HTML in the making. Markup is what stands in this program's source; every other text is escaped.

use std::fmt::{self, Display, Write as _};

use crate::price::Nanos;
pub(super) use crate::text::{count, plural};

/// A page, or a part of one.
#[derive(Debug, Default)]
pub(super) struct Markup(String);

impl Markup {
    /// Adds markup. It takes constants only, so that nothing from outside can get in.
    pub(super) fn raw(&mut self, markup: &'static str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text: between tags, or within a quoted attribute.
    pub(super) fn text(&mut self, text: impl Display) -> &mut Self {
        // Writing into a String cannot fail.
        let _ = write!(Escape(&mut self.0), "{text}");
        self
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}

struct Escape<'a>(&'a mut String);

impl fmt::Write for Escape<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                '\n' | '\t' => self.0.push(c),
                // What cannot be seen, or turns the reading order around, is named.
                c if c.is_control() || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {
                    self.0.extend(c.escape_unicode());
                }
                c => self.0.push(c),
            }
        }
        Ok(())
    }
}

pub(super) fn money(usd: Option<Nanos>) -> String {
    usd.map_or_else(|| "unknown".to_owned(), Nanos::human)
}

/// RFC 3339 for people, to the minute.
pub(super) fn time(rfc3339: &str) -> String {
    let Ok(time) = rfc3339.parse::<jiff::Timestamp>() else { return rfc3339.to_owned() };
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A length of time with the unit that fits: `15 seconds`, `1 hour`.
pub(super) fn seconds(seconds: i64) -> String {
    let units = [(604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (unit, name) = units.into_iter().find(|(unit, _)| seconds % unit == 0).unwrap_or((1, "second"));
    plural(u64::try_from(seconds / unit).unwrap_or_default(), name)
}
