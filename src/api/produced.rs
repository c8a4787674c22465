//! Answers that are files: bytes as they come, images in JSON, and images at URLs that soon expire.

use std::pin::pin;
use std::time::Duration;

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine as _, alphabet};
use bytes::{Bytes, BytesMut};
use reqwest::header::{ACCEPT, ACCEPT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Response};
use tokio::time::timeout;
use url::Url;

use super::call::{in_time, logged, sent};
use super::chat;
use super::error::{Failure, Fault};
use super::error_body::flaw_of;
use super::response::AnyResponse;
use super::transfer::{MAX_HOPS, host, is_redirect, plain, too_many_hops};
use super::{Client, MAX_BODY, Reply, RowAddress};
use crate::completion::{AnswerFlaw, Completion, NoCompletion, ReportedUsage};
use crate::json::{self, is_too_deep, one_line};

/// Base64 with or without padding. Some servers leave it out.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// A file as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The `Content-Type` that they came with.
    pub media_type: Option<String>,
}

/// An image of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AnsweredImage {
    /// Its bytes.
    Inline(Vec<u8>),
    /// The place where its bytes are for a short time.
    At(String),
}

/// The content of a 200 of images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImagesAnswer {
    /// Images.
    Good {
        /// The body as one line of JSON, with `null` in place of the bytes.
        body: String,
        /// The images, in their order.
        images: Vec<AnsweredImage>,
        /// The tokens, if the service counted them.
        usage: Option<ReportedUsage>,
    },
    /// Something else.
    Bad {
        /// The reason why it is not an answer.
        failure: Failure,
        /// The body as one line of JSON, if it is JSON and short.
        body: Option<Box<str>>,
        /// The tokens that were billed for it, if the service counted them.
        usage: Option<ReportedUsage>,
    },
}

/// Reads the body of a 2xx that answers with images.
pub fn read_images(reply: &Reply) -> ImagesAnswer {
    let status = reply.status;
    let Ok(text) = std::str::from_utf8(&reply.body) else { return bad(status, "with a body that is not UTF-8", None) };
    let text = chat::unwrapped(text);
    if chat::page(reply).is_some() {
        return bad(status, "with an HTML page instead of images", None);
    }
    let parsed = match Completion::parse(text) {
        Ok(parsed) => parsed,
        Err(NoCompletion::Shape(words)) => {
            return bad(status, &format!("with an unexpected shape: {words}"), Some(text));
        }
        Err(NoCompletion::NotJson) => return bad(status, "with a body that is not JSON", None),
    };
    let usage = parsed.usage();
    if let Some(flaw @ (AnswerFlaw::Error(_) | AnswerFlaw::Foreign)) = parsed.flaw() {
        let failure = flaw_of(&flaw, status, text);
        if failure.fault == Fault::BadResponse && flaw == AnswerFlaw::Foreign {
            return bad(status, NO_IMAGES, Some(text));
        }
        return ImagesAnswer::Bad { failure, body: kept(text), usage };
    }
    match taken_out(text) {
        Ok((body, _)) if is_too_deep(&body) => bad(status, chat::TOO_DEEP, None),
        Ok((body, images)) => ImagesAnswer::Good { body: one_line(&body).into_owned(), images, usage },
        Err((body, why)) => bad(status, why, Some(&body)),
    }
}

const NO_IMAGES: &str = "with no images";

fn bad(status: u16, why: &str, body: Option<&str>) -> ImagesAnswer {
    let why = format!("HTTP {status} {why}");
    ImagesAnswer::Bad {
        failure: Failure::no_answer(Fault::BadResponse, status, why),
        body: body.and_then(kept),
        usage: None,
    }
}

/// The body of a failed response, if it is short enough for a line of results.
fn kept(body: &str) -> Option<Box<str>> {
    (body.len() <= chat::MAX_FAILED_BODY && !is_too_deep(body)).then(|| one_line(body).into())
}

/// The images of a body, and the body with `null` in place of their bytes.
///
/// # Errors
/// The body as far as it was read, and the reason why it has no images.
fn taken_out(text: &str) -> Result<(String, Vec<AnsweredImage>), (String, &'static str)> {
    let members = json::trusted_members(text);
    let entries = json::find(&members, "data").filter(|data| data.value.starts_with('['));
    let entries = entries.map(|data| json::trusted_elements(data.value)).unwrap_or_default();
    if entries.is_empty() {
        return Err((text.to_owned(), NO_IMAGES));
    }
    let (mut body, mut copied) = (String::new(), 0);
    let mut images = Vec::with_capacity(entries.len());
    for entry in entries {
        let members = if entry.starts_with('{') { json::trusted_members(entry) } else { Vec::new() };
        let text_of = |name| json::find(&members, name).filter(|member| member.value.starts_with('"'));
        let image = match (text_of("b64_json"), text_of("url")) {
            (Some(inline), _) => {
                let start = inline.value.as_ptr().addr() - text.as_ptr().addr();
                body.push_str(&text[copied..start]);
                body.push_str("null");
                copied = start + inline.value.len();
                json::string(inline.value).and_then(|text| decoded(&text)).map(AnsweredImage::Inline)
            }
            (None, Some(url)) => json::string(url.value).map(|url| AnsweredImage::At(url.into_owned())),
            (None, None) => None,
        };
        let Some(image) = image else {
            body.push_str(&text[copied..]);
            return Err((body, "with an entry of `data` that is no image"));
        };
        images.push(image);
    }
    body.push_str(&text[copied..]);
    Ok((body, images))
}

