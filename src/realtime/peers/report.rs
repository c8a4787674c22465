//! The report that a process publishes: one line of text.

/// The version of the text; reports of other versions are ignored.
const VERSION: &str = "1";

/// A process's report about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub(in crate::realtime) struct PeerReport {
    /// Grows with every report.
    pub(super) beat: u64,
    /// The models that it asks; empty if they are too many to list.
    pub(super) models: Vec<String>,
    /// Its estimate of the limit.
    pub(super) estimate: Option<LimitEstimate>,
    /// Requests sent so far.
    pub(super) sent: u32,
    /// Requests refused so far.
    pub(super) refused: u32,
    /// Requests a second that it sends.
    pub(super) rate: f64,
    /// The process has more rows to send than its rate allows.
    pub(super) wants: bool,
}

/// An estimate of the limit, in requests a second of all processes together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitEstimate {
    /// The limit as it was found.
    pub limit: f64,
    /// Seconds since it was found.
    pub age: f64,
    /// The rate that is tried by now.
    pub rate: f64,
    /// The growth of that rate a second, if the limit is not known well.
    pub growth: Option<f64>,
}

impl PeerReport {
    /// Writes a line of numbers, then the models, between tabs.
    pub(super) fn to_text(&self) -> String {
        let Self { beat, models, estimate, sent, refused, rate, wants } = self;
        let estimate = estimate.map_or_else(String::new, |LimitEstimate { limit, age, rate, growth }| {
            let growth = growth.map_or_else(String::new, |growth| format!(" {growth}"));
            format!(" {limit} {age} {rate}{growth}")
        });
        let numbers = format!("{VERSION} {beat} {sent} {refused} {rate} {wants}{estimate}");
        [&[numbers], &models[..]].concat().join("\t")
    }

    /// Reads the text of a report.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('\t');
        let mut words = parts.next()?.split(' ').skip_while(|word| word.is_empty());
        let version = words.next()?;
        let (beat, sent, refused) =
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let (rate, wants) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let numbers: Vec<f64> = words.map_while(|word| word.parse().ok()).collect();
        let estimate = match numbers[..] {
            [limit, age, rate] => Some(LimitEstimate { limit, age, rate, growth: None }),
            [limit, age, rate, growth] => Some(LimitEstimate { limit, age, rate, growth: Some(growth) }),
            _ => None,
        };
        let models = parts.map(|model| model.trim_end().to_owned()).collect();
        (version == VERSION).then_some(Self { beat, models, estimate, sent, refused, rate, wants })
    }

    /// Returns true if both may meet the same limit. Limits belong to models.
    pub(super) fn meets(&self, other: &Self) -> bool {
        let many = self.models.is_empty() || other.models.is_empty();
        many || self.models.iter().any(|model| other.models.contains(model))
    }
}
