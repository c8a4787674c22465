//! The file of `--summary`.

use std::io::Write;

use crate::atomic_file::AtomicFile;
use crate::error::{Error, Result};
use crate::summary::Summary;

/// Writes the summary to its file.
pub fn write_summary(summary: &Summary, mut file: AtomicFile) -> Result<()> {
    let path = file.path().to_owned();
    let failed = |e| Error::io(format!("{}: cannot be written", path.display()), e);
    let text = serde_json::to_string_pretty(summary).map_err(|e| failed(e.into()))?;
    writeln!(file, "{text}").map_err(failed)?;
    file.commit()
}
