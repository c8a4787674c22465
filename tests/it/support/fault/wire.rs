//! Requests and answers as bytes on a connection.
//!
//! The last byte of a request stays in the socket until its answer is out: a socket that is closed with something unread
//! sends RST, one that has been read to its end sends FIN. So both can be had without reaching below the standard library.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, SystemTime};

use flate2::{Compress, Compression, FlushCompress, write::GzEncoder};

use super::Fault;

/// A request that has arrived whole.
pub struct Request {
    /// Method and path.
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// An answer that is right, before a fault is applied.
pub struct Answer {
    /// Status line without its version.
    pub status: String,
    /// Each with its line end; none about length or connection.
    pub headers: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(status: &str, body: &str) -> Self {
        let headers = "content-type: application/json\r\n".to_owned();
        Self { status: status.to_owned(), headers, body: body.as_bytes().to_vec() }
    }

    /// With a clock that is so many seconds off.
    fn dated(&self, off: i64) -> Self {
        let now = SystemTime::now();
        let by = Duration::from_secs(off.unsigned_abs());
        let date = httpdate::fmt_http_date(if off < 0 { now - by } else { now + by });
        let others =
            self.headers.split_inclusive("\r\n").filter(|line| !line.to_ascii_lowercase().starts_with("date:"));
        let headers = format!("{}date: {date}\r\n", others.collect::<String>());
        Self { status: self.status.clone(), headers, body: self.body.clone() }
    }

    fn head(&self, more: &str) -> Vec<u8> {
        format!("HTTP/1.1 {}\r\n{}{more}\r\n", self.status, self.headers).into_bytes()
    }

    fn head_for(&self, length: usize) -> Vec<u8> {
        self.head(&format!("content-length: {length}\r\n"))
    }

    /// Head and body.
    fn whole(&self) -> Vec<u8> {
        [&self.head_for(self.body.len()), &self.body[..]].concat()
    }

