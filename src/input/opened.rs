//! The inputs of a command, opened: files by name, or standard input kept in a file.

use std::io::{self, BufWriter, Read, Write};
use std::path::PathBuf;

use tempfile::NamedTempFile;

use super::limited::LimitedCopy;
use super::{Format, Inputs, ReadOptions, parquet};
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
    /// Opens the files and URLs at `paths`, or standard input. `new_file` makes the file that keeps a copy of standard input,
    /// which is JSONL unless `options` say otherwise, or of a URL that cannot be read twice.
    ///
    /// # Errors
    /// 66 if an input cannot be read, 2 for an unknown ending (see [`Inputs::resolve`]), 74 if the copy cannot be written.
    pub fn open(
        paths: &[PathBuf],
        stdin: bool,
        options: ReadOptions,
        new_file: impl Fn() -> Result<NamedTempFile>,
    ) -> Result<Self> {
        if !stdin {
            let inputs = Inputs::resolve_with(paths, options.format, &new_file)?.read_as(&options)?;
            return Ok(Self { inputs, stdin: None });
        }
        if options.piped_format() == Format::Parquet {
            return Err(parquet::piped());
        }
        let copy = StdinCopy::of(&mut io::stdin().lock(), new_file()?, &options)?;
        let inputs = Inputs::spooled(copy.file.path().to_owned(), "-", options.piped_format());
        Ok(Self { inputs: inputs.read_as(&options)?, stdin: Some(copy) })
    }
}

impl StdinCopy {
    /// Copies `stdin` into `file`, as far as the rows of `options` need it; on the disk when this returns.
    fn of(stdin: &mut impl Read, file: NamedTempFile, options: &ReadOptions) -> Result<Self> {
        let unwritable = |e: io::Error| Error::io("standard input cannot be stored", e);
        let path = file.path().to_owned();
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        let mut limited = LimitedCopy::of(options);
        // The first bytes show what it is, so they are looked at together.
        let mut least = LimitedCopy::HEAD;
        while !limited.has_ended() {
            let read = read_at_least(stdin, &mut buffer, least)
                .map_err(|e| Error::new(Exit::NoInput, "standard input cannot be read").because(e))?;
            if read == 0 {
                break;
            }
            least = 1;
            let mut rest = &buffer[..read];
            while !rest.is_empty() && !limited.has_ended() {
                let piece = limited.take(rest);
                rest = &rest[piece.len()..];
                hasher.update(piece);
                writer.write_all(piece).map_err(unwritable)?;
                if limited.is_due() {
                    writer.flush().map_err(unwritable)?;
                    limited.count(&path, options);
                }
            }
        }
        let file = writer.into_inner().map_err(|e| unwritable(e.into_error()))?;
        file.as_file().sync_all().map_err(unwritable)?;
        Ok(Self { file, hash: hasher.finalize().to_hex().to_string() })
    }
}

/// Reads once, or until there are `least` bytes. Returns their number; 0 at the end.
fn read_at_least(stdin: &mut impl Read, buffer: &mut [u8], least: usize) -> io::Result<usize> {
    let mut read = 0;
    while read < least {
        match stdin.read(&mut buffer[read..]) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Pick;

    #[test]
    fn standard_input_is_kept_whole_with_its_hash() {
        let text = "{\"prompt\":\"x\"}\n".repeat(20_000);
        let new = NamedTempFile::new().unwrap();
        let copy = StdinCopy::of(&mut text.as_bytes(), new, &ReadOptions::default()).unwrap();
        assert_eq!(std::fs::read_to_string(copy.file.path()).unwrap(), text);
        assert_eq!(copy.hash, blake3::hash(text.as_bytes()).to_hex().to_string());
    }

    #[test]
    fn limited_copy_ends_behind_its_rows_whatever_the_pieces() {
        let copy = |text: &[u8], options: &ReadOptions, piece: usize| {
            let mut stdin = Pieces { left: text.to_vec(), piece };
            let copy = StdinCopy::of(&mut stdin, NamedTempFile::new().unwrap(), options).unwrap();
            std::fs::read(copy.file.path()).unwrap()
        };
        let pick = Pick { limit: Some(2), ..Pick::default() };
        let lines = ReadOptions { pick, ..ReadOptions::default() };
        let table = ReadOptions { format: Some(Format::Csv), ..lines };
        let long: String = "id,text\n".to_owned() + &"1,\"two\nlines\"\n".repeat(5_000);
        let packed = zstd::encode_all(long.as_bytes(), 1).unwrap();
        for piece in [3, 5_000, 1 << 20] {
            let text = "\u{feff}\n{\"a\":1}\n \r\n{\"a\":2}\n{\"a\":3}\n";
            assert_eq!(copy(text.as_bytes(), &lines, piece), &text.as_bytes()[..text.len() - 8]);
            assert_eq!(copy(b"{}", &lines, piece), b"{}");
            assert_eq!(copy(long.as_bytes(), &table, piece), &long.as_bytes()[..4096]);
            assert_eq!(copy(&long.as_bytes()[..5], &table, piece), b"id,te");
            assert_eq!(copy(&packed, &lines, piece), packed);
        }
        assert_eq!(
            copy(long.as_bytes(), &ReadOptions { format: Some(Format::Csv), ..ReadOptions::default() }, 9).len(),
            long.len()
        );
    }

    /// A pipe that gives pieces of this size.
    struct Pieces {
        left: Vec<u8>,
        piece: usize,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let given = self.piece.min(self.left.len()).min(buffer.len());
            buffer[..given].copy_from_slice(&self.left[..given]);
            self.left.drain(..given);
            Ok(given)
        }
    }
}
