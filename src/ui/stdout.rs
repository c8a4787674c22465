//! Stdout as a place for data: bytes for files and pipes, visible text for a terminal.

use std::io::{self, Write};

use super::{Ui, escape};

/// A line longer than this is not held back for the sake of the bar.
const HELD: usize = 64 * 1024;

/// Where results and documents are written; see [`Ui::data`].
#[derive(Debug)]
pub struct Data<W: Write> {
    ui: Ui,
    out: Out<W>,
}

#[derive(Debug)]
enum Out<W: Write> {
    /// A file or a pipe.
    Bytes(W),
    /// A terminal. While a bar is drawn, `held` keeps the beginning of a line: the bar would wipe it out.
    Terminal { out: escape::Writer<W>, held: Vec<u8> },
}

impl<W: Write> Data<W> {
    pub(super) fn new(ui: Ui, inner: W) -> Self {
        let out = if ui.stdout_is_terminal() {
            Out::Terminal { out: escape::Writer::new(inner), held: Vec::new() }
        } else {
            Out::Bytes(inner)
        };
        Self { ui, out }
    }
}

impl<W: Write> Write for Data<W> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.out {
            Out::Bytes(out) => out.write(buf),
            Out::Terminal { out, held } => {
                held.extend_from_slice(buf);
                let whole = if self.ui.is_drawn() && held.len() <= HELD {
                    held.iter().rposition(|byte| *byte == b'\n').map_or(0, |i| i + 1)
                } else {
                    held.len()
                };
                if whole > 0 {
                    // Taken out first: after an error it is not shown twice.
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
            Out::Bytes(out) => out.flush(),
            Out::Terminal { out, held } if !self.ui.is_drawn() => {
                let rest = std::mem::take(held);
                out.write_all(&rest)?;
                out.flush()
            }
            Out::Terminal { out, .. } => out.flush(),
        }
    }
}

impl<W: Write> Drop for Data<W> {
    fn drop(&mut self) {
        if let Out::Terminal { out, held } = &mut self.out
            && !held.is_empty()
        {
            // Nobody is left to tell: whoever cares about errors has flushed before.
            let _ = self.ui.apart(|| out.write_all(held).and_then(|()| out.flush()));
        }
    }
}
