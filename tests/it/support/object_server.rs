//! A small store of objects: S3's way of reading, listing and writing, with faults on demand.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A store that lives as long as the test's process.
pub struct ObjectServer {
    /// `http://HOST:PORT`
    pub url: String,
    state: Arc<Mutex<StoreState>>,
}

/// The objects, and what the test wants to go wrong.
#[derive(Default)]
pub struct StoreState {
    /// Path and bytes. The `ETag` is a hash of the bytes.
    pub objects: BTreeMap<String, Vec<u8>>,
    /// Parts of uploads that are neither completed nor aborted, by their ids.
    pub uploads: HashMap<String, BTreeMap<u32, Vec<u8>>>,
    /// Head of every request.
    pub heads: Vec<String>,
    /// Path and the address that it redirects to.
    pub redirects: HashMap<String, String>,
    /// Every request gets this status.
    pub status: Option<u16>,
    /// So many of the next bodies are cut off in the middle.
    pub cuts: u32,
    /// Ranges are ignored.
    pub whole_only: bool,
    /// Headers of every answer, each with its line end.
    pub headers: String,
    /// The same of answers at one path.
    pub headers_at: HashMap<String, String>,
    /// The object at this path is replaced by these bytes after so many reads of it.
    pub swap: Option<(String, Vec<u8>, u32)>,
    /// The object at this path is replaced by these bytes behind so many reads of it.
    pub replace: Option<(String, Vec<u8>, u32)>,
    /// Conditions of requests that put whole objects.
    pub conditions: PutConditions,
    /// Completing an upload gets no answer: the connection closes.
    pub never_completes: bool,
}

/// The conditions `If-Match` and `If-None-Match` of a request that puts an object.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum PutConditions {
    /// They are held.
    #[default]
    Held,
    /// The object is put in any case.
    Ignored,
    /// Such a request is not implemented.
    Refused,
}

struct Asked {
    method: String,
    path: String,
    query: String,
    head: String,
    body: Vec<u8>,
}

impl Asked {
    fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line.split_once(':')?.1.trim())
    }

    fn parameter(&self, name: &str) -> Option<String> {
        let found = self.query.split('&').find_map(|part| part.strip_prefix(&format!("{name}=")))?;
        Some(found.replace("%2F", "/"))
    }
}

impl ObjectServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::<Mutex<StoreState>>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }

    pub fn state(&self) -> MutexGuard<'_, StoreState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.state().objects.insert(path.to_owned(), bytes.into());
    }

    pub fn text(&self, path: &str) -> Option<String> {
        self.state().objects.get(path).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    /// Names this store in the environment of a command on S3.
    pub fn s3(&self, mut command: std::process::Command) -> std::process::Command {
        command.env("AWS_ENDPOINT_URL", &self.url).env("AWS_REGION", "us-east-1");
        command.env("AWS_ACCESS_KEY_ID", "canary-id-1").env("AWS_SECRET_ACCESS_KEY", "canary-secret-1");
        command
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<StoreState>) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let asked = read(&mut reader).ok().flatten()?;
        let (status, headers, body, cut) = {
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            state.heads.push(asked.head.clone());
            let (status, headers, body) = answer(&mut state, &asked)?;
            replace(&mut state, &asked);
            let cut = asked.method == "GET" && state.cuts > 0 && body.len() > 1;
            state.cuts -= u32::from(cut);
            let at = state.headers_at.get(&asked.path).map_or("", String::as_str);
            (status, format!("{headers}{at}{}", state.headers), body, cut)
        };
        let known = headers.to_ascii_lowercase().contains("content-length:");
        let length = if known { String::new() } else { format!("content-length: {}\r\n", body.len()) };
        write!(stream, "HTTP/1.1 {status} X\r\n{headers}{length}\r\n").ok()?;
        if asked.method != "HEAD" {
            stream.write_all(if cut { &body[..body.len() / 2] } else { &body }).ok()?;
        }
        if cut {
            return stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<Asked>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    let mut words = head.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap().to_owned());
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut asked =
        Asked { method, path: path.replace("%3D", "="), query: query.to_owned(), head: head.clone(), body: Vec::new() };
    let length = asked.header("content-length").map_or(0, |text| text.parse().unwrap());
    asked.body = vec![0; length];
    reader.read_exact(&mut asked.body)?;
    Ok(Some(asked))
}

type Reply = (u16, String, Vec<u8>);

fn error(status: u16, code: &str) -> Reply {
    (status, String::new(), format!("<Error><Code>{code}</Code><Message>canary words</Message></Error>").into_bytes())
}

