//! Error codes that each operation can return.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;

use crate::{
    base::{
        error::Code,
        identity::{access_policy::AccessPolicy, secret::SecretKind},
    },
    http::{catalog::entry, describe::Operation, layers::edge},
};

/// Returns the codes of an operation: those that follow from its signature, and those that its route declares.
pub fn errors_of(operation: &Operation) -> Vec<Code> {
    let mut codes =
        vec![Code::UriTooLong, Code::HeadersTooLarge, Code::UnknownParameter, Code::Internal, Code::Timeout];
    if !edge::ALWAYS_SERVED.contains(&operation.path) {
        codes.push(Code::Overloaded);
    }
    if operation.policy != AccessPolicy::Public {
        codes.extend([
            Code::MalformedRequest,
            Code::MissingCredentials,
            Code::InvalidToken,
            Code::TokenExpired,
            Code::TokenRevoked,
        ]);
        codes.extend([Code::CredentialKindNotAllowed, Code::AuthUnavailable]);
    }
    if operation.policy != AccessPolicy::Public {
        codes.push(Code::RateLimited);
    }
    if matches!(operation.policy, AccessPolicy::Scoped { kinds, .. } if kinds != [SecretKind::Session]) {
        codes.push(Code::QuotaExceeded);
    }
    if operation.path.starts_with("/v1/") {
        // A text that the database cannot store is malformed, in any part of the request.
        codes.extend([Code::DatabaseUnavailable, Code::MalformedRequest]);
        if operation.method != Method::GET {
            codes.push(Code::OutcomeUnknown);
        }
    }
    if !operation.policy.scopes().is_empty() {
        codes.push(Code::InsufficientScope);
    }
    if let Some(rules) = operation.query {
        codes.extend([Code::InvalidParameter, Code::DuplicateParameter]);
        if rules.properties().contains_key("cursor") {
            codes.push(Code::InvalidCursor);
        }
        if rules.properties().contains_key("project_id") {
            codes.extend([Code::ProjectRequired, Code::NotFound]);
        }
    }
    if operation.body.is_some() {
        codes.extend([
            Code::MalformedJson,
            Code::RequestTimeout,
            Code::PayloadTooLarge,
            Code::UnsupportedMediaType,
            Code::ValidationFailed,
        ]);
        if !operation.policy.scopes().is_empty() && operation.path_ids.is_empty() {
            codes.extend([Code::ProjectRequired, Code::NotFound]);
        }
    } else {
        // The server may have to wait to find out whether the request has a body.
        codes.extend([Code::UnexpectedBody, Code::RequestTimeout, Code::MalformedRequest]);
    }
    if !operation.path_ids.is_empty() {
        codes.push(Code::NotFound);
    }
    if operation.response.is_idempotent() {
        codes.extend([Code::InvalidIdempotencyKey, Code::IdempotencyInProgress, Code::IdempotencyKeyReused]);
        if operation.response.is_secret() {
            codes.push(Code::IdempotencyReplaySealed);
        }
    }
    if operation.resumable {
        codes.extend([Code::InvalidCursor, Code::CursorExpired]);
    }
    if operation.conditional {
        codes.extend([Code::PreconditionFailed, Code::MalformedRequest]);
    }
    let keys_and_tokens = [SecretKind::Key, SecretKind::Token];
    if operation.policy.kinds().iter().any(|kind| keys_and_tokens.contains(kind)) {
        codes.extend([Code::ProjectSuspended, Code::ProjectArchived, Code::IpNotAllowed]);
    }
    codes.extend(operation.errors);
    codes.sort_unstable();
    codes.dedup();
    codes
}

/// Groups codes by their status.
pub(super) fn by_status(codes: impl IntoIterator<Item = Code>) -> BTreeMap<u16, Vec<Code>> {
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in codes {
        by_status.entry(entry(code).status.as_u16()).or_default().push(code);
    }
    by_status
}

/// Returns the codes that more than a quarter of `operations` can return.
pub(super) fn common_codes(operations: &[&Operation]) -> BTreeSet<Code> {
    let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
    for code in operations.iter().flat_map(|operation| errors_of(operation)) {
        *counts.entry(code).or_default() += 1;
    }
    counts.into_iter().filter(|&(_, count)| count * 4 > operations.len()).map(|(code, _)| code).collect()
}

/// Returns whether a conflict with this code ends soon. The response then has a `Retry-After`.
pub(super) fn retryable_conflict(code: Code) -> bool {
    code == Code::IdempotencyInProgress
}
