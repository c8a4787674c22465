//! Inputs and outputs at URLs, against a small store on loopback.

mod answers;
mod input;
mod output;
