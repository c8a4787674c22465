//! A job from its inputs to its summary.

pub mod ask;
pub mod batch;
pub mod clean;
mod consumer;
mod drive;
mod earlier_answers;
mod entry;
mod fan_out;
pub mod finish;
mod found_repeats;
mod funds;
mod identity;
pub mod jobs_service;
mod judge;
mod known_fingerprints;
mod lost;
pub mod merge;
pub mod orphans;
pub mod own;
pub mod prepare;
mod reader;
pub mod remote;
pub mod report;
mod rest;
pub mod resume;
pub mod run;
mod run_end;
mod run_start;
mod screen;
mod signals;
pub mod spec;
mod stop;
mod tally;
pub mod verdict;

pub use signals::outlive_file_limit;
