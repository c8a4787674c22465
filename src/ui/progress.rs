//! The progress display of a run: the run stores its counts, a thread shows them at a steady pace.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::Ui;
use super::counts::{BatchCounts, RunCounts};
use super::options::terminal_columns;
use super::speed::SpeedMeter;
use super::view::{BatchView, RunView, phase};
use crate::text;

/// Between two drawings on a terminal.
const TICK: Duration = Duration::from_millis(100);

/// Between two lines in a log.
pub(super) const LOG_INTERVAL: Duration = Duration::from_secs(30);

/// Between two samples of the speed while a log line is not due: the speed is that of the last ten seconds.
const LOG_TICK: Duration = Duration::from_secs(1);

/// The form of a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProgressMode {
    /// A bar, drawn again and again.
    Bar,
    /// A line from time to time.
    Lines,
    /// Nothing.
    Hidden,
}

/// The newest thing to show.
#[derive(Debug, Clone)]
enum News {
    Phase(String),
    Counts(RunCounts),
    Batches(BatchCounts),
}

/// The latest news, stored by the run and read by the thread; `None` at the start.
type Latest = Arc<Mutex<Option<News>>>;

/// A handle to the progress display of one run. The display ends with [`Progress::finish`] or with its last handle.
#[derive(Debug, Clone)]
pub struct Progress(Option<Arc<ProgressThread>>);

#[derive(Debug)]
struct ProgressThread {
    latest: Latest,
    /// The thread ends when the sender is dropped.
    running: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

impl Progress {
    pub(super) fn start(ui: &Ui, mode: ProgressMode, log_interval: Duration) -> Self {
        if mode == ProgressMode::Hidden {
            return Self(None);
        }
        let latest = Latest::default();
        let (sender, stop) = mpsc::channel();
        let (feed, ui) = (NewsFeed { latest: Arc::clone(&latest), stop }, ui.clone());
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(move || match mode {
            ProgressMode::Bar => draw(&feed, &ui),
            ProgressMode::Lines | ProgressMode::Hidden => log(&feed, &ui, log_interval),
        });
        // If the thread cannot start, the run continues without a display.
        Self(thread.ok().map(|thread| Arc::new(ProgressThread { latest, running: Mutex::new(Some((sender, thread))) })))
    }

    /// Returns whether anything is shown at all. If not, the caller need not count.
    pub const fn is_shown(&self) -> bool {
        self.0.is_some()
    }

    /// Stores the counts of the run, in place of a phase. Costs one lock that is nearly always free, and no drawing.
    pub fn update(&self, counts: RunCounts) {
        self.tell(|| News::Counts(counts));
    }

    /// Shows a wait for batches.
    pub fn waiting(&self, counts: BatchCounts) {
        self.tell(|| News::Batches(counts));
    }

    /// Shows the current work while there are no rows to count: `checking input: 12,000 rows, 3.4 MB`.
    pub fn phase(&self, text: &str) {
        self.tell(|| News::Phase(text.to_owned()));
    }

    /// Takes the display off the screen.
    pub fn finish(&self) {
        if let Some(thread) = &self.0 {
            thread.stop();
        }
    }

    fn tell(&self, news: impl FnOnce() -> News) {
        if let Some(thread) = &self.0 {
            *lock(&thread.latest) = Some(news());
        }
    }
}

impl ProgressThread {
    fn stop(&self) {
        let running = lock(&self.running).take();
        if let Some((sender, thread)) = running {
            drop(sender);
            // It only fails if the drawing panicked, and the panic printed its own message.
            let _ = thread.join();
        }
    }
}

impl Drop for ProgressThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The thread's side of a display.
struct NewsFeed {
    latest: Latest,
    stop: Receiver<()>,
}

impl NewsFeed {
    /// Waits for the next tick at which there is news; `None` when the display ends.
    fn next(&self, tick: Duration) -> Option<News> {
        while self.stop.recv_timeout(tick) == Err(RecvTimeoutError::Timeout) {
            let latest = lock(&self.latest).clone();
            if latest.is_some() {
                return latest;
            }
        }
        None
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Plain data: a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn draw(feed: &NewsFeed, ui: &Ui) {
    let style = ProgressStyle::with_template("{msg}").expect("a constant template that parses");
    let bar = ui.add_bar(ProgressBar::new_spinner().with_style(style));
    let mut meter = SpeedMeter::default();
    let mut tick = 0;
    let mut columns = terminal_columns();
    while let Some(news) = feed.next(TICK) {
        tick += 1;
        let was = std::mem::replace(&mut columns, terminal_columns());
        if let (Some(was), Some(columns)) = (was, columns) {
            ui.rewrapped(more_rows(&bar.message(), was.into(), columns.into()));
        }
        let (now, width) = (Instant::now(), ui.bar_width());
        let text = match &news {
            News::Phase(text) => phase(text, tick, width),
            News::Batches(counts) => BatchView(counts).terminal(width, ui.colour()),
            News::Counts(counts) => {
                RunView { counts, speed: meter.speed(counts, now), now }.terminal(width, ui.colour())
            }
        };
        // A drawing without news would only load a slow line.
        if text != bar.message() {
            bar.set_message(text);
        }
    }
    bar.finish_and_clear();
    ui.remove_bar(&bar);
}

/// Returns the rows that the drawn `text` has taken since the terminal has `now` columns and not `was`, beside those that it
/// was drawn in. indicatif fills each line up to the edge and writes no line ends, so that a terminal wraps all of it anew as
/// one line.
fn more_rows(text: &str, was: usize, now: usize) -> isize {
    let lines = text.lines().count();
    let Some(last) = text.lines().last().filter(|_| was != now) else { return 0 };
    // Colours take no room.
    let mut parts = last.split('\x1b');
    let plain = parts.next().map_or(0, text::width);
    let coloured: usize = parts.filter_map(|part| part.split_once('m')).map(|(_, text)| text::width(text)).sum();
    let rows = (was * (lines - 1) + plain + coloured).div_ceil(now.max(1)).max(1);
    rows.cast_signed() - lines.cast_signed()
}

fn log(feed: &NewsFeed, ui: &Ui, interval: Duration) {
    let mut meter = SpeedMeter::default();
    let mut due = Instant::now() + interval;
    while let Some(news) = feed.next(interval.min(LOG_TICK)) {
        let now = Instant::now();
        let text = match &news {
            News::Phase(text) => text.clone(),
            News::Batches(counts) => BatchView(counts).log_line(),
            News::Counts(counts) => RunView { counts, speed: meter.speed(counts, now), now }.log_line(),
        };
        if now >= due {
            due = now + interval;
            if ui.is_json_log() {
                ui.note(&text);
            } else {
                ui.note(&format!("{} llbatch: {text}", jiff::Zoned::now().strftime("%F %T")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_a_wide_terminal_take_more_rows_on_a_narrow_one() {
        let text = format!("{}\n\u{1b}[31m2 failed\u{1b}[0m, {}", "#".repeat(80), ".".repeat(40));
        for (was, now, rows) in [(90, 90, 0), (90, 89, 0), (90, 70, 0), (90, 60, 1), (90, 40, 2), (90, 200, -1)] {
            assert_eq!(more_rows(&text, was, now), rows, "{was} to {now}");
        }
        assert_eq!(more_rows("", 90, 70), 0, "nothing is drawn yet");
        assert_eq!(more_rows("- reading input", 90, 10), 1);
    }
}
