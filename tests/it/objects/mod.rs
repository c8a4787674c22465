//! Inputs and outputs at URLs, against a small store on loopback.

mod answers;
mod credentials;
mod input;
mod listing;
mod merge;
mod output;
