//! A file's bytes, unpacked.

use std::io::{self, BufReader, Chain, Cursor, Read};
use std::path::{Path, PathBuf};

use super::encoding::{Decoding, TextEncoding};
use super::remote;
use crate::error::{Error, Exit, Result};

const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];

/// Packed bytes are read in pieces of this size.
const PIECE: usize = 256 * 1024;

/// Names of a directory that are compared with a missing one.
const MOST_NAMES: usize = 10_000;

/// Bytes on a disk, or of an object at a URL.
pub(super) type RawBytes = Box<dyn Read + Send>;
type Head = Chain<Cursor<Vec<u8>>, RawBytes>;

/// An open input.
pub struct Source {
    shown: String,
    reader: Reader,
    packing: Option<&'static str>,
    decoding: Option<Decoding>,
    /// Unpacked bytes read so far.
    read: u64,
}

enum Reader {
    Plain(Head),
    Gzip(Box<flate2::read::MultiGzDecoder<BufReader<Head>>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<BufReader<Head>>>>),
}

impl Source {
    /// Opens the file or URL `path`, gzip and zstd (also several in a row) unpacked.
    pub fn open(path: &Path, shown: &str) -> Result<Self> {
        Self::of(remote::open(path, shown)?, shown)
    }

    /// Unpacks these bytes.
    pub(super) fn of(mut file: RawBytes, shown: &str) -> Result<Self> {
        let fail = |error| unreadable(shown, error);
        let mut first = Vec::with_capacity(ZSTD.len());
        file.by_ref().take(ZSTD.len() as u64).read_to_end(&mut first).map_err(fail)?;
        let packing = packing(&first);
        let head = Cursor::new(first).chain(file);
        let packed = |head| BufReader::with_capacity(PIECE, head);
        let reader = match packing {
            Some("gzip") => Reader::Gzip(Box::new(flate2::read::MultiGzDecoder::new(packed(head)))),
            Some(_) => Reader::Zstd(Box::new(zstd::stream::read::Decoder::new(packed(head)).map_err(fail)?)),
            None => Reader::Plain(head),
        };
        Ok(Self { shown: shown.to_owned(), reader, packing, decoding: None, read: 0 })
    }

    /// Has [`Self::fill`] give UTF-8 in place of text in another encoding.
    pub fn decoded(self, encoding: Option<TextEncoding>) -> Self {
        Self { decoding: encoding.filter(|encoding| !encoding.is_utf8()).map(Decoding::new), ..self }
    }

    /// Returns true if [`Self::fill`] decodes.
    pub(super) const fn is_decoded(&self) -> bool {
        self.decoding.is_some()
    }

    /// Decodes from here on, beginning with all bytes read so far, which are in `buffer`; `last`: there are no others.
    pub(super) fn decode(&mut self, encoding: TextEncoding, buffer: &mut Vec<u8>, last: bool) {
        let mut decoding = Decoding::new(encoding);
        decoding.push(buffer, last);
        buffer.clear();
        self.decoding = Some(decoding);
    }

    /// Adds up to `limit` bytes to `buffer`, fewer only at the end. Returns their number.
    ///
    /// # Errors
    /// 65 for damaged compression, 66 if the system cannot read.
    pub fn fill(&mut self, buffer: &mut Vec<u8>, limit: usize) -> Result<usize> {
        let Some(mut decoding) = self.decoding.take() else { return self.fill_raw(buffer, limit) };
        let mut raw = Vec::new();
        while decoding.len() < limit && !decoding.has_ended() {
            raw.clear();
            let read = self.fill_raw(&mut raw, PIECE)?;
            decoding.push(&raw, read < PIECE);
        }
        let given = decoding.take(buffer, limit);
        self.decoding = Some(decoding);
        Ok(given)
    }

    fn fill_raw(&mut self, buffer: &mut Vec<u8>, limit: usize) -> Result<usize> {
        // For one long record, callers double their request each time. To double it here too would waste memory.
        buffer.reserve_exact(limit);
        let before = buffer.len();
        let limit = limit as u64;
        let got = match &mut self.reader {
            Reader::Plain(reader) => reader.take(limit).read_to_end(buffer),
            Reader::Gzip(reader) => reader.take(limit).read_to_end(buffer),
            Reader::Zstd(reader) => reader.take(limit).read_to_end(buffer),
        };
        // Bytes before an error count too: their number is its place.
        self.read += (buffer.len() - before) as u64;
        got.map_err(|error| self.broken(error))
    }

