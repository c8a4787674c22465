//! A response read into memory, whichever client it came from.

use std::error::Error as StdError;
use std::io::Read;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::error::{Failure, Fault};
use super::limits::Limits;
use super::{Client, LARGE, MAX_BODY, Reply};

/// A response whose body is still to be read.
pub(super) enum AnyResponse {
    /// Of reqwest, which decompresses.
    Reqwest(Box<reqwest::Response>),
    /// Of the direct way.
    Direct(hyper::Response<Incoming>),
}

/// The encoding of a body that is decompressed here.
#[derive(Clone, Copy)]
pub(super) enum Encoding {
    Gzip,
    Zstd,
}

impl AnyResponse {
    pub(super) fn status(&self) -> u16 {
        match self {
            Self::Reqwest(response) => response.status().as_u16(),
            Self::Direct(response) => response.status().as_u16(),
        }
    }

    pub(super) fn headers(&self) -> &HeaderMap {
        match self {
            Self::Reqwest(response) => response.headers(),
            Self::Direct(response) => response.headers(),
        }
    }

    /// The encoding that is still on the body.
    pub(super) fn encoding(&self) -> Option<Encoding> {
        let Self::Direct(response) = self else { return None };
        let name = response.headers().get(CONTENT_ENCODING)?.as_bytes();
        let is = |known: &str| name.eq_ignore_ascii_case(known.as_bytes());
        if is("gzip") || is("x-gzip") {
            return Some(Encoding::Gzip);
        }
        is("zstd").then_some(Encoding::Zstd)
    }

    /// The next bytes of the body. `None`: it has ended.
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Box<dyn StdError + Send + Sync>> {
        match self {
            Self::Reqwest(response) => Ok(response.chunk().await?),
            Self::Direct(response) => loop {
                match response.body_mut().frame().await {
                    None => return Ok(None),
                    Some(frame) => {
                        // Trailers are no part of the body.
                        if let Ok(data) = frame?.into_data() {
                            return Ok(Some(data));
                        }
                    }
                }
            },
        }
    }
}

impl Encoding {
    /// The bytes of a body. `None`: there are more than `limit`.
    fn decoded(self, body: &[u8], limit: usize) -> std::io::Result<Option<Vec<u8>>> {
        // A buffer that grows is copied, and is twice as large as its bytes. Memory that is not touched costs nothing.
        let mut plain = Vec::with_capacity(if limit > LARGE { limit + 1 } else { 0 });
        let bound = limit as u64 + 1;
        match self {
            // A server may end its answer with bytes that belong to nothing.
            Self::Gzip => flate2::read::GzDecoder::new(body).take(bound).read_to_end(&mut plain)?,
            Self::Zstd => zstd::Decoder::with_buffer(body)?.single_frame().take(bound).read_to_end(&mut plain)?,
        };
        Ok((plain.len() <= limit).then_some(plain))
    }
}

impl Client {
    /// Reads the whole answer into memory.
    pub(super) async fn read(&self, mut response: AnyResponse) -> Result<Reply, Failure> {
        let status = response.status();
        let limits = Limits::read(status, response.headers(), SystemTime::now);
        let html = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|v| v.as_bytes().get(..9))
            .is_some_and(|start| start.eq_ignore_ascii_case(b"text/html"));
        let mut encoding = response.encoding();
        let mut body = Bytes::new();
        let mut more: Option<BytesMut> = None;
        let mut alone = None;
        loop {
            let chunk = response.chunk().await.map_err(|e| Failure::broken(&*e, status))?;
            let Some(chunk) = chunk else { break };
            let length = more.as_ref().map_or(body.len(), BytesMut::len) + chunk.len();
            if length > MAX_BODY {
                return Err(too_long(status));
            }
            if length > LARGE && alone.is_none() {
                alone = self.large.acquire().await.ok();
                // Reserved at once: untouched memory costs nothing, and the buffer is not copied as it grows.
                if let Some(buffer) = &mut more {
                    buffer.reserve(MAX_BODY - buffer.len());
                }
            }
            match &mut more {
                Some(buffer) => buffer.extend_from_slice(&chunk),
                None if body.is_empty() => body = chunk,
                None => {
                    let mut buffer = BytesMut::with_capacity(length * 2);
                    buffer.extend_from_slice(&body);
                    buffer.extend_from_slice(&chunk);
                    more = Some(buffer);
                }
            }
        }
        let mut body = more.map_or(body, BytesMut::freeze);
        if body.is_empty() {
            encoding = None;
        }
        if let Some(encoding) = encoding {
            let decoded = |limit| match encoding.decoded(&body, limit) {
                // The status of a refusal counts, whatever its body is.
                Err(_) if !(200..300).contains(&status) => Ok(Some(Vec::new())),
                decoded => decoded.map_err(|e| Failure::broken(&e, status)),
            };
            let mut plain = decoded(LARGE)?;
            if plain.is_none() {
                if alone.is_none() {
                    alone = self.large.acquire().await.ok();
                }
                plain = decoded(MAX_BODY)?;
            }
            body = plain.ok_or_else(|| too_long(status))?.into();
        }
        drop(alone);
        Ok(Reply { status, limits, html, body })
    }
}

