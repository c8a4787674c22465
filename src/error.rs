//! The one error type: what happened, where, and what to do next.
//!
//! A failed *row* is not an error, it is data ([`crate::outcome`]); an [`Error`] is what stops a command.

use std::fmt;

/// How a command ended, as users script against it (README, "Exit codes").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exit {
    /// Done; every row succeeded.
    Ok = 0,
    /// Failed for a reason that has no code of its own.
    Failure = 1,
    /// Flags, arguments or the config file are wrong.
    Usage = 2,
    /// Finished, but rows failed or are missing.
    RowsFailed = 3,
    /// No key, or the service refused it.
    Auth = 4,
    /// Payment required, or the user's own budget or deadline was reached.
    Budget = 5,
    /// Invalid input: nothing was sent.
    Data = 65,
    /// An input cannot be read.
    NoInput = 66,
    /// Local I/O failed.
    Io = 74,
    /// Try again later.
    TempFail = 75,
    /// The server broke its contract.
    Protocol = 76,
    /// Stopped by SIGHUP.
    Hangup = 129,
    /// Stopped by SIGINT.
    Interrupt = 130,
    /// The reader of our output went away.
    ClosedPipe = 141,
    /// Stopped by SIGTERM.
    Terminate = 143,
}

impl Exit {
    /// The number given to the shell.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Which of two reasons to report when both hold: the earlier in 74, 4, 5, 76, 75, 3.
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

/// What stops a command: a sentence, its exit code, its cause and a remedy.
#[derive(Debug)]
pub struct Error {
    /// Decides the exit code.
    pub exit: Exit,
    /// What happened and where (<file:line>, id, URL); no final full stop.
    pub message: String,
    /// What the user can do about it.
    pub hint: Option<String>,
    /// The cause, if another error is behind this one.
    pub source: Option<anyhow::Error>,
}

/// A result whose error stops the command.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error that ends the command with `exit`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), hint: None, source: None }
    }

    /// A mistake in flags, arguments or the config file.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Adds what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds the error behind this one.
    pub fn because(mut self, source: impl Into<anyhow::Error>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// A failure to read or write something local, told apart by what the system said.
    pub fn io(what: impl fmt::Display, source: std::io::Error) -> Self {
        if source.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::new(Exit::ClosedPipe, format!("{what}: the reader went away")).because(source);
        }
        let hint = match source.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
                Some("free some space, then run the same command again: it goes on where it stopped")
            }
            std::io::ErrorKind::FileTooLarge => Some(
                "raise the limit on the size of files (`ulimit -f`), then run the same command again: it goes on where it stopped",
            ),
            std::io::ErrorKind::PermissionDenied => Some("check the permissions of that path"),
            _ => None,
        };
        let mut error = Self::new(Exit::Io, what.to_string()).because(source);
        error.hint = hint.map(str::to_owned);
        error
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in self.source.iter().flat_map(anyhow::Error::chain) {
            let text = cause.to_string();
            // Libraries tend to repeat their cause in their own text.
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
    fn the_graver_exit_wins_in_the_order_of_the_contract() {
        let order = [Exit::Io, Exit::Auth, Exit::Budget, Exit::Protocol, Exit::TempFail, Exit::RowsFailed, Exit::Ok];
        for (i, a) in order.iter().enumerate() {
            for b in &order[i..] {
                assert_eq!(a.worst(*b), *a);
                assert_eq!(b.worst(*a), *a);
            }
        }
    }

    #[test]
    fn a_closed_pipe_is_not_a_disk_error() {
        let error = Error::io("writing results", std::io::ErrorKind::BrokenPipe.into());
        assert_eq!(error.exit.code(), 141);
        let error = Error::io("writing results", std::io::ErrorKind::StorageFull.into());
        assert_eq!(error.exit.code(), 74);
        assert!(error.hint.is_some());
    }

    #[test]
    fn the_text_carries_the_cause_once() {
        let cause = std::io::Error::other("no such luck");
        let error = Error::new(Exit::Io, "in.jsonl: cannot read").because(cause);
        assert_eq!(error.to_string(), "in.jsonl: cannot read: no such luck");
    }
}
