//! A report's figures, folded from a job's database or from results files, as JSON, text and a page for browsers.
//!
//! Results files are those that llbatch writes, and output and error files as the service makes them.

mod answer;
pub mod details;
mod files;
mod flat;
mod folded;
pub mod html;
mod of_job;
mod row;

pub use files::of_files;
pub use folded::Folded;
pub use of_job::{batch_time, of_job, time_of};
pub use row::ReadRow;