/// The bytes that a base64 text or a data URL holds. `None`: it holds none.
fn decoded(text: &str) -> Option<Vec<u8>> {
    let text = match text.strip_prefix("data:") {
        Some(url) => url.split_once(";base64,")?.1,
        None => text,
    };
    let clean: String;
    let text = if text.contains(char::is_whitespace) {
        clean = text.split_whitespace().collect();
        &clean
    } else {
        text
    };
    let decode = |alphabet| GeneralPurpose::new(alphabet, LENIENT).decode(text).ok();
    let bytes = decode(&alphabet::STANDARD).or_else(|| decode(&alphabet::URL_SAFE));
    bytes.filter(|bytes| !bytes.is_empty())
}

impl Client {
    /// Sends `body` once, and reads the whole answer, which may be of any type. Any status is a [`Reply`]; with it comes the
    /// `Content-Type`.
    ///
    /// # Errors
    /// As [`Client::post`].
    pub async fn post_for_file(
        &self,
        to: &RowAddress,
        body: Bytes,
        time: Duration,
    ) -> Result<(Reply, Option<String>), Failure> {
        let exchange = pin!(async {
            let any = HeaderValue::from_static("*/*");
            let request = self.http.post(to.url.clone()).header(ACCEPT, any).body(body);
            let response = sent(request).await?;
            let media_type = media_type(response.headers());
            let mut reply = self.read(AnyResponse::Reqwest(Box::new(response))).await?;
            if !(200..300).contains(&reply.status) {
                reply.body = self.without_key(reply.body);
            }
            Ok((reply, media_type))
        });
        match in_time(time, exchange).await {
            Some(result) => result,
            None => Err(Failure::new(Fault::Timeout, format!("no answer within {} s", time.as_secs_f64()))),
        }
    }

    /// Fetches the file at a URL that the service named. No key goes there, plain http is for this machine only, and the
    /// bytes are bounded.
    ///
    /// # Errors
    /// The URL is invalid, or the file did not arrive whole.
    pub async fn fetch_file(&self, url: &str, time: Duration) -> Result<ReceivedFile, Failure> {
        // As a redirect of the service, which names a place in the same way.
        let location = HeaderValue::from_str(url).map_err(|_| Failure::bad(200, "the URL of an image is invalid"))?;
        let headers = HeaderMap::from_iter([(reqwest::header::LOCATION, location)]);
        let refused = |failure: Failure| Failure { fault: Fault::InvalidRequest, ..failure };
        let mut place = self.redirected(&self.base, 200, &headers).map_err(refused)?;
        let fetching = pin!(async {
            for _ in 0..=MAX_HOPS {
                let response = self.asked(&place).await?;
                let status = response.status().as_u16();
                if is_redirect(status) {
                    place = self.redirected(&place, status, response.headers()).map_err(refused)?;
                } else if status == 200 {
                    return self.received(response, &place).await;
                } else {
                    return Err(self.refused(response, &place).await);
                }
            }
            Err(too_many_hops(&place))
        });
        let late = || Failure::new(Fault::Timeout, format!("the image did not arrive within {} s", time.as_secs_f64()));
        in_time(time, fetching).await.unwrap_or_else(|| Err(late()))
    }

    async fn asked(&self, place: &Url) -> Result<Response, Failure> {
        let identity = HeaderValue::from_static("identity");
        let request = self.bare.http(place)?.get(place.clone()).header(ACCEPT_ENCODING, identity);
        let started = std::time::Instant::now();
        let answer = timeout(self.bare.stall, sent(request)).await;
        let status = answer.as_ref().ok().and_then(|a| a.as_ref().ok()).map(|r| r.status().as_u16());
        logged(&Method::GET, place.path(), status, started);
        answer.map_err(|_| self.bare.stalled("image at", place))?
    }

    async fn received(&self, mut response: Response, place: &Url) -> Result<ReceivedFile, Failure> {
        plain(&response)?;
        let media_type = media_type(response.headers());
        let whole = response.content_length();
        let mut bytes = BytesMut::new();
        loop {
            let piece = timeout(self.bare.stall, response.chunk()).await;
            let piece = piece.map_err(|_| self.bare.stalled("image at", place))?;
            let Some(piece) = piece.map_err(|error| Failure::broken(&error, 200))? else { break };
            if bytes.len() + piece.len() > MAX_BODY {
                return Err(Failure::bad(200, &format!("the image at {} is longer than 64 MiB", host(place))));
            }
            bytes.extend_from_slice(&piece);
        }
        if whole.is_some_and(|whole| whole != bytes.len() as u64) || bytes.is_empty() {
            let message = format!("the image at {} ended after {} bytes", host(place), bytes.len());
            return Err(Failure::new(Fault::Broken, message));
        }
        if bytes.trim_ascii_start().starts_with(b"<!") || bytes.trim_ascii_start().starts_with(b"<html") {
            return Err(Failure::bad(200, &format!("{} sent an HTML page instead of an image", host(place))));
        }
        Ok(ReceivedFile { bytes: bytes.into(), media_type })
    }
}

