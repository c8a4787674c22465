//! A batch job as it is kept, and its state at a given time.
//!
//! Nothing runs while a job "runs": its state is computed from the clock whenever a client asks. So a job lives on
//! while no sandbox is up at all.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::batch_config::Unset;
use super::cache::CachedTokens;
use super::dialect::ServedDialect;
use super::faults::ScriptedFault;
use super::stats::Bill;

/// The states of a job in the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServedStatus {
    Validating,
    InProgress,
    Canceling,
    Completed,
    Failed,
    Expired,
    Cancelled,
}

impl ServedStatus {
    pub fn name(self) -> &'static str {
        match self {
            Self::Validating => "VALIDATING",
            Self::InProgress => "IN_PROGRESS",
            Self::Canceling => "CANCELING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Cancelled => "CANCELLED",
        }
    }
}

/// A batch job as it is kept. Its course is decided when it is created: times, faults and chance are part of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BatchRecord {
    pub id: String,
    /// Milliseconds since 1970.
    pub created_ms: u64,
    /// The sandbox that created it.
    pub instance: String,
    pub input_file_id: String,
    pub file_size_bytes: u64,
    /// `/v1/chat/completions`, …
    pub endpoint: String,
    /// The model, if all rows have the same.
    pub model_id: Option<String>,
    pub rows: u64,
    /// The error with which it fails.
    pub failure: Option<String>,
    /// The line of the input with which it fails.
    #[serde(default)]
    pub failed_line: Option<u64>,
    /// Milliseconds in `VALIDATING`, `IN_PROGRESS` and `CANCELING`.
    pub phases: [u64; 3],
    /// The fraction of rows that are done when it expires.
    pub expires_at: Option<f64>,
    pub list_undone: bool,
    /// The milliseconds for which it is missing from the list.
    pub list_lag: u64,
    /// The form of fields without a value.
    pub unset: Unset,
    pub seed: u64,
    #[serde(default)]
    pub dialect: ServedDialect,
    /// The bodies of its results are JSON strings.
    #[serde(default)]
    pub body_text: bool,
    /// The client's own words on it, in `OpenAI`'s form.
    #[serde(default)]
    pub metadata: Value,
    /// The form in which its answers report cached tokens.
    #[serde(default)]
    pub cached_tokens: CachedTokens,
    /// The price at its creation, in times of the list's.
    #[serde(default = "list_price")]
    pub price_times: u64,
    pub faults: Vec<ScriptedFault>,
    /// The time of the request to cancel, in milliseconds since 1970.
    pub cancelled_ms: Option<u64>,
    /// The result, once a client asked after the end.
    pub result: Option<BatchResult>,
}

const fn list_price() -> u64 {
    1
}

/// The result of a job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct BatchResult {
    /// The answers, if there are any.
    pub output_file_id: Option<String>,
    /// The failed rows, if there are any.
    pub error_file_id: Option<String>,
    pub bill: Bill,
    /// Lines of the two files.
    #[serde(default)]
    pub lines: [u64; 2],
    /// The sandbox that wrote the result.
    pub instance: String,
}

impl BatchRecord {
    pub(super) const fn run_begins(&self) -> u64 {
        self.created_ms + self.phases[0]
    }

    /// The fraction of the run that is over at `now`.
    pub(super) fn elapsed(&self, now: u64) -> f64 {
        // Asked first: a run may take no time at all.
        if now >= self.run_begins() + self.phases[1] {
            return 1.0;
        }
        let passed = Duration::from_millis(now.saturating_sub(self.run_begins()));
        passed.div_duration_f64(Duration::from_millis(self.phases[1].max(1))).min(1.0)
    }

