//! The end of a command, as `--on-done` and `--notify` are told of it.

use std::time::Duration;

use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};

use super::Telling;
use super::on_done;
use super::webhook::Webhook;
use crate::error::{Error, Exit, FailureDocument};
use crate::machine::ignored_signals;
use crate::summary::{ExitLine, Summary};
use crate::ui::Ui;

/// The longest time for telling.
const LIMIT: Duration = Duration::from_mins(1);
/// Time after which the user learns what llbatch waits for.
const PATIENCE: Duration = Duration::from_secs(3);

/// The end of a command.
#[derive(Debug)]
pub(super) struct EndReport {
    /// The jobs, separated by spaces. Empty: the command ended before it had a job.
    pub job: String,
    /// The states of the jobs, in the same order.
    pub state: String,
    /// The exit code.
    pub exit: Exit,
    /// The summary as JSON; of several jobs, all of them; without a job, the error.
    pub document: String,
}

/// The summaries of several jobs.
#[derive(Debug, Serialize)]
struct SummariesDocument {
    version: u8,
    exit: ExitLine,
    summaries: Vec<Summary>,
}

impl EndReport {
    /// Reports on the end of a command. `failure`: its error, if it had one.
    pub fn of(exit: Exit, mut summaries: Vec<Summary>, failure: impl FnOnce() -> Option<FailureDocument>) -> Self {
        let words = |word: fn(&Summary) -> Option<&str>| {
            summaries.iter().map(|summary| word(summary).unwrap_or("-")).collect::<Vec<_>>().join(" ")
        };
        let job = words(|summary| summary.job.as_deref());
        let state = words(|summary| Some(&summary.state));
        let reason = exit.name().replace('_', " ");
        let document = match summaries.as_mut_slice() {
            [] => {
                let unknown = || FailureDocument::from(&Error::new(exit, reason));
                serde_json::to_string_pretty(&failure().unwrap_or_else(unknown))
            }
            [summary] => {
                // A command that stopped before the job's end has another exit code than the job would give now.
                if summary.exit.code != exit.code() {
                    (summary.exit.code, summary.exit.reason) = (exit.code(), reason);
                }
                serde_json::to_string_pretty(summary)
            }
            _ => serde_json::to_string_pretty(&SummariesDocument {
                version: 1,
                exit: ExitLine { code: exit.code(), reason, next: None },
                summaries,
            }),
        };
        // These documents have text keys alone, so they can be written.
        Self { job, state, exit, document: document.unwrap_or_default() + "\n" }
    }

    /// Runs the command and sends the notice, both at once. A signal ends both.
    pub fn tell(&self, command: Option<&str>, notice: Option<&Webhook>, telling: &Telling, ui: &Ui) {
        let flags = match (command, notice) {
            (Some(_), Some(_)) => "--on-done and --notify",
            (Some(_), None) => "--on-done",
            _ => "--notify",
        };
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return ui.warn(&format!("{flags}: {error}")),
        };
        runtime.block_on(async {
            let run = async {
                if let Some(command) = command
                    && let Err(words) = on_done::run(command, self, telling, LIMIT, ui).await
                {
                    ui.warn(&format!("--on-done: {words}"));
                }
            };
            let send = async {
                if let Some(notice) = notice
                    && let Err(words) = notice.send(&self.document, &self.job, LIMIT).await
                {
                    ui.warn(&format!("--notify: {words}"));
                }
            };
            let remind = async {
                tokio::time::sleep(PATIENCE).await;
                ui.note(&format!("waiting for {flags}, for a minute at most; Ctrl-C ends the wait"));
                std::future::pending::<()>().await;
            };
            tokio::select! {
                _ = async { tokio::join!(run, send) } => {}
                () = remind => {}
                () = stopped() => ui.warn(&format!("{flags}: ended by a signal")),
            }
        });
        telling.abandon();
    }
}

/// Waits for a signal that asks the process to end.
async fn stopped() {
    let ignored = ignored_signals();
    let streams = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
        .into_iter()
        .filter(|kind| ignored & (1 << (kind.as_raw_value() - 1)) == 0)
        .filter_map(|kind| signal(kind).ok());
    let waits: Vec<_> = streams
        .map(|mut stream| {
            Box::pin(async move {
                stream.recv().await;
            })
        })
        .collect();
    if waits.is_empty() {
        std::future::pending::<()>().await;
    }
    futures_util::future::select_all(waits).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_without_a_job_reports_its_error() {
        let error = FailureDocument::from(&Error::usage("no such flag"));
        let report = EndReport::of(Exit::Usage, Vec::new(), || Some(error));
        assert_eq!((report.job.as_str(), report.state.as_str()), ("", ""));
        let document: serde_json::Value = serde_json::from_str(&report.document).unwrap();
        assert_eq!(document["error"]["message"], "no such flag");
        let report = EndReport::of(Exit::TempFail, Vec::new(), || None);
        let document: serde_json::Value = serde_json::from_str(&report.document).unwrap();
        assert_eq!(document["error"]["exit"], 75);
    }
}
