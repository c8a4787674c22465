//! A new database, made in memory and written at once: `SQLite` syncs ten times before a new database holds anything.

use rusqlite::Connection;

use super::{Journaling, Tables};

/// The size of a page. Results are long for the default of 4096 bytes.
pub(super) const PAGE: u32 = 8192;

/// The two bytes of a database's header that say whether it has a log (WAL), and their value then.
const VERSIONS: std::ops::Range<usize> = 18..20;
const WITH_LOG: u8 = 2;

/// The bytes of a database with these tables, and with what `fill` writes into them.
pub(super) fn image(
    tables: Tables,
    journaling: Journaling,
    fill: impl FnOnce(&Connection) -> rusqlite::Result<()>,
) -> rusqlite::Result<Vec<u8>> {
    let mut db = Connection::open_in_memory()?;
    db.pragma_update(None, "page_size", PAGE)?;
    db.execute_batch(tables.schema)?;
    fill(&db)?;
    let mut image = db.serialize("main")?.to_vec();
    if journaling == Journaling::Log {
        image[VERSIONS].fill(WITH_LOG);
    }
    Ok(image)
}
