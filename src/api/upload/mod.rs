//! Uploads in three steps: register the file, put its bytes into storage, let the service process it. Or in one form, with
//! the bytes.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::{Method, multipart};
use tokio::sync::watch;
use url::Url;

use super::call::SMALL_CALL;
use super::error::{Failure, Fault, chain};
use super::fields::{self, checked, is_id};
use super::files::FileObject;
use super::transfer::{MAX_HOPS, host, is_redirect, too_many_hops};
use super::{Client, Reply};

/// The header with the id of a registered file.
const FILE_ID: &str = "x-together-file-id";
/// Bytes read and sent at a time.
const PIECE: u64 = 128 << 10;

/// A file to upload.
#[derive(Debug, Clone, Copy)]
pub struct Upload<'a> {
    /// Its local path.
    pub path: &'a Path,
    /// Its name at the service: a base name.
    pub name: &'a str,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its bytes in lower-case hex.
    pub sha256: &'a str,
}

/// A form that takes a file with its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UploadForm {
    /// `OpenAI`'s `POST /files`.
    Openai,
    /// `POST /files/upload`, as Together's specification has it.
    Together,
}

/// The answer to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// The new file's id, and the place for its bytes.
    At(String, Url),
    /// The service has these bytes from an earlier upload of the account (409), under this id and the earlier name. That
    /// upload may have broken off. Ask [`Client::file`] whether all bytes are there (if not, delete the file and upload
    /// again), and call [`Client::preprocess`] unless they were processed.
    AlreadyThere(String),
}

impl Client {
    /// Lets the service process the file `id`: the last step of an upload.
    ///
    /// # Errors
    /// As for any call; another try does no harm.
    pub async fn preprocess(&self, id: &str) -> Result<FileObject, Failure> {
        let reply = self.bodiless(Method::POST, &format!("/files/{}/preprocess", checked("file", id)?)).await?;
        FileObject::of(id, &reply)
    }

    /// Registers a file: the first step of an upload. The service answers with the place for its bytes.
    ///
    /// # Errors
    /// As for any call. Half an upload does no harm, so another try may follow.
    pub async fn register(&self, upload: &Upload<'_>) -> Result<Registered, Failure> {
        // A file that was changed is not uploaded.
        drop(FilePieces::open(upload)?);
        let form = multipart::Form::new()
            .text("purpose", "batch-api")
            .text("file_name", upload.name.to_owned())
            .text("file_type", "jsonl")
            .text("checksum", upload.sha256.to_owned());
        let request = self.authorized(Method::POST, "/files")?.multipart(form);
        let (headers, reply) = self.exchange(request, &Method::POST, "/files", SMALL_CALL).await?;
        match reply.status {
            302 => {
                let id = headers.get(FILE_ID).and_then(|id| id.to_str().ok()).filter(|id| is_id(id));
                let id = id.ok_or_else(|| Failure::bad(302, "an upload answer without a valid X-Together-File-Id"))?;
                let place = self.redirected(&self.url("/files"), 302, &headers)?;
                Ok(Registered::At(id.to_owned(), place))
            }
            409 => match same_file(&reply) {
                Some(id) => Ok(Registered::AlreadyThere(id)),
                None => Err(Failure::from_call(&reply)),
            },
            200..=299 => Err(Failure::bad(reply.status, "no upload location (expected a 302)")),
            status => {
                let mut failure = Failure::from_call(&reply);
                if status == 401 {
                    failure.message.push_str(" (the key is invalid, or the account's trial credits are used up)");
                }
                Err(failure)
            }
        }
    }

    /// Uploads a file in one form. `progress` receives the bytes handed to the network so far.
    ///
    /// # Errors
    /// As for any call. A file without a batch does no harm, so another try may follow.
    pub async fn upload(
        &self,
        form: UploadForm,
        upload: &Upload<'_>,
        progress: &dyn Fn(u64),
    ) -> Result<FileObject, Failure> {
        let (path, purpose) = match form {
            UploadForm::Openai => ("/files", "batch"),
            UploadForm::Together => ("/files/upload", "batch-api"),
        };
        let (pieces, moved) = FilePieces::open(upload)?;
        let part = multipart::Part::stream_with_length(reqwest::Body::wrap(pieces), upload.bytes)
            .file_name(upload.name.to_owned())
            .mime_str("application/jsonl")
            .map_err(|error| Failure::new(Fault::Local, chain(&error)))?;
        let mut fields = multipart::Form::new().text("purpose", purpose);
        if form == UploadForm::Together {
            fields = fields.text("file_name", upload.name.to_owned()).text("file_type", "jsonl");
        }
        let url = self.url(path);
        let request = self.authorized(Method::POST, path)?.multipart(fields.part("file", part));
        let response = self.moving(request.send(), &url, moved, progress).await?;
        let reply = self.small(response, path).await?;
        let object = fields::object(&reply)?;
        FileObject::read(&object).ok_or_else(|| Failure::bad(reply.status, "an upload answer without the id of a file"))
    }

