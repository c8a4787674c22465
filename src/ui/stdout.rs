//! Stdout for data: bytes for files and pipes, visible text for a terminal.

use std::io::{self, Write};

use super::Ui;
use super::escape::EscapingWriter;

/// The longest beginning of a line that is held back because of the bar.
const HELD: usize = 64 * 1024;

/// A writer for results and documents; see [`Ui::data`].
#[derive(Debug)]
pub struct StdoutWriter<W: Write> {
    ui: Ui,
    out: StdoutKind<W>,
}

#[derive(Debug)]
enum StdoutKind<W: Write> {
    /// A file or a pipe.
    Bytes(W),
    /// A terminal. While a bar is drawn, `held` keeps the beginning of a line: the bar would overwrite it.
    Terminal { out: EscapingWriter<W>, held: Vec<u8> },
}

impl<W: Write> StdoutWriter<W> {
    pub(super) fn new(ui: Ui, inner: W) -> Self {
        let out = if ui.stdout_is_terminal() {
            StdoutKind::Terminal { out: EscapingWriter::new(inner), held: Vec::new() }
        } else {
            StdoutKind::Bytes(inner)
        };
        Self { ui, out }
    }
}

impl<W: Write> Write for StdoutWriter<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            StdoutKind::Bytes(out) => out.write(buf),
            StdoutKind::Terminal { out, held } => {
                held.extend_from_slice(buf);
                let whole = if self.ui.is_drawn() && held.len() <= HELD {
                    held.iter().rposition(|byte| *byte == b'\n').map_or(0, |i| i + 1)
                } else {
                    held.len()
                };
                if whole > 0 {
                    // Removed first: after an error it is not shown twice.
                    let ready: Vec<u8> = held.drain(..whole).collect();
                    self.ui.apart(|| out.write_all(&ready).and_then(|()| out.flush()))?;
                }
                Ok(buf.len())
            }
        }
    }

    /// The beginning of a line may stay held back until its end comes or this is dropped.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.out {
            StdoutKind::Bytes(out) => out.flush(),
            StdoutKind::Terminal { out, held } if !self.ui.is_drawn() => {
                let rest = std::mem::take(held);
                out.write_all(&rest)?;
                out.flush()
            }
            StdoutKind::Terminal { out, .. } => out.flush(),
        }
    }
}

impl<W: Write> Drop for StdoutWriter<W> {
    fn drop(&mut self) {
        if let StdoutKind::Terminal { out, held } = &mut self.out
            && !held.is_empty()
        {
            // A caller who wants to see errors has flushed before.
            let _ = self.ui.apart(|| out.write_all(held).and_then(|()| out.flush()));
        }
    }
}
