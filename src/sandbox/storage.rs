//! The object store behind the files: presigned URLs on an origin of its own (another port), as uploads and redirected
//! downloads use it. Like such stores it refuses a second kind of authorization, and bodies without a length.

use std::io::{self, Seek, SeekFrom, Write};

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use futures_util::TryStreamExt as _;
use ring::digest::{Context, SHA256};

use super::app::App;
use super::call::{ApiRoute, Call};
use super::faults::Scope;
use super::file_record::FileRecord;
use super::reply::{HttpReply, Payload, Refused};
use super::state_dir::Folder;

/// The presigned URL of a file.
pub fn location(app: &App, id: &str) -> String {
    format!("{}/storage/{id}?X-Sandbox-Expires=3600&X-Sandbox-Signature={}", app.storage, signature(app, id))
}

/// The text that binds a URL to its file; there is no secret to keep on loopback.
fn signature(app: &App, id: &str) -> String {
    blake3::hash(format!("{} {id}", app.config.seed).as_bytes()).to_hex()[..32].to_owned()
}

pub fn refusal(status: StatusCode, code: &str, message: &str) -> HttpReply {
    let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>\n");
    HttpReply::new(status, "application/xml", body)
}

/// Checks the signature of a request's URL.
fn check_signature(call: &Call, id: &str) -> Result<(), Refused> {
    if call.headers.contains_key(header::AUTHORIZATION) {
        let message = "Only one kind of authorization is allowed: this URL is signed, send no Authorization header";
        return Err(refusal(StatusCode::BAD_REQUEST, "InvalidArgument", message).into());
    }
    let given = call.query.split('&').find_map(|pair| pair.strip_prefix("X-Sandbox-Signature="));
    if given == Some(signature(&call.app, id).as_str()) {
        return Ok(());
    }
    let message = "The signature does not fit this URL";
    Err(refusal(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message).into())
}

/// `PUT /storage/{id}`: the bytes of an upload.
pub async fn put(Path(id): Path<String>, call: Call, body: Body) -> Response {
    let work = async { call.app.reply_of(store(&call, &id, body).await) };
    call.serve(ApiRoute::new("/storage/{id} (PUT)", Scope::Put), &id, work).await
}

async fn store(call: &Call, id: &str, body: Body) -> Result<HttpReply, Refused> {
    check_signature(call, id)?;
    let length = call.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    let length =
        length.ok_or_else(|| refusal(StatusCode::LENGTH_REQUIRED, "MissingContentLength", "Send a Content-Length"))?;
    let store = &call.app.store;
    let mut scratch = store.scratch(Folder::Files)?;
    let mut digest = Context::new(&SHA256);
    let (mut bytes, mut lines, mut last) = (0, 0, b'\n');
    let mut pieces = body.into_data_stream();
    while let Some(piece) = pieces.try_next().await.map_err(io::Error::other)? {
        scratch.write_all(&piece)?;
        digest.update(&piece);
        bytes += piece.len() as u64;
        lines += memchr::memchr_iter(b'\n', &piece).count() as u64;
        last = piece.last().copied().unwrap_or(last);
    }
    let bad = |code, message| refusal(StatusCode::BAD_REQUEST, code, message).into();
    if bytes != length {
        return Err(bad("IncompleteBody", "Fewer bytes came than were announced"));
    }
    let _guard = store.lock()?;
    let file: Option<FileRecord> = store.get(Folder::Files, id)?;
    let mut file = file.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "NoSuchKey", "There is no such upload"))?;
    let sum = hex(digest.finish().as_ref());
    if file.checksum.as_ref().is_some_and(|announced| *announced != sum) {
        return Err(bad("BadDigest", "The bytes do not have the announced checksum"));
    }
    store.keep(scratch, Folder::Files, id, "bin")?;
    file.bytes = bytes;
    file.lines = lines + u64::from(last != b'\n');
    file.stored = true;
    store.put(Folder::Files, id, &file)?;
    Ok(HttpReply::new(StatusCode::OK, "text/plain", "").header("etag", &format!("\"{}\"", &sum[..32])))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `GET /storage/{id}`: the target of a redirected download.
pub async fn get(Path(id): Path<String>, call: Call) -> Response {
    let work = async {
        if let Err(refused) = check_signature(&call, &id) {
            return call.app.reply_of(Err(refused));
        }
        let range = asked_range(&call.headers);
        let id = id.clone();
        call.app
            .blocking(move |app| {
                let file = app.store.get::<FileRecord>(Folder::Files, &id)?.filter(|file| file.stored);
                let file =
                    file.ok_or_else(|| refusal(StatusCode::NOT_FOUND, "NoSuchKey", "There is no such object"))?;
                bytes(app, &file, range)
            })
            .await
    };
    call.serve(ApiRoute::new("/storage/{id}", Scope::Content), &id, work).await
}

/// A range of bytes as a client asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    first: u64,
    /// The last byte, or `None` for all that follow.
    last: Option<u64>,
}

impl ByteRange {
    /// Reads `bytes=FIRST-[LAST]`; any other form is ignored, as HTTP allows.
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
        let first = first.parse().ok()?;
        if last.is_empty() {
            return Some(Self { first, last: None });
        }
        let last = last.parse().ok().filter(|last| *last >= first)?;
        Some(Self { first, last: Some(last) })
    }
}

/// The range that a request asks for.
pub fn asked_range(headers: &HeaderMap) -> Option<ByteRange> {
    headers.get(header::RANGE).and_then(|value| ByteRange::parse(value.to_str().ok()?))
}

/// The bytes of a file, or the range of them that was asked for.
pub fn bytes(app: &App, file: &FileRecord, range: Option<ByteRange>) -> Result<HttpReply, Refused> {
    let mut opened = std::fs::File::open(app.store.path(Folder::Files, &file.id, "bin")?)?;
    let whole = opened.metadata()?.len();
    let ignored = app.config.downloads.ignore_ranges;
    let reply = |status, opened, len| HttpReply {
        payload: Payload::File(opened, len),
        ..HttpReply::new(status, "text/plain; charset=utf-8", "")
    };
    let Some(range) = range.filter(|_| !ignored) else {
        let all = reply(StatusCode::OK, opened, whole);
        return Ok(if ignored { all } else { all.header("accept-ranges", "bytes") });
    };
    if range.first >= whole {
        let refused = refusal(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The file ends before");
        return Ok(refused.header("content-range", &format!("bytes */{whole}")));
    }
    let last = range.last.unwrap_or(u64::MAX).min(whole - 1);
    opened.seek(SeekFrom::Start(range.first))?;
    let part = reply(StatusCode::PARTIAL_CONTENT, opened, last - range.first + 1);
    Ok(part.header("content-range", &format!("bytes {}-{last}/{whole}", range.first)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_simple_ranges_are_honoured() {
        let cases = [
            ("bytes=0-", Some(ByteRange { first: 0, last: None })),
            ("bytes=5-9", Some(ByteRange { first: 5, last: Some(9) })),
            ("bytes=9-5", None),
            ("bytes=-5", None),
            ("bytes=0-1,3-4", None),
            ("lines=1-2", None),
        ];
        for (text, expected) in cases {
            assert_eq!(ByteRange::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn checksums_are_lower_case_hex() {
        let sum = hex(ring::digest::digest(&SHA256, b"abc").as_ref());
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