fn media_type(headers: &HeaderMap) -> Option<String> {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::limits::Limits;
    use crate::api::scripted::{Scripted, client};

    const SOON: Duration = Duration::from_secs(5);

    fn read(body: &str) -> ImagesAnswer {
        let body = Bytes::copy_from_slice(body.as_bytes());
        read_images(&Reply { status: 200, limits: Limits::default(), html: false, body })
    }

    #[test]
    fn images_are_taken_out_of_their_answer_in_order() {
        let body = "{\"id\":\"x\",\n \"data\":[{\"index\":0,\"b64_json\":\"aGVsbG8=\",\"type\":\"b64_json\"},\n{\"url\":\"https:\\/\\/x/y?s=1\"},{\"b64_json\":\"data:image/png;base64,aGk\"}],\"usage\":{\"input_tokens\":5,\"output_tokens\":7}}";
        let ImagesAnswer::Good { body, images, usage } = read(body) else { panic!("{:?}", read(body)) };
        let expected = r#"{"id":"x","data":[{"index":0,"b64_json":null,"type":"b64_json"},{"url":"https:\/\/x/y?s=1"},{"b64_json":null}],"usage":{"input_tokens":5,"output_tokens":7}}"#;
        assert_eq!(json::compact(&body).unwrap(), expected);
        let inline = |bytes: &[u8]| AnsweredImage::Inline(bytes.to_vec());
        assert_eq!(images, [inline(b"hello"), AnsweredImage::At("https://x/y?s=1".into()), inline(b"hi")]);
        assert_eq!(usage.map(|usage| (usage.prompt, usage.completion)), Some((5, 7)));
    }

    #[test]
    fn what_holds_no_image_says_why() {
        for (body, fault, words) in [
            ("", Fault::BadResponse, "not JSON"),
            ("<html>", Fault::BadResponse, "HTML"),
            ("[]", Fault::BadResponse, "unexpected shape"),
            (r#"{"data":[]}"#, Fault::BadResponse, "no images"),
            (r#"{"data":null}"#, Fault::BadResponse, "no images"),
            (r#"{"data":7}"#, Fault::BadResponse, "unexpected shape"),
            (r#"{"data":[{"index":0}]}"#, Fault::BadResponse, "is no image"),
            (r#"{"data":[{"b64_json":"?"}]}"#, Fault::BadResponse, "is no image"),
            (r#"{"data":[{"b64_json":""}]}"#, Fault::BadResponse, "is no image"),
            (r#"{"error":{"message":"no more"}}"#, Fault::Server, "no more"),
            (r#"{"error":{"message":"bad size","code":400}}"#, Fault::InvalidRequest, "bad size"),
        ] {
            let ImagesAnswer::Bad { failure: Failure { fault: found, message: why, .. }, .. } = read(body) else {
                panic!("{body}")
            };
            assert!(found == fault && why.contains(words), "{body}: {found:?} {why}");
        }
    }

    #[tokio::test]
    async fn file_at_a_url_is_fetched_without_the_key() {
        let server = Scripted::start(|_| {
            vec!["HTTP/1.1 200 OK\r\ncontent-type: image/jpeg\r\ncontent-length: 4\r\n\r\n\u{1}abc".into()]
        });
        let url = format!("{}/image.jpg?sig=x", server.base.trim_end_matches("/v1"));
        let file = client(&server.base).fetch_file(&url, SOON).await.unwrap();
        assert_eq!((&file.bytes[..], file.media_type.as_deref()), (&b"\x01abc"[..], Some("image/jpeg")));
        let seen = server.seen();
        assert_eq!((seen[0].header("authorization"), seen[0].header("accept-encoding")), (None, Some("identity")));
    }

    #[tokio::test]
    async fn cut_files_and_other_places_are_refused() {
        let cases: [(&str, &str); 4] = [
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", "cut off"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", "ended after 0 bytes"),
            ("HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n", "403"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n<!doctype", "HTML page"),
        ];
        for (answer, words) in cases {
            let server = Scripted::start(move |_| vec![answer.into()]);
            let url = format!("{}/image.jpg", server.base.trim_end_matches("/v1"));
            let failure = client(&server.base).fetch_file(&url, SOON).await.unwrap_err();
            assert!(failure.message.contains(words), "{answer}: {failure:?}");
        }
        let secure = client("https://api.together.ai");
        for url in ["http://x.example/a", "http://127.0.0.1:7/a", "file:///etc/passwd", "https://u:p@x/a", "ftp://x/a"]
        {
            assert!(secure.fetch_file(url, SOON).await.is_err(), "{url}");
        }
    }
}
