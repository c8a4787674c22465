//! Answers in a directory or a bucket that tasks on several machines share (`--answers`), as immutable parts.
//!
//! `DIR/SHARD-CONTENT/` has the parts of one job: SHARD is `3-of-8`, or `whole`. A part appears by a rename, or by one request
//! to the store, when it is complete, and never changes. Its name holds host, process, boot and a random number, so that any number of writers
//! never meet. A task that finds a part takes its answers instead of paying for them.
//! `owner-SERVICE` beside the parts names the task that sends the rest; copies of it wait ([`claim`]).

mod cell;
mod claim;
mod dir;
mod part;
mod sealer;

use serde::{Deserialize, Serialize};

pub use claim::{ClaimOwner, ClaimSeat, TaskClaim};
pub use dir::{AnswersDir, PartPlace};
pub use part::{PartRead, SealedAnswer, VerifiedPart, read_part};
pub use sealer::Sealer;

/// The job whose answers a part holds: its requests, whatever machine works on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobMark {
    /// The service, in one spelling.
    pub service: String,
    /// Its shard, such as `3/8`. `None`: the whole input.
    pub shard: Option<String>,
    /// The key of its requests. It differs for another shard.
    pub content: String,
}
