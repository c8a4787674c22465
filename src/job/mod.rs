//! A job from its inputs to its summary.

pub mod ask;
pub mod batch;
pub mod claim;
pub mod consumer;
pub mod finish;
pub mod prepare;
mod reader;
pub mod resume;
pub mod run;
mod signals;
pub mod spec;

pub use signals::outlive_file_limit;
