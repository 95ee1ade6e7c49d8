//! What an engine's refusals mean.

use std::{error::Error as _, io};

use bollard::errors::Error;

use crate::resources::driver::{DriverError, Refusal, Result};

/// How much of what the engine says goes to people.
const LONGEST: usize = 400;

/// Of something that is there already, or in use.
pub const CONFLICT: &str = "conflict";

/// What was asked for, if it is there.
pub fn if_there<T>(answer: std::result::Result<T, Error>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(meaning(error)),
    }
}

/// The HTTP status of a refusal.
pub const fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// What it means for the engine of ours.
pub fn meaning(error: Error) -> DriverError {
    match error {
        Error::DockerResponseServerError { status_code, message } => refused(status_code, &message),
        // Of a pull, whose answer had begun well.
        Error::DockerStreamError { error } => refused(500, &error),
        Error::RequestTimeoutError => DriverError::retryable("timeout", "the Docker engine did not answer in time"),
        error if is_forbidden(&error) => DriverError::new(
            Refusal::Denied,
            "socket_forbidden",
            "the server's user may not use the Docker engine's socket; the operator can let it, by the socket's group",
        ),
        error => {
            tracing::warn!(%error, "the Docker engine cannot be reached");
            DriverError::retryable("unreachable", "the Docker engine cannot be reached")
        }
    }
}

/// What it means that the engine answered so. Docker's status codes are coarse, and for what is full or in use there is
/// only the text.
fn refused(status: u16, message: &str) -> DriverError {
    let lower = message.to_ascii_lowercase();
    let says = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    let (kind, code) = if says(&["no space left", "no available ipv4", "could not find an available"]) {
        (Refusal::Exhausted, "exhausted")
    } else if says(&["active endpoints", "overlaps with", "device or resource busy"]) {
        (Refusal::Conflict, "in_use")
    } else {
        match status {
            404 => (Refusal::NotFound, "not_found"),
            409 => (Refusal::Conflict, CONFLICT),
            401 | 403 => (Refusal::Denied, "denied"),
            408 | 425 | 429 | 500.. => {
                // Such texts may tell of the engine's insides.
                tracing::warn!(status, message, "the Docker engine failed");
                let told = format!("the Docker engine failed with status {status}; its log and the server's say why");
                return DriverError::retryable("engine_failed", told);
            }
            _ => (Refusal::Invalid, "refused"),
        }
    };
    let told: String = message.chars().take(LONGEST).collect();
    DriverError::new(kind, code, format!("the Docker engine refused: {told}"))
}

/// Whether the socket is there, and not for this user.
fn is_forbidden(error: &Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let is_io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    causes.any(is_io)
}

/// There is nothing of this name.
pub fn absent(reference: &str) -> DriverError {
    DriverError::new(Refusal::NotFound, "not_found", format!("there is no {reference} on the Docker engine"))
}

/// It was there, and is no more.
pub fn gone(name: &str) -> DriverError {
    DriverError::retryable("gone", format!("{name} was removed from the Docker engine while it was being made"))
}

/// Somebody else's object has the name that ours would have.
pub fn foreign(name: &str) -> DriverError {
    let message =
        format!("{name} on the Docker engine was not made by this server for this resource; remove or rename it there");
    DriverError::new(Refusal::Conflict, "name_taken", message)
}

/// What was made so stays so.
pub fn fixed(members: &str) -> DriverError {
    DriverError::new(Refusal::Invalid, "fixed", format!("Docker cannot change {members} of what it has made"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_engine_says_is_told_apart() {
        let cases = [
            (404, "No such container: x", Refusal::NotFound),
            (400, "Minimum memory limit allowed is 6MB", Refusal::Invalid),
            (403, "error while removing network: network n id 1 has active endpoints", Refusal::Conflict),
            (403, "Pool overlaps with other one on this address space", Refusal::Conflict),
            (403, "authorization denied by plugin", Refusal::Denied),
            (409, "volume is in use - [1]", Refusal::Conflict),
            (500, "write /var/lib/docker/x: no space left on device", Refusal::Exhausted),
            (500, "runc did not terminate", Refusal::Retryable { after: None }),
        ];
        for (status_code, message, kind) in cases {
            let error = meaning(Error::DockerResponseServerError { status_code, message: message.into() });
            assert_eq!(error.kind, kind, "{message}");
        }
        let inside = meaning(Error::DockerResponseServerError { status_code: 500, message: "/root/secret".into() });
        assert!(!inside.message.contains("/root"));
    }
}
