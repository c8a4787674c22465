//! Results of batches that have ended: downloaded, verified, joined with the rows that were asked, written into the store.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::Work;
use crate::batch::join::{Ending, Expected, Files, Findings, Report, Side, join};
use crate::error::Result;
use crate::store::{BatchJob, Place, Step};
use crate::ui::format;

/// Waits before results that lack rows, or hold lines that are none, are downloaded once more.
const AGAIN: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

impl Work<'_> {
    /// Takes the results of every batch that has ended into the store.
    ///
    /// # Errors
    /// 75 if the service cannot be reached, 74 if the disk refuses.
    pub fn collect(&mut self) -> Result<()> {
        let ready: Vec<BatchJob> =
            self.courier.db.borrow().batches()?.into_iter().filter(|batch| batch.ended && batch.is_open()).collect();
        for batch in ready {
            self.collect_one(batch)?;
            self.tell_ledger(true)?;
        }
        self.tell_ledger(false)?;
        Ok(())
    }

    fn collect_one(&self, mut batch: BatchJob) -> Result<()> {
        let mut report = self.join(&batch, false)?;
        // What a service has not written yet, or a proxy has cut, may come with the next download.
        let mut seen = self.content(&batch);
        for wait in AGAIN {
            let done = batch.status.as_deref() == Some("COMPLETED") && batch.output_file_id.is_some();
            let lacks = report.findings.garbled > 0 || report.findings.torn || (done && report.findings.missing > 0);
            if !lacks {
                break;
            }
            self.ctx.ui.detail(&format!("batch {}: downloading its results once more", batch.number));
            self.block_on(self.courier.pause(wait))?;
            report = self.join(&batch, true)?;
            let now = self.content(&batch);
            // The same bytes again: they will not change.
            if now == seen {
                break;
            }
            seen = now;
        }
        self.say(&batch, &report.findings);
        batch.broken = report.findings.broken_contract().then(|| words(&report.findings));
        batch.step = Step::Settled;
        let mut db = self.courier.db.borrow_mut();
        for joined in &report.joined {
            let place = joined.place.map(|p| Place { errors: p.side == Side::Errors, at: p.at, len: p.len });
            db.put_joined(&joined.outcome, place)?;
        }
        db.put_batch(&batch)?;
        db.commit(true)
    }

    fn join(&self, batch: &BatchJob, anew: bool) -> Result<Report> {
        let (output, errors) = self.block_on(self.courier.download(batch, anew))?;
        let model: Arc<str> = Arc::from(batch.model.as_str());
        let expected = self
            .courier
            .db
            .borrow()
            .asked(batch.number)?
            .into_iter()
            .map(|asked| Expected {
                row: asked.row,
                id: asked.id,
                wire: asked.wire,
                fingerprint: asked.fingerprint,
                model: Arc::clone(&model),
                reserve: asked.reserve,
            })
            .collect();
        let status = match batch.step {
            Step::Refused if batch.status.is_none() => "REFUSED",
            _ => batch.status.as_deref().unwrap_or("FAILED"),
        };
        let ending = Ending { status, error: batch.error.as_deref(), batch: batch.number };
        join(expected, &Files { output: output.as_deref(), errors: errors.as_deref() }, &ending)
    }

    /// What was downloaded, told apart.
    fn content(&self, batch: &BatchJob) -> Vec<Option<blake3::Hash>> {
        use crate::store::batches::{answers_name, failures_name};
        let hash = |path: &Path| {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(std::fs::File::open(path).ok()?).ok()?;
            Some(hasher.finalize())
        };
        [answers_name(batch.number), failures_name(batch.number)]
            .iter()
            .map(|name| hash(&self.courier.dir.join(name)))
            .collect()
    }

    fn say(&self, batch: &BatchJob, findings: &Findings) {
        let ui = &self.ctx.ui;
        let name = format!("batch {} ({})", batch.number, batch.id.as_deref().unwrap_or("never created"));
        if findings.broken_contract() {
            ui.warn(&format!("{name}: {}", words(findings)));
        }
        if findings.duplicates > 0 {
            let lines = format::plural(findings.duplicates, "line");
            ui.detail(&format!("{name}: {lines} came twice, word for word"));
        }
        if findings.answered_and_failed > 0 {
            let rows = format::plural(findings.answered_and_failed, "row");
            ui.warn(&format!("{name}: {rows} both answered and failed; the answers count"));
        }
        if findings.missing > 0 && batch.status.as_deref() == Some("COMPLETED") {
            let rows = format::plural(findings.missing, "row");
            ui.warn(&format!("{name}: {rows} without any result; `llbatch retry` sends them again"));
        }
    }
}

/// What is wrong with a batch's results.
fn words(findings: &Findings) -> String {
    let mut parts = Vec::new();
    let mut part = |n: u64, what: &str| {
        if n > 0 {
            parts.push(format!("{} {what}", format::count(n)));
        }
    };
    part(findings.foreign, "results for rows that were never asked");
    part(findings.conflicts, "rows with two different answers (the first counts)");
    part(findings.garbled, "lines that are no results");
    let examples = findings.examples.join("; ");
    format!("the service broke its contract: {}: {examples}", parts.join(", "))
}
