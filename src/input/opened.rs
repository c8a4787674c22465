//! The inputs of a command, opened: files by name, or standard input kept in a file.

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::{Inputs, ReadOptions};
use crate::error::{Error, Exit, Result};

/// Inputs that can be read as often as needed.
#[derive(Debug)]
pub struct OpenedInputs {
    /// The files.
    pub inputs: Inputs,
    /// The copy of standard input, if that is the input; dropped, it is deleted.
    pub stdin: Option<StdinCopy>,
}

/// Standard input, kept in a file.
#[derive(Debug)]
pub struct StdinCopy {
    /// All of it.
    pub file: NamedTempFile,
    /// Hash of the content, in hex.
    pub hash: String,
}

impl OpenedInputs {
    /// Opens the files at `paths`, or standard input. `new_file` makes the file that keeps a copy of standard input, which
    /// is JSONL unless `options` say otherwise.
    ///
    /// # Errors
    /// 66 if an input cannot be read, 2 for an unknown ending (see [`Inputs::resolve`]), 74 if the copy cannot be written.
    pub fn open(
        paths: &[PathBuf],
        stdin: bool,
        options: ReadOptions,
        new_file: impl FnOnce() -> Result<NamedTempFile>,
    ) -> Result<Self> {
        if !stdin {
            return Ok(Self { inputs: Inputs::resolve(paths, options.format)?.read_as(&options)?, stdin: None });
        }
        let copy = StdinCopy::of(&mut io::stdin().lock(), new_file()?)?;
        let inputs = Inputs::spooled(copy.file.path().to_owned(), "-", options.piped_format());
        Ok(Self { inputs: inputs.read_as(&options)?, stdin: Some(copy) })
    }
}

impl StdinCopy {
    /// Copies all of `stdin` into `file`; on the disk when this returns.
    fn of(stdin: &mut impl Read, file: NamedTempFile) -> Result<Self> {
        let unwritable = |e: io::Error| Error::io("standard input cannot be stored", e);
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::new(Exit::NoInput, "standard input cannot be read").because(e)),
            };
            hasher.update(&buffer[..read]);
            writer.write_all(&buffer[..read]).map_err(unwritable)?;
        }
        let file = writer.into_inner().map_err(|e| unwritable(e.into_error()))?;
        file.as_file().sync_all().map_err(unwritable)?;
        Ok(Self { file, hash: hasher.finalize().to_hex().to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_kept_whole_with_its_hash() {
        let text = "{\"prompt\":\"x\"}\n".repeat(20_000);
        let copy = StdinCopy::of(&mut text.as_bytes(), NamedTempFile::new().unwrap()).unwrap();
        assert_eq!(std::fs::read_to_string(copy.file.path()).unwrap(), text);
        assert_eq!(copy.hash, blake3::hash(text.as_bytes()).to_hex().to_string());
    }
}
