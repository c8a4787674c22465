//! The tokens of a row.

use serde::{Deserialize, Serialize};

use crate::completion::{ReportedUsage, shares};
use crate::pack::packed;

/// Token counts as the service reports them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens of the request.
    pub prompt: u64,
    /// Tokens of the answer.
    pub completion: u64,
    /// The part of `prompt` that the service had in its cache.
    #[serde(default)]
    pub cached: u64,
    /// The part of `completion` that is reasoning.
    #[serde(default)]
    pub reasoning: u64,
}
packed!(Usage { prompt, completion, cached, reasoning });

impl Usage {
    /// Tokens of which none are cached, and none are reasoning.
    pub const fn new(prompt: u64, completion: u64) -> Self {
        Self { prompt, completion, cached: 0, reasoning: 0 }
    }

    /// All tokens.
    pub const fn total(self) -> u64 {
        self.prompt + self.completion
    }

    /// Returns whether `part` may be a part of these tokens.
    pub(super) const fn covers(self, part: Self) -> bool {
        self.prompt >= part.prompt
            && self.completion >= part.completion
            && self.cached >= part.cached
            && self.reasoning >= part.reasoning
    }

    /// Divides these tokens among rows in proportion to `weights`. The parts add up exactly.
    pub fn shares(self, weights: &[u64]) -> Vec<Self> {
        let (prompt, completion) = (shares(self.prompt, weights), shares(self.completion, weights));
        let (cached, reasoning) = (shares(self.cached, &prompt), shares(self.reasoning, &completion));
        let part = |i: usize| Self {
            prompt: prompt[i],
            completion: completion[i],
            cached: cached[i],
            reasoning: reasoning[i],
        };
        (0..weights.len()).map(part).collect()
    }

    /// `count` times these tokens.
    pub const fn times(self, count: u64) -> Self {
        Self {
            prompt: self.prompt * count,
            completion: self.completion * count,
            cached: self.cached * count,
            reasoning: self.reasoning * count,
        }
    }
}

impl From<ReportedUsage> for Usage {
    fn from(reported: ReportedUsage) -> Self {
        let ReportedUsage { prompt, completion, cached, reasoning } = reported;
        Self { prompt, completion, cached, reasoning }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt += other.prompt;
        self.completion += other.completion;
        self.cached += other.cached;
        self.reasoning += other.reasoning;
    }
}

impl std::ops::SubAssign for Usage {
    fn sub_assign(&mut self, other: Self) {
        self.prompt -= other.prompt;
        self.completion -= other.completion;
        self.cached -= other.cached;
        self.reasoning -= other.reasoning;
    }
}
