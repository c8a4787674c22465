//! The file of `--metrics`, replaced by a thread of its own: a slow disk must not hold up a run.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::metrics::{JobMetrics, prometheus};
use crate::atomic_file::{AtomicFile, remove_stale};
use crate::error::{Error, Result};
use crate::ui::Ui;

/// Time between replacements. An unchanged file is replaced too, so that its age shows that llbatch lives.
const EVERY: Duration = Duration::from_secs(15);
/// The mode of a new file, less the umask: a collector runs as another user.
const MODE: u32 = 0o666;

/// The latest figures, by job.
type Latest = Arc<Mutex<BTreeMap<String, JobMetrics>>>;

/// The file of `--metrics`.
#[derive(Debug)]
pub(super) struct MetricsFile {
    path: PathBuf,
    latest: Latest,
    /// Wakes the thread; dropped to end it.
    wake: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl MetricsFile {
    /// Starts the thread, which writes nothing before there are figures.
    pub fn start(path: PathBuf, ui: Ui) -> Self {
        remove_stale(&path);
        let latest = Latest::default();
        let (wake, woken) = channel::<()>();
        let (figures, file) = (Arc::clone(&latest), path.clone());
        let keep = move || {
            let mut failed = false;
            loop {
                match woken.recv_timeout(EVERY) {
                    Err(RecvTimeoutError::Disconnected) => return,
                    Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                }
                let written = write(&file, &figures);
                if let Some(error) = written.as_ref().err().filter(|_| !failed) {
                    ui.warn(&words(error));
                }
                failed = written.is_err();
            }
        };
        let thread = std::thread::Builder::new().name("metrics".to_owned()).spawn(keep);
        // Without a thread the file is written at the end.
        Self { path, latest, wake: Some(wake), thread: thread.ok() }
    }

    /// Takes the latest figures of a job. Those of a new job are written at once.
    pub fn show(&self, metrics: JobMetrics) {
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        let new = latest.insert(metrics.job.clone(), metrics).is_none();
        if let Some(wake) = self.wake.as_ref().filter(|_| new) {
            // A thread that has ended needs no call.
            let _ = wake.send(());
        }
    }

    /// Ends the thread, and writes the figures that `end` completes.
    pub fn finish(&mut self, end: impl FnOnce(&mut BTreeMap<String, JobMetrics>), ui: &Ui) {
        drop(self.wake.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been shown.
            let _ = thread.join();
        }
        end(&mut self.latest.lock().unwrap_or_else(PoisonError::into_inner));
        if let Err(error) = write(&self.path, &self.latest) {
            ui.warn(&words(&error));
        }
    }
}

fn write(path: &Path, latest: &Latest) -> Result<()> {
    let text = {
        let latest = latest.lock().unwrap_or_else(PoisonError::into_inner);
        if latest.is_empty() {
            return Ok(());
        }
        prometheus(&latest.values().collect::<Vec<_>>())
    };
    let mut file = AtomicFile::create(path, MODE)?;
    file.write_all(text.as_bytes()).map_err(|error| Error::io(path.display(), error))?;
    file.commit()
}

fn words(error: &Error) -> String {
    let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!(" ({hint})"));
    format!("--metrics: {error}{hint}; the command goes on")
}
