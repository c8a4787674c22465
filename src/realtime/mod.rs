//! The realtime transport: bounded requests in flight under the limiter. Each row is answered or fails exactly once.
//!
//! [`run`] takes rows from one channel and emits [`Event`]s to another. It reads and writes no files. A row's retries happen
//! inside its own task. Only acknowledgements flow back: claims that are on disk, answers that are committed, money that was
//! drawn.
//!
//! A [`Dispatcher`](dispatch::Dispatcher) starts a [`RowTask`](row::RowTask) for each row. The tasks share an [`Engine`]:
//! [`Gate`](gate::Gate) (permits, claims, the limiter), [`Health`](health::Health) (reasons to give up),
//! [`Parked`](parked::Parked) (rows held back meanwhile), [`Wallet`](wallet::Wallet) (money) and
//! [`Upstreams`](upstreams::Upstreams) (the base URLs).

mod attempt;
mod breaker;
mod budget;
pub(crate) mod claims;
mod concurrency;
mod decision;
mod dispatch;
mod engine;
mod file_memory;
mod funds;
mod gate;
mod health;
pub mod limiter;
mod models;
pub mod pace;
mod packed;
mod parked;
pub mod peers;
mod produce;
mod quota;
mod row;
mod shared;
mod uploaded;
mod upstreams;
mod waits;
mod wallet;
mod web_pages;

use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use crate::api::StreamPatience;
use crate::deadline::Deadline;
use crate::error::{Error, Result};
use crate::outcome::{Follower, Outcome};
use crate::price::PriceTable;
use crate::request::{Endpoint, OutRequest, TokenGrowth};
use crate::rules::AnswerRules;
pub use budget::{Budget, MaxCost};
pub use claims::Claim;
use engine::Engine;
pub use funds::Need;
use limiter::RateOptions;
use peers::Peers;
pub use shared::{Gauges, Paused, Shared};
pub use upstreams::{LeftOutUrl, Upstream};

/// Most requests in flight with `--concurrency auto`: what they bring, and the pace, decide their actual number.
pub const AUTO_CONCURRENCY: usize = 1024;
/// Most requests in flight for each base URL, while nothing is refused. Once it is, the rate is the limit.
pub const MOST_PER_URL: usize = 256;

/// The user's wishes about speed and patience.
#[derive(Debug, Clone)]
pub struct SpeedOptions {
    /// Requests in flight.
    pub concurrency: usize,
    /// Rows that share a request, where their bodies allow it. 1: each row has its own.
    pub pack: usize,
    /// The user set no concurrency: it is searched for.
    pub auto: bool,
    /// Limits.
    pub rates: RateOptions,
    /// Failures after which a row is still sent again.
    pub retries: u32,
    /// Answers that break a rule, after which a row is still sent again.
    pub rechecks: u32,
    /// Rows arrive ordered by their prompts, not by their numbers.
    pub by_prefix: bool,
    /// The growth of `max_tokens` where an answer was cut off. `None`: such a row is not sent again for it.
    pub growth: Option<TokenGrowth>,
    /// Time for one request, from connect to the last byte.
    pub request_timeout: Duration,
    /// Answers are asked for as streams. `None`: they are asked for whole.
    pub stream: Option<StreamPatience>,
    /// No request starts after this.
    pub deadline: Option<Deadline>,
    /// After a first signal, requests in flight may take this long to finish: they are paid for.
    pub grace: Duration,
    /// Stop when nothing at all has succeeded for this long.
    pub give_up_after: Duration,
}

impl SpeedOptions {
    /// Refuses options that the endpoint does not have.
    ///
    /// # Errors
    /// 2 for packs of requests that cannot be packed, and for streams of what does not come in pieces.
    pub fn suit(&self, endpoint: Endpoint) -> Result<()> {
        if self.pack > 1 && endpoint != Endpoint::Embeddings {
            return Err(Error::usage(format!(
                "--pack {}: only embeddings of several rows fit into a request",
                self.pack
            ))
            .hint(format!("leave --pack out; --endpoint {endpoint} sends each row by itself")));
        }
        if self.rechecks > 0 && !endpoint.gives_texts() {
            return Err(Error::usage(format!("--recheck: no rule applies to answers of --endpoint {endpoint}"))
                .hint("leave --recheck out; --retries resends failed rows"));
        }
        if self.stream.is_some() && (endpoint.makes_files() || endpoint.is_audio()) {
            return Err(Error::usage(format!("--stream: answers of --endpoint {endpoint} come whole"))
                .hint("leave --stream out; --request-timeout bounds the time of a request"));
        }
        Ok(())
    }
}

