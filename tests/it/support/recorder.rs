//! A small server that keeps every byte it receives, and answers as the test says.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// One recorded request.
#[derive(Clone)]
pub struct Request {
    /// First line and headers.
    pub head: String,
    /// The body, byte for byte.
    pub body: String,
}

/// A listener that lives as long as the test's process.
pub struct Recorder {
    /// Base URL.
    pub url: String,
    seen: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    bytes: Arc<AtomicUsize>,
}

/// Makes the status line's rest, extra headers (each with its line end) and the body of an answer.
pub type Reply = dyn Fn(&Request) -> (&'static str, String, String) + Send + Sync;

impl Recorder {
    /// Answers everything with a short chat completion.
    pub fn start() -> Self {
        Self::answering(|_| ("200 OK", String::new(), Self::chat("\"ok\"")))
    }

    /// Answers with what `reply` makes of a request.
    pub fn answering(reply: impl Fn(&Request) -> (&'static str, String, String) + Send + Sync + 'static) -> Self {
        Self::over("http", Some, reply)
    }

    /// The same over connections that `wrap` makes of plain ones, `None` if it cannot.
    pub fn over<S: Read + Write>(
        scheme: &str,
        wrap: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        reply: impl Fn(&Request) -> (&'static str, String, String) + Send + Sync + 'static,
    ) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").unwrap(), scheme, wrap, reply)
    }

    /// Answers everything with a short chat completion, at an address of this machine that is not loopback. `None`: it cannot
    /// listen there.
    pub fn at(address: IpAddr) -> Option<Self> {
        let reply = |_: &Request| ("200 OK", String::new(), Self::chat("\"ok\""));
        TcpListener::bind((address, 0)).ok().map(|listener| Self::on(listener, "http", Some, reply))
    }

    fn on<S: Read + Write>(
        listener: TcpListener,
        scheme: &str,
        wrap: impl Fn(TcpStream) -> Option<S> + Send + Sync + 'static,
        reply: impl Fn(&Request) -> (&'static str, String, String) + Send + Sync + 'static,
    ) -> Self {
        let url = format!("{scheme}://{}/v1", listener.local_addr().unwrap());
        let recorder = Self { url, seen: Arc::default(), connections: Arc::default(), bytes: Arc::default() };
        let (kept, bytes, count) =
            (Arc::clone(&recorder.seen), Arc::clone(&recorder.bytes), Arc::clone(&recorder.connections));
        let (wrap, reply) = (Arc::new(wrap), Arc::new(reply));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                let (kept, bytes) = (Arc::clone(&kept), Arc::clone(&bytes));
                let (wrap, reply) = (Arc::clone(&wrap), Arc::clone(&reply));
                std::thread::spawn(move || serve(Counted { inner: wrap(stream)?, bytes }, &kept, &*reply));
            }
        });
        recorder
    }

    /// `HOST:PORT`
    pub fn address(&self) -> &str {
        self.url.split("://").nth(1).unwrap().trim_end_matches("/v1")
    }

    /// Connections that were made.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Bytes of requests that came, whole or not.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::SeqCst)
    }

    /// A chat completion with this content, given as JSON; 1,000 prompt and 10 completion tokens.
    pub fn chat(content: &str) -> String {
        format!(
            r#"{{"id":"x","object":"chat.completion","choices":[{{"index":0,"message":{{"role":"assistant","content":{content}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":1000,"completion_tokens":10,"total_tokens":1010}}}}"#
        )
    }

    /// Everything recorded so far.
    pub fn requests(&self) -> Vec<Request> {
        self.seen.lock().unwrap().clone()
    }

    /// The number of requests that began with this method and path.
    pub fn count(&self, start: &str) -> usize {
        self.requests().iter().filter(|request| request.head.starts_with(start)).count()
    }

    /// The bodies recorded so far.
    pub fn bodies(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.body).collect()
    }
}

/// Counts what is read.
struct Counted<S> {
    inner: S,
    bytes: Arc<AtomicUsize>,
}

impl<S: Read> Read for Counted<S> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buf)?;
        self.bytes.fetch_add(count, Ordering::SeqCst);
        Ok(count)
    }
}

fn serve<S: Read + Write>(stream: Counted<S>, kept: &Mutex<Vec<Request>>, reply: &Reply) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            head.push_str(&line);
        }
        let length = head.lines().filter_map(|line| line.split_once(": ")).find_map(|(name, value)| {
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
        });
        // A GET says nothing of a body.
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let request = Request { head, body: String::from_utf8(body).unwrap() };
        let (status, headers, answer) = reply(&request);
        kept.lock().unwrap().push(request);
        let length = answer.len();
        let kind = if headers.to_ascii_lowercase().contains("content-type") {
            ""
        } else {
            "content-type: application/json\r\n"
        };
        let stream = &mut reader.get_mut().inner;
        let text = format!("HTTP/1.1 {status}\r\n{kind}{headers}content-length: {length}\r\n\r\n{answer}");
        stream.write_all(text.as_bytes()).and_then(|()| stream.flush()).ok()?;
    }
}
