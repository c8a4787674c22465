//! Shared helpers: a hermetic command, servers, inputs and readers of results.

mod command;
pub mod fault;
mod files;
mod object_server;
mod recorder;
mod server;

use std::time::{Duration, Instant};

use command::signal;
pub use command::{Home, KEY, Out, Running, unwrapped};
pub use fault::{Asked, Canned, Fault, FaultServer, paid_hash};
pub use files::{
    MODEL, Row, answered, answered_once, codes, csv_rows, harmless, ids, lines, prompts, questions, raw_codes, rows,
};
pub use object_server::{ObjectServer, PutConditions};
pub use recorder::{Recorder, Request as Recorded};
pub use server::{Answer, Server, get, post, request, try_request};

/// Long enough for a loaded machine, and for a client that waits a minute for results which the service does not name; a test
/// that gets here has failed.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Tries all cases at once, each with a server of its own: most of the time is waiting.
pub fn side_by_side<T: Sync>(cases: &[T], act: impl Fn(&T) + Sync) {
    let act = &act;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || act(case));
        }
    });
}

/// Waits until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(3));
    }
}
