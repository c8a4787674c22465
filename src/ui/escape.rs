//! A writer for terminals: it makes control characters visible.

use std::io::{self, Write};

use crate::text::{escape_bytes, visible};

/// A writer that makes the control characters of a stream visible, as [`visible`] does; invalid UTF-8 becomes `\x9b`.
///
/// A character may be split over calls of `write`. An incomplete one at the very end is shown on drop.
#[derive(Debug)]
pub(super) struct EscapingWriter<W: Write> {
    inner: W,
    /// The beginning of a character whose other bytes have not been written yet.
    pending: Vec<u8>,
}

impl<W: Write> EscapingWriter<W> {
    /// Shows on `inner` everything that is written here.
    pub const fn new(inner: W) -> Self {
        Self { inner, pending: Vec::new() }
    }
}

impl<W: Write> Write for EscapingWriter<W> {
    /// Takes all of `buf`. After an error, an unknown part of it has been shown.
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let joined;
        let mut rest = if self.pending.is_empty() {
            buf
        } else {
            self.pending.extend_from_slice(buf);
            joined = std::mem::take(&mut self.pending);
            &joined
        };
        let mut out = String::with_capacity(rest.len());
        loop {
            match std::str::from_utf8(rest) {
                Ok(text) => {
                    out.push_str(&visible(text));
                    break;
                }
                Err(error) => {
                    let (good, bad) = rest.split_at(error.valid_up_to());
                    out.push_str(&visible(&String::from_utf8_lossy(good)));
                    let Some(length) = error.error_len() else {
                        self.pending = bad.to_vec();
                        break;
                    };
                    escape_bytes(&mut out, &bad[..length]);
                    rest = &bad[length..];
                }
            }
        }
        self.inner.write_all(out.as_bytes())?;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

impl<W: Write> Drop for EscapingWriter<W> {
    fn drop(&mut self) {
        if !self.pending.is_empty() {
            let mut out = String::new();
            escape_bytes(&mut out, &self.pending);
            // A caller who wants to see errors has flushed before.
            let _ = self.inner.write_all(out.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::ESCAPES;

    fn written(parts: &[&[u8]]) -> String {
        let mut sink = Vec::new();
        let mut writer = EscapingWriter::new(&mut sink);
        for part in parts {
            writer.write_all(part).unwrap();
        }
        drop(writer);
        String::from_utf8(sink).unwrap()
    }

    #[test]
    fn the_writer_agrees_wherever_the_stream_is_cut() {
        for (raw, safe) in ESCAPES {
            let bytes = raw.as_bytes();
            for cut in 0..=bytes.len() {
                assert_eq!(written(&[&bytes[..cut], &bytes[cut..]]), *safe, "cut at {cut}");
            }
            let single: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(written(&single), *safe);
        }
    }

    #[test]
    fn invalid_utf8_is_shown() {
        assert_eq!(written(&[b"a\x9b2Jb"]), "a\\x9b2Jb");
        assert_eq!(written(&[b"a\xe2\x82", b"b"]), "a\\xe2\\x82b");
        assert_eq!(written(&[b"end \xf0\x9f"]), "end \\xf0\\x9f");
    }

    #[test]
    fn a_closed_pipe_is_passed_on() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = EscapingWriter::new(Closed).write(b"x").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
