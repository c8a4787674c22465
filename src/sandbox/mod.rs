//! A Together-compatible server on loopback, for tests and rehearsals.
//!
//! It was written from what is publicly known of the service, not from our client, and it imports nothing of ours: a
//! mistake has to be made twice to go unseen. Answers depend on the request alone. Faults are scripted ([`Fault`]),
//! rates are really limited, and every answer that was generated is billed ([`Snapshot`]), delivered or not.
//!
//! ```text
//! listener   sockets that can be reset        app      routes, key, body, counters
//! faults     what goes wrong (script: as text) inject   … for which request, and how
//! request    what is read of a body           answers  … and what comes back
//! limits     token buckets                    stats    counts and the bill
//! ```

mod answers;
mod app;
mod chat;
mod errors;
mod faults;
mod inject;
mod limits;
mod listener;
mod models;
mod reply;
mod request;
mod schema;
mod script;
mod stats;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use faults::{Fault, Hint, Kind, Scope, Shape, Times, When};
pub use limits::HintStyle;
pub use script::{HELP as FAULT_HELP, duration};
pub use stats::{Bill, Snapshot, Stats};

/// How the server behaves.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The only key that is taken. None: any bearer token but one that begins with `bad-key`.
    pub key: Option<String>,
    /// Time from a request's arrival to its answer.
    pub latency: Duration,
    /// Fraction by which the latency varies in either direction, from 0 to 1.
    pub latency_jitter: f64,
    /// Requests a second and key; none: no limit.
    pub rps: Option<f64>,
    /// Requests that may come at once; none: one second's worth, at least one.
    pub burst: Option<f64>,
    /// Tokens a second and key; none: no limit.
    pub tokens_per_second: Option<f64>,
    /// Inference requests worked on at once; one more is answered 503. None: no limit.
    pub capacity: Option<u64>,
    /// Whether every answer carries the `X-Ratelimit-*` headers.
    pub rate_headers: bool,
    /// How a 429 of the rate limit says when to come back.
    pub retry_after: HintStyle,
    /// Whether answers are compressed for clients that take gzip.
    pub gzip: bool,
    /// Scripted faults; the first that strikes counts.
    pub faults: Vec<Fault>,
    /// Where chance starts from.
    pub seed: u64,
    /// Whether payments are counted per prompt.
    pub track: bool,
    /// The largest inference body, in bytes.
    pub max_body: usize,
    /// Where files and batches are kept; none: a temporary directory that goes with the server.
    pub state_dir: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            key: None,
            latency: Duration::ZERO,
            latency_jitter: 0.0,
            rps: None,
            burst: None,
            tokens_per_second: None,
            capacity: None,
            rate_headers: false,
            retry_after: HintStyle::Seconds,
            gzip: false,
            faults: Vec::new(),
            seed: 0,
            track: false,
            // Far above any prompt, images included; it keeps a mistake from filling the memory.
            max_body: 64 << 20,
            state_dir: None,
        }
    }
}

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct Handle {
    /// The base URL for a client, `http://127.0.0.1:PORT/v1`.
    pub url: String,
    stats: Arc<Stats>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Starts a server on its own thread; it takes connections when this returns.
///
/// # Errors
/// An address that is not a loopback one, or that cannot be bound.
pub fn start(config: Config) -> io::Result<Handle> {
    if !config.listen.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the sandbox listens on loopback only, not on {}: use 127.0.0.1", config.listen.ip()),
        ));
    }
    let listener = TcpListener::bind(config.listen)?;
    listener.set_nonblocking(true)?;
    let url = format!("http://{}/v1", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listener = {
        let _inside = runtime.enter();
        listener::Accept(tokio::net::TcpListener::from_std(listener)?)
    };
    let stats = Arc::new(Stats::new(config.track));
    let router = app::router(Arc::new(app::App::new(config, Arc::clone(&stats))));
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let thread = std::thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
        runtime.block_on(async {
            let service = router.into_make_service_with_connect_info::<listener::Conn>();
            tokio::select! {
                // It ends only when it is stopped.
                _ = axum::serve(listener, service) => {}
                () = stopped.cancelled() => {}
            }
        });
        // Requests that hang must not keep the thread; their connections end here.
        runtime.shutdown_timeout(Duration::from_secs(1));
    })?;
    Ok(Handle { url, stats, stop, thread: Some(thread) })
}

impl Handle {
    /// What the server has seen so far.
    pub fn stats(&self) -> Snapshot {
        self.stats.snapshot()
    }

    /// Cancelling this stops the server; for signal handlers beside [`Handle::wait`].
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops the server and waits for its end. Connections are cut.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits until the server is stopped by its [`Handle::stopper`].
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread has already been shown; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
