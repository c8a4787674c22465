//! A streamed answer: its events are put together as they arrive, to the reply that a whole answer would have been.

use std::io::Write;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::time::timeout_at;

use super::call::in_time;
use super::error::{Failure, Fault};
use super::event_stream::{EventReader, StreamEvent, TooLong};
use super::limits::Limits;
use super::response::{AnyResponse, Encoding};
use super::{Client, MAX_BODY, Reply, RowAddress};
use crate::completion::{Assembly, Chunk};

/// The last event of a stream.
const DONE: &[u8] = b"[DONE]";
/// Time for the end of the body behind the last event. A body that was read to its end leaves a connection for the next row.
const LAST_BYTES: Duration = Duration::from_secs(1);
/// Bytes of all events. A chunk has a hundred times the size of the token in it.
const MOST_BYTES: usize = 4 * MAX_BODY;

/// The silences that a stream may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPatience {
    /// From the request to the first piece of the answer (`--first-token-timeout`).
    pub first_token: Duration,
    /// Between two pieces, or comments (`--stall-timeout`).
    pub stall: Duration,
    /// For an answer that comes whole, although a stream was asked for.
    pub whole: Duration,
}

/// The reply to a request that asked for a stream.
#[derive(Debug)]
pub struct StreamedReply {
    /// The reply, as if it had come whole.
    pub reply: Reply,
    /// The course of the stream. `None`: the answer came whole.
    pub stream: Option<StreamCourse>,
}

/// The course of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCourse {
    /// Time from the request to the first piece of the answer.
    pub first_token: Option<Duration>,
    /// Chunks that carried a piece of the answer.
    pub pieces: u64,
}

impl Client {
    /// Posts a request that asks for a stream, and puts the answer together.
    ///
    /// # Errors
    /// A [`Failure`] as that of [`Client::post`]; a stream that ends before its answer does is a bad response.
    pub async fn post_streamed(
        &self,
        to: &RowAddress,
        body: Bytes,
        patience: StreamPatience,
    ) -> Result<StreamedReply, Failure> {
        let begun = Instant::now();
        let late = |time: Duration| Failure::new(Fault::Timeout, format!("no answer within {} s", time.as_secs_f64()));
        let response = in_time(patience.first_token, pin!(self.send(to, body))).await;
        let response = response.unwrap_or_else(|| Err(late(patience.first_token)))?;
        if !is_event_stream(response.headers()) || !(200..300).contains(&response.status()) {
            let whole = in_time(patience.whole, pin!(self.read(response))).await;
            let mut reply = whole.unwrap_or_else(|| Err(late(patience.whole)))?;
            reply.body = self.without_key(reply.body);
            return Ok(StreamedReply { reply, stream: None });
        }
        let status = response.status();
        let limits = Limits::read(status, response.headers(), SystemTime::now);
        let (body, course) = StreamReading::new(&response, begun, patience).read_on(response).await?;
        let reply = Reply { status, limits, html: false, body: self.without_key(body) };
        Ok(StreamedReply { reply, stream: Some(course) })
    }
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"text/event-stream";
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().get(..NAME.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(NAME))
}

/// The reading of one stream.
struct StreamReading {
    status: u16,
    begun: Instant,
    patience: StreamPatience,
    decoder: Decoder,
    events: EventReader,
    assembly: Assembly,
    first_token: Option<Duration>,
    bytes: usize,
    /// An error came in place of a chunk.
    error: Option<Bytes>,
    /// The last event has come.
    done: bool,
}

impl StreamReading {
    fn new(response: &AnyResponse, begun: Instant, patience: StreamPatience) -> Self {
        Self {
            status: response.status(),
            begun,
            patience,
            decoder: Decoder::of(response.encoding()),
            events: EventReader::default(),
            assembly: Assembly::default(),
            first_token: None,
            bytes: 0,
            error: None,
            done: false,
        }
    }

    /// Reads the stream to its end. Returns the body of the answer, or of the error that came in its place.
    async fn read_on(mut self, mut response: AnyResponse) -> Result<(Bytes, StreamCourse), Failure> {
        let mut silent_since = self.begun;
        loop {
            let patience = match self.first_token {
                _ if self.done => LAST_BYTES,
                None => self.patience.first_token,
                Some(_) => self.patience.stall,
            };
            let chunk = match timeout_at((silent_since + patience).into(), response.chunk()).await {
                Ok(chunk) => chunk,
                Err(_) if self.done => break,
                Err(_) => return Err(self.too_slow(patience)),
            };
            let chunk = match chunk {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(_) if self.done => break,
                Err(error) => return Err(Failure::broken(&*error, self.status)),
            };
            self.take(&chunk)?;
            // Comments do not begin an answer.
            if self.first_token.is_some() || self.done {
                silent_since = Instant::now();
            }
            if self.error.is_some() {
                break;
            }
        }
        self.end()
    }

