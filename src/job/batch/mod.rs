//! A batch job from its inputs to its results: submit, follow, collect, deliver. Each step can be a command of its own,
//! days apart. The store keeps the job in between.
//!
//! # How a creation in doubt is settled
//!
//! A batch costs money from its creation on. Before llbatch asks the service to create one, it records that intent: the
//! batch is `Creating` on disk. If the reply is lost, the creation is *in doubt*, and llbatch does not repeat it. It
//! looks for the batch in the service's list: by the label that a batch of `OpenAI`'s form carries, or by its input file, whose
//! name is unique. It adopts a batch that it finds
//! there. A list without the batch counts only if it is complete and shows the other live batches of this account.
//! Enough time must also have passed by the service's own clock. Then llbatch asks for the creation again. Until that
//! is settled, commands end with 75, and every later `submit`, `wait` or `fetch` of the job settles it first.

mod admit;
pub mod adopt;
mod ahead;
pub mod ask;
pub mod cancel;
mod collect;
pub mod deliver;
mod entered;
pub mod follow;
mod late_answers;
mod lock;
mod network;
mod notes;
mod other_jobs;
mod plan;
pub mod rescue;
pub mod retry;
mod runtime;
mod session;
pub mod status;
mod submission;
pub mod submit;
mod submitted;
mod taken_rows;
pub mod unended;
mod verify;

use std::time::Duration;

pub use plan::form_of;
pub use runtime::runtime;

/// The beginning of the key of a job that adopted a batch of another program.
pub(super) const ADOPTED: &str = "adopted-";
/// Time that a command retries transient failures before it returns.
const RETRY_FOR: Duration = Duration::from_secs(45);
