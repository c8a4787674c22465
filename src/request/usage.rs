//! Tracks which of their own parameters and which flags the drafted rows used, so that notes can name those that no row used.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::params;

/// A set of parameters that threads add to.
#[derive(Debug, Default)]
pub struct ParameterSet(AtomicU64);

impl ParameterSet {
    /// Adds the parameter `name`; other names are left out.
    pub fn add(&self, name: &str) {
        // The lists of parameters are shorter than 64 together.
        let Some(bit) = params::parameter_index(name).and_then(|place| 1_u64.checked_shl(place as u32)) else { return };
        // Nearly always it is there, and threads that only read do not wait for each other.
        if self.0.load(Ordering::Relaxed) & bit == 0 {
            self.0.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Their names.
    pub fn names(&self) -> Vec<&'static str> {
        let set = self.0.load(Ordering::Relaxed);
        (0..u64::BITS as usize).filter(|place| set >> place & 1 == 1).map(params::at).collect()
    }
}

/// A fact that threads note once it is so.
#[derive(Debug, Default)]
pub(super) struct Noted(AtomicBool);

impl Noted {
    /// Notes it.
    pub fn note(&self) {
        if !self.0.load(Ordering::Relaxed) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    /// Returns true if it was noted.
    pub(super) fn is_noted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The use of rows' own parameters and of flags.
#[derive(Debug, Default)]
pub(super) struct RowUsage {
    /// A request was made.
    pub any: Noted,
    /// `--system` was used.
    pub system_flag: Noted,
    /// Parameters that rows have, but which are data here.
    pub ignored: ParameterSet,
    /// Parameters of rows that their requests have.
    pub own: ParameterSet,
}
