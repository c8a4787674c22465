//! A Together-compatible server on loopback, for tests and rehearsals.
//!
//! It was written from what is publicly known of the service, not from our client, and it imports nothing of ours: a
//! mistake has to be made twice to go unseen. Answers depend on the request alone. Faults are scripted ([`Fault`]),
//! rates are really limited, and every answer that was generated is billed ([`Snapshot`]), delivered or not.
//!
//! ```text
//! app        routes, key, body, counters       listener  sockets that can be reset
//! config     how it behaves, also as text      audit     what was made and paid, for tests
//! chat       inference                         reply     answers that can break on the way
//! request    what is read of a body (by json)  answers   what comes back (schema: as JSON)
//! faults     what goes wrong (script: as text) inject    for which request, and how
//! limits     token buckets                     stats     counts and the bill
//! files      uploads, file objects             storage   their bytes, on an origin of its own
//! batches    jobs: the routes                  lifecycle, intake, produce: states by the clock, inputs, results
//! state      one small file per object, for any number of sandboxes on one directory (tidy: what must not stay)
//! ```

mod answers;
mod app;
mod audit;
mod batches;
mod chat;
mod config;
mod errors;
mod faults;
mod files;
mod forms;
mod inject;
mod intake;
mod json;
mod lifecycle;
mod limits;
mod listener;
mod models;
mod produce;
mod reply;
mod request;
mod schema;
mod script;
mod state;
mod stats;
mod storage;
mod tidy;

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::serve::Listener as _;
use tokio_util::sync::CancellationToken;

pub use config::{Config, SCRIPT_HELP, fraction};
pub use faults::{Fault, Hint, Kind, Scope, Shape, Times, When};
pub use lifecycle::{BatchConfig, Unset};
pub use limits::HintStyle;
pub use script::{HELP as FAULT_HELP, duration};
pub use stats::{Bill, Snapshot, Stats};

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
/// An address that is not a loopback one, or that cannot be bound; a state directory that cannot be used.
pub fn start(config: Config) -> io::Result<Handle> {
    if !config.listen.ip().is_loopback() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("the sandbox listens on loopback only, not on {}: use 127.0.0.1", config.listen.ip()),
        ));
    }
    let store = state::Store::new(config.state_dir.clone());
    if let Some(dir) = &config.state_dir {
        store.open().map_err(|error| {
            let dir = dir.display();
            io::Error::new(error.kind(), format!("files and batches cannot be kept in {dir}: {error}"))
        })?;
    }
    let stats = Arc::new(Stats::new(config.track));
    let counted = Arc::clone(&stats);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    // The runtime is made, and ends, on its own thread: the caller may be within another one.
    let (ready, is_ready) = mpsc::channel();
    let thread = std::thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return drop(ready.send(Err(error))),
        };
        runtime.block_on(async {
            let listeners =
                bind(config.listen).and_then(|api| Ok((api, bind(SocketAddr::new(config.listen.ip(), 0))?)));
            match listeners {
                Ok(((address, api), (storage_address, storage))) => {
                    let app = Arc::new(app::App::new(config, counted, store, format!("http://{storage_address}")));
                    drop(ready.send(Ok(address)));
                    serve(app, api, storage, stopped).await;
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        // Requests that hang must not keep the thread; their connections end here.
        runtime.shutdown_timeout(Duration::from_secs(1));
    })?;
    let address = is_ready.recv().map_err(io::Error::other)??;
    Ok(Handle { url: format!("http://{address}/v1"), stats, stop, thread: Some(thread) })
}

fn bind(address: SocketAddr) -> io::Result<(SocketAddr, listener::Accept)> {
    let accept = listener::Accept::bind(address).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot listen on {address}: {error}; port 0 takes a free one"))
    })?;
    Ok((accept.local_addr()?, accept))
}

async fn serve(app: Arc<app::App>, api: listener::Accept, storage: listener::Accept, stopped: CancellationToken) {
    let api_routes = app::router(Arc::clone(&app)).into_make_service_with_connect_info::<listener::Conn>();
    let storage_routes = app::storage_router(app).into_make_service_with_connect_info::<listener::Conn>();
    tokio::select! {
        // They end only when they are stopped.
        _ = axum::serve(api, api_routes) => {}
        _ = axum::serve(storage, storage_routes) => {}
        () = stopped.cancelled() => {}
    }
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
