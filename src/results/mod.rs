//! Result lines, and where they go.

mod columns;
mod csv;
mod cursor;
mod delivery;
mod flat;
mod format;
mod jsonl;
mod ordered;
mod summary_file;

pub use cursor::Cursor;
pub use delivery::{Delivery, Outputs};
pub use format::{Field, Format, Options, Renderer};
pub use ordered::{Ordered, ReadBack};
pub use summary_file::write_summary;
