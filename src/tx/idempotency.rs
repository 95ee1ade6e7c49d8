//! Recognition of repeated writes. The claim, the effect and the stored response are one transaction, so a crash leaves
//! all of them or none.

use std::time::Duration;

use axum::{
    body::{Body, Bytes, to_bytes},
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde_json::Value;
use sha2::{Digest, Sha256};
use sqlx::{PgConnection, Row, postgres::PgRow};

use super::{
    seal::{self, Salt},
    transaction::{Literal, Sql},
};
use crate::{
    auth::revocation::{
        node::{Node, subject_texts},
        verified::StampedRead,
    },
    base::{
        error::{Code, Error, Result},
        idempotency::IdempotencyKey,
        identity::{caller::Caller, secret::Secret, subject::Subject},
        runtime::{clock::Timestamp, request::RequestContext},
    },
    db::{Call, Stamp, Stamped, delete_batch},
    http::describe::Secrecy,
};

/// Retention of stored responses.
pub const RETENTION: Duration = Duration::from_secs(24 * 3600);
/// Header of replayed responses.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Bound for `to_bytes`. Responses are small.
const MAX_RESPONSE: usize = 1 << 20;

/// Claim of a write. Concurrent requests with the same key are refused until the write ends.
#[derive(Debug)]
pub(super) struct Claim {
    scope: String,
    key: IdempotencyKey,
    fingerprint: [u8; 32],
}

/// Result of a claim.
#[derive(Debug)]
pub(super) enum ClaimOutcome {
    /// The first request with this key.
    First(Claim),
    /// The stored response, and the position at which the first request invalidated credentials, on this server.
    Replay(Response, Option<Stamp>),
}

#[derive(sqlx::FromRow)]
struct Record {
    fingerprint: Vec<u8>,
    status: i16,
    location: Option<String>,
    etag: Option<String>,
    cache_control: Option<String>,
    body: Vec<u8>,
    salt: Option<Vec<u8>>,
    recall_seq: Option<i64>,
}

impl Record {
    fn replay(self, claim: &Claim, secret: Option<&Secret>) -> Result<Response> {
        if self.fingerprint != claim.fingerprint {
            return Err(Error::new(
                Code::IdempotencyKeyReused,
                "This Idempotency-Key was used for another request in the last 24 hours; use a new key for each write",
            ));
        }
        let body = match &self.salt {
            None => self.body,
            Some(salt) => secret
                .and_then(|secret| seal::open(secret, salt, &claim.key, &claim.fingerprint, &self.body))
                .ok_or_else(|| sealed_error(self.location.as_deref()))?,
        };
        let status = u16::try_from(self.status).ok().and_then(|status| StatusCode::from_u16(status).ok());
        let mut response = (status.unwrap_or(StatusCode::OK), body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(REPLAYED, HeaderValue::from_static("true"));
        for (name, value) in
            [(header::LOCATION, self.location), (header::ETAG, self.etag), (header::CACHE_CONTROL, self.cache_control)]
        {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        Ok(response)
    }
}

fn sealed_error(location: Option<&str>) -> Error {
    let what = location.and_then(|location| location.rsplit('/').next()).unwrap_or("an object");
    Error::new(
        Code::IdempotencyReplaySealed,
        format!(
            "This write was executed before and created {what}; its secret was returned to a credential of yours whose bearer secret has changed since. If it is lost, rotate or revoke {what} and create another"
        ),
    )
}

impl Claim {
    /// Creates the claim for `request` with this body, if the request has an `Idempotency-Key`.
    pub(super) fn from_request(request: &RequestContext, body: Option<&Value>) -> Result<Option<Self>> {
        let Some(idempotent_request) = request.idempotent_request.get() else { return Ok(None) };
        let (scope, key) = (scope_of(request)?, idempotent_request.key.clone());
        Ok(Some(Self { scope, key, fingerprint: idempotent_request.fingerprint(body) }))
    }

    /// Makes `call` conditional on this claim.
    pub(super) fn guard(&self, call: Call, now: Timestamp) -> Call {
        call.guard_with("claim_idempotency", |call| {
            call.bind(self.lock_key()).bind(&self.scope).bind(self.key.hash()).bind(now.minus(RETENTION))
        })
    }

    /// SQL that claims the key until the transaction ends.
    pub(super) fn sql(&self, now: Timestamp) -> Sql {
        let since = now.minus(RETENTION).to_string();
        let arguments = [
            Literal::Number(self.lock_key()),
            Literal::Text(&self.scope),
            Literal::Bytes(&self.key.hash()),
            Literal::Text(&since),
        ];
        Sql::call("claim_idempotency", &arguments)
    }

    /// Determines the result of the claim, in the transaction of `db`.
    pub(super) async fn resolve(
        self,
        node: &Node,
        db: &mut PgConnection,
        rows: &[PgRow],
        secret: Option<&Secret>,
    ) -> Result<ClaimOutcome> {
        let row = rows.first().ok_or_else(|| Error::internal("a claim without a result"))?;
        match row.try_get(0)? {
            "first" => return Ok(ClaimOutcome::First(self)),
            ALREADY_EXECUTED => {}
            _ => return Err(in_progress()),
        }
        // A verified read: an old primary may show a write whose commit was never replicated.
        let Stamped { stamp, value: record } =
            node.read_verified_in_transaction(db, read_record(self.scope.clone(), self.key.hash())).await?;
        let record = record.ok_or_else(response_expired)?;
        let invalidation = record.recall_seq.map(|seq| Stamp { seq, ..stamp });
        record.replay(&self, secret).map(|response| ClaimOutcome::Replay(response, invalidation))
    }

    /// Number of the advisory lock. Two writes that share it by chance only wait for each other.
    fn lock_key(&self) -> i64 {
        let mut hash = Sha256::new();
        hash.update(&self.scope);
        hash.update([0]);
        hash.update(self.key.as_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let [a, b, c, d, e, f, g, h, ..] = hash;
        i64::from_be_bytes([a, b, c, d, e, f, g, h])
    }

    /// Returns `response`, and the response to store.
    pub(super) async fn prepare_response(
        self,
        request: &RequestContext,
        response: Response,
        secrecy: Secrecy,
    ) -> Result<(Response, StoredResponse)> {
        let (head, body) = response.into_parts();
        let body = to_bytes(body, MAX_RESPONSE).await.map_err(Error::internal)?;
        let text = |name: HeaderName| head.headers.get(name)?.to_str().ok().map(str::to_owned);
        let cache_control = text(header::CACHE_CONTROL);
        let (salt, stored) = match secrecy {
            Secrecy::Open => (None, body.clone()),
            Secrecy::Secret => {
                let secret =
                    request.secret.get().ok_or_else(|| Error::internal("a write without a secret to seal to"))?;
                let (salt, sealed) = seal::seal(secret, &self.key, &self.fingerprint, &body)
                    .ok_or_else(|| Error::internal("a response could not be sealed"))?;
                (Some(salt), sealed.into())
            }
        };
        let status = i32::from(head.status.as_u16());
        let (location, etag) = (text(header::LOCATION), text(header::ETAG));
        let stored = StoredResponse { claim: self, status, location, etag, cache_control, body: stored, salt };
        Ok((Response::from_parts(head, Body::from(body)), stored))
    }
}

/// Reads a record. While the claim is held, no other write changes it.
fn read_record(scope: String, key_hash: [u8; 32]) -> impl StampedRead<Option<Record>> {
    move |db| {
        sqlx::query_as(
            "SELECT a.seq AS auth_seq, auth_server() AS auth_server, r.scope IS NOT NULL AS is_found,
                    r.fingerprint, r.status, r.location, r.etag, r.cache_control, r.body, r.salt, r.recall_seq
             FROM auth_clock a LEFT JOIN idempotency_records r ON r.scope = $1 AND r.key_hash = $2",
        )
        .bind(scope.clone())
        .bind(key_hash)
        .fetch_one(db)
        .boxed()
    }
}

/// Stored response.
#[derive(Debug)]
pub(super) struct StoredResponse {
    /// Claim that the response belongs to.
    pub(super) claim: Claim,
    status: i32,
    location: Option<String>,
    etag: Option<String>,
    cache_control: Option<String>,
    body: Bytes,
    salt: Option<Salt>,
}

impl StoredResponse {
    /// SQL that stores the response, and invalidates cache entries that depend on `invalidated`.
    pub(super) fn sql(&self, invalidated: &[Subject], now: Timestamp) -> Sql {
        let arguments = [
            Literal::Text(&self.claim.scope),
            Literal::Bytes(&self.claim.key.hash()),
            Literal::Bytes(&self.claim.fingerprint),
            Literal::Number(self.status.into()),
            Literal::text(self.location.as_deref()),
            Literal::text(self.etag.as_deref()),
            Literal::text(self.cache_control.as_deref()),
            Literal::Bytes(&self.body),
            self.salt.as_ref().map_or(Literal::Null, |salt| Literal::Bytes(salt)),
            Literal::Text(&now.to_string()),
            Literal::Texts(&subject_texts(invalidated)),
        ];
        Sql::call_stamped("keep_answer", &arguments)
    }

    /// Extends `call` so that it also stores the response, and invalidates nothing.
    pub(super) fn store_with(&self, call: Call, now: Timestamp) -> Call {
        call.wrap_with("keep_answer", |call| {
            call.bind(&self.claim.scope)
                .bind(self.claim.key.hash())
                .bind(self.claim.fingerprint)
                .bind(self.status)
                .bind(&self.location)
                .bind(&self.etag)
                .bind(&self.cache_control)
                .bind(&self.body[..])
                .bind(self.salt)
                .bind(now)
                .bind(None::<i64>)
        })
    }
}

/// Result of a claim if the write was executed before.
pub(super) const ALREADY_EXECUTED: &str = "again";

/// Error for a write that is in progress.
pub(super) fn in_progress() -> Error {
    Error::new(
        Code::IdempotencyInProgress,
        "A request with this Idempotency-Key is in progress; wait a moment, and send it again to get its response",
    )
    .retry_after(1)
}

/// Error for a write whose record expired between two reads.
pub(super) fn response_expired() -> Error {
    Error::new(Code::Overloaded, "The stored response has just expired; send the request again")
}

/// Scope of idempotency keys: the key or token, or for sessions the user.
fn scope_of(request: &RequestContext) -> Result<String> {
    match request.caller.get().map(|caller| &**caller) {
        Some(Caller::Session { user_id, .. }) => Ok(user_id.to_string()),
        Some(caller) => Ok(caller.credential_id().to_string()),
        None => Err(Error::internal("a write with an Idempotency-Key but without a caller")),
    }
}

/// Removes a batch of expired responses. Returns their number.
pub async fn delete_expired(db: &mut PgConnection, now: Timestamp) -> sqlx::Result<u64> {
    sqlx::query(delete_batch!("idempotency_records", "created_at"))
        .bind(now.minus(RETENTION))
        .execute(db)
        .await
        .map(|done| done.rows_affected())
}
