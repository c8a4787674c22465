//! The reason why a realtime run stopped before its end.

use crate::error::{Error, Exit, Result};
use crate::outcome::ErrorCode;
use crate::realtime::Stopped;
use crate::text;

/// The reason why a command stopped before the end of its job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The exit code.
    pub exit: Exit,
    /// The reason in a few words.
    pub reason: String,
    /// The error code of rows that were not answered.
    pub pending: ErrorCode,
    /// The run has reached a limit of cost.
    pub over_budget: bool,
}

impl Stop {
    /// Decides from the signals, the reader and the engine, in this order. `None` if the run reached its end.
    /// `keyless`: no key was sent.
    pub fn of(signal: i32, fed: &Result<()>, stopped: Option<&Stopped>, keyless: bool) -> Option<Self> {
        let by_signal = match signal {
            1 => Some("the terminal went away (SIGHUP)"),
            2 => Some("interrupted (SIGINT)"),
            15 => Some("terminated (SIGTERM)"),
            _ => None,
        };
        if let Some(reason) = by_signal {
            return Some(Self::new(Exit::of_signal(signal), after_outage(reason, stopped)));
        }
        if let Err(error) = fed {
            return Some(Self::by(error));
        }
        stopped.map(|stopped| Self::by_engine(stopped, keyless))
    }

    /// Builds a stop because of this error.
    pub fn by(error: &Error) -> Self {
        Self::new(error.exit, error.to_string())
    }

    /// Builds the stop of a wait whose time is up. `deadline`: the limit is `--deadline`, not `--timeout`.
    pub(super) fn of_wait(deadline: bool) -> Self {
        if deadline {
            let stop = Self::new(Exit::Budget, "the deadline was reached".to_owned());
            return Self { pending: ErrorCode::Deadline, ..stop };
        }
        Self::new(Exit::TempFail, "--timeout has passed".to_owned())
    }

    fn by_engine(stopped: &Stopped, keyless: bool) -> Self {
        let (exit, reason, pending) = match stopped {
            Stopped::Auth(words) if keyless => {
                (Exit::Auth, format!("the service asks for a key, and none was sent: {words}"), ErrorCode::Auth)
            }
            Stopped::Auth(words) => (Exit::Auth, format!("the service refused the key: {words}"), ErrorCode::Auth),
            Stopped::Payment(words) => {
                (Exit::Budget, format!("the service asks for payment: {words}"), ErrorCode::Payment)
            }
            Stopped::Cost(what) => (Exit::Budget, format!("the next request could exceed {what}"), ErrorCode::Budget),
            Stopped::Deadline(_) => {
                (Exit::Budget, after_outage("the deadline was reached", Some(stopped)), ErrorCode::Deadline)
            }
            Stopped::Setup(words) => (Exit::Failure, words.clone(), ErrorCode::Network),
            Stopped::GaveUp(words) => (
                Exit::TempFail,
                format!("no request succeeded within --give-up-after; last error: {words}"),
                ErrorCode::Interrupted,
            ),
            Stopped::WaitTooLong { wait, deadline, failure } => {
                let (exit, limit, pending) = if *deadline {
                    (Exit::Budget, "the deadline", ErrorCode::Deadline)
                } else {
                    (Exit::TempFail, "--give-up-after", ErrorCode::Interrupted)
                };
                let wait = text::duration(*wait);
                let reason =
                    format!("no request can be sent for {wait}, which is beyond {limit}; last error: {failure}");
                (exit, reason, pending)
            }
            Stopped::Pages(words) => (
                Exit::Protocol,
                format!(
                    "row after row, a web page answers instead of the API (\"{words}\"); check the base URL, and \
                     whether the network needs a login"
                ),
                ErrorCode::Interrupted,
            ),
            Stopped::Cancelled(_) => (Exit::Failure, "stopped".to_owned(), ErrorCode::Interrupted),
        };
        Self { exit, reason, pending, over_budget: matches!(stopped, Stopped::Cost(_)) }
    }

    const fn new(exit: Exit, reason: String) -> Self {
        Self { exit, reason, pending: ErrorCode::Interrupted, over_budget: false }
    }
}

/// Adds the last failure to the reason of a stop during an outage.
fn after_outage(reason: &str, stopped: Option<&Stopped>) -> String {
    match stopped {
        Some(Stopped::Cancelled(Some(failure)) | Stopped::Deadline(Some(failure))) => {
            format!("{reason}; the service could not be reached: {failure}")
        }
        _ => reason.to_owned(),
    }
}
