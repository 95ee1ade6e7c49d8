//! Classification of errors from a Docker engine.

use std::{error::Error as _, io, time::Duration};

use bollard::errors::Error;

use crate::resources::drivers::driver::{DriverError, DriverErrorKind, Result};

/// Maximum length of an engine's message that is passed on.
const MAX_MESSAGE_LENGTH: usize = 400;

/// Code of an error about an object that exists already or is in use.
pub const CONFLICT: &str = "conflict";

/// Turns a 404 into `None`.
pub fn none_if_missing<T>(answer: std::result::Result<T, Error>) -> Result<Option<T>> {
    match answer {
        Ok(found) => Ok(Some(found)),
        Err(Error::DockerResponseServerError { status_code: 404, .. }) => Ok(None),
        Err(error) => Err(driver_error(error)),
    }
}

/// HTTP status of an error response.
pub const fn status(error: &Error) -> Option<u16> {
    match error {
        Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
        _ => None,
    }
}

/// Translates an error into a driver error.
pub fn driver_error(error: Error) -> DriverError {
    match error {
        Error::DockerResponseServerError { status_code, message } => response_error(status_code, &message),
        // Error in the stream of a pull whose response started successfully.
        Error::DockerStreamError { error } => response_error(500, &error),
        Error::RequestTimeoutError => DriverError::retryable("timeout", "the Docker engine did not respond in time"),
        error if is_forbidden(&error) => DriverError::new(
            DriverErrorKind::Denied,
            "socket_forbidden",
            "the server's user has no access to the Docker engine's socket; ask the operator to add it to the socket's group",
        ),
        error => {
            tracing::warn!(%error, "Docker engine unreachable");
            DriverError::retryable("unreachable", "the Docker engine is unreachable")
        }
    }
}

/// Message patterns that refine the engine's coarse status codes. The first matching row counts. Wording differs
/// between engines and registries, so a row has several patterns.
const ERROR_PATTERNS: &[(DriverErrorKind, &str, &[&str])] = &[
    // A registry's rate limit: a later call may succeed.
    (
        DriverErrorKind::Retryable { after: Some(RATE_LIMITED) },
        "rate_limited",
        &["toomanyrequests", "too many requests", "rate limit"],
    ),
    (
        DriverErrorKind::Exhausted,
        "exhausted",
        &[
            "no space left",
            "disk quota exceeded",
            "no available ipv4",
            "could not find an available",
            "all predefined address pools have been fully subnetted",
            "cannot allocate memory",
        ],
    ),
    (
        DriverErrorKind::Conflict,
        "in_use",
        &[
            "active endpoints",
            "overlaps with",
            "device or resource busy",
            "volume is in use",
            "is being used by",
            "removal of container",
            "is already in progress",
        ],
    ),
    (
        DriverErrorKind::Invalid,
        "no_image",
        &[
            "manifest unknown",
            "name unknown",
            "repository name not known",
            "repository does not exist",
            "pull access denied",
            "requested access to the resource is denied",
            "access denied",
            "does not exist",
            "unauthorized",
            "authentication required",
            "no basic auth credentials",
            "denied: ",
        ],
    ),
    (
        DriverErrorKind::Invalid,
        "no_image_for_platform",
        &[
            "no matching manifest for",
            "no match for platform",
            "does not match the specified platform",
            "does not provide the specified platform",
            "image operating system",
            "cannot be used on this platform",
            "exec format error",
        ],
    ),
    (
        DriverErrorKind::Invalid,
        "bad_image",
        &["invalid reference format", "unsupported media type", "unsupported manifest", "mediatype"],
    ),
];

/// Pause before the next request to a registry that has limited the rate.
const RATE_LIMITED: Duration = Duration::from_secs(60);

