//! llbatch's own mark on a batch, in the `metadata` of `OpenAI`'s form.

use serde_json::{Value, json};

/// The job and the batch that a batch of the service belongs to. It finds a creation whose reply was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchLabel {
    /// The job's id.
    pub job: String,
    /// The batch's number in the job.
    pub batch: u32,
    /// SHA-256 of its input file, in lower-case hex. Empty: not known.
    pub sha256: String,
}

const JOB: &str = "llbatch_job";
const BATCH: &str = "llbatch_batch";
const SHA256: &str = "llbatch_sha256";

impl BatchLabel {
    /// The pairs that are sent: texts of at most 512 characters.
    pub(super) fn metadata(&self) -> Value {
        json!({JOB: self.job, BATCH: self.batch.to_string(), SHA256: self.sha256})
    }

    /// Reads the label of a batch, if llbatch created it.
    pub(super) fn read(metadata: Option<&Value>) -> Option<Self> {
        let text = |name| Some(metadata?.get(name)?.as_str()?.to_owned());
        Some(Self { job: text(JOB)?, batch: text(BATCH)?.parse().ok()?, sha256: text(SHA256).unwrap_or_default() })
    }

    /// Returns true if both name the same batch of the same job.
    pub fn is_of(&self, other: &Self) -> bool {
        self.job == other.job && self.batch == other.batch
    }
}
