//! llbatch as its users meet it: the built binary, its files, its exit codes, against a server on loopback.
//!
//! Every test has a directory, a state directory and a port of its own, so all of them run at once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auto;
mod batch;
mod batch_words;
mod budget;
mod check;
mod cut_short;
mod doctor;
mod faults;
mod help;
mod money;
mod nightly;
mod prepare;
mod report;
mod run;
mod security;
mod serve;
mod status;
mod support;
mod turns;
mod usage;
mod voice;
mod wire;
