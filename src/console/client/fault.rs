//! Problems of `/v1`, as the console sees them.

use std::{fmt, sync::Arc};

use axum::{
    http::{StatusCode, header},
    response::Response,
};

use crate::{
    base::error::{Code, Error},
    http::{catalog::entry, response::problem::ResponseError},
};

/// Unsuccessful response. It carries the error itself, from which the problem document was made.
#[derive(Clone)]
pub struct Fault {
    /// The error.
    pub error: Arc<Error>,
    /// Status of the response.
    pub status: StatusCode,
    /// Request id of the call.
    pub request_id: Option<String>,
    /// Delay before a retry, in seconds.
    pub retry_after: Option<u32>,
}

impl Fault {
    /// Creates a fault of the console itself.
    pub fn new(error: Error) -> Self {
        let (status, retry_after) = (entry(error.code()).status, error.retry_after_seconds());
        Self { error: Arc::new(error), status, request_id: None, retry_after }
    }

    /// Creates the fault for a failure that only the log explains.
    pub fn internal(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Error::internal(cause))
    }

    /// Reads an unsuccessful response.
    pub fn of(response: &Response) -> Self {
        let text = |name: &str| response.headers().get(name)?.to_str().ok();
        let error = response.extensions().get::<ResponseError>().map(|ResponseError(error)| Arc::clone(error));
        let error = error.unwrap_or_else(|| {
            Arc::new(Error::internal(format!("the API responded with {} and no problem", response.status())))
        });
        Self {
            error,
            status: response.status(),
            request_id: text("x-request-id").map(str::to_owned),
            retry_after: text(header::RETRY_AFTER.as_str()).and_then(|seconds| seconds.parse().ok()),
        }
    }

    /// Error code.
    pub fn code(&self) -> Code {
        self.error.code()
    }

    /// Whether nobody is signed in any more, so that the person has to sign in.
    pub fn is_signed_out(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// Whether the fault is about what was typed, so that it belongs on the form.
    pub fn is_about_input(&self) -> bool {
        let is_conflict = self.status == StatusCode::CONFLICT && self.code() != Code::IdempotencyKeyReused;
        let is_escalation = matches!(self.code(), Code::ScopeEscalation | Code::RoleEscalation);
        is_conflict
            || is_escalation
            || matches!(self.status, StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.status, self.error)
    }
}
