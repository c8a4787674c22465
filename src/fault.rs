//! The error code of a failed request, the same for both transports.

use crate::api::error::Fault;
use crate::outcome::ErrorCode;

/// Gives the code under which a row reports this fault.
pub const fn code_of(fault: Fault) -> ErrorCode {
    match fault {
        // The request of a row reads and writes no local file, so `Local` does not occur there.
        Fault::Connect | Fault::Setup(_) | Fault::Broken | Fault::Local => ErrorCode::Network,
        Fault::Timeout => ErrorCode::Timeout,
        Fault::BadResponse | Fault::Unusable => ErrorCode::BadResponse,
        Fault::Truncated => ErrorCode::Truncated,
        Fault::Filtered => ErrorCode::Filtered,
        Fault::InvalidRequest => ErrorCode::InvalidRequest,
        Fault::ContextLength => ErrorCode::ContextLength,
        Fault::NotFound => ErrorCode::NotFound,
        Fault::Auth => ErrorCode::Auth,
        Fault::Payment => ErrorCode::Payment,
        Fault::RateLimited => ErrorCode::RateLimited,
        Fault::Overloaded => ErrorCode::Overloaded,
        Fault::Server => ErrorCode::ServerError,
    }
}