    /// Puts the bytes into storage, without the key: the URL is the permission. `progress` receives the bytes handed to the
    /// network so far; after a redirect it starts over.
    ///
    /// # Errors
    /// As for any call. A storage that refuses the URL may take another one from a new registration.
    pub async fn put(&self, mut url: Url, upload: &Upload<'_>, progress: &dyn Fn(u64)) -> Result<(), Failure> {
        for _ in 0..=MAX_HOPS {
            let (pieces, moved) = FilePieces::open(upload)?;
            let (status, response) = self.put_once(&url, pieces, &moved, progress).await?;
            match status {
                200 if moved.borrow().bytes == upload.bytes => return Ok(()),
                200 => {
                    let why = format!("storage at {} accepted the upload before all of it was sent", host(&url));
                    return Err(Failure::bad(200, &why));
                }
                status if is_redirect(status) => url = self.redirected(&url, status, response.headers())?,
                _ => {
                    let mut failure = self.refused(response, &url).await;
                    // The place is missing, not a file of the service.
                    if failure.fault == Fault::NotFound {
                        failure.fault = Fault::Server;
                    }
                    return Err(failure);
                }
            }
        }
        Err(too_many_hops(&url))
    }

    async fn put_once(
        &self,
        url: &Url,
        pieces: FilePieces,
        moved: &watch::Receiver<Moved>,
        progress: &dyn Fn(u64),
    ) -> Result<(u16, reqwest::Response), Failure> {
        let sending = self.bare.http(url)?.put(url.clone()).body(reqwest::Body::wrap(pieces)).send();
        let response = self.moving(sending, url, moved.clone(), progress).await?;
        Ok((response.status().as_u16(), response))
    }

    /// Waits for the answer to an upload as long as bytes move.
    async fn moving(
        &self,
        sending: impl Future<Output = reqwest::Result<reqwest::Response>>,
        url: &Url,
        moved: watch::Receiver<Moved>,
        progress: &dyn Fn(u64),
    ) -> Result<reqwest::Response, Failure> {
        let started = Instant::now();
        tokio::pin!(sending);
        let mut news = moved.clone();
        let mut over = false;
        let answer = loop {
            tokio::select! {
                biased;
                answer = &mut sending => break answer,
                changed = news.changed(), if !over => match changed {
                    Ok(()) => progress(news.borrow_and_update().bytes),
                    // The last piece is sent; only the answer is missing.
                    Err(_) => over = true,
                },
                () = tokio::time::sleep(self.bare.stall) => {
                    tracing::debug!("upload to {}: no answer in {} ms", url.path(), started.elapsed().as_millis());
                    return Err(self.bare.stalled("upload to", url));
                }
            }
        };
        let status = answer.as_ref().ok().map(|response| response.status().as_u16());
        let outcome = status.map_or("no answer".to_owned(), |status| format!("HTTP {status}"));
        tracing::debug!("upload to {}: {outcome} in {} ms", url.path(), started.elapsed().as_millis());
        let response = match answer {
            Ok(response) => response,
            Err(error) => {
                let trouble = moved.borrow().trouble.clone();
                return Err(match trouble {
                    Some(trouble) => Failure::new(Fault::Local, trouble),
                    None if error.is_connect() => Failure::from_reqwest(&error).await,
                    None => {
                        let why = format!("the upload to {} broke off: {}", host(url), chain(&error));
                        Failure::new(Fault::Broken, why)
                    }
                });
            }
        };
        progress(moved.borrow().bytes);
        Ok(response)
    }
}

/// The id in a 409.
fn same_file(reply: &Reply) -> Option<String> {
    let object: fields::Object = serde_json::from_slice(&reply.body).ok()?;
    fields::text(&object, "file_id").filter(|id| is_id(id))
}

/// The progress of the pieces.
#[derive(Debug, Default)]
struct Moved {
    bytes: u64,
    /// The error of the file.
    trouble: Option<String>,
}

/// A file as a request body of known length, read in pieces.
///
/// It is read on the network thread: the file was just written, so the pieces come from the page cache.
#[derive(Debug)]
struct FilePieces {
    file: File,
    left: u64,
    shown: String,
    moved: watch::Sender<Moved>,
}

impl FilePieces {
    fn open(upload: &Upload<'_>) -> Result<(Self, watch::Receiver<Moved>), Failure> {
        let unreadable = |error: io::Error| Failure::local("cannot read", upload.path, &error);
        let file = File::open(upload.path).map_err(unreadable)?;
        let length = file.metadata().map_err(unreadable)?.len();
        if length != upload.bytes {
            let changed = format!("it has {length} bytes instead of {}: it was changed", upload.bytes);
            return Err(unreadable(io::Error::other(changed)));
        }
        let (moved, news) = watch::channel(Moved::default());
        Ok((Self { file, left: upload.bytes, shown: upload.path.display().to_string(), moved }, news))
    }

    fn next(&mut self) -> io::Result<Bytes> {
        let mut piece = Vec::with_capacity(self.left.min(PIECE) as usize);
        (&self.file).take(self.left.min(PIECE)).read_to_end(&mut piece)?;
        if piece.is_empty() {
            return Err(io::Error::other("it became shorter while it was uploaded"));
        }
        self.left -= piece.len() as u64;
        Ok(piece.into())
    }
}

impl http_body::Body for FilePieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.next();
        let shown = &self.shown;
        self.moved.send_modify(|moved| match &piece {
            Ok(piece) => moved.bytes += piece.len() as u64,
            Err(error) => moved.trouble = Some(format!("cannot read {shown}: {error}")),
        });
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    // This makes the request carry a Content-Length: stores refuse chunked bodies.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests;