/// Returns the class of an error, and a code for it.
fn class(status: u16, message: &str) -> (DriverErrorKind, &'static str) {
    let lower = message.to_ascii_lowercase();
    let contains_any = |texts: &[&str]| texts.iter().any(|text| lower.contains(text));
    // Image patterns apply only to pulls. In other errors, the same words may mean something else.
    let is_pull_pattern = |code: &str| code.contains("image");
    let known = ERROR_PATTERNS
        .iter()
        .find(|(_, code, texts)| (!is_pull_pattern(code) || status == PULL_STATUS) && contains_any(texts));
    if let Some((refusal, code, _)) = known {
        return (*refusal, code);
    }
    match status {
        404 => (DriverErrorKind::NotFound, "not_found"),
        409 => (DriverErrorKind::Conflict, CONFLICT),
        401 | 403 => (DriverErrorKind::Denied, "denied"),
        PULL_STATUS | 408 | 425 | 429 | 500.. => (DriverErrorKind::Retryable { after: None }, "engine_failed"),
        _ => (DriverErrorKind::Invalid, "refused"),
    }
}

/// Used instead of a status if the stream of a pull reports an error after a successful status.
const PULL_STATUS: u16 = 0;

/// Translates an error of a pull.
pub fn pull_error(image: &str, error: Error) -> DriverError {
    let (status, message) = match &error {
        Error::DockerResponseServerError { message, .. } => (status(&error), message.clone()),
        Error::DockerStreamError { error } => (None, error.clone()),
        _ => return driver_error(error),
    };
    let (kind, code) = match class(PULL_STATUS, &message) {
        // A registry or engine that gives no reason.
        (DriverErrorKind::Retryable { .. }, "engine_failed") if status == Some(404) => {
            (DriverErrorKind::Invalid, "no_image")
        }
        class => class,
    };
    let detail = match code {
        "no_image" => {
            format!("the image '{image}' does not exist, or pulling it requires authentication; check the name")
        }
        "no_image_for_platform" => {
            format!("the image '{image}' is not available for the Docker engine's platform; use another image")
        }
        "bad_image" => format!("'{image}' is not an image that the Docker engine can use; use another image"),
        "rate_limited" => format!("the registry of the image '{image}' has limited the rate of requests"),
        "exhausted" => format!("the Docker engine has no disk space for the image '{image}'"),
        _ => return driver_error(error),
    };
    DriverError::new(kind, code, detail)
}

/// Translates an error response of the engine.
fn response_error(status: u16, message: &str) -> DriverError {
    let (kind, code) = class(status, message);
    if let (DriverErrorKind::Retryable { .. }, "engine_failed") = (kind, code) {
        // Such messages may reveal internals of the engine.
        tracing::warn!(status, message, "Docker engine failed");
        let detail = format!("the Docker engine failed with status {status}; see its log or the server's");
        return DriverError::retryable(code, detail);
    }
    let detail: String = message.chars().take(MAX_MESSAGE_LENGTH).collect();
    DriverError::new(kind, code, format!("the Docker engine rejected the call: {detail}"))
}

/// Whether the socket exists and this user has no access.
fn is_forbidden(error: &Error) -> bool {
    let mut causes = std::iter::successors(error.source(), |cause| (*cause).source());
    let is_io = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
    };
    causes.any(is_io)
}

/// Creates the error for a missing object.
pub fn not_found(reference: &str) -> DriverError {
    DriverError::new(DriverErrorKind::NotFound, "not_found", format!("{reference} does not exist on the Docker engine"))
}

/// Creates the error for an object that disappeared during the call.
pub fn disappeared(name: &str) -> DriverError {
    DriverError::retryable("gone", format!("{name} was removed from the Docker engine while it was being created"))
}

/// Creates the error for an object with the expected name but another owner.
pub fn foreign(name: &str) -> DriverError {
    let message = format!("{name} on the Docker engine does not belong to this resource; remove or rename it there");
    DriverError::new(DriverErrorKind::Conflict, "name_taken", message)
}

