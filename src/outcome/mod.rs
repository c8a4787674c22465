//! The outcome of a row: its answer or its error, and what it cost in attempts, time and tokens.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::completion::AnswerPlaces;
use crate::pack::{Pack, packed};

mod usage;

pub use usage::Usage;

/// The way in which requests reach the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// One HTTP request per row.
    Realtime,
    /// Together batch jobs.
    Batch,
}

impl Transport {
    /// The name in JSON documents and in the ledger.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Realtime => "realtime",
            Self::Batch => "batch",
        }
    }
}

/// A blake3 hash of endpoint, model and body, cut to 16 bytes. Requests with equal fingerprints are the same request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
pub struct Fingerprint(pub [u8; 16]);
packed!(Fingerprint(bytes));

/// The reason why a row has no answer (contract, "Results").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The service or the input check rejected the request.
    InvalidRequest,
    /// The service rejected the key.
    Auth,
    /// The service asks for credits (402).
    Payment,
    /// The model or the path does not exist.
    NotFound,
    /// Prompt and `max_tokens` exceed the model's context.
    ContextLength,
    /// The service answered 429 until the retries ran out.
    RateLimited,
    /// The service lacked capacity.
    Overloaded,
    /// The service failed with another 5xx.
    ServerError,
    /// No answer came in time.
    Timeout,
    /// The connection failed.
    Network,
    /// A 200 carried no valid answer: HTML, truncated JSON, no choices.
    BadResponse,
    /// The answer breaks a rule that the user set: it is not JSON of the schema, or none of the choices.
    InvalidAnswer,
    /// The answer was cut off at its token limit: before any text, or where the user asked for whole answers.
    Truncated,
    /// A filter of the service ended the answer before any text.
    Filtered,
    /// The batch ended before the service reached this row.
    Expired,
    /// The user cancelled the row.
    Cancelled,
    /// The results of the batch lack this row.
    Missing,
    /// The user's budget was reached first.
    Budget,
    /// The user's deadline was reached first.
    Deadline,
    /// The run stopped before the row was answered.
    Interrupted,
}

impl ErrorCode {
    /// Every code, in the contract's order.
    pub const ALL: [Self; 20] = [
        Self::InvalidRequest,
        Self::Auth,
        Self::Payment,
        Self::NotFound,
        Self::ContextLength,
        Self::RateLimited,
        Self::Overloaded,
        Self::ServerError,
        Self::Timeout,
        Self::Network,
        Self::BadResponse,
        Self::InvalidAnswer,
        Self::Truncated,
        Self::Filtered,
        Self::Expired,
        Self::Cancelled,
        Self::Missing,
        Self::Budget,
        Self::Deadline,
        Self::Interrupted,
    ];

    /// Returns whether a retry cannot help.
    pub const fn is_permanent(self) -> bool {
        matches!(self, Self::InvalidRequest | Self::NotFound | Self::ContextLength | Self::Truncated | Self::Filtered)
    }

    /// The code as results spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::Auth => "auth",
            Self::Payment => "payment",
            Self::NotFound => "not_found",
            Self::ContextLength => "context_length",
            Self::RateLimited => "rate_limited",
            Self::Overloaded => "overloaded",
            Self::ServerError => "server_error",
            Self::Timeout => "timeout",
            Self::Network => "network",
            Self::BadResponse => "bad_response",
            Self::InvalidAnswer => "invalid_answer",
            Self::Truncated => "truncated",
            Self::Filtered => "filtered",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Missing => "missing",
            Self::Budget => "budget",
            Self::Deadline => "deadline",
            Self::Interrupted => "interrupted",
        }
    }

    /// The code of a row that is not sent because of a problem of this kind.
    pub fn of_problem(kind: &str) -> Self {
        if kind == Self::ContextLength.as_str() { Self::ContextLength } else { Self::InvalidRequest }
    }

    /// The code that `text` spells.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }
}

impl Pack for ErrorCode {
    fn layout(text: &mut String) {
        text.push_str("ErrorCode;");
    }

    fn pack(&self, bytes: &mut Vec<u8>) {
        self.as_str().to_owned().pack(bytes);
    }

