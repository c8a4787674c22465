//! A server on loopback for tests and trials, compatible with Together or, with its dialect, `OpenAI`.
//!
//! It was written from public knowledge of the service, not from our client, and it imports nothing of ours. A mistake
//! must be made twice to go unseen. An answer depends on the request alone. Faults are scripted ([`ScriptedFault`]),
//! rates are really limited, and every answer that was generated is billed, even if the client never got it.
//!
//! ```text
//! listener     sockets that can be reset          routes       the table of routes
//! app          the state behind the routes        call         a request: counted, its fault, its key
//! body, forms  request bodies                     reply        answers (script_body: slow or broken ones)
//! config       the behaviour, also as text        audit        counters and payments, for tests (stats)
//! dialect      the form of the API                openai       batches in OpenAI's form
//! infer        inference                          limiter      token buckets (hint: when to retry), window
//! request      the members of a body (json)       answers      its answer (schema: as JSON), models
//! bodies       an answer at once                  chunks       the events of a stream (event_stream: on their way)
//! faults       what can go wrong (script: as text) injector    for which request; spoil: as a response
//! stream_shape how a stream comes                 token_text   tokens of a text (logprobs)
//! openai_errors  refusals as OpenAI's             request_limits limits and their headers
//! answer_options the form of an answer              tools        calls of tools
//! files        uploads, file objects              storage      their bytes, on an origin of its own
//! batches      the routes of jobs                 batch        a job by the clock; intake: input; results: output
//! state_dir    one small file per object, for any number of sandboxes on one directory (sweep: removal)
//! ```

mod answer_options;
mod answers;
mod app;
mod audit;
mod batch;
mod batch_config;
mod batches;
mod bodies;
mod body;
mod cache;
mod call;
mod chunks;
mod config;
mod dialect;
mod dice;
mod errors;
mod event_stream;
mod faults;
mod file_record;
mod files;
mod forms;
mod hint;
mod infer;
mod injector;
mod intake;
mod json;
mod limiter;
mod listener;
mod lock;
mod logprobs;
mod media;
mod models;
mod openai;
mod openai_errors;
mod prefix_cache;
mod recordings;
mod reply;
mod request;
mod request_limits;
mod rerank;
mod results;
mod routes;
mod schema;
mod script;
mod script_body;
mod spoil;
mod state_dir;
mod stats;
mod storage;
mod stream_shape;
mod sweep;
mod token_text;
mod tools;
mod units;
mod window;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::serve::Listener as _;
use tokio_util::sync::CancellationToken;

use app::App;
pub use batch_config::{BatchConfig, Unset};
pub use cache::CachedTokens;
pub use config::{Downloads, SCRIPT_HELP, SandboxConfig, whole};
pub use dialect::ServedDialect;
pub use faults::ScriptedFault;
pub use hint::HintStyle;
use listener::{Accept, Conn};
pub use script::HELP as FAULT_HELP;
use state_dir::StateDir;
use stats::{Stats, StatsSnapshot};
pub use units::{duration, fraction};
pub use window::FixedWindow;

/// A running server. It stops when this is dropped.
#[derive(Debug)]
pub struct Sandbox {
    /// The base URL for a client, `http://127.0.0.1:PORT/v1`.
    pub url: String,
    stats: Arc<Stats>,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

/// Starts a server on its own thread. It accepts connections when this returns.
///
/// # Errors
/// The address is not a loopback one or cannot be bound, or the state directory cannot be used.
pub fn start(config: SandboxConfig) -> io::Result<Sandbox> {
    if !config.listen.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the sandbox listens on loopback only, not on {}: use 127.0.0.1", config.listen.ip()),
        ));
    }
    let store = StateDir::new(config.state_dir.clone());
    if let Some(dir) = &config.state_dir {
        store.open().map_err(|error| {
            let dir = dir.display();
            io::Error::new(error.kind(), format!("files and batches cannot be kept in {dir}: {error}"))
        })?;
    }
    let stats = Arc::new(Stats::new(config.track));
    let stop = CancellationToken::new();
    // The runtime starts and ends on its own thread, since the caller may be within another runtime.
    let (ready, is_ready) = mpsc::channel();
    let (counted, stopped) = (Arc::clone(&stats), stop.clone());
    let thread = std::thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            match Sockets::bind(config.listen) {
                Ok(sockets) => {
                    let _ = ready.send(sockets.api.local_addr());
                    sockets.serve(config, counted, store, stopped).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        // Requests that hang must not keep the thread; their connections end here.
        runtime.shutdown_timeout(Duration::from_secs(1));
    })?;
    let address = is_ready.recv().map_err(io::Error::other)??;
    Ok(Sandbox { url: format!("http://{address}/v1"), stats, stop, thread: Some(thread) })
}

/// The sockets of a server.
struct Sockets {
    api: Accept,
    storage: Accept,
    /// The origin of the object store.
    storage_url: String,
}

impl Sockets {
    fn bind(listen: SocketAddr) -> io::Result<Self> {
        let bind = |address: SocketAddr| {
            Accept::bind(address).map_err(|error| {
                let message = format!("cannot listen on {address}: {error}; port 0 picks a free one");
                io::Error::new(error.kind(), message)
            })
        };
        let api = bind(listen)?;
        let storage = bind(SocketAddr::new(listen.ip(), 0))?;
        let storage_url = format!("http://{}", storage.local_addr()?);
        Ok(Self { api, storage, storage_url })
    }

    /// Serves until `stopped`.
    async fn serve(self, config: SandboxConfig, stats: Arc<Stats>, store: StateDir, stopped: CancellationToken) {
        let app = Arc::new(App::new(config, stats, store, self.storage_url));
        let service = |routes: Router| routes.into_make_service_with_connect_info::<Conn>();
        tokio::select! {
            // They end only when they are stopped.
            _ = axum::serve(self.api, service(routes::router(Arc::clone(&app)))) => {}
            _ = axum::serve(self.storage, service(routes::storage_router(app))) => {}
            () = stopped.cancelled() => {}
        }
    }
}

impl Sandbox {
    /// The counters now.
    pub fn stats(&self) -> StatsSnapshot {
        self.stats.snapshot()
    }

    /// A token that stops the server when it is cancelled; for signal handlers beside [`Sandbox::wait`].
    pub fn stopper(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Stops the server and waits for its end. Connections are cut.
    pub fn stop(self) {
        drop(self);
    }

    /// Waits until the server is stopped by its [`Sandbox::stopper`].
    pub fn wait(mut self) {
        self.join();
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic of the server thread has already been shown; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
        self.join();
    }
}

#[cfg(test)]
mod tests;
