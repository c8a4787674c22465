//! `--encoding`: text in other encodings than UTF-8, decoded piece by piece.

use std::fmt;
use std::str::FromStr;

use encoding_rs::{Decoder, DecoderResult, Encoding, REPLACEMENT, UTF_8};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A byte that is never valid in UTF-8. It stands where bytes could not be decoded, so that their row is a problem.
const UNDECODED: u8 = 0xff;

/// An encoding of text by its name in the web's standard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextEncoding(&'static Encoding);

impl TextEncoding {
    /// The encoding, other than UTF-8, that a byte order mark at the start of `bytes` names.
    pub(super) fn of_mark(bytes: &[u8]) -> Option<Self> {
        // The mark of UTF-32 begins with one of UTF-16.
        let (encoding, _) = Encoding::for_bom(bytes).filter(|_| !bytes.starts_with(&[0xff, 0xfe, 0, 0]))?;
        (encoding != UTF_8).then_some(Self(encoding))
    }

    /// Returns true if nothing has to be decoded.
    pub(super) fn is_utf8(self) -> bool {
        self.0 == UTF_8
    }
}

impl fmt::Display for TextEncoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl FromStr for TextEncoding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim().to_ascii_lowercase();
        // Other tools write `utf16le` and `utf_16_le`.
        let bare = name.replace(['-', '_'], "");
        let name = match bare.strip_prefix("utf") {
            Some(rest) => format!("utf-{rest}"),
            None => name,
        };
        Encoding::for_label(name.as_bytes()).filter(|found| *found != REPLACEMENT).map(Self).ok_or_else(|| {
            "unknown encoding: expected utf-8, utf-16le, utf-16be, windows-1252, latin1, shift_jis, gb18030, euc-kr, \
             koi8-r or another name of the WHATWG standard"
                .to_owned()
        })
    }
}

impl Serialize for TextEncoding {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name())
    }
}

impl<'de> Deserialize<'de> for TextEncoding {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Bytes on their way to UTF-8.
pub(super) struct Decoding {
    encoding: TextEncoding,
    /// `None` before the first bytes, which may be a byte order mark of another encoding.
    decoder: Option<Decoder>,
    /// Decoded text that was not taken yet.
    text: Vec<u8>,
    ended: bool,
}

impl Decoding {
    pub fn new(encoding: TextEncoding) -> Self {
        Self { encoding, decoder: None, text: Vec::new(), ended: false }
    }

    /// Decodes more bytes; `last`: there are no others. A byte order mark stays in the text.
    pub fn push(&mut self, mut bytes: &[u8], last: bool) {
        self.ended = last;
        let encoding = self.encoding.0;
        let decoder = self.decoder.get_or_insert_with(|| {
            let marked = Encoding::for_bom(bytes).map_or(encoding, |(marked, _)| marked);
            marked.new_decoder_without_bom_handling()
        });
        loop {
            let from = self.text.len();
            let room = decoder.max_utf8_buffer_length_without_replacement(bytes.len()).unwrap_or(bytes.len() * 3 + 16);
            self.text.resize(from + room, 0);
            let (result, read, written) =
                decoder.decode_to_utf8_without_replacement(bytes, &mut self.text[from..], last);
            self.text.truncate(from + written);
            bytes = &bytes[read..];
            match result {
                DecoderResult::InputEmpty => return,
                DecoderResult::OutputFull => {}
                DecoderResult::Malformed(..) => self.text.push(UNDECODED),
            }
        }
    }

    /// Returns true if the last bytes were decoded.
    pub const fn has_ended(&self) -> bool {
        self.ended
    }

    /// Decoded bytes that can be taken.
    pub fn len(&self) -> usize {
        self.text.len()
    }

    /// Moves up to `limit` bytes to `buffer`, and returns their number.
    pub fn take(&mut self, buffer: &mut Vec<u8>, limit: usize) -> usize {
        let given = limit.min(self.text.len());
        buffer.extend(self.text.drain(..given));
        given
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(encoding: &str, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut decoding = Decoding::new(encoding.parse().unwrap());
        let pieces: Vec<&[u8]> = bytes.chunks(piece).collect();
        for (i, part) in pieces.iter().enumerate() {
            decoding.push(part, i + 1 == pieces.len());
        }
        let mut text = Vec::new();
        while decoding.take(&mut text, 3) > 0 {}
        text
    }

    #[test]
    fn text_is_decoded_whatever_the_pieces() {
        let utf16: Vec<u8> = "a€🦀\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for piece in 1..9 {
            assert_eq!(decoded("utf-16le", &utf16, piece), "a€🦀\n".as_bytes());
            assert_eq!(decoded("utf16le", &utf16[..4], piece), "a€".as_bytes());
            assert_eq!(decoded("cp1252", b"\x93Caf\xe9\x94 5 \x80", piece), "“Café” 5 €".as_bytes());
            assert_eq!(decoded("shift_jis", b"\x93\xfa\xff", piece), [&b"\xe6\x97\xa5"[..], &[UNDECODED]].concat());
            assert_eq!(decoded("UTF_16", &utf16[..5], piece), ["a€".as_bytes(), &[UNDECODED]].concat(), "cut off");
        }
        // A mark wins over the name.
        assert_eq!(decoded("utf-16le", b"\xfe\xff\0a", 4), "\u{feff}a".as_bytes());
        assert_eq!(decoded("windows-1252", b"\xef\xbb\xbf\xc3\xa4", 5), "\u{feff}ä".as_bytes());
        assert!("ebcdic".parse::<TextEncoding>().is_err());
        let kept = serde_json::to_string(&"latin1".parse::<TextEncoding>().unwrap()).unwrap();
        assert_eq!(serde_json::from_str::<TextEncoding>(&kept).unwrap().to_string(), "windows-1252");
    }
}