    /// The first half of the lines of the body; half of the bytes if there is only one line.
    fn half(&self) -> &[u8] {
        let middle = self.body.len() / 2;
        let end = memchr::memchr(b'\n', &self.body[middle..]).map_or(middle, |at| middle + at + 1);
        if end < self.body.len() {
            return &self.body[..end];
        }
        memchr::memrchr(b'\n', &self.body[..middle]).map_or(&self.body[..middle], |at| &self.body[..=at])
    }
}

/// Waits for a request and reads all of it but its last byte. `None`: the client has closed.
pub fn arrived(stream: &mut TcpStream) -> io::Result<Option<Request>> {
    let mut window = vec![0; 64 << 10];
    let end = loop {
        let seen = stream.peek(&mut window)?;
        if seen == 0 {
            return Ok(None);
        }
        if let Some(at) = memchr::memmem::find(&window[..seen], b"\r\n\r\n") {
            break at + 4;
        }
        thread::sleep(Duration::from_millis(1));
    };
    let text = String::from_utf8_lossy(&window[..end]).into_owned();
    let mut lines = text.lines();
    let first = lines.next().unwrap_or_default();
    let line = first.rsplit_once(' ').map_or(first, |(line, _)| line).to_owned();
    let headers: Vec<_> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut request = Request { line, headers, body: Vec::new() };
    assert!(request.header("transfer-encoding").is_none(), "chunks are not read here: {text}");
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    let mut whole = vec![0; end + length];
    let last = whole.len() - 1;
    stream.read_exact(&mut whole[..last])?;
    stream.peek(&mut whole[last..])?;
    request.body = whole.split_off(end);
    Ok(Some(request))
}

/// Takes the last byte of the request: the connection may go on, or be closed in peace.
pub fn finish(stream: &mut TcpStream) -> io::Result<()> {
    stream.read_exact(&mut [0])
}

/// Sends an answer as it is.
pub fn send(stream: &mut TcpStream, answer: &Answer) -> io::Result<()> {
    stream.write_all(&answer.whole())
}

/// Sends an answer with its fault. Returns whether the connection goes on. Otherwise the caller drops it, and the bytes
/// still unread in it decide how it ends.
pub fn send_faulty(stream: &mut TcpStream, answer: &Answer, fault: &Fault) -> io::Result<bool> {
    let resets = matches!(
        fault,
        Fault::ResetEarly | Fault::Reset | Fault::ResetInHead | Fault::ResetAfterHead | Fault::ResetInBody
    );
    if !resets {
        finish(stream)?;
    }
    match fault {
        Fault::None | Fault::Instead(_) | Fault::After(_) => send(stream, answer)?,
        Fault::Clock(off) => send(stream, &answer.dated(*off))?,
        Fault::Surplus => {
            let stray = super::answer::completion("nobody's prompt");
            stream.write_all(&[answer.whole(), stray.whole()].concat())?;
        }
        fault => {
            send_broken(stream, answer, fault)?;
            return Ok(false);
        }
    }
    Ok(true)
}

/// Sends an answer that no client may take for a whole one.
fn send_broken(stream: &mut TcpStream, answer: &Answer, fault: &Fault) -> io::Result<()> {
    let body = &answer.body[..];
    let half = body.len() / 2;
    let head = answer.head_for(body.len());
    match fault {
        Fault::ResetInHead => stream.write_all(&head[..head.len() / 2]),
        Fault::ResetAfterHead => stream.write_all(&head),
        Fault::ResetInBody => stream.write_all(&[&head, &body[..half]].concat()),
        Fault::Hang => hang(stream, &[]),
        Fault::HangInHead => hang(stream, &head[..head.len() / 2]),
        Fault::HangInBody => hang(stream, &[&head, &body[..half]].concat()),
        Fault::Drip(pause) => [&head, body].concat().iter().try_for_each(|byte| {
            stream.write_all(&[*byte])?;
            thread::sleep(*pause);
            Ok(())
        }),
        Fault::LongLength => stream.write_all(&[&answer.head_for(body.len() + 100), body].concat()),
        Fault::ShortLength => stream.write_all(&[&answer.head_for(half), body].concat()),
        Fault::CutLines => stream.write_all(&[&answer.head_for(answer.half().len()), answer.half()].concat()),
        Fault::EofLines => stream.write_all(&[&answer.head("connection: close\r\n"), answer.half()].concat()),
        Fault::CutChunk => chunked(stream, answer, body.len(), &body[..half]),
        Fault::LostChunk => {
            chunked(stream, answer, answer.half().len(), answer.half())?;
            stream.write_all(b"\r\n")
        }
        Fault::GzipLie => stream.write_all(&[&packed(answer, body.len()), body].concat()),
        Fault::GzipCut => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(body)?;
            let gzip = gzip.finish()?;
            let half = gzip.len() / 2;
            stream.write_all(&[&packed(answer, half), &gzip[..half]].concat())
        }
        Fault::Bomb(size) => bomb(stream, answer, *size),
        Fault::ZstdBomb(size) => {
            stream.write_all(&answer.head("content-encoding: zstd\r\nconnection: close\r\n"))?;
            let mut zstd = zstd::Encoder::new(stream, 1)?;
            zstd.write_all(BOMB)?;
            (0..*size).try_for_each(|_| zstd.write_all(&vec![b'a'; 1 << 20]))
        }
        // The connection ends without an answer.
        _ => Ok(()),
    }
}

/// Sends `start` and then nothing, until the client goes away.
fn hang(stream: &mut TcpStream, start: &[u8]) -> io::Result<()> {
    stream.write_all(start)?;
    while stream.read(&mut [0; 64]).is_ok_and(|read| read > 0) {}
    Ok(())
}

/// Begins a chunk of `length` bytes and sends `body` of it.
fn chunked(stream: &mut TcpStream, answer: &Answer, length: usize, body: &[u8]) -> io::Result<()> {
    let head = answer.head("transfer-encoding: chunked\r\n");
    stream.write_all(&[&head, format!("{length:x}\r\n").as_bytes(), body].concat())
}

fn packed(answer: &Answer, length: usize) -> Vec<u8> {
    answer.head(&format!("content-encoding: gzip\r\ncontent-length: {length}\r\n"))
}

/// The beginning of a bomb.
const BOMB: &[u8] = br#"{"choices":[{"message":{"content":""#;

/// So many MiB of one letter. A block that ends on a byte and looks at nothing before it can be sent again and again.
fn bomb(stream: &mut TcpStream, answer: &Answer, size: u32) -> io::Result<()> {
    let mut deflate = Compress::new(Compression::fast(), false);
    let mut block = |text: &[u8]| {
        let mut out = Vec::with_capacity(text.len() + 64);
        deflate.compress_vec(text, &mut out, FlushCompress::Full).unwrap();
        out
    };
    let (start, mib) = (block(BOMB), block(&vec![b'a'; 1 << 20]));
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let head = answer.head("content-encoding: gzip\r\nconnection: close\r\n");
    stream.write_all(&[&head[..], &gzip, &start].concat())?;
    for _ in 0..size {
        stream.write_all(&mib)?;
    }
    Ok(())
}
