//! Facts of the built-in table about models in batches, each with its source and its date.

use std::fmt;

use super::BatchTerms;

/// The verdict of a source on a model in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchFinding {
    /// The service fails batches of this model.
    Refused,
    /// Batches get a discount.
    Discounted,
    /// Older lists name a discount, the source does not: batches count at full price.
    Lapsed,
    /// The source names a discount, later lists do not: batches count at a discount all the same.
    Doubtful,
}

/// A finding, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchFact {
    /// The verdict.
    pub finding: BatchFinding,
    /// The document that is the source.
    pub source: String,
    /// When it said so: a month or a year.
    pub as_of: String,
}

impl BatchFinding {
    /// Reads the word that the data file uses.
    pub(super) fn parse(word: &str) -> Option<Self> {
        match word {
            "refused" => Some(Self::Refused),
            "discounted" => Some(Self::Discounted),
            "lapsed" => Some(Self::Lapsed),
            "doubtful" => Some(Self::Doubtful),
            _ => None,
        }
    }

    /// The way in which llbatch counts batches of such a model.
    pub(super) const fn batch(self) -> BatchTerms {
        match self {
            Self::Refused => BatchTerms::Refused,
            Self::Discounted | Self::Doubtful => BatchTerms::Discounted,
            Self::Lapsed => BatchTerms::FullPrice,
        }
    }
}

/// The fact as a remark on a model.
impl fmt::Display for BatchFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { finding, source, as_of } = self;
        match finding {
            BatchFinding::Refused => write!(f, "not served in batches ({source}, {as_of})"),
            BatchFinding::Discounted => write!(f, "batch discount as of {as_of}"),
            BatchFinding::Lapsed => f.write_str("full price in batches: only older lists name half price"),
            BatchFinding::Doubtful => {
                write!(f, "half price in batches, by {source} of {as_of}; later lists leave it out")
            }
        }
    }
}
