//! A streamed answer: assembles its events, as they arrive, into the body that the service would have sent without streaming.

mod answer;
mod decoder;
mod memory;

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use tokio::sync::Semaphore;
use tokio::time::sleep_until;

use super::call::{CATCH_UP, LATE, in_time};
use super::chat::holds_events;
use super::error::{Failure, Fault};
use super::limits::Limits;
use super::response::AnyResponse;
use super::{Client, Reply, RowAddress};
use crate::text;
use answer::{Awaited, StreamedAnswer};
use decoder::Decoder;
pub(super) use memory::StreamMemory;
use memory::StreamShare;

/// Time for the count of tokens behind the end of every choice.
const LATE_USAGE: Duration = Duration::from_secs(5);
/// Time for the end of the body behind the last event. A body that was read to its end leaves a connection for the next row.
const LAST_BYTES: Duration = Duration::from_secs(1);

/// The silences that a stream may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamPatience {
    /// From the request to the first piece of the answer (`--first-token-timeout`).
    pub first_token: Duration,
    /// Between two pieces, or comments (`--stall-timeout`).
    pub stall: Duration,
    /// For an answer that comes whole, although a stream was asked for (`--request-timeout`).
    pub whole: Duration,
}

/// The reply to a request that asked for a stream.
#[derive(Debug)]
pub struct StreamedReply {
    /// The reply, as if it had come whole.
    pub reply: Reply,
    /// Time from the request to the first piece of the answer. `None`: the answer came whole.
    pub first_token: Option<Duration>,
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
        let late = |time: Duration, flag| {
            Failure::new(Fault::Timeout, format!("no answer within {} s ({flag})", time.as_secs_f64()))
        };
        let asked = body.clone();
        // A service that ignores the wish for a stream sends nothing before its answer is ready.
        let (time, flag) = if self.answers_whole.load(Ordering::Relaxed) {
            (patience.whole.max(patience.first_token), "--request-timeout")
        } else {
            (patience.first_token, "--first-token-timeout")
        };
        let response = in_time(time, pin!(self.send(to, body))).await.unwrap_or_else(|| Err(late(time, flag)))?;
        let (status, is_answer) = (response.status(), (200..300).contains(&response.status()));
        if is_answer && is_event_stream(response.headers()) {
            let limits = Limits::read(status, response.headers(), SystemTime::now);
            let watch = StreamWatch::new(begun, patience);
            let mut reading = StreamReading::new(&response, watch, &asked, self);
            let read = reading.read_on(response).await;
            let (body, first_token) = read.and_then(|()| reading.end())?;
            let reply = Reply { status, limits, html: false, body: self.without_key(body) };
            return Ok(StreamedReply { reply, first_token });
        }
        let whole = in_time(patience.whole, pin!(self.read(response))).await;
        let mut reply = whole.unwrap_or_else(|| Err(late(patience.whole, "--request-timeout")))?;
        if is_answer && holds_events(&reply.body) {
            // A proxy has taken the type off.
            reply.body = put_together(status, [&*reply.body], &asked)?;
        } else if holds_events(&reply.body) {
            // The refusal is in an event. One that is none stays as it came.
            reply.body = put_together(status, [&*reply.body], &asked).unwrap_or(reply.body);
        } else if is_answer {
            self.answers_whole.store(true, Ordering::Relaxed);
        }
        reply.body = self.without_key(reply.body);
        Ok(StreamedReply { reply, first_token: None })
    }
}

/// The body of the answer to `request`, or of the error in its place, in a stream that came in these pieces.
///
/// # Errors
/// A bad response, if the answer does not end, or an event is no part of one.
pub fn put_together<'a>(
    status: u16,
    pieces: impl IntoIterator<Item = &'a [u8]>,
    request: &[u8],
) -> Result<Bytes, Failure> {
    let mut answer = StreamedAnswer::new(status, request);
    pieces.into_iter().try_for_each(|piece| answer.take(piece))?;
    answer.end()
}

fn is_event_stream(headers: &HeaderMap) -> bool {
    const NAME: &[u8] = b"text/event-stream";
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.as_bytes().get(..NAME.len()));
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case(NAME))
}

/// The reading of one stream.
struct StreamReading<'a> {
    status: u16,
    watch: StreamWatch,
    decoder: Decoder,
    answer: StreamedAnswer<'a>,
    share: StreamShare,
    /// The turn of streams for which there is no room.
    turn: Arc<Semaphore>,
}

impl<'a> StreamReading<'a> {
    fn new(response: &AnyResponse, watch: StreamWatch, request: &'a [u8], client: &Client) -> Self {
        Self {
            status: response.status(),
            watch,
            decoder: Decoder::of(response.encoding()),
            answer: StreamedAnswer::new(response.status(), request),
            share: StreamShare::of(&client.streams),
            turn: Arc::clone(&client.large),
        }
    }

