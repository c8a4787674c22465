//! Lines of JSON or of plain text. Blank lines are not rows.

use super::block_place::{BlockPlace, not_utf8};
use super::blocks::WholeRecords;
use super::{Data, Format, InputPlace, Problem, Record};

/// White space that may stand around a record.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r')
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(|byte| is_space(*byte))
}

/// Whole lines of `buffer`. At the end of the file the last one needs no newline.
pub fn cut(buffer: &[u8], at_end: bool) -> WholeRecords {
    let bytes = if at_end { buffer.len() } else { memchr::memrchr(b'\n', buffer).map_or(0, |end| end + 1) };
    let (mut rows, mut lines, mut start) = (0, 0, 0);
    for end in memchr::memchr_iter(b'\n', &buffer[..bytes]) {
        lines += 1;
        rows += u64::from(!is_blank(&buffer[start..end]));
        start = end + 1;
    }
    if start < bytes {
        lines += 1;
        rows += u64::from(!is_blank(&buffer[start..bytes]));
    }
    WholeRecords { bytes, rows, lines }
}

/// Every row of a block of whole lines.
pub fn walk(bytes: &[u8], format: Format, place: &BlockPlace<'_>, f: &mut impl FnMut(Result<Record<'_>, Problem>)) {
    // The whole block is checked at once, which is fast. Single lines are checked only to find the invalid one.
    let whole = std::str::from_utf8(bytes).ok();
    let (mut row, mut line, mut start) = (place.first_number, place.first_line, 0);
    while start < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |length| start + length);
        let mut to = end;
        if to > start && bytes[to - 1] == b'\r' {
            to -= 1;
        }
        if !is_blank(&bytes[start..to]) {
            let text = match whole {
                Some(whole) => Ok(&whole[start..to]),
                None => std::str::from_utf8(&bytes[start..to]),
            };
            f(match text {
                Ok(text) => {
                    let (data, line) = match format {
                        Format::Lines => (Data::Line(text), line.into()),
                        // Each row is a line here, but not in its file.
                        Format::Parquet => (Data::Row(text), InputPlace::Row(line)),
                        _ => (Data::Json(text), line.into()),
                    };
                    Ok(Record { row, number: row, file: place.file, line, data })
                }
                Err(error) => Err(not_utf8(row, place.file, (line, place.encoding), &bytes[start..to], error)),
            });
            row += 1;
        }
        line += 1;
        start = end + 1;
    }
}
