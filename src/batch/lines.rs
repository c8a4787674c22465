//! The lines of a results file, each with its place, through one large buffer.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes read at a time. Most lines are far shorter, so few are split between two reads.
const BUFFER: usize = 1 << 20;
/// Longest line that is read. In real time, an answer of up to 64 MiB is read. No useful line is longer than this.
const LONGEST: usize = 128 << 20;

/// One line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct FileLine<'a> {
    /// Its number, 1-based.
    pub number: u64,
    /// Offset of `bytes` in the file.
    pub at: u64,
    /// The line without white space around it and without a byte order mark. `None` if it is longer than any answer.
    pub bytes: Option<&'a [u8]>,
    /// A line feed ends it. Only the last line can lack one.
    pub ended: bool,
}

/// Reads a file line by line. Memory: one buffer, which grows to the longest line.
#[derive(Debug)]
pub(crate) struct FileLines<R> {
    source: R,
    buffer: Vec<u8>,
    /// Offset in the file of the buffer's first byte.
    base: u64,
    /// Bytes that were read and not returned: `buffer[start..end]`. There is no line feed before `searched`.
    start: usize,
    searched: usize,
    end: usize,
    number: u64,
    /// Offset of a line that is too long, while its end is searched.
    skipping: Option<u64>,
    longest: usize,
}

impl FileLines<File> {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self::of(File::open(path)?))
    }
}

impl<R: Read> FileLines<R> {
    /// Builds a reader of the lines of `source`.
    pub(crate) fn of(source: R) -> Self {
        Self::new(source, BUFFER, LONGEST)
    }

    fn new(source: R, buffer: usize, longest: usize) -> Self {
        let buffer = vec![0; buffer];
        Self { source, buffer, base: 0, start: 0, searched: 0, end: 0, number: 0, skipping: None, longest }
    }

    /// The number of the line that was read last.
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Reads the next line, even a blank one.
    pub(crate) fn next(&mut self) -> io::Result<Option<FileLine<'_>>> {
        loop {
            if let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..self.end]) {
                let stop = self.searched + found;
                return Ok(Some(self.take(stop, true)));
            }
            self.searched = self.end;
            if !self.more()? {
                let nothing = self.start == self.end && self.skipping.is_none();
                return Ok(if nothing { None } else { Some(self.take(self.end, false)) });
            }
        }
    }

    fn take(&mut self, stop: usize, ended: bool) -> FileLine<'_> {
        let mut start = self.start;
        self.number += 1;
        self.start = stop + usize::from(ended);
        self.searched = self.start;
        let number = self.number;
        if let Some(at) = self.skipping.take() {
            return FileLine { number, at, bytes: None, ended };
        }
        if self.base == 0 && start == 0 && self.buffer[..stop].starts_with(b"\xEF\xBB\xBF") {
            start = 3;
        }
        let bytes = self.buffer[start..stop].trim_ascii_end();
        let trimmed = bytes.trim_ascii_start();
        FileLine { number, at: self.base + (start + bytes.len() - trimmed.len()) as u64, bytes: Some(trimmed), ended }
    }

    /// Reads more bytes behind `end`. Returns `false` at the end of the file.
    fn more(&mut self) -> io::Result<bool> {
        if self.end - self.start >= self.longest || self.skipping.is_some() {
            self.skipping.get_or_insert(self.base + self.start as u64);
            self.start = self.end;
        }
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.base += self.start as u64;
            self.end -= self.start;
            (self.start, self.searched) = (0, self.end);
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() * 2, 0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => return Ok(false),
                Ok(read) => {
                    self.end += read;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// (number, at, bytes, ended) of every line. Reads come in pieces of `piece` bytes.
    fn all(text: &[u8], piece: usize, longest: usize) -> Vec<(u64, u64, Option<Vec<u8>>, bool)> {
        struct Pieces<'a>(&'a [u8], usize, bool);
        impl Read for Pieces<'_> {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                self.2 = !self.2;
                if self.2 {
                    return Err(io::ErrorKind::Interrupted.into());
                }
                let n = out.len().min(self.1);
                self.0.read(&mut out[..n])
            }
        }
        let mut lines = FileLines::new(Pieces(text, piece, false), 4, longest);
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.number, line.at, line.bytes.map(<[u8]>::to_vec), line.ended));
        }
        found
    }

    #[test]
    fn marks_ends_and_blanks_do_not_count_as_content() {
        let text = b"\xEF\xBB\xBF one\r\n\n\t \n\xEF\xBB\xBFtwo\nthree ";
        let shown: Vec<_> = all(text, 3, 99)
            .into_iter()
            .map(|(number, at, bytes, ended)| (number, at, String::from_utf8(bytes.unwrap()).unwrap(), ended))
            .collect();
        let line = |number, at, text: &str, ended| (number, at, text.to_owned(), ended);
        assert_eq!(
            shown,
            [
                line(1, 4, "one", true),
                line(2, 9, "", true),
                line(3, 10, "", true),
                line(4, 13, "\u{feff}two", true),
                line(5, 20, "three", false),
            ]
        );
        assert!(all(b"", 3, 99).is_empty());
    }

    #[test]
    fn a_line_beyond_all_bounds_is_passed_over() {
        let text = [b"a\n".as_slice(), &[b'x'; 50], b"\nb\n", &[b'y'; 50]].concat();
        let found = all(&text, 7, 8);
        let shown: Vec<_> =
            found.iter().map(|(number, at, bytes, ended)| (*number, *at, bytes.is_some(), *ended)).collect();
        assert_eq!(shown, [(1, 0, true, true), (2, 2, false, true), (3, 53, true, true), (4, 55, false, false)]);
        assert_eq!(found[2].2.as_deref(), Some(b"b".as_slice()));
    }

    proptest! {
        #[test]
        fn lines_are_those_of_a_split(text in "[ab \r\n]{0,60}", piece in 1_usize..9) {
            let found = all(text.as_bytes(), piece, 1000);
            let mut split: Vec<_> = text.split('\n').collect();
            if split.last() == Some(&"") {
                split.pop();
            }
            prop_assert_eq!(found.len(), split.len());
            for ((number, at, bytes, ended), (i, expected)) in found.iter().zip(split.iter().enumerate()) {
                let bytes = bytes.as_deref().unwrap();
                let at = usize::try_from(*at).unwrap();
                prop_assert_eq!(*number, i as u64 + 1);
                prop_assert_eq!(bytes, expected.trim().as_bytes());
                prop_assert_eq!(bytes, &text.as_bytes()[at..at + bytes.len()]);
                prop_assert_eq!(*ended, i + 1 < split.len() || text.ends_with('\n'));
            }
        }
    }
}
