//! Lines of `--log-format json`: one object a line, for collectors of logs.

use serde::Serialize;

use crate::text::visible;

/// The form of what is written to stderr.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// Sentences for people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The weight of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

impl LogLevel {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

#[derive(Serialize)]
struct LogLine<'a> {
    ts: String,
    level: &'static str,
    msg: &'a str,
    job: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
}

/// Writes one line, ended by a newline. `job`: the one job that the command works on.
pub(super) fn log_line(level: LogLevel, text: &str, hint: Option<&str>, job: Option<&str>) -> String {
    let (msg, hint) = (visible(text.trim_end_matches('\n')), hint.map(visible));
    let ts = format!("{:.3}", jiff::Timestamp::now());
    let line = LogLine { ts, level: level.as_str(), msg: &msg, job, hint: hint.as_deref() };
    // Texts can always be written.
    serde_json::to_string(&line).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_is_one_object_whatever_the_text() {
        for text in ["plain", "two\nlines", "\x1b[2J \"quoted\" \\ \u{9b}", "", "日本語"] {
            let line = log_line(LogLevel::Warn, text, Some("a\nhint"), Some("j-1"));
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            assert!(line.ends_with('\n') && !line.contains('\x1b'), "{line}");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&line["level"], &line["job"]), (&"warn".into(), &"j-1".into()));
            assert!(line["ts"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok(), "{line}");
            assert!(line["msg"].is_string() && line["hint"].is_string(), "{line}");
        }
        let bare: serde_json::Value = serde_json::from_str(&log_line(LogLevel::Info, "x", None, None)).unwrap();
        assert!(bare["job"].is_null() && bare.get("hint").is_none(), "{bare}");
    }
}
