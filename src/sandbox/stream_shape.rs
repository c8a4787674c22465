//! Valid but awkward forms of a stream: late, slow, in pieces, with comments.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::units::duration;

/// The end of a line of a stream. All three are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum LineEnd {
    #[default]
    Lf,
    CrLf,
    Cr,
}

impl LineEnd {
    pub const fn text(self) -> &'static str {
        match self {
            Self::Lf => "\n",
            Self::CrLf => "\r\n",
            Self::Cr => "\r",
        }
    }
}

/// The way in which a stream comes: by default at once and plain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StreamShape {
    /// The time from the headers to the first event.
    pub first_token: Duration,
    /// The time before each further event.
    pub chunk_delay: Duration,
    /// A pause in the middle.
    pub pause: Duration,
    /// A comment stands before each event, and comes in every wait that is longer than this, as often as that passes.
    pub comments: Option<Duration>,
    pub line_end: LineEnd,
    /// The bytes come in pieces that end anywhere.
    pub split: bool,
}

/// The time between two comments of a wait.
const COMMENTS_EVERY: Duration = Duration::from_millis(500);

impl StreamShape {
    /// Reads a word without a value. Returns false if it is none of a stream's.
    pub fn word(&mut self, word: &str) -> bool {
        match word {
            "comments" => self.comments = Some(COMMENTS_EVERY),
            "split" => self.split = true,
            _ => return false,
        }
        true
    }

    /// Reads a setting. Returns false if it is none of a stream's.
    pub fn set(&mut self, key: &str, value: &str) -> Result<bool, String> {
        match key {
            "first-token" => self.first_token = duration(value)?,
            "chunk-delay" => self.chunk_delay = duration(value)?,
            "pause" => self.pause = duration(value)?,
            "comments" => {
                let every = Some(duration(value)?).filter(|every| !every.is_zero());
                self.comments = Some(every.ok_or_else(|| format!("comments={value}: the time must not be zero"))?);
            }
            "line-end" => {
                self.line_end = match value {
                    "lf" => LineEnd::Lf,
                    "crlf" => LineEnd::CrLf,
                    "cr" => LineEnd::Cr,
                    _ => return Err(format!("line-end={value}: use lf, crlf or cr")),
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
