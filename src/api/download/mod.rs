//! Downloads: a file of the service, resumed from the bytes of an earlier try.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response};
use tokio::time::timeout;
use url::Url;

use super::Client;
use super::call::{logged, sent};
use super::error::{Failure, Fault, chain};
use super::fields::checked;
use super::transfer::{MAX_HOPS, host, is_redirect, plain, too_many_hops};

/// A file that was downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Downloaded {
    /// Its length.
    pub length: u64,
    /// The server announced that length. Otherwise compare it with
    /// [`FileObject::bytes`](super::files::FileObject::bytes).
    pub announced: bool,
}

impl Client {
    /// Downloads file `id` into `part`. If the server can, it resumes after the bytes in `part`.
    /// `progress` receives the number of bytes in `part`. Nothing is flushed to the disk here.
    ///
    /// # Errors
    /// The bytes received stay in `part` for the next try, unless they cannot be right.
    pub async fn download(&self, id: &str, part: &Path, progress: &dyn Fn(u64)) -> Result<Downloaded, Failure> {
        let url = self.url(&format!("/files/{}/content", checked("file", id)?));
        let mut part = PartialFile::open(part)?;
        let mut from = (part.length > 0).then_some(part.length);
        loop {
            let (response, place) = self.content(&url, from).await?;
            match (response.status().as_u16(), from) {
                (200, _) => {
                    plain(&response)?;
                    part.restart()?;
                    let whole = response.content_length();
                    self.receive(FileBody { response, place: &place, end: whole }, &mut part, progress).await?;
                    return Ok(Downloaded { length: part.length, announced: whole.is_some() });
                }
                (206, Some(have)) => {
                    plain(&response)?;
                    if let Some((end, whole)) = continues(&response, have) {
                        self.receive(FileBody { response, place: &place, end: Some(end) }, &mut part, progress).await?;
                        return if part.length == whole {
                            Ok(Downloaded { length: whole, announced: true })
                        } else {
                            Err(cut(&place, part.length, whole))
                        };
                    }
                }
                (416, Some(have)) if whole_of(response.headers()) == Some(have) => {
                    progress(have);
                    return Ok(Downloaded { length: have, announced: true });
                }
                (416, Some(_)) => {}
                _ => return Err(self.refused(response, &place).await),
            }
            // The server's file and the bytes in `part` do not match.
            tracing::debug!("file {id}: the server cannot resume at byte {}, so the download starts over", part.length);
            from = None;
        }
    }

    /// Requests a file's bytes from `from` on, and follows redirects. Returns the response and its URL.
    async fn content(&self, url: &Url, from: Option<u64>) -> Result<(Response, Url), Failure> {
        let mut url = url.clone();
        for _ in 0..=MAX_HOPS {
            let identity = HeaderValue::from_static("identity");
            let mut request = self.bare.http(&url)?.get(url.clone()).header(ACCEPT_ENCODING, identity);
            if self.is_api(&url) {
                request = request.headers(self.personal.clone());
            }
            if let Some(from) = from {
                request = request.header(RANGE, format!("bytes={from}-"));
            }
            let started = Instant::now();
            let answer = timeout(self.bare.stall, sent(request)).await;
            let status = answer.as_ref().ok().and_then(|a| a.as_ref().ok()).map(|r| r.status().as_u16());
            logged(&Method::GET, url.path(), status, started);
            let mut response = answer.map_err(|_| self.bare.stalled("download from", &url))??;
            self.keyless(response.headers_mut());
            let status = response.status().as_u16();
            if !is_redirect(status) {
                return Ok((response, url));
            }
            url = self.redirected(&url, status, response.headers())?;
        }
        Err(too_many_hops(&url))
    }

    /// Appends a body to `part`.
    async fn receive(
        &self,
        body: FileBody<'_>,
        part: &mut PartialFile<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        let FileBody { mut response, place, end } = body;
        progress(part.length);
        let status = response.status().as_u16();
        loop {
            let piece = timeout(self.bare.stall, response.chunk()).await;
            let piece = piece.map_err(|_| self.bare.stalled("download from", place))?;
            let piece = piece.map_err(|error| Failure {
                status: Some(status),
                ..Failure::new(
                    Fault::Broken,
                    format!("the download from {} broke off at byte {}: {}", host(place), part.length, chain(&error)),
                )
            })?;
            let Some(piece) = piece else { break };
            if end.is_some_and(|end| part.length + piece.len() as u64 > end) {
                // Either the bytes or the length is wrong, so nothing is kept.
                part.restart()?;
                return Err(Failure::bad(status, &format!("{} sent more bytes than it announced", host(place))));
            }
            // By its content, because some servers send every file as `text/html`.
            if part.length == 0 && piece.trim_ascii_start().starts_with(b"<") {
                return Err(Failure::bad(status, "an HTML page instead of a file"));
            }
            part.write(&piece)?;
            progress(part.length);
        }
        match end {
            Some(end) if part.length < end => Err(cut(place, part.length, end)),
            _ => Ok(()),
        }
    }
}

/// The body of a file that arrives.
struct FileBody<'a> {
    response: Response,
    /// The URL that sends it.
    place: &'a Url,
    /// The end of the body in the file, if the server announced it.
    end: Option<u64>,
}

fn cut(place: &Url, length: u64, whole: u64) -> Failure {
    let message = format!("the download from {} ended after {length} of {whole} bytes", host(place));
    Failure::new(Fault::Broken, message)
}

/// The end of a 206 that continues from byte `have`, and the length of the file; `None` if it does not continue there.
fn continues(response: &Response, have: u64) -> Option<(u64, u64)> {
    let (range, whole) = content_range(response.headers())?;
    let (first, last) = range.split_once('-')?;
    let (first, last, whole) = (number(first)?, number(last)?, number(whole)?);
    let length = last.checked_sub(first)?.checked_add(1)?;
    let agrees = response.content_length().is_none_or(|announced| announced == length);
    (first == have && last < whole && agrees).then_some((last + 1, whole))
}

/// The length of the file in a 416.
fn whole_of(headers: &HeaderMap) -> Option<u64> {
    content_range(headers).filter(|(range, _)| *range == "*").and_then(|(_, whole)| number(whole))
}

/// Splits `bytes RANGE/WHOLE`.
fn content_range(headers: &HeaderMap) -> Option<(&str, &str)> {
    headers.get(CONTENT_RANGE)?.to_str().ok()?.trim().strip_prefix("bytes ")?.trim().split_once('/')
}

fn number(digits: &str) -> Option<u64> {
    let digits = digits.trim();
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
}

/// A partial file on disk.
struct PartialFile<'a> {
    file: File,
    path: &'a Path,
    length: u64,
}

impl<'a> PartialFile<'a> {
    fn open(path: &'a Path) -> Result<Self, Failure> {
        let unusable = |error: io::Error| Failure::local("cannot write", path, &error);
        let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path);
        let mut file = open.map_err(unusable)?;
        let length = file.seek(SeekFrom::End(0)).map_err(unusable)?;
        Ok(Self { file, path, length })
    }

    fn restart(&mut self) -> Result<(), Failure> {
        let done = self.file.set_len(0).and_then(|()| self.file.rewind());
        self.length = 0;
        done.map_err(|error| Failure::local("cannot write", self.path, &error))
    }

    fn write(&mut self, piece: &[u8]) -> Result<(), Failure> {
        // Written at once, so that it survives a kill. The page cache takes it, and the network thread does not wait.
        self.file.write_all(piece).map_err(|error| Failure::local("cannot write", self.path, &error))?;
        self.length += piece.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