    /// The state at `now`, in milliseconds since 1970.
    pub fn status(&self, now: u64) -> ServedStatus {
        if let Some(asked) = self.cancelled_ms {
            return if now < asked + self.phases[2] { ServedStatus::Canceling } else { ServedStatus::Cancelled };
        }
        if now < self.run_begins() {
            return ServedStatus::Validating;
        }
        if self.failure.is_some() {
            return ServedStatus::Failed;
        }
        if now < self.run_begins() + self.phases[1] {
            return ServedStatus::InProgress;
        }
        if self.expires_at.is_some() { ServedStatus::Expired } else { ServedStatus::Completed }
    }

    /// The fraction of its rows that are answered, or will ever be.
    pub fn done(&self, now: u64) -> f64 {
        let most = self.expires_at.unwrap_or(1.0);
        let now = self.cancelled_ms.unwrap_or(now);
        if self.failure.is_some() { 0.0 } else { (self.elapsed(now) * most).min(most) }
    }

    /// The time of its end, if it has ended.
    pub(super) fn ended(&self, now: u64) -> Option<u64> {
        match self.status(now) {
            ServedStatus::Validating | ServedStatus::InProgress | ServedStatus::Canceling => None,
            ServedStatus::Failed => Some(self.run_begins()),
            ServedStatus::Cancelled => self.cancelled_ms.map(|asked| asked + self.phases[2]),
            ServedStatus::Completed | ServedStatus::Expired => Some(self.run_begins() + self.phases[1]),
        }
    }

    /// Returns true if the job has ended and its result is not yet written.
    pub fn is_due(&self, now: u64) -> bool {
        self.result.is_none() && self.ended(now).is_some() && self.status(now) != ServedStatus::Failed
    }

    /// The job as the API shows it.
    pub fn shown(&self, now: u64) -> Value {
        if self.dialect == ServedDialect::Openai {
            return self.shown_openai(now);
        }
        let status = self.status(now);
        let progress = if status == ServedStatus::Completed { 100.0 } else { (self.done(now) * 1000.0).floor() / 10.0 };
        let mut job = json!({
            "id": self.id,
            "user_id": "sandbox-user",
            "input_file_id": self.input_file_id,
            "file_size_bytes": self.file_size_bytes,
            "status": status.name(),
            // The deadline was seen microseconds below the whole hour.
            "job_deadline": timestamp(self.created_ms + 24 * 3_600_000, -7),
            "created_at": timestamp(self.created_ms, 0),
            "endpoint": self.endpoint,
            "progress": progress,
        });
        let result = self.result.as_ref();
        let failure = self.failure.clone().filter(|_| status == ServedStatus::Failed);
        for (name, value) in [
            ("model_id", self.model_id.clone().filter(|_| status != ServedStatus::Validating)),
            ("output_file_id", result.and_then(|result| result.output_file_id.clone())),
            ("error_file_id", result.and_then(|result| result.error_file_id.clone())),
            ("error", failure),
            ("completed_at", self.ended(now).map(|ms| timestamp(ms, 0))),
        ] {
            if let Some(value) = value.map(Value::from).or_else(|| self.unset.value()) {
                job[name] = value;
            }
        }
        job
    }
}

