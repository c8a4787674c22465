//! The error type of the crate: what happened, where, and what to do next.
//!
//! An [`Error`] stops a command. A failed *row* is data ([`crate::outcome`]).

use std::fmt;

/// The exit codes, on which scripts rely (`docs/errors.md`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// The command is done, and every row succeeded.
    Ok = 0,
    /// The command failed for a reason without a code of its own.
    Failure = 1,
    /// Flags, arguments or the config file are invalid.
    Usage = 2,
    /// The command is done, but rows failed or are missing.
    RowsFailed = 3,
    /// The API key is missing, or the service rejected it.
    Auth = 4,
    /// The service asks for payment, or the user's budget or deadline was reached.
    Budget = 5,
    /// The input is invalid, and llbatch sent nothing.
    Data = 65,
    /// An input cannot be read.
    NoInput = 66,
    /// Local I/O failed.
    Io = 74,
    /// A later retry may succeed.
    TempFail = 75,
    /// The service broke its contract.
    Protocol = 76,
    /// SIGHUP stopped the command.
    Hangup = 129,
    /// SIGINT stopped the command.
    Interrupt = 130,
    /// The reader of the output closed its pipe.
    ClosedPipe = 141,
    /// SIGTERM stopped the command.
    Terminate = 143,
}

impl Exit {
    /// The number that the shell gets.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// The code of a command that this signal stopped.
    pub const fn of_signal(number: i32) -> Self {
        match number {
            1 => Self::Hangup,
            15 => Self::Terminate,
            _ => Self::Interrupt,
        }
    }

    /// A stable name of the code, for documents.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failure => "failure",
            Self::Usage => "usage",
            Self::RowsFailed => "rows_failed",
            Self::Auth => "auth",
            Self::Budget => "budget",
            Self::Data => "invalid_input",
            Self::NoInput => "unreadable_input",
            Self::Io => "io",
            Self::TempFail => "try_again_later",
            Self::Protocol => "protocol",
            Self::Hangup | Self::Interrupt | Self::Terminate => "interrupted",
            Self::ClosedPipe => "closed_pipe",
        }
    }

    /// The exit code to report when two apply: the earlier one in 74, 4, 5, 76, 75, 3.
    pub fn worst(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    const fn rank(self) -> u8 {
        match self {
            Self::Hangup | Self::Interrupt | Self::Terminate | Self::ClosedPipe => 0,
            Self::Io => 1,
            Self::Auth => 2,
            Self::Budget => 3,
            Self::Protocol => 4,
            Self::TempFail => 5,
            Self::RowsFailed => 6,
            Self::Usage | Self::Data | Self::NoInput | Self::Failure => 7,
            Self::Ok => 8,
        }
    }
}

/// An error that stops a command: a sentence, its exit code, its cause and a remedy.
#[derive(Debug)]
pub struct Error {
    /// The exit code.
    pub exit: Exit,
    /// The sentence: what happened and where (file and line, id, URL), without a final full stop.
    pub message: String,
    /// The remedy.
    pub hint: Option<String>,
    /// The error that caused this one.
    pub source: Option<anyhow::Error>,
    /// The problems of the input that led to it, as `check --json` shows them.
    pub problems: Vec<serde_json::Value>,
}