/// Options of one run.
#[derive(Debug, Clone)]
pub struct SendOptions {
    /// Speed and patience.
    pub speed: SpeedOptions,
    /// The last row. No row behind it is claimed.
    pub last_row: u64,
    /// Every commit of the job's database waits for the disk.
    pub synced_commits: bool,
    /// Earlier runs of this job were answered, so the key is good.
    pub answered_before: bool,
    /// Money that may be spent.
    pub budget: Option<Budget>,
    /// Facts of the models, for the tokens of their images.
    pub table: PriceTable,
    /// Other processes with the same key and service.
    pub peers: Option<Peers>,
    /// Equal beginnings of prompts go to one base URL.
    pub affinity: bool,
    /// The rules that answers must pass.
    pub rules: Arc<AnswerRules>,
    /// The endpoint that answers.
    pub endpoint: Endpoint,
}

/// A row on its way in.
#[derive(Debug)]
pub enum QueuedRow {
    /// A request to send, of one row or of several.
    Send {
        /// The request.
        request: OutRequest,
        /// Its place in the order of sending; the number of its last row if that is the order.
        turn: u64,
    },
    /// A row that has its outcome without a request: it cannot be sent, or an earlier job has the answer.
    Settled(Box<Outcome>),
    /// A row that gets the outcome of an earlier one.
    Follow(Box<Follower>),
}

impl QueuedRow {
    /// The bytes that it is going to send.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Send { request, .. } => request.bytes(),
            Self::Settled(_) | Self::Follow(_) => 0,
        }
    }
}

/// Events, in the order in which they happen.
#[derive(Debug)]
pub enum Event {
    /// A row is finished.
    ///
    /// While its permit lives, nothing else is sent in its place: drop it when the outcome is committed. A kill before that
    /// loses the answer, and the row is paid for again. So a kill loses no more answers than there are permits. The rows of
    /// a pack have one permit, which comes with the last of them.
    Outcome(Box<Outcome>, Option<OwnedSemaphorePermit>),
    /// A row gets the outcome of an earlier one. It comes before the claim of any later row, unless a claim names its rows.
    Follow(Box<Follower>),
    /// Rows are sent as soon as this claim is committed.
    Claim(Claim),
    /// Rows are sent again as soon as their earlier tries are committed; they may have been billed.
    Tried(Vec<Outcome>, oneshot::Sender<()>),
    /// The run needs more of the budgets that it shares with other processes; the answer is [`Shared::drawn`].
    Draw(Need),
}

/// The reason why a run ended before its last row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The caller cancelled: a signal, or the consumer of the events failed; the last failure, if there is an outage.
    Cancelled(Option<String>),
    /// `--deadline`; the last failure, if there is an outage.
    Deadline(Option<String>),
    /// No connection can be made until the user changes something; the failure and its remedy.
    Setup(String),
    /// The next request could exceed this budget.
    Cost(String),
    /// 401, or a 403 that is not about length.
    Auth(String),
    /// 402.
    Payment(String),
    /// Nothing succeeded for `--give-up-after`; the last failure.
    GaveUp(String),
    /// No request can be sent in the time that is left.
    WaitTooLong {
        /// The wait.
        wait: Duration,
        /// The deadline comes first, not the end of `--give-up-after`.
        deadline: bool,
        /// The last failure.
        failure: String,
    },
    /// Web pages came instead of answers, again and again; their text.
    Pages(String),
}

/// Sends every row that arrives to one of `urls`. Returns when all are finished, or the reason why it stopped before.
///
/// Runs on the current thread. Rows arrive in the order of their turns.
pub async fn run(
    urls: Vec<Upstream>,
    options: SendOptions,
    rows: mpsc::Receiver<Vec<QueuedRow>>,
    events: Sender<Event>,
    shared: Arc<Shared>,
) -> Option<Stopped> {
    Rc::new(Engine::new(urls, options, events, shared)).run(rows).await
}
