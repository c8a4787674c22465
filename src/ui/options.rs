//! The user's choices about output, and the streams that they apply to.

use std::fmt;
use std::io::{self, IsTerminal};
use std::str::FromStr;

use indicatif::ProgressDrawTarget;

use super::log_line::LogFormat;
use super::progress::ProgressMode;
use crate::text::one_line;

/// A choice that a terminal can make: `--color`, `--progress`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum AutoSwitch {
    /// On if the output goes to a terminal.
    #[default]
    Auto,
    /// On.
    Always,
    /// Off.
    Never,
}

impl FromStr for AutoSwitch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(format!("`{}` is not auto, always or never", one_line(text))),
        }
    }
}

impl fmt::Display for AutoSwitch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Auto => "auto",
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// The user's choices.
#[derive(Debug, Clone, Copy, Default)]
pub struct UiOptions {
    /// `-q`: only warnings and errors.
    pub quiet: bool,
    /// The number of `-v`.
    pub verbose: u8,
    /// `--color`.
    pub color: AutoSwitch,
    /// `--progress`.
    pub progress: AutoSwitch,
    /// `NO_COLOR` is set and not empty; `--color always` is stronger.
    pub no_color_env: bool,
    /// `COLUMNS`, if it is a number.
    pub columns: Option<u16>,
    /// `--json`: a document on stdout takes the place of [`super::Ui::block`].
    pub json: bool,
    /// `--log-format`
    pub log: LogFormat,
}

/// The place of a run's results: a bar and results on one terminal would overwrite each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// Stdout, row by row.
    Stdout,
    /// A file, or no results at all.
    Elsewhere,
}

/// The properties of stdout and stderr at the start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    pub(super) stderr_terminal: bool,
    pub(super) stdout_terminal: bool,
    /// The terminal of stderr can move its cursor (`TERM=dumb` cannot).
    pub(super) movable: bool,
    /// Columns of the terminal, if there is one.
    pub(super) columns: Option<u16>,
}

impl Streams {
    pub(super) fn inspect() -> Self {
        Self {
            stderr_terminal: io::stderr().is_terminal(),
            stdout_terminal: io::stdout().is_terminal(),
            movable: !ProgressDrawTarget::stderr().is_hidden(),
            columns: terminal_columns(),
        }
    }
}

/// Returns the terminal's columns at this moment.
pub(super) fn terminal_columns() -> Option<u16> {
    let size = terminal_size::terminal_size_of(io::stderr()).or_else(|| terminal_size::terminal_size_of(io::stdout()));
    // Some pseudo terminals (serial lines, `script`) report 0.
    size.map(|(width, _)| width.0).filter(|width| *width > 0)
}

/// Returns whether the terminal shows `^C` for Ctrl-C.
pub(super) fn echoes_interrupts() -> bool {
    use rustix::termios::{LocalModes, tcgetattr};
    let shown = LocalModes::ECHO | LocalModes::ECHOCTL | LocalModes::ISIG;
    tcgetattr(io::stdin()).is_ok_and(|terminal| terminal.local_modes.contains(shown))
}

/// Returns whether the terminal is known to wrap the lines on its screen anew when it gets narrower. `is_set` looks up a
/// variable of the environment.
pub(super) fn rewraps(is_set: &dyn Fn(&str) -> bool) -> bool {
    const KNOWN: [&str; 7] = [
        "TERM_PROGRAM",
        "VTE_VERSION",
        "KONSOLE_VERSION",
        "KITTY_WINDOW_ID",
        "ALACRITTY_WINDOW_ID",
        "WT_SESSION",
        "WEZTERM_PANE",
    ];
    // `screen` cuts lines off, whatever terminal it runs in.
    is_set("TMUX") || (!is_set("STY") && KNOWN.iter().any(|name| is_set(name)))
}

impl UiOptions {
    /// Returns the columns that the user asked for.
    pub(super) fn columns(self) -> Option<u16> {
        self.columns.filter(|columns| *columns > 0)
    }

    /// Decides whether talk is coloured.
    pub(super) fn colour(self, streams: Streams) -> bool {
        match self.color {
            _ if self.log == LogFormat::Json => false,
            AutoSwitch::Always => true,
            AutoSwitch::Never => false,
            AutoSwitch::Auto => streams.stderr_terminal && streams.movable && !self.no_color_env,
        }
    }

    /// Decides whether tables on stdout are coloured.
    pub(super) fn data_colour(self, streams: Streams) -> bool {
        match self.color {
            AutoSwitch::Always => true,
            AutoSwitch::Never => false,
            AutoSwitch::Auto => streams.stdout_terminal && streams.movable && !self.no_color_env,
        }
    }

    /// Decides the form of a progress display.
    pub(super) fn progress_mode(self, streams: Streams, results: Results) -> ProgressMode {
        let shared = results == Results::Stdout && streams.stdout_terminal && streams.stderr_terminal;
        match self.progress {
            _ if self.quiet => ProgressMode::Hidden,
            AutoSwitch::Never => ProgressMode::Hidden,
            // The results themselves show the progress.
            AutoSwitch::Auto if shared => ProgressMode::Hidden,
            AutoSwitch::Auto | AutoSwitch::Always if self.log == LogFormat::Json => ProgressMode::Lines,
            AutoSwitch::Auto | AutoSwitch::Always if streams.movable => ProgressMode::Bar,
            AutoSwitch::Auto | AutoSwitch::Always => ProgressMode::Lines,
        }
    }
}
