//! Form bodies: urlencoded and multipart, as far as uploads use them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use memchr::memmem;

/// Form fields by name; the last one of a name counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Form {
    /// Text fields.
    pub fields: BTreeMap<String, String>,
    /// The part with a file name, as a span of the body, and that name.
    pub file: Option<(std::ops::Range<usize>, String)>,
}

impl Form {
    /// A field's text, if it is there and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Adds urlencoded fields: a query or a body.
    pub fn add_encoded(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.fields.insert(decode(name), decode(value));
        }
    }

    /// Adds the parts of a multipart body.
    ///
    /// # Errors
    /// What is wrong with the body.
    pub fn add_multipart(&mut self, content_type: &str, body: &[u8]) -> Result<(), &'static str> {
        let boundary = parameter(content_type, "boundary").ok_or("the multipart type has no boundary")?;
        let delimiter = format!("--{boundary}");
        let after_part = format!("\r\n--{boundary}");
        let mut at = memmem::find(body, delimiter.as_bytes()).ok_or("the boundary never comes")? + delimiter.len();
        loop {
            let rest = body.get(at..).unwrap_or_default();
            if rest.starts_with(b"--") {
                return Ok(());
            }
            let head_len = memmem::find(rest, b"\r\n\r\n").ok_or("a part without an end of its headers")?;
            let head = String::from_utf8_lossy(&rest[..head_len]).into_owned();
            let start = at + head_len + 4;
            let content = body.get(start..).unwrap_or_default();
            let len = memmem::find(content, after_part.as_bytes()).ok_or("the last boundary is missing")?;
            self.add_part(&head, start..start + len, body);
            at = start + len + after_part.len();
        }
    }

    fn add_part(&mut self, head: &str, span: std::ops::Range<usize>, body: &[u8]) {
        let disposition = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition:"));
        let Some(disposition) = disposition else { return };
        let name = parameter(disposition, "name").unwrap_or_default();
        if let Some(file_name) = parameter(disposition, "filename") {
            self.file = Some((span, file_name.into_owned()));
        } else {
            let text = String::from_utf8_lossy(body.get(span).unwrap_or_default()).into_owned();
            self.fields.insert(name.into_owned(), text);
        }
    }
}

/// `name=value` or `name="value"` among the parameters of a header.
fn parameter<'a>(header: &'a str, name: &str) -> Option<Cow<'a, str>> {
    header.split(';').skip(1).find_map(|item| {
        let (key, value) = item.split_once('=')?;
        if !key.trim().eq_ignore_ascii_case(name) {
            return None;
        }
        let value = value.trim();
        Some(match value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) {
            Some(quoted) => Cow::Owned(quoted.replace("\\\"", "\"").replace("%22", "\"")),
            None => Cow::Borrowed(value),
        })
    })
}

/// Undoes the urlencoding of a name or a value.
fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'+' => out.push(b' '),
            b'%' => match hex_ahead(bytes.clone()) {
                Some(code) => {
                    out.push(code);
                    bytes.nth(1);
                }
                None => out.push(b'%'),
            },
            other => out.push(other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The byte that the next two hex digits stand for.
fn hex_ahead(mut ahead: std::str::Bytes<'_>) -> Option<u8> {
    let mut digit = || ahead.next().and_then(|byte| char::from(byte).to_digit(16));
    let (high, low) = (digit()?, digit()?);
    u8::try_from(high * 16 + low).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urlencoded_fields() {
        let cases = [
            ("a=1&b=x+y", [("a", "1"), ("b", "x y")]),
            ("a=%C3%A9%2f&b=100%", [("a", "é/"), ("b", "100%")]),
            ("a&b=%4", [("a", ""), ("b", "%4")]),
        ];
        for (text, expected) in cases {
            let mut form = Form::default();
            form.add_encoded(text);
            let got: Vec<_> = form.fields.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn multipart_fields_and_a_file() {
        let body = b"--XX\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch-api\r\n\
            --XX\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a b.jsonl\"\r\nContent-Type: x/y\r\n\r\n\
            line 1\r\nline --XX 2\n\r\n--XX--\r\n";
        let mut form = Form::default();
        form.add_multipart("multipart/form-data; boundary=\"XX\"", body).unwrap();
        assert_eq!(form.get("purpose"), Some("batch-api"));
        let (span, name) = form.file.unwrap();
        assert_eq!(name, "a b.jsonl");
        assert_eq!(&body[span], b"line 1\r\nline --XX 2\n");
    }

    #[test]
    fn a_broken_multipart_body_is_refused() {
        for (kind, body) in [
            ("multipart/form-data", "--X--"),
            ("multipart/form-data; boundary=X", "nothing"),
            ("multipart/form-data; boundary=X", "--X\r\nno end"),
            ("multipart/form-data; boundary=X", "--X\r\na: b\r\n\r\nvalue"),
        ] {
            assert!(Form::default().add_multipart(kind, body.as_bytes()).is_err(), "{body}");
        }
    }
}
