//! The progress and the end of a command, told to others. A failure of telling is a warning, and changes no exit code.

mod metrics;
mod metrics_file;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Exit;
use crate::ui::Ui;
pub use metrics::{EndMetrics, JobMetrics, prometheus};
use metrics_file::MetricsFile;

/// The user's requests to be told.
#[derive(Debug, Default)]
pub struct TellAsk {
    /// `--metrics`
    pub metrics: Option<PathBuf>,
}

/// The way to tell others of a command; cheap to clone. Without a request it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Telling(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    file: Option<MetricsFile>,
}

impl Telling {
    /// Begins to tell.
    pub fn begin(&self, ask: TellAsk, ui: &Ui) {
        self.with(|told| told.file = ask.metrics.map(|path| MetricsFile::start(path, ui.clone())));
    }

    /// Returns whether anybody wants the figures of jobs.
    pub fn wants_metrics(&self) -> bool {
        self.with(|told| told.file.is_some())
    }

    /// Takes the latest figures of a job.
    pub fn show(&self, metrics: JobMetrics) {
        self.with(|told| {
            if let Some(file) = &told.file {
                file.show(metrics);
            }
        });
    }

    /// Tells of the end of the command.
    pub fn finish(&self, exit: Exit, ui: &Ui) {
        let Some(mut file) = self.with(|told| told.file.take()) else { return };
        let end = EndMetrics { at: jiff::Timestamp::now().as_millisecond(), exit: exit.code() };
        file.finish(
            |jobs| {
                if jobs.is_empty() {
                    jobs.insert(String::new(), JobMetrics::without_job());
                }
                for job in jobs.values_mut() {
                    *job = job.clone().ended(end);
                }
            },
            ui,
        );
    }

    fn with<T>(&self, act: impl FnOnce(&mut Told) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
