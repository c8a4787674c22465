//! The pass over all rows before anything is sent: problems, duplicate ids, models, estimates, notices.

mod block;
pub mod calibrate;
pub mod context_length;
pub mod document;
mod duplicates;
pub mod estimate;
mod first_look;
pub mod groups;
mod hash_buckets;
pub mod notices;
mod pass;
pub mod preview;
pub mod problems;
pub mod quote;
pub mod range;
pub mod repeats;
mod request_hashes;
pub mod route;
pub mod scan;
mod unlisted;

pub use block::is_long;
pub use duplicates::IdHashes;
pub use first_look::{first_look, refuse_headers, say_doubts};
pub use pass::{Checked, Pass, repeated_id, says_repeated};
pub use unlisted::unlisted;

#[cfg(test)]
mod tests;