    fn unpack(bytes: &mut &[u8]) -> Option<Self> {
        Self::parse(&String::unpack(bytes)?)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The error of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowError {
    /// The kind of failure.
    pub code: ErrorCode,
    /// Words of the service or of llbatch; never the key, never the prompt.
    pub message: String,
    /// The rule that a rejected answer breaks: the flag, and the place in the schema. `None`: no answer was rejected.
    pub rule: Option<Box<str>>,
}

impl RowError {
    /// The error of a row whose answer breaks no rule.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), rule: None }
    }

    /// The error as a cell of flat results: `code: message`, and the rule in brackets behind it.
    pub fn cell(&self) -> String {
        let Self { code, message, rule } = self;
        rule.as_ref().map_or_else(|| format!("{code}: {message}"), |rule| format!("{code}: {message} [{rule}]"))
    }

    /// Reads such a cell. A text without a known code is a bad response.
    pub fn of_cell(text: &str) -> Self {
        let known = text.split_once(": ").and_then(|(code, message)| Some((ErrorCode::parse(code)?, message)));
        let (code, message) = known.unwrap_or((ErrorCode::BadResponse, text));
        let rejected = matches!(code, ErrorCode::InvalidAnswer | ErrorCode::Truncated);
        let place = message.rfind(" [--").filter(|_| rejected && message.ends_with(']'));
        let Some((message, rule)) = place.map(|place| message.split_at(place)) else { return Self::new(code, message) };
        let rule = &rule[2..rule.len() - 1];
        Self { rule: Some(rule.into()), ..Self::new(code, message) }
    }
}

/// The outcome of one row: an answer, or an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Number of the row, 1-based over all inputs.
    pub row: u64,
    /// The user's id, or `row-N`.
    pub id: Box<str>,
    /// Fingerprint of the request that was sent.
    pub fingerprint: Fingerprint,
    /// The requested model.
    pub model: Arc<str>,
    /// `None`: the row is answered.
    pub error: Option<RowError>,
    /// HTTP status of the last response, if one came.
    pub status: Option<u16>,
    /// Body of the last response: JSON on a single line, otherwise the bytes of the server. `None`: no response, or not JSON.
    pub body: Option<Box<str>>,
    /// The places of the answer's parts in `body`, if they are known since it was read. They are not stored.
    pub places: Option<AnswerPlaces>,
    /// The files of the answer, until they have their place on the disk. They are not stored.
    pub attached: Vec<AnsweredFile>,
    /// Usage of the answer as the service reported it.
    pub usage: Option<Usage>,
    /// Usage of responses that were paid for and discarded.
    pub wasted: Usage,
    /// Attempts that were sent and never answered. The service may have billed them.
    pub at_risk: u32,
    /// Upper bound of one attempt: estimated prompt tokens, and `max_tokens` (0: not given).
    pub reserve: Usage,
    /// Requests sent for this row.
    pub attempts: u32,
    /// Attempts that the service answered with 429.
    pub refused: u32,
    /// Milliseconds of the last attempt, from its first byte out to its last byte in. 0 for an answer of a batch.
    pub latency_ms: u32,
    /// Milliseconds of the last attempt until the first piece of a streamed answer. `None`: it did not come as a stream.
    pub first_token_ms: Option<u32>,
    /// Number of the batch, within its job, that this outcome came from. `None`: realtime.
    pub batch: Option<u32>,
    /// Number of the base URL, among those kept with its job, of the last attempt. 0: the service has one, or a batch answered.
    pub url: u32,
    /// Number of the prices, among those kept with its job, at which the work was done. 0: the prices in force.
    pub prices: u32,
    /// The row whose outcome it is, because the requests are equal and nothing was sent for this one. 0: a row of another
    /// job, or one that is no longer known. `None`: it is the row's own.
    pub leader: Option<u64>,
}

/// A file that came as an answer, or as a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnsweredFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The media type that the service said.
    pub said: Option<Box<str>>,
}

/// A row that gets the outcome of an equal request instead of one of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    /// Number of the row.
    pub row: u64,
    /// The user's id, or `row-N`.
    pub id: Box<str>,
    /// Fingerprint of its own request, which may be spelled in another way.
    pub fingerprint: Fingerprint,
    /// The row whose request is sent.
    pub leader: u64,
}