/// The result of a step whose error stops the command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, source: None, problems: Vec::new() }
    }

    /// An error in flags, arguments or the config file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds a remedy.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the problems of the input.
    pub fn problems(mut self, problems: &[impl serde::Serialize]) -> Self {
        self.problems = problems.iter().filter_map(|problem| serde_json::to_value(problem).ok()).collect();
        self
    }

    /// Adds the cause.
    pub fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// An error of local I/O. Its exit code and its remedy depend on the kind of `source`.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::ClosedPipe, format!("{what}: the reader closed the pipe")).because(source);
        }
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Some("free some space, then run the same command again: it resumes where it stopped")
            }
            std::io::ErrorKind::FileTooLarge => Some(
                "raise the limit on the size of files (`ulimit -f`), then run the same command again: it resumes \
                 where it stopped",
            ),
            std::io::ErrorKind::PermissionDenied => Some("check the permissions of that path"),
            std::io::ErrorKind::ReadOnlyFilesystem => Some("that file system is read-only: choose another path"),
            std::io::ErrorKind::NotFound => Some("check that its directory exists and can hold files"),
            std::io::ErrorKind::NotADirectory => Some("a part of that path is a file: choose another path"),
            _ => None,
        };
        let mut error = Self::new(Exit::Io, what.to_string()).because(source);
        error.hint = hint.map(str::to_owned);
        error
    }
}

/// The document of an error, for `--json`.
#[derive(Debug, Clone, serde::Serialize)]
pub struct FailureDocument {
    version: u8,
    error: ErrorFields,
}

#[derive(Debug, Clone, serde::Serialize)]
struct ErrorFields {
    exit: u8,
    code: &'static str,
    message: String,
    hint: Option<String>,
    problems: Vec<serde_json::Value>,
}

impl From<&Error> for FailureDocument {
    fn from(error: &Error) -> Self {
        let error = ErrorFields {
            exit: error.exit.code(),
            code: error.exit.name(),
            message: error.to_string(),
            hint: error.hint.clone(),
            problems: error.problems.clone(),
        };
        Self { version: 1, error }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in self.source.iter().flat_map(anyhow::Error::chain) {
            let text = cause.to_string();
            // Many libraries repeat the cause in their own text.
            if !self.message.contains(&text) {
                write!(f, ": {text}")?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_explains_every_exit_code() {
        let page = include_str!("../docs/errors.md");
        let alone = [
            Exit::Ok,
            Exit::Failure,
            Exit::Usage,
            Exit::RowsFailed,
            Exit::Auth,
            Exit::Budget,
            Exit::Data,
            Exit::NoInput,
            Exit::Io,
            Exit::TempFail,
            Exit::Protocol,
            Exit::ClosedPipe,
        ];
        for exit in alone {
            let row = format!("\n| {} | `{}` |", exit.code(), exit.name());
            assert!(page.contains(&row), "docs/errors.md has no row {row}");
        }
        let [hangup, interrupt, terminate] = [Exit::Hangup, Exit::Interrupt, Exit::Terminate].map(Exit::code);
        assert!(page.contains(&format!("\n| {hangup}, {interrupt}, {terminate} | `{}` |", Exit::Hangup.name())));
    }

    #[test]
    fn graver_exit_wins_in_the_order_of_the_contract() {
        let order = [Exit::Io, Exit::Auth, Exit::Budget, Exit::Protocol, Exit::TempFail, Exit::RowsFailed, Exit::Ok];
        for (i, a) in order.iter().enumerate() {
            for b in &order[i..] {
                assert_eq!(a.worst(*b), *a);
                assert_eq!(b.worst(*a), *a);
            }
        }
    }

    #[test]
    fn path_that_cannot_be_written_has_a_remedy() {
        use std::io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
        for kind in [NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem] {
            assert!(Error::io("o.jsonl: cannot be written", kind.into()).hint.is_some(), "{kind}");
        }
    }

    #[test]
    fn closed_pipe_is_not_a_disk_error() {
        let error = Error::io("writing results", std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.exit.code(), 141);
        let error = Error::io("writing results", std::io::ErrorKind::StorageFull.into());
        assert_eq!(error.exit.code(), 74);
        assert!(error.hint.is_some());
    }

    #[test]
    fn text_carries_the_cause_once() {
        let cause = std::io::Error::other("no such luck");
        let error = Error::new(Exit::Io, "in.jsonl: cannot read").because(cause);
        assert_eq!(error.to_string(), "in.jsonl: cannot read: no such luck");
    }
}
