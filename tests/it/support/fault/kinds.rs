//! The faults that a request can meet, and their names for scripts and counters.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::wire::{Answer, Request};

/// A fault.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Nothing.
    None,
    /// The connection is cut, and for so long new ones are refused. Nothing was paid.
    Away(Duration),
    /// RST before the request counts as arrived. Nothing was paid.
    ResetEarly,
    /// RST instead of an answer.
    Reset,
    /// FIN instead of an answer.
    Close,
    /// RST in the middle of the headers.
    ResetInHead,
    /// RST after the headers.
    ResetAfterHead,
    /// RST in the middle of the body.
    ResetInBody,
    /// No answer.
    Hang,
    /// Half of the headers, then nothing.
    HangInHead,
    /// Half of the body, then nothing.
    HangInBody,
    /// A byte at a time, so long apart.
    Drip(Duration),
    /// `Content-Length` is more than comes.
    LongLength,
    /// `Content-Length` is half of what comes.
    ShortLength,
    /// Half of the lines, with the `Content-Length` of that half.
    CutLines,
    /// Half of the lines, no `Content-Length`, FIN.
    EofLines,
    /// Chunked; FIN in the middle of a chunk.
    CutChunk,
    /// Chunked; half of the lines in one whole chunk, then FIN where the last chunk should be.
    LostChunk,
    /// `Content-Encoding: gzip` over what is none.
    GzipLie,
    /// Half of a gzip stream, with the `Content-Length` of that half.
    GzipCut,
    /// So many MiB, packed a thousandfold, as gzip.
    Bomb(u32),
    /// The same as zstd, which takes less time to unpack.
    ZstdBomb(u32),
    /// The answer, and behind it another one that nobody asked for, for nobody's prompt.
    Surplus,
    /// Nothing is wrong but the clock, by so many seconds: `Date`.
    Clock(i64),
    /// Another answer; nothing is done, or paid, for it.
    Instead(Canned),
    /// The work is done, then this is answered.
    After(Canned),
}

/// An answer that was made beforehand.
#[derive(Debug, Clone, Default)]
pub struct Canned {
    /// Status line without its version.
    pub status: String,
    /// Each with its line end.
    pub headers: String,
    /// `{key}` stands for the `Authorization` that came.
    pub body: String,
}

impl Canned {
    /// An error of the service.
    pub fn status(code: u16) -> Self {
        let body = format!(r#"{{"error":{{"message":"scripted {code}","type":"scripted","param":null,"code":null}}}}"#);
        Self { status: format!("{code} Scripted"), headers: "content-type: application/json\r\n".to_owned(), body }
    }

    /// A 200 that is a login page.
    pub fn page() -> Self {
        let body =
            "<!doctype html>\n<html><head><title>Sign in to\n the network</title></head><body>Hello</body></html>";
        Self { status: "200 OK".to_owned(), headers: "content-type: text/html\r\n".to_owned(), body: body.to_owned() }
    }

    /// An error with these headers.
    pub fn with(code: u16, headers: &[(&str, &str)]) -> Self {
        let mut canned = Self::status(code);
        for (name, value) in headers {
            canned.headers.extend([*name, ": ", *value, "\r\n"]);
        }
        canned
    }

    pub(super) fn answer(&self, request: &Request) -> Answer {
        let body = self.body.replace("{key}", request.header("authorization").unwrap_or_default());
        Answer { status: self.status.clone(), headers: self.headers.clone(), body: body.into_bytes() }
    }
}

/// Faults without a value.
const PLAIN: [(&str, Fault); 18] = [
    ("reset-early", Fault::ResetEarly),
    ("reset", Fault::Reset),
    ("close", Fault::Close),
    ("reset-in-head", Fault::ResetInHead),
    ("reset-after-head", Fault::ResetAfterHead),
    ("reset-in-body", Fault::ResetInBody),
    ("hang", Fault::Hang),
    ("hang-in-head", Fault::HangInHead),
    ("hang-in-body", Fault::HangInBody),
    ("long-length", Fault::LongLength),
    ("short-length", Fault::ShortLength),
    ("cut-lines", Fault::CutLines),
    ("eof-lines", Fault::EofLines),
    ("cut-chunk", Fault::CutChunk),
    ("lost-chunk", Fault::LostChunk),
    ("gzip-lie", Fault::GzipLie),
    ("gzip-cut", Fault::GzipCut),
    ("surplus", Fault::Surplus),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = |canned: &Canned| match canned.status.split(' ').next() {
            Some("200") => "page".to_owned(),
            code => code.unwrap_or_default().to_owned(),
        };
        match self {
            Self::None => write!(f, "none"),
            Self::Away(time) => write!(f, "away={}", time.as_millis()),
            Self::Drip(time) => write!(f, "drip={}", time.as_millis()),
            Self::Clock(off) => write!(f, "clock={off}"),
            Self::Bomb(size) => write!(f, "bomb={size}"),
            Self::ZstdBomb(size) => write!(f, "zstd-bomb={size}"),
            Self::Instead(canned) => write!(f, "instead={}", status(canned)),
            Self::After(canned) => write!(f, "after={}", status(canned)),
            plain => {
                let same = |(_, other): &&(&str, Self)| std::mem::discriminant(other) == std::mem::discriminant(plain);
                write!(f, "{}", PLAIN.iter().find(same).map_or("?", |(name, _)| name))
            }
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    /// `reset-in-body`, `drip=20`, `away=300` (milliseconds), `clock=-60` (seconds), `bomb=512` (MiB), `instead=503`, `after=500`, `after=page`.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((_, fault)) = PLAIN.iter().find(|(name, _)| *name == text) {
            return Ok(fault.clone());
        }
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let number = || value.parse::<u32>().map_err(|e| format!("`{text}`: {e}"));
        let millis = || Ok::<_, String>(Duration::from_millis(number()?.into()));
        let canned = || match value {
            "page" => Ok(Canned::page()),
            code => code.parse().map(Canned::status).map_err(|e| format!("`{text}`: {e}")),
        };
        match name {
            "none" => Ok(Self::None),
            "away" => Ok(Self::Away(millis()?)),
            "drip" => Ok(Self::Drip(millis()?)),
            "clock" => Ok(Self::Clock(value.parse().map_err(|e| format!("`{text}`: {e}"))?)),
            "bomb" => Ok(Self::Bomb(number()?)),
            "zstd-bomb" => Ok(Self::ZstdBomb(number()?)),
            "instead" => Ok(Self::Instead(canned()?)),
            "after" => Ok(Self::After(canned()?)),
            _ => Err(format!("unknown fault `{text}`")),
        }
    }
}
