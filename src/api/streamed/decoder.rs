//! Takes the compression off a body that arrives in pieces.

use std::borrow::Cow;
use std::io::Write;

use crate::api::response::Encoding;

pub(super) enum Decoder {
    Plain,
    Gzip(flate2::write::MultiGzDecoder<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Decoder {
    pub(super) fn of(encoding: Option<Encoding>) -> Self {
        match encoding {
            None => Self::Plain,
            Some(Encoding::Gzip) => Self::Gzip(flate2::write::MultiGzDecoder::new(Vec::new())),
            Some(Encoding::Zstd) => match zstd::stream::write::Decoder::new(Vec::new()) {
                Ok(decoder) => Self::Zstd(decoder),
                // Out of memory; the body will not be read as JSON.
                Err(_) => Self::Plain,
            },
        }
    }

    /// Decodes a piece. Beside an error stands the text before it: behind an answer, some servers send bytes that belong to
    /// nothing.
    pub(super) fn decoded<'a>(&mut self, bytes: &'a [u8]) -> (Cow<'a, [u8]>, std::io::Result<()>) {
        match self {
            Self::Plain => (bytes.into(), Ok(())),
            Self::Gzip(decoder) => {
                let written = decoder.write_all(bytes).and_then(|()| decoder.flush());
                (std::mem::take(decoder.get_mut()).into(), written)
            }
            Self::Zstd(decoder) => {
                let written = decoder.write_all(bytes).and_then(|()| decoder.flush());
                (std::mem::take(decoder.get_mut()).into(), written)
            }
        }
    }
}
