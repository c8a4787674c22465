//! Inputs and outputs at URLs, against a small store on loopback.

mod input;
mod output;
