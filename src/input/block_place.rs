//! The place of a block in its file, and the problem of a record there that is not UTF-8.

use super::{Problem, TextEncoding};

/// The place where a block begins.
#[derive(Debug)]
pub(super) struct BlockPlace<'a> {
    pub file: &'a str,
    pub first_number: u64,
    pub first_line: u64,
    pub encoding: Option<TextEncoding>,
}

/// The problem of a record with a byte that is not UTF-8, or that could not be decoded. The record begins at a line.
pub(super) fn not_utf8(
    row: u64,
    file: &str,
    (line, encoding): (u64, Option<TextEncoding>),
    bytes: &[u8],
    error: std::str::Utf8Error,
) -> Problem {
    let at = error.valid_up_to();
    // In a record of several lines, the line of the byte.
    let before = &bytes[..at];
    let (below, from) = (memchr::memchr_iter(b'\n', before).count() as u64, memchr::memrchr(b'\n', before));
    let (text, hint) = match (encoding.filter(|encoding| !encoding.is_utf8()), bytes[at]) {
        (Some(encoding), _) => (format!("not valid {encoding}"), "check the name after --encoding"),
        (None, byte @ 0x80..=0x9f) => (
            format!("not UTF-8: byte 0x{byte:02x}"),
            "if the file comes from Windows (its quotes and € are such bytes), pass --encoding windows-1252",
        ),
        (None, byte) => (
            format!("not UTF-8: byte 0x{byte:02x}"),
            "name the encoding of the file, such as --encoding windows-1252 or --encoding utf-16le",
        ),
    };
    Problem::at(Some(row), file, line + below, "utf8", text)
        .column(at - from.map_or(0, |newline| newline + 1) + 1)
        .hint(hint)
}
