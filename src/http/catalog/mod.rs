//! Error catalog: status, title and texts of every error code. Problems, the OpenAPI document and the pages under
//! `/docs/errors` use it.

mod text;

use axum::http::StatusCode;

use super::request::extract::KnownValue;
use crate::base::error::{Code, Error, Item, ItemCode, ItemLocation};

/// Catalog entry of one error code.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// HTTP status.
    pub status: StatusCode,
    /// Short name of the error.
    pub title: &'static str,
    /// What is wrong.
    pub meaning: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// Example of a problem's `detail`, as the server writes it.
    pub example: &'static str,
}

/// Returns the entry of a code.
pub const fn entry(code: Code) -> Entry {
    let (status, title) = status_and_title(code);
    let text::Text { meaning, remedy, example } = text::of(code);
    Entry { status, title, meaning, remedy, example }
}

/// Builds the example error of a code in the same way as real errors.
pub fn example(code: Code) -> Error {
    let entry = entry(code);
    let error = Error::new(code, entry.example);
    match code {
        Code::InvalidParameter | Code::DuplicateParameter => error.at_parameter("limit", ItemCode::OutOfRange),
        Code::UnknownParameter => error.at_parameter("limt", ItemCode::UnknownField),
        Code::InvalidCursor => error.at_parameter("cursor", ItemCode::InvalidFormat),
        Code::ValidationFailed => Error::validation(vec![Item {
            location: ItemLocation::Body("/scopes/1".into()),
            code: ItemCode::UnknownScope,
            detail: "'users:raed' is not a scope; did you mean 'users:read'?".into(),
        }]),
        _ => error,
    }
}