    /// Takes bytes of the body.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let status = self.status;
        let plain = self.decoder.decoded(bytes).map_err(|error| Failure::broken(&error, status))?;
        self.bytes += plain.len();
        if self.bytes > MOST_BYTES {
            return Err(self.bad("with a stream that does not end"));
        }
        self.events.push(&plain);
        while !self.done && self.error.is_none() {
            let event = match self.events.next() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(TooLong) => return Err(self.bad("with an event that is longer than any answer")),
            };
            let StreamEvent::Data { data, is_error } = event else { continue };
            self.done = data == DONE;
            if self.done || data.is_empty() {
                continue;
            }
            let news = match std::str::from_utf8(data) {
                Ok(_) if is_error => Chunk::Error,
                Ok(text) => self.assembly.push(text),
                Err(_) => Chunk::Invalid,
            };
            match news {
                Chunk::Piece => _ = self.first_token.get_or_insert_with(|| self.begun.elapsed()),
                Chunk::Other => {}
                Chunk::Error => self.error = Some(Bytes::copy_from_slice(data)),
                Chunk::Invalid => return Err(self.bad("with an event that is no chunk of an answer")),
            }
        }
        Ok(())
    }

    /// The body, if the answer has ended.
    fn end(mut self) -> Result<(Bytes, StreamCourse), Failure> {
        if !self.done && self.error.is_none() {
            // The last event may lack the empty line behind it.
            self.take(b"")?;
            if let Ok(Some(StreamEvent::Data { data, .. })) = self.events.finish()
                && data != DONE
                && let Ok(text) = std::str::from_utf8(data)
            {
                _ = self.assembly.push(text);
            }
        }
        let course = StreamCourse { first_token: self.first_token, pieces: self.assembly.pieces() };
        if let Some(error) = self.error {
            return Ok((error, course));
        }
        if !self.assembly.has_ended() {
            return Err(self.bad("with a stream that ends before its answer does"));
        }
        let body = self.assembly.into_body().unwrap_or_default();
        Ok((body.into(), course))
    }

    fn too_slow(&self, patience: Duration) -> Failure {
        let seconds = patience.as_secs_f64();
        let what = match self.first_token {
            None => format!("no first token within {seconds} s (--first-token-timeout)"),
            Some(_) => format!("the stream stalled for {seconds} s (--stall-timeout)"),
        };
        Failure::new(Fault::Timeout, what)
    }

    fn bad(&self, what: &str) -> Failure {
        let mut failure = Failure::new(Fault::BadResponse, format!("HTTP {} {what}", self.status));
        failure.status = Some(self.status);
        failure
    }
}

/// Takes the compression off a body that arrives in pieces.
enum Decoder {
    Plain,
    Gzip(flate2::write::MultiGzDecoder<Vec<u8>>),
    Zstd(zstd::stream::write::Decoder<'static, Vec<u8>>),
}

impl Decoder {
    fn of(encoding: Option<Encoding>) -> Self {
        match encoding {
            None => Self::Plain,
            Some(Encoding::Gzip) => Self::Gzip(flate2::write::MultiGzDecoder::new(Vec::new())),
            Some(Encoding::Zstd) => match zstd::stream::write::Decoder::new(Vec::new()) {
                Ok(decoder) => Self::Zstd(decoder),
                // Out of memory; the body will not be read as JSON.
                Err(_) => Self::Plain,
            },
        }
    }

