//! Standard input, kept in a file: it can be read only once, and a job may need it again.

use std::io::{BufWriter, Read, Write};

use super::Store;
use crate::error::{Error, Exit, Result};

/// Standard input in a file that only the user can read.
#[derive(Debug)]
pub struct Spooled {
    /// The file; removed when this is dropped.
    pub file: tempfile::NamedTempFile,
    /// The hash of its content.
    pub hash: String,
}

impl Store {
    /// Reads standard input to its end into a file.
    ///
    /// # Errors
    /// 66 if it cannot be read, 74 if it cannot be kept.
    pub fn spool_stdin(&self) -> Result<Spooled> {
        let not_kept = |e| Error::io("standard input cannot be kept", e);
        let mut writer = BufWriter::with_capacity(256 << 10, self.spool()?);
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        let mut stdin = std::io::stdin().lock();
        loop {
            let read = match stdin.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::new(Exit::NoInput, "standard input cannot be read").because(e)),
            };
            hasher.update(&buffer[..read]);
            writer.write_all(&buffer[..read]).map_err(not_kept)?;
        }
        let file = writer.into_inner().map_err(|e| not_kept(e.into_error()))?;
        file.as_file().sync_all().map_err(not_kept)?;
        Ok(Spooled { file, hash: hasher.finalize().to_hex().to_string() })
    }
}
