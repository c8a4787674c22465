//! The progress and the end of a command, told to others. A failure of telling is a warning, and changes no exit code.

mod end_report;
mod metrics;
mod metrics_file;
mod on_done;
mod webhook;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::api::ReceiverUrl;
use crate::error::Exit;
use crate::summary::Summary;
use crate::ui::Ui;
use end_report::EndReport;
pub use metrics::{EndMetrics, JobMetrics, prometheus};
use metrics_file::MetricsFile;
use on_done::RunningCommand;
pub use webhook::Webhook;

/// The user's requests to be told.
#[derive(Debug, Default)]
pub struct TellAsk {
    /// `--metrics`
    pub metrics: Option<PathBuf>,
    /// `--on-done`
    pub on_done: Option<String>,
    /// `--notify`
    pub notice: Option<Webhook>,
}

/// The way to tell others of a command; cheap to clone. Without a request it does nothing.
#[derive(Debug, Clone, Default)]
pub struct Telling(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    file: Option<MetricsFile>,
    on_done: Option<String>,
    notice: Option<Webhook>,
    /// The jobs that the command works on.
    jobs: Vec<String>,
    /// The summaries of those jobs at the end of the command.
    summaries: Vec<Summary>,
    /// The command of `--on-done`, while it works.
    running: Option<RunningCommand>,
    last_acts: LastActs,
}

/// The acts of a command that wait until everybody has been told of its end.
#[derive(Default)]
struct LastActs(Vec<Box<dyn FnOnce() + Send>>);

impl std::fmt::Debug for LastActs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} last acts", self.0.len())
    }
}

impl Telling {
    /// Begins to tell.
    pub fn begin(&self, ask: TellAsk, ui: &Ui) {
        self.with(|told| {
            told.file = ask.metrics.map(|path| MetricsFile::start(path, ui.clone()));
            (told.on_done, told.notice) = (ask.on_done, ask.notice);
        });
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

    /// Learns that the command works on a job.
    pub fn concern(&self, job: &str) {
        self.with(|told| {
            if !told.jobs.iter().any(|known| known == job) {
                told.jobs.push(job.to_owned());
            }
        });
    }

    /// Returns whether somebody is still to be told of the end.
    pub fn wants_end(&self) -> bool {
        self.with(|told| told.on_done.is_some() || told.notice.is_some())
    }

    /// Returns the jobs of which somebody wants a summary that is not there yet.
    pub fn unsummarised(&self) -> Vec<String> {
        self.with(|told| {
            let wanted = told.on_done.is_some() || told.notice.is_some();
            if wanted && told.summaries.is_empty() { told.jobs.clone() } else { Vec::new() }
        })
    }

    /// Takes the summary of a job at the end of the command.
    pub fn summarise(&self, summary: &Summary) {
        self.with(|told| told.summaries.push(summary.clone()));
    }

    /// Tells of the end of the command.
    pub fn finish(&self, exit: Exit, ui: &Ui) {
        self.finish_metrics(exit, ui);
        let (on_done, notice, report) = self.with(|told| {
            let summaries = std::mem::take(&mut told.summaries);
            let mut report = EndReport::of(exit, summaries, || ui.failure());
            if report.job.is_empty() {
                report.job = told.jobs.join(" ");
            }
            (told.on_done.take(), told.notice.take(), report)
        });
        if on_done.is_some() || notice.is_some() {
            report.tell(on_done.as_deref(), notice.as_ref(), self, ui);
        }
    }

    /// Leaves an act for the very end of the command.
    pub fn at_last(&self, act: impl FnOnce() + Send + 'static) {
        self.with(|told| told.last_acts.0.push(Box::new(act)));
    }

    /// Carries out the acts that were left for the very end. Call it behind [`finish`](Self::finish), and only where the command
    /// ends by itself: an exit that a signal forces leaves them undone.
    pub fn act_at_last(&self) {
        let acts = self.with(|told| std::mem::take(&mut told.last_acts));
        acts.0.into_iter().for_each(|act| act());
    }

    fn finish_metrics(&self, exit: Exit, ui: &Ui) {
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

    /// Ends what still works for `--on-done`, before an exit that does not wait for it.
    pub fn abandon(&self) {
        if let Some(running) = self.with(|told| told.running.take()) {
            running.kill();
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Told) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The URL of a receiver as it may be shown and kept: its path may be a secret.
pub fn shown_receiver(url: &str) -> String {
    ReceiverUrl::parse(url).map_or_else(|_| "URL".to_owned(), |url| format!("{url}/…"))
}
