//! The prices at which a job's work was done. A later price changes no past figure.

use rusqlite::Connection;

use crate::error::Result;
use crate::price::PriceTable;
use crate::store::JobDb;

impl JobDb {
    /// Keeps the prices in force. Outcomes that are written from now on were worked on at these.
    pub fn keep_prices(&mut self, prices: &PriceTable) -> Result<()> {
        if self.has_kept(prices) {
            return Ok(());
        }
        let data = prices.to_keep();
        let number = self.prices_in_force() + 1;
        self.begin()?;
        self.run(|db| {
            db.execute("INSERT INTO price (number, data) VALUES (?1, ?2)", (number, &data))?;
            if number > 1 {
                return Ok(());
            }
            // An earlier llbatch kept no prices. Its figures stay at these from now on.
            db.execute_batch(
                "UPDATE outcome SET prices = 1; UPDATE set_aside SET prices = 1; UPDATE retired SET prices = 1;
                 UPDATE tried SET prices = 1;",
            )
        })?;
        self.commit(false)?;
        self.kept_prices.push((number, data));
        Ok(())
    }

    /// Returns whether these prices are those that were kept last.
    pub fn has_kept(&self, prices: &PriceTable) -> bool {
        self.kept_prices.last().is_some_and(|(_, last)| *last == prices.to_keep())
    }

    /// All prices that are kept with the job, by number.
    pub fn kept_prices(&self) -> &[(u32, String)] {
        &self.kept_prices
    }

    /// The number of the prices that were kept last. 0: none were kept.
    pub fn prices_in_force(&self) -> u32 {
        self.kept_prices.last().map_or(0, |(number, _)| *number)
    }
}

/// All prices in the database.
pub(super) fn read(db: &Connection) -> rusqlite::Result<Vec<(u32, String)>> {
    db.prepare("SELECT number, data FROM price ORDER BY number")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect()
}
