//! Answers that are files: of speech the whole body, of images the texts in it, or what lies at the URLs that it names.

use std::time::Duration;

use bytes::Bytes;

use super::attempt::{FailedTry, GoodAnswer, Tried, read};
use super::row::RowTask;
use super::upstreams::Site;
use crate::api::error::{Class, Failure, Fault};
use crate::api::limits::Limits;
use crate::api::produced::{AnsweredImage, ImagesAnswer, ReceivedFile, read_images};
use crate::api::{Reply, chat};
use crate::outcome::{AnsweredFile, Usage};
use crate::request::Endpoint;

/// Tries to fetch an image. The answer is paid for, and its URL expires soon.
const FETCHES: u32 = 5;
/// Wait before the second of them; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Time for one of them.
const FETCH_TIME: Duration = Duration::from_mins(2);

impl RowTask {
    /// Sends the request, and gathers the files of the answer.
    pub(super) async fn produce(&mut self, to: &Site, body: Bytes, endpoint: Endpoint) -> Tried {
        if endpoint == Endpoint::Speech {
            let time = self.engine.options.speed.request_timeout;
            return match to.client.post_for_file(&to.address, body, time).await {
                Ok((reply, media_type)) => read_speech(reply, media_type),
                Err(failure) => Tried::Failed(FailedTry::of(failure, Limits::default())),
            };
        }
        let reply = match self.post(to, body).await {
            Ok(reply) if (200..300).contains(&reply.status) => reply,
            other => return read(other),
        };
        let (status, limits) = (reply.status, reply.limits);
        let page = chat::page(&reply);
        match read_images(&reply) {
            ImagesAnswer::Good { body, images, usage } => {
                drop(reply);
                match gathered(to, images).await {
                    Ok(files) => Tried::Answered(GoodAnswer {
                        status,
                        body: Some(body.into()),
                        places: None,
                        usage: usage.map(Usage::from),
                        limits,
                        files,
                    }),
                    Err(failure) => {
                        // Another request would buy another image.
                        let message = format!("the answer's image cannot be fetched: {}", failure.message);
                        let failure = Failure { fault: Fault::Unusable, status: Some(status), message, ..failure };
                        let billed = usage.map(Usage::from);
                        Tried::Failed(FailedTry { body: Some(body.into()), billed, ..FailedTry::of(failure, limits) })
                    }
                }
            }
            ImagesAnswer::Bad { failure, body, usage } => {
                let billed = usage.map(Usage::from);
                Tried::Failed(FailedTry { body, billed, page, ..FailedTry::of(failure, limits) })
            }
        }
    }
}

/// Reads the response to a request for speech.
fn read_speech(reply: Reply, media_type: Option<String>) -> Tried {
    if !(200..300).contains(&reply.status) {
        return read(Ok(reply));
    }
    let said = media_type.as_deref().unwrap_or_default();
    let is_text = ["application/json", "text/"].iter().any(|start| said.to_ascii_lowercase().starts_with(start));
    let is_json = || serde_json::from_slice::<&serde_json::value::RawValue>(&reply.body).is_ok();
    if reply.body.is_empty() || reply.html || is_text || (reply.body.starts_with(b"{") && is_json()) {
        return match read(Ok(reply)) {
            failed @ Tried::Failed(_) => failed,
            Tried::Answered(answer) => {
                let message = format!("HTTP {} with a text instead of speech", answer.status);
                let status = Some(answer.status);
                let failure = Failure { status, ..Failure::new(Fault::BadResponse, message) };
                let body = answer.body.filter(|body| body.len() <= chat::MAX_FAILED_BODY);
                Tried::Failed(FailedTry { body, billed: answer.usage, ..FailedTry::of(failure, answer.limits) })
            }
        };
    }
    let (status, limits) = (reply.status, reply.limits);
    let file = AnsweredFile { bytes: reply.body.into(), said: media_type.map(Into::into) };
    Tried::Answered(GoodAnswer { status, body: None, places: None, usage: None, limits, files: vec![file] })
}

/// Gathers the bytes of all images.
async fn gathered(to: &Site, images: Vec<AnsweredImage>) -> Result<Vec<AnsweredFile>, Failure> {
    let mut files = Vec::with_capacity(images.len());
    for image in images {
        files.push(match image {
            AnsweredImage::Inline(bytes) => AnsweredFile { bytes, said: None },
            AnsweredImage::At(url) => {
                let ReceivedFile { bytes, media_type } = fetched(to, &url).await?;
                AnsweredFile { bytes, said: media_type.map(Into::into) }
            }
        });
    }
    Ok(files)
}

/// Fetches an image, several times if it may come another time.
async fn fetched(to: &Site, url: &str) -> Result<ReceivedFile, Failure> {
    let mut wait = FIRST_WAIT;
    let mut tries = 1;
    loop {
        let failure = match to.client.fetch_file(url, FETCH_TIME).await {
            Ok(file) => return Ok(file),
            Err(failure) => failure,
        };
        let passing =
            matches!(failure.class(), Class::NotSent | Class::Ambiguous | Class::NoCapacity | Class::AboveRate);
        if !passing || tries == FETCHES {
            return Err(failure);
        }
        tracing::info!("{}; fetching it again", failure.message);
        tokio::time::sleep(failure.wait.unwrap_or(wait).min(FETCH_TIME)).await;
        wait *= 2;
        tries += 1;
    }
}