    fn decoded<'a>(&mut self, bytes: &'a [u8]) -> std::io::Result<std::borrow::Cow<'a, [u8]>> {
        let plain = match self {
            Self::Plain => return Ok(bytes.into()),
            Self::Gzip(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
            Self::Zstd(decoder) => {
                decoder.write_all(bytes)?;
                decoder.flush()?;
                std::mem::take(decoder.get_mut())
            }
        };
        Ok(plain.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::scripted::{Scripted, client};

    const PATIENCE: StreamPatience = StreamPatience {
        first_token: Duration::from_millis(300),
        stall: Duration::from_millis(300),
        whole: Duration::from_secs(10),
    };
    const PIECE: &str = r#"data: {"choices":[{"index":0,"delta":{"content":"ab"},"finish_reason":null}]}"#;
    const END: &str = r#"data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;
    const WHOLE: &str = r#"{"choices":[{"index":0,"message":{"content":"abab"},"finish_reason":"stop"}]}"#;

    /// The reply to a stream of these bytes, with these headers.
    async fn streamed(headers: &str, body: &[u8]) -> Result<StreamedReply, Failure> {
        let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n{headers}\r\n");
        let server = Scripted::of_bytes(vec![[head.as_bytes(), body].concat()]);
        let client = client(&server.base);
        client.post_streamed(&client.row_address("/chat/completions"), Bytes::from_static(b"{}"), PATIENCE).await
    }

    fn body(streamed: &StreamedReply) -> &str {
        std::str::from_utf8(&streamed.reply.body).unwrap()
    }

    #[tokio::test]
    async fn a_stream_becomes_the_answer_that_it_would_have_been() {
        for stream in [
            format!("{PIECE}\n\n{PIECE}\n\n{END}\n\ndata: [DONE]\n\n"),
            format!(": hello\r\n\r\n{PIECE}\r\n\r\n{PIECE}\r\n\r\n{END}\r\n\r\ndata: [DONE]\r\n\r\n"),
            // Without the last event, and without the empty line behind the one before.
            format!("{PIECE}\n\n{PIECE}\n\n{END}"),
        ] {
            let reply = streamed("", stream.as_bytes()).await.unwrap();
            assert_eq!(body(&reply), WHOLE, "{stream}");
            let course = reply.stream.unwrap();
            assert!(course.pieces == 2 && course.first_token.is_some(), "{course:?}");
        }
    }

    #[tokio::test]
    async fn a_compressed_stream_is_read_piece_by_piece() {
        let stream = format!("{PIECE}\n\n{PIECE}\n\n{END}\n\ndata: [DONE]\n\n");
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(stream.as_bytes()).unwrap();
        let reply = streamed("content-encoding: gzip\r\n", &gzip.finish().unwrap()).await.unwrap();
        assert_eq!(body(&reply), WHOLE);
        let zstd = zstd::encode_all(stream.as_bytes(), 0).unwrap();
        let reply = streamed("content-encoding: zstd\r\n", &zstd).await.unwrap();
        assert_eq!(body(&reply), WHOLE);
    }

    #[tokio::test]
    async fn an_answer_that_comes_whole_is_taken_as_it_is() {
        let server = Scripted::start(|_| vec![crate::api::scripted::answer("200 OK", "", WHOLE)]);
        let client = client(&server.base);
        let address = client.row_address("/chat/completions");
        let reply = client.post_streamed(&address, Bytes::from_static(b"{}"), PATIENCE).await.unwrap();
        assert_eq!((body(&reply), reply.stream), (WHOLE, None));
    }

    #[tokio::test]
    async fn broken_streams_are_no_answers() {
        let cases = [
            (format!("{PIECE}\n\n"), Fault::BadResponse, "HTTP 200 with a stream that ends before its answer does"),
            (format!("{PIECE}\n\ndata: [DONE]\n\n"), Fault::BadResponse, "HTTP 200 with a stream that ends before"),
            (format!("{PIECE}\n\ndata: {{\"cho"), Fault::BadResponse, "HTTP 200 with a stream that ends before"),
            (format!("{PIECE}\n\ndata: hello\n\n"), Fault::BadResponse, "HTTP 200 with an event that is no chunk"),
            (format!("{PIECE}\n\n<hang>"), Fault::Timeout, "the stream stalled for 0.3 s"),
            (": wait\n\n<hang>".to_owned(), Fault::Timeout, "no first token within 0.3 s"),
        ];
        for (stream, fault, words) in cases {
            let failure = streamed("", stream.as_bytes()).await.unwrap_err();
            assert!(failure.fault == fault && failure.message.starts_with(words), "{stream}: {failure:?}");
        }
        let cut = streamed("content-length: 9999\r\n", format!("{PIECE}\n\n").as_bytes()).await.unwrap_err();
        assert!(cut.message.starts_with("the answer was cut off"), "{cut:?}");
    }

    #[tokio::test]
    async fn an_error_in_a_stream_is_the_reply() {
        for stream in [
            format!("{PIECE}\n\ndata: {{\"error\":{{\"message\":\"busy\",\"code\":503}}}}\n\n<hang>"),
            "event: error\ndata: {\"error\":{\"message\":\"busy\",\"code\":503}}\n\n<hang>".to_owned(),
        ] {
            let reply = streamed("", stream.as_bytes()).await.unwrap();
            assert_eq!(body(&reply), r#"{"error":{"message":"busy","code":503}}"#);
        }
    }
}