/// Creates the error for a change that Docker does not support.
pub fn immutable(members: &str) -> DriverError {
    DriverError::new(DriverErrorKind::Invalid, "fixed", format!("Docker cannot change {members} of an existing object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server_error(status_code: u16, message: &str) -> Error {
        Error::DockerResponseServerError { status_code, message: message.into() }
    }

    #[test]
    fn engine_errors_are_classified() {
        let retryable = DriverErrorKind::Retryable { after: None };
        let cases = [
            (404, "No such container: x", DriverErrorKind::NotFound),
            (400, "Minimum memory limit allowed is 6MB", DriverErrorKind::Invalid),
            (403, "error while removing network: network n id 1 has active endpoints", DriverErrorKind::Conflict),
            (403, "Pool overlaps with other one on this address space", DriverErrorKind::Conflict),
            (403, "authorization denied by plugin", DriverErrorKind::Denied),
            (409, "volume is in use - [1]", DriverErrorKind::Conflict),
            (409, "removal of container 1 is already in progress", DriverErrorKind::Conflict),
            (500, "write /var/lib/docker/x: no space left on device", DriverErrorKind::Exhausted),
            (400, "all predefined address pools have been fully subnetted", DriverErrorKind::Exhausted),
            (500, "runc did not terminate", retryable),
            // Image patterns have another meaning outside of pulls.
            (500, "mount denied: the path does not exist", retryable),
            (429, "slow down", retryable),
        ];
        for (status_code, message, kind) in cases {
            let error = driver_error(server_error(status_code, message));
            assert_eq!(error.kind, kind, "{message}");
        }
        let inside = driver_error(server_error(500, "/root/secret"));
        assert!(!inside.message.contains("/root"));
    }

    #[test]
    fn pull_errors_are_final_unless_retrying_can_help() {
        let retryable = DriverErrorKind::Retryable { after: None };
        let rate_limited = DriverErrorKind::Retryable { after: Some(RATE_LIMITED) };
        let cases = [
            (
                "no matching manifest for linux/arm64/v8 in the manifest list entries",
                DriverErrorKind::Invalid,
                "no_image_for_platform",
            ),
            (
                "no matching manifest for linux/amd64 in the manifest list entries: no match for platform in manifest: not found",
                DriverErrorKind::Invalid,
                "no_image_for_platform",
            ),
            (
                "image operating system \"windows\" cannot be used on this platform",
                DriverErrorKind::Invalid,
                "no_image_for_platform",
            ),
            (
                "manifest for busybox:nope not found: manifest unknown: manifest unknown",
                DriverErrorKind::Invalid,
                "no_image",
            ),
            (
                "pull access denied for nope, repository does not exist or may require 'docker login': denied: requested access to the resource is denied",
                DriverErrorKind::Invalid,
                "no_image",
            ),
            ("unauthorized: authentication required", DriverErrorKind::Invalid, "no_image"),
            ("invalid reference format", DriverErrorKind::Invalid, "bad_image"),
            ("toomanyrequests: You have reached your pull rate limit.", rate_limited, "rate_limited"),
            (
                "write /var/lib/docker/tmp/GetImageBlob1: no space left on device",
                DriverErrorKind::Exhausted,
                "exhausted",
            ),
            ("Get \"https://registry-1.docker.io/v2/\": net/http: TLS handshake timeout", retryable, "engine_failed"),
            (
                "Get \"https://registry-1.docker.io/v2/\": dial tcp: lookup registry-1.docker.io: no such host",
                retryable,
                "engine_failed",
            ),
            ("received unexpected HTTP status: 503 Service Unavailable", retryable, "engine_failed"),
            ("unexpected EOF", retryable, "engine_failed"),
        ];
        for (message, kind, code) in cases {
            // Engines report pull errors in the stream of a successful response, or in the response status.
            for error in [
                Error::DockerStreamError { error: message.into() },
                server_error(500, message),
                server_error(404, message),
            ] {
                let is_404 = status(&error) == Some(404);
                let found = pull_error("busybox:1", error);
                if is_404 && kind == retryable {
                    assert_eq!((found.kind, found.code.as_str()), (DriverErrorKind::Invalid, "no_image"), "{message}");
                } else {
                    assert_eq!((found.kind, found.code.as_str()), (kind, code), "{message}");
                }
            }
        }
    }
}
