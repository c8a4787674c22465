//! What the tests share: a hermetic command, servers to talk to, files to make and results to read.

mod command;
mod files;
mod recorder;
mod server;

use std::time::{Duration, Instant};

pub use command::{Home, KEY, Out, Running};
pub use files::{
    MODEL, answered, codes, csv_rows, harmless, ids, lines, paid_hash, prompts, questions, raw_codes, rows,
};
pub use recorder::{Recorder, Request as Recorded};
pub use server::{Answer, Server, get, post, request, try_request};

/// Long enough for a loaded machine; a test that gets here has failed.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}
