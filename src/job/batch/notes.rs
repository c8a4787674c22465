//! Shows a driver's events to the user.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::api::is_id;
use crate::batch::driver::DriverEvent;
use crate::request::shorten;
use crate::store::JobBatch;
use crate::text;
use crate::ui::{Progress, Ui};

/// Shortest wait for a retry that is worth a message, ...
const WORTH_SAYING: Duration = Duration::from_secs(2);
/// ... and the time until the next such message.
pub(super) const REMIND: Duration = Duration::from_mins(30);

/// Builds the function that shows events to the user.
pub(super) fn notifier<'a>(ui: Ui, progress: Progress) -> Box<dyn Fn(&DriverEvent<'_>) + 'a> {
    let retries = RetryNotes::default();
    Box::new(move |tell| {
        match tell {
        DriverEvent::Uploading { number, bytes } => {
            progress.phase(&format!("uploading batch {number}: {}", text::bytes(*bytes)));
        }
        DriverEvent::Downloading { number, bytes } => {
            progress.phase(&format!("downloading the results of batch {number}: {}", text::bytes(*bytes)));
        }
        DriverEvent::Created { batch, found, warning } => {
            let id = batch.remote.id.as_deref().unwrap_or_default();
            let rows = text::plural(batch.rows, "row");
            let how = if *found { "was created after all" } else { "created" };
            ui.note(&format!("batch {} {how}: {id}, {rows} of {}", batch.number, batch.model));
            if let Some(warning) = warning {
                ui.warn(&format!("batch {}: the service says: {warning}", batch.number));
            }
        }
        DriverEvent::TakenOver(batch) => ui.note(&format!(
            "batch {}: the service already has these rows in batch {} ({}), which no job here knows; llbatch uses it, at no \
             further cost (--again creates another)",
            batch.number,
            batch.remote.id.as_deref().unwrap_or_default(),
            batch.remote.status.as_ref().map_or("?", |status| status.as_str())
        )),
        DriverEvent::Refused(batch) => ui.warn(&format!(
            "batch {} ({} of {}) was refused: {}",
            batch.number,
            text::plural(batch.rows, "row"),
            batch.model,
            batch.remote.error.as_deref().unwrap_or("no reason given")
        )),
        DriverEvent::Postponed { batch, wait } => retries.postponed(batch, *wait, &ui),
        DriverEvent::InDoubt { batch, why } => ui.warn(&format!(
            "batch {}: llbatch does not know whether it was created ({why}) and looks for it (`llbatch help design`)",
            batch.number
        )),
        DriverEvent::Surplus(id) => ui.warn(&format!("batch {id} was created twice; cancelling this copy")),
        DriverEvent::Again { what, failure, wait } => {
            progress.phase(&format!("{what}: trying again in {}", text::duration(*wait)));
            retries.note(&format!("{what}: {failure}; trying again in {}", text::duration(*wait)), *wait, &ui);
        }
        DriverEvent::Gone { number, file, .. } if !is_id(file) => {
            let file = shorten(file);
            ui.warn(&format!(
                "batch {number}: the service names `{file}` as its results file, which is not a valid file id"
            ));
        }
        DriverEvent::Gone { number, file, known } => {
            ui.warn(&format!("batch {number}: the service {known} {file}, a file of its results"));
        }
        DriverEvent::Moved(batch) => ui.note(&state_line(batch)),
        DriverEvent::Progress(before, batch) => {
            // A bar shows every change. In a log, every tenth is enough.
            let tenth = |batch: &JobBatch| batch.remote.progress.map(|p| (p / 10.0) as i64);
            if !ui.draws() && tenth(before) != tenth(batch) {
                ui.note(&state_line(batch));
            }
        }
    }
    })
}

/// Messages about retries, of which the user sees few.
#[derive(Default)]
struct RetryNotes {
    warned_at: Cell<Option<Instant>>,
}

impl RetryNotes {
    /// Warns of a retry after `wait`. Most failures pass soon, and a message per minute of a night is too much.
    fn note(&self, text: &str, wait: Duration, ui: &Ui) {
        let due = self.warned_at.get().is_none_or(|at| at.elapsed() > REMIND);
        if wait >= WORTH_SAYING && due { self.warn(text, ui) } else { ui.detail(text) }
    }

    fn postponed(&self, batch: &JobBatch, wait: Option<Duration>, ui: &Ui) {
        let why = batch.remote.error.as_deref().unwrap_or("no reason given");
        let again = wait.map_or_else(String::new, |wait| format!("; making it again in {}", text::duration(wait)));
        let said = format!("batch {}: the service did not begin it ({why}){again}", batch.number);
        if batch.creation.refusals == 1 { self.warn(&said, ui) } else { self.note(&said, WORTH_SAYING, ui) }
    }

    fn warn(&self, text: &str, ui: &Ui) {
        self.warned_at.set(Some(Instant::now()));
        ui.warn(text);
    }
}

/// Describes a batch's state in one line.
fn state_line(batch: &JobBatch) -> String {
    let id = batch.remote.id.as_deref().unwrap_or_default();
    let status = batch.remote.status.as_ref().map_or("?", |status| status.as_str());
    let progress = batch.remote.progress.map(|p| format!(" {p:.0}%")).unwrap_or_default();
    let error = batch.remote.error.as_deref().map(|e| format!(": {e}")).unwrap_or_default();
    format!("batch {} ({id}) {status}{progress}{error}", batch.number)
}
