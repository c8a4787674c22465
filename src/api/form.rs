//! A row's request as a form with a file behind its fields. The file is read while it is sent.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use reqwest::header::{ACCEPT, HeaderValue};
use reqwest::multipart;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::call::sent;
use super::error::{Failure, Fault, chain};
use super::response::AnyResponse;
use super::{Client, Reply, RowAddress};

/// The bytes of a file, in pieces. Reading a piece may wait for the disk.
pub trait FileSource: Send + Sync + 'static {
    /// The next piece. `None`: all have come.
    ///
    /// # Errors
    /// The upload is broken off.
    fn piece(&mut self) -> io::Result<Option<Bytes>>;
}

/// A file behind the fields of a form.
pub struct RecordingUpload {
    /// The name that the service is told.
    pub name: &'static str,
    /// Its media type.
    pub media_type: &'static str,
    /// Its length.
    pub bytes: u64,
    /// Its bytes.
    pub source: Box<dyn FileSource>,
}

/// A request that is a form.
pub struct FormBody {
    /// Names and texts, in their order.
    pub fields: Vec<(String, String)>,
    /// The file, as the field `file`.
    pub file: Option<RecordingUpload>,
}

impl Client {
    /// Sends `form` once and reads the whole answer. Any status is a [`Reply`]. While bytes move, the upload may take any
    /// time; `timeout` is that of the answer.
    ///
    /// # Errors
    /// A [`Failure`] that says whether the request can have reached the service.
    pub async fn post_form(&self, to: &RowAddress, form: FormBody, timeout: Duration) -> Result<Reply, Failure> {
        let (left_over, news) = watch::channel(form.file.as_ref().map_or(0, |file| file.bytes));
        let fields = form.fields.into_iter().fold(multipart::Form::new(), |all, (name, text)| all.text(name, text));
        let fields = match form.file {
            None => fields,
            Some(RecordingUpload { name, media_type, bytes, source }) => {
                let pieces = SentPieces { reading: Reading::Idle(source), left: bytes, left_over };
                let part = multipart::Part::stream_with_length(reqwest::Body::wrap(pieces), bytes).file_name(name);
                let part = part.mime_str(media_type).map_err(|error| Failure::new(Fault::Local, chain(&error)))?;
                fields.part("file", part)
            }
        };
        let request = self.bare.http(&to.url)?.post(to.url.clone());
        let request = request.header(ACCEPT, HeaderValue::from_static("application/json"));
        let request = request.headers(self.personal.clone()).multipart(fields);
        let exchange = async {
            let response = sent(request).await?;
            let mut reply = self.read(AnyResponse::Reqwest(Box::new(response))).await?;
            reply.body = self.without_key(reply.body);
            Ok(reply)
        };
        self.in_motion(exchange, news, timeout).await
    }

    /// Waits for an exchange as long as bytes of its file move, and then for `timeout`.
    async fn in_motion(
        &self,
        exchange: impl Future<Output = Result<Reply, Failure>>,
        mut news: watch::Receiver<u64>,
        timeout: Duration,
    ) -> Result<Reply, Failure> {
        tokio::pin!(exchange);
        let mut is_sent = *news.borrow_and_update() == 0;
        let mut since = Instant::now();
        loop {
            let patience = if is_sent { timeout } else { timeout.min(self.bare.stall) };
            tokio::select! {
                biased;
                reply = &mut exchange => return reply,
                changed = news.changed(), if !is_sent => {
                    is_sent = changed.is_err() || *news.borrow_and_update() == 0;
                    since = Instant::now();
                }
                () = tokio::time::sleep_until((since + patience).into()) => {
                    let seconds = patience.as_secs_f64();
                    let why = if is_sent {
                        format!("no answer within {seconds} s of the upload")
                    } else {
                        format!("the upload made no progress for {seconds} s")
                    };
                    return Err(Failure::new(Fault::Timeout, why));
                }
            }
        }
    }
}

/// The read of the next piece.
enum Reading {
    Idle(Box<dyn FileSource>),
    /// On another thread.
    Busy(JoinHandle<PieceRead>),
    Done,
}

/// A piece, and the source of the next one.
struct PieceRead {
    source: Box<dyn FileSource>,
    piece: io::Result<Option<Bytes>>,
}

/// The file as a request body of known length.
struct SentPieces {
    reading: Reading,
    left: u64,
    /// The bytes that are still to be handed over.
    left_over: watch::Sender<u64>,
}

impl http_body::Body for SentPieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match std::mem::replace(&mut self.reading, Reading::Done) {
                Reading::Done => return Poll::Ready(None),
                Reading::Idle(mut source) => {
                    self.reading = Reading::Busy(tokio::task::spawn_blocking(move || {
                        let piece = source.piece();
                        PieceRead { source, piece }
                    }));
                }
                Reading::Busy(mut busy) => {
                    let read = match Pin::new(&mut busy).poll(cx) {
                        Poll::Ready(read) => read,
                        Poll::Pending => {
                            self.reading = Reading::Busy(busy);
                            return Poll::Pending;
                        }
                    };
                    let PieceRead { source, piece } = read.map_err(io::Error::other)?;
                    let Some(piece) = piece? else { return Poll::Ready(None) };
                    self.left = self.left.saturating_sub(piece.len() as u64);
                    self.left_over.send_replace(self.left);
                    if self.left > 0 {
                        self.reading = Reading::Idle(source);
                    }
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    // This makes the request carry a Content-Length.
    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
