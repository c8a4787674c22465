//! The object store behind the files: presigned URLs on an origin of its own (another port), as uploads and redirected
//! downloads use it. Like such stores it refuses a second kind of authorization, and bodies without a length.

use std::io::{self, Seek, SeekFrom, Write};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use ring::digest::{Context, SHA256};

use super::app::{App, Route, chunk};
use super::faults::Scope;
use super::files::FileRecord;
use super::listener::Conn;
use super::reply::{Payload, Reply};
use super::state::Folder;

/// The presigned URL of a file.
pub fn location(app: &App, id: &str) -> String {
    format!("{}/storage/{id}?X-Sandbox-Expires=3600&X-Sandbox-Signature={}", app.storage, signature(app, id))
}

/// It binds a URL to its file; there is no secret to keep on a loopback rehearsal.
fn signature(app: &App, id: &str) -> String {
    blake3::hash(format!("{} {id}", app.config.seed).as_bytes()).to_hex()[..32].to_owned()
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Reply {
    let body = format!("<?xml version=\"1.0\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>\n");
    Reply::new(status, "application/xml", body)
}

fn admit(app: &App, id: &str, query: &str, headers: &HeaderMap) -> Result<(), Box<Reply>> {
    if headers.contains_key(header::AUTHORIZATION) {
        let message = "Only one kind of authorization is allowed: this URL is signed, send no Authorization header";
        return Err(Box::new(refusal(StatusCode::BAD_REQUEST, "InvalidArgument", message)));
    }
    let expected = signature(app, id);
    let given = query.split('&').find_map(|pair| pair.strip_prefix("X-Sandbox-Signature="));
    if given == Some(expected.as_str()) {
        Ok(())
    } else {
        let message = "The signature does not fit this URL";
        Err(Box::new(refusal(StatusCode::FORBIDDEN, "SignatureDoesNotMatch", message)))
    }
}

/// `PUT /storage/{id}`: the bytes of an upload.
pub async fn put(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let route = Route { path: "/storage/{id} (PUT)", scope: Scope::Put };
    let (parts, mut body) = request.into_parts();
    app.serve(route, &conn, &parts.headers, id.as_bytes(), async |app| {
        if let Err(refused) = admit(&app, &id, parts.uri.query().unwrap_or_default(), &parts.headers) {
            return *refused;
        }
        let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let Some(length): Option<u64> = length else {
            return refusal(StatusCode::LENGTH_REQUIRED, "MissingContentLength", "Send a Content-Length");
        };
        match store(&app, &id, length, &mut body).await {
            Ok(reply) => reply,
            Err(error) => app.broken_disk(&error),
        }
    })
    .await
}

async fn store(app: &App, id: &str, length: u64, body: &mut axum::body::Body) -> io::Result<Reply> {
    let mut scratch = app.store.scratch(Folder::Files)?;
    let mut digest = Context::new(&SHA256);
    let (mut bytes, mut lines, mut last) = (0, 0, b'\n');
    while let Some(piece) = chunk(body).await.map_err(io::Error::other)? {
        scratch.write_all(&piece)?;
        digest.update(&piece);
        bytes += piece.len() as u64;
        lines += memchr::memchr_iter(b'\n', &piece).count() as u64;
        last = piece.last().copied().unwrap_or(last);
    }
    if bytes != length {
        return Ok(refusal(StatusCode::BAD_REQUEST, "IncompleteBody", "Fewer bytes came than were announced"));
    }
    let _guard = app.store.lock()?;
    let Some(mut file) = app.store.get::<FileRecord>(Folder::Files, id)? else {
        return Ok(refusal(StatusCode::NOT_FOUND, "NoSuchKey", "There is no such upload"));
    };
    let sum = hex(digest.finish().as_ref());
    if file.checksum.as_ref().is_some_and(|announced| *announced != sum) {
        return Ok(refusal(StatusCode::BAD_REQUEST, "BadDigest", "The bytes do not have the announced checksum"));
    }
    scratch.persist(app.store.path(Folder::Files, id, "bin")?)?;
    file.bytes = bytes;
    file.lines = lines + u64::from(last != b'\n');
    file.stored = true;
    app.store.put(Folder::Files, id, &file)?;
    Ok(Reply::new(StatusCode::OK, "text/plain", "").header("etag", &format!("\"{}\"", &sum[..32])))
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

/// `GET /storage/{id}`: where a redirected download ends.
pub async fn get(
    State(app): State<Arc<App>>,
    ConnectInfo(conn): ConnectInfo<Conn>,
    Path(id): Path<String>,
    request: Request,
) -> Response {
    let route = Route { path: "/storage/{id}", scope: Scope::Content };
    let (parts, _) = request.into_parts();
    app.serve(route, &conn, &parts.headers, id.as_bytes(), async |app| {
        if let Err(refused) = admit(&app, &id, parts.uri.query().unwrap_or_default(), &parts.headers) {
            return *refused;
        }
        app.local(|| match app.store.get::<FileRecord>(Folder::Files, &id)? {
            Some(file) if file.stored => bytes(&app, &file, &parts.headers),
            _ => Ok(refusal(StatusCode::NOT_FOUND, "NoSuchKey", "There is no such object")),
        })
    })
    .await
}

/// The bytes of a file, or the range of them that was asked for.
pub fn bytes(app: &App, file: &FileRecord, headers: &HeaderMap) -> io::Result<Reply> {
    let mut opened = std::fs::File::open(app.store.path(Folder::Files, &file.id, "bin")?)?;
    let whole = opened.metadata()?.len();
    let reply = |status, opened, len| {
        let mut reply = Reply::new(status, "text/plain; charset=utf-8", "");
        reply.payload = Payload::File(opened, len);
        reply
    };
    if !app.config.ranges {
        return Ok(reply(StatusCode::OK, opened, whole));
    }
    let asked = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    match asked.and_then(range) {
        None => Ok(reply(StatusCode::OK, opened, whole).header("accept-ranges", "bytes")),
        Some((start, _)) if start >= whole => {
            let refused = refusal(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidRange", "The file ends before");
            Ok(refused.header("content-range", &format!("bytes */{whole}")))
        }
        Some((start, end)) => {
            let end = end.unwrap_or(u64::MAX).min(whole - 1);
            opened.seek(SeekFrom::Start(start))?;
            let shown = format!("bytes {start}-{end}/{whole}");
            Ok(reply(StatusCode::PARTIAL_CONTENT, opened, end - start + 1).header("content-range", &shown))
        }
    }
}

/// `bytes=FIRST-[LAST]`; any other form is ignored, as HTTP allows.
fn range(text: &str) -> Option<(u64, Option<u64>)> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let first = first.parse().ok()?;
    match last {
        "" => Some((first, None)),
        last => last.parse().ok().filter(|last| *last >= first).map(|last| (first, Some(last))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let cases = [
            ("bytes=0-", Some((0, None))),
            ("bytes=5-9", Some((5, Some(9)))),
            ("bytes=9-5", None),
            ("bytes=-5", None),
            ("bytes=0-1,3-4", None),
            ("lines=1-2", None),
        ];
        for (text, expected) in cases {
            assert_eq!(range(text), expected, "{text}");
        }
    }

    #[test]
    fn checksums_are_lower_case_hex() {
        let sum = hex(ring::digest::digest(&SHA256, b"abc").as_ref());
        assert_eq!(sum, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }
}
