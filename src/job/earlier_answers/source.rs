//! The places where answers of earlier jobs lie.

use std::path::PathBuf;

use crate::outcome::Outcome;
use crate::sealed::VerifiedPart;
use crate::store::{JobDb, Store};

/// A job with answers, or a part of them that a task has sealed.
#[derive(Debug)]
pub(super) enum AnswerSource {
    Job { id: String, open: OpenedOnce<JobDb> },
    Part { path: PathBuf, open: OpenedOnce<VerifiedPart> },
}

/// A file that is opened when it is first needed.
#[derive(Debug)]
pub(super) enum OpenedOnce<T> {
    NotYet,
    Open(Box<T>),
    /// It cannot be read.
    Failed,
}

impl<T> OpenedOnce<T> {
    fn get(&mut self, open: impl FnOnce() -> Option<T>) -> Option<&T> {
        if let Self::NotYet = self {
            *self = open().map_or(Self::Failed, |opened| Self::Open(Box::new(opened)));
        }
        if let Self::Open(opened) = self { Some(opened) } else { None }
    }
}

impl AnswerSource {
    /// Returns true if it has files open.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Job { open: OpenedOnce::Open(_), .. })
    }

    /// Closes its files. They are opened again when they are needed.
    pub(super) fn close(&mut self) {
        if let Self::Job { open: open @ OpenedOnce::Open(_), .. } = self {
            *open = OpenedOnce::NotYet;
        }
    }

    pub(super) fn of_job(id: &str) -> Self {
        Self::Job { id: id.to_owned(), open: OpenedOnce::NotYet }
    }

    pub(super) fn of_part(path: PathBuf) -> Self {
        Self::Part { path, open: OpenedOnce::NotYet }
    }

    /// The answer of a row of the job, or at an offset of the part. A damaged answer is as good as none: its request is sent.
    pub(super) fn read(&mut self, at: u64, store: &Store) -> Option<Outcome> {
        match self {
            Self::Job { id, open } => {
                let db = open.get(|| store.open_job(id).ok())?;
                db.outcomes(at, 1).ok()?.pop().filter(|found| found.row == at)
            }
            Self::Part { path, open } => open.get(|| VerifiedPart::open(path))?.answer(at),
        }
    }
}
