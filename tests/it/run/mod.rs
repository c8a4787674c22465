//! `llbatch run`.

mod answers;
mod bytes;
mod checked_answers;
mod crash;
mod dedupe;
mod disk;
mod faults;
mod input;
mod odd_answers;
mod odd_input;
mod outputs;
mod own_fields;
mod packs;
mod pick;
mod prefixes;
mod problems;
mod refusals;
mod rerank;
mod resume;
mod reuse;
mod samples;
mod signals;
mod stops;
mod streams;
mod summary;
mod tables;
