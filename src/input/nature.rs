//! Recognises inputs that are not text, such as spreadsheets and archives, and names a way to convert each.

use super::{Format, csv, parquet};
use crate::error::{Error, Exit, Result};
use crate::request::shorten;

/// Refuses a file whose first bytes are those of a workbook, an archive, another binary format or another encoding.
///
/// # Errors
/// 65 with the command that converts it, or the flag that reads it.
pub fn refuse(file: &str, head: &[u8]) -> Result<()> {
    let book = "if it is an Excel workbook, save it as CSV (UTF-8); otherwise unpack it first: unzip";
    let (what, hint) = match head {
        [b'P', b'K', 3, 4, ..] => ("an Excel workbook or another zip archive", book.to_owned()),
        [0xd0, 0xcf, 0x11, 0xe0, ..] => {
            ("an old Excel workbook (.xls)", "save it as CSV (UTF-8) in Excel or LibreOffice".to_owned())
        }
        [b'P', b'A', b'R', b'1', ..] if file == "-" => return Err(parquet::piped()),
        [b'P', b'A', b'R', b'1', ..] => ("a Parquet file, not text", "pass --input-format parquet".to_owned()),
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => {
            ("packed with bzip2, which llbatch does not read", format!("unpack it: bunzip2 -k '{file}'"))
        }
        [0xfd, b'7', b'z', b'X', b'Z', ..] => {
            ("packed with xz, which llbatch does not read", format!("unpack it: unxz -k '{file}'"))
        }
        // Every second byte of its ASCII characters is zero.
        [a, 0, b, 0, ..] if *a != 0 && *b != 0 => return Err(unmarked(file, "utf-16le")),
        [0, a, 0, b, ..] if *a != 0 && *b != 0 => return Err(unmarked(file, "utf-16be")),
        [0xff, 0xfe, 0, 0, ..] | [0, 0, 0xfe, 0xff, ..] => {
            ("UTF-32, which llbatch does not read", format!("convert it: iconv -f UTF-32 -t UTF-8 '{file}' > other"))
        }
        _ => return Ok(()),
    };
    Err(Error::new(Exit::Data, format!("{file}: the file is {what}")).hint(hint))
}

/// The error of UTF-16 that no mark announces.
fn unmarked(file: &str, encoding: &str) -> Error {
    Error::new(Exit::Data, format!("{file}:1:1: the file is UTF-16 without a mark, not UTF-8"))
        .hint(format!("pass --encoding {encoding}"))
}

/// The error of an input whose ending tells that it cannot be read.
pub(super) fn unread_ending(shown: &str) -> Option<Error> {
    let ending = shown.rsplit_once('.')?.1.to_ascii_lowercase();
    let (what, hint) = match ending.as_str() {
        "xlsx" | "xls" | "ods" => ("a workbook", "save it as CSV (UTF-8) and name that file".to_owned()),
        "bz2" | "xz" | "zip" => ("an archive", "unpack it first; llbatch reads .gz and .zst".to_owned()),
        _ => return None,
    };
    Some(Error::usage(format!("{shown}: this is {what}, which llbatch does not read yet")).hint(hint))
}

/// Refuses input that is read as JSONL and begins with the header of a table, or that is an array. `text`
/// begins behind all white space, on this line.
///
/// # Errors
/// 65 with the flag or the command that helps.
pub(super) fn refuse_as_jsonl(file: &str, line: u64, text: &[u8]) -> Result<()> {
    if text.starts_with(b"[") {
        return Err(Error::new(
            Exit::Data,
            format!("{file}:{line}: the file is a JSON array, not one JSON object per line"),
        )
        .hint(format!("convert it: jq -c '.[]' '{file}' > lines.jsonl")));
    }
    let Some((header, format)) = table(text) else { return Ok(()) };
    let text = format!("{file}:{line}: this is a table, but it is read as JSONL; its header is: {}", shorten(header));
    Err(Error::new(Exit::Data, text).hint(format!("pass --input-format {format}")))
}

/// The header and the format of a table that `text` begins with: two lines or more, with as many fields in the first two.
fn table(text: &[u8]) -> Option<(&str, Format)> {
    let mut lines = text.split(|byte| *byte == b'\n').map(|line| std::str::from_utf8(line.trim_ascii_end()));
    let (header, row) = (lines.next()?.ok()?, lines.next()?.ok()?);
    let name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || " _-.()#%/?".contains(c));
    let (delimiter, format) =
        [(b',', Format::Csv), (b'\t', Format::Tsv), (b';', Format::Csv)].into_iter().find(|(byte, _)| {
            let mut names = 0;
            let mut plain = true;
            csv::split(header, *byte, |field| {
                names += 1;
                plain &= name(field.trim());
            });
            plain && names > 1
        })?;
    // A row may go on behind a line end in quotes.
    let fields = |line: &str| {
        let mut fields = 0;
        csv::split(line, delimiter, |_| fields += 1);
        fields
    };
    let goes_on = row.matches('"').count() % 2 == 1;
    (!row.starts_with('{') && (goes_on || fields(row) == fields(header))).then_some((header, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_from_broken_json() {
        for (text, format) in [
            ("id,text\n1,a\n", Some(Format::Csv)),
            ("id,\"Review Text\"\r\n1,\"a, b\"\r\n", Some(Format::Csv)),
            ("id;text\n1;\"a\nb\"\n", Some(Format::Csv)),
            ("id\ttext\n1\ta, b\n", Some(Format::Tsv)),
            ("größe,本文\n1,2\n", Some(Format::Csv)),
            ("id,text\n", None),
            ("id,text\n{\"prompt\":1}\n", None),
            ("id,text\none\n", None),
            ("nonsense\n", None),
            ("'a':1, 'b':2\n'a':1, 'b':3\n", None),
            ("{\"a\":1,\"b\":2}\n{\"a\":1,\"b\":2}\n", None),
            ("1,\n2,\n", None),
        ] {
            assert_eq!(table(text.as_bytes()).map(|(_, format)| format), format, "{text}");
        }
    }
}
