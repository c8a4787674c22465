//! A server that does everything wrong that a network can do wrong, on plain TCP: no HTTP library softens it.
//!
//! It answers chat completions itself, with the hash of the prompt, or stands before another server and spoils that
//! server's answers. A prompt is **paid** once its request has arrived whole and an answer was made, whatever becomes of
//! the answer. The counters therefore show a double payment, and the text of an answer shows whose it is.
//!
//! ```text
//! mod     connections and counters             wire    requests read to the last byte but one, answers spoiled
//! kinds   the kinds of fault, also as text     answer  the source of right answers
//! ```

mod answer;
mod kinds;
mod wire;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

pub use answer::{Source, paid_hash};
pub use kinds::{Canned, Fault};

/// A request, for the script that decides its fault.
pub struct Asked<'a> {
    /// The number of the request, from 1.
    pub number: u64,
    /// The number of the request among those with this prompt (or this method and path, without a prompt), from 1.
    pub time: u64,
    /// Method and path.
    pub line: &'a str,
    /// The last message; empty if it is no chat completion.
    pub prompt: &'a str,
}

type Script = dyn Fn(&Asked<'_>) -> Fault + Send + Sync;

/// The counters so far.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Requests that arrived.
    pub requests: u64,
    /// Payments of each prompt, by [`paid_hash`].
    pub paid: BTreeMap<String, u64>,
    /// Uses of each fault.
    pub faults: BTreeMap<String, u64>,
    /// Requests of each prompt, or of each method and path.
    asked: BTreeMap<String, u64>,
}

/// The server; its threads live as long as the process.
pub struct FaultServer {
    /// Base URL.
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    address: SocketAddr,
    source: Source,
    script: Box<Script>,
    counts: Mutex<Counts>,
    /// Connections, to be cut when the server goes away for a while.
    open: Mutex<Vec<TcpStream>>,
    /// The length of the outage that a fault has asked for.
    away: Mutex<Option<Duration>>,
}

/// An address that no other server gets, so that a server can restart on it: all of 127/8 is loopback.
pub fn own_address() -> String {
    let part = || fastrand::u8(1..=254);
    format!("127.{}.{}.{}:0", part(), part(), part())
}

impl FaultServer {
    /// Answers chat completions, each as `script` says.
    pub fn start(script: impl Fn(&Asked<'_>) -> Fault + Send + Sync + 'static) -> Self {
        Self::serving(&own_address(), Source::Oracle, script).unwrap()
    }

    /// Stands before the server at `HOST:PORT`.
    pub fn before(upstream: &str, script: impl Fn(&Asked<'_>) -> Fault + Send + Sync + 'static) -> Self {
        Self::serving(&own_address(), Source::Upstream(upstream.to_owned()), script).unwrap()
    }

    /// The same, listening on `address`.
    pub fn serving(
        address: &str,
        source: Source,
        script: impl Fn(&Asked<'_>) -> Fault + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            address,
            source,
            script: Box::new(script),
            counts: Mutex::default(),
            open: Mutex::default(),
            away: Mutex::default(),
        });
        let inside = Arc::clone(&shared);
        thread::spawn(move || inside.listen(listener));
        Ok(Self { url: format!("http://{address}/v1"), shared })
    }

    /// Accepts connections and reads nothing from them.
    pub fn deaf() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        thread::spawn(move || listener.incoming().collect::<Vec<_>>());
        url
    }

    /// The counters so far.
    pub fn counts(&self) -> Counts {
        self.shared.counts.lock().unwrap().clone()
    }

    /// Payments of `prompt`.
    pub fn paid(&self, prompt: &str) -> u64 {
        self.counts().paid.get(&paid_hash(prompt)).copied().unwrap_or(0)
    }
}

impl Shared {
    fn listen(self: &Arc<Self>, mut listener: TcpListener) {
        loop {
            let Ok((stream, _)) = listener.accept() else { continue };
            let away = self.away.lock().unwrap().take();
            if let Some(away) = away {
                // Without a listener, connections are refused. Open ones are cut.
                drop((stream, listener));
                self.open.lock().unwrap().drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
                thread::sleep(away);
                listener = loop {
                    match TcpListener::bind(self.address) {
                        Ok(listener) => break listener,
                        Err(_) => thread::sleep(Duration::from_millis(5)),
                    }
                };
                continue;
            }
            self.open.lock().unwrap().extend(stream.try_clone());
            let shared = Arc::clone(self);
            // An error means that the client went away, which it may.
            thread::spawn(move || drop(shared.serve(stream)));
        }
    }

    fn serve(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let ended = self.exchanges(&mut stream);
        // The copy in the list would keep the connection open.
        let own = stream.peer_addr();
        self.open.lock().unwrap().retain(|other| other.peer_addr().ok() != own.as_ref().ok().copied());
        ended
    }

    fn exchanges(&self, stream: &mut TcpStream) -> io::Result<()> {
        while let Some(request) = wire::arrived(stream)? {
            if request.line == "GET /faults/stats" {
                wire::finish(stream)?;
                wire::send(stream, &self.stats())?;
                continue;
            }
            let fault = self.decide(&request);
            if let Fault::Away(time) = fault {
                *self.away.lock().unwrap() = Some(time);
                // A connection wakes the listener.
                drop(TcpStream::connect(self.address));
                return Ok(());
            }
            let answer = match &fault {
                Fault::ResetEarly => return Ok(()),
                Fault::Instead(canned) => canned.answer(&request),
                Fault::After(canned) => {
                    self.answer(&request)?;
                    canned.answer(&request)
                }
                _ => self.answer(&request)?,
            };
            if !wire::send_faulty(stream, &answer, &fault)? {
                return Ok(());
            }
        }
        Ok(())
    }

    fn decide(&self, request: &wire::Request) -> Fault {
        let prompt = answer::prompt(request);
        let mut counts = self.counts.lock().unwrap();
        counts.requests += 1;
        let number = counts.requests;
        let line = request.line.clone();
        let time = counts.asked.entry(if prompt.is_empty() { line } else { prompt.clone() }).or_default();
        *time += 1;
        let time = *time;
        drop(counts);
        let fault = (self.script)(&Asked { number, time, line: &request.line, prompt: &prompt });
        if !matches!(fault, Fault::None) {
            *self.counts.lock().unwrap().faults.entry(fault.to_string()).or_default() += 1;
        }
        fault
    }

    fn answer(&self, request: &wire::Request) -> io::Result<wire::Answer> {
        let prompt = answer::prompt(request);
        if !prompt.is_empty() && matches!(self.source, Source::Oracle) {
            *self.counts.lock().unwrap().paid.entry(paid_hash(&prompt)).or_default() += 1;
        }
        self.source.answer(request)
    }

    fn stats(&self) -> wire::Answer {
        let counts = self.counts.lock().unwrap();
        let body = serde_json::json!({"requests": counts.requests, "paid": counts.paid, "faults": counts.faults});
        wire::Answer::json("200 OK", &body.to_string())
    }
}
