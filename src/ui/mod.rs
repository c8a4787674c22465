//! Output for people and scripts: data on stdout, talk on stderr, both through one [`Ui`].
//!
//! [`Ui`] decides once about quietness, colours and width. Texts may hold words of users and servers: in talk, and in data
//! on a terminal, their control characters are made visible; only llbatch's own colours get through. Talk takes the
//! progress bar off the screen for a moment, so that they do not overwrite each other.

mod counts;
mod escape;
mod log_line;
mod options;
mod progress;
mod speed;
mod stdout;
mod view;

use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use crate::error::{Error, Exit, FailureDocument};
use crate::text::{self, Grid, visible};
pub use counts::{BatchCounts, RunCounts};
use log_line::log_line;
pub use log_line::{LogFormat, LogLevel};
pub use options::{AutoSwitch, Results, UiOptions};
use options::{Streams, echoes_interrupts, rewraps, terminal_columns};
pub use progress::Progress;
use progress::{LOG_INTERVAL, ProgressMode};
pub use stdout::StdoutWriter;

/// Columns without a terminal.
const WIDTH: u16 = 80;

/// Sentences are not broken into lines narrower than this.
const LEAST_WIDTH: usize = 30;

/// A colour of llbatch's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Red,
    Green,
    Yellow,
    Cyan,
}

impl Paint {
    /// The parameter of its SGR sequence.
    const fn code(self) -> &'static str {
        match self {
            Self::Red => "31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Cyan => "36",
        }
    }

    fn apply(self, text: &str) -> String {
        format!("\x1b[{}m{text}\x1b[0m", self.code())
    }

    /// The colour of a state in a table: of a job or of a batch.
    fn of_state(heading: &str, state: &str) -> Option<&'static str> {
        let paint = match state.to_ascii_lowercase().as_str() {
            _ if heading != "STATE" && heading != "STATUS" => return None,
            "failed" | "refused" => Self::Red,
            "partial" | "expired" | "cancelled" | "interrupted" => Self::Yellow,
            _ => return None,
        };
        Some(paint.code())
    }
}

/// The only way to write talk and data; cheap to clone.
#[derive(Clone)]
pub struct Ui(Arc<UiInner>);

struct UiInner {
    options: UiOptions,
    streams: Streams,
    colour: bool,
    /// Also holds the lock under which all threads write to the terminal.
    bars: MultiProgress,
    /// A bar is on the screen.
    drawn: AtomicBool,
    stderr: Mutex<Box<dyn Write + Send>>,
    /// A document stands on stdout.
    documented: AtomicBool,
    /// The last error that was shown.
    failure: Mutex<Option<FailureDocument>>,
    /// Something was written to stderr.
    spoken: AtomicBool,
    /// The jobs that the command works on, for the lines of a log.
    jobs: Mutex<Vec<String>>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let UiInner { options, streams, colour, .. } = &*self.0;
        f.debug_struct("Ui").field("options", options).field("streams", streams).field("colour", colour).finish()
    }
}

impl Ui {
    /// Inspects stdout and stderr and applies the options to them.
    pub fn new(options: UiOptions) -> Self {
        // Stderr has no buffer of its own: one write is one piece.
        Self::with(options, Streams::inspect(), Box::new(io::stderr()))
    }