/// RFC 3339 with six digits, `micros` away from `ms`.
fn timestamp(ms: u64, micros: i64) -> String {
    let since = i64::try_from(ms).unwrap_or(i64::MAX / 2000).saturating_mul(1000).saturating_add(micros);
    jiff::Timestamp::from_microsecond(since).map(|time| format!("{time:.6}")).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A job made at second 1000 that is checked for 1 s, runs for 10 s and takes 2 s to stop.
    pub fn record() -> BatchRecord {
        BatchRecord {
            id: "b".to_owned(),
            created_ms: 1_000_000,
            instance: String::new(),
            input_file_id: "f".to_owned(),
            file_size_bytes: 10,
            endpoint: "/v1/chat/completions".to_owned(),
            model_id: Some("a/b".to_owned()),
            rows: 4,
            failure: None,
            failed_line: None,
            phases: [1000, 10_000, 2000],
            expires_at: None,
            list_undone: false,
            list_lag: 0,
            unset: Unset::Omit,
            seed: 0,
            dialect: ServedDialect::Together,
            body_text: false,
            metadata: Value::Null,
            cached_tokens: CachedTokens::None,
            price_times: 1,
            faults: Vec::new(),
            cancelled_ms: None,
            result: None,
        }
    }

    #[test]
    fn the_results_are_written_at_the_end_of_the_run() {
        for (ms, status, at) in
            [(9_900, "in_progress", None), (10_100, "finalizing", Some(1010)), (11_000, "completed", Some(1010))]
        {
            let shown = record().shown_openai(1_000_000 + ms);
            assert_eq!((shown["status"].as_str(), shown["finalizing_at"].as_u64()), (Some(status), at), "{shown}");
        }
    }

    #[test]
    fn a_job_changes_state_with_the_clock() {
        let plain = record();
        let failing = BatchRecord { failure: Some("bad".to_owned()), ..record() };
        let expiring = BatchRecord { expires_at: Some(0.5), ..record() };
        let stopped = BatchRecord { cancelled_ms: Some(1_006_000), ..record() };
        let early = BatchRecord { cancelled_ms: Some(1_000_500), ..record() };
        let instant = BatchRecord { phases: [0, 0, 0], ..record() };
        let instant_but_checked = BatchRecord { phases: [1000, 0, 0], ..record() };
        let cases = [
            (&plain, 0, ServedStatus::Validating, 0.0),
            (&plain, 1000, ServedStatus::InProgress, 0.0),
            (&plain, 6000, ServedStatus::InProgress, 0.5),
            (&plain, 11_000, ServedStatus::Completed, 1.0),
            (&failing, 999, ServedStatus::Validating, 0.0),
            (&failing, 1000, ServedStatus::Failed, 0.0),
            (&expiring, 6000, ServedStatus::InProgress, 0.25),
            (&expiring, 99_000, ServedStatus::Expired, 0.5),
            (&stopped, 6000, ServedStatus::Canceling, 0.5),
            (&stopped, 7999, ServedStatus::Canceling, 0.5),
            (&stopped, 8000, ServedStatus::Cancelled, 0.5),
            (&early, 500, ServedStatus::Canceling, 0.0),
            (&early, 2500, ServedStatus::Cancelled, 0.0),
            (&instant, 0, ServedStatus::Completed, 1.0),
            (&instant_but_checked, 999, ServedStatus::Validating, 0.0),
            (&instant_but_checked, 1000, ServedStatus::Completed, 1.0),
        ];
        for (record, after, status, done) in cases {
            let now = record.created_ms + after;
            assert_eq!(record.status(now), status, "after {after} ms");
            assert!((record.done(now) - done).abs() < 1e-9, "after {after} ms: {}", record.done(now));
        }
    }

    #[test]
    fn a_job_is_shown_with_the_recorded_fields() {
        let job = record().shown(1_006_000);
        assert_eq!(job["status"], "IN_PROGRESS");
        assert_eq!(job["progress"], 50.0);
        assert_eq!(job["created_at"], "1970-01-01T00:16:40.000000Z");
        assert_eq!(job["job_deadline"], "1970-01-02T00:16:39.999993Z");
        assert!(job.get("completed_at").is_none() && job.get("error").is_none());
        let null = BatchRecord { unset: Unset::Null, ..record() }.shown(1_006_000);
        assert!(null.get("output_file_id").is_some_and(Value::is_null));
        let empty = BatchRecord { unset: Unset::Empty, ..record() }.shown(1_006_000);
        assert_eq!(empty["error_file_id"], "");
        let failed = BatchRecord { failure: Some("bad".to_owned()), ..record() }.shown(1_006_000);
        assert_eq!((&failed["status"], &failed["error"]), (&json!("FAILED"), &json!("bad")));
    }
}
