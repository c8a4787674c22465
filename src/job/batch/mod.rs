//! A batch job from its inputs to its results: submitted, followed, collected, delivered. Each of these can be a command of
//! its own, days apart; what is known lies in the store in between.
//!
//! # How a creation in doubt is settled
//!
//! A batch costs money from its creation on. Before llbatch asks the service to create one, it records that it is about to:
//! the batch is `Creating` on disk. If the reply is lost, the creation is *in doubt* and is not repeated. llbatch looks for
//! the batch in the service's list by its input file, whose name no other batch has. A batch found there is taken. A list
//! that lacks it is believed only if it is whole, shows the other live batches of this account, and enough time has passed by
//! the service's own clock; then the creation is asked for again. Until that is settled, commands end with 75, and every
//! later `submit`, `wait` or `fetch` of the job settles it first.

mod admit;
pub mod adopt;
mod ahead;
pub mod ask;
pub mod cancel;
mod collect;
pub mod deliver;
pub mod follow;
mod lock;
mod network;
mod notes;
mod other_jobs;
mod plan;
mod prepared;
pub mod rescue;
pub mod retry;
mod runtime;
pub mod session;
pub mod status;
pub mod submit;
mod submitted;

use std::time::Duration;

pub use runtime::runtime;
pub use session::same_service;

/// How long a command waits for failures that may pass before it gives the terminal back.
pub const RETRY_FOR: Duration = Duration::from_secs(45);