    fn with(options: UiOptions, streams: Streams, stderr: Box<dyn Write + Send>) -> Self {
        let target = if streams.movable { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Self(Arc::new(UiInner {
            options,
            streams,
            colour: options.colour(streams),
            bars: MultiProgress::with_draw_target(target),
            drawn: AtomicBool::new(false),
            stderr: Mutex::new(stderr),
            documented: AtomicBool::new(false),
            failure: Mutex::new(None),
            spoken: AtomicBool::new(false),
            jobs: Mutex::default(),
        }))
    }

    /// Shows a message, unless `--quiet` is given.
    pub fn note(&self, text: &str) {
        if !self.0.options.quiet {
            self.say(LogLevel::Info, None, "", text);
        }
    }

    /// Shows a message with `-v` only.
    pub fn detail(&self, text: &str) {
        if self.0.options.verbose > 0 && !self.0.options.quiet {
            self.say(LogLevel::Debug, None, "", text);
        }
    }

    /// Writes `warning: …`, also with `--quiet`.
    pub fn warn(&self, text: &str) {
        self.say(LogLevel::Warn, Some(Paint::Yellow), "warning:", text);
    }

    /// Writes `hint: …`, a possible next step; silent with `--quiet`.
    pub fn hint(&self, text: &str) {
        if !self.0.options.quiet {
            self.say(LogLevel::Info, Some(Paint::Cyan), "hint:", text);
        }
    }

    /// Writes `error: …` with its causes, and the remedy below it, also with `--quiet`.
    pub fn error(&self, error: &Error) {
        *self.0.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(FailureDocument::from(error));
        if self.is_json_log() {
            return self.write(&self.log_line(LogLevel::Error, &error.to_string(), error.hint.as_deref()));
        }
        let mut text = self.line(Some(Paint::Red), "error:", &error.to_string());
        if let Some(hint) = &error.hint {
            text.push_str(&self.line(Some(Paint::Cyan), "  hint:", hint));
        }
        self.write(&text);
    }

    /// Says in one line how a command ended. A success is silent with `--quiet` and with `--json`; a failure never is.
    pub fn verdict(&self, exit: Exit, text: &str) {
        let (level, mark, paint) = match exit {
            Exit::Ok if self.0.options.quiet || self.0.options.json => return,
            Exit::Ok => (LogLevel::Info, "✓", Paint::Green),
            Exit::RowsFailed | Exit::Budget => (LogLevel::Warn, "✗", Paint::Yellow),
            _ => (LogLevel::Error, "✗", Paint::Red),
        };
        self.say(level, Some(paint), mark, text);
    }

    /// Writes a document to stdout.
    pub fn document(&self, text: &str) -> io::Result<()> {
        self.0.documented.store(true, Ordering::Relaxed);
        let mut out = self.data();
        out.write_all(text.as_bytes())?;
        out.flush()
    }

    /// Writes a table to stdout as wide as [`Ui::table_width`], its states in colour where stdout may have colours.
    pub fn table(&self, grid: &Grid) -> io::Result<()> {
        if !self.0.options.data_colour(self.0.streams) {
            return self.document(&grid.render(self.table_width()));
        }
        self.0.documented.store(true, Ordering::Relaxed);
        // The cells are visible text already. An escaping writer would show the colours as text too.
        let text = grid.render_painted(self.table_width(), Paint::of_state);
        self.apart(|| io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush()))
    }

    /// Returns the document that a failed command still owes with `--json`: that of the last error shown. `None` if a
    /// document stands on stdout already.
    pub fn owed_document(&self) -> Option<FailureDocument> {
        if !self.0.options.json || self.0.documented.load(Ordering::Relaxed) {
            return None;
        }
        self.failure()
    }

