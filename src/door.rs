//! The crate's insides for its own fuzz targets and for tests from outside. Not an interface: anything here may change.

pub use crate::api::chat::{Answer, one_line, read};
pub use crate::api::error::{Class, Failure, Fault};
pub use crate::api::limits::{Limits, retry_after};
pub use crate::api::retry::delay;
pub use crate::api::{Client, ClientOptions, Reply, Upload, Uploaded, batches};
pub use crate::batch::join::{Ending, Expected, Files, Findings, Joined, Report, Side, join};
pub use crate::batch::poll;
pub use crate::error::Exit;
pub use crate::input::{Data, Format as InputFormat, Inputs};
pub use crate::outcome::{ErrorCode, Fingerprint, Outcome, Usage};
pub use crate::price::Nanos;
pub use crate::realtime::limiter::{Delay, Limiter, RateOptions};
pub use crate::request::{Endpoint, MOST_TOKENS, Params, Record, Request, Shape, fingerprint};
pub use crate::results::{Format as ResultFormat, Options, Renderer};
pub use crate::settings::{Flags, Knob, Settings, duration};
