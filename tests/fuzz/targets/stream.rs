//! A streamed answer: however its bytes are cut into pieces, and however its chunks are spaced, it becomes the same body.
//!
//! Input: a byte for the size of pieces, then the stream.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use llbatch::door::put_together;
use serde_json::value::RawValue;

/// The body, or the words of the failure.
fn body<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<String, String> {
    let body = put_together(200, pieces, b"{}").map_err(|failure| failure.message)?;
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fuzz_target!(|data: &[u8]| -> Corpus {
    let Some((size, stream)) = data.split_first() else { return Corpus::Reject };
    let whole = body([stream]);
    assert_eq!(body(stream.chunks(1)), whole, "byte by byte");
    assert_eq!(body(stream.chunks(usize::from(*size).max(2))), whole, "in pieces of {size}");
    let Ok(whole) = whole else { return Corpus::Keep };
    // An error comes as it is.
    if !stream.windows(5).any(|bytes| bytes == b"error") {
        // Half surrogates stay as they are spelled.
        serde_json::from_str::<&RawValue>(&whole).expect("a body is JSON");
        assert!(whole.contains(r#""choices":[{"#), "{whole}");
        if let Some(spaced) = spaced(stream) {
            assert_eq!(body([&*spaced]).as_ref(), Ok(&whole), "no two chunks are alike");
        }
    }
    Corpus::Keep
});

/// The stream with a blank in every second chunk, so that no chunk is read by what it shares with the one before. `None`: an
/// event has several lines of data.
fn spaced(stream: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(stream).ok()?;
    let (mut out, mut number, mut last_was_data) = (String::new(), 0, false);
    for line in text.split_inclusive(['\n', '\r']) {
        let data = line.strip_prefix("data: {");
        if last_was_data && !line.trim_end_matches(['\n', '\r']).is_empty() {
            return None;
        }
        // Between a carriage return and its line feed nothing has come.
        last_was_data = line.starts_with("data") || (last_was_data && line == "\n");
        number += usize::from(data.is_some());
        match data.filter(|_| number % 2 == 0) {
            Some(rest) => out.extend(["data: { ", rest]),
            None => out.push_str(line),
        }
    }
    Some(out.into_bytes())
}