    /// Reads the stream to its end. A process that was stopped meanwhile, or a machine that slept, first reads what has arrived. Whatever
    /// happens to the stream once every choice has ended, the answer counts.
    async fn read_on(&mut self, mut response: AnyResponse) -> Result<(), Failure> {
        let mut caught_up = self.watch.begun;
        let mut awaited = Awaited::Answer;
        let mut rings = self.watch.until(awaited);
        let mut timer = pin!(sleep_until(rings.into()));
        while !self.answer.has_failed() {
            let until = self.watch.until(awaited).max(caught_up);
            // A service that never stops sending leaves the timer no turn.
            if awaited == Awaited::End && until <= Instant::now() {
                break;
            }
            // A piece moves the end of the patience, and not the timer: to set it for each piece costs more than the piece.
            if until < rings || rings <= Instant::now() {
                rings = until;
                timer.as_mut().reset(rings.into());
            }
            let chunk = tokio::select! {
                biased;
                chunk = response.chunk() => chunk,
                () = &mut timer => {
                    if Instant::now() < until {
                        continue;
                    }
                    if !self.answer.is_done() && until.elapsed() > LATE {
                        caught_up = Instant::now() + CATCH_UP;
                        continue;
                    }
                    if awaited != Awaited::Answer {
                        break;
                    }
                    return Err(self.broken(self.watch.too_slow()));
                }
            };
            match chunk {
                Ok(Some(chunk)) => self.take(&chunk)?,
                Ok(None) => break,
                Err(_) if awaited != Awaited::Answer => break,
                Err(error) => return Err(self.broken(Failure::broken(&*error, self.status))),
            }
            self.share.hold(self.answer.bytes(), &self.turn).await;
            awaited = self.answer.awaited();
            self.watch.heard(Instant::now(), self.answer.has_begun(), awaited);
        }
        Ok(())
    }

    /// The body of the answer, or of the error that came in its place, and the time to its first piece.
    fn end(self) -> Result<(Bytes, Option<Duration>), Failure> {
        let pieces = self.answer.pieces();
        let body = self.answer.end().map_err(|failure| seen(failure, pieces))?;
        Ok((body, self.watch.first_token))
    }

    fn broken(&self, failure: Failure) -> Failure {
        seen(failure, self.answer.pieces())
    }

    /// Takes bytes of the body.
    fn take(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let (plain, decoded) = self.decoder.decoded(bytes);
        self.answer.take(&plain)?;
        match decoded {
            Err(error) if self.answer.awaited() == Awaited::Answer => Err(Failure::broken(&error, self.status)),
            _ => Ok(()),
        }
    }
}

/// Says how much of the answer was seen: each piece has at least one token, which the service may bill.
fn seen(failure: Failure, pieces: u64) -> Failure {
    if pieces == 0 {
        return failure;
    }
    let message = format!("{}, after {} of the answer", failure.message, text::plural(pieces, "piece"));
    Failure { message, ..failure }
}

/// The silences of one stream, by the clock of the caller.
struct StreamWatch {
    patience: StreamPatience,
    begun: Instant,
    silent_since: Instant,
    /// The end of every choice.
    ended: Option<Instant>,
    /// The end of all that is a part of the answer.
    complete: Option<Instant>,
    /// Time to the first piece of the answer.
    first_token: Option<Duration>,
}

impl StreamWatch {
    const fn new(begun: Instant, patience: StreamPatience) -> Self {
        Self { patience, begun, silent_since: begun, ended: None, complete: None, first_token: None }
    }

    /// The longest silence from here on.
    const fn patience(&self) -> Duration {
        if self.first_token.is_some() { self.patience.stall } else { self.patience.first_token }
    }

    /// The end of the patience. Nothing that a service sends makes it wait longer for what is no part of the answer.
    fn until(&self, awaited: Awaited) -> Instant {
        match awaited {
            Awaited::Answer => self.silent_since + self.patience(),
            Awaited::Usage => self.ended.unwrap_or(self.silent_since) + LATE_USAGE.min(self.patience.stall),
            Awaited::End => self.complete.unwrap_or(self.silent_since) + LAST_BYTES,
        }
    }

    /// Bytes have come. `has_begun`: a piece of the answer is among those so far. `awaited`: what is still to come.
    fn heard(&mut self, now: Instant, has_begun: bool, awaited: Awaited) {
        self.ended = if awaited == Awaited::Answer { None } else { self.ended.or(Some(now)) };
        self.complete = if awaited == Awaited::End { self.complete.or(Some(now)) } else { None };
        if has_begun && self.first_token.is_none() {
            self.first_token = Some(now - self.begun);
        }
        // Comments do not begin an answer.
        if has_begun || awaited != Awaited::Answer {
            self.silent_since = now;
        }
    }

    fn too_slow(&self) -> Failure {
        let seconds = self.patience().as_secs_f64();
        let what = match self.first_token {
            None => format!("no first token within {seconds} s (--first-token-timeout)"),
            Some(_) => format!("the stream stalled for {seconds} s (--stall-timeout)"),
        };
        Failure::new(Fault::Timeout, what)
    }
}

#[cfg(test)]
mod tests;