/// `None`: the connection closes.
fn answer(state: &mut StoreState, asked: &Asked) -> Option<Reply> {
    if let Some(status) = state.status {
        return Some(error(status, "Told"));
    }
    if let Some(to) = state.redirects.get(&asked.path) {
        return Some((302, format!("location: {to}\r\n"), Vec::new()));
    }
    let upload = asked.parameter("uploadId");
    Some(match (&*asked.method, upload) {
        ("GET", None) if asked.parameter("list-type").is_some() => list(state, asked),
        ("GET" | "HEAD", None) => object(state, asked),
        ("POST", None) => {
            let id = format!("u{}", state.heads.len());
            state.uploads.insert(id.clone(), BTreeMap::new());
            let body =
                format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>");
            (200, String::new(), body.into_bytes())
        }
        ("PUT", Some(id)) => {
            let number = asked.parameter("partNumber").unwrap().parse().unwrap();
            match state.uploads.get_mut(&id) {
                Some(parts) => {
                    parts.insert(number, asked.body.clone());
                    (200, format!("etag: \"p{number}\"\r\n"), Vec::new())
                }
                None => error(404, "NoSuchUpload"),
            }
        }
        ("POST", Some(_)) if state.never_completes => return None,
        ("POST", Some(id)) => match state.uploads.remove(&id) {
            Some(parts) => {
                state.objects.insert(asked.path.clone(), parts.into_values().flatten().collect());
                let body = "<CompleteMultipartUploadResult><ETag>\"x\"</ETag></CompleteMultipartUploadResult>";
                (200, String::new(), body.into())
            }
            None => error(404, "NoSuchUpload"),
        },
        ("DELETE", Some(id)) => match state.uploads.remove(&id) {
            Some(_) => (204, String::new(), Vec::new()),
            None => error(404, "NoSuchUpload"),
        },
        ("PUT", None) => {
            let now = state.objects.get(&asked.path).map(|bytes| tag(bytes));
            let wanted = asked.header("if-match").is_none_or(|wanted| now.as_deref() == Some(wanted));
            let absent = asked.header("if-none-match").is_none() || now.is_none();
            let conditional = asked.header("if-match").or(asked.header("if-none-match")).is_some();
            match state.conditions {
                PutConditions::Refused if conditional => return Some(error(501, "NotImplemented")),
                PutConditions::Held if !wanted || !absent => return Some(error(412, "PreconditionFailed")),
                _ => {}
            }
            state.objects.insert(asked.path.clone(), asked.body.clone());
            (200, format!("etag: {}\r\n", tag(&asked.body)), Vec::new())
        }
        _ => {
            state.objects.remove(&asked.path);
            (204, String::new(), Vec::new())
        }
    })
}

fn replace(state: &mut StoreState, asked: &Asked) {
    let Some((path, bytes, left)) =
        state.replace.as_mut().filter(|(path, ..)| *path == asked.path && asked.method == "GET")
    else {
        return;
    };
    *left -= 1;
    if *left == 0 {
        state.objects.insert(path.clone(), bytes.clone());
        state.replace = None;
    }
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}-{:x}\"", bytes.len(), bytes.iter().fold(7_u64, |hash, byte| hash.wrapping_mul(31) ^ u64::from(*byte)))
}

fn object(state: &mut StoreState, asked: &Asked) -> Reply {
    if asked.method == "GET"
        && let Some((path, bytes, left)) = &mut state.swap
        && *path == asked.path
    {
        if *left == 0 {
            state.objects.insert(path.clone(), bytes.clone());
            state.swap = None;
        } else {
            *left -= 1;
        }
    }
    let Some(bytes) = state.objects.get(&asked.path) else { return error(404, "NoSuchKey") };
    let headers = format!("etag: {}\r\nlast-modified: Mon, 30 Nov 2026 10:00:00 GMT\r\n", tag(bytes));
    if asked.header("if-match").is_some_and(|wanted| wanted != tag(bytes)) {
        return error(412, "PreconditionFailed");
    }
    if asked.method == "HEAD" {
        return (200, format!("{headers}content-length: {}\r\n", bytes.len()), Vec::new());
    }
    let range = asked.header("range").filter(|_| !state.whole_only);
    let Some((first, last)) = range.and_then(|range| range.strip_prefix("bytes=")?.split_once('-')) else {
        return (200, headers, bytes.clone());
    };
    let (first, last): (usize, usize) = (first.parse().unwrap(), last.parse().unwrap());
    if first >= bytes.len() {
        return (416, format!("{headers}content-range: bytes */{}\r\n", bytes.len()), Vec::new());
    }
    let last = last.min(bytes.len() - 1);
    let headers = format!("{headers}content-range: bytes {first}-{last}/{}\r\n", bytes.len());
    (206, headers, bytes[first..=last].to_vec())
}

fn list(state: &StoreState, asked: &Asked) -> Reply {
    let root = format!("{}/", asked.path.trim_end_matches('/'));
    let prefix = asked.parameter("prefix").unwrap_or_default();
    let entry = |(path, bytes): (&String, &Vec<u8>)| {
        let key = path.strip_prefix(&root).filter(|key| key.starts_with(&prefix))?;
        if asked.parameter("delimiter").is_some() && key[prefix.len()..].contains('/') {
            return None;
        }
        Some(format!(
            "<Contents><Key>{key}</Key><Size>{}</Size><LastModified>2026-11-30T10:00:00.000Z</LastModified>\
             <ETag>{}</ETag></Contents>",
            bytes.len(),
            tag(bytes)
        ))
    };
    let entries: String = state.objects.iter().filter_map(entry).collect();
    (
        200,
        String::new(),
        format!("<ListBucketResult><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>").into(),
    )
}