    /// Reads what comes next, without decoding it.
    fn some(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let got = match &mut self.reader {
            Reader::Plain(reader) => reader.read(buffer),
            Reader::Gzip(reader) => reader.read(buffer),
            Reader::Zstd(reader) => reader.read(buffer),
        };
        let got = got.map_err(|error| self.broken(error))?;
        self.read += got as u64;
        Ok(got)
    }

    fn broken(&self, error: io::Error) -> Error {
        let Some(packing) = self.packing.filter(|_| error.raw_os_error().is_none() && !is_own(&error)) else {
            return unreadable(&self.shown, error);
        };
        let state = if error.kind() == io::ErrorKind::UnexpectedEof { "is cut off" } else { "is damaged" };
        Error::new(
            Exit::Data,
            format!("{}: the {packing} data {state}, after {} unpacked bytes", self.shown, self.read),
        )
        .hint("copy or download the file again")
        .because(error)
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.some(buffer).map_err(io::Error::other)
    }
}

/// Returns true if a file with this beginning is compressed.
pub(super) fn is_packed(head: &[u8]) -> bool {
    packing(head).is_some()
}

/// The compression of a file with this beginning.
pub(super) fn packing(head: &[u8]) -> Option<&'static str> {
    match head {
        _ if head.starts_with(GZIP) => Some("gzip"),
        _ if head.starts_with(ZSTD) => Some("zstd"),
        _ => None,
    }
}

/// Returns true if the error is one of llbatch's own inside the system's.
fn is_own(error: &io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>)
}

/// The file beside `missing` whose name is nearest, if a few letters make the difference.
fn near_file(missing: &Path) -> Option<PathBuf> {
    let name = missing.file_name()?.to_str()?;
    let dir = missing.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let names =
        std::fs::read_dir(dir).ok()?.take(MOST_NAMES).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let near = names.map(|other| (strsim::osa_distance(name, &other), other));
    let (_, near) = near.filter(|(distance, _)| distance * 4 <= name.len()).min()?;
    Some(missing.with_file_name(near)).filter(|near| near.is_file())
}

/// The error of an input that the system cannot read.
pub fn unreadable(shown: &str, error: io::Error) -> Error {
    // An object at a URL has told all of it.
    let error = match error.downcast::<Error>() {
        Ok(own) => return own,
        Err(error) => error,
    };
    let hint = match error.kind() {
        io::ErrorKind::NotFound => match near_file(Path::new(shown)) {
            Some(near) => format!("did you mean {}?", near.display()),
            None => "check the name and the directory".to_owned(),
        },
        io::ErrorKind::PermissionDenied => "check the permissions of that path".to_owned(),
        _ => "check the file and its disk".to_owned(),
    };
    Error::new(Exit::NoInput, format!("{shown}: cannot read the input")).hint(hint).because(error)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8]) -> Result<Vec<u8>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut source = Source::open(file.path(), "x.gz")?;
        let mut out = Vec::new();
        while source.fill(&mut out, 1000)? == 1000 {}
        Ok(out)
    }

    #[test]
    fn packed_members_follow_each_other() {
        let plain: Vec<u8> = (0..40_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
        for packed in [
            plain.clone(),
            gzip(&plain),
            [gzip(&plain[..100]), gzip(&plain[100..])].concat(),
            zstd(&plain),
            [zstd(&plain[..100]), zstd(&plain[100..])].concat(),
        ] {
            assert_eq!(read(&packed).unwrap(), plain);
        }
        assert_eq!(read(b"").unwrap(), b"");
        assert_eq!(read(b"(").unwrap(), b"(");
    }

    #[test]
    fn damage_is_told_with_how_far_it_read() {
        let plain = vec![b'x'; 50_000];
        let mut packed = gzip(&plain);
        packed.truncate(packed.len() - 5);
        let cut = read(&packed).unwrap_err();
        assert_eq!(cut.exit, Exit::Data);
        assert!(cut.message.contains("x.gz: the gzip data is cut off, after 50000 "), "{}", cut.message);
        let mut packed = gzip(&plain);
        let crc = packed.len() - 8;
        packed[crc] ^= 1;
        assert!(read(&packed).unwrap_err().message.contains("damaged"));
        let mut packed = zstd::encode_all(&plain[..], 1).unwrap();
        packed.truncate(packed.len() - 3);
        assert_eq!(read(&packed).unwrap_err().exit, Exit::Data);
        assert_eq!(read(&[gzip(b"a"), b"junk".to_vec()].concat()).unwrap_err().exit, Exit::Data);
    }
}
