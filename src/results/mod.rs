//! Result lines, in input order, and the files that they go to.

mod column_types;
mod columns;
mod csv;
mod delivery;
mod flat;
mod format;
mod jsonl;
mod line_writer;
mod ordered_writer;
mod own_columns;
mod read_blocks;
mod row_reader;
mod summary_file;
mod table_file;
mod target;

pub use columns::RecordColumns;
pub use delivery::{Delivery, Outputs, ResultFiles, SummaryFile};
pub use format::{Field, MoreColumns, Renderer, ResultFormat, ResultOptions};
pub use line_writer::{LineWriter, unsent_cells, unsent_line, write_cells};
pub use ordered_writer::{OrderedWriter, StoredOutcomes, Unanswered};
pub use read_blocks::ReadBlocks;
pub use row_reader::{RowReader, SourceRow};
pub use summary_file::write_summary;
