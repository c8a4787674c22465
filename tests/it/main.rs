//! The built binary against a server on loopback: its output, its files and its exit codes.
//!
//! Every test has its own directory, state directory and port, so all tests run at once.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod auto;
mod batch;
mod batch_words;
mod budget;
mod check;
mod cut_short;
mod docs;
mod doctor;
mod faults;
mod help;
mod keyless;
mod last_word;
mod lost_state;
mod merge;
mod money;
mod moved;
mod narrow;
mod nightly;
mod objects;
mod other_servers;
mod parquet;
mod prepare;
mod recipes;
mod report;
mod run;
mod scheduler;
mod schemas;
mod security;
mod serve;
mod services;
mod several_urls;
mod shards;
mod status;
mod support;
mod telling;
mod templates;
mod turns;
mod typed_results;
mod untold;
mod usage;
mod voice;
mod wire;
