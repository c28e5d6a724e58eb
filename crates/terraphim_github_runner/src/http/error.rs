//! Why a call did not give an answer.

use std::time::Duration;

use http::StatusCode;
use thiserror::Error;

use crate::error::BoxError;

/// Why a call to an HTTP service did not give an answer.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The address cannot be used.
    #[error("{url:?} is not the address of an HTTP service")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        #[source]
        source: BoxError,
    },
    /// The token cannot be sent as a header.
    #[error("the token for {url} contains characters that no HTTP header can carry")]
    Token {
        /// The service.
        url: String,
    },
    /// No connection: nothing was sent.
    #[error("cannot connect to {url}")]
    Connect {
        /// The call.
        url: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// No answer in time. What was asked for may have happened, or happen still.
    #[error("no answer from {url} within {after:?}")]
    TimedOut {
        /// The call.
        url: String,
        /// The time limit.
        after: Duration,
    },
    /// The connection broke. What was asked for may have happened.
    #[error("the connection to {url} broke")]
    Broken {
        /// The call.
        url: String,
        /// Why.
        #[source]
        source: BoxError,
    },
    /// The service said no.
    #[error("{url} answered {status}: {message}")]
    Status {
        /// The call.
        url: String,
        /// The status code.
        status: StatusCode,
        /// The service's own words, shortened.
        message: String,
        /// When it says to try again.
        retry_after: Option<Duration>,
    },
    /// The answer is longer than anything this service should say.
    #[error("the answer of {url} is longer than {limit_bytes} bytes")]
    TooLong {
        /// The call.
        url: String,
        /// The limit in bytes.
        limit_bytes: usize,
    },
    /// The answer is not the JSON that the service's API promises.
    #[error("{url} gave an answer that does not fit its API")]
    Malformed {
        /// The call.
        url: String,
        /// What does not fit.
        #[source]
        source: BoxError,
    },
}

impl HttpError {
    /// Whether what was asked for surely did not happen, and another attempt may go better.
    ///
    /// Only then is a call with an effect repeated.
    #[must_use]
    pub fn surely_did_not_start(&self) -> bool {
        match self {
            HttpError::Connect { .. } => true,
            // RFC 6585 section 4: the request was refused because there were too many.
            HttpError::Status { status, .. } => *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    /// Whether the cause lies between here and the service, or in its present state, rather than in the request.
    ///
    /// A call without effect may be repeated then.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            HttpError::Connect { .. } | HttpError::TimedOut { .. } | HttpError::Broken { .. } => true,
            HttpError::Status { status, .. } => matches!(
                *status,
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
            _ => false,
        }
    }

    /// The status code, when the service answered with one.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            HttpError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            HttpError::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}
