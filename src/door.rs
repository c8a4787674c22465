//! Internals of the crate for its fuzz targets and integration tests. Not an interface: anything here may change.

pub use crate::api::chat::{Answer, read};
pub use crate::api::error::{Class, Failure, Fault};
pub use crate::api::limits::{Limits, retry_after};
pub use crate::api::retry::delay;
pub use crate::api::{Client, ClientOptions, Registered, Reply, Upload, batches, put_together};
pub use crate::batch::join::{Ending, Expected, Files, Findings, Joined, Report, Side, join};
pub use crate::batch::poll;
pub use crate::error::Exit;
pub use crate::input::{Data, Format as InputFormat, Inputs};
pub use crate::json::one_line;
pub use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
pub use crate::price::Nanos;
pub use crate::realtime::limiter::{Delay, Limiter, RateOptions, Timing};
pub use crate::request::{Endpoint, InputPlace, MOST_TOKENS, Params, Record, Request, RequestBuilder, fingerprint};
pub use crate::results::{RecordColumns, Renderer, ResultFormat, ResultOptions as Options};
pub use crate::rules::{AnswerRules, RuleSpec, Schema};
pub use crate::settings::{AutoOr, Flags, Settings};
