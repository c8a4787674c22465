//! All that people see: stdout is data, stderr is talk, and both go through one [`Ui`].
//!
//! It decides once what is quiet, coloured and how wide. Texts may hold words of users and servers: in talk, and in data
//! on a terminal, their control characters are shown, not obeyed ([`escape`]); only colours of our own get through. Talk lifts the
//! progress bar for a moment, so that neither tears the other.

mod bar;
pub mod escape;
mod progress;
mod rates;
mod stdout;
pub mod table;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget};

use crate::error::Error;
use progress::Mode;
pub use progress::{Progress, Snapshot};
pub use stdout::Data;

/// Assumed where there is no terminal to ask.
const WIDTH: u16 = 80;

/// A choice that a terminal can make: `--color`, `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum When {
    /// If it goes to a terminal.
    #[default]
    Auto,
    /// Wherever it goes.
    Always,
    /// Not at all.
    Never,
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("`{}` is none of auto, always, never", escape::line(text))),
        }
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// What the user asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct UiOptions {
    /// `-q`: only warnings and errors.
    pub quiet: bool,
    /// How many `-v`.
    pub verbose: u8,
    /// `--color`.
    pub color: When,
    /// `--progress`.
    pub progress: When,
    /// Whether `NO_COLOR` is set and not empty; `--color always` is stronger.
    pub no_color_env: bool,
    /// `COLUMNS`, if it is a number.
    pub columns: Option<u16>,
    /// `--json`: a document on stdout takes the place of [`Ui::block`].
    pub json: bool,
}

/// Where a run's results go: a bar and results on one terminal would tear each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// To stdout, row by row.
    Stdout,
    /// To a file, or there are none.
    Elsewhere,
}

/// A colour of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Paint {
    Red,
    Yellow,
    Cyan,
}

