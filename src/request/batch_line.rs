//! A request as a line of a batch file.

use super::Draft;
use crate::json;

/// The limits of one batch file, and the form of its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchFileForm {
    /// Lines.
    pub rows: u64,
    /// Bytes, line ends included.
    pub bytes: u64,
    /// Each line names the method and the path of its request.
    pub addressed: bool,
}

impl BatchFileForm {
    /// The form of `OpenAI`'s batch API: 50,000 requests and 200 MB (its guide, read 2026-11), in lines with an address.
    pub const OPENAI: Self = Self { rows: 50_000, bytes: 200_000_000, addressed: true };

    /// Returns true if a file of `rows` lines and `bytes` bytes has room for another line of `line` bytes.
    pub const fn have_room(self, rows: u64, bytes: u64, line: u64) -> bool {
        rows < self.rows && bytes + line <= self.bytes
    }
}

impl Default for BatchFileForm {
    /// Together's "50,000 requests, 100 MB" (its batch overview, read 2026-11), megabytes read as the smaller ones. No
    /// further margin: the other reading leaves 4.8 % already.
    fn default() -> Self {
        Self { rows: 50_000, bytes: 100_000_000, addressed: false }
    }
}

/// Appends the line of `draft`, named `id`, with its line end, and with the stand-ins of its local files.
pub fn append(out: &mut Vec<u8>, id: &str, draft: &Draft<'_>, form: BatchFileForm) {
    out.extend_from_slice(br#"{"custom_id":"#);
    json::write(id, out);
    if form.addressed {
        out.extend_from_slice(br#","method":"POST","url":"/v1"#);
        out.extend_from_slice(draft.endpoint.path().as_bytes());
        out.push(b'"');
    } else if let Some(method) = draft.endpoint.batch_method() {
        out.extend_from_slice(br#","method":""#);
        out.extend_from_slice(method.as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(br#","body":"#);
    out.extend_from_slice(draft.body.as_bytes());
    out.extend_from_slice(b"}\n");
}

/// Counts the bytes of the line of `draft` under its own id, as it is sent.
pub fn length(draft: &Draft<'_>, form: BatchFileForm) -> u64 {
    const FRAME: usize = r#"{"custom_id":"","body":}"#.len() + 1;
    // Escapes are rare: `\n` and `\"` take a byte more each, other control characters five.
    let id: usize = draft
        .id
        .bytes()
        .map(|b| match b {
            b'"' | b'\\' | 8..=10 | 12 | 13 => 2,
            0..0x20 => 6,
            _ => 1,
        })
        .sum();
    let method = if form.addressed {
        r#","method":"POST","url":"/v1""#.len() + draft.endpoint.path().len()
    } else {
        draft.endpoint.batch_method().map_or(0, |method| r#","method":"""#.len() + method.len())
    };
    draft.files.sent_bytes((FRAME + id + method + draft.body.len()) as u64)
}
