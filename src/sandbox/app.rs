//! The state that all handlers share.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::http::{HeaderMap, StatusCode, header};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::SandboxConfig;
use super::errors::ApiError;
use super::injector::Injector;
use super::limiter::KeyLimiter;
use super::lock::lock;
use super::prefix_cache::PrefixCache;
use super::reply::{HttpReply, Refused};
use super::state_dir::{StateDir, new_id};
use super::stats::Stats;
use super::window::WindowLimiter;

/// Everything that a handler needs.
#[derive(Debug)]
pub struct App {
    pub config: SandboxConfig,
    pub stats: Arc<Stats>,
    /// The limit of requests a second, if there is one.
    pub requests: Option<KeyLimiter>,
    /// The limit of requests in a fixed window, if there is one.
    pub window: Option<WindowLimiter>,
    /// The slots that inference requests wait for, if there are any.
    slots: Option<Arc<Semaphore>>,
    /// The limit of tokens a second, if there is one.
    pub tokens: Option<KeyLimiter>,
    /// The beginnings of prompts that came lately, if they are cached.
    pub prefixes: Option<PrefixCache>,
    pub faults: Injector,
    pub store: StateDir,
    /// The origin of the object store, `http://127.0.0.1:PORT`.
    pub storage: String,
    /// An id that tells this server from others on the same state.
    pub instance: String,
    /// The price of everything, in times of the list's.
    price_times: AtomicU64,
    /// The lock for writing results: two requests at once need not both write them.
    finishing: Mutex<()>,
}

impl App {
    /// The state behind the routes.
    pub fn new(config: SandboxConfig, stats: Arc<Stats>, store: StateDir, storage: String) -> Self {
        let requests = config.rps.map(|rate| KeyLimiter::new(rate, config.burst));
        let tokens = config.tokens_per_second.map(|rate| KeyLimiter::new(rate, None));
        let window = config.window.map(WindowLimiter::new);
        let slots = config.slots.map(|slots| Arc::new(Semaphore::new(slots)));
        let prefixes = config.prefix_cache.map(PrefixCache::new);
        let faults = Injector::new(&config.faults, config.seed);
        Self {
            config,
            stats,
            requests,
            window,
            slots,
            tokens,
            prefixes,
            faults,
            store,
            storage,
            instance: new_id(),
            price_times: AtomicU64::new(1),
            finishing: Mutex::default(),
        }
    }

    /// The bearer token, if the sandbox accepts it.
    pub fn key<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let given = bearer(headers)?;
        let good = match &self.config.key {
            Some(key) => given == key,
            None => !given.is_empty() && !given.starts_with("bad-key"),
        };
        good.then_some(given)
    }

    /// Waits for a slot, if there are any, in the order of arrival.
    pub async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.slots.as_ref()?).acquire_owned().await.ok()
    }

    /// The price of everything, in times of the list's.
    pub fn price_times(&self) -> u64 {
        self.price_times.load(Ordering::Relaxed)
    }

    /// Sets the price of everything that is answered or created from now on.
    pub fn set_price_times(&self, times: u64) {
        self.price_times.store(times, Ordering::Relaxed);
    }

    /// Waits until no other request writes results, and keeps others from it.
    pub fn finishing(&self) -> MutexGuard<'_, ()> {
        lock(&self.finishing)
    }

    /// Runs `work` on another thread, since it uses the disk.
    pub async fn blocking<W>(self: &Arc<Self>, work: W) -> HttpReply
    where
        W: FnOnce(&Self) -> Result<HttpReply, Refused> + Send + 'static,
    {
        let app = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || work(&app)).await;
        self.reply_of(done.unwrap_or_else(|panic| Err(io::Error::other(panic).into())))
    }

    /// The reply of work that is done or refused.
    pub fn reply_of(&self, done: Result<HttpReply, Refused>) -> HttpReply {
        match done {
            Ok(reply) => reply,
            Err(Refused::Reply(reply)) => *reply,
            Err(Refused::Disk(error)) => self.broken_disk(&error),
        }
    }

    /// The answer when the sandbox's own disk fails.
    fn broken_disk(&self, error: &io::Error) -> HttpReply {
        let dir = self.config.state_dir.as_ref();
        let place = dir.map_or("a temporary directory".to_owned(), |dir| dir.display().to_string());
        let message = format!("The sandbox cannot use its state in {place}: {error}");
        ApiError::new("server_error", &message).reply(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// The token of an `Authorization: Bearer` header.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
