//! A copy of the inputs of a batch, which no other program writes to. It is kept as long as its job.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::source::{self, is_packed};
use super::{ChosenRows, Format, Input, Inputs};
use crate::error::{Error, Exit, Result};

/// One copied file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Its name in the directory of the copy.
    pub name: String,
    /// Its name in messages.
    pub shown: String,
    /// Its format.
    pub format: Format,
    /// Hash of the copy, in hex. `None`: an earlier llbatch made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// Size of what was packed, about. `None`: the file was packed before, or an earlier llbatch made the copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unpacked: Option<u64>,
}

impl Inputs {
    /// Copies all files into `dir`, packed with zstd where they are not packed already. They are on disk when this returns.
    ///
    /// # Errors
    /// 66 if an input cannot be read, 74 if a copy cannot be written.
    pub fn keep(&self, dir: &Path) -> Result<Vec<Kept>> {
        let copy = |(number, input): (usize, &Input)| {
            let name = format!("input-{number}");
            let path = dir.join(&name);
            let unwritable = |e| Error::io(format!("{}: the input cannot be stored", path.display()), e);
            let mut from = input.open()?;
            let to =
                File::options().write(true).create(true).truncate(true).mode(0o600).open(&path).map_err(unwritable)?;
            let mut head = Vec::new();
            Read::take(&mut from, 4).read_to_end(&mut head).map_err(|e| source::unreadable(&input.shown, e))?;
            // The pages of a Parquet file are packed, and it is read from its end.
            let packed = is_packed(&head) || input.format == Format::Parquet;
            let mut bytes = head.chain(from);
            let to = if packed {
                copy_all(&mut bytes, to, &input.shown, &unwritable)?
            } else {
                // The fastest level: prompts shrink to a third, and the disk is slower than this.
                let encoder = zstd::stream::write::Encoder::new(to, 1).map_err(unwritable)?;
                copy_all(&mut bytes, encoder, &input.shown, &unwritable)?.finish().map_err(unwritable)?
            };
            to.sync_all().map_err(unwritable)?;
            let hash = Some(hash_of(&path).map_err(unwritable)?);
            let unpacked = (!packed).then_some(input.bytes);
            Ok(Kept { name, shown: input.shown.clone(), format: input.format, hash, unpacked })
        };
        self.files.iter().enumerate().map(|(i, input)| copy((i + 1, input))).collect()
    }

    /// Inputs from such a copy.
    ///
    /// # Errors
    /// 66 if a file is missing, 74 if it is damaged.
    pub fn kept(dir: &Path, kept: &[Kept]) -> Result<Self> {
        let files = kept
            .iter()
            .map(|kept| {
                let path = dir.join(&kept.name);
                let bytes = std::fs::metadata(&path)
                    .map_err(|e| {
                        Error::new(Exit::NoInput, format!("{}: the copy of the input is missing", path.display()))
                            .because(e)
                    })?
                    .len();
                same_copy(&path, kept.hash.as_deref())?;
                let (shown, format, bytes) = (kept.shown.clone(), kept.format, kept.unpacked.unwrap_or(bytes));
                Ok(Input { path, shown, format, delimiter: None, encoding: None, bytes, remote: None })
            })
            .collect::<Result<_>>()?;
        Ok(Self { files, chosen: ChosenRows::default() })
    }
}

/// Refuses a copy of the input that is not as it was made. Its rows would be other requests.
///
/// # Errors
/// 74 if it is damaged.
pub fn same_copy(path: &Path, hash: Option<&str>) -> Result<()> {
    let damaged = || Error::new(Exit::Io, format!("{}: the copy of the input is damaged", path.display()));
    match hash.map(|hash| (hash, hash_of(path))) {
        Some((_, Err(error))) => Err(damaged().because(error)),
        Some((hash, Ok(found))) if found != hash => {
            Err(damaged().hint("restore the file from a backup; nothing was sent"))
        }
        _ => Ok(()),
    }
}

fn hash_of(path: &Path) -> io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn copy_all<W: Write>(
    from: &mut impl Read,
    mut to: W,
    shown: &str,
    unwritable: &impl Fn(io::Error) -> Error,
) -> Result<W> {
    let mut buffer = vec![0; 256 << 10];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(to),
            Ok(n) => to.write_all(&buffer[..n]).map_err(unwritable)?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(source::unreadable(shown, e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_reads_as_its_original_did() {
        let dir = tempfile::tempdir().unwrap();
        let (plain, packed) = (dir.path().join("a.jsonl"), dir.path().join("b.csv.gz"));
        std::fs::write(&plain, "{\"prompt\":\"x\"}\n{\"prompt\":\"y\"}\n").unwrap();
        let mut gz = flate2::write::GzEncoder::new(File::create(&packed).unwrap(), flate2::Compression::fast());
        gz.write_all(b"prompt\nz\n").unwrap();
        gz.finish().unwrap();
        let inputs = Inputs::resolve(&[plain.clone(), packed.clone()], None).unwrap();
        let copy = dir.path().join("copy");
        std::fs::create_dir(&copy).unwrap();
        let kept = inputs.keep(&copy).unwrap();
        std::fs::remove_file(plain).unwrap();
        std::fs::remove_file(packed).unwrap();
        let again = Inputs::kept(&copy, &kept).unwrap();
        // The copy of the packed file is as long as the file; that of the other one counts as its 30 bytes.
        let packed_bytes = std::fs::metadata(copy.join("input-2")).unwrap().len();
        assert_eq!(again.total_bytes(), Some(30 + packed_bytes));
        let mut seen = Vec::new();
        let mut blocks = again.blocks().unwrap();
        while let Some(block) = blocks.next().unwrap() {
            block.for_each(|record| {
                let record = record.unwrap();
                let crate::request::Field::Text(text) = &record.fields()[0].1 else { panic!("a text") };
                seen.push((record.row, text.to_string()));
            });
        }
        assert_eq!(seen, [(1, "x".to_owned()), (2, "y".to_owned()), (3, "z".to_owned())]);
        assert_eq!(kept[1].format, Format::Csv);
        let path = copy.join("input-1");
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let error = Inputs::kept(&copy, &kept).unwrap_err();
        assert!(
            error.exit == Exit::Io && error.message.contains("input-1: the copy of the input is damaged"),
            "{error}"
        );
        std::fs::remove_file(path).unwrap();
        assert_eq!(Inputs::kept(&copy, &kept).unwrap_err().exit, Exit::NoInput);
    }
}
