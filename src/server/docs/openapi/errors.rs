//! Error codes that each operation can return.

use std::collections::{BTreeMap, BTreeSet};

use axum::http::Method;
use serde_json::Value;

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
    if operation.needs_recent_authentication {
        codes.push(Code::ReauthenticationRequired);
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

/// Error codes of all operations.
pub(super) struct CodeSets {
    /// Codes that at least one operation can return.
    pub(super) all: BTreeSet<Code>,
    /// Codes that more than a quarter of the operations can return.
    pub(super) common: BTreeSet<Code>,
    /// Codes that every operation with an error response of their status can return. The shared response of the status
    /// lists them, so that the operations do not have to.
    pub(super) shared: BTreeSet<Code>,
}

impl CodeSets {
    pub(super) fn of(operations: &[&Operation]) -> Self {
        let mut counts: BTreeMap<Code, usize> = BTreeMap::new();
        let mut shared: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
        for (status, codes) in operations.iter().flat_map(|operation| by_status(errors_of(operation))) {
            for &code in &codes {
                *counts.entry(code).or_default() += 1;
            }
            shared.entry(status).or_insert_with(|| codes.clone()).retain(|code| codes.contains(code));
        }
        Self {
            all: counts.keys().copied().collect(),
            common: counts
                .into_iter()
                .filter(|&(_, count)| count * 4 > operations.len())
                .map(|(code, _)| code)
                .collect(),
            shared: shared.into_values().flatten().collect(),
        }
    }
}

/// Names the uncommon ones of `codes`. `docs.js` links their pages.
pub(super) fn describe_codes(codes: &BTreeMap<u16, Vec<Code>>, common: &BTreeSet<Code>) -> Option<String> {
    let special = codes.values().flatten().filter(|code| !common.contains(code));
    let names: Vec<String> = special.map(|code| format!("`{code}`")).collect();
    (!names.is_empty()).then(|| format!("Errors: {}.", names.join(", ")))
}

/// Extension with error codes: of an error response, those of every operation with this response; of an operation, its
/// other codes.
pub(super) const EXTENSION: &str = "x-error-codes";

/// Value of [`EXTENSION`].
pub(super) fn list<'a>(codes: impl IntoIterator<Item = &'a Code>) -> Value {
    codes.into_iter().map(|code| code.as_str()).collect()
}

/// Returns whether a conflict with this code ends soon. The response then has a `Retry-After`.
pub(super) fn retryable_conflict(code: Code) -> bool {
    code == Code::IdempotencyInProgress
}