const fn status_and_title(code: Code) -> (StatusCode, &'static str) {
    use StatusCode as S;
    match code {
        Code::MalformedJson => (S::BAD_REQUEST, "Malformed JSON"),
        Code::MalformedRequest => (S::BAD_REQUEST, "Malformed request"),
        Code::InvalidParameter => (S::BAD_REQUEST, "Invalid query parameter"),
        Code::UnknownParameter => (S::BAD_REQUEST, "Unknown query parameter"),
        Code::DuplicateParameter => (S::BAD_REQUEST, "Duplicate query parameter"),
        Code::InvalidCursor => (S::BAD_REQUEST, "Invalid cursor"),
        Code::UnexpectedBody => (S::BAD_REQUEST, "Unexpected body"),
        Code::ProjectRequired => (S::BAD_REQUEST, "Project required"),
        Code::MissingCredentials => (S::UNAUTHORIZED, "Missing credentials"),
        Code::InvalidToken => (S::UNAUTHORIZED, "Invalid credential"),
        Code::TokenExpired => (S::UNAUTHORIZED, "Credential expired"),
        Code::TokenRevoked => (S::UNAUTHORIZED, "Credential revoked"),
        Code::InvalidCredentials => (S::UNAUTHORIZED, "Sign-in failed"),
        Code::InsufficientScope => (S::FORBIDDEN, "Insufficient scope"),
        Code::CredentialKindNotAllowed => (S::FORBIDDEN, "Credential kind not allowed"),
        Code::IpNotAllowed => (S::FORBIDDEN, "IP address not allowed"),
        Code::ProjectSuspended => (S::FORBIDDEN, "Project suspended"),
        Code::ProjectArchived => (S::FORBIDDEN, "Project archived"),
        Code::RoleEscalation => (S::FORBIDDEN, "Role escalation"),
        Code::ReauthenticationRequired => (S::FORBIDDEN, "Reauthentication required"),
        Code::ImportNotAllowed => (S::FORBIDDEN, "Import not allowed"),
        Code::InvalidIdempotencyKey => (S::BAD_REQUEST, "Invalid Idempotency-Key"),
        Code::IdempotencyInProgress => (S::CONFLICT, "Write in progress"),
        Code::IdempotencyReplaySealed => (S::CONFLICT, "Response sealed"),
        Code::IdempotencyKeyReused => (S::UNPROCESSABLE_ENTITY, "Idempotency-Key reused"),
        Code::InvalidState => (S::CONFLICT, "Invalid state"),
        Code::ProjectNotActive => (S::CONFLICT, "Project not active"),
        Code::ProjectNotArchived => (S::CONFLICT, "Project not archived"),
        Code::KeyRevoked => (S::CONFLICT, "Key revoked"),
        Code::RotationInProgress => (S::CONFLICT, "Rotation in progress"),
        Code::AlreadyMember => (S::CONFLICT, "Already a member"),
        Code::LastOwner => (S::CONFLICT, "Last owner"),
        Code::WebhookDisabled => (S::CONFLICT, "Webhook disabled"),
        Code::PreconditionFailed => (S::PRECONDITION_FAILED, "Precondition failed"),
        Code::InvalidCurrentPassword => (S::UNPROCESSABLE_ENTITY, "Wrong current password"),
        Code::UrlNotAllowed => (S::UNPROCESSABLE_ENTITY, "URL not allowed"),
        Code::ScopeEscalation => (S::FORBIDDEN, "Scope escalation"),
        Code::NotFound => (S::NOT_FOUND, "Not found"),
        Code::RouteNotFound => (S::NOT_FOUND, "Path not found"),
        Code::MethodNotAllowed => (S::METHOD_NOT_ALLOWED, "Method not allowed"),
        Code::RequestTimeout => (S::REQUEST_TIMEOUT, "Request timeout"),
        Code::CursorExpired => (S::GONE, "Cursor expired"),
        Code::LimitReached => (S::CONFLICT, "Limit reached"),
        Code::ResourceInUse => (S::CONFLICT, "Resource in use"),
        Code::ResourceLocked => (S::CONFLICT, "Operation in progress"),
        Code::Protected => (S::CONFLICT, "Protected from deletion"),
        Code::ProjectNotEmpty => (S::CONFLICT, "Project not empty"),
        Code::UnsupportedCapability => (S::UNPROCESSABLE_ENTITY, "Not supported by the provider"),
        Code::PayloadTooLarge => (S::PAYLOAD_TOO_LARGE, "Body too large"),
        Code::UriTooLong => (S::URI_TOO_LONG, "URI too long"),
        Code::UnsupportedMediaType => (S::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type"),
        Code::HeadersTooLarge => (S::REQUEST_HEADER_FIELDS_TOO_LARGE, "Headers too large"),
        Code::ValidationFailed => (S::UNPROCESSABLE_ENTITY, "Request validation failed"),
        Code::RateLimited => (S::TOO_MANY_REQUESTS, "Too many requests"),
        Code::QuotaExceeded => (S::TOO_MANY_REQUESTS, "Quota exceeded"),
        Code::Internal => (S::INTERNAL_SERVER_ERROR, "Internal error"),
        Code::Overloaded => (S::SERVICE_UNAVAILABLE, "Overloaded"),
        Code::DatabaseUnavailable => (S::SERVICE_UNAVAILABLE, "Database unavailable"),
        Code::AuthUnavailable => (S::SERVICE_UNAVAILABLE, "Authentication unavailable"),
        Code::RevocationUnconfirmed => (S::SERVICE_UNAVAILABLE, "Revocation unconfirmed"),
        Code::OutcomeUnknown => (S::SERVICE_UNAVAILABLE, "Outcome unknown"),
        Code::Timeout => (S::SERVICE_UNAVAILABLE, "Timeout"),
    }
}

impl KnownValue for Code {
    const NOUN: &'static str = "an error code";
    const ALL: &'static [Self] = Self::ALL;
    const LIST: Option<&'static str> = Some("/docs/errors");

    fn as_str(self) -> &'static str {
        self.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_has_a_meaning_and_a_remedy_in_full_sentences() {
        for &code in Code::ALL {
            let Entry { title, meaning, remedy, example, .. } = entry(code);
            for sentences in [meaning, remedy] {
                assert!(sentences.ends_with('.') && sentences.len() > 20, "{code}: {sentences}");
            }
            assert!(!title.ends_with('.') && !example.ends_with('.'), "{code}");
        }
    }

    #[test]
    fn example_error_has_the_code_and_detail_of_its_entry() {
        for &code in Code::ALL {
            assert_eq!((example(code).code(), example(code).detail()), (code, entry(code).example));
        }
    }
}