impl Outcome {
    /// The failure of a row for which llbatch sent nothing.
    pub fn unsent(row: u64, id: Box<str>, model: Arc<str>, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            row,
            id,
            fingerprint: Fingerprint::default(),
            model,
            error: Some(RowError::new(code, message)),
            status: None,
            body: None,
            places: None,
            attached: Vec::new(),
            usage: None,
            wasted: Usage::default(),
            at_risk: 0,
            reserve: Usage::default(),
            attempts: 0,
            refused: 0,
            latency_ms: 0,
            first_token_ms: None,
            batch: None,
            url: 0,
            prices: 0,
            leader: None,
        }
    }

    /// The same outcome for a row with an equal request, which costs nothing. Its `usage` is that of a request which was
    /// not made.
    pub fn for_follower(&self, follower: Follower) -> Self {
        let Follower { row, id, fingerprint, leader } = follower;
        Self {
            fingerprint,
            error: self.error.clone(),
            status: self.status,
            body: self.body.clone(),
            batch: self.batch,
            prices: self.prices,
            leader: Some(leader),
            ..Self::unsent(row, id, Arc::clone(&self.model), ErrorCode::Missing, "")
        }
    }

    /// Makes an answer that breaks a rule a failure: it was paid for, and counts as thrown away.
    pub fn reject(&mut self, broken: RowError) {
        match self.usage.take() {
            Some(usage) => self.wasted += usage,
            None if self.is_unmetered() => self.at_risk += 1,
            None => {}
        }
        self.error = Some(broken);
    }

    /// Makes a rejected answer count again. `billed`: its own tokens among those that were thrown away.
    pub fn accept(&mut self, billed: Option<Usage>) {
        self.error = None;
        if self.is_reused() {
            return;
        }
        match billed.filter(|billed| self.wasted.covers(*billed)) {
            Some(billed) => {
                self.wasted -= billed;
                self.usage = Some(billed);
            }
            None => self.at_risk = self.at_risk.saturating_sub(1),
        }
    }

    /// Returns whether the row is answered.
    pub const fn ok(&self) -> bool {
        self.error.is_none()
    }

    /// Returns whether a stop of the run left the row, which the same command sends again.
    pub fn is_interrupted(&self) -> bool {
        self.error.as_ref().is_some_and(|error| error.code == ErrorCode::Interrupted)
    }

    /// Returns whether it is the outcome of an equal request, for which nothing was sent.
    pub const fn is_reused(&self) -> bool {
        self.leader.is_some()
    }

    /// Returns whether this is an answer that was paid for, and the service did not say how much.
    pub const fn is_unmetered(&self) -> bool {
        self.ok() && self.usage.is_none() && !self.is_reused()
    }

    /// Tokens of the answer per second, in tenths: from the first token to the last of a stream, otherwise in all the time that
    /// the request took. `None`: the time or the tokens are unknown.
    pub fn speed(&self) -> Option<u32> {
        if !self.ok() || self.batch.is_some() || self.attempts == 0 {
            return None;
        }
        // The time of a stream does not include its first token.
        let (tokens, ms) = match self.first_token_ms {
            Some(first) => (self.usage?.completion.saturating_sub(1), self.latency_ms.saturating_sub(first)),
            None => (self.usage?.completion, self.latency_ms),
        };
        let tenths = tokens.saturating_mul(10_000).checked_div(ms.into()).filter(|_| tokens > 0)?;
        Some(u32::try_from(tenths).unwrap_or(u32::MAX))
    }

    /// The transport that brought this outcome.
    pub const fn transport(&self) -> Transport {
        if self.batch.is_some() { Transport::Batch } else { Transport::Realtime }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_of_a_stream_is_that_behind_its_first_token() {
        let answered = |completion, latency_ms, first_token_ms| Outcome {
            error: None,
            usage: Some(Usage::new(1, completion)),
            attempts: 1,
            latency_ms,
            first_token_ms,
            ..Outcome::unsent(1, "a".into(), "m".into(), ErrorCode::Missing, "")
        };
        assert_eq!(answered(101, 2_500, Some(500)).speed(), Some(500));
        assert_eq!(answered(100, 2_000, None).speed(), Some(500));
        // A server that gathers the answer before it sends it has no speed.
        for unknown in [answered(100, 500, Some(500)), answered(1, 500, Some(400)), answered(0, 500, None)] {
            assert_eq!(unknown.speed(), None, "{unknown:?}");
        }
        assert_eq!(Outcome { batch: Some(1), ..answered(9, 9, None) }.speed(), None);
    }

    #[test]
    fn errors_come_back_from_their_cells() {
        let rejected = |code, rule: &str| RowError { rule: Some(rule.into()), ..RowError::new(code, "no [x]") };
        let errors = [
            rejected(ErrorCode::InvalidAnswer, "--json-schema: /properties/a [b"),
            rejected(ErrorCode::Truncated, "--complete"),
            RowError::new(ErrorCode::InvalidAnswer, "no [x]"),
            RowError::new(ErrorCode::ServerError, "a server's own [--words]"),
        ];
        for error in errors {
            assert_eq!(RowError::of_cell(&error.cell()), error);
        }
        assert_eq!(RowError::of_cell("odd: text"), RowError::new(ErrorCode::BadResponse, "odd: text"));
    }

    #[test]
    fn codes_are_spelled_the_same_everywhere() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::parse(code.as_str()), Some(code));
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{code}\""));
        }
        assert_eq!(ErrorCode::parse("nonsense"), None);
    }

    #[test]
    fn manual_explains_every_code() {
        let page = include_str!("../../docs/errors.md");
        let rows: String = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" |").next()).collect();
        for code in ErrorCode::ALL {
            assert!(rows.contains(&format!("{code}`")), "docs/errors.md has no row for {code}");
        }
    }
}