    /// Returns the document of the last error shown.
    pub fn failure(&self) -> Option<FailureDocument> {
        self.0.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether `--quiet` is given.
    pub fn is_quiet(&self) -> bool {
        self.0.options.quiet
    }

    /// Returns whether anything was written to stderr.
    pub fn has_spoken(&self) -> bool {
        self.0.spoken.load(Ordering::Relaxed)
    }

    /// Writes a preformatted text, such as the summary; silent with `--quiet`, and with `--json`, whose document holds
    /// the same.
    pub fn block(&self, text: &str) {
        if self.0.options.json || self.0.options.quiet {
            return;
        }
        if self.is_json_log() {
            let words = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
            return words.filter(|line| !line.is_empty()).for_each(|line| self.relay(&line));
        }
        let text = visible(text.strip_suffix('\n').unwrap_or(text));
        self.write(&if self.0.colour { dimmed(&text) } else { format!("{text}\n") });
    }

    /// Repeats a line that is not llbatch's own, also with `--quiet`.
    pub fn relay(&self, line: &str) {
        self.say(LogLevel::Info, None, "", line);
    }

    /// Says that a thread has panicked, in a log whose lines are objects.
    pub fn panicked(&self, text: &str) {
        self.say(LogLevel::Error, None, "", text);
    }

    /// Returns the stderr for a program that the user has named. `None`: its words must go through [`Ui::relay`].
    pub fn stderr_for_child(&self) -> Option<OwnedFd> {
        if self.is_json_log() { None } else { io::stderr().as_fd().try_clone_to_owned().ok() }
    }

    /// Returns whether each line of stderr is a JSON object.
    pub fn is_json_log(&self) -> bool {
        self.0.options.log == LogFormat::Json
    }

    /// Learns that the command works on a job.
    pub fn concern(&self, job: &str) {
        let mut jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        if !jobs.iter().any(|known| known == job) {
            jobs.push(job.to_owned());
        }
    }

    /// Starts the progress display of a run. Its form depends on `--progress`, `--quiet`, stderr, and the place of the
    /// results.
    pub fn progress(&self, results: Results) -> Progress {
        Progress::start(self, self.mode(results), LOG_INTERVAL)
    }

    /// Returns the columns for text: `COLUMNS`, else the terminal's columns at the start, else 80.
    pub fn width(&self) -> usize {
        usize::from(self.0.options.columns().or(self.0.streams.columns).unwrap_or(WIDTH))
    }

    /// Returns the columns for sentences on stderr. `None`: a log, whose lines stay whole for `grep`.
    fn talk_width(&self) -> Option<usize> {
        if self.is_json_log() {
            return None;
        }
        Some(self.stderr_width()).filter(|columns| (LEAST_WIDTH..usize::MAX).contains(columns))
    }

    /// Returns the columns for a table on stderr, as [`Ui::table_width`] does for stdout.
    pub fn stderr_width(&self) -> usize {
        let bound = self.0.streams.stderr_terminal || self.0.options.columns().is_some();
        if bound { self.width() } else { usize::MAX }
    }

    /// Returns the columns for a table on stdout: [`Ui::width`] for a terminal or with `COLUMNS`, else no bound, so that
    /// `grep` and `awk` get whole values.
    pub fn table_width(&self) -> usize {
        let bound = self.0.streams.stdout_terminal || self.0.options.columns().is_some();
        if bound { self.width() } else { usize::MAX }
    }

    /// Returns whether stdout is a terminal.
    /// Returns true if standard output is a terminal.
    pub fn stdout_is_terminal(&self) -> bool {
        self.0.streams.stdout_terminal
    }

    /// Returns whether long work draws a bar.
    pub fn draws(&self) -> bool {
        self.mode(Results::Elsewhere) == ProgressMode::Bar
    }

    /// Returns whether talk is coloured.
    pub fn colour(&self) -> bool {
        self.0.colour
    }

    /// Returns a writer for stdout without a buffer. A closed pipe is an [`io::ErrorKind::BrokenPipe`]. On a terminal,
    /// control characters are made visible.
    pub fn data(&self) -> StdoutWriter<io::Stdout> {
        StdoutWriter::new(self.clone(), io::stdout())
    }

    /// Clears the screen if stdout is a terminal, for a display that is drawn again and again.
    pub fn clear_screen(&self) {
        if self.0.streams.stdout_terminal && !self.0.options.json {
            // Home, then everything below. If the terminal is gone, the next write reports it.
            let _ = io::stdout().write_all(b"\x1b[H\x1b[J");
        }
    }

    /// Returns a writer for log lines of this level, one `write` each: escaped like talk and kept apart from the bar. The
    /// logger's own colours would be escaped too: turn them off there.
    pub fn log(&self, level: LogLevel) -> LogWriter {
        LogWriter(self.clone(), level)
    }

    /// Takes the bar off the screen for good, before an exit that does not wait for other threads.
    pub fn end(&self) {
        // If the terminal is gone there is nothing to clean.
        let _ = self.0.bars.clear();
        self.0.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn mode(&self, results: Results) -> ProgressMode {
        self.0.options.progress_mode(self.0.streams, results)
    }

    fn say(&self, level: LogLevel, paint: Option<Paint>, label: &str, text: &str) {
        self.write(&if self.is_json_log() { self.log_line(level, text, None) } else { self.line(paint, label, text) });
    }

    /// Writes a line of a log of objects. It names the job where the command works on one alone.
    fn log_line(&self, level: LogLevel, text: &str, hint: Option<&str>) -> String {
        let jobs = self.0.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let job = if let [job] = jobs.as_slice() { Some(job.as_str()) } else { None };
        log_line(level, text, hint, job)
    }

    /// Writes `label text`, escaped (also for a log: people read it on a terminal later), within the columns of a terminal,
    /// with one newline at the end.
    fn line(&self, paint: Option<Paint>, label: &str, text: &str) -> String {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let taken = if label.is_empty() { 0 } else { text::width(label) + 1 };
        let text = match self.talk_width() {
            Some(columns) => text::wrapped(&visible(text), columns, taken),
            None => visible(text).into_owned(),
        };
        match paint {
            None => format!("{text}\n"),
            Some(paint) if self.0.colour => format!("{} {text}\n", paint.apply(label)),
            Some(_) => format!("{label} {text}\n"),
        }
    }

    /// Writes a text in one piece, so that other processes' talk does not split it.
    fn write(&self, text: &str) {
        self.0.spoken.store(true, Ordering::Relaxed);
        self.apart(|| {
            let mut stderr = self.0.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            // A run goes on even if nothing can be written to stderr.
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        });
    }

    /// Runs `f` while no bar is on the terminal.
    fn apart<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.bars.suspend(f)
    }

    /// Puts the bar in its place again after the terminal has wrapped its lines anew, to `more` rows than it was drawn in:
    /// indicatif clears as many as it has drawn. A terminal that cuts lines off instead has other text there.
    fn rewrapped(&self, more: isize) {
        if more == 0 || !rewraps(&|name| std::env::var(name).is_ok()) {
            return;
        }
        let rows = more.unsigned_abs();
        // If stderr cannot be written, there is nothing to tidy up.
        if more > 0 {
            self.apart(|| drop(write!(io::stderr(), "\x1b[{rows}A\x1b[J")));
        } else {
            drop(write!(io::stderr(), "{}", "\n".repeat(rows)));
        }
    }

    /// Puts the bar in its place again after Ctrl-C. indicatif leaves the cursor at the edge, so that the terminal's echo, `^C`,
    /// takes a row of its own below the bar.
    pub fn after_interrupt(&self) {
        if self.is_drawn() && echoes_interrupts() {
            self.apart(|| drop(write!(io::stderr(), "\x1b[1A\x1b[J")));
        }
    }

    /// Returns whether a bar is on the screen at the moment.
    fn is_drawn(&self) -> bool {
        self.0.drawn.load(Ordering::Acquire)
    }

    fn add_bar(&self, bar: ProgressBar) -> ProgressBar {
        self.0.drawn.store(true, Ordering::Release);
        self.0.bars.add(bar)
    }

    fn remove_bar(&self, bar: &ProgressBar) {
        self.0.bars.remove(bar);
        self.0.drawn.store(false, Ordering::Release);
    }

    /// Returns the columns for the bar at this moment: the terminal may have been resized, and `COLUMNS` may be out of date.
    fn bar_width(&self) -> usize {
        let now = terminal_columns().map_or(usize::MAX, usize::from);
        // A full last column makes some terminals wrap.
        self.width_for_bar(now).saturating_sub(1)
    }

    fn width_for_bar(&self, now: usize) -> usize {
        let asked = self.0.options.columns().map_or(usize::MAX, usize::from);
        match now.min(asked) {
            usize::MAX => usize::from(WIDTH),
            width => width,
        }
    }
}

/// Dims the lines of a summary, but for those about failures and the next step: the verdict below says what matters.
fn dimmed(text: &str) -> String {
    let mut plain = false;
    let line = |line: &str| {
        // A line that goes on has no label.
        if let Some(label) = line.strip_prefix("  ").filter(|rest| !rest.starts_with(' ')) {
            plain = matches!(label.split(' ').next(), Some("errors" | "exit" | "next"));
        }
        if plain || line.is_empty() { format!("{line}\n") } else { format!("\x1b[2m{line}\x1b[0m\n") }
    };
    text.lines().map(line).collect()
}

/// A writer for log lines; see [`Ui::log`].
#[derive(Debug, Clone)]
pub struct LogWriter(Ui, LogLevel);

impl Write for LogWriter {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(buf);
        let text = text.trim_end_matches('\n');
        let line =
            if self.0.is_json_log() { self.0.log_line(self.1, text, None) } else { format!("{}\n", visible(text)) };
        self.0.write(&line);
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