pub(super) fn too_long(status: u16) -> Failure {
    Failure::new(Fault::BadResponse, format!("HTTP {status} with a body of more than {} MiB", MAX_BODY >> 20))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;
    use crate::api::ClientOptions;
    use crate::api::scripted::{Scripted, client};

    const SOON: Duration = Duration::from_secs(10);

    /// The ways of a row's request, by name.
    fn ways(base: &str) -> [(&'static str, Client); 2] {
        let direct = client(base);
        assert!(direct.direct.is_some());
        [("reqwest", Client { direct: None, ..direct.clone() }), ("direct", direct)]
    }

    async fn post(client: &Client, timeout: Duration) -> Result<Reply, Failure> {
        client.post(&client.row_address("/chat/completions"), Bytes::from_static(b"{\"a\":1}"), timeout).await
    }

    /// A server that answers both ways with the same bytes.
    fn server(answer: &[u8]) -> Scripted {
        // Bytes of a compressed body are no text.
        Scripted::of_bytes(vec![answer.to_vec(), answer.to_vec()])
    }

    fn compressed(encoding: &str, body: &[u8]) -> Vec<u8> {
        let bytes = match encoding {
            "gzip" => {
                let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                gzip.write_all(body).unwrap();
                gzip.finish().unwrap()
            }
            _ => zstd::encode_all(body, 0).unwrap(),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n",
            bytes.len()
        );
        [head.into_bytes(), bytes].concat()
    }

    #[tokio::test]
    async fn both_ways_send_the_same_request() {
        let server = server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
        for (way, client) in ways(&server.base) {
            assert_eq!(&post(&client, SOON).await.unwrap().body[..], b"{}", "{way}");
        }
        let seen = server.seen();
        let [mut one, mut other] = [&seen[0], &seen[1]].map(|request| request.headers.clone());
        for headers in [&mut one, &mut other] {
            headers.sort();
            // The order of the encodings has no meaning.
            let encodings = headers.iter_mut().find(|(name, _)| name == "accept-encoding").unwrap();
            let mut names: Vec<_> = encodings.1.split(',').map(str::trim).collect();
            names.sort_unstable();
            encodings.1 = names.join(", ");
        }
        assert_eq!(one, other);
        assert_eq!((&seen[0].line, &seen[0].body), (&seen[1].line, &seen[1].body));
        assert_eq!(seen[1].line, "POST /v1/chat/completions HTTP/1.1");
    }

    #[tokio::test]
    async fn compressed_answers_are_read_and_bounded() {
        let long = vec![b' '; LARGE + 1];
        for encoding in ["gzip", "zstd"] {
            for body in [&b"{\"answer\":true}"[..], &long] {
                let server = server(&compressed(encoding, body));
                for (way, client) in ways(&server.base) {
                    assert!(post(&client, SOON).await.unwrap().body == body, "{way} {encoding} {}", body.len());
                }
            }
            let server = server(&compressed(encoding, &vec![b' '; MAX_BODY + 1]));
            for (way, client) in ways(&server.base) {
                let failure = post(&client, SOON).await.unwrap_err();
                assert!(failure.message.contains("more than 64 MiB"), "{way} {encoding}: {failure}");
            }
        }
        let server =
            server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\n{}");
        for (way, client) in ways(&server.base) {
            let failure = post(&client, SOON).await.unwrap_err();
            assert!(failure.fault == Fault::BadResponse && failure.message.contains("cut off"), "{way}: {failure}");
        }
    }

    #[tokio::test]
    async fn answers_arrive_in_any_framing() {
        let answers: [(&[u8], &[u8]); 3] = [
            (b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"until\":\"the end\"}", b"{\"until\":\"the end\"}"),
            (
                b"HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{\"\r\n5\r\na\":1}\r\n0\r\ntrailer: x\r\n\r\n",
                b"{\"a\":1}",
            ),
            (b"HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 4\r\n\r\noops", b"oops"),
        ];
        for (answer, body) in answers {
            let server = server(answer);
            for (way, client) in ways(&server.base) {
                assert_eq!(&post(&client, SOON).await.unwrap().body[..], body, "{way}");
            }
        }
    }

    #[tokio::test]
    async fn failures_are_told_apart_and_in_the_same_words() {
        let cut = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"half\"";
        let cases: [(&[u8], Fault, &str); 4] = [
            (b"HTTP/1.1 201 OK\r\ncontent-length: 100\r\n\r\n{", Fault::BadResponse, "the answer was cut off: "),
            (cut, Fault::BadResponse, "the answer was cut off: "),
            (b"HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\n{", Fault::Broken, "the answer was cut off: "),
            (b"nonsense\r\n\r\n", Fault::Broken, ""),
        ];
        for (answer, fault, words) in cases {
            let server = server(answer);
            let mut messages = Vec::new();
            for (way, client) in ways(&server.base) {
                let failure = post(&client, SOON).await.unwrap_err();
                assert!(failure.fault == fault && failure.message.starts_with(words), "{way}: {failure:?}");
                messages.push(failure.message);
            }
            assert_eq!(messages[0], messages[1]);
        }
        let silent = server(b"");
        for (way, client) in ways(&silent.base) {
            let failure = post(&client, Duration::from_millis(30)).await.unwrap_err();
            assert_eq!((failure.fault, way), (Fault::Timeout, way));
        }
        let mut refused = Vec::new();
        for (_, client) in ways("http://127.0.0.1:1") {
            refused.push(post(&client, SOON).await.unwrap_err());
        }
        assert_eq!(refused[0].fault, Fault::Connect);
        assert_eq!(refused[0].message, refused[1].message);
        assert!(refused[0].message.starts_with("cannot connect to 127.0.0.1:1: "), "{}", refused[0].message);
    }

    #[test]
    fn proxy_is_spoken_to_by_reqwest() {
        // The variables of proxies are read by the process. Loopback never has one.
        let options = ClientOptions {
            base_url: "http://127.0.0.1:1".into(),
            key: None,
            headers: Vec::new(),
            user_agent: "t".into(),
        };
        assert!(Client::new(&options).unwrap().direct.is_some());
    }
}
