//! One limit shared by several processes: each reports what it sends and has learned, and takes its share.
//!
//! All count in requests a second of *all* processes together. Each paces itself to its share of the limit, and compares its
//! refusals with the requests of all. The others adopt the newest estimate.

mod report;
mod view;

use std::ops::Add;
use std::sync::Arc;

pub use report::LimitEstimate;
use report::PeerReport;
pub(super) use view::{Advice, PeerView};

use crate::store::Presence;

/// Above this number of models, a process counts as asking all of them.
const MODELS: usize = 16;

/// Requests sent, and how many of them were refused; fractions occur where the requests of other processes are spread.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Traffic {
    /// All requests.
    pub sent: f64,
    /// The refused ones.
    pub refused: f64,
}

impl Add for Traffic {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { sent: self.sent + other.sent, refused: self.refused + other.refused }
    }
}

/// A report and the process that wrote it.
#[derive(Debug, Clone)]
pub(super) struct Heard {
    name: String,
    report: PeerReport,
}

/// The processes that share a key and a service.
#[derive(Debug, Clone)]
pub struct Peers {
    presence: Arc<Presence>,
    models: Arc<[String]>,
}

impl Peers {
    /// Joins the processes in `presence`. This one asks these models.
    pub fn new(presence: Presence, mut models: Vec<String>) -> Self {
        if models.len() > MODELS {
            models.clear();
        }
        Self { presence: Arc::new(presence), models: models.into() }
    }

    /// Publishes `report`, and reads the reports of the others.
    pub(super) fn exchange(&self, mut report: PeerReport) -> std::io::Result<Vec<Heard>> {
        report.models = self.models.to_vec();
        let others = self.presence.exchange(&report.to_text())?;
        let heard =
            others.into_iter().filter_map(|(name, text)| Some(Heard { name, report: PeerReport::parse(&text)? }));
        Ok(heard.filter(|other| report.meets(&other.report)).collect())
    }
}

#[cfg(test)]
mod tests;
