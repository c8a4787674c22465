//! Progress of a run: the consumer stores counts, a thread of its own draws them on a steady tick.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::rates::Meter;
use super::{Ui, bar};
use crate::price::Nanos;

/// Between two drawings on a terminal.
const TICK: Duration = Duration::from_millis(100);

/// Between two lines in a log.
const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Where a run stands.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshot {
    /// Rows of the run; 0 while it is unknown.
    pub total: u64,
    /// Rows with an outcome: answered, failed and reused.
    pub done: u64,
    /// Of those, failed.
    pub failed: u64,
    /// Of those, taken over from an earlier run; they do not count as speed.
    pub reused: u64,
    /// Requests sent and not yet answered.
    pub in_flight: u64,
    /// Prompt and completion tokens of this run, without reused rows.
    pub tokens: u64,
    /// Cost so far; `None`: a price is unknown.
    pub cost: Option<Nanos>,
    /// Why nothing is sent at the moment, and until when.
    pub waiting: Option<(String, Instant)>,
    /// Requests a second that the limiter allows at the moment.
    pub rate_limit: Option<f64>,
}

/// Where the progress of a run is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// A bar, drawn again and again.
    Bar,
    /// A line now and then.
    Lines,
    /// Nowhere.
    Hidden,
}

/// What is known of the run; the drawing thread reads it ten times a second.
#[derive(Debug, Default)]
struct State {
    /// `None` until the first one comes: nothing is shown before there is something to say.
    snapshot: Option<Snapshot>,
    phase: Option<String>,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is plain data: a panic elsewhere leaves it usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle to the progress display of one run. Ends with [`Progress::finish`] or when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Progress(Option<Arc<Handle>>);

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Progress {
    pub(super) fn start(ui: &Ui, mode: Mode) -> Self {
        Self::with(ui, mode, LOG_INTERVAL)
    }

    pub(super) fn with(ui: &Ui, mode: Mode, log_interval: Duration) -> Self {
        if mode == Mode::Hidden {
            return Self(None);
        }
        let shared = Arc::new(Shared::default());
        let (seen, ui) = (Arc::clone(&shared), ui.clone());
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || match mode {
            Mode::Bar => draw(&seen, &ui),
            Mode::Lines | Mode::Hidden => log(&seen, &ui, log_interval),
        });
        // A run is worth more than its display: without a thread there is none.
        Self(thread.ok().map(|thread| Arc::new(Handle { shared, thread: Mutex::new(Some(thread)) })))
    }

    /// Whether anything is shown at all; if not, a snapshot need not be made.
    pub const fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// Stores where the run stands. Cheap (one lock that is nearly always free, no drawing), but no more than that:
    /// once for every handful of outcomes is enough. Ends a [`Progress::phase`].
    pub fn update(&self, snapshot: Snapshot) {
        if let Some(handle) = &self.0 {
            let mut state = handle.shared.lock();
            state.snapshot = Some(snapshot);
            state.phase = None;
        }
    }

    /// Shows what is being done before there are rows to count: `checking input: 12,000 rows, 3.4 MB`.
    pub fn phase(&self, text: &str) {
        if let Some(handle) = &self.0 {
            handle.shared.lock().phase = Some(text.to_owned());
        }
    }

    /// Takes the display off the screen. The summary says the rest.
    pub fn finish(&self) {
        if let Some(handle) = &self.0 {
            handle.stop();
        }
    }
}

impl Handle {
    fn stop(&self) {
        self.shared.lock().stopped = true;
        self.shared.wake.notify_all();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // It only fails if the drawing panicked, which the panic's own message has told.
            let _ = thread.join();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for the next tick; `None` when it is over.
fn next(shared: &Shared, tick: Duration) -> Option<(Option<Snapshot>, Option<String>)> {
    let waited = shared.wake.wait_timeout_while(shared.lock(), tick, |state| !state.stopped);
    let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
    (!state.stopped).then(|| (state.snapshot.clone(), state.phase.clone()))
}

fn draw(shared: &Shared, ui: &Ui) {
    let style = ProgressStyle::with_template("{msg}").expect("a constant template that parses");
    let shown = ui.add_bar(ProgressBar::new_spinner().with_style(style));
    let mut meter = Meter::default();
    let mut last = String::new();
    for tick in 0.. {
        let Some((snapshot, phase)) = next(shared, TICK) else { break };
        let (now, width) = (Instant::now(), ui.bar_width());
        let text = match (phase, snapshot) {
            (Some(phase), _) => bar::phase(&phase, tick, width),
            (None, Some(seen)) => bar::terminal(&seen, &meter.rates(&seen, now), now, width, ui.colour()),
            (None, None) => continue,
        };
        // Nothing new: nothing goes over a slow line.
        if text != last {
            shown.set_message(text.clone());
            last = text;
        }
    }
    shown.finish_and_clear();
    ui.remove_bar(&shown);
}

fn log(shared: &Shared, ui: &Ui, interval: Duration) {
    let mut meter = Meter::default();
    let mut due = Instant::now() + interval;
    // Sampled oftener than told, for the rate is that of the last ten seconds.
    while let Some((snapshot, phase)) = next(shared, interval.min(Duration::from_secs(1))) {
        let now = Instant::now();
        let text = match (phase, snapshot) {
            (Some(phase), _) => format!("llbatch: {phase}"),
            (None, Some(seen)) => bar::plain(&seen, &meter.rates(&seen, now), now),
            (None, None) => continue,
        };
        if now >= due {
            due = now + interval;
            ui.note(&text);
        }
    }
}