impl Paint {
    fn apply(self, text: &str) -> String {
        let code = match self {
            Self::Red => 31,
            Self::Yellow => 33,
            Self::Cyan => 36,
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// What the surroundings are; looked up once.
#[derive(Debug, Clone, Copy)]
struct Facts {
    stderr_terminal: bool,
    stdout_terminal: bool,
    /// Whether stderr's terminal can move its cursor (`TERM=dumb` cannot).
    movable: bool,
    /// Columns of the terminal, if there is one.
    columns: Option<u16>,
}

impl Facts {
    fn look() -> Self {
        Self {
            stderr_terminal: io::stderr().is_terminal(),
            stdout_terminal: io::stdout().is_terminal(),
            movable: !ProgressDrawTarget::stderr().is_hidden(),
            columns: terminal_columns(),
        }
    }
}

fn terminal_columns() -> Option<u16> {
    let size = terminal_size::terminal_size_of(io::stderr()).or_else(|| terminal_size::terminal_size_of(io::stdout()));
    // Some pseudo terminals (serial lines, `script`) report 0.
    size.map(|(width, _)| width.0).filter(|width| *width > 0)
}

/// The one way to talk to people and to write data; cheap to clone.
#[derive(Clone)]
pub struct Ui(Arc<Inner>);

struct Inner {
    options: UiOptions,
    facts: Facts,
    colour: bool,
    /// Also holds the lock under which everybody writes to the terminal.
    bars: MultiProgress,
    /// Whether a bar is on the screen.
    drawn: AtomicBool,
    stderr: Mutex<Box<dyn Write + Send>>,
}

impl fmt::Debug for Ui {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { options, facts, colour, .. } = &*self.0;
        f.debug_struct("Ui").field("options", options).field("facts", facts).field("colour", colour).finish()
    }
}

impl Ui {
    /// Looks at stdout and stderr and decides.
    pub fn new(options: UiOptions) -> Self {
        // Stderr has no buffer of its own: one write is one piece.
        Self::with(options, Facts::look(), Box::new(io::stderr()))
    }

    fn with(options: UiOptions, facts: Facts, stderr: Box<dyn Write + Send>) -> Self {
        let colour = match options.color {
            When::Always => true,
            When::Never => false,
            When::Auto => facts.stderr_terminal && facts.movable && !options.no_color_env,
        };
        let target = if facts.movable { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        Self(Arc::new(Inner {
            options,
            facts,
            colour,
            bars,
            drawn: AtomicBool::new(false),
            stderr: Mutex::new(stderr),
        }))
    }

    /// Says something to people; silent with `--quiet`.
    pub fn note(&self, text: &str) {
        if !self.0.options.quiet {
            self.say(None, "", text);
        }
    }

    /// Says something to those who gave `-v`.
    pub fn detail(&self, text: &str) {
        if self.0.options.verbose > 0 {
            self.note(text);
        }
    }

    /// `warning: …`; also with `--quiet`.
    pub fn warn(&self, text: &str) {
        self.say(Some(Paint::Yellow), "warning:", text);
    }

    /// `hint: …`, what could be done next; silent with `--quiet`.
    pub fn hint(&self, text: &str) {
        if !self.0.options.quiet {
            self.say(Some(Paint::Cyan), "hint:", text);
        }
    }

    /// `error: …` with its causes, and the remedy below it; also with `--quiet`.
    pub fn error(&self, error: &Error) {
        let mut text = self.line(Some(Paint::Red), "error:", &error.to_string());
        if let Some(hint) = &error.hint {
            text.push_str("  ");
            text.push_str(&self.line(Some(Paint::Cyan), "hint:", hint));
        }
        self.write(&text);
    }

    /// A preformatted text for people, such as the summary; silent with `--quiet`, and with `--json`, whose document
    /// says the same.
    pub fn block(&self, text: &str) {
        if !self.0.options.json {
            self.note(text);
        }
    }

    /// Starts the progress display of a run, or one that shows nothing: by `--progress`, `--quiet`, what stderr is,
    /// and whether results go to the same terminal.
    pub fn progress(&self, results: Results) -> Progress {
        Progress::start(self, self.mode(results))
    }

    /// Columns for text on a terminal: `COLUMNS`, else the terminal's own, else 80. As it was at the start.
    pub fn width(&self) -> usize {
        let columns = self.0.options.columns.filter(|columns| *columns > 0);
        usize::from(columns.or(self.0.facts.columns).unwrap_or(WIDTH))
    }

    /// Columns for a table on stdout: [`Ui::width`] for a terminal or if `COLUMNS` says so, else no bound, so that
    /// `grep` and `awk` get whole values.
    pub fn table_width(&self) -> usize {
        let bound = self.0.facts.stdout_terminal || self.0.options.columns.is_some_and(|columns| columns > 0);
        if bound { self.width() } else { usize::MAX }
    }

    /// Whether a person reads stdout.
    pub fn stdout_is_terminal(&self) -> bool {
        self.0.facts.stdout_terminal
    }

    /// Whether a bar is drawn while something takes long.
    pub fn draws(&self) -> bool {
        self.mode(Results::Elsewhere) == Mode::Bar
    }

    /// Whether talk is coloured.
    pub fn colour(&self) -> bool {
        self.0.colour
    }

    /// Stdout. The caller buffers; a closed pipe is an [`io::ErrorKind::BrokenPipe`]. On a terminal control characters
    /// are made visible.
    pub fn data(&self) -> Data<io::Stdout> {
        Data::new(self.clone(), io::stdout())
    }

    /// Clears the terminal that stdout is, for a display that is drawn again and again.
    pub fn clear_screen(&self) {
        use io::Write;
        if self.0.facts.stdout_terminal && !self.0.options.json {
            // Home, then everything below. If the terminal is gone, the next write tells.
            let _ = io::stdout().write_all(b"\x1b[H\x1b[J");
        }
    }

    /// A writer for log lines, one `write` each: escaped like talk and kept apart from the bar. Colours of the
    /// logger's own would be escaped too; turn them off there.
    pub fn log(&self) -> Log {
        Log(self.clone())
    }

    /// Takes the bar off the screen for good; before an exit that does not wait for anybody.
    pub fn end(&self) {
        // If the terminal is gone there is nothing to clean.
        let _ = self.0.bars.clear();
        self.0.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    fn mode(&self, results: Results) -> Mode {
        let Inner { options, facts, .. } = &*self.0;
        let shared = results == Results::Stdout && facts.stdout_terminal && facts.stderr_terminal;
        match options.progress {
            _ if options.quiet => Mode::Hidden,
            When::Never => Mode::Hidden,
            // The results themselves show how it goes.
            When::Auto if shared => Mode::Hidden,
            When::Auto | When::Always if facts.movable => Mode::Bar,
            When::Auto | When::Always => Mode::Lines,
        }
    }

    fn say(&self, paint: Option<Paint>, label: &str, text: &str) {
        self.write(&self.line(paint, label, text));
    }

    /// `label text`, escaped (also for a log: somebody reads it on a terminal later), with one newline at the end.
    fn line(&self, paint: Option<Paint>, label: &str, text: &str) -> String {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let text = escape::visible(text);
        match paint {
            None => format!("{text}\n"),
            Some(paint) if self.0.colour => format!("{} {text}\n", paint.apply(label)),
            Some(_) => format!("{label} {text}\n"),
        }
    }

    /// In one piece, so that it stays whole beside other processes' talk.
    fn write(&self, text: &str) {
        self.apart(|| {
            let mut stderr = self.0.stderr.lock().unwrap_or_else(PoisonError::into_inner);
            // Talk that nobody can hear is no reason to stop.
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        });
    }

    /// Does something to the terminal while no bar is on it.
    fn apart<R>(&self, f: impl FnOnce() -> R) -> R {
        self.0.bars.suspend(f)
    }

    /// Whether a bar is on the screen at the moment.
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

    /// Columns for the bar at this moment: the terminal may have been resized, and `COLUMNS` may be out of date.
    fn bar_width(&self) -> usize {
        let now = terminal_columns().map_or(usize::MAX, usize::from);
        // A full last column makes some terminals wrap.
        self.width_for_bar(now).saturating_sub(1)
    }

    fn width_for_bar(&self, now: usize) -> usize {
        let asked = self.0.options.columns.filter(|columns| *columns > 0).map_or(usize::MAX, usize::from);
        match now.min(asked) {
            usize::MAX => usize::from(WIDTH),
            width => width,
        }
    }
}

/// See [`Ui::log`].
#[derive(Debug, Clone)]
pub struct Log(Ui);

impl Write for Log {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.0.say(None, "", &String::from_utf8_lossy(buf));
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
